"""PyTorch as a back end against the reference interpreter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from snndeploy import ir, nn
from snndeploy.errors import NetworkError
from snndeploy.ir import Graph, InputSpec, Network

RANGES = {  # what is added to the parameters of a BatchNorm
    ".weight": (0.2, 0.7),
    ".bias": (0.0, 0.3),
    ".running_mean": (-0.3, 0.3),
    ".running_var": (-0.6, 0.0),
}
GAIN = 1.9  # enough for every layer to fire


def on_a_grid(graph: Graph, seed: int) -> Network:
    """Weights that are small multiples of 2**-5, so that single precision sums them without rounding."""
    rng = np.random.default_rng(seed)
    weights = {
        name: np.round(32 * GAIN * rng.normal(0.15, 1.0, shape) / np.sqrt(np.prod(shape[1:]))) / 32
        for name, shape in ir.parameter_shapes(graph).items()
    }
    return Network(
        graph=graph, weights=weights, steps=5, readout=4, input=InputSpec(kind="frames", low=-1, high=1)
    )


def inputs(graph: Graph, seed: int, samples: int = 8) -> npt.NDArray[np.float32]:
    """Multiples of 2**-4 in [-1, 1], (time, batch, *shape)."""
    return np.random.default_rng(seed).integers(-16, 17, (5, samples, *graph.shapes["input"])) / np.float32(
        16
    )


@pytest.mark.parametrize("seed", [0, 2, 3, 4])
def test_exact_networks_agree_to_the_bit(exact_graph: Graph, seed: int) -> None:
    """Spikes, potentials and the sum of the logits, on every graph."""
    network = on_a_grid(exact_graph, seed)
    x = inputs(exact_graph, seed)
    ours, expected = nn.run(network, x, potentials=True), ir.run(network, x, potentials=True)
    assert tuple(ours.spikes) == tuple(expected.spikes) == tuple(ours.potentials) == exact_graph.ports
    for name, spikes in expected.spikes.items():
        assert ours.spikes[name].dtype == np.bool_
        np.testing.assert_array_equal(ours.spikes[name], spikes)
        np.testing.assert_array_equal(ours.potentials[name], expected.potentials[name])
        assert 0.02 < spikes.mean() < 0.6, name
    np.testing.assert_array_equal(ours.readout_sum, expected.readout_sum)
    np.testing.assert_array_equal(ours.logits, expected.logits)


def test_unfolded_networks_agree_in_double_precision(graph: Graph) -> None:
    """BatchNorm uses its running statistics, and Dropout does nothing, as in the interpreter."""
    network = nn.SpikingNetwork(graph, seed=0, backward_scale=1.0)
    rng = np.random.default_rng(0)
    weights = {
        name: array + rng.uniform(*RANGES.get(name.rsplit(".norm")[-1], (0, 0)), array.shape)
        for name, array in network.weights().items()
    }
    unfolded = Network(graph=graph, weights=weights, steps=5, input=InputSpec(kind="frames", low=-1, high=1))
    x = inputs(graph, 0)
    ours = nn.run(unfolded, x, potentials=True, dtype=np.float64)
    expected = ir.run(unfolded, x, potentials=True, dtype=np.float64)
    for name, potentials in expected.potentials.items():
        np.testing.assert_allclose(ours.potentials[name], potentials, rtol=1e-9, atol=1e-9)
        assert expected.spikes[name].any()
    np.testing.assert_allclose(ours.logits, expected.logits, rtol=1e-9, atol=1e-9)


def test_images_are_shown_at_every_step_and_batches_are_joined(exact_graph: Graph) -> None:
    """More samples than are run at a time come back in order, and an empty batch comes back empty."""
    network = replace(on_a_grid(exact_graph, 0), input=InputSpec(kind="image", low=-1, high=1))
    x = inputs(exact_graph, 1, samples=150)[0]
    found = nn.run(network, x)
    again = nn.run(network, np.stack([x] * 5))
    assert found.logits.shape == (150, 3)
    np.testing.assert_array_equal(found.logits, again.logits)
    np.testing.assert_array_equal(found.logits[140:], nn.run(network, x[140:]).logits)
    empty = nn.run(network, x[:0])
    assert empty.logits.shape == (0, 3)
    assert empty.spikes["a.lif"].shape == (5, 0, *exact_graph.shapes["a.lif"])
    with pytest.raises(NetworkError, match="must have shape"):
        nn.run(network, x[:, :1])


def test_delayed_edges_matter(exact_graph: Graph) -> None:
    """Without what arrives late the spikes differ, so agreement is agreement about delays too."""
    network, x = on_a_grid(exact_graph, 0), inputs(exact_graph, 0)
    late = {f"{edge.target}.weight" for edge in exact_graph.edges if edge.delay}
    weights = {n: np.zeros_like(a) if n in late else a for n, a in network.weights.items()}
    with_late, without = nn.run(network, x), nn.run(replace(network, weights=weights), x)
    differing = any((with_late.spikes[name] != without.spikes[name]).any() for name in exact_graph.ports)
    assert differing == bool(late)
