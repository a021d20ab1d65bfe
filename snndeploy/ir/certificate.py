"""Proof that a network's arithmetic is exact in single precision, whatever the order of its sums.

Weights, biases and inputs are whole multiples of powers of two, so every partial sum is a whole multiple of
one power of two, 2**-g. Single precision holds such a number exactly while it is at most 2**24 units of it.
The bounds below take every input at its worst. They are sufficient, not necessary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_never

from snndeploy.errors import QuantizeError
from snndeploy.ir.formats import Float32, Loihi
from snndeploy.ir.network import Network, require_folded
from snndeploy.ir.neurons import LARGEST_CURRENT, registers, weight_grids, weighted_twice
from snndeploy.ir.ops import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    Input,
    Lif,
    Linear,
    Op,
    Output,
    Upsample,
)

Wide: TypeAlias = npt.NDArray[np.float64]
SIGNIFICAND_BITS = 24  # of float32, the implicit bit included
_SMALLEST_EXPONENT = -126  # of float32 before digits are lost


@dataclass(frozen=True, slots=True)
class Row:
    """What the certificate says of one op.

    op: Its name.
    grid_bits: g of its finest channel: its sums are whole multiples of 2**-g.
    bound: Largest number of units a partial sum can reach; 0 where `reason` says why there is no bound.
    reason: Why the op cannot be certified; empty if it is.
    limit: Largest number of units that the format allows.
    """

    op: str
    grid_bits: int
    bound: float
    reason: str = ""
    limit: float = 2.0**SIGNIFICAND_BITS

    @property
    def certified(self) -> bool:
        """Whether the op's arithmetic is proven exact."""
        return not self.reason

    @property
    def bits_left(self) -> float:
        """Binary digits between the bound and the limit; negative where it is exceeded."""
        return math.log2(self.limit / self.bound) if self.bound > 0 else math.log2(self.limit)


