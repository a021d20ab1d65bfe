"""Backward connections: what branch each pair of layers gets, and how many architectures there are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from snndeploy.errors import GraphError
from snndeploy.ir import (
    BackwardConnection,
    BatchNorm,
    Conv2d,
    Edge,
    Flatten,
    Graph,
    Input,
    InputSpec,
    Lif,
    Linear,
    Network,
    Op,
    Output,
    Upsample,
    architectures,
    backward_connections,
    fold,
    parameter_shapes,
    possible_connections,
    run,
    with_backward,
)
from tests.ir.graphs import classifier, conv, direct, linear, wired
from tests.strategies import Structure, build, structures


def mixed() -> Graph:
    """Maps of two resolutions, then vectors.

    in (1 x 8 x 6) -> c0 -> l0 (2 x 8 x 6) -> c1 -> l1 (4 x 4 x 3) -> flat -> fc2 -> l2 (5) -> fc3 -> l3 (5)
    -> fc -> out
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(1, 8, 6)),
        "c0": conv(1, 2),
        "l0": Lif(),
        "c1": conv(2, 4, stride=2),
        "l1": Lif(),
        "flat": Flatten(),
        "fc2": linear(48, 5),
        "l2": Lif(),
        "fc3": linear(5, 5),
        "l3": Lif(),
        "fc": linear(5, 3),
        "out": Output(),
    }
    return wired(ops, " ".join(ops))


CONV = Conv2d(in_channels=4, out_channels=2, kernel=(1, 1))


@pytest.mark.parametrize(
    ("source", "target", "branch"),
    [
        (0, 0, [Conv2d(in_channels=2, out_channels=2, kernel=(1, 1)), BatchNorm(channels=2)]),
        (1, 0, [CONV, BatchNorm(channels=2), Upsample(size=(8, 6))]),
        (1, 1, [Conv2d(in_channels=4, out_channels=4, kernel=(1, 1)), BatchNorm(channels=4)]),
        (2, 0, [linear(5, 2), BatchNorm(channels=2), Upsample(size=(8, 6))]),
        (3, 1, [linear(5, 4), BatchNorm(channels=4), Upsample(size=(4, 3))]),
        (3, 2, [linear(5, 5), BatchNorm(channels=5)]),
    ],
)
def test_branch_for_every_kind_of_pair(source: int, target: int, branch: list[Op]) -> None:
    """1x1 convolution (a Linear on vectors), BatchNorm, and Upsample where the resolutions differ."""
    graph = mixed()
    changed = with_backward(graph, source, target, delay=2)
    added = [name for name in changed.ops if name not in graph.ops]
    assert [changed.ops[name] for name in added] == branch
    path = [graph.ports[source], *added, graph.ports[target]]
    delays = [2] + [0] * len(added)
    assert changed.edges[len(graph.edges) :] == tuple(map(Edge, path, path[1:], delays))
    assert changed.edges[: len(graph.edges)] == graph.edges
    assert backward_connections(changed) == (BackwardConnection(source, target, 2),)


