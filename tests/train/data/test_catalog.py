"""All data sets by name: imitations of them, bounds, and whether the exact format takes their input."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from snndeploy.backbones import backbone
from snndeploy.errors import ConfigError
from snndeploy.ir import Network, fold, quantize
from snndeploy.nn import SpikingNetwork
from snndeploy.train.config import DATA_SETS, DataConfig
from snndeploy.train.data import Dataset, fake, network_input
from snndeploy.train.data.catalog import find

SHAPES = {
    "digits": (1, 16, 16),
    "recall": (1, 8, 8),
    "moving_digits": (2, 16, 16),
    "fashion_mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "tiny_imagenet": (3, 64, 64),
    "cifar10_dvs": (2, 48, 48),
}


@pytest.fixture(scope="module", params=DATA_SETS)
def data(request: pytest.FixtureRequest) -> Dataset:
    """An imitation of each data set."""
    return fake(DataConfig(name=request.param), 20)


def test_imitations_have_the_shape_of_the_data(data: Dataset, request: pytest.FixtureRequest) -> None:
    """What a network gets and may be trained on, without a file."""
    name = request.node.callspec.params["data"]
    assert data.shape == SHAPES[name]
    assert len(data.classes) == {"cifar100": 100, "tiny_imagenet": 200}.get(name, 10)
    batch = data.present(data.train.take(slice(0, 8)), np.random.default_rng(0))
    for samples in (batch, data.validation, data.test):
        x = network_input(samples, data.input)
        data.input.check(x)
        front = (data.steps, len(samples)) if data.input.kind == "frames" else (len(samples),)
        assert x.shape == (*front, *data.shape)
        assert samples.labels.max() < len(data.classes)


@pytest.mark.parametrize("name", sorted(set(DATA_SETS) - {"recall", "moving_digits"}))
def test_bounds_hold_for_all_that_may_be_stored(name: str) -> None:
    """Every raw value up to the largest can be prepared, and both bounds are tight; two data sets draw theirs."""
    source = find(DataConfig(name=name))
    channels = source.shape[-3]
    raw = np.arange(source.highest + 1).reshape(-1, 1, 1, 1).repeat(channels, axis=1)
    x = source.input.prepare(raw)
    assert x.max() == source.input.high
    assert x.min() == source.input.low


def test_imitations_are_reproducible() -> None:
    """The same seed, the same noise."""
    config = DataConfig(name="recall")
    first, again, other = fake(config, 10), fake(config, 10), fake(config, 10, seed=1)
    assert np.array_equal(first.test.images, again.test.images)
    assert not np.array_equal(first.test.images, other.test.images)


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("cifar10", {"normalize": False}, {"mean": (), "low": 0, "high": 1}),
        ("cifar10", {"grid_bits": 4}, {"grid_bits": 4}),
        ("fashion_mnist", {"repeat": 2}, {"repeat": 2}),
        ("digits", {}, {"repeat": 2, "divisor": 16, "grid_bits": 4}),
        ("digits", {"repeat": 1}, {"repeat": 1}),
        ("recall", {"grid_bits": 3}, {"grid_bits": 3, "divisor": 64, "kind": "frames"}),
        ("cifar10_dvs", {"size": 64}, {"divisor": 4, "high": 4}),
        ("moving_digits", {}, {"grid_bits": 0, "high": 1}),
    ],
)
def test_input_as_configured(name: str, changes: dict[str, object], expected: dict[str, object]) -> None:
    """Normalisation, grid, enlargement and size are settings, each with a value of the data set's own."""
    config = dataclasses.replace(DataConfig(name=name), **changes)  # type: ignore[arg-type]
    found = dataclasses.asdict(fake(config, 10).input)
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("name", ["digits", "cifar10", "cifar100", "fashion_mnist", "tiny_imagenet"])
@pytest.mark.parametrize("setting", ["steps", "size"])
def test_images_have_no_frames(name: str, setting: str) -> None:
    """Settings of sequences are refused for images, rather than left unheard."""
    config = DataConfig(name=name, steps=7) if setting == "steps" else DataConfig(name=name, size=7)
    with pytest.raises(
        ConfigError, match=rf"data\.{setting}: is for sequences of frames, which {name} are not"
    ):
        fake(config, 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "mnist"}, r"data\.name: must be one of digits, recall, .*, got 'mnist'"),
        ({"augment": ("auto", "blur")}, r"data\.augment: must be one of auto, shift, .*, got 'blur'"),
        ({"validation": 1.5}, r"data\.validation: must be a share below 1 or a whole number"),
        ({"validation": -0.1}, r"data\.validation"),
        ({"validation": float("inf")}, r"data\.validation"),
        ({"grid_bits": 17}, r"data\.grid_bits: must lie in \[-1, 16\]"),
        ({"shift": -1}, r"data\.shift: must lie in \[0, 64\]"),
        ({"steps": -1}, r"data\.steps"),
        ({"size": 1025}, r"data\.size"),
        ({"repeat": -1}, r"data\.repeat"),
        ({"seed": -1}, r"data\.seed: must be at least 0"),
    ],
)
def test_values_out_of_range(changes: dict[str, object], message: str) -> None:
    """They are refused when the configuration is read."""
    with pytest.raises(ConfigError, match=message):
        DataConfig(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "steps"),
    [
        (DataConfig(name="digits"), 4),
        (DataConfig(name="recall"), 10),
        (DataConfig(name="moving_digits"), 10),
        (DataConfig(name="cifar10"), 6),
        (DataConfig(name="cifar10_dvs", size=64), 10),
    ],
)
def test_own_grids_suit_the_exact_format(config: DataConfig, steps: int) -> None:
    """A small residual network is certified at the usual number of steps, and its first layer stays fine enough.

    input -> conv, lif -> 3 residual blocks of 2 convs and lifs, 16, 32 (half size), 64 (half size) -> pool -> linear
    """
    data = fake(config, 10)
    graph = backbone("resnet8", data.shape, len(data.classes))
    network = Network(
        graph=graph,
        weights=SpikingNetwork(graph, seed=0).weights(),
        steps=steps,
        readout=data.readout,
        input=data.input,
    )
    calibration = network_input(data.test.take(slice(0, 2)), data.input)
    rounded = quantize(fold(network), calibration)
    assert rounded.certificate.holds
    stem = next(r for r in rounded.roundings if r.parameter == "stem.conv.weight")
    assert stem.relative_error < 0.02
