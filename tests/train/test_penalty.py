"""Penalties: theorem 3.4 as an equality of whole numbers, gradients by hand, intensities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snndeploy.backbones import backbone
from snndeploy.errors import ConfigError, NetworkError
from snndeploy.ir import Conv2d, Edge, Flatten, Graph, Input, Lif, Linear, Network, Op, Output, with_backward
from snndeploy.ir.fanout import psi
from snndeploy.nn import SpikingNetwork
from snndeploy.nn.counts import Counts
from snndeploy.nn.engine import Neurons
from snndeploy.nn.surrogate import ScaledSigmoid, SigmoidReciprocal, Surrogate, Triangle
from snndeploy.targets.counts import count
from snndeploy.train.config import PENALTIES, PenaltyConfig
from snndeploy.train.penalty import Penalty
from tests.strategies import Structure, build, random_weights, structures

TAU = 0.5


def penalty_of(graph: Graph, steps: int, name: str = "syn", **options: str | float | bool) -> Penalty:
    """A penalty from its configuration."""
    return Penalty.from_config(PenaltyConfig(name=name, **options), graph, steps)  # type: ignore[arg-type]


def random_spikes(graph: Graph, steps: int, batch: int, seed: int) -> dict[str, npt.NDArray[np.bool_]]:
    """Spikes at rates that differ from layer to layer."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.random((steps, batch, *graph.shapes[name])) < rng.uniform(0.1, 0.9) for name in graph.ports
    }


def as_tensors(spikes: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, Tensor]:
    """As neurons fire them."""
    return {name: torch.from_numpy(array.astype(np.float32)) for name, array in spikes.items()}


def all_firing(graph: Graph, steps: int = 1, batch: int = 1) -> dict[str, Tensor]:
    """Every neuron at every step."""
    return {name: torch.ones(steps, batch, *graph.shapes[name]) for name in graph.ports}


def one_neuron(*, fan_out: int = 3, loop: bool = False) -> Graph:
    """Input (1) -> fc -> lif (1) -> last -> output (fan_out); lif ~> lif with delay 1 if there is a loop."""
    ops: dict[str, Op] = {
        "input": Input(shape=(1,)),
        "fc": Linear(in_features=1, out_features=1),
        "lif": Lif(tau=TAU),
        "last": Linear(in_features=1, out_features=fan_out),
        "output": Output(),
    }
    edges = tuple(Edge(a, b) for a, b in pairwise(ops))
    return Graph(ops, (*edges, Edge("lif", "lif", 1)) if loop else edges)


def two_layers() -> Graph:
    """Input (1) -> fc1 -> a (2) -> fc2 -> b (4) -> last -> output (3)."""
    ops: dict[str, Op] = {
        "input": Input(shape=(1,)),
        "fc1": Linear(in_features=1, out_features=2),
        "a": Lif(),
        "fc2": Linear(in_features=2, out_features=4),
        "b": Lif(),
        "last": Linear(in_features=4, out_features=3),
        "output": Output(),
    }
    return Graph(ops, tuple(Edge(a, b) for a, b in pairwise(ops)))


def weight_gradient(
    penalty: Penalty, graph: Graph, weight: float, x: list[float], surrogate: Surrogate, *, stepped: bool
) -> tuple[float, float]:
    """Omega and its derivative with respect to the weight before the neuron; a sample for each x, constant in time."""
    network = SpikingNetwork(graph, surrogate=surrogate).double()
    w = network.tensor("fc.weight")
    with torch.no_grad():
        w.fill_(weight)
    current = torch.tensor(x, dtype=torch.float64).view(1, -1, 1).expand(penalty.steps, -1, 1)
    counts = network.advance(current, stepped=stepped, count_power=penalty.power).counts
    assert counts is not None
    omega = penalty(counts)
    omega.backward()  # type: ignore[no-untyped-call]
    assert w.grad is not None
    return omega.item(), w.grad.item()


