"""Architectures with the weights of a supernet, on validation samples: what is measured, and of what."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.ir import BackwardConnection, Network, parameter_shapes
from snndeploy.nn import SpikingNetwork, recalibrate
from snndeploy.train import checkpoint
from snndeploy.train.checkpoint import CHECKPOINT_FILE
from snndeploy.train.data import load, network_input
from snndeploy.train.evaluation import Evaluation, evaluate
from snndeploy.train.metrics import EpochReport
from snndeploy.train.pool import map_tasks
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.fitness import Fitness, load_evaluator
from snndeploy.train.search.space import Architecture, Space
from snndeploy.train.search.supernet import supernet_config, train_supernet
from tests.train.runs import BATCH, Stop
from tests.train.search.supernets import random_data, space_of, tiny, train

SHORT = BackwardConnection(4, 4)
LONG = BackwardConnection(6, 0)
ARCHITECTURES: tuple[Architecture, ...] = ((), (SHORT,), (LONG,), (SHORT, LONG))
DIGITS = tiny(
    "supernet.epochs=3",
    "supernet.calibration_batches=4",
    "training.checkpoint_batches=0",
    "training.optimizer.batch_size=32",
)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchConfig, Space, Path, list[EpochReport]]:
    """A tiny supernet trained on noise, and what was reported."""
    config, folder = tiny("supernet.calibration_batches=2"), tmp_path_factory.mktemp("noisy")
    reports: list[EpochReport] = []
    train(config, folder, report=reports.append)
    return config, space_of(config, random_data(config)), folder, reports


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Space, Path]:
    """A supernet trained on real digits for some seconds."""
    folder = tmp_path_factory.mktemp("digits")
    space = space_of(DIGITS, load(DIGITS.training.data))
    train_supernet(DIGITS, space, folder)
    return space, folder


def test_of() -> None:
    """Standard error, never 0, and spikes by hand: 75 of 100 right; 2 * 3 neurons at a rate of 0.5 for 4 steps."""
    space = space_of(tiny(), random_data(tiny()))
    port = space.backbone.ports[0]
    evaluation = Evaluation(
        accuracy=0.75,
        firing_rates={port: 0.5},
        dead_neurons={port: 0},
        dead_rate=0.0,
        synops=10.0,
        group_accuracies={},
    )
    found = Fitness.of(evaluation, space.backbone, steps=4, samples=100)
    assert found.standard_error == pytest.approx(math.sqrt(76 / 102 * 26 / 102 / 100))
    assert found.spikes == {port: 0.5 * 4 * math.prod(space.backbone.shapes[port])}
    assert found.estimated_energy_pj == pytest.approx(9.0)
    all_right = Fitness.of(replace(evaluation, accuracy=1.0), space.backbone, steps=4, samples=9)
    assert all_right.standard_error == pytest.approx(math.sqrt(10 / 11 * 1 / 11 / 9))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_is_that_of_a_network_with_the_same_weights(
    noisy: tuple[SearchConfig, Space, Path, list[EpochReport]], architecture: Architecture
) -> None:
    """A network of the architecture alone, with the supernet's weights, recalibrated, does as well to the bit.

    Its statistics are averages over the first two training batches, as configured.
    """
    config, space, folder, reports = noisy
    data = random_data(config)
    found = load_evaluator(config, space, folder, data)(architecture)
    arrays = checkpoint.load(folder / CHECKPOINT_FILE).arrays
    graph = space.graph(architecture)
    alone = SpikingNetwork(graph)
    alone.load_weights({name: arrays[f"network/{name}"] for name in parameter_shapes(graph)})
    images = [data.train.take(slice(first, first + BATCH)) for first in (0, BATCH)]
    inputs = [torch.from_numpy(network_input(batch, data.input)) for batch in images]
    recalibrate(alone, [x.expand(2, *x.shape) for x in inputs])
    network = Network(
        graph=graph, weights=alone.weights(), steps=2, readout=2, input=data.input, classes=data.classes
    )
    expected = evaluate(network, data.validation)
    assert found.accuracy == expected.accuracy
    assert found.synops == expected.synops > 0
    assert found.firing_rates == expected.firing_rates
    if not architecture:
        assert found.accuracy == reports[-1].validation_accuracy
        assert found.synops == reports[-1].synops


def test_does_not_depend_on_what_came_before(
    noisy: tuple[SearchConfig, Space, Path, list[EpochReport]],
) -> None:
    """In any order, one process or none before it: each architecture has one fitness, and they differ."""
    config, space, folder, _ = noisy
    data = random_data(config)
    one = load_evaluator(config, space, folder, data)
    forward = [one(architecture) for architecture in ARCHITECTURES]
    backward = [one(architecture) for architecture in reversed(ARCHITECTURES)]
    assert forward == backward[::-1]
    assert load_evaluator(config, space, folder, data)(ARCHITECTURES[2]) == forward[2]
    assert len({fitness.synops for fitness in forward}) == len(ARCHITECTURES)


def test_supernet_must_be_that_of_the_search(
    tmp_path: Path, noisy: tuple[SearchConfig, Space, Path, list[EpochReport]]
) -> None:
    """Another configuration, another space, none at all and one whose training was stopped are refused."""
    config, space, folder, _ = noisy
    data = random_data(config)
    with pytest.raises(ConfigError, match="seed"):
        load_evaluator(replace(config, seed=1), space, folder, data)
    with pytest.raises(FileFormatError, match="other parts"):
        load_evaluator(config, replace(space, most=1), folder, data)
    with pytest.raises(FileFormatError, match="does not exist"):
        load_evaluator(config, space, tmp_path, data)

    def stop(_: EpochReport) -> None:
        raise Stop

    with pytest.raises(Stop):
        train(config, tmp_path, report=stop)
    with pytest.raises(FileFormatError, match="not trained to its end"):
        load_evaluator(config, space, tmp_path, data)


def test_learns(digits: tuple[Space, Path]) -> None:
    """After 3 epochs on digits most architectures are right about half of the samples, by chance a tenth."""
    space, folder = digits
    evaluator = load_evaluator(DIGITS, space, folder)
    drawn = space.sample(np.random.default_rng(0), 6, at_least=1)
    accuracies = [evaluator(architecture).accuracy for architecture in [(), *drawn]]
    assert accuracies[0] > 0.5
    assert float(np.median(accuracies)) > 0.5


def test_workers(digits: tuple[Space, Path]) -> None:
    """Two processes find what one does, to the bit."""
    space, folder = digits
    prepare = partial(load_evaluator, DIGITS, space, folder)
    one = map_tasks(prepare, ARCHITECTURES)
    two = map_tasks(prepare, ARCHITECTURES, workers=2)
    assert one == two
    assert all(isinstance(found, Fitness) for found in one)
    assert supernet_config(DIGITS).calibration_batches == 4