@dataclass(frozen=True, slots=True)
class Certificate:
    """One row for every op that adds, in the order of execution."""

    rows: tuple[Row, ...]

    @property
    def holds(self) -> bool:
        """Whether the network carries the promise of zero differing spikes."""
        return all(row.certified for row in self.rows)

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that keep the certificate from holding."""
        return tuple(row for row in self.rows if not row.certified)


@dataclass(frozen=True, slots=True)
class Bound:
    """What is known of a value, one entry per channel (or feature).

    grid: It is a whole multiple of 2**-grid.
    above, below: It lies in [-below, above].
    """

    grid: npt.NDArray[np.int64]
    above: Wide
    below: Wide

    @property
    def units(self) -> Wide:
        """Largest size in units of the grid."""
        with np.errstate(over="ignore", invalid="ignore"):  # such a grid is refused for its range
            units: Wide = np.maximum(self.above, self.below) * np.exp2(self.grid.astype(np.float64))
        return units


def certify(network: Network) -> Certificate:
    """The certificate of a network in the exact or the loihi format.

    Exact: for a Lif with tau = 1/2, with P and N the sums of positive and of negative contributions in units of
    2**-g, bias included, it needs max(P + V_th * 2**g / 2, 2 N) * 2**(T - 1) <= 2**24; for the Output
    max(P, N) * T <= 2**24, which covers the sum over the time steps. A channel's interior neuron has the
    largest sums, so one bound per channel covers all its neurons.

    Loihi: each Lif needs P and 2 N of at most 2**17 - 1 in units of a synaptic weight of 1, so that neither
    its current nor a negative membrane potential overflows (a potential that saturates above fires all the
    same), and registers that can hold its threshold, bias and leak. The number of time steps does not matter.
    The Output is as in exact.

    Raises:
        QuantizeError: The network is in float32.
    """
    if isinstance(network.format, Float32):
        raise QuantizeError("certificate", "covers the exact and the loihi format only", got="float32")
    require_folded(network.graph, "a certificate")
    if isinstance(network.format, Loihi) and (problem := _unmapped(network)):
        return Certificate((problem,))
    graph, form = network.graph, network.format
    known = {name: _spike_bound(graph.shapes[name][0]) for name in graph.ports}
    grids = weight_grids(network) if isinstance(form, Loihi) else {}
    rows: list[Row] = []
    for name in graph.order:
        op = graph.ops[name]
        if isinstance(op, Input):
            known[name] = _input_bound(network)
            continue
        entering = _sum([known[e.source] for e in graph.incoming[name]])
        row, leaving = _judge(name, op, entering, network, form.exponents)
        if isinstance(form, Loihi) and isinstance(op, Lif):
            row = _loihi_row(name, op, entering, grids[name], network.steps)
        if row is not None:
            rows.append(row)
        known.setdefault(name, leaving)
    return Certificate(tuple(rows))


def _judge(
    name: str, op: Op, x: Bound, network: Network, exponents: Mapping[str, tuple[int, ...]]
) -> tuple[Row | None, Bound]:
    """The row of one op, None where it adds nothing, and what is known of its output."""
    match op:
        case Conv2d() | Linear():
            y = _weighted(name, op, x, network, exponents)
            return _row(name, y, y.units), y
        case AvgPool2d():
            area = op.kernel[0] * op.kernel[1]
            y = Bound(x.grid + max(area - 1, 0).bit_length(), x.above, x.below)
            if area & (area - 1):
                return Row(name, int(y.grid.max()), 0.0, f"the pool's area {area} is no power of two"), y
            return _row(name, y, y.units), y
        case Flatten():
            area = math.prod(network.graph.shapes[network.graph.incoming[name][0].source][1:])
            return None, Bound(np.repeat(x.grid, area), np.repeat(x.above, area), np.repeat(x.below, area))
        case Upsample():
            return None, x
        case Lif():
            return _lif_row(name, op, x, network.steps), x
        case Output():
            return _row(name, x, x.units * network.steps), x
        case Input() | BatchNorm() | Dropout():
            raise AssertionError(name)  # no input, and refused before
        case _:
            assert_never(op)


def _lif_row(name: str, op: Lif, x: Bound, steps: int) -> Row:
    shift = -math.log2(op.tau) if op.tau > 0 else 0.0
    if shift != int(shift):
        return Row(name, int(x.grid.max()), 0.0, f"tau {op.tau:g} is no power of two")
    if op.tau == 0:  # no memory: what enters is all there is
        return _row(name, x, x.units)
    memory = 1 / (1 - op.tau) if op.tau < 1 else float(steps)  # a membrane that never fires sums up its past
    widest = np.maximum(x.above + op.tau * op.threshold, memory * x.below)
    with np.errstate(over="ignore"):  # an infinite bound is none
        units = widest * np.exp2(x.grid + shift * (steps - 1))
    return _row(name, x, units, halvings=shift * (steps - 1))


def _loihi_row(name: str, op: Lif, x: Bound, grid: npt.NDArray[np.int64], steps: int) -> Row:
    memory = 1 / (1 - op.tau) if op.tau < 1 else float(steps)
    weights = np.exp2(grid + 1.0)
    bound = float((np.maximum(x.above, memory * x.below) * weights).max())
    fits = bound <= LARGEST_CURRENT
    reason = "" if fits else f"its current or potential can reach {bound:.4g} weights of 1, above 2**17 - 1"
    return Row(name, int(grid.max()), bound, reason, LARGEST_CURRENT)


def _unmapped(network: Network) -> Row | None:
    """A row that says which part of a network in the loihi format has no counterpart there; None if all have."""
    if (name := weighted_twice(network)) is not None:
        return Row(name, 0, 0.0, "a synapse holds one op with weights, and another one comes before it")
    try:
        registers(network)
    except QuantizeError as error:
        return Row(error.where, 0, 0.0, f"it {error.rule}, not {error.got}")
    return None


def _row(name: str, x: Bound, units: Wide, halvings: float = 0.0) -> Row:
    bound, limit = float(units.max()), 2.0**SIGNIFICAND_BITS
    reason = ""
    if x.grid.max() + halvings > -_SMALLEST_EXPONENT or x.grid.min() < _SMALLEST_EXPONENT + SIGNIFICAND_BITS:
        reason = "its numbers leave the range of single precision"
    if bound > limit:
        reason = f"sums can reach {bound:.4g} units, above 2**24 = {limit:.0f}"
    return Row(name, int(x.grid.max()), bound, reason)


def _weighted(
    name: str, op: Conv2d | Linear, x: Bound, network: Network, exponents: Mapping[str, tuple[int, ...]]
) -> Bound:
    weight = network.weights[f"{name}.weight"].astype(np.float64)
    groups = op.groups if isinstance(op, Conv2d) else 1
    by_input = weight.reshape(groups, len(weight) // groups, -1, math.prod(weight.shape[2:]))
    positive, negative = np.maximum(by_input, 0).sum(-1), np.maximum(-by_input, 0).sum(-1)
    above_in, below_in = (part.reshape(groups, -1, 1) for part in (x.above, x.below))
    above = (positive @ above_in + negative @ below_in).ravel()
    below = (positive @ below_in + negative @ above_in).ravel()
    finest = x.grid.reshape(groups, -1).max(axis=1).repeat(len(weight) // groups)
    grid = np.asarray(exponents[f"{name}.weight"], np.int64) + finest
    if op.bias:
        bias = network.weights[f"{name}.bias"].astype(np.float64)
        above, below = above + np.maximum(bias, 0), below + np.maximum(-bias, 0)
        used = np.where(bias == 0, grid, np.asarray(exponents[f"{name}.bias"], np.int64))
        grid = np.maximum(grid, used)
    return Bound(grid, above, below)


def _input_bound(network: Network) -> Bound:
    channels = network.graph.shapes[network.graph.input][0]
    bits = network.input.grid_bits or 0
    return Bound(
        np.full(channels, bits, np.int64),
        np.full(channels, network.input.high, np.float64),
        np.full(channels, -network.input.low, np.float64),
    )


def _spike_bound(channels: int) -> Bound:
    return Bound(np.zeros(channels, np.int64), np.ones(channels), np.zeros(channels))


def _sum(parts: list[Bound]) -> Bound:
    return Bound(
        np.max([p.grid for p in parts], axis=0),
        np.sum([p.above for p in parts], axis=0),
        np.sum([p.below for p in parts], axis=0),
    )
