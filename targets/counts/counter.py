"""Counting the work of a network batch by batch, from the spikes that it gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from snndeploy.errors import NetworkError, TargetError
from snndeploy.ir import Graph, InputSpec, Trace, check_steps
from snndeploy.ir.fanout import fanouts
from snndeploy.ir.timing import Schedule, schedule
from snndeploy.targets.counts.activity import driven, emitted, ways, weighed
from snndeploy.targets.counts.analog import analog_ops, uncounted
from snndeploy.targets.counts.counts import Counts, LayerCount, PerSample, SynapseCount, merge
from snndeploy.targets.counts.operations import op_counts
from snndeploy.targets.resources import Mapping as CoreMapping
from snndeploy.targets.resources import Messages
from snndeploy.targets.resources.messages import messages_of

Spikes = Trace | Mapping[str, npt.NDArray[np.bool_]]
Totals = Mapping[str, npt.NDArray[np.integer[Any]]]


class Countable(Protocol):
    """What counting needs to know of a network; a Network is one."""

    @property
    def graph(self) -> Graph:
        """Its structure."""

    @property
    def steps(self) -> int:
        """Logical time steps of a sample."""

    @property
    def input(self) -> InputSpec:
        """Whether one image stands still, or every step has a frame of its own."""


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """A network without weights: enough to count work if its spikes are known."""

    graph: Graph
    steps: int
    input: InputSpec = field(default_factory=InputSpec)

    def __post_init__(self) -> None:
        check_steps(self.graph, self.steps)


class Counter:
    """Counts samples as they come. What it keeps of each is whole numbers, and so is its memory.

    A spike works on every synapse of its neuron, also where a delay carries it past the last step. An op on
    analog values multiplies each of its connections, zeros included; an analog value that enters a Lif
    directly counts as a multiply-accumulate, too. An op that sums spikes and analog values counts as both.

    Args:
        network: The network, or its skeleton; a BatchNorm counts as part of the convolution before it.
        timing: Decides the machine steps; None for the schedule with the smallest initiation interval.
        mapping: The graph's cores, to count messages and hops; None leaves them out.
        strict: Refuse a network with work that is not counted.

    Raises:
        NetworkError: The network has no Lif.
        TargetError: The mapping is one of another graph, or the network has uncounted work and must not.
    """

    def __init__(
        self,
        network: Countable,
        *,
        timing: Schedule | None = None,
        mapping: CoreMapping | None = None,
        strict: bool = False,
    ) -> None:
        graph = network.graph
        if not graph.ports:
            raise NetworkError("energy", "is counted in spikes, so the network needs at least one Lif")
        if mapping is not None and mapping.graph != graph:
            raise TargetError("mapping", "must be one of the graph that is counted")
        self._network, self._mapping = network, mapping
        self._schedule = schedule(graph) if timing is None else timing
        self._paths = fanouts(graph)
        self._ways = ways(graph)
        self._analog = analog_ops(graph, self._paths, image=network.input.kind == "image")
        self._ops = op_counts(graph)
        self._uncounted = uncounted(graph, self._paths)
        self._counts: Counts | None = None
        if strict and self._uncounted:
            raise TargetError(
                ", ".join(self._uncounted),
                "is work that is not counted",
                remedy="fold the network, and put a convolution between an analog value and its pool",
            )

    @property
    def counts(self) -> Counts:
        """Of all samples so far.

        Raises:
            NetworkError: There are none.
        """
        if self._counts is None:
            raise NetworkError("counts", "must be those of at least one sample")
        return self._counts

    def add(self, spikes: Spikes, x: npt.NDArray[Any] | None = None) -> None:
        """Counts a batch.

        Args:
            spikes: A trace, or bool arrays (time, batch, *shape) for every Lif, by name.
            x: The prepared input that they came from, (batch, *shape) for an image or (time, batch, *shape), to
                count what is not zero of it. Without it, every value of the input counts as not zero.

        Raises:
            NetworkError: The spikes or the input do not fit the network, or only some batches have an input.
        """
        arrays = spikes.spikes if isinstance(spikes, Trace) else spikes
        samples = _check_spikes(self._network, arrays)
        nonzero = self._nonzero(x, samples)
        shape = (self._network.steps, samples, *self._network.graph.shapes[self._network.graph.input])
        entering = np.ones(shape, np.bool_) if nonzero is None else nonzero
        active = {**arrays, self._network.graph.input: entering}
        steps = self._network.steps + self._schedule.gap
        served = {name: driven(into, active, steps) for name, into in self._ways.items()}
        self._add({name: emitted(arrays[name]) for name in self._network.graph.ports}, served, nonzero)

    def add_totals(self, totals: Totals) -> None:
        """Counts a batch of which only the sums over time are known, so not which updates were driven.

        Args:
            totals: Spikes of every neuron over all time steps, (samples, *shape) whole numbers, by name.

        Raises:
            NetworkError: They do not fit the network, or other batches were given step by step.
        """
        _check_totals(self._network, totals)
        smallest = np.min_scalar_type(self._network.steps)
        narrow = {name: total.astype(smallest, copy=False) for name, total in totals.items()}
        self._add(narrow, dict.fromkeys(self._ways), None)

    def _add(
        self,
        totals: Totals,
        served: Mapping[str, PerSample | None],
        nonzero: npt.NDArray[np.bool_] | None,
    ) -> None:
        network, graph = self._network, self._network.graph
        machine_steps = self._schedule.machine_steps_per_sample(network.steps)
        sent: Mapping[str, Messages] = {}
        if self._mapping is not None:
            sent = messages_of(self._mapping, totals)
        counts = Counts(
            steps=network.steps,
            schedule=self._schedule,
            synapses=tuple(
                SynapseCount(path, weighed(totals[path.source], path.factors))
                for path in self._paths
                if path.kind == "spike"
            ),
            layers=tuple(
                LayerCount(
                    name,
                    spikes=total.reshape(len(total), -1).sum(axis=1, dtype=np.int64),
                    fired=total.any(axis=0),
                    updates=total[0].size * machine_steps,
                    driven=served[name],
                    messages=sent.get(name),
                )
                for name, total in ((name, totals[name]) for name in graph.ports)
            ),
            macs=tuple(op.count(nonzero, graph.input, network.steps) for op in self._analog),
            ops=self._ops,
            uncounted=self._uncounted,
        )
        self._counts = counts if self._counts is None else merge([self._counts, counts])

    def _nonzero(self, x: npt.NDArray[Any] | None, samples: int) -> npt.NDArray[np.bool_] | None:
        if x is None:
            return None
        network = self._network
        shape = (samples, *network.graph.shapes[network.graph.input])
        whole = (network.steps, *shape)
        if x.shape != whole and (x.shape != shape or network.input.kind != "image"):
            expected = f"{shape} or {whole}" if network.input.kind == "image" else str(whole)
            raise NetworkError("input", f"must have shape {expected}", got=x.shape)
        nonzero: npt.NDArray[np.bool_] = np.broadcast_to(x != 0, whole)
        return nonzero


def count(
    network: Countable,
    spikes: Spikes,
    x: npt.NDArray[Any] | None = None,
    *,
    timing: Schedule | None = None,
    mapping: CoreMapping | None = None,
    strict: bool = False,
) -> Counts:
    """Counts the work of some samples; arguments and errors as those of `Counter` and its `add`."""
    counter = Counter(network, timing=timing, mapping=mapping, strict=strict)
    counter.add(spikes, x)
    return counter.counts


def _check_names(network: Countable, given: Mapping[str, npt.NDArray[Any]]) -> None:
    ports = network.graph.ports
    if set(given) != set(ports):
        unknown, missing = sorted(set(given) - set(ports)), sorted(set(ports) - set(given))
        raise NetworkError(
            "spikes", "must name every Lif", got=f"missing {missing[:5]}, unknown {unknown[:5]}"
        )


def _check_spikes(network: Countable, spikes: Mapping[str, npt.NDArray[Any]]) -> int:
    """The number of samples."""
    _check_names(network, spikes)
    first = spikes[network.graph.ports[0]]
    samples = first.shape[1:2]
    if not samples or samples[0] < 1:
        raise NetworkError("spikes", "must be those of at least one sample", got=first.shape)
    for name in network.graph.ports:
        shape = (network.steps, *samples, *network.graph.shapes[name])
        if spikes[name].shape != shape:
            raise NetworkError(f"spikes of {name}", f"must have shape {shape}", got=spikes[name].shape)
        if spikes[name].dtype != np.bool_:
            raise NetworkError(
                f"spikes of {name}", "must be bool", got=spikes[name].dtype, remedy="pass `spikes > 0`"
            )
    return int(samples[0])


def _check_totals(network: Countable, totals: Totals) -> None:
    _check_names(network, totals)
    first = totals[network.graph.ports[0]]
    samples = first.shape[:1]
    if not samples or samples[0] < 1:
        raise NetworkError("spikes", "must be those of at least one sample", got=first.shape)
    for name in network.graph.ports:
        total, shape = totals[name], (*samples, *network.graph.shapes[name])
        if total.shape != shape:
            raise NetworkError(f"spikes of {name}", f"must have shape {shape}", got=total.shape)
        if total.dtype.kind not in "iu":
            raise NetworkError(f"spikes of {name}", "must be whole numbers", got=total.dtype)
        if total.min() < 0 or total.max() > network.steps:
            raise NetworkError(
                f"spikes of {name}",
                f"must lie in [0, {network.steps}], as a neuron spikes at most once a step",
                got=f"[{total.min()}, {total.max()}]",
            )
