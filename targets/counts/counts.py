"""What an inference does, as exact whole numbers without prices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from snndeploy.errors import NetworkError
from snndeploy.ir.fanout import Fanout
from snndeploy.ir.timing import Schedule
from snndeploy.targets.counts.operations import OpCount
from snndeploy.targets.resources import Messages

PerSample: TypeAlias = npt.NDArray[np.int64]
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
    updates: Neuron updates of one sample: every neuron is served in every machine step.
    driven: Those of them for which at least one spike or analog value has arrived since the neuron's logical
        step before, at most one a neuron and logical step; None if the spikes were given as counts over time.
    messages: To the cores of a mapping; None without one.
    """

    name: str
    spikes: PerSample
    fired: npt.NDArray[np.bool_]
    updates: int
    driven: PerSample | None
    messages: Messages | None

    @property
    def dead(self) -> int:
        """Neurons that never fired."""
        return int(self.fired.size - self.fired.sum())

    @property
    def resets(self) -> PerSample:
        """Membrane potentials set back to zero: the reset is hard, so one for each spike."""
        return self.spikes

    @property
    def idle(self) -> PerSample | None:
        """Updates that are not driven."""
        return None if self.driven is None else self.updates - self.driven


@dataclass(frozen=True, eq=False, slots=True)
class MacCount:
    """Multiply-accumulates of one op on analog values.

    target: The weighted op, or the Lif or Output that takes analog values directly.
    macs: Of one evaluation for one sample, multiplications by zero included.
    constant: Whether its input is the same at every step, so that a target may evaluate it once a sample.
    effective: Those by an input that is not zero, at all steps together; None if the input was not given. Behind
        another weighted op every input counts as not zero, and spikes that are summed into it do not count.
    effective_once: The same at the last step alone.
    """

    target: str
    macs: int
    constant: bool
    effective: PerSample | None
    effective_once: PerSample | None

    def operations(self, steps: int, *, once: bool) -> int:
        """Of one sample, evaluated at every step, or only once where that is enough."""
        return self.macs * (1 if once and self.constant else steps)

    def effective_operations(self, *, once: bool) -> PerSample | None:
        """The same by inputs that are not zero."""
        return self.effective_once if once and self.constant else self.effective


@dataclass(frozen=True, eq=False)
class Counts:
    """Everything that is priced, as whole numbers.

    steps: Logical time steps of a sample.
    schedule: Decides how many machine steps these take.
    synapses: By path, in the order of `fanouts`.
    layers: By Lif, in the order of execution.
    macs: By op.
    ops: What one evaluation of each op takes whatever its input, in the order of execution.
    uncounted: Pools of analog values and BatchNorms that no convolution absorbs: their work is not counted.
    """

    steps: int
    schedule: Schedule
    synapses: tuple[SynapseCount, ...]
    layers: tuple[LayerCount, ...]
    macs: tuple[MacCount, ...]
    ops: tuple[OpCount, ...]
    uncounted: tuple[str, ...]

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.layers[0].spikes)

    @property
    def machine_steps(self) -> int:
        """Machine steps of a sample when samples are streamed back to back, blank steps between them included."""
        return self.schedule.machine_steps_per_sample(self.steps)

    @property
    def synaptic_operations(self) -> PerSample:
        """Synaptic operations of each sample."""
        return self._total(synapse.operations for synapse in self.synapses)

    @property
    def spikes(self) -> PerSample:
        """Spikes of each sample."""
        return self._total(layer.spikes for layer in self.layers)

    @property
    def resets(self) -> PerSample:
        """Resets of each sample."""
        return self._total(layer.resets for layer in self.layers)

    @property
    def neurons(self) -> int:
        """Number of Lif neurons. The Output is the host's to read and none of them."""
        return sum(layer.fired.size for layer in self.layers)

    @property
    def neuron_updates(self) -> int:
        """Updates of one sample: a chip serves every neuron at every machine step, idle ones too."""
        return sum(layer.updates for layer in self.layers)

    @property
    def driven(self) -> PerSample | None:
        """Driven neuron updates of each sample; None if the spikes were given as counts over time."""
        return self._known(layer.driven for layer in self.layers)

    @property
    def idle(self) -> PerSample | None:
        """Idle neuron updates of each sample."""
        return self._known(layer.idle for layer in self.layers)

    @property
    def messages(self) -> Messages | None:
        """Messages and hops of each sample, of all layers together; None without a mapping."""
        each = [layer.messages for layer in self.layers]
        known = [one for one in each if one is not None]
        if len(known) < len(each):
            return None
        return Messages(*(self._total(getattr(one, f.name) for one in known) for f in fields(Messages)))

    def mac_operations(self, *, once: bool = False) -> int:
        """Multiply-accumulates of one sample, with constant ones evaluated at every step or once."""
        return sum(mac.operations(self.steps, once=once) for mac in self.macs)

    def effective_mac_operations(self, *, once: bool = False) -> PerSample | None:
        """Those of each sample by inputs that are not zero; None if the input was not given."""
        return self._known(mac.effective_operations(once=once) for mac in self.macs)

    def _total(self, each: Iterable[PerSample]) -> PerSample:
        return sum(each, np.zeros(self.samples, np.int64))

    def _known(self, each: Iterable[PerSample | None]) -> PerSample | None:
        values = list(each)
        known = [value for value in values if value is not None]
        return self._total(known) if len(known) == len(values) else None


def merge(counts: Iterable[Counts]) -> Counts:
    """The counts of several batches of one network as those of all their samples, in that order.

    Raises:
        NetworkError: There are none, or they are of different networks, schedules or mappings, or what is known
            of some is not of others.
    """
    parts = list(counts)
    kinds = len({_identity(part) for part in parts})
    if kinds != 1:
        raise NetworkError("counts", "must be of one network to be merged", got=f"those of {kinds}")
    return replace(
        parts[0],
        synapses=tuple(map(_merged_synapses, *(part.synapses for part in parts))),
        layers=tuple(map(_merged_layers, *(part.layers for part in parts))),
        macs=tuple(map(_merged_macs, *(part.macs for part in parts))),
    )


def _merged_synapses(*same: SynapseCount) -> SynapseCount:
    return replace(same[0], operations=np.concatenate([one.operations for one in same]))


def _merged_layers(*same: LayerCount) -> LayerCount:
    messages = [one.messages for one in same if one.messages is not None]
    return replace(
        same[0],
        spikes=np.concatenate([one.spikes for one in same]),
        fired=np.any([one.fired for one in same], axis=0),
        driven=_joined(one.driven for one in same),
        messages=Messages(
            *(np.concatenate([getattr(one, f.name) for one in messages]) for f in fields(Messages))
        )
        if messages
        else None,
    )


def _merged_macs(*same: MacCount) -> MacCount:
    return replace(
        same[0],
        effective=_joined(one.effective for one in same),
        effective_once=_joined(one.effective_once for one in same),
    )


def _joined(each: Iterable[PerSample | None]) -> PerSample | None:
    known = [one for one in each if one is not None]
    return np.concatenate(known) if known else None


def _identity(counts: Counts) -> tuple[object, ...]:
    schedule = counts.schedule
    return (
        counts.steps,
        (schedule.name, schedule.initiation_interval, schedule.gap),
        tuple((str(s.fanout), s.fanout.total) for s in counts.synapses),
        tuple(
            (one.name, one.fired.shape, one.updates, one.driven is None, one.messages is None)
            for one in counts.layers
        ),
        tuple((one.target, one.macs, one.constant, one.effective is None) for one in counts.macs),
        counts.ops,
        counts.uncounted,
    )
