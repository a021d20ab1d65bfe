"""A traced pass computes what the pass itself does, and the compiler is asked once for each kind of pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from snndeploy.ir import AvgPool2d, BatchNorm, Conv2d, Edge, Flatten, Graph, Input, Lif, Linear, Output
from snndeploy.nn import SpikingNetwork
from snndeploy.nn.engine import Plan, Simulation
from snndeploy.nn.whole import WholeNetwork

STEPS, BATCH = 5, 4


def uncompiled(traced: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Leaves a trace as it is, since compiling it takes a minute."""
    return traced


def pair(graph: Graph) -> tuple[SpikingNetwork, SpikingNetwork]:
    """A network and its equal whose passes are traced, both in double precision."""
    plain, whole = (SpikingNetwork(graph, backward_scale=1.0).double().train() for _ in range(2))
    whole.whole = WholeNetwork(graph, Plan.of(graph), whole.surrogate, compiler=uncompiled)
    return plain, whole


def train_once(network: SpikingNetwork, x: Tensor) -> tuple[Simulation, Mapping[str, Any]]:
    """A training pass with everything that it leaves."""
    done = network.advance(x, record_spikes=True, count_power=2)
    assert done.counts is not None
    objective = done.logits.square().mean() + sum(s.mean() for s in done.spikes.values())
    objective = objective + sum(fired.square().mean() for fired in done.counts.fired.values())
    gradients = torch.autograd.grad(objective, list(network.parameters()))
    return done, {"gradients": gradients, "buffers": dict(network.named_buffers())}


@pytest.mark.parametrize("image", [False, True], ids=["frames", "image"])
def test_traced_is_untraced(graph: Graph, image: bool) -> None:
    """Logits, spikes, statistics and gradients agree, also in a second pass with other weights and masks."""
    generator = torch.Generator().manual_seed(1)
    shape = (1 if image else STEPS, BATCH, *graph.shapes[graph.input])
    networks = pair(graph)
    for _ in range(2):
        x = torch.randn(shape, generator=generator, dtype=torch.float64).expand(STEPS, *shape[1:])
        (plain, left), (whole, right) = (train_once(network, x) for network in networks)
        torch.testing.assert_close(whole.logits, plain.logits, rtol=1e-9, atol=1e-9)
        assert list(whole.spikes) == list(plain.spikes)
        for name, spikes in plain.spikes.items():
            assert torch.equal(whole.spikes[name], spikes), name
        assert plain.counts is not None
        assert whole.counts is not None
        assert (whole.counts.power, whole.counts.steps, whole.counts.samples) == (2, STEPS, BATCH)
        assert list(whole.counts.fired) == list(plain.counts.fired) == list(graph.ports)
        for name, fired in plain.counts.fired.items():
            assert torch.equal(whole.counts.fired[name], fired), name
        torch.testing.assert_close(right, left, rtol=1e-9, atol=1e-9)
        for network in networks:
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.add_(0.01)


def test_each_kind_of_pass_is_compiled_once(graph: Graph) -> None:
    """Another batch size, recorded or counted spikes, no gradients make another function; evaluation uses none."""
    compiled = []

    def count(traced: torch.fx.GraphModule) -> torch.fx.GraphModule:
        compiled.append(traced)
        return traced

    network = SpikingNetwork(graph).train()
    network.whole = WholeNetwork(graph, Plan.of(graph), network.surrogate, compiler=count)
    x = torch.zeros(STEPS, BATCH, *graph.shapes[graph.input])
    for _ in range(3):
        network(x)
    assert len(compiled) == 1
    assert network.whole.seconds > 0
    network(x[:, :2])
    network.advance(x, record_spikes=True)
    assert len(compiled) == 3
    with torch.no_grad():
        network(x)
    assert len(compiled) == 4
    for power in (1, 2, 2):
        network.advance(x, count_power=power)
    assert len(compiled) == 6
    network.eval()(x)
    assert len(compiled) == 6


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of the compiler's own parts
def test_compiled_by_pytorch_for_certain() -> None:
    """PyTorch's own compiler gives the same loss and gradients: input -> conv - norm -> lif -> pool -> fc."""
    graph = Graph(
        {
            "input": Input(shape=(1, 4, 4)),
            "conv": Conv2d(in_channels=1, out_channels=4, kernel=(3, 3), padding=(1, 1)),
            "norm": BatchNorm(channels=4),
            "lif": Lif(),
            "pool": AvgPool2d(kernel=(4, 4), stride=(4, 4)),
            "flat": Flatten(),
            "fc": Linear(in_features=4, out_features=3),
            "output": Output(),
        },
        tuple(
            Edge(a, b)
            for a, b in (
                ("input", "conv"),
                ("conv", "norm"),
                ("norm", "lif"),
                ("lif", "pool"),
                ("pool", "flat"),
                ("flat", "fc"),
                ("fc", "output"),
            )
        ),
    )
    plain, whole = pair(graph)
    whole.whole = WholeNetwork(graph, Plan.of(graph), whole.surrogate)
    x = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (a, left), (b, right) = train_once(plain, x), train_once(whole, x)
    torch.testing.assert_close(b.logits, a.logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(right, left, rtol=1e-9, atol=1e-9)


def test_lower_precision_acts_on_the_trace(graph: Graph) -> None:
    """Under autocast a traced pass multiplies in bfloat16 as an untraced one does."""
    x = torch.randn(STEPS, BATCH, *graph.shapes[graph.input], generator=torch.Generator().manual_seed(2))
    plain, whole = (network.float() for network in pair(graph))
    plain.neurons = "plain"
    low = []
    for network in (plain, whole):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low.append(train_once(network, x)[0].logits)
    torch.testing.assert_close(low[1], low[0], rtol=1e-5, atol=1e-5)
    assert not torch.equal(low[1], pair(graph)[1].float()(x))