@given(structure=structures(), power=st.sampled_from([1, 2]), seed=st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_is_the_number_of_synaptic_operations(structure: Structure, power: int, seed: int) -> None:
    """Theorem 3.4, p * Omega = synaptic operations, to the last one: backward connections, skips, pools, any T."""
    graph, batch = build(structure), 3
    network = Network(
        graph=graph, weights=random_weights(graph, np.random.default_rng(0)), steps=structure.steps
    )
    spikes = random_spikes(graph, structure.steps, batch, seed)
    counted = count(network, spikes).synaptic_operations
    penalty = penalty_of(graph, structure.steps, power=power)
    counts = Counts.of(as_tensors(spikes), power)
    assert power * penalty.summed(counts).item() == int(counted.sum())
    assert power * penalty(counts).item() == pytest.approx(counted.mean(), rel=1e-12)


def test_backward_connections_cost() -> None:
    """Port 4 drives more synapses once it is fed back, and a penalty without them would be too small."""
    plain = backbone("resnet8", (1, 16, 16), 10)
    connected = with_backward(plain, 4, 1)
    spikes = as_tensors(random_spikes(plain, 3, 2, seed=0))
    counts = Counts.of(spikes, 1)
    added = psi(connected)[plain.ports[4]] - psi(plain)[plain.ports[4]]
    expected = float((spikes[plain.ports[4]].numpy().sum((0, 1)) * added).sum())
    assert expected > 0
    difference = penalty_of(connected, 3).summed(counts) - penalty_of(plain, 3).summed(counts)
    assert difference.item() == expected


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet18_preact", {"syn": 553_730_048, "total": 671_744, "balance": 20}),
        ("vgg11", {"syn": 827_367_424, "total": 249_856, "balance": 10}),
    ],
)
def test_all_neurons_firing(name: str, published: Mapping[str, int]) -> None:
    """Table 1 of Spiking Synaptic Penalty; VGG11's `syn` without counting each pooled synapse four times."""
    graph = backbone(name, (3, 32, 32), 10)
    counts = Counts.of(all_firing(graph), 1)
    for penalty, expected in published.items():
        found = penalty_of(graph, 1, penalty, psi="nominal").summed(counts).item()
        assert found == pytest.approx(expected, rel=1e-12)
        assert found == expected or penalty == "balance"
    exact = penalty_of(graph, 1).summed(counts).item()
    assert 0.8 * published["syn"] < exact < published["syn"]


def test_weights_by_hand() -> None:
    """A spike of a costs 4, 1 or 1/2, one of b 3, 1 or 1/4; the sum is over time, the mean over the samples."""
    spikes = {
        "a": torch.tensor([[[1, 0], [1, 1]], [[0, 1], [0, 0]]]).float(),  # 2 spikes of each sample
        "b": torch.tensor([[[0, 0, 0, 0], [1, 0, 0, 0]], [[1, 1, 1, 1], [1, 0, 0, 0]]]).float(),  # 4 and 2
    }
    graph = two_layers()
    expected = {
        "syn": (2 * 4 + 4 * 3 + 2 * 4 + 2 * 3) / 2,
        "total": (2 + 4 + 2 + 2) / 2,
        "balance": (2 / 2 + 4 / 4 + 2 / 2 + 2 / 4) / 2,
    }
    for name, value in expected.items():
        assert penalty_of(graph, 2, name)(Counts.of(spikes, 1)).item() == value
        assert penalty_of(graph, 2, name, power=2)(Counts.of(spikes, 2)).item() == value / 2


@pytest.mark.parametrize("stepped", [False, True])
@pytest.mark.parametrize("surrogate", [Triangle(), ScaledSigmoid(0.45), SigmoidReciprocal(0.25, 0.6)])
def test_gradient_of_one_neuron_at_one_step(surrogate: Surrogate, stepped: bool) -> None:
    """Three synapses, u = w * x: dOmega/dw is the mean over the samples of 3 * ds/du * x."""
    weight, x = 1.25, [1.0, 0.5, -0.2]
    u = torch.tensor(x, dtype=torch.float64) * weight
    slopes = surrogate.derivative(u, 1.0).tolist()
    if surrogate == Triangle():
        assert slopes == pytest.approx([0.75, 0.625, 0.0])
    graph = one_neuron()
    omega, gradient = weight_gradient(penalty_of(graph, 1), graph, weight, x, surrogate, stepped=stepped)
    assert omega == 3 * 1 / 3  # the first sample alone fires
    expected = 3 * sum(slope * value for slope, value in zip(slopes, x, strict=True)) / 3
    assert gradient == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("stepped", [False, True])
