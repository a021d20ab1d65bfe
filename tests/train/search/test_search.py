"""A whole search, tiny: what it leaves, and that it ends the same whatever happens on the way."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from snndeploy.errors import ConfigError
from snndeploy.ir import backward_connections
from snndeploy.ir import load as load_network
from snndeploy.train.config import Config
from snndeploy.train.data import load
from snndeploy.train.search.folder import EVALUATIONS, open_run
from snndeploy.train.search.search import search
from snndeploy.train.search.space import parse
from tests.train.search.searches import Stop, kill_at, stop_at, tiny, whole, written


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that nothing stopped."""
    run = tmp_path_factory.mktemp("search") / "run"
    whole(tiny(), run)
    return run


@pytest.fixture
def copy(unbroken: Path, tmp_path: Path) -> Path:
    """Its folder, to be changed."""
    return Path(shutil.copytree(unbroken, tmp_path / "copy"))


def named(rows: list[dict[str, Any]], key: str) -> list[str]:
    """The architectures of rows that have a value."""
    return [row["architecture"] for row in rows if row[key] is not None]


def test_everything_is_there(unbroken: Path) -> None:
    """Evolution, random search and the backbone are evaluated, each architecture once, with all that it costs."""
    found = written(unbroken)
    rows = found["evaluated"]
    labels = [row["architecture"] for row in rows]
    assert len(set(labels)) == len(labels)
    assert len((unbroken / EVALUATIONS).read_text().splitlines()) == len(labels)
    assert "none" in labels
    evolved, drawn = named(rows, "evolution_iteration"), named(rows, "random_iteration")
    assert len(evolved) == len(drawn) == 8
    assert found["first_population"] == evolved[:4]
    assert {*evolved, *drawn, "none"} == set(labels)
    for row in rows:
        assert 0 <= row["accuracy"] == row["fitness"] <= 1
        assert row["estimated_energy_pj"] > 0
        assert row["interval"] == (1 if row["architecture"] == "none" else row["interval"]) >= 1
    for name, members in (("evolution", evolved), ("random", drawn)):
        curve = found["best_so_far"][name]
        values = {row["architecture"]: row["accuracy"] for row in rows}
        assert curve == sorted(curve)
        assert curve[-1] == max(values[one] for one in members)
    assert found["space"]["architectures"] == 121
    assert found["reliability"]["candidates"] == 4
    assert found["seeds"] == {"search": 1, "data": 0, "correlation": 0, "confirmation": [0, 1]}


def test_what_is_found_can_be_trained(unbroken: Path) -> None:
    """A training configuration names it, and a network file holds it with its connections."""
    (best,) = written(unbroken)["finalists"]
    recommended = Config.from_file(unbroken / "recommended.toml")
    assert (recommended.network.connections, recommended.optimizer.epochs) == ((), 1)
    config = Config.from_file(unbroken / "found.toml")
    assert config.network.connections == parse(best) != ()
    assert config.data.merge_validation
    network = load_network(unbroken / "found.snn.safetensors")
    assert set(backward_connections(network.graph)) == set(parse(best))


def test_confirmation(unbroken: Path) -> None:
    """What was found, the best of random search and no connections see the same seeds; differences are theirs."""
    found = written(unbroken)
    (best,), (rival,) = found["finalists"], found["random_found"]
    networks = found["confirmation"]["networks"]
    assert set(networks) == {best, rival, "none"}
    comparisons = {one["architecture"]: one for one in found["confirmation"]["comparisons"]}
    assert set(comparisons) == {best, rival}
    compared = comparisons[best]
    assert compared["found_by"] == "search"
    assert compared["validation"]["confidence"] == 0.95
    assert "same validation samples" in found["confirmation"]["note"]
    for part in ("validation", "test"):
        pairs = zip(networks[best][part], networks["none"][part], strict=True)
        differences = [a["accuracy"] - b["accuracy"] for a, b in pairs]
        assert compared[part]["differences"] == pytest.approx(differences, abs=1e-12)
    assert found["recommendation"]["architecture"] == "none"  # two seeds are too few
    trained = found["correlation"]["architectures"]
    assert len(trained) == 3
    assert trained[-1]["architecture"] == "none"
    assert trained[-1]["trained"] == networks["none"]["validation"][0]["accuracy"]


def test_a_finished_search_is_read(unbroken: Path) -> None:
    """Nothing is done again."""
    told: list[str] = []
    found = whole(tiny(), unbroken, tell=lambda stage, *_: told.append(stage))
    assert found == written(unbroken)
    assert told == []


def test_stopped_at_every_stage(unbroken: Path, tmp_path: Path) -> None:
    """Stopped again and again, it goes on where it stood and ends the same."""
    run = tmp_path / "run"
    stages: tuple[tuple[str, float], ...] = (
        ("scores", 8),
        ("reliability", 1),
        ("supernet", 0.5),  # amid an epoch
        ("evolution", 1),
        ("random search", 3),
        ("confirmation", 2),
        ("test", 1),
    )
    for stage, done in stages:
        with pytest.raises(Stop):
            stop_at(stage, done, run)
    assert whole(tiny(), run) == written(unbroken)


def test_killed(unbroken: Path, tmp_path: Path) -> None:
    """A killed process leaves half a line; it is dropped, and the search ends the same."""
    run = Path(shutil.copytree(unbroken, tmp_path / "run"))
    for name in ("search.json", "evolution.json", "random.json", EVALUATIONS):
        (run / name).unlink()
    process = multiprocessing.get_context("spawn").Process(target=kill_at, args=("evolution", 1, run))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    path = run / EVALUATIONS
    assert 0 < len(path.read_text().splitlines()) < len((unbroken / EVALUATIONS).read_text().splitlines())
    with path.open("a") as file:
        file.write('{"architecture": "4:')
    assert whole(tiny(), run) == written(unbroken)


