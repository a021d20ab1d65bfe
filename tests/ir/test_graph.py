"""A graph is a value, and an invalid one cannot exist."""

from __future__ import annotations

import copy
import itertools
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snndeploy.errors import GraphError, NetworkError, SnnDeployError
from snndeploy.ir import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    Edge,
    Flatten,
    Graph,
    Input,
    Lif,
    Linear,
    Op,
    Output,
    Upsample,
    check_steps,
    with_backward,
)
from tests.ir.graphs import classifier, conv, direct, edges, linear, wired
from tests.strategies import build, structures


def chain_ops() -> dict[str, Op]:
    """The ops of in -> a -> b -> out."""
    return {"in": Input(shape=(2,)), "a": Lif(), "b": Lif(), "out": Output()}


def assert_raises(build: Callable[[], Any], where: str, rule: str, remedy: str) -> None:
    """The message names the op or edge, the rule and the remedy."""
    with pytest.raises(GraphError) as caught:
        build()
    error = caught.value
    assert error.where == where
    assert rule in error.rule
    assert remedy in error.remedy
    assert all(part in str(error) for part in (where, rule, remedy))


def test_edge_to_unknown_op() -> None:
    """An edge that names no op is refused, with the closest name."""
    paths = edges("in a b out", "b ~1 aa")
    assert_raises(lambda: Graph(chain_ops(), paths), "edge b -> aa (delay 1)", "'aa'", "did you mean a")
    paths = edges("in a b out", "zebra b")
    assert_raises(
        lambda: Graph(chain_ops(), paths), "edge zebra -> b", "'zebra', which is no op", "drop the edge"
    )


@pytest.mark.parametrize("name", ["", "a b", "-a", ".a", "_a", "é", "a/b", "a" * 101, "a\n", 3])
def test_bad_names(name: Any) -> None:
    """A name that is not plain ASCII, or too long, is refused."""
    ops = {**chain_ops(), name: Lif()}
    assert_raises(lambda: Graph(ops, edges("in a b out")), f"op {name!r}", "letters, digits", "rename")


@pytest.mark.parametrize("op", [None, 3, Lif, "Lif"])
def test_values_that_are_no_op(op: Any) -> None:
    """Only instances of the known ops are ops."""
    assert_raises(
        lambda: Graph({**chain_ops(), "a": op}, edges("in a b out")), "a", "one of the ops", "Conv2d"
    )


def test_values_that_are_no_edge() -> None:
    """Edges are Edge values, not bare tuples."""
    bare: Any = (("in", "a"),)
    assert_raises(lambda: Graph(chain_ops(), bare), "edges", "must be an Edge", "use Edge")


@pytest.mark.parametrize("where", range(3))
def test_zero_delay_cycle_is_named_in_its_direction(where: int) -> None:
    """Graph: in -> a -> b -> c -> d -> out and d -> b: the cycle is spelled along its edges, wherever it starts."""
    names = ["in", "a", "b", "c", "d", "out"]
    ends: dict[str, Op] = {"in": Input(shape=(2,)), "out": Output()}
    rotated = names[where:] + names[:where]
    ops = {name: ends.get(name, Lif()) for name in rotated}
    with pytest.raises(GraphError, match="cycle") as caught:
        Graph(ops, edges("in a b c d out", "d b"))
    loop = caught.value.where.removeprefix("cycle ").split(" -> ")
    assert loop[0] == loop[-1]
    assert sorted(loop[1:]) == ["b", "c", "d"]
    assert set(itertools.pairwise(loop)) == {("b", "c"), ("c", "d"), ("d", "b")}
    assert "delay" in caught.value.rule
    assert "delay >= 1" in caught.value.remedy


def test_zero_delay_self_loop() -> None:
    """An op that feeds itself at once is a cycle of one."""
    assert_raises(lambda: direct("in a out", "a a"), "cycle a -> a", "delayed edge", "delay >= 1")


def test_the_same_cycle_with_a_delay_is_legal() -> None:
    """Graph: in -> a -> b -> c -> out and c -> a one step later."""
    assert direct("in a b c out", "c ~1 a").order == ("in", "a", "b", "c", "out")


