"""Delays for one logical step in every machine step: minimal ones, and networks that have them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snndeploy.backbones import BACKBONES, backbone, resnet18
from snndeploy.errors import TimingError
from snndeploy.ir import (
    Edge,
    Graph,
    backward_connections,
    certify,
    fold,
    load,
    quantize,
    run,
    save,
    schedule,
    synapses,
    with_backward,
)
from snndeploy.ir.pipeline import pipelined, pipelined_network
from snndeploy.ir.timing import pipelined_delays, smallest_interval
from tests.ir.graphs import classifier, direct, random_input, random_network
from tests.ir.tangles import needed, simple_cycles, tangles


def with_delays(graph: Graph, delays: dict[Edge, int]) -> Graph:
    """The graph with other delays."""
    return Graph(graph.ops, tuple(replace(e, delay=delays.get(e, e.delay)) for e in graph.edges))


def delays_of(graph: Graph) -> dict[str, int]:
    """Pipelined delays by the text of the edge."""
    return {str(edge): delay for edge, delay in pipelined_delays(graph).items()}


def longest_path(graph: Graph, start: str, end: str) -> int:
    """Synapses on the longest path without delay, by trying all."""
    edges = [s for s in synapses(graph) if s.delay == 0 and s.source == start]
    return max((1 + longest_path(graph, s.target, end) for s in edges), default=-99) if start != end else 0


@given(tangles())
def test_delays_make_a_pipeline_and_are_minimal(graph: Graph) -> None:
    """Every cycle has delays enough; one less anywhere, and some has not, or two edges would become one."""
    delays = pipelined_delays(graph)
    assert set(delays) == {e for e in graph.edges if e.delay}
    assert all(delay >= edge.delay for edge, delay in delays.items())
    assert smallest_interval(with_delays(graph, delays)) == 1
    for edge, delay in delays.items():
        others = {(e.source, e.target, d) for e, d in delays.items() if e != edge}
        less = {**delays, edge: delay - 1}
        assert (
            delay == edge.delay
            or smallest_interval(with_delays(graph, less)) > 1
            or (edge.source, edge.target, delay - 1) in others
        )
    assert all((delay == edge.delay) for edge, delay in delays.items()) or smallest_interval(graph) > 1


@given(tangles())
def test_delays_against_all_cycles(graph: Graph) -> None:
    """Where one answer has no delay larger than any other answer, that is the one."""
    own = {e: e.delay for e in graph.edges if e.delay}
    cycles = [c for c in simple_cycles(synapses(graph)) if needed(c) > 1]
    least = dict(own)
    for cycle in cycles:  # a cycle with one delayed edge leaves no choice
        delayed = [Edge(s.source, s.target, s.delay) for s in cycle if s.delay]
        if len(delayed) == 1:
            least[delayed[0]] = max(least[delayed[0]], len(cycle))
    parallel = len({(e.source, e.target) for e in own}) < len(own)
    if smallest_interval(with_delays(graph, least)) == 1 and not parallel:
        assert pipelined_delays(graph) == least


@settings(max_examples=40)
@given(st.data())
def test_one_connection_needs_its_span_and_one(data: st.DataObject) -> None:
    """Of any backbone: the longest path counts, whatever skips there are."""
    name = data.draw(st.sampled_from(sorted(BACKBONES)))
    graph = backbone(name, (1, 32, 32), 10)
    source = data.draw(st.integers(0, len(graph.ports) - 1))
    target = data.draw(st.integers(0, source))
    if data.draw(st.booleans()) and source - target > 8:
        target = source - 3  # else most are long
    span = longest_path(graph, graph.ports[target], graph.ports[source]) if source - target < 9 else None
    looped = with_backward(graph, source, target)
    (delay,) = pipelined_delays(looped).values()
    assert delay == smallest_interval(looped)
    if span is not None:
        assert delay == span + 1
    assert pipelined(looped) == with_backward(graph, source, target, delay)
    assert schedule(pipelined(looped), kind="pipelined").initiation_interval == 1


def test_delays_by_hand() -> None:
    """Graph: in -> a -> b -> c -> d -> out with a skip a -> c, which shortens nothing."""
    chain = ("in a b c d out", "a c")
    assert delays_of(direct(*chain, "d ~1 a")) == {"d -> a (delay 1)": 4}
    assert delays_of(direct(*chain, "d ~6 a", "c ~1 c")) == {"d -> a (delay 6)": 6, "c -> c (delay 1)": 1}
    assert delays_of(direct(*chain, "d ~1 b", "c ~1 a")) == {"d -> b (delay 1)": 3, "c -> a (delay 1)": 3}
    assert delays_of(direct(*chain, "a ~1 d")) == {"a -> d (delay 1)": 1}


def test_cycles_through_two_connections() -> None:
    """Graph: in -> a -> b -> c -> out, in -> d -> out, c -(1)-> d and d -(1)-> a: four synapses, two delays.

    Neither connection is in a cycle of its own; together they need four, which the last, over most ops, makes up.
    """
    graph = direct("in a b c out", "in d out", "c ~1 d", "d ~1 a")
    assert sorted(pipelined_delays(graph).values()) == [1, 3]
    assert smallest_interval(pipelined(graph)) == 1


def test_parallel_connections_stay_apart() -> None:
    """Graph: resnet-like chain with 2:0 of delays 1 and 2, which would both be 3 and the same."""
    looped = with_backward(with_backward(backbone("resnet6", (1, 8, 8), 10), 2, 0), 2, 0, 2)
    assert [(c.delay) for c in backward_connections(pipelined(looped))] == [3, 4]


def test_pipelined_twice_is_pipelined_once() -> None:
    """What is a pipeline already is left as it is, names included."""
    looped = with_backward(resnet18((3, 32, 32), 10), 6, 3)
    once = pipelined(looped)
    assert pipelined(once) == once != looped
    assert [(c.source, c.target, c.delay) for c in backward_connections(once)] == [(6, 3, 4)]
    assert pipelined(direct("in a out")) == direct("in a out")


def test_a_delay_that_never_acts() -> None:
    """The message names the connection, the delay and T."""
    looped = with_backward(resnet18((3, 32, 32), 10), 6, 3)
    assert pipelined(looped, 5) == pipelined(looped)
    with pytest.raises(TimingError, match=r"backward connection 6:3: needs a delay of 4 .* T = 4; use more"):
        pipelined(looped, 4)


def test_a_name_that_is_taken() -> None:
    """Graph: a connection whose new name another op has; then names stay, and only delays change."""
    looped = with_backward(backbone("resnet6", (1, 8, 8), 10), 2, 0)
    clash = {"conv": "back2_0d3.conv"} if "conv" in looped.ops else {"stem.conv": "back2_0d3.conv"}
    graph = Graph(
        {clash.get(n, n): op for n, op in looped.ops.items()},
        tuple(
            Edge(clash.get(e.source, e.source), clash.get(e.target, e.target), e.delay) for e in looped.edges
        ),
    )
    assert list(pipelined(graph).ops) == list(graph.ops)
    assert [c.delay for c in backward_connections(pipelined(graph))] == [3]


@pytest.mark.parametrize("form", ["float32", "exact"])
def test_networks_keep_their_weights(form: str, tmp_path: Path) -> None:
    """Under new names, in any format; the file is that of a network, which computes something else."""
    graph = with_backward(classifier(), 1, 0)
    original = fold(random_network(graph, steps=6))
    network = quantize(original, random_input(original)).network if form == "exact" else original
    found = pipelined_network(network)
    assert found.graph == pipelined(network.graph) == fold(random_network(pipelined(graph), steps=6)).graph
    assert found.format.name == form
    assert set(found.weights) == {name.replace("back1_0.", "back1_0d2.") for name in network.weights}
    for name, array in network.weights.items():
        assert (found.weights[name.replace("back1_0.", "back1_0d2.")] == array).all()
    save(found, tmp_path / "p.snn.safetensors")
    assert load(tmp_path / "p.snn.safetensors").graph == found.graph
    assert schedule(found.graph, kind="pipelined").machine_steps(6) == 6 + 3
    x = random_input(network)
    assert any((run(found, x).spikes[p] != s).any() for p, s in run(network, x).spikes.items())
    assert form != "exact" or certify(found).holds == certify(network).holds


def test_networks_too_short_to_pipeline() -> None:
    """Graph: 1:0 needs a delay of 2, so at T = 2 there is no pipeline."""
    network = random_network(with_backward(classifier(), 1, 0), steps=2)
    with pytest.raises(TimingError, match="never acts within T = 2"):
        pipelined_network(network)
