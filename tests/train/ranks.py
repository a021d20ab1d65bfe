"""What one of several processes that train together does; the tests start them."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from safetensors.numpy import save_file

from snndeploy.errors import SnnDeployError
from snndeploy.nn import recalibrate
from snndeploy.train import evaluation
from snndeploy.train.config import Config
from snndeploy.train.data import network_input
from snndeploy.train.distributed import World
from snndeploy.train.loop import fit
from snndeploy.train.machine import prepared
from snndeploy.train.metrics import BatchReport
from snndeploy.train.model import build_graph
from snndeploy.train.trainer import Trainer
from tests.train.runs import BATCH, noise, tiny

STEPS = 2
EVALUATED = 10  # samples at a time, so that each rank has several batches and not as many as the other


def rank(folder: Path, world: World, settings: tuple[str, ...], last: int | None) -> None:
    """Takes some steps in double precision, or trains; leaves its arrays or its error in the folder.

    It trains in `run`, or in a run folder of its own, `run0` and so on, if there is one.

    Args:
        folder: Shared by all ranks.
        world: Says which one this is.
        settings: Of the tiny run.
        last: None for the steps alone; after this batch of all, counted from 1, the first rank kills itself.
    """
    warnings.simplefilter("error")
    config = tiny(*settings)
    own = folder / f"run{world.rank}"
    run_folder = own if own.exists() else folder / "run"
    try:
        found = steps(config, world) if last is None else train(config, run_folder, world, last)
    except SnnDeployError as error:
        (folder / f"error{world.rank}").write_text(f"{type(error).__name__}: {error}")
    else:
        save_file(found, folder / f"rank{world.rank}")


def steps(config: Config, world: World) -> dict[str, Any]:
    """What some batches without augmentation come to: sums of the epoch, weights, running statistics.

    The last are there as training leaves them and, without double precision being lost in an evaluation,
    recalibrated.
    """
    data = replace(noise(config), augment=())
    with prepared(config, world) as machine, world.joined(machine.device):
        graph = build_graph(config.network, data.shape, len(data.classes))
        trainer = Trainer(config, data, replace(machine, dtype=torch.float64), graph, world=world)
        losses = [batch.loss for _, batch in zip(range(STEPS), trainer.train_epoch(), strict=False)]
        sums = trainer.sums
        found = {"losses": np.array(losses), "sums": np.array([sums.right, sums.gradient_norm, sums.penalty])}
        found |= {f"trained/{name}": array for name, array in trainer.network.weights().items()}
        images = data.train.take(slice(0, BATCH)).take(world.share(BATCH))
        x = torch.from_numpy(network_input(images, data.input)).double()
        recalibrate(trainer.network, [x.expand(config.network.steps, *x.shape)])
        return found | {f"calibrated/{name}": array for name, array in trainer.network.weights().items()}


def train(config: Config, run_folder: Path, world: World, last: int) -> dict[str, Any]:
    """Trains on noise, or goes on; the weights."""

    def on_batch(done: BatchReport) -> None:
        if (done.epoch - 1) * done.batches + done.batch == last:
            os.kill(os.getpid(), signal.SIGKILL)

    with patch.object(evaluation, "_LARGEST_BATCH", EVALUATED):
        network = fit(config, run_folder, on_batch=on_batch, resume=True, data=noise(config), world=world)
    return dict(network.weights)


def wait_for_ever(world: World) -> None:
    """Joins others that do not come, as a program would that tidies up when it is ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with world.joined(torch.device("cpu")):
        pass
