"""Networks with delays long enough for one logical step in every machine step."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from typing_extensions import assert_never

from snndeploy.errors import TimingError
from snndeploy.ir.formats import Exact, Float32, Loihi, NumberFormat
from snndeploy.ir.graph import Edge, Graph
from snndeploy.ir.network import Network
from snndeploy.ir.timing import entered, pipelined_delays

_BRANCH = re.compile(r"(back[0-9]+_[0-9]+)(?:d[0-9]+)?\.conv")  # as `with_backward` names it


def pipelined(graph: Graph, steps: int | None = None) -> Graph:
    """The graph with the delays that an initiation interval of 1 needs; see `timing.pipelined_delays`.

    The branches that `with_backward` made are named after their new delays, so that the result is the graph
    which it would make with them. What a network computes changes with its delays: it has to be trained again.

    Args:
        graph: Any graph.
        steps: Logical time steps T, within which every delay must act; None to leave that open.

    Raises:
        TimingError: A delay would be T or more.
    """
    delays = pipelined_delays(graph)
    _check_delays(graph, delays, steps)
    return _delayed(graph, delays, _renamed(graph, delays))


def pipelined_network(network: Network) -> Network:
    """A network with the delays that an initiation interval of 1 needs, and its old weights.

    They were trained for other delays: the result is where to go on training from, not a network to use.

    Raises:
        TimingError: A delay would be T or more.
    """
    delays = pipelined_delays(network.graph)
    _check_delays(network.graph, delays, network.steps)
    renamed = _renamed(network.graph, delays)

    def parameter(name: str) -> str:
        op, _, short = name.rpartition(".")
        return f"{renamed.get(op, op)}.{short}"

    return replace(
        network,
        graph=_delayed(network.graph, delays, renamed),
        weights={parameter(name): array for name, array in network.weights.items()},
        format=_with_names(network.format, {name: parameter(name) for name in network.weights}),
    )


def _check_delays(graph: Graph, delays: Mapping[Edge, int], steps: int | None) -> None:
    for edge, delay in delays.items():
        if steps is not None and delay >= steps:
            raise TimingError(
                _name(graph, edge),
                f"needs a delay of {delay} for an initiation interval of 1, which never acts within T = {steps}",
                remedy=f"use more than {delay} time steps, a connection over fewer layers, or the schedule "
                "'scheduled'",
            )


def _name(graph: Graph, edge: Edge) -> str:
    """The backward connection that an edge makes, or the edge if it makes something else."""
    number = {name: port for port, name in enumerate(graph.ports)}
    source, targets = number.get(edge.source), [number.get(name) for name in entered(graph, edge.target)]
    if source is not None and len(targets) == 1 and targets[0] is not None and targets[0] <= source:
        return f"backward connection {source}:{targets[0]}"
    return f"edge {edge}"


def _renamed(graph: Graph, delays: Mapping[Edge, int]) -> dict[str, str]:
    """New names of the ops of backward connections; empty if any of them is taken."""
    renamed: dict[str, str] = {}
    for edge, delay in delays.items():
        found = _BRANCH.fullmatch(edge.target)
        if found is None or delay == edge.delay:
            continue
        old = edge.target.removesuffix("conv")
        new = found[1] + (f"d{delay}." if delay > 1 else ".")
        renamed |= {name: new + name.removeprefix(old) for name in graph.ops if name.startswith(old)}
    taken = len({renamed.get(name, name) for name in graph.ops}) < len(graph.ops)
    return {} if taken else renamed


def _delayed(graph: Graph, delays: Mapping[Edge, int], renamed: Mapping[str, str]) -> Graph:
    return Graph(
        {renamed.get(name, name): op for name, op in graph.ops.items()},
        tuple(
            Edge(renamed.get(e.source, e.source), renamed.get(e.target, e.target), delays.get(e, e.delay))
            for e in graph.edges
        ),
    )


def _with_names(form: NumberFormat, renamed: Mapping[str, str]) -> NumberFormat:
    match form:
        case Exact() | Loihi():
            return replace(form, exponents={renamed[name]: k for name, k in form.exponents.items()})
        case Float32():
            return form
        case _:
            assert_never(form)
