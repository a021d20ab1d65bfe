"""Tiny training runs, and a process that trains and kills itself.

The network is the smallest backbone on 8x8 pixels with two time steps and a backward connection, the data is
noise: 4 batches of 8 an epoch, 3 epochs.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from snndeploy.ir import Network
from snndeploy.train.config import Config
from snndeploy.train.data import Dataset, fake
from snndeploy.train.loop import fit
from snndeploy.train.metrics import BatchReport, EpochReport
from snndeploy.train.settings import override

EPOCHS, BATCHES, BATCH = 3, 4, 8
TINY: Mapping[str, Any] = {
    "threads": 1,
    "device": "cpu",
    "checkpoint_batches": 2,
    "network": {"backward": ["4:2"], "steps": 2},
    "data": {"repeat": 1},
    "optimizer": {"epochs": EPOCHS, "batch_size": BATCH},
    "penalty": {"intensity": 1e-6},
}


def tiny(*settings: str) -> Config:
    """The configuration of a tiny run, with single values replaced."""
    return Config.from_mapping(override(TINY, settings))


def noise(config: Config) -> Dataset:
    """Random samples of the shape of the configured data set."""
    data = fake(config.data, 2 * BATCHES * BATCH)
    return replace(data, train=data.train.take(slice(0, BATCHES * BATCH)))


def train(
    config: Config,
    folder: Path,
    *,
    on_batch: Callable[[BatchReport], None] = lambda _: None,
    report: Callable[[EpochReport], None] = lambda _: None,
    resume: bool = False,
) -> Network:
    """Trains on noise."""
    return fit(config, folder, report, on_batch=on_batch, resume=resume, data=noise(config))


class Stop(Exception):  # noqa: N818
    """Ends a run from within."""


def stopped(config: Config, folder: Path, batch: int, *, resume: bool = False) -> None:
    """Trains up to a batch of all, counted from 1."""

    def on_batch(done: BatchReport) -> None:
        if (done.epoch - 1) * done.batches + done.batch == batch:
            raise Stop

    with pytest.raises(Stop):
        train(config, folder, on_batch=on_batch, resume=resume)


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without the wall time."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def same_bits(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two sets of arrays hold the same bits under the same names."""
    return first.keys() == second.keys() and all(
        np.array_equal(array.reshape(-1).view(np.uint8), second[name].reshape(-1).view(np.uint8))
        for name, array in first.items()
    )


def train_and_die(folder: Path, moment: str, place: int, resume: bool) -> None:
    """Trains and kills its own process at some moment, which no handler can prevent.

    Args:
        folder: The run folder.
        moment: "batch" after a batch of all, counted from 1; "epoch" after an epoch; "writing" half-way
            through writing a checkpoint, of all; "never" for somebody else to do it.
        place: Which batch, epoch or checkpoint.
        resume: Whether to go on from a checkpoint.
    """

    def on_batch(done: BatchReport) -> None:
        if moment == "batch" and (done.epoch - 1) * done.batches + done.batch == place:
            os.kill(os.getpid(), signal.SIGKILL)

    def report(done: EpochReport) -> None:
        if moment == "epoch" and done.epoch == place:
            os.kill(os.getpid(), signal.SIGKILL)

    written = 0

    def fsync(handle: int) -> None:
        nonlocal written
        written += 1
        if moment == "writing" and written == place:
            os.ftruncate(handle, os.fstat(handle).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    with patch.object(os, "fsync", fsync):
        train(tiny(), folder, on_batch=on_batch, report=report, resume=resume)
