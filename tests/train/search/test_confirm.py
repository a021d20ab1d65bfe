"""Trainings from scratch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.ir import BackwardConnection
from snndeploy.train.search.confirm import Trial, as_settings, measure_all, spread, trial_config
from snndeploy.train.search.space import label, parse
from tests.train.search.searches import tiny

LOOP = parse("4:4")


def test_spread() -> None:
    """Best, worst and evenly between, with no connections at the end wherever they are ranked."""
    ranked = [parse(f"{port}:0") for port in range(9)]
    for place in (0, 4, 9):
        among = [*ranked[:place], (), *ranked[place:]]
        assert [label(one) for one in spread(among, 4)] == ["0:0", "4:0", "8:0", "none"]
    assert spread(ranked[:2], 8) == [*ranked[:2], ()]


def test_configuration_of_a_trial() -> None:
    """Seed, connections with their delays, and epochs; everything else is the training part."""
    config = tiny("training.optimizer.warmup_epochs=3", "training.optimizer.epochs=9", "confirm.epochs=2")
    architecture = (BackwardConnection(3, 1), BackwardConnection(4, 2, 3))
    assert as_settings(architecture) == ("3:1", "4:2:3")
    found = trial_config(config, Trial(architecture, 7))
    assert (found.seed, found.network.connections) == (7, architecture)
    assert (found.optimizer.epochs, found.optimizer.warmup_epochs) == (2, 2)
    assert found.data == config.training.data
    assert trial_config(tiny("confirm.epochs=0"), Trial((), 0)).optimizer.epochs == 15


def test_folders_of_trainings(tmp_path: Path) -> None:
    """A short label is the name, as ever; 40 connections give one that can be made, and that no other has."""
    assert Trial(parse("4:2+6:6:3"), 7).folder(tmp_path) == tmp_path / "confirm" / "4-2+6-6-3" / "seed7"
    assert Trial((), 0).folder(tmp_path) == tmp_path / "confirm" / "none" / "seed0"
    kept = tuple(BackwardConnection(10 + place // 10, place % 10) for place in range(20))
    assert Trial(kept, 0).folder(tmp_path).parent.name == label(kept).replace(":", "-")
    many = tuple(BackwardConnection(100 + place, place, 7) for place in range(40))
    other = (*many[:-1], BackwardConnection(139, 38, 7))
    assert len(label(many)) > 255
    folders = [Trial(one, 0).folder(tmp_path) for one in (many, other)]
    for folder in folders:
        folder.mkdir(parents=True)
        assert folder.parent.name.startswith("100-0-7+101-1-7+")
        assert len(folder.parent.name) <= 120
    assert len(list((tmp_path / "confirm").iterdir())) == 2


def test_trained_once(tmp_path: Path) -> None:
    """Two processes find what one finds; what is there is not trained again."""
    config, trials = tiny(), [Trial(LOOP, 0), Trial((), 0), Trial((), 0)]
    seen: list[Trial] = []
    alone = measure_all(config, trials, tmp_path / "one", on_trial=seen.append)
    assert seen == trials[:2]
    assert measure_all(config, trials, tmp_path / "two", workers=2) == alone
    assert measure_all(config, trials, tmp_path / "one", on_trial=seen.append) == alone
    assert len(seen) == 2
    stored = json.loads((tmp_path / "one" / "confirm" / "4-4" / "seed0" / "validation.json").read_text())
    assert stored["accuracy"] == alone[trials[0]].accuracy
    tested = measure_all(config, trials[:1], tmp_path / "one", "test")
    assert tested != {trials[0]: alone[trials[0]]}


def test_failures_are_named(tmp_path: Path) -> None:
    """A training that fails, and a damaged result."""
    with pytest.raises(ConfigError, match=r"architecture 4:4, seed 3: .*batch_size"):
        measure_all(tiny("training.optimizer.batch_size=5000"), [Trial(LOOP, 3)], tmp_path)
    path = Trial(LOOP, 0).folder(tmp_path) / "validation.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"accurate": 1}')
    with pytest.raises(FileFormatError, match=r"validation\.json"):
        measure_all(tiny(), [Trial(LOOP, 0)], tmp_path)
