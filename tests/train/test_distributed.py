"""Training by two processes is that of one on the whole batch, and can be stopped and resumed like it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from datetime import timedelta
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from snndeploy.errors import ConfigError, TargetError
from snndeploy.train import checkpoint, distributed, evaluation
from snndeploy.train.checkpoint import CHECKPOINT_FILE
from snndeploy.train.distributed import World
from snndeploy.train.evaluation import evaluate
from tests.train import ranks
from tests.train.runs import BATCHES, EPOCHS, metrics, noise, same_bits, stopped, tiny, train

PENALISED = ("penalty.normalised=true", "penalty.intensity=0.5", "penalty.schedule=constant")
NEVER = 0


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Starts processes in which PyTorch is there already, but nothing of this one."""
    context = multiprocessing.get_context("forkserver")
    # The first optimiser of a process imports the latter.
    context.set_forkserver_preload(["tests.train.ranks", "torch._dynamo"])
    return context


def meeting_point() -> str:
    """An address of this machine that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


def together(
    processes: ForkServerContext, folder: Path, *settings: str, last: int | None = NEVER
) -> tuple[int | None, ...]:
    """Two ranks at work; how they ended. A rank that waits for ever is ended and shows."""
    folder.mkdir(exist_ok=True)
    meeting = meeting_point()
    started = [
        processes.Process(target=ranks.rank, args=(folder, World(rank, 2, rank, meeting), settings, last))
        for rank in range(2)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        process.kill()  # does nothing to one that has ended
        process.join(60)
    return tuple(process.exitcode for process in started)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, processes: ForkServerContext) -> Path:
    """The folder of a tiny run of two ranks that nothing stopped."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert together(processes, folder) == (0, 0)
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        PENALISED,
        (
            "optimizer.name=sgd",
            "optimizer.clip_norm=0.1",
            "loss.name=ce",
            "network.steps=3",
            "network.readout=1",
        ),
        ("optimizer.batch_size=2",),  # a single sample each, which by itself has no variance
    ],
    ids=lambda settings: settings[0],
)
def test_steps_are_those_of_one_process(
    tmp_path: Path, processes: ForkServerContext, settings: tuple[str, ...]
) -> None:
    """Weights, running statistics, loss, accuracy, gradient norm and penalty after two steps, to 1e-9.

    In double precision, as a spike that rounding flips would make a difference that is none. The network is the
    smallest backbone with a short loop: spikes of port 4 enter port 2 a step later.
    """
    assert together(processes, tmp_path, *settings, last=None) == (0, 0)
    first, second = (load_file(tmp_path / f"rank{rank}") for rank in range(2))
    alone = ranks.steps(tiny(*settings), World())
    assert same_bits(first, second)
    assert first.keys() == alone.keys()
    for name, array in alone.items():
        np.testing.assert_allclose(first[name], array, rtol=1e-9, atol=1e-9, err_msg=name)
    assert alone["trained/fc.weight"].dtype == np.float64
    assert np.abs(alone["trained/back4_2.norm.weight"]).max() > 0  # what it was at first


def test_what_a_run_leaves(unbroken: Path) -> None:
    """One set of files, written by the first rank; both have the same network, and it was measured exactly."""
    assert {path.name for path in unbroken.iterdir()} == {"rank0", "rank1", "run"}
    assert {p.name for p in (unbroken / "run").iterdir()} == {"config.toml", "metrics.jsonl", CHECKPOINT_FILE}
    first, second = (load_file(unbroken / f"rank{rank}") for rank in range(2))
    assert same_bits(first, second)
    assert len(metrics(unbroken / "run")) == EPOCHS


