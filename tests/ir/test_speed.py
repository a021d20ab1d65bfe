"""What backward connections cost in machine steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snndeploy.backbones import resnet18
from snndeploy.ir import Graph, backward_connections, schedule, with_backward
from snndeploy.ir.speed import BackwardCost, Speed, backward_costs, speed
from tests.ir.graphs import direct
from tests.ir.tangles import tangles


@given(tangles(), st.integers(4, 9))
def test_speed_is_that_of_the_schedule(graph: Graph, steps: int) -> None:
    """Of a graph as it is, and of the same graph without each of its connections."""
    found = schedule(graph)
    own = speed(graph, steps)
    assert own == Speed(
        found.initiation_interval, found.machine_steps(steps), found.machine_steps_per_sample(steps)
    )
    costs = backward_costs(graph, steps)
    assert tuple(c.connection for c in costs) == backward_connections(graph)
    for cost in costs:
        assert cost.without.initiation_interval <= own.initiation_interval
        assert cost.alone.initiation_interval <= own.initiation_interval
        assert cost.without.machine_steps <= own.machine_steps
        assert cost.without.machine_steps_per_sample <= own.machine_steps_per_sample


def test_costs_by_hand() -> None:
    """Graph: in -> a -> b -> c -> out, c -(1)-> a sets the interval, b -(1)-> b costs nothing."""
    long, own = backward_costs(direct("in a b c out", "c ~1 a", "b ~1 b"), 4)
    none, loop, both = Speed(1, 8, 4), Speed(1, 8, 5), Speed(3, 14, 15)
    assert (long.without, long.alone) == (loop, both)
    assert (own.without, own.alone) == (both, loop)
    graph = direct("in a b c out", "c ~1 a")
    assert backward_costs(graph, 4) == (BackwardCost(backward_connections(graph)[0], none, both),)
    assert backward_costs(direct("in a out"), 4) == ()


@pytest.mark.parametrize(
    ("span", "interval", "machine_steps"),
    [(0, 1, 22), (1, 2, 25), (2, 3, 28), (4, 5, 34), (8, 9, 46), (16, 17, 70)],
)
def test_resnet18(span: int, interval: int, machine_steps: int) -> None:
    """One connection over some span of ResNet-18, from every port that has it, T = 4."""
    graph = resnet18((3, 32, 32), 10)
    for target in range(17 - span):
        found = speed(with_backward(graph, target + span, target), 4)
        assert found == Speed(interval, machine_steps, 5 * interval)