@pytest.mark.parametrize("delay", [-1, 1.0, True, "1", None, 10**6, [1]])
def test_bad_delays(delay: Any) -> None:
    """A delay is a whole number of logical steps, not negative and not absurd."""
    bad = (*edges("in a b out"), Edge("b", "a", delay))
    with pytest.raises(GraphError, match="delay must be a whole number in") as caught:
        Graph(chain_ops(), bad)
    assert caught.value.where.startswith("edge b -> a")
    assert caught.value.remedy


def test_delay_behind_an_op_without_spikes() -> None:
    """Graph: in -> fc -> a -> out with a delay on fc -> a: only spikes and inputs are remembered."""
    ops = {**chain_ops(), "fc": linear(2, 2)}
    del ops["b"]
    assert_raises(
        lambda: Graph(ops, edges("in fc ~1 a out")), "edge fc -> a (delay 1)", "only spikes", "leaves the Lif"
    )


def test_the_input_may_be_delayed() -> None:
    """Graph: in -> a -> out and in -> a one step later."""
    assert direct("in a out", "in ~1 a").largest_delay == 1


def test_input_and_output_must_be_one() -> None:
    """Two Inputs, no Output, or neither are refused, and what was found is named."""
    two = {**chain_ops(), "second": Input(shape=(2,))}
    assert_raises(
        lambda: Graph(two, edges("in a b out", "second a")), "graph", "exactly one Input", "drop one"
    )
    with pytest.raises(GraphError, match="in, second"):
        Graph(two, edges("in a b out", "second a"))
    none = {name: op for name, op in chain_ops().items() if name != "out"}
    assert_raises(lambda: Graph(none, edges("in a b")), "graph", "exactly one Output", "add")
    assert_raises(lambda: Graph({}, ()), "graph", "exactly one Input", "add")
    two_ends = {**chain_ops(), "end": Output()}
    assert_raises(
        lambda: Graph(two_ends, edges("in a b out", "a end")), "graph", "exactly one Output", "drop"
    )


def test_nothing_enters_the_input_or_leaves_the_output() -> None:
    """The Input is where samples enter, the Output where they leave, also with a delay."""
    assert_raises(lambda: direct("in a out", "a ~1 in"), "in", "nothing may enter", "drop")
    with pytest.raises(GraphError, match="nothing may leave the Output"):
        direct("in a out b", "b ~1 a")


def test_ops_without_a_way_from_the_input() -> None:
    """An op nothing feeds, and a loop that feeds only itself, are refused."""
    paths = edges("in a out", "b a")
    assert_raises(lambda: Graph(chain_ops(), paths), "b", "reachable from the Input", "drop it")
    loop = edges("in a out", "b ~1 b", "b a")
    assert_raises(lambda: Graph(chain_ops(), loop), "b", "reachable from the Input", "connect it")
    assert_raises(lambda: Graph(chain_ops(), edges("in a out")), "b", "reachable from the Input", "drop it")


def test_ops_that_lead_nowhere() -> None:
    """A dead op, which would cost energy for nothing, is refused."""
    assert_raises(
        lambda: Graph(chain_ops(), edges("in a out", "a b")), "b", "must lead to the Output", "drop it"
    )


def test_shapes_of_a_sum_must_agree() -> None:
    """Graph: in -> a -> fc (2 to 3) -> b and a -> b: the sum is at fault and named."""
    ops = {**chain_ops(), "fc": linear(2, 3)}
    paths = edges("in a fc b out", "a b")
    assert_raises(lambda: Graph(ops, paths), "b", "shapes must be equal", "Linear on one of them")
    with pytest.raises(GraphError, match=r"fc gives \(3,\), a gives \(2,\)"):
        Graph(ops, paths)


