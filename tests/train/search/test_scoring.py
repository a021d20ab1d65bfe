"""One pass over shared weights gives the scores of a network built for each candidate; storing, resuming, workers."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.search_plain import PlainScorer
from snndeploy.backbones import backbone
from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.train.data import load
from snndeploy.train.distributed import World
from snndeploy.train.search.batch import balanced_batch
from snndeploy.train.search.config import ScoreConfig, SearchConfig, SpaceConfig
from snndeploy.train.search.folder import SCORES
from snndeploy.train.search.scoring import (
    CHUNK,
    Material,
    Scorer,
    Scores,
    load_scorer,
    order,
    read_scores,
    score_all,
)
from snndeploy.train.search.space import Architecture, Space, label, parse
from snndeploy.train.settings import override

STEPS, CLASSES = 3, 4
CONFIG = SearchConfig.from_mapping(
    {
        "score": {"batch": 20},
        "training": {
            "network": {"backbone": "resnet6", "steps": 2},
            "data": {"name": "digits", "validation": 0},
        },
    }
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums must not depend on the number of cores."""
    torch.set_num_threads(1)


def space(delay: str = "one") -> Space:
    """Up to two connections on resnet6 with 8x8 images."""
    return Space.of(backbone("resnet6", (1, 8, 8), CLASSES), SpaceConfig(delay=delay), 8)


