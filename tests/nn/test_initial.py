"""Weights before training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import pytest

from snndeploy.backbones import resnet8, resnet19
from snndeploy.errors import ConfigError
from snndeploy.ir import (
    BatchNorm,
    Edge,
    Graph,
    Input,
    Lif,
    Linear,
    Op,
    Output,
    parameter_shapes,
    with_backward,
)
from snndeploy.nn import initial_weights


def test_the_seed_decides(graph: Graph) -> None:
    """The same seed gives the same arrays, another seed others."""
    first, again, other = initial_weights(graph, 3), initial_weights(graph, 3), initial_weights(graph, 4)
    assert list(first) == list(parameter_shapes(graph))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert all(a.dtype == np.float32 and a.shape == parameter_shapes(graph)[n] for n, a in first.items())
    drawn = [name for name in first if name.endswith(("conv.weight", "fc.weight"))]
    assert drawn
    assert not any(np.array_equal(first[name], other[name]) for name in drawn)


def test_backbones_start_alike_whatever_is_fed_back() -> None:
    """Adding a backward connection changes no weight of the backbone, so comparisons are paired."""
    plain = resnet8((1, 16, 16), 10)
    weights = initial_weights(plain, 0)
    for connections in ([(4, 2)], [(6, 0), (3, 3)]):
        graph = plain
        for source, target in connections:
            graph = with_backward(graph, source, target)
        found = initial_weights(graph, 0)
        assert len(found) == len(weights) + 5 * len(connections)
        assert all(np.array_equal(found[name], array) for name, array in weights.items())


def test_layers_of_one_shape_start_differently() -> None:
    """Each parameter is drawn for itself, not from the same stream of numbers."""
    weights = initial_weights(resnet8((1, 16, 16), 10), 0)
    assert not np.array_equal(weights["stage1.1.1.conv.weight"], weights["stage1.1.2.conv.weight"])


def test_distributions() -> None:
    """What drives neurons has variance 2 / fan_in; a readout stays within 1 / sqrt(fan_in); norms are neutral."""
    weights = initial_weights(resnet8((1, 16, 16), 10), 0)
    conv = weights["stage3.1.2.conv.weight"]
    assert conv.std() == pytest.approx(np.sqrt(2 / (64 * 9)), rel=0.02)
    assert abs(conv.mean()) < 1e-3
    driving = initial_weights(resnet19((3, 16, 16), 10), 0)["hidden.fc.weight"]  # no bias: it drives neurons
    assert driving.std() == pytest.approx(np.sqrt(2 / 512), rel=0.02)
    for name in ("fc.weight", "fc.bias"):
        assert 0.8 / 8 < np.abs(weights[name]).max() <= 1 / 8
    assert (weights["stem.norm.weight"] == 1).all()
    assert (weights["stem.norm.bias"] == 0).all()
    assert (weights["stem.norm.running_mean"] == 0).all()
    assert (weights["stem.norm.running_var"] == 1).all()


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_backward_connections_start_at_a_scale_of_their_own(
    topologies: Mapping[str, Callable[[], Graph]], scale: float
) -> None:
    """0 for training, 1 for scores of untrained networks; all other norms start at 1.

    overlapping: 2:1 and 1:0; delayed_skip: a late branch without a loop.
    """
    late = {
        "overlapping": {"back2_1.norm", "back1_0.norm"},
        "delayed_skip": {"late.norm"},
        "summed_norm": set(),
    }
    for name, expected in late.items():
        graph = topologies[name]()
        weights = initial_weights(graph, 0, backward_scale=scale)
        for op in graph.ops:
            if isinstance(graph.ops[op], BatchNorm):
                assert (weights[f"{op}.weight"] == (scale if op in expected else 1.0)).all()


def test_a_delayed_main_path_starts_open() -> None:
    """A norm behind a delay that is the only way into a population keeps scale 1, or nothing could be learned.

    input -- delay 1 --> fc -> norm -> lif -> last -> output
    """
    ops: dict[str, Op] = {
        "input": Input(shape=(2,)),
        "fc": Linear(in_features=2, out_features=2),
        "norm": BatchNorm(channels=2),
        "lif": Lif(),
        "last": Linear(in_features=2, out_features=2),
        "output": Output(),
    }
    path = ("fc", "norm", "lif", "last", "output")
    edges = (Edge("input", "fc", 1), *(Edge(a, b) for a, b in pairwise(path)))
    assert (initial_weights(Graph(ops, edges), 0)["norm.weight"] == 1).all()


@pytest.mark.parametrize("seed", [-1, True, 0.5])
def test_bad_seeds(seed: int) -> None:
    """A seed is a whole number of at least 0."""
    with pytest.raises(ConfigError, match="seed: must be a whole number"):
        initial_weights(resnet8((1, 16, 16), 10), seed)
