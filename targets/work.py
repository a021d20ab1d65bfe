"""Counted work as the models price it: per op, the mean over samples or one value for each draw of samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_never

from snndeploy.errors import ConfigError, TargetError
from snndeploy.ir import Graph
from snndeploy.targets.counts import Counts, MacCount, OpCount, PerSample
from snndeploy.targets.profile import FirstLayer, TargetProfile
from snndeploy.targets.resources import Mapping as CoreMapping
from snndeploy.targets.resources import Messages, map_onto
from snndeploy.targets.resources.tiling import NEURONS

Amount: TypeAlias = float | npt.NDArray[np.float64]
"""One number, or one for each draw, (draws,)."""
Average: TypeAlias = Callable[[PerSample], Amount]
"""What makes an amount of one whole number for each sample."""

_MESH = ("mesh.columns", "mesh.rows", "mesh.tile")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a target runs a network.

    first_layer: Where analog layers on a constant input run; "host" and "spike-encoded" hold for all analog layers.
    batch: Samples that dense hardware runs at once.
    step_time_us: Of a machine step; None for the target's own.
    sample_period_ms: Real time: a sample comes every so often, and power counts for all of it. None for back to
        back.

    Raises:
        ConfigError: A number is not positive, or both times are given.
    """

    first_layer: FirstLayer = "recompute"
    batch: int = 1
    step_time_us: float | None = None
    sample_period_ms: float | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "step_time_us", "sample_period_ms"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"setting {name}", "must be a finite number above 0", got=value)
        if self.step_time_us is not None and self.sample_period_ms is not None:
            raise ConfigError(
                "setting",
                "has a step time or a sample period, not both",
                remedy="the period decides the time",
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class OpWork:
    """Work of one op in one inference.

    synops: Synaptic operations of the synapses that end in it.
    events: Spikes that are read for these, one for each path.
    macs: Multiply-accumulates on analog values, zeros included, as the setting charges them.
    dense_macs: What hardware multiplies that knows no events: every connection.
    evaluations: How often such hardware computes it.
    weights, biases, inputs, outputs: Numbers, of one evaluation.
    neurons: Lif neurons, or those of an artificial network.
    states: Membrane potentials.
    updates: Neurons times machine steps.
    driven: Updates that a value has reached; None if that is not known.
    messages, hops_east_west, hops_north_south: None if they are not known.
    """

    name: str
    kind: str
    synops: Amount = 0.0
    events: Amount = 0.0
    macs: Amount = 0.0
    dense_macs: float = 0.0
    evaluations: int = 0
    weights: int = 0
    biases: int = 0
    inputs: int = 0
    outputs: int = 0
    neurons: int = 0
    states: int = 0
    updates: float = 0.0
    driven: Amount | None = 0.0
    spikes: Amount = 0.0
    messages: Amount | None = 0.0
    hops_east_west: Amount | None = 0.0
    hops_north_south: Amount | None = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Work:
    """Work of one inference.

    steps: Logical time steps.
    machine_steps: Between two samples streamed back to back.
    stepped: Whether something leads backwards, so that time cannot be folded into the batch.
    spiking: False for the artificial network of the same topology.
    chips, cores: In use; None without a mapping.
    fullest_neurons: On the fullest core; None without a mapping.
    """

    ops: tuple[OpWork, ...]
    steps: int
    machine_steps: int
    stepped: bool
    spiking: bool = True
    chips: int | None = None
    cores: int | None = None
    fullest_neurons: int | None = None

    def total(self, field: str) -> Amount | None:
        """A field of `OpWork` summed over the ops; None if it is not known of one."""
        amount: Amount = 0.0
        for op in self.ops:
            part = getattr(op, field)
            if part is None:
                return None
            amount = amount + part
        return amount


def mean(values: PerSample) -> float:
    """The mean over samples."""
    return float(values.mean())


def work_of(
    counts: Counts, setting: Setting, mapping: CoreMapping | None = None, average: Average = mean
) -> Work:
    """The work of a spiking network.

    Args:
        counts: What was counted, with the messages of the mapping if there is one.
        setting: Decides how often analog layers are computed.
        mapping: The network's cores.
        average: Over the samples.
    """
    placed = () if mapping is None else mapping.placed
    return Work(
        ops=tuple(_op_work(counts, op, setting, average) for op in counts.ops),
        steps=counts.steps,
        machine_steps=counts.machine_steps,
        stepped=any(synapse.fanout.delay > 0 for synapse in counts.synapses),
        chips=None if mapping is None else mapping.chips,
        cores=None if mapping is None else mapping.cores,
        fullest_neurons=max((one.fullest(NEURONS) for one in placed), default=None),
    )


def _op_work(counts: Counts, op: OpCount, setting: Setting, average: Average) -> OpWork:
    spikes = {layer.name: layer.spikes for layer in counts.layers}
    layer = next((layer for layer in counts.layers if layer.name == op.name), None)
    into = [synapse for synapse in counts.synapses if synapse.fanout.target == op.name]
    mac = next((mac for mac in counts.macs if mac.target == op.name), None)
    analog, encoded, evaluations = _analog(counts, mac, setting, average)
    sent = _averaged(None if layer is None else layer.messages, average) if layer is not None else _NOTHING
    return OpWork(
        name=op.name,
        kind=op.kind,
        synops=sum((average(synapse.operations) for synapse in into), encoded),
        events=sum((average(spikes[synapse.fanout.source]) for synapse in into), 0.0),
        macs=analog,
        dense_macs=float(op.macs * evaluations),
        evaluations=evaluations,
        weights=op.weights,
        biases=op.biases,
        inputs=op.inputs,
        outputs=op.outputs,
        neurons=op.states,
        states=op.states,
        updates=0.0 if layer is None else float(layer.updates),
        driven=0.0 if layer is None else _known(layer.driven, average),
        spikes=0.0 if layer is None else average(layer.spikes),
        messages=sent[0],
        hops_east_west=sent[1],
        hops_north_south=sent[2],
    )


_Sent: TypeAlias = tuple[Amount | None, Amount | None, Amount | None]
_NOTHING: _Sent = (0.0, 0.0, 0.0)


def _averaged(messages: Messages | None, average: Average) -> _Sent:
    if messages is None:
        return None, None, None
    return average(messages.sent), average(messages.hops_east_west), average(messages.hops_north_south)


def _known(values: PerSample | None, average: Average) -> Amount | None:
    return None if values is None else average(values)


def _analog(
    counts: Counts, mac: MacCount | None, setting: Setting, average: Average
) -> tuple[Amount, Amount, int]:
    """MACs of an op, synaptic operations of values that come as spikes, and how often it is computed."""
    if mac is None:
        return 0.0, 0.0, counts.steps
    match setting.first_layer:
        case "recompute":
            return float(mac.operations(counts.steps, once=False)), 0.0, counts.steps
        case "cached":
            times = 1 if mac.constant else counts.steps
            return float(mac.operations(counts.steps, once=True)), 0.0, times
        case "spike-encoded":  # a value that is not zero is a spike
            every = np.full(counts.samples, mac.operations(counts.steps, once=False), np.int64)
            known = mac.effective_operations(once=False)
            return 0.0, average(every if known is None else known), counts.steps
        case "host":
            return 0.0, 0.0, 0
        case _:
            assert_never(setting.first_layer)


def artificial_work(counts: Counts, mapping: CoreMapping | None = None, *, hosted: bool = False) -> Work:
    """The artificial network of the same topology: each Lif a ReLU, one step, every synapse a multiply-accumulate.

    What a delay holds back does not exist in a single step.

    Args:
        counts: Of the spiking network.
        mapping: Its cores.
        hosted: Whether what works on analog values in the spiking network is left out here, too.
    """
    elsewhere = {mac.target: mac.macs for mac in counts.macs} if hosted else {}
    return Work(
        ops=tuple(_artificial(op, elsewhere.get(op.name, 0)) for op in counts.ops),
        steps=1,
        machine_steps=1,
        stepped=False,
        spiking=False,
        chips=None if mapping is None else mapping.chips,
        cores=None if mapping is None else mapping.cores,
    )


def _artificial(op: OpCount, elsewhere: int) -> OpWork:
    macs = max(op.undelayed_macs - elsewhere, 0)
    sent = None if op.states else 0.0
    return OpWork(
        name=op.name,
        kind=op.kind,
        macs=float(macs),
        dense_macs=float(macs),
        evaluations=1 if macs or not op.weights else 0,
        weights=op.weights,
        biases=op.biases,
        inputs=op.inputs,
        outputs=op.outputs,
        neurons=op.states,
        updates=float(op.states),
        driven=float(op.states),
        messages=sent,
        hops_east_west=sent,
        hops_north_south=sent,
    )


def mapping_for(graph: Graph, profile: TargetProfile) -> CoreMapping | None:
    """The graph on the cores of a profile's chip; None where there is no chip, no mesh, or no way to place it."""
    chip = profile.chip
    if chip is None or any(chip.limit(name) is None for name in _MESH):
        return None
    try:
        return map_onto(graph, chip)
    except TargetError:  # analog streams: `snndeploy resources` says where
        return None


def terms_of(work: Work) -> Mapping[str, Amount | None]:
    """Work by the term that prices it, as reports and calibrations name it."""
    fields = {
        "energy.synop": "synops",
        "energy.mac": "macs",
        "energy.neuron": "updates",
        "energy.neuron.access": "updates",
        "energy.neuron.update": "driven",
        "energy.spike": "spikes",
        "energy.message": "messages",
        "energy.hop.ew": "hops_east_west",
        "energy.hop.ns": "hops_north_south",
    }
    return {term: work.total(field) for term, field in fields.items()}
