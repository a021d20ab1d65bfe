"""When each population updates on a machine where every synapse takes one machine step.

Population n updates for logical step t at machine step `t * II + start[n]`. A synapse (s -> n, delay d) needs
`start[n] + d * II >= start[s] + 1`; II, the initiation interval, is the smallest that allows it everywhere.
This is modulo scheduling (Rau, MICRO-27, 1994) with unit latencies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from snndeploy.errors import TimingError
from snndeploy.ir.graph import Edge, Graph
from snndeploy.ir.populations import Synapse, is_population, populations, synapses

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


def schedule(
    graph: Graph, initiation_interval: int | None = None, *, kind: ScheduleName | None = None
) -> Schedule:
    """The schedule with the smallest initiation interval, or with a given larger one.

    Args:
        graph: Any graph.
        initiation_interval: Machine steps between two logical steps; None for the smallest.
        kind: "scheduled" for any interval; "pipelined" for an interval of 1 and nothing else; "synchronous" for
            zero-delay synapses that cost no machine step, as only a CPU can have them: that is no hardware
            timing. None calls a schedule "pipelined" if its interval is 1 and the graph has delays, else
            "scheduled".

    Raises:
        TimingError: The interval asked for is too small, or the kind does not allow it; the message names the
            cycle that needs more and, for a pipeline, the delays that would do.
    """
    if kind not in (None, *get_args(ScheduleName)):
        known = ", ".join(get_args(ScheduleName))
        raise TimingError("schedule", f"kind must be one of {known}", got=repr(kind))
    names, gap = populations(graph), graph.largest_delay
    edges = () if kind == "synchronous" else synapses(graph)  # those it has cost nothing
    smallest, _ = fastest(names, edges)
    if kind == "pipelined" and smallest > 1:
        raise _no_pipeline(graph)
    interval = smallest if initiation_interval is None else initiation_interval
    whole = isinstance(interval, int) and not isinstance(interval, bool)
    start = starts(names, edges, interval) if whole and interval >= smallest else None
    if start is None:
        raise TimingError(
            "schedule",
            f"initiation interval must be a whole number of at least {smallest}",
            got=repr(interval),
            remedy=(_because(graph) if edges else "") + "without one the smallest is taken",
        )
    if kind in ("pipelined", "synchronous") and interval > 1:
        remedy = "only a 'scheduled' one may have a longer"
        raise TimingError(f"{kind} schedule", "has an initiation interval of 1", got=interval, remedy=remedy)
    return Schedule(
        name=kind or ("pipelined" if interval == 1 and gap else "scheduled"),
        initiation_interval=interval,
        start=MappingProxyType(start),
        waits=MappingProxyType(waits(edges, start, interval)),
        gap=gap,
    )


def _because(graph: Graph) -> str:
    """Why the interval cannot be smaller, as the first half of a sentence; empty if it is 1."""
    cycle = critical_cycle(graph)
    if not cycle:
        return ""
    return (
        f"the cycle {' -> '.join(s.source for s in cycle)} has {len(cycle)} synapses "
        f"and a total delay of {sum(s.delay for s in cycle)}, and "
    )


def _no_pipeline(graph: Graph) -> TimingError:
    changed = [
        f"{edge} needs {delay}" for edge, delay in pipelined_delays(graph).items() if delay > edge.delay
    ]
    return TimingError(
        "pipelined schedule",
        "every cycle must have a total delay of at least its synapses",
        remedy=_because(graph)
        + f"a network trained with longer delays can be pipelined: {', '.join(changed)}",
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


def fastest(names: tuple[str, ...], edges: tuple[Synapse, ...]) -> tuple[int, dict[str, int]]:
    """The smallest initiation interval of populations and synapses, and the earliest starts at it."""
    low, high = 0, 1  # is too small, may be large enough
    while (start := starts(names, edges, high)) is None:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        found = starts(names, edges, middle)
        low, high, start = (middle, high, start) if found is None else (low, middle, found)
    return high, start


def smallest_interval(graph: Graph) -> int:
    """The smallest initiation interval: the largest, over cycles, of ceil(synapses / total delay)."""
    return fastest(populations(graph), synapses(graph))[0]


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


def pipelined_delays(graph: Graph) -> dict[Edge, int]:
    """The delay that each delayed edge needs for an initiation interval of 1, none below its own.

    Then every cycle has a total delay of at least its synapses. For a backward connection by itself that is the
    longest path without delay from where it enters to where it leaves, plus 1. The delays are minimal: none can
    be smaller as long as the others stay. Where cycles share connections there may be several such answers; then
    connections over few ops get the smallest delays first. Edges from one op to the same populations keep
    different delays if they have different ones.
    """
    names, fixed = populations(graph), tuple(s for s in synapses(graph) if s.delay == 0)
    _, earliest = fastest(names, fixed)
    place = {name: index for index, name in enumerate(graph.order)}
    edges = sorted(
        dict.fromkeys(e for e in graph.edges if e.delay),
        key=lambda e: (place[e.source] - place[e.target], e.delay, e.source),
    )
    ends = {e: entered(graph, e.target) for e in edges}
    delays = {e: max(e.delay, *(earliest[e.source] + 1 - earliest[t] for t in ends[e])) for e in edges}
    for edge in edges:
        others = [Synapse(e.source, t, delays[e]) for e in edges if e != edge for t in ends[e]]
        longest = _longest_path(names, (*fixed, *others), ends[edge], edge.source)
        delays[edge] = max(edge.delay, longest + 1)
    seen: dict[tuple[str, frozenset[str]], tuple[int, int]] = {}
    for edge in sorted(edges, key=lambda e: e.delay):
        own, last = seen.get((edge.source, ends[edge]), (0, 0))
        delays[edge] = max(delays[edge], last + (edge.delay > own))
        seen[edge.source, ends[edge]] = edge.delay, delays[edge]
    return {e: delays[e] for e in graph.edges if e.delay}


def entered(graph: Graph, name: str) -> frozenset[str]:
    """The populations that an op's values enter, the op itself if it is one."""
    if is_population(graph, name):
        return frozenset([name])
    return frozenset().union(*(entered(graph, e.target) for e in graph.outgoing[name]))


def _longest_path(
    names: tuple[str, ...], edges: tuple[Synapse, ...], sources: frozenset[str], target: str
) -> int:
    """The most that synapses outnumber delays on a path from any source to the target; -1 if there is none.

    No cycle may have more synapses than delay.
    """
    far: dict[str, int] = dict.fromkeys(sources, 0)
    for _ in names:
        for s in edges:
            if s.source not in far:
                continue
            there = far[s.source] + 1 - s.delay
            if s.target not in far or far[s.target] < there:
                far[s.target] = there
    return far.get(target, -1)
