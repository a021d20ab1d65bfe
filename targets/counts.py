"""How much work an inference is: exact whole numbers from the graph and measured spikes, without prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.errors import NetworkError
from snndeploy.ir import AvgPool2d, BatchNorm, Graph, Network, Trace, arrivals, is_population, schedule
from snndeploy.ir.fanout import Fanout, connections, fanouts

PerSample = npt.NDArray[np.int64]
"""One whole number for each sample, (samples,)."""


@dataclass(frozen=True, eq=False, slots=True)
class SynapseCount:
    """Work of the synapses of one path.

    operations: Synaptic operations, the sum over time and neurons of psi * spikes.
    """

    fanout: Fanout
    operations: PerSample


@dataclass(frozen=True, eq=False, slots=True)
class LayerCount:
    """Activity of one Lif.

    spikes: Over all time steps.
    fired: Of the Lif's shape, whether a neuron fired in any sample.
    """

    name: str
    spikes: PerSample
    fired: npt.NDArray[np.bool_]

    @property
    def dead(self) -> int:
        """Neurons that never fired."""
        return int(self.fired.size - self.fired.sum())


@dataclass(frozen=True, slots=True)
class MacCount:
    """Multiply-accumulates of one op on analog values.

    target: The weighted op, or the Lif or Output that takes analog values directly.
    macs: Of one evaluation for one sample.
    constant: Whether its input is the same at every step, so that a target may evaluate it once a sample.
    """

    target: str
    macs: int
    constant: bool

    def operations(self, steps: int, *, once: bool) -> int:
        """Of one sample, evaluated at every step, or only once where that is enough."""
        return self.macs * (1 if once and self.constant else steps)


@dataclass(frozen=True, eq=False)
class Counts:
    """Everything that is priced, as whole numbers.

    steps: Logical time steps of a sample.
    machine_steps: Machine steps of a sample when samples are streamed back to back, at the smallest
        initiation interval.
    synapses: By path, in the order of `fanouts`.
    layers: By Lif, in the order of execution.
    macs: By op.
    uncounted: Pools of analog values and BatchNorms that no convolution absorbs: their work is not counted.
    """

    steps: int
    machine_steps: int
    synapses: tuple[SynapseCount, ...]
    layers: tuple[LayerCount, ...]
    macs: tuple[MacCount, ...]
    uncounted: tuple[str, ...]

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.layers[0].spikes)

    @property
    def synaptic_operations(self) -> PerSample:
        """Synaptic operations of each sample."""
        total: PerSample = np.sum([synapse.operations for synapse in self.synapses], axis=0)
        return total

    @property
    def neurons(self) -> int:
        """Number of Lif neurons."""
        return sum(layer.fired.size for layer in self.layers)

    @property
    def neuron_updates(self) -> int:
        """Updates of one sample: a chip serves every neuron at every machine step, idle ones too."""
        return self.neurons * self.machine_steps

    def mac_operations(self, *, once: bool = False) -> int:
        """Multiply-accumulates of one sample, with constant ones evaluated at every step or once."""
        return sum(mac.operations(self.steps, once=once) for mac in self.macs)


def count(network: Network, spikes: Trace | Mapping[str, npt.NDArray[np.bool_]]) -> Counts:
    """Counts the work of some samples.

    A spike works on every synapse of its neuron, also where a delay carries it past the last step. An op on
    analog values multiplies each of its connections, zeros included; an analog value that enters a Lif
    directly counts as a multiply-accumulate, too. An op that sums spikes and analog values counts as both.

    Args:
        network: The network; a BatchNorm counts as part of the convolution before it.
        spikes: A trace, or bool arrays (time, batch, *shape) for every Lif, by name.

    Raises:
        NetworkError: The spikes do not fit the network.
    """
    arrays = spikes.spikes if isinstance(spikes, Trace) else spikes
    _check_spikes(network, arrays)
    graph = network.graph
    paths = fanouts(graph)
    operations: dict[int, PerSample] = {}
    layers = []
    for name in graph.ports:
        fired = arrays[name].any(axis=(0, 1))
        emitted = arrays[name].sum(axis=0, dtype=np.int64).reshape(-1, fired.size)  # (samples, neurons)
        layers.append(LayerCount(name, emitted.sum(axis=1), fired))
        for index, path in enumerate(paths):
            if path.source == name:
                operations[index] = emitted @ path.array().ravel()
    return Counts(
        steps=network.steps,
        machine_steps=schedule(graph).machine_steps_per_sample(network.steps),
        synapses=tuple(SynapseCount(paths[index], operations[index]) for index in sorted(operations)),
        layers=tuple(layers),
        macs=_macs(network, paths),
        uncounted=_uncounted(graph, paths),
    )


def merge(counts: Iterable[Counts]) -> Counts:
    """The counts of several batches of one network as those of all their samples, in that order.

    Raises:
        NetworkError: There are none, or they are of different networks.
    """
    parts = list(counts)
    kinds = len({_identity(part) for part in parts})
    if kinds != 1:
        raise NetworkError("counts", "must be of one network to be merged", got=f"those of {kinds}")
    synapses = tuple(
        replace(same[0], operations=np.concatenate([s.operations for s in same]))
        for same in zip(*(part.synapses for part in parts), strict=True)
    )
    layers = tuple(
        LayerCount(
            same[0].name,
            np.concatenate([layer.spikes for layer in same]),
            np.any([layer.fired for layer in same], axis=0),
        )
        for same in zip(*(part.layers for part in parts), strict=True)
    )
    return replace(parts[0], synapses=synapses, layers=layers)


def _check_spikes(network: Network, spikes: Mapping[str, npt.NDArray[Any]]) -> None:
    ports = network.graph.ports
    if not ports:
        raise NetworkError("energy", "is counted in spikes, so the network needs at least one Lif")
    if set(spikes) != set(ports):
        unknown, missing = sorted(set(spikes) - set(ports)), sorted(set(ports) - set(spikes))
        raise NetworkError(
            "spikes", "must name every Lif", got=f"missing {missing[:5]}, unknown {unknown[:5]}"
        )
    samples = spikes[ports[0]].shape[1:2]
    if not samples or samples[0] < 1:
        raise NetworkError("spikes", "must be those of at least one sample", got=spikes[ports[0]].shape)
    for name in ports:
        shape = (network.steps, *samples, *network.graph.shapes[name])
        if spikes[name].shape != shape:
            raise NetworkError(f"spikes of {name}", f"must have shape {shape}", got=spikes[name].shape)
        if spikes[name].dtype != np.bool_:
            raise NetworkError(
                f"spikes of {name}", "must be bool", got=spikes[name].dtype, remedy="pass `spikes > 0`"
            )


def _macs(network: Network, paths: tuple[Fanout, ...]) -> tuple[MacCount, ...]:
    graph, image = network.graph, network.input.kind == "image"
    found: dict[str, MacCount] = {}
    for path in paths:
        if path.kind != "analog":
            continue
        if is_population(graph, path.target):
            before = found[path.target].macs if path.target in found else 0
            found[path.target] = MacCount(path.target, before + path.total, constant=image)
        else:  # evaluated once for the sum of all that enters
            constant = image and all(source == graph.input for source, _ in arrivals(graph, path.target))
            found[path.target] = MacCount(path.target, connections(graph, path.target), constant)
    return tuple(found.values())


def _uncounted(graph: Graph, paths: tuple[Fanout, ...]) -> tuple[str, ...]:
    on_spikes = {name for path in paths if path.kind == "spike" for name in path.ops}
    behind_weights = {name for path in paths for name in path.ops}
    return tuple(
        name
        for name in graph.order
        if (isinstance(graph.ops[name], AvgPool2d) and name not in on_spikes)
        or (isinstance(graph.ops[name], BatchNorm) and name not in behind_weights)
    )


def _identity(counts: Counts) -> tuple[object, ...]:
    structure = tuple((str(s.fanout), s.fanout.total) for s in counts.synapses)
    layers = tuple((layer.name, layer.fired.shape) for layer in counts.layers)
    return counts.steps, structure, layers, counts.macs, counts.uncounted
