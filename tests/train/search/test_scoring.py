"""One pass over shared weights gives the scores of a network built for each candidate; storing, resuming, workers."""

from __future__ import annotations

from dataclasses import replace
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
from snndeploy.train.search.config import ScoreConfig, SearchConfig, SpaceConfig
from snndeploy.train.search.scoring import (
    Scorer,
    Scores,
    balanced_batch,
    load_scorer,
    order,
    read_scores,
    score_all,
)
from snndeploy.train.search.space import Architecture, Space, parse

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


def candidates_of(config: SearchConfig, count: int) -> list[Architecture]:
    """Some of its space."""
    data = load(config.training.data)
    where = Space.of(backbone("resnet6", data.shape, 10), config.space, 2)
    return [(), *where.sample(np.random.default_rng(0), count)]


def test_workers_ranks_and_interruptions_change_nothing(tmp_path: Path) -> None:
    """One process, two workers, two ranks, and a run that was killed in the middle of a line: the same bits."""
    candidates = candidates_of(CONFIG, 19)
    expected = dict(zip(candidates, load_scorer(CONFIG)(candidates), strict=True))
    folders = [tmp_path / name for name in ("one", "workers", "ranks")]
    for folder in folders:
        folder.mkdir()
    told: list[int] = []
    assert score_all(CONFIG, candidates, folders[0], on_chunk=told.append) == expected
    assert sum(told) == 20
    assert len(told) == 2
    found = score_all(CONFIG, candidates, folders[1], workers=2)
    assert found == expected
    assert list(found) == candidates
    first = score_all(CONFIG, candidates, folders[2], world=World(rank=1, size=2))
    assert 0 < len(first) < 20
    assert score_all(CONFIG, candidates, folders[2], world=World(rank=0, size=2)) == expected
    names = sorted(path.name for path in folders[2].iterdir())
    assert names == ["scores.rank0.jsonl", "scores.rank1.jsonl"]

    path = folders[0] / "scores.rank0.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    kept = len(read_scores(folders[0]))
    assert 8 < kept < 20
    told.clear()
    assert score_all(CONFIG, candidates, folders[0], on_chunk=told.append) == expected
    assert sum(told) == 20 - kept
    assert path.read_bytes() == content


def test_damaged_scores_are_named(tmp_path: Path) -> None:
    """A line that is no score, with its file and number; an unfinished last one is none of them."""
    path = tmp_path / "scores.rank0.jsonl"
    good = '{"architecture": "4:2", "n": 1.0, "e": null, "reason": "why"}\n'
    path.write_text(good + good.replace("4:2", "none")[:-9])
    assert read_scores(tmp_path) == {parse("4:2"): Scores(1.0, None, "why")}
    path.write_text(good + '{"architecture": "4", "n": 1.0}\n' + good)
    with pytest.raises(FileFormatError, match=r"rank0.jsonl, line 2"):
        read_scores(tmp_path)


def test_what_cannot_be_scored_is_an_error(tmp_path: Path) -> None:
    """What a worker refuses ends the run; nothing is stored for it."""
    config = replace(CONFIG, score=ScoreConfig(batch=20), space=SpaceConfig(forbidden_inputs=(99,)))
    with pytest.raises(ConfigError, match="forbidden_inputs"):
        score_all(config, [()], tmp_path)
    assert read_scores(tmp_path) == {}