@pytest.mark.parametrize(
    ("weight", "loop", "omega", "expected"),
    [
        # u0 = 1.25 fires, v = 0, u1 = 1.25 fires; du1/dw = 1 + tau * ((1 - 1) - u0 * ds0), ds0 = ds1 = 0.75
        (1.25, False, 3 * 2, 3 * (0.75 + 0.75 * (1 + TAU * (0 - 1.25 * 0.75)))),
        # u0 = v = 0.75 is silent, u1 = 1.125 fires; du1/dw = 1 + tau * ((1 - 0) - u0 * ds0), ds1 = 0.875
        (0.75, False, 3 * 1, 3 * (0.75 + 0.875 * (1 + TAU * (1 - 0.75 * 0.75)))),
        # The loop is a fourth synapse, and du1/dw gains ds0, since s0 enters u1.
        (0.75, True, 4 * 1, 4 * (0.75 + 0.875 * (1 + TAU * (1 - 0.75 * 0.75) + 0.75))),
    ],
)
def test_gradient_of_one_neuron_at_two_steps(
    weight: float, loop: bool, omega: float, expected: float, stepped: bool
) -> None:
    """By hand, through the leak, through the reset, and through a backward connection."""
    graph = one_neuron(loop=loop)
    found = weight_gradient(penalty_of(graph, 2), graph, weight, [1.0], Triangle(), stepped=stepped)
    assert found == pytest.approx((omega, expected), rel=1e-12)


@pytest.mark.parametrize("surrogate", [Triangle(), ScaledSigmoid(0.45), SigmoidReciprocal(0.25, 0.6)])
def test_with_p_2_only_neurons_that_fired_are_pushed(surrogate: Surrogate) -> None:
    """Eq. 17: 1/p ds**p/du is ds/du where u is above the threshold and 0 elsewhere, at the threshold too."""
    graph = one_neuron()
    for x in (-0.5, 0.5, 0.9, 1.0, 1.1, 1.75, 2.5):
        slope = surrogate.derivative(torch.tensor([x], dtype=torch.float64), 1.0).item()
        for power, expected in ((1, 3 * slope), (2, 3 * slope * (x > 1))):
            penalty = penalty_of(graph, 1, power=power)
            _, gradient = weight_gradient(penalty, graph, 1.0, [x], surrogate, stepped=False)
            assert gradient == pytest.approx(expected * x, rel=1e-12)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("name", PENALTIES)
def test_gradient_with_respect_to_spikes(name: str, power: int) -> None:
    """The weight of the neuron / the batch, for p = 2 where there is a spike only; in every memory layout."""
    graph = with_backward(backbone("resnet8", (1, 8, 8), 10), 4, 2)
    ports, batch = graph.ports, 2
    weights = {
        "syn": {port: psi(graph)[port] for port in ports},
        "total": {port: np.ones(graph.shapes[port]) for port in ports},
        "balance": {port: np.full(graph.shapes[port], 1 / math.prod(graph.shapes[port])) for port in ports},
    }[name]
    spikes = {
        port: s.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3).requires_grad_()
        for port, s in as_tensors(random_spikes(graph, 3, batch, seed=1)).items()
    }
    penalty_of(graph, 3, name, power=power)(Counts.of(spikes, power)).backward()  # type: ignore[no-untyped-call]
    for port, s in spikes.items():
        assert s.grad is not None
        expected = torch.from_numpy(weights[port] / batch).float().expand_as(s)
        torch.testing.assert_close(s.grad, expected * s.detach() if power == 2 else expected)


