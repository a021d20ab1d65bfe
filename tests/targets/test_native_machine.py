"""The machine steps of the native engine: which values of which sample and step enter each update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import pytest

from snndeploy import ir
from snndeploy.ir import timing
from snndeploy.targets.native.machine import Machine, machine
from tests.export.networks import TOPOLOGIES, Case, case

STEPS, SAMPLES = 5, 3
Token: TypeAlias = tuple[str, int, int]  # population, sample, step: stands for what was sent there and then
Entered: TypeAlias = dict[Token, list[list[Token]]]


def network(name: str) -> ir.Network:
    """One of the topologies, which are drawn where they are built."""
    tested: Case = case(TOPOLOGIES[name](), steps=STEPS)
    return tested.network


def entered(tested: Machine, samples: int = SAMPLES) -> Entered:
    """What each update took from each arrival."""
    found: Entered = {}

    def update(name: str) -> Callable[[int, int, Sequence[Sequence[Token]]], Token]:
        def record(sample: int, t: int, arrived: Sequence[Sequence[Token]]) -> Token:
            found[name, sample, t] = [list(values) for values in arrived]
            return name, sample, t

        return record

    tested.run(samples, {population.name: update(population.name) for population in tested.populations})
    return found


def schedules(graph: ir.Graph) -> list[ir.Schedule]:
    """All that compute what the network means."""
    smallest = ir.schedule(graph)
    slower = ir.schedule(graph, smallest.initiation_interval + 2)
    return [smallest, slower, ir.schedule(graph, kind="synchronous")]


def too_fast(graph: ir.Graph) -> ir.Schedule:
    """The starts of the smallest initiation interval with one that is smaller by 1."""
    fitting = ir.schedule(graph)
    interval = fitting.initiation_interval - 1
    held = timing.waits(ir.synapses(graph), fitting.start, interval)
    return replace(fitting, initiation_interval=interval, waits=held)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_value_enters_its_update(name: str) -> None:
    """Under each schedule the update of step t takes exactly the value of step t - d of its own sample."""
    tested = network(name)
    for schedule in schedules(tested.graph):
        found = entered(machine(tested, schedule))
        assert len(found) == SAMPLES * STEPS * len(ir.populations(tested.graph))
        for (population, sample, t), arrived in found.items():
            expected = [
                [(source, sample, t - delay)] if t >= delay else []
                for source, delay in ir.arrivals(tested.graph, population)
            ]
            assert arrived == expected, f"{schedule.name}: {population}, sample {sample}, step {t}"


@pytest.mark.parametrize("name", ["back_over_one", "back_over_many", "two_into_one", "overlapping"])
def test_late_values_enter_later_updates(name: str) -> None:
    """With an initiation interval one too small some value comes later than its delay, and none is lost."""
    tested = network(name)
    found = entered(machine(tested, too_fast(tested.graph)))
    late = [
        (population, t, token)
        for (population, _, t), arrived in found.items()
        for (_, delay), tokens in zip(ir.arrivals(tested.graph, population), arrived, strict=True)
        for token in tokens
        if (token[2] + delay) % (STEPS + tested.graph.largest_delay) != t
    ]
    assert late
    assert all(len(tokens) <= 1 for arrived in found.values() for tokens in arrived)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_samples_meet_where_the_machine_says_so(name: str) -> None:
    """Whether values of one sample enter updates of another is told beforehand, for gaps of any length."""
    tested = network(name)
    told = []
    every = schedules(tested.graph)
    if ir.schedule(tested.graph).initiation_interval > 1:
        every.append(too_fast(tested.graph))
    for schedule in every:
        for gap in range(schedule.gap + 2):
            built = machine(tested, replace(schedule, gap=gap))
            meets = any(
                token[1] != sample
                for (_, sample, _), arrived in entered(built).items()
                for tokens in arrived
                for token in tokens
            )
            assert built.keeps_samples_apart() is not meets
            told.append(meets)
    assert not told[0] or tested.graph.largest_delay
    assert any(told) == (tested.graph.largest_delay > 0)


def test_unread_values_are_dropped_at_blank_steps() -> None:
    """A value that arrives for a blank step is taken there, and does not wait for the next sample."""
    tested = network("back_over_one")
    found = entered(machine(tested, ir.schedule(tested.graph)))
    firsts = [arrived for (_, sample, t), arrived in found.items() if sample > 0 and t == 0]
    assert firsts
    assert all(token[1] > 0 for arrived in firsts for tokens in arrived for token in tokens)


def test_machine_steps_are_those_of_the_stream() -> None:
    """As many as it takes until the last population is done with the last sample."""
    tested = network("overlapping")
    schedule = ir.schedule(tested.graph)
    built = machine(tested, schedule)
    latest = max(schedule.start.values()) - schedule.start[tested.graph.output]
    for samples in (1, 3):
        streamed = schedule.machine_steps_streamed(STEPS, samples)
        assert built.machine_steps(samples) == streamed + latest
