"""Grids that meet in a Lif: the synapses of a population share one unit, which the finest of them sets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from snndeploy.errors import QuantizeError
from snndeploy.ir.network import Network
from snndeploy.ir.ops import Lif
from snndeploy.ir.quantize.branches import Branch, Inflow
from snndeploy.ir.quantize.grids import Whole

Mask: TypeAlias = npt.NDArray[np.bool_]
_SYNAPSE_EXPONENT = 7  # largest power of two that a synapse's weights can share
_UNLIMITED = np.int64(1 << 20)


@dataclass(frozen=True, eq=False)
class Alignment:
    """A network whose grids are sought in the loihi format.

    inflows: What enters each Lif and the Output.
    bits: Of a mantissa.
    shared: Whether the channels of an op have one exponent, so that a population has one threshold.
    """

    network: Network
    inflows: Mapping[str, Inflow]
    bits: int
    shared: bool

    def lif(self, name: str) -> Lif:
        """A Lif by name."""
        op = self.network.graph.ops[name]
        assert isinstance(op, Lif)  # noqa: S101 - called with ports, which are Lifs
        return op

    def branches(self) -> Iterator[tuple[str, Branch]]:
        """Every Lif with every branch into it."""
        return ((name, b) for name in self.network.graph.ports for b in self.inflows[name].branches)

    def grid(self, name: str, exponents: Mapping[str, Whole]) -> Whole:
        """G of each channel of a Lif, which channels of an op whose weights are all zero have no part in."""
        branches = self.inflows[name].branches
        none = self._direct(name, -_UNLIMITED)
        used = np.max([none, *(self._composed(b, exponents, -_UNLIMITED) for b in branches)], axis=0)
        all_of_them = np.max([none, *(self._composed(b, exponents) for b in branches)], axis=0)
        grid: Whole = np.where(used > -_UNLIMITED, used, all_of_them)
        return grid

    def refine(self, exponents: dict[str, Whole]) -> None:
        """Raises exponents to where thresholds are one unit at least; what is larger than a mantissa is clipped."""
        raised: dict[str, Whole] = {}
        for name, branch in self.branches():
            lacking = np.maximum(self._coarsest_allowed(name) - self.grid(name, exponents), 0)
            needed = -self.met(-lacking, branch)
            raised[branch.op] = np.maximum(raised.get(branch.op, needed), needed)
        for op, digits in raised.items():
            exponents[op] = exponents[op] + digits

    def align(self, exponents: dict[str, Whole], caps: dict[str, Whole]) -> None:
        """Lowers exponents to the caps of all Lifs that they reach, and caps to what synapses can differ by.

        Args:
            exponents: k of each channel of an op's weights; lowered, and settled where all weights are zero.
            caps: Finest grid of each channel of a Lif; lowered.

        Raises:
            QuantizeError: A Lif cannot have a grid so coarse.
        """
        changed = True
        while changed:
            for name, branch in self.branches():
                limit = self.met(caps[name], branch) - branch.product_digits
                exponents[branch.op] = np.minimum(exponents[branch.op], limit)
            changed = False
            for name in self.network.graph.ports:
                allowed = self._coarsest(name, exponents) + _SYNAPSE_EXPONENT
                if (allowed < self.grid(name, exponents)).any():
                    caps[name], changed = np.minimum(caps[name], allowed), True
                self._require(name, exponents, caps[name])
        self._settle_zeros(exponents)

    def met(self, values: Whole, branch: Branch) -> Whole:
        """The smallest of a Lif's values that each channel of a branch meets; of all if they share."""
        smallest = smallest_met(values, branch)
        return np.full_like(smallest, smallest.min()) if self.shared else smallest

    def _require(self, name: str, exponents: Mapping[str, Whole], cap: Whole) -> None:
        direct, grid = self.inflows[name].direct, self.grid(name, exponents)
        if direct and (direct.digits > cap).any():  # all else is lowered to the cap
            raise QuantizeError(
                name,
                f"is entered without a weight on the grid 2**-{direct.digits}, which is too fine for its sums",
                remedy="use an input on a coarser grid, put a convolution on that edge, or use smaller weights",
            )
        if (grid < self._coarsest_allowed(name)).any():
            raise QuantizeError(
                name,
                "needs a threshold of at least half its weights' grid",
                got=f"{self.lif(name).threshold:g} with weights on the grid 2**{-int(grid.min())}",
                remedy="use weights, biases and threshold of like size",
            )

    def _coarsest_allowed(self, name: str) -> int:
        """The coarsest grid on which the threshold of a Lif is a unit at least."""
        return math.ceil(-math.log2(self.lif(name).threshold)) - 1

    def _settle_zeros(self, exponents: dict[str, Whole]) -> None:
        """Gives channels whose weights are all zero the grid of the others, so that they set none."""
        limits: dict[str, Whole] = {}
        for name, branch in self.branches():
            fine = smallest_met(self.grid(name, exponents), branch) - branch.product_digits
            limits[branch.op] = np.minimum(limits.get(branch.op, fine), fine)
        for op, limit in limits.items():
            exponents[op] = np.where(self._used(op), exponents[op], limit)

    def _coarsest(self, name: str, exponents: Mapping[str, Whole]) -> Whole:
        """The coarsest grid in each channel of a Lif, weights of 1 counted with the digits of a mantissa."""
        composed = [self._composed(b, exponents, _UNLIMITED) for b in self.inflows[name].branches]
        coarsest: Whole = np.min([*composed, self._direct(name, _UNLIMITED) + self.bits - 2], axis=0)
        return coarsest

    def _composed(
        self, branch: Branch, exponents: Mapping[str, Whole], unused: np.int64 | None = None
    ) -> Whole:
        """Grid of what a branch adds to each channel of a Lif, `unused` for those whose weights are all zero."""
        own = exponents[branch.op] + branch.product_digits
        if unused is not None:
            own = np.where(self._used(branch.op), own, unused)
        return own.repeat(branch.repeats)

    def _direct(self, name: str, missing: np.int64) -> Whole:
        direct = self.inflows[name].direct
        return np.full(self.network.graph.shapes[name][0], direct.digits if direct else missing, np.int64)

    def _used(self, op: str) -> Mask:
        """Which channels of an op have a weight that is not zero; if they share an exponent, all or none."""
        weight = self.network.weights[f"{op}.weight"]
        used: Mask = weight.reshape(len(weight), -1).any(axis=1)
        return np.full_like(used, used.any()) if self.shared else used


def smallest_met(values: Whole, branch: Branch) -> Whole:
    """The smallest of a population's values that each channel of a branch meets."""
    smallest: Whole = values.reshape(-1, branch.repeats).min(axis=1)
    return smallest