@pytest.mark.parametrize("power", [1, 2])
def test_stepped_is_folded(power: int) -> None:
    """Which ops lie in a loop changes neither the penalty nor its gradient, through two backward connections."""
    graph = with_backward(with_backward(backbone("resnet8", (1, 8, 8), 10), 4, 2), 6, 5)
    penalty = penalty_of(graph, 3, power=power)
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (3, 4, 1, 8, 8)))
    results = []
    for stepped in (False, True):
        network = SpikingNetwork(graph, seed=1, backward_scale=1.0).double()
        counts = network.advance(x, stepped=stepped, count_power=power).counts
        assert counts is not None
        omega = penalty(counts)
        omega.backward()  # type: ignore[no-untyped-call]
        gradients = {name: p.grad for name, p in network.named_parameters()}
        results.append((omega.detach(), gradients, dict(network.named_buffers())))
    (omega, gradients, statistics), (other_omega, other_gradients, other_statistics) = results
    assert omega == other_omega > 0
    for name, gradient in gradients.items():
        if name.startswith("fc/"):
            assert gradient is None
            continue
        assert gradient is not None
        assert gradient.abs().max() > 0
        torch.testing.assert_close(other_gradients[name], gradient, rtol=1e-9, atol=1e-9 * omega.item())
    for name, statistic in statistics.items():
        torch.testing.assert_close(other_statistics[name], statistic, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("neurons", ["compiled", "plain", "traceable"])
def test_is_the_plain_formula_on_spikes(neurons: Neurons, power: int) -> None:
    """1/p sum of weight * spike**p and its gradient, as autograd has them on plain neurons; loops, an image, p."""
    graph = with_backward(backbone("resnet8", (1, 8, 8), 10), 4, 2)
    penalty = penalty_of(graph, 3, power=power)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 1, 8, 8, generator=generator).expand(3, 4, 1, 8, 8)
    network = SpikingNetwork(graph, seed=1, backward_scale=1.0)
    parameters = [p for name, p in network.named_parameters() if not name.startswith("fc/")]
    spikes = network.simulate(x, batch_statistics=True, record_spikes=True, neurons="plain").spikes
    plain = torch.stack([(spikes[port] ** power * w).sum() for port, w in penalty.weights.items()])
    expected = plain.sum() / power / 4
    counts = network.simulate(x, batch_statistics=True, count_power=power, neurons=neurons).counts
    assert counts is not None
    found = penalty(counts)
    assert found == expected > 0
    for a, b in zip(
        torch.autograd.grad(expected, parameters), torch.autograd.grad(found, parameters), strict=True
    ):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-6 * expected.item())


def test_recording_spikes_changes_nothing_else() -> None:
    """The same logits, running statistics and dropout masks as a plain forward pass, in training and evaluation."""
    graph = backbone("vgg11", (1, 16, 16), 10)
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (1, 3, 1, 16, 16)).astype(np.float32))
    plain, recording = SpikingNetwork(graph, seed=1), SpikingNetwork(graph, seed=1)
    for training in (True, True, False):
        done = recording.train(training).advance(x, record_spikes=True)
        assert torch.equal(done.logits, plain.train(training)(x))
        assert tuple(done.spikes) == graph.ports
    for buffer, other in zip(plain.buffers(), recording.buffers(), strict=True):
        assert torch.equal(buffer, other)
    assert plain.forward_passes == recording.forward_passes == 2
    assert not plain.advance(x).spikes


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("steps", [1, 4])
def test_normalised_intensity(name: str, power: int, steps: int) -> None:
    """Eq. 20: intensity * Omega(1) is the intensity asked for, where Omega(1) holds every step."""
    graph = two_layers()
    plain = penalty_of(graph, steps, name, power=power, intensity=8.0)
    normalised = penalty_of(graph, steps, name, power=power, intensity=8.0, normalised=True)
    at_one = {"syn": 2 * 4 + 4 * 3, "total": 6, "balance": 2}[name] * steps / power
    assert plain.largest == pytest.approx(at_one)
    assert plain(Counts.of(all_firing(graph, steps, batch=5), power)).item() == pytest.approx(at_one)
    assert plain.intensity(1.0) == 8.0
    assert normalised.intensity(1.0) * at_one == pytest.approx(8.0)


