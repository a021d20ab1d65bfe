"""Records of epochs: sums, lines of JSON, TensorBoard."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.train.metrics import EpochReport, EpochSums, recording
from tests.train.runs import stopped, tiny, train


def report(epoch: int) -> EpochReport:
    """A report that differs from epoch to epoch."""
    return EpochReport(
        epoch=epoch,
        epochs=5,
        loss=1 / (epoch + 2),
        train_accuracy=0.25,
        validation_accuracy=0.5,
        lr=0.01,
        gradient_norm=1.0,
        skipped_batches=0,
        penalty=None,
        penalty_intensity=0.0,
        firing_rates={"a.lif": 0.1, "b.lif": 0.2},
        dead_neurons={"a.lif": 3, "b.lif": 0},
        dead_rate=0.01,
        synops=100.0,
        estimated_energy_pj=90.0,
        seconds=1.5,
    )


def test_sums() -> None:
    """A batch whose gradient overflowed counts for everything but the norm."""
    sums = EpochSums()
    sums.add(loss=1.0, right=3, gradient_norm=2.0, penalty=10.0)
    sums.add(loss=0.5, right=4, gradient_norm=math.inf, penalty=20.0)
    assert sums == EpochSums(loss=1.5, right=7, gradient_norm=2.0, skipped=1, penalty=30.0)


def test_lines(tmp_path: Path) -> None:
    """The file holds exactly the history, then what is recorded, every number to the last bit."""
    path = tmp_path / "metrics.jsonl"
    path.write_text("an older run")
    with recording(tmp_path, [report(1), report(2)], tensorboard=False) as record:
        assert len(path.read_text().splitlines()) == 2
        record(report(3))
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [EpochReport(**line) for line in lines] == [report(1), report(2), report(3)]
    assert {p.name for p in tmp_path.iterdir()} == {"metrics.jsonl"}


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """The message has its name."""
    with recording(tmp_path, [], tensorboard=False) as record:
        (tmp_path / "metrics.jsonl").unlink()
        (tmp_path / "metrics.jsonl").mkdir()
        with pytest.raises(FileFormatError, match=r"metrics\.jsonl: cannot be written"):
            record(report(1))


class Writer:
    """Stands for TensorBoard's writer and keeps what it is given."""

    made: list[Writer]

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step = Path(folder), purge_step
        self.scalars: dict[tuple[str, int], float] = {}
        self.closed = False
        self.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Keeps a value."""
        self.scalars[name, step] = value

    def flush(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Remembers that it was called."""
        self.closed = True


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    """All writers that are made, in place of TensorBoard's."""
    module: Any = ModuleType("torch.utils.tensorboard")
    made: list[Writer] = []
    module.SummaryWriter = type("SummaryWriter", (Writer,), {"made": made})
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return made


def test_tensorboard(tmp_path: Path, writers: list[Writer]) -> None:
    """Every number of a report, layers apart; what is undefined is left out."""
    with recording(tmp_path, [report(1)], tensorboard=True) as record:
        record(report(2))
    (writer,) = writers
    assert (writer.folder, writer.purge_step, writer.closed) == (tmp_path / "tensorboard", 2, True)
    assert writer.scalars["firing_rates/b.lif", 2] == 0.2
    assert writer.scalars["dead_neurons/a.lif", 2] == 3
    assert writer.scalars["estimated_energy_pj", 2] == 90.0
    no_curves = {"epoch", "epochs", "phase"}
    undefined = {"penalty", "mean_activations"}
    whole = {field.name for field in dataclasses.fields(EpochReport)} - no_curves - undefined
    assert {name.split("/")[0] for name, _ in writer.scalars} == whole


def test_tensorboard_of_a_resumed_run(tmp_path: Path, writers: list[Writer]) -> None:
    """It goes on with the epoch that was not finished, and hides what was recorded of it."""
    config = tiny("tensorboard=true")
    stopped(config, tmp_path, 6)
    train(config, tmp_path, resume=True)
    first, second = writers
    assert ({step for _, step in first.scalars}, first.closed) == ({1}, True)
    assert ({step for _, step in second.scalars}, second.purge_step) == ({2, 3}, 2)


def test_tensorboard_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra, before anything is trained."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"tensorboard: is not installed.*install snndeploy\[tensorboard\]"):
        train(tiny("tensorboard=true"), tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
