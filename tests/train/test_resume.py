"""A run that is stopped, even killed, and resumed ends with the same bits as one that is not."""

from __future__ import annotations

import json
import multiprocessing
import signal
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pytest

from snndeploy.ir import Network
from snndeploy.train import checkpoint
from snndeploy.train.checkpoint import CHECKPOINT_FILE
from snndeploy.train.metrics import EpochReport
from tests.train.runs import BATCHES, EPOCHS, metrics, same_bits, stopped, tiny, train, train_and_die


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Path]:
    """A tiny run that nothing stopped."""
    folder = tmp_path_factory.mktemp("unbroken")
    return train(tiny(), folder), folder


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Starts processes in which PyTorch is there already, but nothing of this one."""
    context = multiprocessing.get_context("forkserver")
    # The first optimiser of a process imports the latter.
    context.set_forkserver_preload(["tests.train.runs", "torch._dynamo"])
    return context


def killed(
    processes: ForkServerContext, folder: Path, moment: str, place: int, *, resume: bool = False
) -> None:
    """Lets a tiny run be killed at some moment."""
    process = processes.Process(target=train_and_die, args=(folder, moment, place, resume))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL


def check(folder: Path, unbroken: tuple[Network, Path]) -> None:
    """Resumes a tiny run; weights, metrics and the last checkpoint must be those of the unbroken one."""
    network, whole = unbroken
    resumed = train(tiny(), folder, resume=True)
    assert same_bits(resumed.weights, network.weights)
    assert metrics(folder) == metrics(whole)
    assert {p.name for p in folder.iterdir()} == {p.name for p in whole.iterdir()}
    last, expected = (checkpoint.load(f / CHECKPOINT_FILE) for f in (folder, whole))
    assert same_bits(last.arrays, expected.arrays)
    assert last.state["generator"] == expected.state["generator"]


@pytest.mark.parametrize(
    ("moment", "place", "known"),
    [
        ("batch", 1, None),  # before the first checkpoint
        ("batch", BATCHES + 3, (1, 2)),  # amid an epoch, after a checkpoint
        ("batch", 2 * BATCHES, (1, 4)),  # after the last batch of an epoch, before its validation
        ("epoch", 2, (2, 0)),  # between epochs
        ("writing", 4, (1, 0)),  # while writing amid an epoch
        ("writing", 3, (0, 4)),  # while writing after an epoch, whose metrics are there
    ],
)
def test_killed(
    tmp_path: Path,
    unbroken: tuple[Network, Path],
    processes: ForkServerContext,
    moment: str,
    place: int,
    known: tuple[int, int] | None,
) -> None:
    """Killed at any moment, the run folder holds a whole checkpoint of the last epochs and batches, or none."""
    killed(processes, tmp_path, moment, place)
    path = tmp_path / CHECKPOINT_FILE
    assert path.exists() == (known is not None)
    if known is not None:
        state = checkpoint.load(path).state
        assert (len(state["history"]), state["batch"]) == known
    assert len(list(tmp_path.glob(f".{CHECKPOINT_FILE}.*"))) == (moment == "writing")
    if (moment, place) == ("writing", 3):
        assert len(metrics(tmp_path)) == 1  # dropped again, as the checkpoint knows no epoch
    check(tmp_path, unbroken)


def test_killed_twice(tmp_path: Path, unbroken: tuple[Network, Path], processes: ForkServerContext) -> None:
    """A run that was resumed can be killed and resumed again."""
    killed(processes, tmp_path, "batch", 3)
    killed(processes, tmp_path, "batch", BATCHES + 1, resume=True)
    check(tmp_path, unbroken)


def test_killed_at_random(
    tmp_path: Path, unbroken: tuple[Network, Path], processes: ForkServerContext
) -> None:
    """Killed and resumed again and again, from outside and whatever it is doing, until it gets through."""
    rng = np.random.default_rng()
    kills = 0
    while True:
        process = processes.Process(target=train_and_die, args=(tmp_path, "never", 0, True))
        process.start()
        process.join(rng.uniform(0.05, 0.3))
        if process.exitcode is not None:
            break
        process.kill()
        process.join(60)
        kills += 1
        assert kills < 500
    assert process.exitcode == 0
    check(tmp_path, unbroken)


@pytest.mark.parametrize(
    "settings",
    [
        ("optimizer.name=adam", "optimizer.decay_norm=false", "loss.name=ce", "penalty.normalised=true"),
        ("optimizer.name=sgd", "deterministic=true", "penalty.name=balance", "penalty.power=2"),
        ("data.name=recall", "network.steps=10", "network.backward=['6:6']"),
        ("data.name=moving_digits", "network.steps=3", "data.steps=3", "data.augment=['roll', 'flip']"),
        ("data.name=fashion_mnist", "data.augment=['randaugment']", "network.surrogate=sigmoid_reciprocal"),
        ("network.backbone=cnn7", "network.steps=1", "network.backward=[]", "data.repeat=4"),
        ("precision=bfloat16",),
        ("precision=float16",),
    ],
    ids=lambda settings: settings[0],
)
def test_stopped(tmp_path: Path, settings: tuple[str, ...]) -> None:
    """With any optimiser, precision and data, and with dropout: stopped twice amid an epoch."""
    config = tiny("optimizer.epochs=1", "checkpoint_batches=1", *settings)
    network = train(config, tmp_path / "unbroken")
    stopped(config, tmp_path / "broken", 1)
    stopped(config, tmp_path / "broken", 3, resume=True)
    assert same_bits(train(config, tmp_path / "broken", resume=True).weights, network.weights)
    assert metrics(tmp_path / "broken") == metrics(tmp_path / "unbroken")


def test_two_threads(tmp_path: Path) -> None:
    """The same number of threads gives the same bits, which holds for more than one."""
    config = tiny("threads=2", "optimizer.epochs=1", "optimizer.batch_size=16", "calibration_batches=1")
    network = train(config, tmp_path / "unbroken")
    stopped(replace(config, checkpoint_batches=1), tmp_path / "broken", 1)
    assert same_bits(train(config, tmp_path / "broken", resume=True).weights, network.weights)


def test_a_finished_run_is_only_read(unbroken: tuple[Network, Path]) -> None:
    """Nothing is trained, and the network is that of the run."""
    network, whole = unbroken
    before = (whole / CHECKPOINT_FILE).stat().st_mtime_ns
    reports: list[EpochReport] = []
    again = train(tiny(), whole, report=reports.append, resume=True)
    assert same_bits(again.weights, network.weights)
    assert reports == []
    assert (whole / CHECKPOINT_FILE).stat().st_mtime_ns == before


def test_not_resuming_starts_anew(tmp_path: Path, unbroken: tuple[Network, Path]) -> None:
    """A checkpoint of an earlier run is not mistaken for one of this run when it is killed early."""
    train(tiny("seed=1", "optimizer.epochs=1"), tmp_path)
    stopped(tiny(), tmp_path, 1)
    assert not (tmp_path / CHECKPOINT_FILE).exists()
    check(tmp_path, unbroken)


def test_checkpoints_by_the_clock(tmp_path: Path) -> None:
    """With no number of batches given, one is written as soon as the seconds have passed."""
    config = tiny("checkpoint_batches=0", "checkpoint_seconds=1e-9")
    stopped(config, tmp_path, 1)
    assert checkpoint.load(tmp_path / CHECKPOINT_FILE).state["batch"] == 1
    never = tiny("checkpoint_batches=0", "checkpoint_seconds=0")
    stopped(never, tmp_path / "never", BATCHES)
    assert not (tmp_path / "never" / CHECKPOINT_FILE).exists()


def test_metrics_are_cut_back(tmp_path: Path, unbroken: tuple[Network, Path]) -> None:
    """Whatever stands in metrics.jsonl, after resuming it has the epochs that the checkpoint knows, and on."""
    stopped(tiny(), tmp_path, BATCHES + 3)
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    check(tmp_path, unbroken)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, EPOCHS + 1))
    assert all(line["seconds"] > 0 for line in lines)
