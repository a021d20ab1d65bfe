"""Tiny supernets, and processes that train one: on noise, or for accuracy's sake on real digits.

The backbone is the smallest one, on 8x8 pixels with two time steps; 28 backward connections, at most two at a
time.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from snndeploy.ir import Network
from snndeploy.train.config import Config
from snndeploy.train.data import Dataset
from snndeploy.train.distributed import World
from snndeploy.train.machine import Machine, prepared
from snndeploy.train.metrics import BatchReport, EpochReport
from snndeploy.train.model import build_graph
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.space import Space
from snndeploy.train.search.supernet import Supernet, supernet_config, train_supernet
from snndeploy.train.settings import override
from snndeploy.train.trainer import Trainer
from tests.train.runs import BATCH, EPOCHS, noise

TINY: Mapping[str, Any] = {
    "supernet": {"epochs": EPOCHS},
    "training": {
        "threads": 1,
        "device": "cpu",
        "checkpoint_batches": 2,
        "network": {"steps": 2},
        "data": {"repeat": 1, "validation": 0.0},
        "optimizer": {"batch_size": BATCH},
    },
}


def tiny(*settings: str) -> SearchConfig:
    """The configuration of a tiny search, with single values replaced."""
    return SearchConfig.from_mapping(override(TINY, settings))


def space_of(config: SearchConfig, data: Dataset) -> Space:
    """What a search goes through."""
    network = config.training.network
    return Space.of(build_graph(network, data.shape, len(data.classes)), config.space, network.steps)


def random_data(config: SearchConfig) -> Dataset:
    """Random samples of the shape of the configured data set, none of them for a test."""
    data = noise(supernet_config(config))
    return replace(data, test=data.test.take(slice(0, 0)))


def train(
    config: SearchConfig,
    folder: Path,
    *,
    report: Callable[[EpochReport], None] = lambda _: None,
    on_batch: Callable[[BatchReport], None] = lambda _: None,
    resume: bool = False,
) -> Network:
    """Trains a supernet on noise."""
    data = random_data(config)
    space = space_of(config, data)
    return train_supernet(config, space, folder, report, on_batch=on_batch, resume=resume, data=data)


def train_and_die(folder: Path, last: int, resume: bool) -> None:
    """Trains, and kills its own process after a step, counted from 1 over all epochs."""

    def on_batch(done: BatchReport) -> None:
        if (done.epoch - 1) * done.batches + done.batch == last:
            os.kill(os.getpid(), signal.SIGKILL)

    train(tiny(), folder, on_batch=on_batch, resume=resume)


def trainer_of(
    config: SearchConfig,
    machine: Machine,
    world: World = World(),  # noqa: B008  (frozen)
) -> tuple[Trainer, Supernet]:
    """What trains a supernet on noise, without augmentation, and what it draws."""
    own: Config = supernet_config(config)
    data = replace(noise(own), augment=())
    supernet = Supernet(space_of(config, data), config.seed)
    trainer = Trainer(own, data, machine, supernet.space.backbone, world=world, parts=supernet)
    return trainer, supernet


def rank(folder: Path, world: World, count: int) -> None:
    """Takes some steps as one of several ranks; leaves its arrays in the folder."""
    warnings.simplefilter("error")
    save_file(steps(world, count), folder / f"rank{world.rank}")


def steps(world: World, count: int) -> dict[str, Any]:
    """Weights and running statistics after some steps in double precision, and whose gradients there were last."""
    config = tiny()
    own = supernet_config(config)
    with prepared(own, world) as machine, world.joined(machine.device):
        trainer, _ = trainer_of(config, replace(machine, dtype=torch.float64), world)
        losses = [batch.loss for _, batch in zip(range(count), trainer.train_epoch(), strict=False)]
        given = {name: p.grad is not None for name, p in trainer.network.named_parameters()}
        return {"losses": np.array(losses), "given": np.array(list(given.values()))} | dict(
            trainer.network.weights()
        )
