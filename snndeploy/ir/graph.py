"""The structure of a network: a small frozen value that every stage is a function of."""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType
from typing import get_args

from snndeploy.errors import GraphError
from snndeploy.ir.ops import BatchNorm, Dropout, Input, Lif, Op, Output, Shape
from snndeploy.ir.shapes import output_shape

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_LONGEST_DELAY = 100_000


@dataclass(frozen=True, slots=True)
class Edge:
    """Values of `source` enter `target`, `delay` logical time steps later."""

    source: str
    target: str
    delay: int = 0

    def __str__(self) -> str:
        after = f" (delay {self.delay})" if self.delay else ""
        return f"{self.source} -> {self.target}{after}"


@dataclass(frozen=True, eq=False)
class Graph:
    """Ops by name and the edges between them. Several edges into one op are summed.

    The order of `ops` breaks ties in the order of execution, and so numbers the ports. An invalid graph
    cannot exist: construction raises GraphError, which says what is wrong and how to mend it.

    Example:
        >>> from snndeploy.ir import Edge, Graph, Input, Lif, Linear, Output
        >>> graph = Graph(
        ...     {"input": Input(shape=(2,)), "fc": Linear(in_features=2, out_features=3),
        ...      "lif": Lif(), "output": Output()},
        ...     (Edge("input", "fc"), Edge("fc", "lif"), Edge("lif", "output")),
        ... )
        >>> graph.shapes["output"], graph.ports
        ((3,), ('lif',))
    """

    ops: Mapping[str, Op]
    edges: tuple[Edge, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "ops", MappingProxyType(dict(self.ops)))
        object.__setattr__(self, "edges", tuple(self.edges))
        _check_ops(self)
        _check_edges(self)
        _check_ends(self)
        _ = self.order
        _check_reach(self)
        _ = self.shapes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        return tuple(self.ops.items()) == tuple(other.ops.items()) and self.edges == other.edges

    def __hash__(self) -> int:
        return hash((tuple(self.ops.items()), self.edges))

    def __reduce__(self) -> tuple[type[Graph], tuple[dict[str, Op], tuple[Edge, ...]]]:
        return Graph, (dict(self.ops), self.edges)

    @cached_property
    def incoming(self) -> Mapping[str, tuple[Edge, ...]]:
        """Edges into each op, in the order of `edges` (which is the order of summation)."""
        found: dict[str, list[Edge]] = {name: [] for name in self.ops}
        for edge in self.edges:
            found[edge.target].append(edge)
        return MappingProxyType({name: tuple(edges) for name, edges in found.items()})

    @cached_property
    def outgoing(self) -> Mapping[str, tuple[Edge, ...]]:
        """Edges out of each op, in the order of `edges`."""
        found: dict[str, list[Edge]] = {name: [] for name in self.ops}
        for edge in self.edges:
            found[edge.source].append(edge)
        return MappingProxyType({name: tuple(edges) for name, edges in found.items()})

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Names in the order one time step computes them; delayed edges do not constrain it."""
        return _order(self)

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of every op's output, without time and batch."""
        return MappingProxyType(_shapes(self))

    @cached_property
    def ports(self) -> tuple[str, ...]:
        """Names of the LIF layers, numbered from the input."""
        return tuple(name for name in self.order if isinstance(self.ops[name], Lif))

    @cached_property
    def input(self) -> str:
        """Name of the one Input."""
        return next(name for name, op in self.ops.items() if isinstance(op, Input))

    @cached_property
    def output(self) -> str:
        """Name of the one Output."""
        return next(name for name, op in self.ops.items() if isinstance(op, Output))

    @property
    def largest_delay(self) -> int:
        """The largest delay of any edge, in logical time steps."""
        return max((edge.delay for edge in self.edges), default=0)

    @property
    def training_only(self) -> tuple[str, ...]:
        """Names of ops that exist only while training and that `fold` removes."""
        return tuple(n for n in self.order if isinstance(self.ops[n], (BatchNorm, Dropout)))


def _check_ops(graph: Graph) -> None:
    for name, op in graph.ops.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise GraphError(
                f"op {name!r}",
                "a name must be 1 to 100 letters, digits, '_', '.' or '-', the first a letter or digit",
                remedy="rename it",
            )
        if not isinstance(op, get_args(Op)):
            raise GraphError(
                name,
                "must be one of the ops",
                got=repr(op),
                remedy=f"known are {', '.join(kind.__name__ for kind in get_args(Op))}",
            )


