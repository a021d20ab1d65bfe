"""Backward connections (BCs): spikes of a later LIF layer fed to an earlier one, a time step later."""

from __future__ import annotations

import math
from dataclasses import dataclass

from snndeploy.errors import GraphError
from snndeploy.ir.graph import Edge, Graph
from snndeploy.ir.ops import BatchNorm, Conv2d, Flatten, Linear, Op, Upsample
from snndeploy.ir.populations import synapses


@dataclass(frozen=True, order=True, slots=True)
class BackwardConnection:
    """Spikes of port `source` enter port `target`, `delay` logical time steps later; target <= source."""

    source: int
    target: int
    delay: int = 1


def with_backward(graph: Graph, source_port: int, target_port: int, delay: int = 1) -> Graph:
    """The graph with one more backward connection.

    The branch is 1x1 convolution -> BatchNorm -> nearest-neighbour Upsample to the target's resolution,
    summed into the target. A LIF after a fully connected layer counts as (channels, 1, 1), for which a 1x1
    convolution is a Linear.

    Args:
        graph: Any graph.
        source_port: Port j whose spikes are fed back.
        target_port: Port i <= j that receives them.
        delay: Logical time steps, at least 1.

    Raises:
        GraphError: No such ports, a connection that is not backward, or one the graph already has.
    """
    ports = graph.ports
    where = f"backward connection {source_port}:{target_port}"
    for port in (source_port, target_port):
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < len(ports):
            raise GraphError(where, f"ports are numbered 0 to {len(ports) - 1}", got=port)
    if target_port > source_port:
        raise GraphError(
            where,
            "must lead from a later (or the same) port to an earlier one",
            remedy=f"did you mean {target_port}:{source_port}?",
        )
    if isinstance(delay, bool) or not isinstance(delay, int) or delay < 1:
        raise GraphError(where, "delay must be a whole number of at least 1", got=delay)
    source, target = ports[source_port], ports[target_port]
    stem = f"back{source_port}_{target_port}" + (f"d{delay}" if delay > 1 else "")
    branch = _branch(graph, source, target, stem)
    if taken := [name for name in branch if name in graph.ops]:
        raise GraphError(where, "is in the graph already", got=taken[0])
    names = list(branch)
    edges = [Edge(source, names[0], delay)]
    edges += [Edge(a, b) for a, b in zip(names, [*names[1:], target], strict=True)]
    ops: dict[str, Op] = {}
    for name, op in graph.ops.items():
        if name == target:
            ops |= branch  # just before its target, so that the ports keep their numbers
        ops[name] = op
    return Graph(ops, (*graph.edges, *edges))


def _branch(graph: Graph, source: str, target: str, stem: str) -> dict[str, Op]:
    """The ops of a backward connection, in order."""
    start, end = graph.shapes[source], graph.shapes[target]
    channels = end[0]
    branch: dict[str, Op] = {}
    if len(start) == 1:
        branch[f"{stem}.conv"] = Linear(in_features=start[0], out_features=channels)
    else:
        branch[f"{stem}.conv"] = Conv2d(in_channels=start[0], out_channels=channels, kernel=(1, 1))
    branch[f"{stem}.norm"] = BatchNorm(channels=channels)
    size = (end[1], end[2]) if len(end) == 3 else (1, 1)
    if start[1:] != end[1:]:
        branch[f"{stem}.upsample"] = Upsample(size=size)
        if len(end) == 1:
            branch[f"{stem}.flatten"] = Flatten()
    return branch


def backward_connections(graph: Graph) -> tuple[BackwardConnection, ...]:
    """The backward connections a graph has, by target port, however they were built."""
    number = {name: port for port, name in enumerate(graph.ports)}
    return tuple(
        BackwardConnection(number[s.source], number[s.target], s.delay)
        for s in synapses(graph)
        if s.delay and s.source in number and s.target in number and number[s.target] <= number[s.source]
    )


def possible_connections(graph: Graph) -> int:
    """Number of possible backward connections of one delay: m(m + 1) / 2 for m ports.

    Source: BCNAS-SNN, section 4.1.
    """
    ports = len(graph.ports)
    return ports * (ports + 1) // 2


def architectures(graph: Graph, most: int = 2) -> int:
    """Number of architectures with at most `most` backward connections, the one without included."""
    possible = possible_connections(graph)
    return sum(math.comb(possible, count) for count in range(most + 1))