def test_metrics_are_those_of_one_process(
    tmp_path: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validation samples are shared out, and what is measured is the same to the last bit."""
    monkeypatch.setattr(evaluation, "_LARGEST_BATCH", ranks.EVALUATED)
    config = tiny()
    assert len(noise(config).validation) == 64  # in 7 batches
    network = train(config, unbroken / "run", resume=True)
    assert same_bits(dict(network.weights), load_file(unbroken / "rank0"))
    found, line = evaluate(network, noise(config).validation), metrics(unbroken / "run")[-1]
    assert line["validation_accuracy"] == found.accuracy
    assert line["firing_rates"] == found.firing_rates
    assert (line["synops"], line["dead_neurons"]) == (found.synops, found.dead_neurons)
    alone = tmp_path / "alone"
    train(config, alone)
    for key in ("loss", "penalty"):  # other augmentation, else the same
        assert line[key] > 0
        assert line[key] == pytest.approx(metrics(alone)[-1][key], rel=0.1)


def test_resumed(tmp_path: Path, processes: ForkServerContext, unbroken: Path) -> None:
    """Killed amid an epoch, two ranks go on to the bits of those that were not; each with its own generators."""
    lost, _ = together(processes, tmp_path, last=BATCHES + 3)
    assert lost == -signal.SIGKILL
    assert (tmp_path / "error1").read_text() == (
        "TargetError: rank 1: lost the connection to another one; see what that one says"
    )
    path = tmp_path / "run" / CHECKPOINT_FILE
    state = checkpoint.load(path).state
    assert (len(state["history"]), state["batch"]) == (1, 2)
    assert together(processes, tmp_path) == (0, 0)
    for rank in ("rank0", "rank1"):
        assert same_bits(load_file(tmp_path / rank), load_file(unbroken / rank))
    assert metrics(tmp_path / "run") == metrics(unbroken / "run")
    last, expected = (checkpoint.load(p) for p in (path, unbroken / "run" / CHECKPOINT_FILE))
    assert same_bits(last.arrays, expected.arrays)
    assert {"generator/cpu", "generator/cpu/1"} <= last.arrays.keys()
    for key in ("generator", "other_generators"):
        assert last.state[key] == expected.state[key]
    assert last.state["generator"] not in last.state["other_generators"]


def test_resumed_by_another_number(tmp_path: Path, processes: ForkServerContext) -> None:
    """What one process began two can go on with, and the other way round; the epochs are all there."""
    config = tiny()
    (tmp_path / "run").mkdir()
    stopped(config, tmp_path / "run", BATCHES + 3)
    lost, _ = together(processes, tmp_path, last=2 * BATCHES + 3)
    assert lost == -signal.SIGKILL
    state = checkpoint.load(tmp_path / "run" / CHECKPOINT_FILE).state
    assert (len(state["history"]), len(state["other_generators"])) == (2, 1)
    train(config, tmp_path / "run", resume=True)
    assert [line["epoch"] for line in metrics(tmp_path / "run")] == list(range(1, EPOCHS + 1))
    assert checkpoint.load(tmp_path / "run" / CHECKPOINT_FILE).state["other_generators"] == []


def test_ranks_resume_the_same_file(tmp_path: Path, processes: ForkServerContext) -> None:
    """A checkpoint that differs in a single weight from that of the other rank is refused, by both."""
    stopped(tiny(), tmp_path / "run0", 3)
    saved = checkpoint.load(tmp_path / "run0" / CHECKPOINT_FILE)
    arrays = {**saved.arrays, "network/fc.weight": saved.arrays["network/fc.weight"] + np.float32(1)}
    (tmp_path / "run1").mkdir()
    checkpoint.save(replace(saved, arrays=arrays), tmp_path / "run1" / CHECKPOINT_FILE)
    assert together(processes, tmp_path) == (0, 0)
    for rank in range(2):
        assert "must be the same file for all processes" in (tmp_path / f"error{rank}").read_text()


def test_a_rank_that_waits_can_be_ended(tmp_path: Path, processes: ForkServerContext) -> None:
    """Even the first one, whose handler in Python would not be called before the others come."""
    meeting = tmp_path / "meeting"
    process = processes.Process(target=ranks.wait_for_ever, args=(World(0, 2, 0, meeting.as_uri()),))
    process.start()
    deadline = time.monotonic() + 60
    while not (meeting.exists() and meeting.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.terminate()
    process.join(20)
    ended = process.exitcode
    process.kill()  # does nothing to one that has ended
    process.join(60)
    assert ended == -signal.SIGTERM


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank whose others do not come says so after a while, and has its handlers of signals back."""
    monkeypatch.setattr(distributed, "_PATIENCE", timedelta(seconds=1))
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with (
        pytest.raises(TargetError, match=r"rank 0: could not join the other 1, got .*MASTER_ADDR"),
        World(0, 2, 0, meeting_point()).joined(torch.device("cpu")),
    ):
        pytest.fail("joined nobody")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.parametrize("stdout", ["none", "closed"])
def test_no_standard_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stdout: str) -> None:
    """A rank may join without one, as under a launcher that closes it."""
    file = (tmp_path / "stdout").open("w")
    file.close()
    monkeypatch.setattr(sys, "stdout", None if stdout == "none" else file)
    kept = os.dup(1)
    os.close(1)
    try:
        with distributed._no_output():
            pass
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(1)
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("optimizer.batch_size=7",), "ConfigError: optimizer.batch_size: must be a multiple of 2"),
        (("optimizer.lr=1e30", "optimizer.warmup_epochs=0"), "ConfigError: optimizer.lr: training diverged"),
    ],
)
def test_errors_are_those_of_all_ranks(
    tmp_path: Path, processes: ForkServerContext, settings: tuple[str, ...], message: str
) -> None:
    """What is wrong for all is found by all, so that nobody waits."""
    assert together(processes, tmp_path, *settings) == (0, 0)
    texts = [(tmp_path / f"error{rank}").read_text() for rank in range(2)]
    assert texts[0] == texts[1]
    assert texts[0].startswith(message)


