"""Populations and the synapses composed of everything between them."""

from __future__ import annotations

from hypothesis import given

from snndeploy.ir import (
    AvgPool2d,
    Flatten,
    Graph,
    Input,
    Lif,
    Op,
    Output,
    Synapse,
    arrivals,
    is_population,
    populations,
    synapses,
    upstream,
    with_backward,
)
from tests.ir.graphs import classifier, conv, direct, linear, wired
from tests.strategies import Structure, build, structures


def paths(graph: Graph, name: str, delay: int = 0) -> set[tuple[str, str, int]]:
    """(population, target, total delay) of every path into an op, found by walking back edge by edge."""
    found = set()
    for edge in graph.edges:
        if edge.target == name:
            if isinstance(graph.ops[edge.source], (Input, Lif)):
                found.add((edge.source, name, delay + edge.delay))
            else:
                found |= {(s, name, d) for s, _, d in paths(graph, edge.source, delay + edge.delay)}
    return found


def residual() -> Graph:
    """A residual block with a pooled projection, a backward connection and a skip of two delays.

    in -> c1 -> l1 -> c2 -> l2 -> pool -> flat -> fc -> out
    l1 -> l2, l2 -(1)-> back -> l1, in -(1)-> c1, in -> skip -> l2
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(1, 4, 4)),
        "c1": conv(1, 2),
        "back": conv(2, 2, 1),
        "l1": Lif(),
        "c2": conv(2, 2),
        "skip": conv(1, 2, 1),
        "l2": Lif(),
        "pool": AvgPool2d(kernel=(2, 2), stride=(2, 2)),
        "flat": Flatten(),
        "fc": linear(8, 3),
        "out": Output(),
    }
    return wired(
        ops, "in c1 l1 c2 l2 pool flat fc out", "l1 l2", "l2 ~1 back l1", "in ~1 c1", "in skip l2", "l1 ~1 l2"
    )


def test_populations_are_input_lifs_and_output() -> None:
    """In the order of execution, the Input first and the Output last."""
    graph = residual()
    assert populations(graph) == ("in", "l1", "l2", "out")
    assert [name for name in graph.order if is_population(graph, name)] == ["in", "l1", "l2", "out"]


def test_upstream_stops_at_populations() -> None:
    """What makes up the synapses into an op, in order, and nothing beyond the next population."""
    graph = residual()
    assert upstream(graph, "l1") == ("c1", "back") or upstream(graph, "l1") == ("back", "c1")
    assert list(upstream(graph, "l1")) == [n for n in graph.order if n in ("c1", "back")]
    assert set(upstream(graph, "l2")) == {"c2", "skip"}
    assert upstream(graph, "out") == ("pool", "flat", "fc")
    assert upstream(graph, "fc") == ("pool", "flat")
    assert upstream(graph, "in") == ()


def test_paths_of_the_same_delay_are_one_synapse() -> None:
    """The conv and the identity from l1 to l2 are one, the delayed identity is another."""
    graph = residual()
    assert arrivals(graph, "l2") == (("in", 0), ("l1", 0), ("l1", 1))
    assert arrivals(graph, "l1") == (("in", 0), ("in", 1), ("l2", 1))
    assert arrivals(graph, "out") == (("l2", 0),)
    assert synapses(graph) == (
        Synapse("in", "l1", 0),
        Synapse("in", "l1", 1),
        Synapse("l2", "l1", 1),
        Synapse("in", "l2", 0),
        Synapse("l1", "l2", 0),
        Synapse("l1", "l2", 1),
        Synapse("l2", "out", 0),
    )
    assert str(Synapse("l2", "l1", 1)) == "l2 -> l1 (delay 1)"


def test_edges_given_twice_and_self_loops() -> None:
    """Graph: in -> a -> out, in -> a again, a -(1)-> a: a double edge adds no synapse."""
    assert synapses(direct("in a out", "in a", "a ~1 a")) == (
        Synapse("a", "a", 1),
        Synapse("in", "a", 0),
        Synapse("a", "out", 0),
    )


def test_backward_connection_adds_one_synapse() -> None:
    """Convolution, normalisation and upsampling of a branch are composed into one."""
    graph = classifier()
    added = set(synapses(with_backward(graph, 1, 0, delay=2))) - set(synapses(graph))
    assert added == {Synapse("lif2", "lif1", 2)}


@given(structures())
def test_synapses_are_the_paths(structure: Structure) -> None:
    """On random graphs the synapses are exactly the paths between populations."""
    graph = build(structure)
    walked = set().union(*(paths(graph, name) for name in populations(graph)))
    found = synapses(graph)
    assert {(s.source, s.target, s.delay) for s in found} == walked
    assert len(found) == len(set(found))