def test_a_sum_is_blamed_before_what_follows_it() -> None:
    """A strided block without projection: the add is wrong, though the conv behind it would fail first.

    in -> stem -> l0 -> c1 (stride 2) -> l1 -> c2 -> l2 (add) -> c3 -> l3 -> ... and l0 -> l2
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(2, 8, 8)),
        "stem": conv(2, 2),
        "l0": Lif(),
        "c1": conv(2, 4, stride=2),
        "l1": Lif(),
        "c2": conv(4, 4),
        "l2": Lif(),
        "c3": conv(4, 4),
        "l3": Lif(),
        "flat": Flatten(),
        "out": Output(),
    }
    with pytest.raises(GraphError) as caught:
        Graph(ops, edges("in stem l0 l2", "l0 c1 l1 c2 l2 c3 l3 flat out"))
    assert caught.value.where == "l2"
    assert "shapes must be equal" in caught.value.rule


def test_backward_connection_from_an_earlier_port() -> None:
    """A connection from port 0 to port 1 is no backward connection; the reverse is offered."""
    with pytest.raises(GraphError, match="did you mean 1:0") as caught:
        with_backward(classifier(), 0, 1)
    assert caught.value.where == "backward connection 0:1"


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ((2, 0), "ports are numbered 0 to 1"),
        ((1, -1), "ports are numbered 0 to 1"),
        ((True, 0), "ports are numbered 0 to 1"),
        ((1.0, 0), "ports are numbered 0 to 1"),
        ((1, 0, 0), "delay must be a whole number"),
        ((1, 0, -1), "delay must be a whole number"),
        ((1, 0, True), "delay must be a whole number"),
        ((1, 0, 1.5), "delay must be a whole number"),
    ],
)
def test_backward_connection_with_bad_arguments(arguments: tuple[Any, ...], rule: str) -> None:
    """Ports and delays are whole numbers in range."""
    with pytest.raises(GraphError, match=rule):
        with_backward(classifier(), *arguments)


def test_delay_that_never_acts() -> None:
    """A delay of T or more would never deliver a spike; it is refused with the network, naming the edge."""
    graph = with_backward(classifier(), 1, 0, delay=4)
    check_steps(graph, 5)
    with pytest.raises(NetworkError, match="use a delay of at most 3, or more time steps") as caught:
        check_steps(graph, 4)
    assert caught.value.where == "edge lif2 -> back1_0d4.conv (delay 4)"


@pytest.mark.parametrize("steps", [0, -1, True, 2.0, "4", 10**6, None])
def test_bad_steps(steps: Any) -> None:
    """The number of time steps is a whole number of at least 1."""
    with pytest.raises(NetworkError, match="steps: must be a whole number"):
        check_steps(classifier(), steps)


def test_graphs_are_values() -> None:
    """Equal graphs are equal and hash alike; a change of op, edge or order makes another one."""
    graph = classifier(norm=True)
    assert graph == classifier(norm=True)
    assert hash(graph) == hash(classifier(norm=True))
    assert graph != classifier()
    assert graph != "graph"
    other = Graph({**graph.ops, "lif1": Lif(tau=0.25)}, graph.edges)
    assert other != graph
    backwards = Graph(dict(reversed(list(graph.ops.items()))), graph.edges)
    assert backwards != graph, "the order of ops numbers the ports"
    assert len({graph, classifier(norm=True), other, backwards}) == 3


def test_graphs_survive_copying_and_other_processes() -> None:
    """A graph that went through another process is equal, and so are errors."""
    graph = with_backward(classifier(norm=True), 1, 0)
    assert copy.copy(graph) == graph
    assert copy.deepcopy(graph) == graph
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(with_backward, classifier(norm=True), 1, 0).result(60) == graph
        failure = pool.submit(with_backward, graph, 1, 0).exception(60)
    assert isinstance(failure, GraphError)
    assert failure.where == "backward connection 1:0"


def test_ops_are_read_only_and_copied() -> None:
    """Neither the graph's ops nor the mapping it was made from can change it."""
    ops = chain_ops()
    graph = Graph(ops, edges("in a b out"))
    ops["a"] = Lif(tau=0.1)
    assert graph.ops["a"] == Lif()
    writable: Any = graph.ops
    with pytest.raises(TypeError):
        writable["a"] = Lif()
    with pytest.raises(AttributeError):
        graph.edges = ()  # type: ignore[misc]


def test_edges_are_copied_from_any_sequence() -> None:
    """A list of edges becomes a tuple, so that later changes do not matter."""
    listed: Any = list(edges("in a b out"))
    graph = Graph(chain_ops(), listed)
    listed.clear()
    assert graph.edges == edges("in a b out")