@pytest.fixture
def spoiled() -> Iterator[None]:
    """All that is loaded has test samples that are destroyed."""

    def loaded(config: Any) -> Any:
        data = load(config)
        images = data.test.images.copy()
        images[:] = 0
        return replace(data, test=replace(data.test, images=images, labels=data.test.labels * 0 - 1))

    where = [
        f"snndeploy.train.search.{name}.load"
        for name in ("search", "scoring", "fitness", "confirm", "report")
    ]
    patches = [patch(name, loaded) for name in [*where, "snndeploy.train.loop.load"]]
    for one in patches:
        one.start()
    yield
    for one in patches:
        one.stop()


@pytest.mark.usefixtures("spoiled")
def test_test_samples_are_not_looked_at(unbroken: Path, tmp_path: Path) -> None:
    """With images and labels of the test part destroyed, nothing changes but the last figures."""
    found, expected = whole(tiny(), tmp_path / "run"), written(unbroken)
    for one in (found, expected):
        for networks in one["confirmation"]["networks"].values():
            accuracies = [network["accuracy"] for network in networks.pop("test")]
            assert (max(accuracies) == 0) == (one is found)
        for compared in one["confirmation"]["comparisons"]:
            del compared["test"]
    assert found == expected


def test_without_scores(copy: Path, tmp_path: Path) -> None:
    """The first population is random, and there is no reliability to report."""
    found = whole(tiny("score.candidates=0"), tmp_path / "run", shared=copy)
    assert (found["first_population"], found["reliability"]) == ([], None)
    assert len(named(found["evaluated"], "evolution_iteration")) == 8


def test_random_from_the_first_population(copy: Path, unbroken: Path, tmp_path: Path) -> None:
    """In place of evolution: what is evaluated after the first population is drawn at random."""
    found = whole(tiny("evolution.method=random"), tmp_path / "run", shared=copy)
    first = written(unbroken)["first_population"]
    evolved = named(found["evaluated"], "evolution_iteration")
    assert found["first_population"] == first == evolved[:4]
    assert len(evolved) == 8


def test_score_as_fitness(tmp_path: Path) -> None:
    """No supernet is trained; the best by the score is what is found."""
    found = whole(tiny("evolution.fitness=n", "confirm.architectures=0"), tmp_path / "run")
    rows = {row["architecture"]: row for row in found["evaluated"]}
    evolved = named(found["evaluated"], "evolution_iteration")
    (best,) = found["finalists"]
    scores = [rows[one]["n_score"] for one in evolved]
    assert (
        rows[best]["n_score"] == rows[best]["fitness"] == max(score for score in scores if score is not None)
    )
    assert not (tmp_path / "run" / "supernet").exists()
    assert found["files"] == ["recommended.toml", "found.toml"]
    assert (rows[best]["accuracy"], found["correlation"], found["pareto_front"]) == (None, None, [])


def test_pareto(copy: Path, tmp_path: Path) -> None:
    """Of the front at most three are confirmed, the most accurate first; none is beaten in everything."""
    settings = ("objective=pareto", "confirm.seeds=[0]", "confirm.architectures=0")
    found = whole(tiny(*settings), tmp_path / "run", shared=copy)
    rows = {row["architecture"]: row for row in found["evaluated"]}
    assert 1 <= len(found["found"]) <= 3
    goals = [
        (-rows[one]["accuracy"], rows[one]["estimated_energy_pj"], rows[one]["machine_steps"]) for one in rows
    ]
    front = [
        one
        for one, mine in zip(rows, goals, strict=True)
        if not any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in goals)
    ]
    assert set(found["pareto_front"]) == set(front)
    assert set(found["found"]) <= set(front)
    accuracies = [rows[one]["accuracy"] for one in found["found"]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert found["recommendation"]["architecture"] == "none"  # one seed has no interval


def test_deploy_mode_under_limits(tmp_path: Path) -> None:
    """Nothing that breaks the limit on the interval is scored, evaluated or found."""
    settings = ("mode=deploy", "objective=limits", "space.limits.interval=2", "confirm.seeds=[]")
    found = whole(tiny(*settings, "confirm.architectures=0"), tmp_path / "run")
    assert max(row["interval"] for row in found["evaluated"]) == 2
    assert found["space"]["architectures"] < 121
    assert (found["confirmation"], found["recommendation"]["architecture"]) == (None, "none")


def test_a_folder_is_not_replaced_unasked(copy: Path, tmp_path: Path) -> None:
    """A search there is resumed or replaced on demand only; what is no search is never touched."""
    with pytest.raises(ConfigError, match="this very search already"):
        search(tiny(), copy)
    with pytest.raises(ConfigError, match=r"differs in seed, evolution\.population"):
        search(tiny("seed=2", "evolution.population=5"), copy, resume=True)
    open_run(tiny("seed=2"), copy, overwrite=True)
    assert [path.name for path in copy.iterdir()] == ["config.toml"]
    (tmp_path / "config.toml").write_text('[network]\nbackbone = "resnet6"\n')
    with pytest.raises(ConfigError, match="something else than a search"):
        open_run(tiny(), tmp_path, overwrite=True)


def test_what_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    """A configuration that cannot be searched is refused before anything is written."""
    for settings in (["training.data.validation=0.2"], ["evolution.fitness=n", "score.scores=e"]):
        with pytest.raises(ConfigError):
            search(tiny(*settings), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