def _check_edges(graph: Graph) -> None:
    for edge in graph.edges:
        if not isinstance(edge, Edge):
            raise GraphError(
                "edges", "each must be an Edge", got=repr(edge), remedy="use Edge(source, target)"
            )
        for end in (edge.source, edge.target):
            if end not in graph.ops:
                close = get_close_matches(str(end), graph.ops, n=3)
                raise GraphError(
                    f"edge {edge}",
                    f"names {end!r}, which is no op",
                    remedy=f"did you mean {' or '.join(close)}?" if close else "add the op or drop the edge",
                )
        whole = isinstance(edge.delay, int) and not isinstance(edge.delay, bool)
        if not whole or not 0 <= edge.delay <= _LONGEST_DELAY:
            raise GraphError(
                f"edge {edge}",
                f"delay must be a whole number in [0, {_LONGEST_DELAY}]",
                got=repr(edge.delay),
                remedy="give it in logical time steps",
            )
        if edge.delay and not isinstance(graph.ops[edge.source], (Lif, Input)):
            raise GraphError(
                f"edge {edge}",
                "only spikes and inputs can be delayed, so a delayed edge must leave a Lif or the Input",
                got=type(graph.ops[edge.source]).__name__,
                remedy="move the delay to the edge that leaves the Lif",
            )


def _check_ends(graph: Graph) -> None:
    for kind in (Input, Output):
        found = [name for name, op in graph.ops.items() if isinstance(op, kind)]
        if len(found) != 1:
            raise GraphError(
                "graph",
                f"needs exactly one {kind.__name__}",
                got=", ".join(found) or "none",
                remedy="add or drop one",
            )
    for name, op in graph.ops.items():
        if isinstance(op, Input) and graph.incoming[name]:
            raise GraphError(
                name, "nothing may enter the Input", got=str(graph.incoming[name][0]), remedy="drop that edge"
            )
        if isinstance(op, Output) and graph.outgoing[name]:
            raise GraphError(
                name,
                "nothing may leave the Output",
                got=str(graph.outgoing[name][0]),
                remedy="drop that edge",
            )


def _order(graph: Graph) -> tuple[str, ...]:
    place = {name: index for index, name in enumerate(graph.ops)}
    before = {name: [e.source for e in graph.incoming[name] if e.delay == 0] for name in graph.ops}
    sorter = TopologicalSorter(before)
    try:
        sorter.prepare()
    except CycleError as error:
        raise GraphError(
            f"cycle {' -> '.join(error.args[1])}",
            "a cycle needs at least one delayed edge",
            remedy="give the backward edge delay >= 1",
        ) from None
    names: list[str] = []
    ready: list[tuple[int, str]] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heapq.heappush(ready, (place[name], name))
        _, name = heapq.heappop(ready)
        names.append(name)
        sorter.done(name)
    return tuple(names)


def _reached(graph: Graph, start: str, *, forwards: bool) -> set[str]:
    seen, waiting = {start}, [start]
    while waiting:
        name = waiting.pop()
        edges = graph.outgoing[name] if forwards else graph.incoming[name]
        fresh = {e.target if forwards else e.source for e in edges} - seen
        seen |= fresh
        waiting.extend(fresh)
    return seen


def _check_reach(graph: Graph) -> None:
    from_input = _reached(graph, graph.input, forwards=True)
    to_output = _reached(graph, graph.output, forwards=False)
    for name in graph.ops:
        if name not in from_input:
            raise GraphError(name, "must be reachable from the Input", remedy="connect it or drop it")
        if name not in to_output:
            raise GraphError(name, "must lead to the Output", remedy="connect it or drop it")


def _shapes(graph: Graph) -> dict[str, Shape]:
    """Spreads shapes from the Input along all edges, each op after those it depends on in one time step.

    So a sum whose shapes disagree is named itself, and not an op further on that cannot take the result.
    """
    place = {name: index for index, name in enumerate(graph.order)}
    shapes: dict[str, Shape] = {}
    waiting = [(place[graph.input], graph.input)]
    seen = {graph.input}
    while waiting:
        _, name = heapq.heappop(waiting)
        shapes[name] = output_shape(name, graph.ops[name], _entering(graph, name, shapes))
        for edge in graph.outgoing[name]:
            if edge.target not in seen:
                seen.add(edge.target)
                heapq.heappush(waiting, (place[edge.target], edge.target))
    for name in graph.order:
        _entering(graph, name, shapes)
    return shapes


def _entering(graph: Graph, name: str, shapes: Mapping[str, Shape]) -> Shape:
    """The shape of what enters an op, as far as its sources' shapes are known; () for the Input."""
    known = [edge for edge in graph.incoming[name] if edge.source in shapes]
    if len({shapes[edge.source] for edge in known}) > 1:
        raise GraphError(
            name,
            "edges into one op are summed, so their shapes must be equal",
            got=", ".join(f"{edge.source} gives {shapes[edge.source]}" for edge in known),
            remedy="put a Conv2d, Upsample or Linear on one of them",
        )
    return shapes[known[0].source] if known else ()
