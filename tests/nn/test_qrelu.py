"""Quantised ReLU: its levels are the rates of neurons that do not leak, its gradient is straight through."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snndeploy.errors import ConfigError
from snndeploy.ir import Edge, Flatten, Graph, Input, Lif, Linear, Network, Output, run
from snndeploy.nn import QuantizedRelu, SpikingNetwork
from snndeploy.nn.engine import simulate
from snndeploy.nn.surrogate import Triangle
from tests.nn.conftest import conv, edges

IF = Lif(tau=1.0, threshold=1.0)


@pytest.mark.parametrize("threshold", [1.0, 0.25])
def test_reciprocal_levels_are_the_rates_of_the_interpreter(threshold: float) -> None:
    """Neurons with constant currents from -1/2 to 5/2 thresholds fire at every k-th step, k = 1 / level.

    input -> fc (one current for each neuron) -> lif -> output; the sums are exact.
    """
    steps = 60
    neuron = Lif(tau=1.0, threshold=threshold)
    z = np.arange(-128, 641, dtype=np.float32) / 256
    graph = Graph(
        {
            "input": Input(shape=(1,)),
            "fc": Linear(in_features=1, out_features=len(z)),
            "lif": neuron,
            "output": Output(),
        },
        (Edge("input", "fc"), Edge("fc", "lif"), Edge("lif", "output")),
    )
    weights = {"fc.weight": (z * threshold).reshape(-1, 1)}
    network = Network(graph=graph, weights=weights, steps=steps)
    spikes = run(network, np.ones((1, 1), np.float32)).spikes["lif"][:, 0]
    level = QuantizedRelu(steps, "reciprocal")(torch.from_numpy(z * threshold), neuron)
    with np.errstate(divide="ignore"):
        period = np.round(1 / level.numpy())  # infinite: never
    expected = (np.arange(1, steps + 1)[:, None] % period) == 0
    np.testing.assert_array_equal(spikes, expected)
    assert {1, 2, 3, 4, 5, 7, 13, np.inf} <= set(period)
    whole = np.isin(period, [1, 2, 3, 4, 5, 6, 10])  # periods that divide the number of steps
    np.testing.assert_array_equal(spikes.mean(0, dtype=np.float32)[whole], level.numpy()[whole])
    assert whole.sum() > 400


def test_levels_by_hand() -> None:
    """Down to the level, clipped at both ends; a reciprocal level lies strictly below its current."""
    z = torch.tensor([-1.0, -0.0, 0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.125, 40.0])
    uniform = QuantizedRelu(4)(z, IF)
    assert uniform.tolist() == [0, 0, 0, 0, 0.25, 0.25, 0.5, 0.75, 1, 1, 1]
    reciprocal = QuantizedRelu(4, "reciprocal")(z, IF)
    torch.testing.assert_close(reciprocal, torch.tensor([0, 0, 0, 0, 0, 1 / 3, 1 / 3, 1 / 2, 1 / 2, 1, 1]))
    assert QuantizedRelu(5, "reciprocal")(torch.tensor([0.25, 0.2]), IF).tolist() == [
        pytest.approx(0.2),
        0,
    ]


@pytest.mark.parametrize("kind", ["uniform", "reciprocal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_is_straight_through(kind: str, dtype: torch.dtype) -> None:
    """1 / threshold above 0 and up to the end of the top level, one level beyond 1; 0 elsewhere."""
    activation = QuantizedRelu(4, "reciprocal" if kind == "reciprocal" else "uniform")
    x = torch.tensor([-0.5, 0.0, 0.1, 1.0, 2.0, 2.4, 2.5, 9.0], dtype=dtype, requires_grad=True)
    weights = torch.arange(1, 9, dtype=dtype)
    torch.autograd.backward((activation(x, Lif(tau=1.0, threshold=2.0)) * weights).sum())
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert x.grad.tolist() == [0, 0, 1.5, 2, 2.5, 3, 0, 0]


def test_takes_the_place_of_neurons_in_a_graph() -> None:
    """Two convolutions with a skip: activations by hand, dropout and BatchNorm as they are, no potentials."""
    graph = Graph(
        {
            "input": Input(shape=(1, 4, 4)),
            "a.conv": conv(1, 2),
            "a.lif": IF,
            "b.conv": conv(2, 2),
            "b.lif": Lif(tau=1.0, threshold=0.5),
            "flatten": Flatten(),
            "output": Output(),
        },
        edges("input a.conv a.lif b.conv b.lif flatten output", "a.lif b.lif"),
    )
    activation = QuantizedRelu(3)
    network = SpikingNetwork(graph, activation=activation, seed=1)
    x = 2 * torch.rand(1, 5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    done = network.advance(x, record_spikes=True)
    first = activation.level(torch.conv2d(x[0], network.tensor("a.conv.weight"), padding=1).detach())
    current = torch.conv2d(first, network.tensor("b.conv.weight"), padding=1).detach() + first
    second = activation.level(current / 0.5)
    torch.testing.assert_close(done.spikes["a.lif"][0], first)
    torch.testing.assert_close(done.spikes["b.lif"][0], second)
    assert {round(3 * value) for value in second.flatten().tolist()} == {0, 1, 2, 3}
    torch.testing.assert_close(done.logits[0], second.flatten(1))
    assert done.logits.grad_fn is not None
    tensors = {name: network.tensor(name) for name in ("a.conv.weight", "b.conv.weight")}
    again = simulate(
        graph, tensors, x, surrogate=Triangle(), activation=activation, stepped=True, record_potentials=True
    )
    torch.testing.assert_close(again.logits, done.logits)
    assert again.potentials == {}


@pytest.mark.parametrize(("levels", "kind"), [(0, "uniform"), (-3, "reciprocal"), (4, "log")])
def test_mistakes(levels: int, kind: str) -> None:
    """No level, and levels of an unknown kind."""
    with pytest.raises(ConfigError, match=r"at least 1 level|uniform or reciprocal"):
        QuantizedRelu(levels, kind)  # type: ignore[arg-type]
