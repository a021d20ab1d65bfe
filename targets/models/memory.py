"""Operations and the traffic of weights, membrane potentials and activations that they cause."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from snndeploy.targets.models.arithmetic import operations
from snndeploy.targets.models.charge import Charge, Constants, charge
from snndeploy.targets.work import Amount, OpWork, Work

_ACCESS_BITS = 64  # of the accesses that the memory prices are for
_SRAM = (("energy.sram.8k", 8.0), ("energy.sram.32k", 32.0), ("energy.sram.1m", 1024.0))  # KiB
_KIB_BITS = 8 * 1024
Fits: TypeAlias = bool | np.bool_ | npt.NDArray[np.bool_]
"""Whether everything is on the chip, once or by draw."""
_WIDTHS = ("bits.weight", "bits.state", "bits.activation")


def energy_pj(work: Work, constants: Constants) -> tuple[Charge, ...]:
    """The operations of `arithmetic` and what their numbers cost on the way, in picojoules.

    For each op l that adds

        SynOps_l (rd(W_l) + rd(V_l) + wr(V_l)) + MACs_l (rd(W_l) + rd(x)) + N_l T (rd(V_l) + wr(V_l))
        + spikes_in rd(fifo) + spikes_out wr(fifo) + analog values out wr(x)

    after E. Lemaire et al., An analytical estimation of spiking neural networks energy efficiency,
    arXiv:2210.13107, without its addressing and with exact fan-out everywhere instead of kernel sizes. An access
    costs what a memory of the op's size costs, see `access_pj`; fifos have 8 KiB. Nothing is reused between two
    operations but what DRAM holds: if the network does not fit on the chip, its weights come from DRAM, each at
    most once an evaluation, through a buffer as large as the chip's memory.
    """
    terms = [*_WIDTHS, "memory.on_chip", *(name for name, _ in _SRAM)]
    priced = all(term in constants for term in terms)
    fits: Fits = _fits(work, constants) if priced else True
    found: list[Charge] = []
    for op in work.ops:
        found += operations(op, work, constants)
        if priced:
            found += _traffic(op, work, constants, fits)
        elif np.any(op.synops) or np.any(op.macs) or op.neurons:
            found += [Charge(op.name, term, None, None) for term in terms if term not in constants]
    return tuple(found)


def access_pj(kib: Amount, constants: Constants) -> Amount:
    """64 bits from or to an SRAM, in picojoules: straight lines between the priced sizes, both axes logarithmic.

    A smaller memory costs as the smallest, a larger as the largest (M. Horowitz, ISSCC 2014, has 8 KiB, 32 KiB
    and 1 MiB).
    """
    sizes = [np.log(size) for _, size in _SRAM]
    costs = [np.log(constants[name]) for name, _ in _SRAM]
    at = np.clip(np.log(kib), sizes[0], sizes[-1])
    cost = costs[0]
    for i in range(len(sizes) - 1):
        share = np.clip((at - sizes[i]) / (sizes[i + 1] - sizes[i]), 0.0, 1.0)
        cost = cost + share * (costs[i + 1] - costs[i])
    found: Amount = np.exp(cost)
    return found


def _fits(work: Work, constants: Constants) -> Fits:
    """Whether weights, states and one step's activations are on the chip together, by draw."""
    weight, state, activation = (constants[term] for term in _WIDTHS)
    bits: Amount = 0.0
    for op in work.ops:
        bits = bits + (op.weights + op.biases) * weight + op.states * state
        bits = bits + (op.outputs if work.spiking else op.outputs * activation)
    return np.less_equal(bits, constants["memory.on_chip"] * _KIB_BITS)


def _traffic(op: OpWork, work: Work, constants: Constants, fits: Fits) -> Iterator[Charge]:
    weight, state, activation = (constants[term] for term in _WIDTHS)
    on_chip = constants["memory.on_chip"]
    held = np.minimum(op.weights * weight / _KIB_BITS, on_chip) if op.weights else 0.0
    weights = access_pj(_at_least_one_byte(np.where(fits, held, on_chip)), constants)
    states = access_pj(_at_least_one_byte(op.outputs * state / _KIB_BITS), constants)
    fifo = constants["energy.sram.8k"]
    used = op.synops + op.macs if op.weights else 0.0
    yield _moved(op, "weights", used * weight, weights)
    if np.any(np.logical_not(fits)) and op.weights:
        fetched = np.minimum(used, float(op.weights * max(op.evaluations, 1))) * weight / _ACCESS_BITS
        yield charge(constants, op.name, "energy.dram", np.where(fits, 0.0, fetched))
    if work.spiking:
        accesses = 2 * (op.synops + float(op.neurons * work.steps))
        yield _moved(op, "states", accesses * state, states)
        yield _moved(op, "spikes", (op.events + op.spikes) * activation, fifo)
    written = float(op.outputs * op.evaluations) if np.any(op.macs) else 0.0
    yield _moved(op, "values", (op.macs + written) * activation, fifo)


def _at_least_one_byte(kib: Amount) -> Amount:
    found: Amount = np.maximum(kib, 1 / 1024)
    return found


def _moved(op: OpWork, what: str, bits: Amount, access: Amount) -> Charge:
    accesses = bits / _ACCESS_BITS
    return Charge(op.name, f"energy.sram ({what})", accesses, accesses * access)
