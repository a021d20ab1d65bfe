"""Schedules by hand, by brute force, and against a simulation machine step by machine step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snndeploy.backbones import resnet18
from snndeploy.errors import TimingError
from snndeploy.ir import (
    Graph,
    Input,
    Lif,
    Network,
    Output,
    Schedule,
    Synapse,
    arrivals,
    as_steps,
    populations,
    run,
    schedule,
    synapses,
    upstream,
    with_backward,
)
from snndeploy.ir.kernels import apply
from snndeploy.ir.timing import ScheduleName, critical_cycle, smallest_interval, starts
from tests.ir.graphs import classifier, direct, random_network
from tests.ir.tangles import needed, simple_cycles, tangles
from tests.strategies import Case, Structure, cases, realise


def test_a_chain_by_hand() -> None:
    """Graph: in -> a -> b -> out: one machine step per synapse, one logical step per machine step."""
    found = schedule(direct("in a b out"))
    assert found == Schedule("scheduled", 1, {"in": 0, "a": 1, "b": 2, "out": 3}, {}, 0)
    assert [found.machine_steps(steps) for steps in (1, 4)] == [4, 7]
    assert found.machine_steps_per_sample(4) == 4
    assert found.machine_steps_streamed(4, 10) == 9 * 4 + 7


def test_a_loop_of_two_by_hand() -> None:
    """Graph: in -> a -> b -> out and b -(1)-> a: two synapses within one logical step."""
    found = schedule(direct("in a b out", "b ~1 a"))
    assert found == Schedule("scheduled", 2, {"in": 0, "a": 1, "b": 2, "out": 3}, {}, 1)
    assert found.machine_steps(4) == 3 * 2 + 4
    assert found.machine_steps_per_sample(4) == (4 + 1) * 2
    assert found.machine_steps_streamed(4, 3) == 2 * 10 + 10


def test_a_self_loop_costs_nothing() -> None:
    """Graph: in -> a -> out and a -(1)-> a: one synapse in one logical step."""
    found = schedule(direct("in a out", "a ~1 a"))
    assert (found.initiation_interval, found.name, found.gap) == (1, "pipelined", 1)


def test_long_delays_make_a_pipeline() -> None:
    """Graph: in -> a -> b -> c -> out and c -(3)-> a: enough logical steps for the three synapses."""
    found = schedule(direct("in a b c out", "c ~3 a"))
    assert (found.initiation_interval, found.name, found.gap) == (1, "pipelined", 3)
    assert schedule(direct("in a b c out", "c ~2 a")).initiation_interval == 2


def test_a_skip_waits_by_hand() -> None:
    """Graph: in -> a -> b -> c -> out and a -> c: without a wait the skip meets the step before.

    a fires at 1, c updates at 3 and, for the step before, at 2: the skip arrives at 2 and must wait for 3.
    """
    found = schedule(direct("in a b c out", "a c"))
    assert found.start == {"in": 0, "a": 1, "b": 2, "c": 3, "out": 4}
    assert found.waits == {Synapse("a", "c", 0): 1}
    slower = schedule(direct("in a b c out", "a c"), 2)
    assert slower.waits == {}, "with two machine steps per logical step the register takes up the slack"


def test_a_delayed_skip_may_wait_for_whole_steps() -> None:
    """Graph: in -> a -> b -> out and a -(3)-> b: arrives at 2, belongs to the update at 2 + 3."""
    found = schedule(direct("in a b out", "a ~3 b"))
    assert found.waits == {Synapse("a", "b", 3): 3}
    slow = schedule(direct("in a b out", "a ~3 b"), 5)
    assert slow.waits == {Synapse("a", "b", 3): 2 + 2 * 5 + 1 - 2}


def test_a_population_behind_the_output() -> None:
    """Graph: in -> a -> b -> c -> d, in -> y -> out, d -(2)-> y: d starts after the logits are there.

    The sample is done when the Output is, whatever d does afterwards.
    """
    found = schedule(direct("in a b c d ~2 y out", "in y"), 10)
    assert found.start["d"] == 4
    assert found.start["out"] == 2
    assert found.machine_steps(4) == 3 * 10 + 3


@pytest.mark.parametrize(
    ("span", "delay", "interval", "steps"),
    [
        (None, 1, 1, 22),
        (1, 1, 2, 25),
        (2, 1, 3, 28),
        (4, 1, 5, 34),
        (8, 1, 9, 46),
        (16, 1, 17, 70),
        (16, 17, 1, 22),
        (16, 9, 2, 25),
    ],
)
def test_chain_of_seventeen(span: int | None, delay: int, interval: int, steps: int) -> None:
    """A 17-layer chain with skips over two layers and all backward connections over some span, T = 4."""
    layers = [f"l{i}" for i in range(17)]
    paths = [" ".join(["in", *layers, "out"])]
    paths += [f"l{i} l{i + 2}" for i in range(0, 15, 2)]
    if span is not None:
        paths += [f"l{i + span} ~{delay} l{i}" for i in range(17 - span)]
    found = schedule(direct(*paths))
    assert found.initiation_interval == interval
    assert found.machine_steps(4) == steps


def test_resnet18_by_name() -> None:
    """22 machine steps at T = 4; a connection from the last port to the first makes 17 of each step."""
    graph = resnet18((3, 32, 32), 10)
    assert schedule(graph).machine_steps(4) == 22
    far = schedule(with_backward(graph, 16, 0))
    assert (far.initiation_interval, far.machine_steps(4)) == (17, 3 * 17 + 19)


def test_kinds_by_name() -> None:
    """A schedule is called what it was asked to be; by itself it is pipelined if delays make up for the pipeline."""
    chain, loop = direct("in a b out"), direct("in a b out", "b ~1 a")
    assert [schedule(g).name for g in (chain, loop, direct("in a b out", "b ~2 a"))] == [
        "scheduled",
        "scheduled",
        "pipelined",
    ]
    assert schedule(chain, kind="pipelined") == replace(schedule(chain), name="pipelined")
    assert schedule(loop, kind="scheduled") == schedule(loop)
    assert schedule(loop, 7, kind="scheduled") == schedule(loop, 7)
    assert schedule(direct("in a b out", "b ~2 a"), 2).name == "scheduled"


@given(tangles(), st.integers(1, 9), st.integers(1, 4))
def test_a_synchronous_machine_takes_one_step_a_logical_step(graph: Graph, steps: int, samples: int) -> None:
    """Nothing starts late, nothing waits; between samples the delays run dry as on a chip."""
    found = schedule(graph, kind="synchronous")
    assert (found.name, found.initiation_interval, dict(found.waits)) == ("synchronous", 1, {})
    assert list(found.start.items()) == [(name, 0) for name in populations(graph)]
    assert found.machine_steps(steps) == steps
    assert found.machine_steps_per_sample(steps) == steps + graph.largest_delay
    assert (
        found.machine_steps_streamed(steps, samples) == samples * steps + (samples - 1) * graph.largest_delay
    )


def test_a_pipeline_that_cannot_be() -> None:
    """The message names the cycle, and the delays that would do."""
    with pytest.raises(TimingError) as caught:
        schedule(direct("in a b c out", "c ~1 a", "b ~2 a"), kind="pipelined")
    assert "a total delay of at least its synapses" in caught.value.rule
    assert "3 synapses and a total delay of 1" in caught.value.remedy
    assert caught.value.remedy.endswith("can be pipelined: c -> a (delay 1) needs 3")


@pytest.mark.parametrize("kind", ["pipelined", "synchronous"])
def test_intervals_of_other_kinds(kind: ScheduleName) -> None:
    """Only a scheduled network may take longer than it must."""
    graph = direct("in a out", "a ~1 a")
    assert schedule(graph, 1, kind=kind).name == kind
    with pytest.raises(TimingError, match=f"{kind} schedule: has an initiation interval of 1, got 2"):
        schedule(graph, 2, kind=kind)
    with pytest.raises(TimingError, match="at least 1, got 0"):
        schedule(graph, 0, kind=kind)


def test_a_kind_that_is_none() -> None:
    """The message lists those there are."""
    kind: Any = "modulo"
    with pytest.raises(TimingError, match="one of scheduled, pipelined, synchronous, got 'modulo'"):
        schedule(direct("in a out"), kind=kind)


@given(tangles())
def test_the_smallest_interval_is_that_of_the_worst_cycle(graph: Graph) -> None:
    """Against all simple cycles; the one that is named needs it."""
    edges = synapses(graph)
    worst = max(map(needed, simple_cycles(edges)), default=1)
    assert smallest_interval(graph) == worst == schedule(graph).initiation_interval
    cycle = critical_cycle(graph)
    if worst == 1:
        assert cycle == ()
        return
    assert set(cycle) <= set(edges)
    assert all(a.target == b.source for a, b in zip(cycle, (*cycle[1:], cycle[0]), strict=True))
    assert len({s.source for s in cycle}) == len(cycle)
    assert needed(cycle) == worst
    with pytest.raises(TimingError) as caught:
        schedule(graph, worst - 1)
    assert f"must be a whole number of at least {worst}, got {worst - 1}" in str(caught.value)
    assert " -> ".join(s.source for s in cycle) in caught.value.remedy
    assert f"{len(cycle)} synapses and a total delay of {sum(s.delay for s in cycle)}" in caught.value.remedy


@given(tangles(), st.integers(0, 5))
def test_starts_are_the_earliest_that_keep_every_inequality(graph: Graph, slack: int) -> None:
    """Each synapse arrives in time, none in an earlier window, and no start could be smaller."""
    interval = smallest_interval(graph) + slack
    found = schedule(graph, interval)
    start, edges = found.start, synapses(graph)
    assert list(start) == list(populations(graph))
    assert found.initiation_interval == interval
    assert min(start.values()) == start["in"] == 0
    for s in edges:
        update = start[s.target] + s.delay * interval
        arrives = start[s.source] + 1 + found.waits.get(s, 0)
        assert update - interval < arrives <= update
        assert found.waits.get(s, 1) > 0
    for name in start:  # something stands against every start but 0
        tight = [
            s for s in edges if s.target == name and start[name] + s.delay * interval == start[s.source] + 1
        ]
        assert start[name] == 0 or tight
    assert starts(populations(graph), edges, smallest_interval(graph) - 1) is None or interval == 1 + slack


@pytest.mark.parametrize("interval", [0, -1, True, 1.5, 2.0, "2"])
def test_intervals_that_are_none(interval: Any) -> None:
    """Whole machine steps only, also where no loop asks for more."""
    with pytest.raises(TimingError, match="must be a whole number of at least 1"):
        schedule(classifier(), interval)


def in_machine_steps(
    network: Network,
    frames: npt.NDArray[np.float32],
    start: Mapping[str, int],
    waits: Mapping[Synapse, int],
    interval: int,
) -> tuple[dict[str, npt.NDArray[np.bool_]], npt.NDArray[np.float32]]:
    """Spikes (time, *shape) by name and the readout sum of one sample, on a machine of populations.

    In each machine step every population first gets what was sent in the step before (or longer ago, where a
    synapse waits) and adds it to the register of that synapse; then those whose turn it is use up their
    registers, fire, and send. Nothing here knows of logical delays.
    """
    graph, zero = network.graph, np.float32(0)
    registers = {
        name: {a: np.zeros((1, *graph.shapes[a[0]]), np.float32) for a in arrivals(graph, name)}
        for name in populations(graph)
    }
    spikes: dict[str, list[npt.NDArray[np.bool_]]] = {name: [] for name in graph.ports}
    rest: dict[str, Any] = dict.fromkeys(graph.ports, zero)
    readout_sum = np.zeros((1, *graph.shapes[graph.output]), np.float32)
    travelling: dict[int, list[tuple[Synapse, npt.NDArray[np.float32]]]] = {}
    for machine_step in range((network.steps - 1) * interval + max(start.values()) + 1):
        for s, sent in travelling.pop(machine_step, []):
            registers[s.target][s.source, s.delay] = registers[s.target][s.source, s.delay] + sent
        for name in populations(graph):
            t, offset = divmod(machine_step - start[name], interval)
            if offset or not 0 <= t < network.steps:
                continue
            op = graph.ops[name]
            if isinstance(op, Input):
                out = frames[t][None]
            else:
                current = composed(network, name, registers[name])
                registers[name] = {a: np.zeros_like(value) for a, value in registers[name].items()}
                if isinstance(op, Output):
                    readout_sum = readout_sum + current * (t >= network.steps - network.readout)
                    continue
                assert isinstance(op, Lif)
                potential = np.float32(op.tau) * rest[name] + current
                out = (potential > np.float32(op.threshold)).astype(np.float32)
                rest[name] = potential * (1 - out)
                spikes[name].append(out[0] > 0)
            for s in synapses(graph):
                if s.source == name:
                    travelling.setdefault(machine_step + 1 + waits.get(s, 0), []).append((s, out))
    return {name: np.stack(s) for name, s in spikes.items()}, readout_sum[0]


def composed(
    network: Network, name: str, register: Mapping[tuple[str, int], npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    """What the synapses into a population make of what has arrived."""
    graph = network.graph
    values: dict[str, npt.NDArray[np.float32]] = {}
    for target in (*upstream(graph, name), name):
        terms = [
            values[e.source] if e.source in values else register[e.source, e.delay]
            for e in graph.incoming[target]
        ]
        total = sum(terms[1:], start=terms[0])
        values[target] = total if target == name else apply(target, graph.ops[target], total, network.weights)
    return values[name]


def assert_exact(network: Network, x: npt.NDArray[np.float32], interval: int | None = None) -> None:
    """The machine gives every spike and the readout of the interpreter, sample by sample."""
    steps = as_steps(network, x)
    trace = run(network, x)
    timing = schedule(network.graph, interval)
    for sample in range(min(2, steps.shape[1])):
        spikes, readout_sum = in_machine_steps(
            network, steps[:, sample], timing.start, timing.waits, timing.initiation_interval
        )
        for name, found in spikes.items():
            assert (found == trace.spikes[name][:, sample]).all(), name
        assert (readout_sum == trace.readout_sum[sample]).all()


@settings(max_examples=40)
@given(cases(most_layers=3), st.integers(0, 3))
def test_the_machine_computes_the_logical_network(case: Case, slack: int) -> None:
    """Random lively networks at the smallest interval and above it, bit for bit."""
    assert_exact(case.network, case.x, smallest_interval(case.network.graph) + slack)


@settings(max_examples=60)
@given(tangles(), st.integers(0, 9))
def test_the_machine_computes_tangles(graph: Graph, seed: int) -> None:
    """Any skips and delays between layers of one neuron, driven by frames."""
    rng = np.random.default_rng(seed)
    network = random_network(graph, steps=9, input=random_network(classifier()).input)
    x = (rng.integers(0, 17, (9, 2, 1)) / 16).astype(np.float32)
    assert_exact(network, x)


LOOP = Structure(
    shape=(1, 6, 6),
    layers=(),
    hidden=(8, 8, 8),
    backward=((2, 0, 1),),
    steps=6,
    readout=6,
    frames=True,
    seed=1,
)


def test_one_machine_step_too_few_is_wrong() -> None:
    """Graph: input -> h0 -> h1 -> h2 -> output and h2 -(1)-> h0 needs 3; at 2 the connection comes late.

    So the simulation can tell, and the connection matters.
    """
    case = realise(LOOP)
    network = case.network
    timing = schedule(network.graph)
    assert timing.initiation_interval == 3
    steps, trace = as_steps(network, case.x), run(network, case.x)

    def differing(interval: int, waits: Mapping[Synapse, int]) -> int:
        return sum(
            int((found != trace.spikes[name][:, sample]).sum())
            for sample in range(steps.shape[1])
            for name, found in in_machine_steps(network, steps[:, sample], timing.start, waits, interval)[
                0
            ].items()
        )

    assert differing(3, timing.waits) == 0
    assert differing(2, {}) > 0


def test_without_its_waits_a_skip_is_wrong() -> None:
    """Graph: in -> a -> b -> c -> out and a -> c: at one machine step per logical step the skip has to wait."""
    graph = direct("in a b c out", "a c", features=8)
    ops = {n: Lif(threshold=0.5) if isinstance(op, Lif) else op for n, op in graph.ops.items()}
    network = random_network(Graph(ops, graph.edges), steps=6)
    frames = np.random.default_rng(0).integers(0, 17, (6, 1, 8)).astype(np.float32) / 16
    assert_exact(network, frames)
    timing, trace = schedule(graph), run(network, frames)
    assert timing.waits
    hasty, _ = in_machine_steps(network, frames[:, 0], timing.start, {}, 1)
    assert (hasty["b"] == trace.spikes["b"][:, 0]).all()
    assert (hasty["c"] != trace.spikes["c"][:, 0]).any()
