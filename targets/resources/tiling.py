"""Cutting a population into rectangular tiles, one for each core.

A tile is a block of channels, rows and columns. What it takes of a core follows from the structure of the
paths into it: counts for a whole grid of tiles are outer products of counts per axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from snndeploy.ir import Shape
from snndeploy.targets.chip import Chip
from snndeploy.targets.resources.paths import Counts, Population, outer, reached, united

NEURONS, MEMORY, INPUT_AXONS = "core.neurons", "core.memory", "core.input_axons"
OUTPUT_AXONS = "core.output_axons"


@dataclass(frozen=True, slots=True)
class Neuron:
    """What a chip spends on one neuron and one weight.

    state_bytes: Of a neuron.
    weight_bits: Of a weight.
    """

    state_bytes: int
    weight_bits: int


class Demand:
    """What the tiles of one population take, for any size of tile (channels, rows, columns)."""

    def __init__(self, population: Population, chip: Chip, neuron: Neuron) -> None:
        self.population = population
        self._chip = chip
        self._neuron = neuron
        self._sums: dict[tuple[int, int, int], Counts] = {}
        self._distinct: dict[tuple[int, int, int], Counts] = {}

    def of(self, resource: str, block: Shape) -> Counts:
        """What each tile takes of a resource, by its place in the grid of tiles."""
        if resource == NEURONS:
            return self._neurons(block)
        return self._memory(block) if resource == MEMORY else self._input_axons(block)

    def synapses(self, block: Shape) -> Counts:
        """Synapses that end in each tile."""
        total = np.zeros(grid(self.population.sizes, block), np.int64)
        for index in range(len(self.population.paths)):
            total += outer(*(self._fan_in(index, axis, size) for axis, size in enumerate(block)))
        return total

    def _neurons(self, block: Shape) -> Counts:
        return outer(*(_lengths(n, size) for n, size in zip(self.population.sizes, block, strict=True)))

    def _memory(self, block: Shape) -> Counts:
        """Bytes of weights, and of neuron states where they share the memory."""
        bits = self._kernels(block) if self._chip.allows("shared_kernels") else self.synapses(block)
        used: Counts = -(-bits * self._neuron.weight_bits // 8)
        if self._chip.allows("shared_memory"):
            used = used + self._neurons(block) * self._neuron.state_bytes
        return used

    def _kernels(self, block: Shape) -> Counts:
        total = np.zeros(grid(self.population.sizes, block), np.int64)
        for path in self.population.paths:
            total += _block_sums(path.kernel, block[0])[:, None, None]
        return total

    def _input_axons(self, block: Shape) -> Counts:
        """Neurons with at least one synapse that ends in each tile."""
        total = np.zeros(grid(self.population.sizes, block), np.int64)
        indices = {id(path): index for index, path in enumerate(self.population.paths)}
        for paths in self.population.sources().values():
            if len(paths) == 1:
                index = indices[id(paths[0])]
                total += outer(*(self._reach(index, axis, size) for axis, size in enumerate(block)))
            else:
                for sign, matrices in united(paths, block):
                    total += sign * outer(*(matrix.sum(axis=1) for matrix in matrices))
        return total

    def _fan_in(self, index: int, axis: int, block: int) -> Counts:
        key = (index, axis, block)
        if key not in self._sums:
            self._sums[key] = _block_sums(self.population.paths[index].axes[axis].sum(axis=1), block)
        return self._sums[key]

    def _reach(self, index: int, axis: int, block: int) -> Counts:
        key = (index, axis, block)
        if key not in self._distinct:
            self._distinct[key] = reached(self.population.paths[index], axis, block).sum(axis=1)
        return self._distinct[key]


def grid(sizes: Shape, block: Shape) -> Shape:
    """Number of tiles along each axis."""
    return tuple(-(-n // size) for n, size in zip(sizes, block, strict=True))


def fit(demand: Demand, limits: Mapping[str, int], slack: float = 0.0) -> Shape | None:
    """The tile that needs the fewest cores within some limits; None if a single neuron exceeds them.

    For every number of channels it takes as many whole rows as fit, and where not even one does, as much of a
    row. Of all that need at most `slack` more cores than the fewest, it takes the one with the fewest pairs of
    a neuron and a core its spikes go to.
    """
    sizes = demand.population.sizes
    channels, rows, columns = sizes
    blocks = []
    for c in _even(channels):
        block = _largest(demand, limits, [(c, r, columns) for r in _even(rows)])
        block = block or _largest(demand, limits, [(c, 1, k) for k in _even(columns)])
        if block is not None:
            blocks.append((math.prod(grid(sizes, block)), block))
    most = min(blocks, default=(0, sizes))[0] * (1 + slack)
    pairs = [(int(demand.of(INPUT_AXONS, b).sum()), tiles, b) for tiles, b in blocks if tiles <= most]
    return min(pairs, default=(0, 0, None))[2]


def _largest(demand: Demand, limits: Mapping[str, int], blocks: list[Shape]) -> Shape | None:
    """The first of some blocks, each within the one before it, that fits."""
    low, high = 0, len(blocks)
    while low < high:
        middle = (low + high) // 2
        if fits(demand, limits, blocks[middle]):
            high = middle
        else:
            low = middle + 1
    return blocks[low] if low < len(blocks) else None


def fits(demand: Demand, limits: Mapping[str, int], block: Shape) -> bool:
    """Whether every tile of a size stays within the limits."""
    return all(int(demand.of(resource, block).max()) <= limit for resource, limit in limits.items())


def _even(size: int) -> list[int]:
    """Lengths of the largest block when an axis is cut as evenly as possible, the longest first."""
    return sorted({-(-size // parts) for parts in range(1, size + 1)}, reverse=True)


def _lengths(size: int, block: int) -> Counts:
    return _block_sums(np.ones(size, np.int64), block)


def _block_sums(values: Counts, block: int) -> Counts:
    sums: Counts = np.add.reduceat(values, np.arange(0, len(values), block))
    return sums
