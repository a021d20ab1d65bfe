"""The module: its parameters, its modes, and recalibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from snndeploy.backbones import resnet8
from snndeploy.errors import NetworkError
from snndeploy.ir import (
    BatchNorm,
    Conv2d,
    Edge,
    Flatten,
    Graph,
    Input,
    Lif,
    Linear,
    Network,
    Op,
    Output,
    parameter_count,
    with_backward,
)
from snndeploy.nn import SpikingNetwork, initial_weights, recalibrate


def frames(graph: Graph, seed: int = 0, batch: int = 4) -> Tensor:
    """Random input of five steps."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(5, batch, *graph.shapes["input"])).astype(np.float32))


def test_parameters_carry_the_names_of_the_graph(graph: Graph) -> None:
    """Weights go out and in by `<op>.<parameter>`; what is trained is what the graph counts."""
    network = SpikingNetwork(graph, seed=5)
    weights, initial = network.weights(), initial_weights(graph, 5)
    assert list(weights) == list(initial)
    assert all(np.array_equal(weights[name], initial[name]) for name in initial)
    assert sum(p.numel() for p in network.parameters()) == parameter_count(graph)
    assert {name.replace("/", ".") for name in network.state_dict()} == set(weights)

    other = SpikingNetwork(graph, seed=6)
    other.load_weights(weights)
    assert all(np.array_equal(array, weights[name]) for name, array in other.weights().items())
    Network(graph=graph, weights=weights, steps=5)


def test_weights_are_copies(graph: Graph) -> None:
    """Changing what was taken out, or training on, does not reach the other side."""
    network = SpikingNetwork(graph)
    taken = network.weights()
    name = next(iter(taken))
    taken[name] += 1
    assert not np.array_equal(network.weights()[name], taken[name])


def test_weights_that_do_not_fit_are_refused(graph: Graph) -> None:
    """Missing names, unknown names and wrong shapes are named, and nothing is changed."""
    network, weights = SpikingNetwork(graph, seed=0), initial_weights(graph, 1)
    first, *_, last = weights
    before = network.weights()
    bad = (
        ({name: a for name, a in weights.items() if name != first}, first),
        (weights | {"nowhere.weight": weights[first]}, "nowhere"),
        (weights | {last: np.zeros((1, 2, 3), np.float32)}, "must have shape"),
    )
    for mapping, message in bad:
        with pytest.raises(NetworkError, match=message):
            network.load_weights(mapping)
    assert all(np.array_equal(array, before[name]) for name, array in network.weights().items())


def test_a_backward_connection_starts_as_if_absent() -> None:
    """At scale 0 its bias and scale add nothing: logits and spikes are those of the backbone."""
    plain = resnet8((1, 16, 16), 10)
    x = frames(plain)
    expected = SpikingNetwork(plain, seed=2).eval()(x)
    connected = SpikingNetwork(with_backward(plain, 6, 0), seed=2).eval()(x)
    torch.testing.assert_close(connected, expected)
    seen = SpikingNetwork(with_backward(plain, 6, 0), seed=2, backward_scale=1.0).eval()(x)
    assert not torch.allclose(seen, expected)


def test_dropout_masks_are_shared_over_time_and_drawn_anew(
    topologies: Mapping[str, Callable[[], Graph]],
) -> None:
    """Per sample one mask for all steps, stepped or folded; another in the next pass; none in evaluation."""
    graph = topologies["summed_norm"]()
    x = frames(graph)
    first, twin = SpikingNetwork(graph, seed=1), SpikingNetwork(graph, seed=1)
    logits = first(x)
    torch.testing.assert_close(twin(x, stepped=True), logits)
    assert not torch.allclose(first(x), logits)
    assert torch.equal(first.eval()(x), first(x))

    masks = first.draw_masks(x)["drop"]
    assert masks.shape == (4, *graph.shapes["drop"])
    assert ((masks == 0) | (masks == 1 / 0.75)).all()
    assert (masks == 0).float().mean() == pytest.approx(0.25, abs=0.1)
    done = first.simulate(x, masks={"drop": torch.zeros_like(masks)}, record_potentials=True)
    assert not done.potentials["b.lif"].any()


def first_layer() -> Graph:
    """Input 2x3x3 -> conv -> norm -> lif -> flatten -> fc -> output: statistics that are easy to compute."""
    ops: dict[str, Op] = {
        "input": Input(shape=(2, 3, 3)),
        "conv": Conv2d(in_channels=2, out_channels=3, kernel=(2, 2)),
        "norm": BatchNorm(channels=3),
        "lif": Lif(),
        "flatten": Flatten(),
        "fc": Linear(in_features=12, out_features=3),
        "output": Output(),
    }
    names = tuple(ops)
    return Graph(ops, tuple(Edge(a, b) for a, b in pairwise(names)))


def test_recalibration_averages_over_batches_and_steps() -> None:
    """Every batch counts alike, whatever the running statistics were; weights stay."""
    graph = first_layer()
    network = SpikingNetwork(graph, seed=0)
    recalibrate(network, [frames(graph, seed=9)])
    weights = network.weights()
    data = [frames(graph, seed) for seed in range(3)]
    recalibrate(network, iter(data))
    with torch.no_grad():
        currents = [
            torch.stack([torch.conv2d(x, network.tensor("conv.weight")) for x in batch]) for batch in data
        ]
    means = torch.stack([c.mean((1, 3, 4)).mean(0) for c in currents]).mean(0)
    variances = torch.stack([c.var((1, 3, 4)).mean(0) for c in currents]).mean(0)
    torch.testing.assert_close(network.tensor("norm.running_mean"), means)
    torch.testing.assert_close(network.tensor("norm.running_var"), variances)
    for name, array in network.weights().items():
        assert np.array_equal(array, weights[name]) != name.endswith(("running_mean", "running_var"))


def test_recalibration_draws_no_masks_and_needs_data(
    topologies: Mapping[str, Callable[[], Graph]],
) -> None:
    """Dropout does nothing, so the result can be repeated; without a batch there is nothing to average."""
    network = SpikingNetwork(topologies["summed_norm"]())
    x = frames(network.graph)
    recalibrate(network, [x])
    once = network.weights()
    network(x)
    network.load_weights(once)
    recalibrate(network, [x])
    assert all(np.array_equal(array, once[name]) for name, array in network.weights().items())
    with pytest.raises(NetworkError, match="at least one batch"):
        recalibrate(network, [])
