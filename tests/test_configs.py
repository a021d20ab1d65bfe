"""The recipes in `configs/`: each can be read, says what its paper says, and trains."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from snndeploy.ir import BackwardConnection, backward_connections
from snndeploy.train.config import (
    PENALTIES,
    Config,
    DataConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    PenaltyConfig,
)
from snndeploy.train.data import fake
from snndeploy.train.machine import prepared
from snndeploy.train.model import build_graph
from snndeploy.train.schedule import learning_rate
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.confirm import Trial, trial_config
from snndeploy.train.search.space import Space
from snndeploy.train.trainer import Trainer

FOLDER = Path(__file__).resolve().parent.parent / "configs"
FILES = sorted(
    str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.toml") if not path.name.startswith("search-")
)
SEARCHES = sorted(path.name for path in FOLDER.glob("search-*.toml"))
SMALLEST = ["threads=1", "device=cpu"]

# BCNAS-SNN, tables 1 to 3: data set, backbone, T, epochs (section 5.1).
SEARCHED = (
    *((data, "resnet18", steps, 300) for data in ("cifar10", "cifar100") for steps in (4, 6)),
    *((data, "resnet19", steps, 300) for data in ("cifar10", "cifar100") for steps in (4, 6)),
    *(("cifar10", "resnet18_plain", steps, 300) for steps in (4, 6)),
    ("tiny_imagenet", "resnet18", 5, 200),
    ("cifar10_dvs", "resnet18", 10, 300),
)
# Spiking Synaptic Penalty, table 6: surrogate, learning rate, weight decay, alpha, tau.
TABLE_6: dict[str, tuple[str, float, float, float | None, float | None]] = {
    "cnn7-fashion_mnist-adam": ("sigmoid_reciprocal", 1e-3, 1e-4, 0.25, 0.6),
    "cnn7-fashion_mnist-adam-eq22": ("triangle", 1e-3, 1e-6, None, None),
    "cnn7-fashion_mnist-adam-eq23": ("scaled_sigmoid", 1e-2, 1e-7, 0.45, None),
    "cnn7-fashion_mnist-sgd": ("sigmoid_reciprocal", 1e-2, 1e-4, 0.35, 0.6),
    "vgg11-cifar10-adam": ("sigmoid_reciprocal", 1e-3, 1e-3, 0.25, 0.6),
    "vgg11-cifar10-sgd": ("sigmoid_reciprocal", 1e-2, 1e-3, 0.35, 0.8),
    "resnet18_preact-cifar10-adam": ("sigmoid_reciprocal", 1e-3, 1e-4, 0.35, 1.0),
    "resnet18_preact-cifar10-sgd": ("sigmoid_reciprocal", 1e-2, 1e-3, 0.35, 1.0),
    "resnet18_preact-cifar100-adam": ("sigmoid_reciprocal", 1e-3, 1e-4, 0.35, 1.0),
}
CONVERSION = "cnn7-fashion_mnist-adam-conversion"  # its table 20
# Its tables 3 and 9: the row of table 6, lambda, weight decay.
SINGLE = {
    "vgg11-cifar10-sgd-unpenalised": ("vgg11-cifar10-sgd", 0.0, 0.0),
    "vgg11-cifar10-sgd-lambda1e-9": ("vgg11-cifar10-sgd", 1e-9, 1e-3),
    "cnn7-fashion_mnist-sgd-unpenalised": ("cnn7-fashion_mnist-sgd", 0.0, 0.0),
    "cnn7-fashion_mnist-sgd-lambda1e-7": ("cnn7-fashion_mnist-sgd", 1e-7, 1e-4),
}


def recipe(name: str, *settings: str) -> Config:
    """One of the files, with single values replaced."""
    return Config.from_file(FOLDER / name, settings)


def shape_and_classes(config: Config) -> tuple[tuple[int, ...], int]:
    """What the network is fed and how many classes it tells apart, from noise in place of the data."""
    data = fake(config.data, 5)
    return data.shape, len(data.classes)


def take_two_steps(config: Config) -> Trainer:
    """Trains on two batches of noise of the shape of the data, and checks that all of the network took part.

    A batch of 2 is the smallest there is. With T = 1 it has to be 4: BatchNorm makes 1 and -1 of two values, and
    a fully connected layer would never fire.
    """
    batch = 4 if config.network.steps == 1 else 2
    config = replace(config, optimizer=replace(config.optimizer, batch_size=batch))
    data = fake(config.data, 3 * batch)  # some of it may be set aside
    graph = build_graph(config.network, data.shape, len(data.classes))
    with prepared(config) as machine:
        trainer = Trainer(config, data, machine, graph)
        before = trainer.network.weights()
        losses = [done.loss for done in islice(trainer.train_epoch(), 2)]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    after = trainer.network.weights()
    assert [name for name in after if np.array_equal(before[name], after[name])] == []
    assert [
        name for name, p in trainer.network.named_parameters() if p.grad is None or not p.grad.any()
    ] == []
    return trainer


@pytest.mark.parametrize("name", FILES)
def test_two_steps_of_training(name: str) -> None:
    """The loss is a number, a gradient reaches every parameter, and every weight and statistic moves."""
    config = recipe(name, *SMALLEST)
    trainer = take_two_steps(config)
    assert (trainer.penalty is not None) == (config.penalty.intensity > 0)


def test_all_are_known() -> None:
    """Nothing lies in the folder that these tests do not know the source of."""
    searched = {f"bcnas/{data}-{backbone}-t{steps}.toml" for data, backbone, steps, _ in SEARCHED}
    penalised = {f"penalty/{name}.toml" for name in (*TABLE_6, *SINGLE, CONVERSION)}
    ours = {"digits.toml", "digits-conversion.toml", "digits-tradeoff.toml", "recall.toml"}
    assert set(FILES) == searched | penalised | ours
    assert SEARCHES == ["search-digits.toml", "search-recall.toml"]


@pytest.mark.parametrize(
    ("name", "connections", "architectures"), [("digits", 28, 3683), ("recall", 15, 121)]
)
def test_searches(name: str, connections: int, architectures: int) -> None:
    """The space of each is as large as its file says, and what is confirmed trains."""
    config = SearchConfig.from_file(
        FOLDER / f"search-{name}.toml", ["training.threads=1", "training.device=cpu"]
    )
    data = fake(config.training.data, 5)
    network = config.training.network
    space = Space.of(build_graph(network, data.shape, len(data.classes)), config.space, network.steps)
    assert (len(space.connections), space.count()) == (connections, architectures)
    take_two_steps(trial_config(config, Trial((space.connections[-1],), 0)))


def test_search_on_recall() -> None:
    """It trains as recall.toml does, but keeps the validation samples to itself."""
    config, recall = SearchConfig.from_file(FOLDER / "search-recall.toml"), recipe("recall.toml")
    assert config.training == replace(recall, data=replace(recall.data, merge_validation=False))
    assert (config.mode, config.space.most) == ("deploy", 2)


@pytest.mark.parametrize("name", [*FILES, *SEARCHES])
def test_each_says_where_it_is_from(name: str) -> None:
    """At the head, before the first value: the paper with its table and its result, or that it is ours."""
    head = (FOLDER / name).read_text(encoding="utf-8").split("\n\n")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    if "/" in name:
        assert re.search(r"\btables? \d", head)
        assert re.search(r"Published  .*%", head, re.DOTALL)
    else:
        assert "Ours" in head


@pytest.mark.parametrize(("data", "backbone", "steps", "epochs"), SEARCHED)
def test_backward_connections(data: str, backbone: str, steps: int, epochs: int) -> None:
    """The final training of BCNAS-SNN, sections 3 and 5.1 and appendix B, without connections."""
    config = recipe(f"bcnas/{data}-{backbone}-t{steps}.toml")
    network = NetworkConfig(backbone=backbone, backward=(), steps=steps)
    assert config.network == network, "tau 0.5, threshold 1 and a triangle of width 1 are the defaults"
    assert (config.data.name, config.data.validation, config.data.merge_validation) == (data, 0.2, True)
    assert config.data.augment == (("flip", "roll") if data == "cifar10_dvs" else ("crop", "flip"))
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.weight_decay) == ("adamw", 0.01, 0.02)
    assert (optimizer.epochs, optimizer.schedule, optimizer.warmup_epochs) == (epochs, "cosine", 0)
    assert config.loss == LossConfig(name="tet")
    assert config.penalty.intensity == 0
    assert (
        shape_and_classes(config)
        == {
            "cifar10": ((3, 32, 32), 10),
            "cifar100": ((3, 32, 32), 100),
            "tiny_imagenet": ((3, 64, 64), 200),
            "cifar10_dvs": ((2, 48, 48), 10),
        }[data]
    )


@pytest.mark.parametrize("name", [*TABLE_6, *SINGLE])
def test_synaptic_penalty(name: str) -> None:
    """Tables 3, 6 and 9 and appendix A.3 of Spiking Synaptic Penalty."""
    config = recipe(f"penalty/{name}.toml")
    row, intensity, _ = SINGLE.get(name, (name, 0.0, 0.0))
    surrogate, lr, decay, alpha, tau = TABLE_6[row]
    backbone, data, optimizer = row.split("-")[:3]
    assert (config.network.backbone, config.network.steps, config.network.threshold) == (backbone, 1, 1.0)
    assert config.network.surrogate == surrogate
    assert alpha in (None, config.network.surrogate_alpha)
    assert tau in (None, config.network.surrogate_tau)
    assert config.network.surrogate_width == 1
    assert config.data == DataConfig(name=data, augment=("randaugment",))
    assert config.optimizer == OptimizerConfig(
        name=optimizer,
        lr=lr,
        weight_decay=SINGLE[name][2] if name in SINGLE else decay,
        decay_norm=False,
        momentum=0.9,
        epochs=150,
        batch_size=100,
        clip_norm=0,
        warmup_epochs=0,
    )
    assert config.loss == LossConfig(name="ce")
    assert config.penalty == PenaltyConfig(
        intensity=intensity, normalised=name in TABLE_6, psi="nominal", schedule="linear"
    )
    expected = {
        "fashion_mnist": ((1, 28, 28), 10),
        "cifar10": ((3, 32, 32), 10),
        "cifar100": ((3, 32, 32), 100),
    }
    assert shape_and_classes(config) == expected[data]


def test_conversion() -> None:
    """Section 4.3.3: the ANN is trained as the spiking network of the same row, and converted three times."""
    config, row = recipe(f"penalty/{CONVERSION}.toml"), recipe("penalty/cnn7-fashion_mnist-adam.toml")
    assert config.network == NetworkConfig(
        backbone="cnn7",
        backward=(),
        steps=1,
        tau=1.0,
        neuron="qrelu",
        levels=10,
        conversion_steps=(1, 5, 10),
        conversion_thresholds=(1.0, 0.85, 0.7, 0.6, 0.5, 0.4),
    )
    assert replace(config, network=row.network) == row


def test_conversion_on_digits() -> None:
    """CNN7 fits the digits three times as large, and its last pool is of an area that the exact format takes."""
    config = recipe("digits-conversion.toml")
    assert (config.network.neuron, config.network.conversion_steps) == ("qrelu", (1, 5, 10))
    shape, classes = shape_and_classes(config)
    assert shape == (1, 24, 24)
    assert build_graph(config.network, shape, classes).shapes["lif6"] == (10, 4, 4)


def test_recall() -> None:
    """25 epochs of 21 batches, the learning rate at its peak of 2e-2 after 20 % of them."""
    config = recipe("recall.toml")
    assert config.network == NetworkConfig(backbone="resnet6", backward=(), steps=10, readout=1)
    assert shape_and_classes(config) == ((1, 8, 8), 10)
    assert (config.data.name, config.data.merge_validation) == ("recall", True)
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.weight_decay, optimizer.clip_norm) == ("adamw", 1e-3, 1.0)
    assert (optimizer.epochs, optimizer.batch_size) == (25, 64)
    assert learning_rate(optimizer, 0.2 * 25) == 0.02
    assert all(learning_rate(optimizer, progress) < 0.02 for progress in (0, 4.9, 5.1, 25))
    looped = recipe("recall.toml", 'network.backward=["4:4"]')
    graph = build_graph(looped.network, (1, 8, 8), 10)
    assert backward_connections(graph) == (BackwardConnection(4, 4),)
    assert len(graph.ports) == 5


@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_sweep_is_one_setting_a_point(penalty: str) -> None:
    """As the files of table 6 tell the reader to do it: normalised intensity, penalty and power."""
    settings = ["penalty.intensity=512", f"penalty.name={penalty}", "penalty.power=2"]
    trainer = take_two_steps(recipe("penalty/cnn7-fashion_mnist-adam.toml", *SMALLEST, *settings))
    assert trainer.penalty is not None
    assert trainer.penalty.power == 2
    assert trainer.penalty.intensity(1.0) * trainer.penalty.largest == pytest.approx(512)
