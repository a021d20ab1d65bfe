"""A GPU or a CPU: time first, then power times time. Zeros are multiplied as any number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snndeploy.targets.models.charge import DEVICE, Charge, Constants, charge
from snndeploy.targets.work import Amount, OpWork, Setting, Work

_PJ = 1e6  # of a watt for a microsecond
_GIGA_US = 1e3  # operations a microsecond of 10^9 a second
SPARSITY = "model.sparse_power"
"""Constant of the model, not of a target: the share of its dynamic power that a device draws on spikes."""
_FREE = ("Input", "Output", "Flatten", "Dropout")  # no kernel of their own
_BYTE = 8
_NEEDED = ("peak.compute", "efficiency.compute", "memory.bandwidth", "efficiency.memory", "time.launch")


@dataclass(frozen=True, eq=False, slots=True)
class OpTime:
    """Time of one op for a whole batch and all steps, in microseconds.

    busy: That arithmetic or memory takes; the rest waits for launches.
    """

    name: str
    whole: Amount
    busy: Amount


def energy_pj(work: Work, constants: Constants, setting: Setting) -> tuple[Charge, ...]:
    """Idle power for all the time and what work adds to it for the busy time, in picojoules a sample.

        E = (P_idle t + (P_busy - P_idle) a t_busy) / B,   t = sum_l t_l

    see `op_times`. Skipped operations save nothing. Zeros do lower the dynamic power a little: a, in [0.6, 1] for
    spikes and 1 for other values (Gregersen et al., arXiv:2409.18324: up to 40 % between inputs). In real time
    the device idles for the rest of the period.
    """
    times = op_times(work, constants, setting)
    idle, busy = constants.get("power.idle"), constants.get("power.busy")
    share = constants.get(SPARSITY, 1.0) if work.spiking else 1.0
    found = [Charge(DEVICE, term, None, None) for term in _NEEDED if term not in constants]
    for one in times:
        found.append(_power(constants, one.name, "power.idle", one.whole / setting.batch))
        amount = one.busy * share / setting.batch
        above = None if idle is None or busy is None else np.maximum(busy - idle, 0.0) * amount * _PJ
        found.append(Charge(one.name, "power.busy", amount, above))
    if setting.sample_period_ms is not None:
        waiting = np.maximum(setting.sample_period_ms * 1e3 - _total(times) / setting.batch, 0.0)
        found.append(_power(constants, DEVICE, "power.idle", waiting))
    return tuple(found)


def time_us(work: Work, constants: Constants, setting: Setting) -> Amount:
    """Of a whole batch, in microseconds."""
    return _total(op_times(work, constants, setting))


def op_times(work: Work, constants: Constants, setting: Setting) -> tuple[OpTime, ...]:
    """t_l = max(2 MAC_l B T / (eta_c peak), bytes_l / (eta_m bandwidth), launches_l t_launch), in microseconds.

    The roofline (S. Williams et al., CACM 52(4), 2009) with the time to start a kernel. An op is one kernel a step
    where something leads backwards, else one for all steps, time being folded into the batch. Numbers that are not
    published count as no time at all.
    """
    repeats = work.steps if work.stepped else 1
    return tuple(
        _op_time(op, work, constants, setting, repeats)
        for op in work.ops
        if op.kind not in _FREE and op.evaluations
    )


def _op_time(op: OpWork, work: Work, constants: Constants, setting: Setting, repeats: int) -> OpTime:
    compute = constants.get("peak.compute"), constants.get("efficiency.compute")
    memory = constants.get("memory.bandwidth"), constants.get("efficiency.memory")
    busy: Amount = 0.0
    launches = float(min(repeats, op.evaluations))
    if compute[0] is not None and compute[1] is not None:
        busy = 2 * op.dense_macs * setting.batch / (compute[0] * compute[1] * _GIGA_US)
    if memory[0] is not None and memory[1] is not None:
        moved = _bytes(op, work, constants, setting, launches)
        busy = np.maximum(busy, moved / (memory[0] * memory[1] * _GIGA_US))
    return OpTime(op.name, np.maximum(busy, launches * constants.get("time.launch", 0.0)), busy)


def _bytes(op: OpWork, work: Work, constants: Constants, setting: Setting, launches: float) -> Amount:
    """To and from the main memory: nothing if all weights and the op's values stay on the chip."""
    weight, state, activation = (
        constants.get(term, 32.0) / _BYTE for term in ("bits.weight", "bits.state", "bits.activation")
    )
    values = (op.inputs + op.outputs) * activation * op.evaluations * setting.batch
    values = values + 2 * op.states * state * op.evaluations * setting.batch
    at_once = values / max(launches, 1.0)
    every = sum(one.weights + one.biases for one in work.ops) * weight
    held = every + at_once <= constants.get("memory.on_chip", 0.0) * 1024
    moved = values + (op.weights + op.biases) * weight * launches
    found: Amount = np.where(held, 0.0, moved)
    return found


def _power(constants: Constants, op: str, term: str, microseconds: Amount) -> Charge:
    found = charge(constants, op, term, microseconds)
    return found if found.pj is None else Charge(op, term, microseconds, found.pj * _PJ)


def _total(times: tuple[OpTime, ...]) -> Amount:
    return sum((one.whole for one in times), 0.0)
