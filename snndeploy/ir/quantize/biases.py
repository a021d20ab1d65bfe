"""Biases for Loihi's neurons: those that enter a Lif have to add up to a mantissa times a power of two."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from snndeploy.ir.neurons import ACTIVATION_SHIFT, LARGEST_BIAS_EXPONENT, LARGEST_BIAS_MANTISSA
from snndeploy.ir.ops import Lif
from snndeploy.ir.quantize.alignment import Alignment, Mask, smallest_met
from snndeploy.ir.quantize.branches import Inflow
from snndeploy.ir.quantize.grids import Whole, Wide
from snndeploy.ir.quantize.rounding import finest_grid, on_bias_grid

UNIT_DIGITS = 1 + ACTIVATION_SHIFT  # the membrane's unit is 2**-(g + 7)


def halvings(op: Lif, steps: int) -> int | None:
    """Binary digits that the leak can append to a membrane potential in a sample; None if it does not halve."""
    if op.tau in (0.0, 1.0):
        return 0
    shift = -math.log2(op.tau)
    return int(shift) * (steps - 1) if shift == int(shift) else None


def fitting_biases(
    alignment: Alignment,
    biases: Mapping[str, Wide],
    grids: Mapping[str, Whole],
    free: Mapping[str, Whole],
) -> tuple[dict[str, Whole], dict[str, Mask]]:
    """K of each channel of the ops' biases, and the channels of each Lif whose grid is too fine for theirs.

    In short samples biases leave the membrane's last digits to the leak, so that it truncates nothing and the
    network is one in the exact format as well.

    Args:
        alignment: Of the network.
        biases: By op.
        grids: g of each channel of the Lifs.
        free: k of each op's biases where no Lif limits it; for those that the Output reads.
    """
    shifts = {name: np.zeros_like(grid) for name, grid in grids.items()}
    while True:
        found = _exponents(alignment, biases, grids, free, shifts)
        rounded = {op: on_bias_grid(bias, found[op]) for op, bias in biases.items()}
        settled = True
        for name, grid in grids.items():
            units = np.abs(_total(alignment.inflows[name], rounded)) * np.exp2(grid + float(UNIT_DIGITS))
            full = units > LARGEST_BIAS_MANTISSA * np.exp2(shifts[name].astype(np.float64))
            shifts[name] = shifts[name] + full
            settled = settled and not full.any()
        wide = {name: shift > LARGEST_BIAS_EXPONENT for name, shift in shifts.items()}
        wide = {name: mask for name, mask in wide.items() if mask.any()}
        if wide or settled:
            return found, wide


def _exponents(
    alignment: Alignment,
    biases: Mapping[str, Wide],
    grids: Mapping[str, Whole],
    free: Mapping[str, Whole],
    shifts: Mapping[str, Whole],
) -> dict[str, Whole]:
    """The finest k that biases may have if those of each Lif are multiples of 2**shift units of its membrane."""
    network = alignment.network
    read = {branch.op for branch in alignment.inflows[network.graph.output].branches}
    found = {op: free[op] if op in read else finest_grid(bias) for op, bias in biases.items()}
    for name, branch in alignment.branches():
        if branch.op in biases:
            leak = halvings(alignment.lif(name), network.steps) or 0
            left_out = np.maximum(shifts[name], leak if leak <= UNIT_DIGITS else 0)
            finest = smallest_met(grids[name] + UNIT_DIGITS - left_out, branch)
            found[branch.op] = np.minimum(found[branch.op], finest)
    return found


def _total(inflow: Inflow, biases: Mapping[str, Wide]) -> Wide:
    """Sum of all biases that enter each channel of a Lif; 0 if there are none."""
    total = np.zeros(1)
    for branch in inflow.branches:
        if branch.op in biases:
            total = total + branch.paths * biases[branch.op].repeat(branch.repeats)
    return total
