"""Small graphs with many loops, and all cycles of a graph."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hypothesis import assume
from hypothesis import strategies as st

from snndeploy.ir import Edge, Graph, Input, Lif, Op, Output, Synapse


def simple_cycles(edges: tuple[Synapse, ...]) -> Iterator[tuple[Synapse, ...]]:
    """Every simple cycle of a small multigraph, once for each of its populations."""

    def walk(path: tuple[Synapse, ...]) -> Iterator[tuple[Synapse, ...]]:
        if path[-1].target == path[0].source:
            yield path
            return
        for s in edges:
            if s.source == path[-1].target and s.target not in {p.source for p in path[1:]}:
                yield from walk((*path, s))

    for s in edges:
        yield from walk((s,))


def needed(cycle: tuple[Synapse, ...]) -> int:
    """The interval a cycle needs: ceil(synapses / total delay)."""
    return math.ceil(len(cycle) / sum(s.delay for s in cycle))


@st.composite
def tangles(draw: st.DrawFn) -> Graph:
    """A few Lifs of one neuron in a chain, with random skips forwards and delayed edges anywhere."""
    count = draw(st.integers(1, 5))
    names = ["in", *(f"l{i}" for i in range(count)), "out"]
    ops: dict[str, Op] = {
        "in": Input(shape=(1,)),
        **{n: Lif(threshold=0.5) for n in names[1:-1]},
        "out": Output(),
    }
    found: dict[Edge, None] = dict.fromkeys(map(Edge, names, names[1:]))
    for _ in range(draw(st.integers(0, 3))):
        source = draw(st.integers(0, count))
        found[Edge(names[source], names[draw(st.integers(source + 1, count + 1))])] = None
    for _ in range(draw(st.integers(0, 4))):
        source, target = draw(st.integers(1, count)), draw(st.integers(1, count + 1))
        found[Edge(names[source], names[target], draw(st.integers(1, 3)))] = None
    if count > 1 and draw(st.booleans()):  # a population that leads to the Output through delayed edges only
        last = names[-2]
        found = {e: None for e in found if e.source != last}
        found[Edge(names[-3], "out")] = None
        found[Edge(last, names[draw(st.integers(1, count))], draw(st.integers(1, 3)))] = None
        assume(any(e.source == last and e.target != last for e in found))
    return Graph(ops, tuple(found))
