"""What an inference costs on a target: exact counts from graph and spikes first, a profile's prices second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from snndeploy.errors import NetworkError
from snndeploy.ir import AvgPool2d, BatchNorm, Graph, Network, Trace, arrivals, is_population
from snndeploy.ir.fanout import Fanout, connections, fanouts
from snndeploy.targets.profile import EVIDENCE, Interval, TargetProfile

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
    synapses: By path, in the order of `fanouts`.
    layers: By Lif, in the order of execution.
    macs: By op.
    uncounted: Pools of analog values and BatchNorms that no convolution absorbs: their work is not counted.
    """

    steps: int
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
        """Updates of one sample: every neuron at every step."""
        return self.neurons * self.steps

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


@dataclass(frozen=True, eq=False)
class Energy:
    """An estimate per inference: the mean over the samples counted. What has no price is None.

    Analog layers whose input is constant are charged at every step; `mac_once_pj` is what `mac_pj` becomes
    on a target that keeps their result.
    """

    counts: Counts
    profile: TargetProfile

    @property
    def work(self) -> dict[str, float]:
        """Mean work per inference, by the term that prices it."""
        return {
            "energy.synop": float(self.counts.synaptic_operations.mean()),
            "energy.mac": float(self.counts.mac_operations()),
            "energy.neuron": float(self.counts.neuron_updates),
        }

    @property
    def e_snn_pj(self) -> Interval | None:
        """Of the synaptic operations (Spiking Synaptic Penalty, eqs. 10 and 11)."""
        return self.priced("energy.synop", self.work["energy.synop"])

    @property
    def mac_pj(self) -> Interval | None:
        """Of the multiply-accumulates on analog values, constant ones at every step."""
        return self.priced("energy.mac", self.work["energy.mac"])

    @property
    def mac_once_pj(self) -> Interval | None:
        """Of the multiply-accumulates on analog values, constant ones once a sample."""
        return self.priced("energy.mac", self.counts.mac_operations(once=True))

    @property
    def neuron_pj(self) -> Interval | None:
        """Of the neuron updates."""
        return self.priced("energy.neuron", self.work["energy.neuron"])

    @property
    def total_pj(self) -> Interval:
        """Of all that is priced; `bound` says what that is."""
        priced = (self.priced(term, amount) for term, amount in self.work.items())
        return sum((energy for energy in priced if energy is not None), Interval(0.0, 0.0, 0.0))

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Terms with work and no price."""
        return tuple(t for t, amount in self.work.items() if amount and self.priced(t, amount) is None)

    @property
    def bound(self) -> Literal["estimate", "lower bound"]:
        """What the total is: a lower bound if any work has no price or was not counted."""
        return "lower bound" if self.unpriced or self.counts.uncounted else "estimate"

    @property
    def evidence(self) -> str:
        """The weakest evidence of a price that was used; "unpublished" if none was."""
        used = [t for t, amount in self.work.items() if amount and t not in self.unpriced]
        grades = [self.profile.prices[term].evidence for term in used]
        return max(grades, key=EVIDENCE.index, default="unpublished")

    def priced(self, term: str, amount: float) -> Interval | None:
        """Energy of an amount of work, in picojoules."""
        price = self.profile.prices.get(term)
        return None if price is None or price.amount is None else price.amount * amount

    def to_json(self) -> dict[str, Any]:
        """The whole report as plain values: energies in picojoules, work per inference."""
        counts, operations = self.counts, self.counts.synaptic_operations
        rates = [_rate(counts, layer) for layer in counts.layers]
        return {
            "label": "ESTIMATED",
            "target": self.profile.name,
            "notes": self.profile.notes,
            "evidence": self.evidence,
            "prices": {term: asdict(price) for term, price in self.profile.prices.items()},
            "samples": counts.samples,
            "steps": counts.steps,
            "e_snn_pj": _plain(self.e_snn_pj),
            "mac_pj": _plain(self.mac_pj),
            "mac_once_pj": _plain(self.mac_once_pj),
            "first_layer": "recomputed at every step",
            "neuron_pj": _plain(self.neuron_pj),
            "total_pj": _plain(self.total_pj),
            "bound": self.bound,
            "unpriced": list(self.unpriced),
            "uncounted": list(counts.uncounted),
            "synaptic_operations": {
                "mean": float(operations.mean()),
                "standard_deviation": float(operations.std(ddof=1)) if counts.samples > 1 else None,
                "p95": float(np.percentile(operations, 95)),
            },
            "mac_operations": {
                "every_step": counts.mac_operations(),
                "once": counts.mac_operations(once=True),
            },
            "neuron_updates": counts.neuron_updates,
            "firing_rate": {"sum": sum(rates), "mean": sum(rates) / len(rates)},
            "dead_rate": sum(layer.dead for layer in counts.layers) / counts.neurons,
            "synapses": [_synapse_row(self, synapse) for synapse in counts.synapses],
            "macs": [_mac_row(self, mac) for mac in counts.macs],
            "layers": [_layer_row(counts, layer) for layer in counts.layers],
        }


def estimate(counts: Counts, profile: TargetProfile) -> Energy:
    """Prices counted work on a target."""
    return Energy(counts, profile)


def _check_spikes(network: Network, spikes: Mapping[str, npt.NDArray[Any]]) -> None:
    ports = network.graph.ports
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


def _rate(counts: Counts, layer: LayerCount) -> float:
    """Spikes per neuron and step (Spiking Synaptic Penalty, eq. 8, as the mean over the steps)."""
    return float(layer.spikes.mean()) / (layer.fired.size * counts.steps)


def _synapse_row(energy: Energy, synapse: SynapseCount) -> dict[str, Any]:
    path, operations = synapse.fanout, float(synapse.operations.mean())
    return {
        "source": path.source,
        "ops": list(path.ops),
        "target": path.target,
        "delay": path.delay,
        "synapses": path.total,
        "synaptic_operations": operations,
        "energy_pj": _plain(energy.priced("energy.synop", operations)),
    }


def _mac_row(energy: Energy, mac: MacCount) -> dict[str, Any]:
    operations = mac.operations(energy.counts.steps, once=False)
    return {
        **asdict(mac),
        "mac_operations": operations,
        "energy_pj": _plain(energy.priced("energy.mac", operations)),
    }


def _layer_row(counts: Counts, layer: LayerCount) -> dict[str, Any]:
    return {
        "name": layer.name,
        "neurons": layer.fired.size,
        "spikes": float(layer.spikes.mean()),
        "firing_rate": _rate(counts, layer),
        "dead_neurons": layer.dead,
    }


def _plain(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else asdict(interval)