def test_order_breaks_ties_by_the_order_of_ops() -> None:
    """Graph: in -> (p, q, r) -> out: what may run in any order runs in the order of `ops`."""
    paths = ("in p out", "in q out", "in r out")
    ops: dict[str, Op] = {"in": Input(shape=(2,)), "r": Lif(), "p": Lif(), "q": Lif(), "out": Output()}
    assert wired(ops, *paths).order == ("in", "r", "p", "q", "out")
    ops = dict(reversed(ops.items()))
    assert wired(ops, *paths).order == ("in", "q", "p", "r", "out")
    assert wired(ops, *reversed(paths)).order == ("in", "q", "p", "r", "out")


def test_order_is_the_same_in_every_process() -> None:
    """Order does not depend on Python's random hashes."""
    code = (
        "from tests.strategies import *\n"
        "s = Structure((1, 6, 6), (Layer('projection', 4), Layer('residual', 4, pool=True)), (5,),"
        " ((4, 0, 1), (2, 1, 1)), 4, 4, False, 0)\n"
        "print(build(s).order, build(s).ports)"
    )
    root = Path(__file__).parents[2]
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
    assert "l1.lif" in found.pop()


def test_ports_are_numbered_from_the_input() -> None:
    """Graph: in -> a -> b -> c -> out and a -> c, given out of order."""
    graph = wired(
        {"c": Lif(), "out": Output(), "b": Lif(), "a": Lif(), "in": Input(shape=(2,))}, "in a b c out", "a c"
    )
    assert graph.ports == ("a", "b", "c")
    assert (graph.input, graph.output) == ("in", "out")


@given(structures(), st.data())
def test_backward_connections_keep_ports_and_order(structure: Any, data: st.DataObject) -> None:
    """Any backward connection leaves the numbers of the ports and the order of the other ops alone."""
    graph = build(replace(structure, backward=()))
    ports = len(graph.ports)
    changed = graph
    for _ in range(data.draw(st.integers(1, 3))):
        target = data.draw(st.integers(0, ports - 1))
        source = data.draw(st.integers(target, ports - 1))
        try:
            changed = with_backward(changed, source, target, data.draw(st.integers(1, 3)))
        except GraphError as error:
            assert "is in the graph already" in error.rule  # noqa: PT017 - the same connection drawn twice
        assert changed.ports == graph.ports
        assert tuple(n for n in changed.order if n in graph.ops) == graph.order
        assert all(changed.shapes[n] == shape for n, shape in graph.shapes.items())
    assert changed != graph


@given(structures())
def test_order_follows_the_edges(structure: Any) -> None:
    """Every op comes after its sources within a time step."""
    graph = build(structure)
    place = {name: index for index, name in enumerate(graph.order)}
    assert len(place) == len(graph.ops)
    assert all(place[e.source] < place[e.target] for e in graph.edges if e.delay == 0)


def test_incoming_and_outgoing_keep_the_order_of_edges() -> None:
    """The order of edges is the order of summation; an edge given twice counts twice."""
    graph = direct("in a out", "in b out", "in a", "b ~2 b")
    assert [str(e) for e in graph.incoming["out"]] == ["a -> out", "b -> out"]
    assert [str(e) for e in graph.incoming["a"]] == ["in -> a", "in -> a"]
    assert [str(e) for e in graph.outgoing["b"]] == ["b -> out", "b -> b (delay 2)"]
    assert graph.largest_delay == 2


def test_training_only_ops_are_listed() -> None:
    """BatchNorm and Dropout, in the order of execution."""
    graph = wired(
        {"d": Dropout(), "in": Input(shape=(2,)), "n": BatchNorm(channels=2), "l": Lif(), "out": Output()},
        "in n d l out",
    )
    assert graph.training_only == ("n", "d")