def test_intensities_of_the_publication() -> None:
    """1 to 8192 normalised is about 2e-9 to 1.5e-5 for its ResNet-18: the product of eq. 20 fits, the quotient not."""
    graph = backbone("resnet18_preact", (3, 32, 32), 10)
    low, high = (
        penalty_of(graph, 1, psi="nominal", normalised=True, intensity=value).intensity(1.0)
        for value in (1.0, 8192.0)
    )
    assert low == 1 / 553_730_048
    assert high == 8192 / 553_730_048


def test_schedule() -> None:
    """Linear from 0 to the intensity, or the intensity throughout."""
    linear, constant = (
        penalty_of(two_layers(), 1, intensity=4.0, schedule=schedule) for schedule in ("linear", "constant")
    )
    assert [linear.intensity(progress) for progress in (0.0, 0.25, 0.5, 1.0)] == [0, 1, 2, 4]
    assert [constant.intensity(progress) for progress in (0.0, 0.25, 0.5, 1.0)] == [4, 4, 4, 4]
    assert penalty_of(two_layers(), 1).intensity(1.0) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_sums_are_exact_in_any_precision(dtype: torch.dtype) -> None:
    """600 samples of 7 steps: bfloat16 cannot count to 4200, nor single precision to 2**24 + 1."""
    graph = one_neuron(fan_out=4001)
    spikes = {"lif": torch.ones(7, 600, 1, dtype=dtype)}
    spikes["lif"][0, 0] = 0
    penalty = penalty_of(graph, 7)
    counts, expected = Counts.of(spikes, 1), (7 * 600 - 1) * 4001
    found = penalty.summed(counts)
    assert found.item() == expected > 2**24
    assert int(np.float32(expected)) != expected
    assert penalty.to("cpu").summed(counts) == found
    with torch.autocast("cpu", torch.bfloat16):
        assert penalty.summed(Counts.of(spikes, 1)) == found


def test_counts_of_another_network_are_refused() -> None:
    """Missing layers, other numbers of steps, another p and other shapes are named."""
    graph = two_layers()
    penalty, spikes = penalty_of(graph, 2), all_firing(graph, 2, batch=3)
    with pytest.raises(NetworkError, match=r"counts: must name every Lif, got \['b'\]"):
        penalty(Counts.of({"a": spikes["a"]}, 1))
    with pytest.raises(NetworkError, match="must be of 2 steps and p = 1, got 1 steps and p = 1"):
        penalty(Counts.of(all_firing(graph, 1, batch=3), 1))
    with pytest.raises(NetworkError, match="must be of 2 steps and p = 1, got 2 steps and p = 2"):
        penalty(Counts.of(spikes, 2))
    with pytest.raises(NetworkError, match=r"counts of b: must have shape \(4,\), got \(2,\)"):
        penalty(Counts.of({**spikes, "b": spikes["a"]}, 1))


def test_a_network_without_spikes_is_refused() -> None:
    """Input -> fc -> output: there is nothing to penalise."""
    ops: dict[str, Op] = {
        "input": Input(shape=(2,)),
        "fc": Linear(in_features=2, out_features=2),
        "output": Output(),
    }
    graph = Graph(ops, (Edge("input", "fc"), Edge("fc", "output")))
    with pytest.raises(ConfigError, match="penalty: needs a network with a Lif"):
        penalty_of(graph, 1)


def test_spikes_that_cost_nothing_cannot_be_normalised() -> None:
    """Input 1x1x1 -> lif -> conv, whose windows all lie in the padding -> flatten -> output: no synapse at all."""
    ops: dict[str, Op] = {
        "input": Input(shape=(1, 1, 1)),
        "lif": Lif(),
        "conv": Conv2d(in_channels=1, out_channels=1, kernel=(1, 1), stride=(2, 2), padding=(1, 1)),
        "flatten": Flatten(),
        "output": Output(),
    }
    graph = Graph(ops, tuple(Edge(a, b) for a, b in pairwise(ops)))
    assert penalty_of(graph, 1, intensity=1.0)(Counts.of(all_firing(graph), 1)) == 0
    with pytest.raises(ConfigError, match=r"penalty\.normalised: needs neurons that drive synapses"):
        penalty_of(graph, 1, intensity=1.0, normalised=True)
    assert penalty_of(graph, 1, "total", intensity=1.0, normalised=True).intensity(1.0) == 1.0
