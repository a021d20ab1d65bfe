"""How many machine steps a network takes, and what each of its backward connections (BCs) adds to them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from snndeploy.ir.backward import BackwardConnection, backward_connections
from snndeploy.ir.graph import Graph
from snndeploy.ir.populations import Synapse, populations, synapses
from snndeploy.ir.timing import fastest


@dataclass(frozen=True)
class Speed:
    """At the smallest initiation interval.

    initiation_interval: Machine steps between two logical steps (II).
    machine_steps: From the first input of a sample to its logits.
    machine_steps_per_sample: Between two samples that are streamed back to back, the gap included.
    """

    initiation_interval: int
    machine_steps: int
    machine_steps_per_sample: int


@dataclass(frozen=True)
class BackwardCost:
    """What one BC costs.

    connection: The BC.
    without: Speed of the graph with all its other BCs.
    alone: Speed of the graph with this BC and no other.
    """

    connection: BackwardConnection
    without: Speed
    alone: Speed


def speed(graph: Graph, steps: int, without: Collection[BackwardConnection] = ()) -> Speed:
    """Speed of a graph, for samples of `steps` logical time steps.

    Args:
        graph: Any graph.
        steps: Logical time steps T.
        without: BCs to leave out, as `backward_connections` gives them.
    """
    ports = graph.ports
    left_out = {Synapse(ports[c.source], ports[c.target], c.delay) for c in without}
    edges = tuple(s for s in synapses(graph) if s not in left_out)
    interval, start = fastest(populations(graph), edges)
    gap = max((s.delay for s in edges), default=0)
    return Speed(interval, (steps - 1) * interval + start[graph.output] + 1, (steps + gap) * interval)


def backward_costs(graph: Graph, steps: int) -> tuple[BackwardCost, ...]:
    """What each BC of a graph costs, by target port.

    BCs may share what they cost: where two need the same interval, neither is cheaper to leave out alone.
    """
    connections = backward_connections(graph)
    return tuple(
        BackwardCost(
            connection,
            without=speed(graph, steps, [connection]),
            alone=speed(graph, steps, [c for c in connections if c != connection]),
        )
        for connection in connections
    )