BAD_OPS: list[tuple[type[Any], dict[str, Any], str]] = [
    (Input, {"shape": [2]}, "Input: shape must be"),
    (Input, {"shape": (2, 2)}, "Input: shape must be"),
    (Input, {"shape": ()}, "Input: shape must be"),
    (Input, {"shape": (0,)}, "shape must be a whole number of at least 1"),
    (Input, {"shape": (2**31,)}, "shape must be a whole number"),
    (Input, {"shape": (np.int64(2),)}, "shape must be a whole number"),
    (Conv2d, {"in_channels": 0, "out_channels": 1, "kernel": (1, 1)}, "in_channels must be"),
    (Conv2d, {"in_channels": 1, "out_channels": True, "kernel": (1, 1)}, "out_channels must be"),
    (Conv2d, {"in_channels": 1, "out_channels": 1, "kernel": 3}, "kernel must be a pair"),
    (Conv2d, {"in_channels": 1, "out_channels": 1, "kernel": (1, 1, 1)}, "kernel must be a pair"),
    (Conv2d, {"in_channels": 1, "out_channels": 1, "kernel": (1, 0)}, "kernel must be a whole number"),
    (Conv2d, {"in_channels": 1, "out_channels": 1, "kernel": (1, 1), "stride": (0, 1)}, "stride must be"),
    (Conv2d, {"in_channels": 1, "out_channels": 1, "kernel": (1, 1), "padding": (-1, 0)}, "padding must be"),
    (
        Conv2d,
        {"in_channels": 1, "out_channels": 1, "kernel": (1, 1), "bias": 1},
        "bias must be true or false",
    ),
    (Conv2d, {"in_channels": 4, "out_channels": 6, "kernel": (1, 1), "groups": 4}, "divisible by groups"),
    (Conv2d, {"in_channels": 4, "out_channels": 6, "kernel": (1, 1), "groups": 0}, "groups must be"),
    (Linear, {"in_features": 1.0, "out_features": 1}, "in_features must be"),
    (Linear, {"in_features": 1, "out_features": -1}, "out_features must be"),
    (Linear, {"in_features": 1, "out_features": 1, "bias": None}, "bias must be"),
    (BatchNorm, {"channels": 0}, "channels must be"),
    (BatchNorm, {"channels": 1, "epsilon": 0.0}, "epsilon must lie in"),
    (Lif, {"tau": 1.1}, r"tau must lie in \[0, 1\]"),
    (Lif, {"tau": -0.1}, "tau must lie in"),
    (Lif, {"tau": float("nan")}, "tau must lie in"),
    (Lif, {"tau": True}, "tau must lie in"),
    (Lif, {"tau": "0.5"}, "tau must lie in"),
    (Lif, {"threshold": 0.0}, "threshold must lie in"),
    (Lif, {"threshold": float("inf")}, "threshold must lie in"),
    (AvgPool2d, {"kernel": (2, 2), "stride": (0, 1)}, "stride must be"),
    (Upsample, {"size": (0, 1)}, "size must be"),
    (Dropout, {"probability": 1.0}, "probability must lie in"),
]


@pytest.mark.parametrize(("kind", "values", "message"), BAD_OPS)
def test_bad_op_fields(kind: type[Any], values: dict[str, Any], message: str) -> None:
    """Each field of each op is checked, types included."""
    with pytest.raises(GraphError, match=message):
        kind(**values)


def test_neuron_constants_are_float32() -> None:
    """Tau and threshold are rounded once, and a rounded one is accepted again, at both ends of the range."""
    assert Lif(tau=0.3).tau == float(np.float32(0.3)) != 0.3
    for threshold in (1e-6, 0.1, 1e6):
        lif = Lif(threshold=threshold)
        assert replace(lif) == lif
        assert lif.threshold == float(np.float32(threshold))


def test_equal_ops_are_written_alike() -> None:
    """1 and 1.0 are the same constant, and so are the two zeros."""
    assert repr(Lif(tau=1)) == repr(Lif(tau=1.0))
    assert repr(Lif(tau=-0.0)) == repr(Lif(tau=0))
    assert repr(BatchNorm(channels=1, epsilon=1)) == repr(BatchNorm(channels=1, epsilon=1.0))
    assert repr(Dropout(probability=0)) == repr(Dropout(probability=-0.0))


def test_messages_can_always_be_printed() -> None:
    """Half a character from a damaged file and a value of any length do no harm."""
    error = SnnDeployError("edge \ud800", "is odd", got="x" * 10_000, remedy="mend it")
    assert str(error).encode("utf-8")
    assert len(str(error)) < 1000
    assert error.got == "x" * 10_000
    again = copy.copy(error)
    assert (type(again), again.args, again.remedy) == (SnnDeployError, error.args, "mend it")