def test_branch_from_a_map_to_a_vector() -> None:
    """A map behind a vector is read at its first pixel and flattened.

    in (2) -> l0 -> up (2 x 2 x 2) -> l1 -> flat -> fc -> out, and l1 -> l0
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(2,)),
        "l0": Lif(),
        "up": Upsample(size=(2, 2)),
        "l1": Lif(),
        "flat": Flatten(),
        "fc": linear(8, 2),
        "out": Output(),
    }
    changed = with_backward(wired(ops, " ".join(ops)), 1, 0)
    assert [type(changed.ops[n]) for n in changed.ops if n.startswith("back")] == [
        Conv2d,
        BatchNorm,
        Upsample,
        Flatten,
    ]
    assert changed.shapes["back1_0.flatten"] == (2,)


def test_upsampling_after_the_convolution_is_upsampling_before_it() -> None:
    """The branch gives what a 1x1 convolution of the upsampled spikes would, at less cost.

    in (2 x 1 x 1) -> l0 -> up (3 x 3) -> l1 -> flat -> out, once as up -> conv -> l1, once as conv -> up -> l1
    """
    weight = np.random.default_rng(0).normal(size=(2, 2, 1, 1))
    ops: dict[str, Op] = {
        "in": Input(shape=(2, 1, 1)),
        "l0": Lif(threshold=0.1),
        "up": Upsample(size=(3, 3)),
        "conv": Conv2d(in_channels=2, out_channels=2, kernel=(1, 1)),
        "l1": Lif(),
        "flat": Flatten(),
        "out": Output(),
    }
    x = np.array([0.0, 0.05, 0.2, 0.9]).reshape(2, 2, 1, 1)
    traces = [
        run(
            Network(graph=wired(ops, path), weights={"conv.weight": weight}, steps=3, input=InputSpec()),
            x,
            potentials=True,
        )
        for path in ("in l0 up conv l1 flat out", "in l0 conv up l1 flat out")
    ]
    assert (traces[0].potentials["l1"] == traces[1].potentials["l1"]).all()
    assert traces[0].potentials["l1"].any()


def test_the_same_connection_twice_is_refused() -> None:
    """Also after folding, when its BatchNorm is gone; another delay is another connection."""
    graph = with_backward(mixed(), 2, 0)
    with pytest.raises(GraphError, match="backward connection 2:0: is in the graph already"):
        with_backward(graph, 2, 0)
    weights = {name: np.ones(shape) for name, shape in parameter_shapes(graph).items()}
    folded = fold(Network(graph=graph, weights=weights, steps=4))
    with pytest.raises(GraphError, match="is in the graph already"):
        with_backward(folded.graph, 2, 0)
    both = with_backward(folded.graph, 2, 0, delay=2)
    assert backward_connections(both) == (BackwardConnection(2, 0, 1), BackwardConnection(2, 0, 2))


def test_names_taken_by_other_ops_are_not_overwritten() -> None:
    """Graph: in -> l0 -> back0_0.norm (a Linear) -> l1 -> out: the branch may not replace it."""
    ops: dict[str, Op] = {
        "in": Input(shape=(2,)),
        "l0": Lif(),
        "back0_0.norm": linear(2, 2),
        "l1": Lif(),
        "out": Output(),
    }
    with pytest.raises(GraphError, match=r"already, got back0_0.norm"):
        with_backward(wired(ops, " ".join(ops)), 0, 0)


def test_connections_built_by_hand_are_found() -> None:
    """Graph: in -> a -> b -> c -> out, c -(1)-> a, b -(3)-> b, a -(1)-> c: the last is no backward one."""
    graph = direct("in a b c out", "c ~1 a", "b ~3 b", "a ~1 c")
    assert backward_connections(graph) == (BackwardConnection(2, 0, 1), BackwardConnection(1, 1, 3))
    assert backward_connections(classifier()) == ()


@given(structures())
def test_the_order_of_adding_does_not_matter_to_what_is_found(structure: Structure) -> None:
    """Whatever was added is found again, by target port."""
    graph = build(structure)
    expected = sorted(set(structure.backward), key=lambda c: (c[1], graph.ports[c[0]], c[2]))
    found = [(c.source, c.target, c.delay) for c in backward_connections(graph)]
    assert found == expected
    bare = build(replace(structure, backward=()))
    for j, i, delay in reversed(expected):
        bare = with_backward(bare, j, i, delay)
    assert set(backward_connections(bare)) == set(backward_connections(graph))


@pytest.mark.parametrize(
    ("ports", "possible", "counts"), [(1, 1, [1, 2, 2]), (2, 3, [1, 4, 7]), (4, 10, [1, 11, 56])]
)
def test_number_of_architectures(ports: int, possible: int, counts: list[int]) -> None:
    """The m(m + 1) / 2 pairs, and the sets of at most 0, 1 and 2 of them."""
    names = [f"l{i}" for i in range(ports)]
    graph = direct(" ".join(["in", *names, "out"]))
    assert possible_connections(graph) == possible
    assert [architectures(graph, most) for most in range(3)] == counts
    assert len([(j, i) for j in range(ports) for i in range(j + 1)]) == possible


def test_a_linear_branch_has_no_bias_of_its_own() -> None:
    """The BatchNorm that follows has one."""
    changed = with_backward(mixed(), 3, 0)
    branch = changed.ops["back3_0.conv"]
    assert isinstance(branch, Linear)
    assert not branch.bias
