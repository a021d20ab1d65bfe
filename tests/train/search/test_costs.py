"""Costs of architectures: those of the built graph, and energy by hand."""

from __future__ import annotations

import numpy as np
import pytest

from snndeploy.backbones import backbone
from snndeploy.errors import NetworkError
from snndeploy.ir import Edge, Graph, Input, Lif, Linear, Output, parameter_count, schedule
from snndeploy.train.search.config import SpaceConfig
from snndeploy.train.search.costs import costs, estimated_energy_pj
from snndeploy.train.search.space import Space, parse


@pytest.mark.parametrize("name", ["resnet6", "resnet19", "resnet18_preact"])
@pytest.mark.parametrize("delay", ["one", "pipelined"])
def test_model_agrees_with_graphs(name: str, delay: str) -> None:
    """What is added up without building a graph is what the graph costs."""
    shape = (1, 8, 8) if name == "resnet6" else (3, 32, 32)
    space = Space.of(backbone(name, shape, 10), SpaceConfig(most=4, delay=delay), 12)
    for architecture in [(), *space.sample(np.random.default_rng(0), 12)]:
        assert space.costs(architecture) == costs(space.graph(architecture), 12)


def test_costs_by_hand() -> None:
    """Five ports and the output: 6 synapses in a row; the loop 4 -> 0 holds 5 synapses and one delay."""
    space = Space.of(backbone("resnet6", (1, 8, 8), 10), SpaceConfig(), 4)
    plain, looped = space.costs(()), space.costs(parse("4:0"))
    assert (plain.interval, plain.machine_steps) == (1, 3 + 6 + 1)
    assert (looped.interval, looped.machine_steps) == (5, 3 * 5 + 6 + 1)
    # 32 channels to 16: a 1x1 convolution without bias and a BatchNorm; each spike of 4x4 reaches 2x2 places.
    assert looped.parameters - plain.parameters == 32 * 16 + 2 * 16
    assert looped.psi_total - plain.psi_total == 32 * 4 * 4 * (16 * 2 * 2)
    graph = space.graph(parse("4:0"))
    assert looped.parameters == parameter_count(graph)
    assert looped.machine_steps == schedule(graph).machine_steps(4)


def test_energy_by_hand() -> None:
    """Two neurons drive 3 synapses each, three drive one each: 0.9 pJ for every synaptic operation."""
    graph = Graph(
        {
            "input": Input(shape=(2,)),
            "a": Lif(),
            "fc": Linear(in_features=2, out_features=3),
            "b": Lif(),
            "output": Output(),
        },
        (Edge("input", "a"), Edge("a", "fc"), Edge("fc", "b"), Edge("b", "output")),
    )
    spikes = {"a": np.array([1.0, 2.5]), "b": np.array([4, 0, 1])}
    assert estimated_energy_pj(graph, spikes) == pytest.approx(0.9 * (3.5 * 3 + 5))
    with pytest.raises(NetworkError, match=r"b: spikes must have shape \(3,\), got nothing"):
        estimated_energy_pj(graph, {"a": spikes["a"]})
    with pytest.raises(NetworkError, match=r"a: spikes must have shape \(2,\), got \(3,\)"):
        estimated_energy_pj(graph, {**spikes, "a": np.zeros(3)})
