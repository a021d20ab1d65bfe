"""The machine steps of a bundle: when populations update and what has arrived by then; no arithmetic.

Population n updates for step t of sample s at machine step `(s * period + t) * interval + start`. What it sends
is on its way for the machine steps of a synapse, and the next update of the target takes everything that has
arrived since the last one. So a value that comes too late enters a later update, as it does in Lava.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from snndeploy.ir import Network, Schedule, populations, synapses

V = TypeVar("V")
Update: TypeAlias = Callable[[int, int, Sequence[Sequence[V]]], V]
"""What a population sends for a sample and step, given the values of each arrival, mostly one, in order."""


@dataclass(frozen=True)
class Arrival:
    """What comes from one source.

    transit: Machine steps from the update that sends a value to the first one that can take it.
    """

    source: str
    transit: int


@dataclass(frozen=True)
class Population:
    """A population's place in time and what comes in, in the order of its arrivals."""

    name: str
    start: int
    arrivals: tuple[Arrival, ...]


@dataclass(frozen=True)
class Machine:
    """The populations of a bundle, in the order of execution, and their clock.

    interval: Machine steps between two logical steps.
    steps: Logical steps of one sample.
    gap: Blank logical steps between two samples.
    """

    populations: tuple[Population, ...]
    interval: int
    steps: int
    gap: int

    def machine_steps(self, samples: int) -> int:
        """Machine steps from the first input to the last update of the last of some samples in a row."""
        latest = max(population.start for population in self.populations)
        last = (samples - 1) * (self.steps + self.gap) + self.steps - 1
        return last * self.interval + latest + 1

    def keeps_samples_apart(self) -> bool:
        """Whether no value of one sample can enter an update of another.

        A value of step t enters the update of step t + ceil((start[source] + transit - start[target]) / interval),
        whatever delay the network asks for; apart from its own sample's updates it may meet blank ones only.
        """
        start = {population.name: population.start for population in self.populations}
        return all(
            abs((population.start - start[arrival.source] - arrival.transit) // self.interval) <= self.gap
            for population in self.populations
            for arrival in population.arrivals
        )

    def run(self, samples: int, updates: Mapping[str, Update[V]]) -> None:
        """Goes through the machine steps of some samples in a row.

        Args:
            samples: How many.
            updates: What each population does, by name; not called for blank steps.
        """
        entering: dict[str, list[_Synapse[V]]] = {}
        leaving: dict[str, list[_Synapse[V]]] = {population.name: [] for population in self.populations}
        for population in self.populations:
            entering[population.name] = [_Synapse(a.transit, deque()) for a in population.arrivals]
            for arrival, synapse in zip(population.arrivals, entering[population.name], strict=True):
                leaving[arrival.source].append(synapse)
        for k in range(self.machine_steps(samples)):
            for population in self.populations:
                update, remainder = divmod(k - population.start, self.interval)
                if remainder:
                    continue
                arrived = [synapse.take(k) for synapse in entering[population.name]]
                sample, t = divmod(update, self.steps + self.gap)
                if 0 <= sample < samples and t < self.steps:
                    sent = updates[population.name](sample, t, arrived)
                    for synapse in leaving[population.name]:
                        synapse.send(k, sent)


@dataclass
class _Synapse(Generic[V]):
    """Values on their way to one population, with the machine step from which each can be taken."""

    transit: int
    on_the_way: deque[tuple[int, V]]

    def send(self, k: int, value: V) -> None:
        self.on_the_way.append((k + self.transit, value))

    def take(self, k: int) -> list[V]:
        """Everything that has arrived since it was called last."""
        taken = []
        while self.on_the_way and self.on_the_way[0][0] <= k:
            taken.append(self.on_the_way.popleft()[1])
        return taken


def machine(network: Network, schedule: Schedule) -> Machine:
    """The machine of a network and a schedule of its populations.

    A synapse takes one machine step and those that it waits; in a synchronous schedule, which has one machine
    step per logical step, just its delay.
    """
    incoming: dict[str, list[Arrival]] = {name: [] for name in populations(network.graph)}
    for synapse in synapses(network.graph):
        transit = synapse.delay if schedule.name == "synchronous" else 1 + schedule.waits.get(synapse, 0)
        incoming[synapse.target].append(Arrival(synapse.source, transit))
    return Machine(
        populations=tuple(
            Population(name, schedule.start[name], tuple(arrivals)) for name, arrivals in incoming.items()
        ),
        interval=schedule.initiation_interval,
        steps=network.steps,
        gap=schedule.gap,
    )
