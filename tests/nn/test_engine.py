"""Stepped and folded execution give the same loss, gradients, statistics and spikes on every graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from snndeploy.errors import NetworkError
from snndeploy.ir import BackwardConnection, Graph, backward_connections, components
from snndeploy.nn import SpikingNetwork, initial_weights
from snndeploy.nn.engine import simulate
from snndeploy.nn.lif import lif
from snndeploy.nn.surrogate import Triangle

STEPS, BATCH = 5, 4


def double(graph: Graph, seed: int = 0) -> SpikingNetwork:
    """A network in double precision whose delayed branches act and whose statistics are not the initial ones."""
    network = SpikingNetwork(graph, seed=seed, backward_scale=1.0).double()
    rng = np.random.default_rng(seed)
    weights = network.weights()
    for name, array in weights.items():
        if name.endswith("norm.bias"):
            weights[name] = array + rng.normal(0.2, 0.2, array.shape)
        elif name.endswith("running_mean"):
            weights[name] = array + rng.normal(0.0, 0.2, array.shape)
        elif name.endswith("running_var"):
            weights[name] = array * rng.uniform(0.5, 1.5, array.shape)
    network.load_weights(weights)
    return network


def batch(graph: Graph, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Input that differs from step to step, and labels."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.0, 1.0, (STEPS, BATCH, *graph.shapes[graph.input]))
    return torch.from_numpy(x), torch.from_numpy(rng.integers(0, 3, BATCH))


def train_once(graph: Graph, *, stepped: bool) -> dict[str, Any]:
    """Loss, gradients and new running statistics of one training pass."""
    network = double(graph)
    x, labels = batch(graph)
    loss = F.cross_entropy(network(x, stepped=stepped).flatten(0, 1), labels.repeat(STEPS))
    loss.backward()  # type: ignore[no-untyped-call]
    return {
        "loss": loss.detach(),
        **{f"gradient of {name}": p.grad for name, p in network.named_parameters()},
        **dict(network.named_buffers()),
    }


def test_stepped_is_folded_in_training(graph: Graph) -> None:
    """Which ops lie in a loop changes neither the loss, nor a gradient, nor the running statistics."""
    folded, stepped = train_once(graph, stepped=False), train_once(graph, stepped=True)
    assert folded.keys() == stepped.keys()
    for name, value in folded.items():
        torch.testing.assert_close(stepped[name], value, rtol=1e-9, atol=1e-9, msg=name)
        assert value.abs().max() > 1e-6, f"{name} is too small to show anything"


def test_stepped_is_folded_in_evaluation(graph: Graph) -> None:
    """The same spikes and potentials, in every layer and step, with activity to compare."""
    network, (x, _) = double(graph).eval(), batch(graph)
    folded = network.simulate(x, record_spikes=True, record_potentials=True)
    stepped = network.simulate(x, stepped=True, record_spikes=True, record_potentials=True)
    assert tuple(folded.spikes) == tuple(stepped.spikes) == tuple(folded.potentials) == graph.ports
    for name in graph.ports:
        assert torch.equal(folded.spikes[name], stepped.spikes[name])
        torch.testing.assert_close(folded.potentials[name], stepped.potentials[name], rtol=1e-9, atol=1e-9)
        assert 0.02 < folded.spikes[name].mean() < 0.6
    torch.testing.assert_close(folded.logits, stepped.logits, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stepped", [False, True])
def test_counts_are_sums_of_spikes(graph: Graph, stepped: bool) -> None:
    """Over steps and samples, of every Lif, and none unless asked for; p decides the gradient only."""
    network, (x, _) = double(graph).eval(), batch(graph)
    done = network.simulate(x, stepped=stepped, record_spikes=True, count_power=1)
    assert done.counts is not None
    assert (done.counts.power, done.counts.steps, done.counts.samples) == (1, STEPS, BATCH)
    assert tuple(done.counts.fired) == graph.ports
    squares = network.simulate(x, stepped=stepped, count_power=2)
    assert squares.counts is not None
    assert squares.spikes == {}
    for name, fired in done.counts.fired.items():
        assert torch.equal(fired, done.spikes[name].sum((0, 1)))
        assert torch.equal(squares.counts.fired[name], fired)
    assert network.simulate(x, stepped=stepped).counts is None


def test_topologies_are_what_they_claim(topologies: Mapping[str, Callable[[], Graph]]) -> None:
    """Some have no loop, some several loop bodies, one a loop of a single population."""
    connections = {name: backward_connections(make()) for name, make in topologies.items()}
    assert connections["chain"] == connections["delayed_skip"] == ()
    assert connections["overlapping"] == (BackwardConnection(1, 0), BackwardConnection(2, 1))
    assert connections["from_vector"] == (BackwardConnection(2, 0), BackwardConnection(2, 2))
    assert connections["upsampled"] == (BackwardConnection(1, 0, 2),)
    assert connections["summed_norm"] == (BackwardConnection(1, 1),)
    loops = {name: sum(c.is_loop for c in components(make())) for name, make in topologies.items()}
    assert (loops["chain"], loops["delayed_skip"], loops["residual"], loops["overlapping"]) == (0, 0, 1, 1)


def test_loss_and_gradients_are_those_of_a_plain_loop(
    topologies: Mapping[str, Callable[[], Graph]],
) -> None:
    """chain() with 1:0 at delay 2, written out step by step with PyTorch's own operations.

    input -> a (conv, norm, LIF) -> b (stride 2) -> flatten -> c (linear) -> fc
             ^-- upsample <- norm <- 1x1 conv <- delay 2 <- b
    """
    graph = topologies["upsampled"]()
    network, (x, labels) = double(graph), batch(graph)
    w = {name: network.tensor(name).detach().clone() for name in network.weights()}
    for name, tensor in w.items():
        tensor.requires_grad_("running" not in name)

    def norm(name: str, y: Tensor, t: int, quiet: int = 0) -> Tensor:
        axes = (1, -1, *(1,) * (y.ndim - 2))
        mean, variance = w[f"{name}.running_mean"].view(axes), w[f"{name}.running_var"].view(axes)
        if t >= quiet:
            over = (0, *range(2, y.ndim))
            mean, variance = y.mean(over, keepdim=True), y.var(over, correction=0, keepdim=True)
        return (y - mean) / (variance + 1e-5).sqrt() * w[f"{name}.weight"].view(axes) + w[
            f"{name}.bias"
        ].view(axes)

    v: dict[str, Tensor] = {}

    def fire(name: str, y: Tensor) -> Tensor:
        spikes, v[name], _ = lif(y[None], graph.ops[name], Triangle(), v.get(name))  # type: ignore[arg-type]
        return spikes[0]

    past = [torch.zeros(BATCH, 4, 2, 2, dtype=torch.float64)] * 2
    logits = []
    for t in range(STEPS):
        a = norm("a.norm", F.conv2d(x[t], w["a.conv.weight"], padding=1), t)
        back = norm("back1_0d2.norm", F.conv2d(past[t], w["back1_0d2.conv.weight"]), t, quiet=2)
        a = fire("a.lif", a + F.interpolate(back, scale_factor=2, mode="nearest"))
        b = fire("b.lif", norm("b.norm", F.conv2d(a, w["b.conv.weight"], stride=2, padding=1), t))
        past.append(b)
        c = fire("c.lif", norm("c.norm", b.flatten(1) @ w["c.fc.weight"].T, t))
        logits.append(c @ w["fc.weight"].T + w["fc.bias"])
    expected = F.cross_entropy(torch.cat(logits), labels.repeat(STEPS))
    expected.backward()  # type: ignore[no-untyped-call]

    loss = F.cross_entropy(network(x).flatten(0, 1), labels.repeat(STEPS))
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    for name, tensor in w.items():
        if tensor.requires_grad:
            torch.testing.assert_close(network.tensor(name).grad, tensor.grad, rtol=1e-9, atol=1e-9, msg=name)


def test_nothing_given_is_changed(graph: Graph) -> None:
    """A simulation with batch statistics leaves the running ones and the weights to their owner."""
    x, _ = batch(graph)
    tensors = {n: torch.from_numpy(a).double() for n, a in initial_weights(graph, 0).items()}
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    done = simulate(graph, tensors, x, surrogate=Triangle(), batch_statistics=True)
    norms = {name for name in graph.training_only if not name.startswith("drop")}
    assert set(done.statistics) == norms
    assert all(torch.equal(tensors[name], before[name]) for name in before)
    assert done.spikes == done.potentials == {}


@pytest.mark.parametrize("shape", [(5, 4, 2, 4), (5, 4, 2, 4, 5), (4, 2, 4, 4), (2, 4, 2, 4, 4)])
def test_wrong_input_is_refused(
    topologies: Mapping[str, Callable[[], Graph]], shape: tuple[int, ...]
) -> None:
    """A wrong shape, and too few steps for the delay, are named."""
    network = SpikingNetwork(topologies["upsampled"]())
    with pytest.raises(NetworkError, match=r"must have shape|never acts within 2 time steps"):
        network(torch.zeros(shape))


def test_what_is_given_is_not_computed(topologies: Mapping[str, Callable[[], Graph]]) -> None:
    """Outputs from another run take the place of ops: same results, gradients through both runs, no spikes."""
    graph = topologies["upsampled"]()
    network, (x, _) = double(graph), batch(graph)
    whole = x.clone().requires_grad_()
    expected = network.simulate(whole, batch_statistics=True, record_spikes=True, keep=("c.fc", "fc"))
    assert set(expected.values) == {"c.fc", "fc"}
    parts = x.clone().requires_grad_()
    spikes = network.simulate(parts, batch_statistics=True, record_spikes=True).spikes
    given = {"b.lif": spikes["b.lif"]}
    with torch.no_grad():  # what only leads to the given op plays no part
        network.tensor("a.conv.weight").fill_(torch.nan)
    done = network.simulate(x, batch_statistics=True, record_spikes=True, given=given, keep=("c.fc", "b.lif"))
    assert tuple(done.spikes) == ("c.lif",)
    assert set(done.statistics) == {"c.norm"}
    torch.testing.assert_close(done.logits, expected.logits, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(done.values["c.fc"], expected.values["c.fc"], rtol=1e-12, atol=1e-12)
    assert torch.equal(done.values["b.lif"], given["b.lif"])


def test_gradients_flow_through_what_is_given(graph: Graph) -> None:
    """Given in place of any op, in a loop or not, an output with a history passes the same gradient on."""
    network, (x, _) = double(graph), batch(graph)
    names = [name for name in graph.order if name not in (graph.input, graph.output)]
    for name in names:
        leaf = x.clone().requires_grad_()
        whole = network.simulate(leaf, batch_statistics=True, keep=(name,))
        (expected,) = torch.autograd.grad(whole.logits.sum(), leaf, retain_graph=True)
        done = network.simulate(x, batch_statistics=True, given={name: whole.values[name].detach()})
        torch.testing.assert_close(done.logits, whole.logits, rtol=1e-9, atol=1e-9, msg=name)
        if all(not component.is_loop for component in components(graph)):
            around = network.simulate(leaf, batch_statistics=True, given=whole.values)
            (found,) = torch.autograd.grad(around.logits.sum(), leaf)
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, msg=name)