def test_seeds() -> None:
    """The first rank has the seed of the run, the others each their own, and another one later in the run."""
    worlds = [World(rank=rank, size=4) for rank in range(4)]
    assert worlds[0].seed(5) == worlds[0].seed(5, 12) == World().seed(5) == 5
    seeds = [world.seed(seed, *later) for world in worlds[1:] for seed in (0, 5) for later in ((), (12,))]
    assert len({*seeds, 0, 5}) == 14
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_shares() -> None:
    """They are equal and make up the whole."""
    places = np.arange(12)
    shares = [places[World(rank=rank, size=3).share(12)] for rank in range(3)]
    assert [len(share) for share in shares] == [4, 4, 4]
    assert np.array_equal(np.concatenate(shares), places)


TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "host", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (TORCHRUN, World(rank=5, size=8, local_rank=1)),
        ({name: value for name, value in TORCHRUN.items() if name != "MASTER_ADDR"}, World()),
        ({}, World()),
    ],
)
def test_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: World) -> None:
    """A process knows its rank by what torchrun set, and is alone without it."""
    _set(monkeypatch, variables)
    assert World.from_environment() == expected


def test_a_broken_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that is no number is named."""
    _set(monkeypatch, {**TORCHRUN, "LOCAL_RANK": "-1"})
    with pytest.raises(
        ConfigError, match=r"environment variable LOCAL_RANK: must be a whole number, got '-1'"
    ):
        World.from_environment()


@pytest.mark.parametrize(("rank", "size"), [("8", "8"), ("0", "0"), ("1", "1")])
def test_a_rank_that_cannot_be(monkeypatch: pytest.MonkeyPatch, rank: str, size: str) -> None:
    """It would wait for ranks that are not to come."""
    _set(monkeypatch, {**TORCHRUN, "RANK": rank, "WORLD_SIZE": size})
    with pytest.raises(ConfigError, match=f"rank {rank} of {size}: ranks count from 0.*RANK and WORLD_SIZE"):
        World.from_environment()


def _set(monkeypatch: pytest.MonkeyPatch, variables: dict[str, Any]) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
