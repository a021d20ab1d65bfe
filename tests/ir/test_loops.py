"""Strongly connected components of a graph with its delayed edges."""

from __future__ import annotations

import itertools
import sys

from hypothesis import given

from snndeploy.ir import Edge, Graph, Input, Lif, Op, Output, components, with_backward
from tests.ir.graphs import classifier, direct
from tests.strategies import Structure, build, structures


def reachable(graph: Graph) -> dict[str, set[str]]:
    """What each op leads to along one or more edges, by plain iteration to a fixed point."""
    found = {name: {e.target for e in graph.outgoing[name]} for name in graph.ops}
    while True:
        wider = {name: ends.union(*(found[end] for end in ends)) for name, ends in found.items()}
        if wider == found:
            return found
        found = wider


def test_a_chain_has_no_loops() -> None:
    """Each op of a feed-forward network is a component of its own, in order."""
    graph = classifier()
    found = components(graph)
    assert [c.ops for c in found] == [(name,) for name in graph.order]
    assert not any(c.is_loop for c in found)


def test_self_loop() -> None:
    """Graph: in -> a -> b -> out and b -(1)-> b: only b is stepped."""
    assert [c.ops for c in components(direct("in a b out", "b ~1 b")) if c.is_loop] == [("b",)]


def test_backward_connection_makes_a_loop_of_everything_between() -> None:
    """A connection from lif2 to lif1 of the classifier: the readout and the first conv stay outside."""
    found = components(with_backward(classifier(), 1, 0))
    assert [c.ops for c in found if not c.is_loop] == [("input",), ("conv",), ("readout",), ("output",)]
    (loop,) = (c for c in found if c.is_loop)
    assert set(loop.ops) == {
        "lif1",
        "flatten",
        "fc",
        "lif2",
        "back1_0.conv",
        "back1_0.norm",
        "back1_0.upsample",
    }


def test_a_delayed_edge_without_a_cycle_is_no_loop() -> None:
    """Graph: in -> a -> b -> out and a -(2)-> b."""
    assert not any(c.is_loop for c in components(direct("in a b out", "a ~2 b")))


def test_two_loops_that_overlap_are_one() -> None:
    """Graph: in -> a -> b -> c -> d -> out, c -(1)-> a, d -(1)-> b; with e before and f behind."""
    graph = direct("in e a b c d f out", "c ~1 a", "d ~1 b")
    assert [c.ops for c in components(graph) if c.is_loop] == [("a", "b", "c", "d")]
    apart = direct("in e a b c d f out", "b ~1 a", "d ~1 c")
    assert [c.ops for c in components(apart) if c.is_loop] == [("a", "b"), ("c", "d")]


def test_deep_graphs_need_no_deep_stack() -> None:
    """A chain far longer than Python's recursion limit, closed by one loop."""
    count = sys.getrecursionlimit() * 3
    ops: dict[str, Op] = {"in": Input(shape=(1,)), **{f"l{i}": Lif() for i in range(count)}, "out": Output()}
    names = list(ops)
    forward = [Edge(a, b) for a, b in itertools.pairwise(names)]
    found = components(Graph(ops, (*forward, Edge(names[-2], "l0", 1))))
    assert [len(c.ops) for c in found if c.is_loop] == [count]


@given(structures())
def test_components_are_what_reaches_each_other(structure: Structure) -> None:
    """Two ops are in one component exactly if each leads to the other; components come in order."""
    graph = build(structure)
    ends = reachable(graph)
    found = components(graph)
    home = {name: index for index, c in enumerate(found) for name in c.ops}
    assert sorted(home) == sorted(graph.ops), "each op is in one component"
    for a in graph.ops:
        for b in graph.ops:
            assert (home[a] == home[b]) == (a == b or (b in ends[a] and a in ends[b])), (a, b)
    for c in found:
        assert c.is_loop == any(name in ends[name] for name in c.ops)
        assert list(c.ops) == [name for name in graph.order if name in c.ops]
    assert all(home[e.source] <= home[e.target] for e in graph.edges), "after what it depends on"