def batch(*, frames: bool = False, count: int = 12, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """Noise, an image that stays or another frame at every step, and labels."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(steps if frames else 1, count, 1, 8, 8)).astype(np.float32))
    return x.expand(steps, -1, -1, -1, -1), torch.arange(count) % CLASSES


def some(of: Space, count: int = 8) -> list[Architecture]:
    """Candidates, with the one without connections, a self-loop and the longest loop."""
    last = len(of.backbone.ports) - 1
    ends = [a for a in of.enumerate() if len(a) == 1 and a[0].source == last and a[0].target in (0, last)]
    return [(), *ends, *of.sample(np.random.default_rng(1), count, at_least=2)]


def close(found: list[Scores], expected: list[Scores], tolerance: float) -> None:
    """All scores are there, agree, and rank the candidates alike."""
    for name in ("n", "e"):
        ours, plain = ([getattr(one, name) for one in scores] for scores in (found, expected))
        assert None not in ours
        np.testing.assert_allclose(ours, plain, rtol=tolerance, err_msg=name)
        assert np.argsort(ours).tolist() == np.argsort(plain).tolist()
        assert len(set(ours)) == len(ours)


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("classes", [CLASSES, 200])
def test_scores_are_those_of_the_plain_way(classes: int, *, frames: bool) -> None:
    """In double precision, against a network for each candidate run step by step, image or frames.

    In single precision, rounding alone flips spikes, which loops multiply; so there both must round alike.
    """
    where, (x, labels) = space(), batch(frames=frames)
    candidates = some(where)
    for precise, compiled, tolerance in ((torch.float64, False, 1e-8), (torch.float32, True, 1e-4)):
        exact = x[:1].to(precise).expand(x.shape) if not frames else x.to(precise)
        options: dict[str, Any] = {"seed": 3, "classes": classes}
        found = Scorer(where, exact, labels, **options).score(candidates)
        plain = PlainScorer(where, exact, labels, compiled=compiled, **options).score(candidates)
        close(found, plain, tolerance)


def test_delayed_connections_and_the_other_variant() -> None:
    """Delays longer than a step, normalised kernel."""
    where, (x, labels) = space("pipelined"), batch(steps=8)
    x = x.double()[:1].expand(x.shape)
    candidates = some(where, 4)
    assert max(c.delay for a in candidates for c in a) > 1
    options: dict[str, Any] = {"seed": 0, "classes": CLASSES, "variant": "normalised"}
    found = Scorer(where, x, labels, **options).score(candidates)
    close(found, PlainScorer(where, x, labels, **options).score(candidates), 1e-8)


@pytest.mark.parametrize("readout", [1, 2])
def test_the_answer_is_read_from_the_last_steps(readout: int) -> None:
    """The E-score's gradient is that of these steps alone; spikes, and so the N-score, are the same."""
    where, (x, labels) = space(), batch(frames=True)
    candidates = some(where, 4)
    options: dict[str, Any] = {"seed": 0, "classes": CLASSES}
    found = Scorer(where, x.double(), labels, readout=readout, **options).score(candidates)
    plain = PlainScorer(where, x.double(), labels, readout=readout, **options).score(candidates)
    close(found, plain, 1e-8)
    whole = Scorer(where, x.double(), labels, **options).score(candidates)
    assert [one.n for one in found] == [one.n for one in whole]
    assert all(one.e != other.e for one, other in zip(found, whole, strict=True))


def test_scores_depend_on_nothing_but_the_candidate() -> None:
    """Another order, other candidates before, repeated or alone, with one score: the same bits."""
    where, (x, labels) = space(), batch()
    candidates = some(where)
    scorer = Scorer(where, x, labels, seed=0, classes=CLASSES)
    found = scorer.score(candidates)
    assert scorer.score(candidates[::-1]) == found[::-1]
    assert [scorer.score([candidate]) for candidate in candidates] == [[one] for one in found]
    for wanted, kept in (
        ("n", [replace(one, e=None) for one in found]),
        ("e", [replace(one, n=None) for one in found]),
    ):
        alone = Scorer(where, x, labels, seed=0, classes=CLASSES, wanted=wanted)  # type: ignore[arg-type]
        assert alone.score(candidates) == kept
    assert Scorer(where, x, labels, seed=1, classes=CLASSES).score(candidates) != found


def test_rejected_scores_say_why() -> None:
    """The same image twice makes the kernel singular; the E-score stands."""
    where, (x, labels) = space(), batch()
    twice = torch.cat([x[:1, :11], x[:1, :1]], dim=1).expand(x.shape)
    (found,) = Scorer(where, twice, labels, seed=0, classes=CLASSES).score([()])
    assert found.n is None
    assert found.e is not None
    assert "same spikes" in found.reason


def test_order_keeps_prefixes_together() -> None:
    """By the earliest input port; every candidate once."""
    texts = ["6:6", "4:0", "none", "5:3+6:6", "6:0+6:6", "4:3", "6:6"]
    ordered = order([parse(text) for text in texts])
    assert ordered == [parse(t) for t in ("none", "4:0", "6:0+6:6", "4:3", "5:3+6:6", "6:6")]


def test_batch_is_balanced() -> None:
    """As many samples of each class, at least ten; if not all fit, fewer classes."""
    data = load(CONFIG.training.data)
    x, labels = balanced_batch(data, 125, 4, seed=0)
    assert x.shape == (4, 120, 1, 16, 16)
    assert x.stride(0) == 0
    assert torch.bincount(labels).tolist() == [12] * 10
    assert len(set(labels[:10].tolist())) == 10
    again, _ = balanced_batch(data, 125, 4, seed=0)
    other, _ = balanced_batch(data, 125, 4, seed=1)
    assert torch.equal(x, again)
    assert not torch.equal(x, other)
    _, few = balanced_batch(data, 64, 4, seed=0)
    assert sorted(torch.bincount(few, minlength=10).tolist()) == [0] * 4 + [10] * 6


def test_sequences_are_drawn() -> None:
    """Of a data set that makes sequences of images, frames for the batch."""
    config = SearchConfig.from_mapping(
        {"training": {"data": {"name": "recall", "validation": 0}, "network": {"steps": 10}}}
    )
    data = load(config.training.data)
    x, labels = balanced_batch(data, 20, 10, seed=0)
    assert x.shape == (10, 20, *data.shape)
    assert sorted(torch.bincount(labels, minlength=10).tolist()) == [0] * 8 + [10] * 2


def test_what_is_read_is_what_is_trained() -> None:
    """Recall is answered at the last step unless the configuration says otherwise; digits at all steps."""
    recall = {"data": {"name": "recall", "validation": 0}, "network": {"steps": 10}}
    for settings, expected in (((), 1), (("training.network.readout=3",), 3)):
        mapping = override({"score": {"batch": 20}, "training": recall}, settings)
        assert Material.load(SearchConfig.from_mapping(mapping)).readout == expected
    assert Material.load(CONFIG).readout == 0


@pytest.mark.parametrize(
    ("kept", "batch_size", "remedy"),
    [(1, 100, "leave the scores out with"), (12, 200, "set it to 120, or leave the scores out with")],
)
def test_a_rare_class_does_not_shrink_the_others(kept: int, batch_size: int, remedy: str) -> None:
    """A class with too few samples for its part of the batch is an error that names it."""
    data = load(CONFIG.training.data)
    labels = data.train.labels
    places = np.concatenate([np.flatnonzero(labels != 7), np.flatnonzero(labels == 7)[:kept]])
    rare = replace(data, train=data.train.take(places))
    with pytest.raises(ConfigError, match=rf"score.batch: .*, got {kept} of class 7; {remedy}"):
        balanced_batch(rare, batch_size, 4, seed=0)


def candidates_of(config: SearchConfig, count: int) -> list[Architecture]:
    """Some of its space."""
    data = load(config.training.data)
    where = Space.of(backbone("resnet6", data.shape, 10), config.space, 2)
    return [(), *where.sample(np.random.default_rng(0), count)]


def test_workers_and_interruptions_change_nothing(tmp_path: Path) -> None:
    """One process, two workers, and a run that was killed in the middle of a line: the same bits."""
    candidates = candidates_of(CONFIG, 19)
    expected = dict(zip(candidates, load_scorer(CONFIG)(candidates), strict=True))
    folders = [tmp_path / name for name in ("one", "workers")]
    for folder in folders:
        folder.mkdir()
    told: list[int] = []
    assert score_all(CONFIG, candidates, folders[0], on_chunk=told.append) == expected
    assert sum(told) == 20
    assert len(told) == 2
    found = score_all(CONFIG, candidates, folders[1], workers=2)
    assert found == expected
    assert list(found) == candidates
    path = folders[0] / SCORES
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    kept = len(read_scores(folders[0]))
    assert 8 < kept < 20
    told.clear()
    assert score_all(CONFIG, candidates, folders[0], on_chunk=told.append) == expected
    assert sum(told) == 20 - kept
    assert path.read_bytes() == content


def with_ranks(world: World, folder: Path, candidates: list[Architecture]) -> None:
    """What a rank does, which has a folder of its own; it leaves there what it learned."""
    torch.set_num_threads(1)
    own = folder / f"rank{world.rank}"
    with world.joined(torch.device("cpu")):
        told: list[int] = []
        found = score_all(CONFIG, candidates, own, world=world, on_chunk=told.append)
    rows = {label(one): asdict(scores) for one, scores in found.items()}
    (own / "found.json").write_text(json.dumps({"rows": rows, "told": sum(told)}))


def test_ranks_without_a_common_folder(tmp_path: Path) -> None:
    """Two processes, of which the second has a chunk less: both learn all scores, and only the first keeps them.

    The first one was killed before, so that it knows some already.
    """
    candidates = candidates_of(CONFIG, 3 * CHUNK + 3)
    expected = score_all(CONFIG, candidates[:4], made(tmp_path / "rank0"))
    made(tmp_path / "rank1")
    rendezvous = f"file://{tmp_path / 'meeting'}"
    context = multiprocessing.get_context("spawn")
    ranks = [
        context.Process(
            target=with_ranks, args=(World(rank=rank, size=2, rendezvous=rendezvous), tmp_path, candidates)
        )
        for rank in range(2)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
    assert [rank.exitcode for rank in ranks] == [0, 0]
    first, second = (json.loads((tmp_path / f"rank{rank}/found.json").read_text()) for rank in range(2))
    assert first == second
    assert first["told"] == len(candidates) - 4
    stored = read_scores(tmp_path / "rank0", CONFIG)
    assert {label(one): asdict(scores) for one, scores in stored.items()} == first["rows"]
    assert list(first["rows"]) == [label(one) for one in candidates]
    assert {one: stored[one] for one in expected} == expected
    few = candidates[4::9]
    assert [stored[one] for one in few] == load_scorer(CONFIG)(few)
    assert not (tmp_path / "rank1" / SCORES).exists()


def made(folder: Path) -> Path:
    """The folder, which is new."""
    folder.mkdir()
    return folder


def test_each_rank_has_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The second process on a machine scores on its second GPU, and says so where there is none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    config = replace(CONFIG, training=replace(CONFIG.training, device="cuda"))
    with pytest.raises(ConfigError, match="device: needs a GPU for each rank, and there are 1, got cuda:1"):
        score_all(config, [parse("4:4")], tmp_path, world=World(local_rank=1))
    assert not (tmp_path / SCORES).exists()


def killed(folder: Path, candidates: list[Architecture]) -> None:
    """Scores, and kills its own process after the first chunk."""
    torch.set_num_threads(1)
    score_all(CONFIG, candidates, folder, on_chunk=lambda _: os.kill(os.getpid(), signal.SIGKILL))


def test_killed(tmp_path: Path) -> None:
    """A killed process leaves the chunks it has done, and the rest is done by the next."""
    candidates = candidates_of(CONFIG, CHUNK + 3)
    process = multiprocessing.get_context("spawn").Process(target=killed, args=(tmp_path, candidates))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert len(read_scores(tmp_path, CONFIG)) == CHUNK
    expected = dict(zip(candidates, load_scorer(CONFIG)(candidates), strict=True))
    assert score_all(CONFIG, candidates, tmp_path) == expected


HEADER = '{"scores_of": "abc", "scores": "both"}\n'
GOOD = '{"architecture": "4:2", "n": 1.0, "e": null, "reason": "why"}\n'


def test_an_unfinished_line_is_dropped(tmp_path: Path) -> None:
    """What a killed process may have left at the end, even of the first line."""
    path = tmp_path / SCORES
    path.write_text(HEADER + GOOD + GOOD.replace("4:2", "none")[:-9])
    assert read_scores(tmp_path) == {parse("4:2"): Scores(1.0, None, "why")}
    assert path.read_text() == HEADER + GOOD
    path.write_text(HEADER[:-9])
    assert read_scores(tmp_path) == {}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[]", "must hold an object"),
        ("3", "must hold an object"),
        ("{", "is damaged"),
        (GOOD.replace("4:2", "4"), "must name an architecture, got '4'"),
        (GOOD.replace('"4:2"', "3"), "must name an architecture, got 3"),
        (GOOD.replace("1.0", '"abc"'), "n must be a finite number or null, got 'abc'"),
        (GOOD.replace("1.0", "NaN"), "n must be a finite number or null, got nan"),
        (GOOD.replace("1.0", "true"), "n must be a finite number or null, got True"),
        (GOOD.replace('"why"', "null"), "reason must be a text, got None"),
        (GOOD.replace(', "reason": "why"', ""), "must hold n, e, reason"),
    ],
)
def test_damaged_scores_are_named(tmp_path: Path, line: str, message: str) -> None:
    """A line that is no score, with its file, its number and what is wrong."""
    (tmp_path / SCORES).write_text(HEADER + GOOD + line.rstrip() + "\n" + GOOD)
    with pytest.raises(FileFormatError, match=rf"{SCORES}, line 3: {message}"):
        read_scores(tmp_path)


