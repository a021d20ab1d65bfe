"""When each population updates on a machine where every synapse takes one machine step.

Population n updates for logical step t at machine step `t * II + start[n]`. A synapse (s -> n, delay d) needs
`start[n] + d * II >= start[s] + 1`; II, the initiation interval, is the smallest that allows it everywhere.
This is modulo scheduling (Rau, MICRO-27, 1994) with unit latencies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from snndeploy.errors import TimingError
from snndeploy.ir.graph import Graph
from snndeploy.ir.populations import Synapse, populations, synapses

ScheduleName = Literal["scheduled", "pipelined", "synchronous"]


@dataclass(frozen=True)
class Schedule:
    """Start and interval of every population, in machine steps.

    name: The kind of schedule; every artefact and report names it.
    initiation_interval: Machine steps between two logical steps (II).
    start: Machine step of each population's first update, by name, in the order of execution: the Output
        last. What leads to it through delayed edges only may update after it.
    waits: Machine steps a synapse's values are held back, so that they do not enter an earlier update.
    gap: Blank logical steps between two samples, which backward connections need to run dry.
    """

    name: ScheduleName
    initiation_interval: int
    start: Mapping[str, int]
    waits: Mapping[Synapse, int]
    gap: int

    def machine_steps(self, steps: int) -> int:
        """Machine steps from the first input of one sample to its logits, for `steps` logical steps."""
        *_, output = self.start.values()
        return (steps - 1) * self.initiation_interval + output + 1

    def machine_steps_per_sample(self, steps: int) -> int:
        """Machine steps between two samples that are streamed back to back."""
        return (steps + self.gap) * self.initiation_interval

    def machine_steps_streamed(self, steps: int, samples: int) -> int:
        """Machine steps from the first input of a stream of samples to the logits of the last."""
        return (samples - 1) * self.machine_steps_per_sample(steps) + self.machine_steps(steps)


def schedule(graph: Graph, initiation_interval: int | None = None) -> Schedule:
    """The schedule with the smallest initiation interval, or with a given larger one.

    Args:
        graph: Any graph.
        initiation_interval: Machine steps between two logical steps; None for the smallest.

    Raises:
        TimingError: The interval asked for is too small; the message names the cycle that needs more.
    """
    edges = synapses(graph)
    smallest = smallest_interval(graph)
    interval = smallest if initiation_interval is None else initiation_interval
    whole = isinstance(interval, int) and not isinstance(interval, bool)
    start = starts(populations(graph), edges, interval) if whole and interval >= smallest else None
    if start is None:
        cycle = critical_cycle(graph)
        because = (
            f"the cycle {' -> '.join(s.source for s in cycle)} has {len(cycle)} synapses "
            f"and a total delay of {sum(s.delay for s in cycle)}, and "
        )
        raise TimingError(
            "schedule",
            f"initiation interval must be a whole number of at least {smallest}",
            got=repr(interval),
            remedy=(because if cycle else "") + "None stands for the smallest interval",
        )
    return Schedule(
        name="pipelined" if interval == 1 and graph.largest_delay else "scheduled",
        initiation_interval=interval,
        start=MappingProxyType(start),
        waits=MappingProxyType(waits(edges, start, interval)),
        gap=graph.largest_delay,
    )


def starts(names: tuple[str, ...], edges: tuple[Synapse, ...], interval: int) -> dict[str, int] | None:
    """Earliest start of each population (Bellman-Ford), or None if the interval is too small."""
    start = dict.fromkeys(names, 0)
    for _ in names:
        changed = False
        for s in edges:
            earliest = start[s.source] + 1 - s.delay * interval
            if start[s.target] < earliest:
                start[s.target] = earliest
                changed = True
        if not changed:
            return start
    return None


def waits(edges: tuple[Synapse, ...], start: Mapping[str, int], interval: int) -> dict[Synapse, int]:
    """Machine steps each synapse must hold its values back; synapses that need none are left out.

    Values of logical step 0 arrive at `start[source] + 1`. They must not arrive before the target's previous
    update is over, that is before `start[target] + (delay - 1) * interval + 1`.
    """
    held = {s: start[s.target] + (s.delay - 1) * interval + 1 - (start[s.source] + 1) for s in edges}
    return {s: wait for s, wait in held.items() if wait > 0}


def smallest_interval(graph: Graph) -> int:
    """The smallest initiation interval: the largest, over cycles, of ceil(synapses / total delay)."""
    edges, names = synapses(graph), populations(graph)
    low, high = 1, len(names)  # a cycle has at most that many synapses and a total delay of at least 1
    while low < high:
        middle = (low + high) // 2
        if starts(names, edges, middle) is None:
            low = middle + 1
        else:
            high = middle
    return low


def critical_cycle(graph: Graph) -> tuple[Synapse, ...]:
    """The synapses of a cycle that keeps the initiation interval from being smaller; () if it is 1."""
    edges, names = synapses(graph), populations(graph)
    interval = smallest_interval(graph) - 1
    if interval == 0:
        return ()
    start = dict.fromkeys(names, 0)
    through: dict[str, Synapse] = {}
    last = names[0]
    for _ in range(len(names) + 1):
        for s in edges:
            earliest = start[s.source] + 1 - s.delay * interval
            if start[s.target] < earliest:
                start[s.target] = earliest
                through[s.target] = s
                last = s.target
    for _ in names:  # walk back far enough to be on the cycle itself
        last = through[last].source
    cycle = [through[last]]
    while cycle[-1].source != last:
        cycle.append(through[cycle[-1].source])
    return tuple(reversed(cycle))