def test_a_file_without_header_is_refused(tmp_path: Path) -> None:
    """Nobody knows what its scores are of."""
    (tmp_path / SCORES).write_text(GOOD)
    with pytest.raises(FileFormatError, match=rf"{SCORES}, line 1: must say what the scores are of"):
        read_scores(tmp_path)


def changed(*settings: str) -> SearchConfig:
    """The configuration with single values replaced."""
    return SearchConfig.from_mapping(override(asdict(CONFIG), settings))


@pytest.mark.parametrize(
    "setting", ["seed=1", "score.batch=30", "score.variant=normalised", "training.network.readout=1"]
)
def test_scores_of_another_configuration_are_refused(tmp_path: Path, setting: str) -> None:
    """Whatever decides a score must be the same; what does not may differ."""
    found = score_all(CONFIG, [()], tmp_path)
    with pytest.raises(FileFormatError, match="holds scores of another configuration"):
        score_all(changed(setting), [()], tmp_path)
    assert score_all(changed("score.candidates=3", "space.most=1"), [()], tmp_path) == found


def test_one_score_out_of_both(tmp_path: Path) -> None:
    """A file with both goes on with both where only one is wanted; one with a single score does not serve both."""
    several = candidates_of(CONFIG, 2)
    score_all(CONFIG, several[:1], made(tmp_path / "both"))
    found = score_all(changed("score.scores=n"), several, tmp_path / "both")
    assert [found[one] for one in several] == load_scorer(CONFIG)(several)
    alone = score_all(changed("score.scores=n"), several, made(tmp_path / "n"))
    assert [one.e for one in alone.values()] == [None] * 3
    with pytest.raises(FileFormatError, match="another configuration"):
        score_all(CONFIG, several, tmp_path / "n")


def test_what_cannot_be_scored_is_an_error(tmp_path: Path) -> None:
    """What a worker refuses ends the run; nothing is stored for it."""
    config = replace(CONFIG, score=ScoreConfig(batch=20), space=SpaceConfig(forbidden_inputs=(99,)))
    with pytest.raises(ConfigError, match="forbidden_inputs"):
        score_all(config, [()], tmp_path)
    assert read_scores(tmp_path) == {}
