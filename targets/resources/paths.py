"""The synapses into each population of a graph, path by path, as matrices small enough to tile.

A path from population to population is a Kronecker product of one bool matrix per axis (channels, rows,
columns), see `snndeploy.ir.fanout`. So is what a rectangular part of a population takes from it, and counts
of it are products of three small counts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from snndeploy.errors import TargetError
from snndeploy.ir import Conv2d, Graph, Linear, Shape, populations
from snndeploy.ir.fanout import Axes, Axis, fanouts, merged, structure

Counts: TypeAlias = npt.NDArray[np.int64]
Matrix: TypeAlias = npt.NDArray[np.bool_]
_LARGEST_MATRIX = 2**27  # entries, 128 MiB
_Route: TypeAlias = tuple[str, int, tuple[str, ...]]  # source, delay, ops


@dataclass(frozen=True, eq=False, slots=True)
class Path:
    """All synapses along one path of ops.

    source: The population it leaves.
    delay: Logical time steps.
    axes: Per axis, which positions of the source (columns) each position of the target (rows) takes.
    kernel: Weights stored once for all positions of a channel of the target, (channels,).
    """

    source: str
    delay: int
    axes: tuple[Matrix, Matrix, Matrix]
    kernel: Counts

    @property
    def synapses(self) -> int:
        """Synapses of all neurons together."""
        return math.prod(int(axis.sum()) for axis in self.axes)


@dataclass(frozen=True, eq=False, slots=True)
class Population:
    """Neurons and the synapses that lead to them.

    sizes: Channels, rows, columns; a flattened map keeps its own where all paths agree on them.
    """

    name: str
    sizes: Shape
    paths: tuple[Path, ...]

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return math.prod(self.sizes)

    def sources(self) -> dict[str, tuple[Path, ...]]:
        """Its paths by the population they leave."""
        found: dict[str, tuple[Path, ...]] = {}
        for path in self.paths:
            found[path.source] = (*found.get(path.source, ()), path)
        return found


def chip_populations(graph: Graph) -> tuple[Population, ...]:
    """All populations but the Input, which the host plays, in the order of execution.

    Every path between two populations is composed completely, as `fanouts(graph, deployed=True)` has it.

    Raises:
        TargetError: A vector is used neuron by neuron, and is too long for that.
    """
    routes: dict[str, list[_Route]] = {}
    for fanout in fanouts(graph, deployed=True):
        routes.setdefault(fanout.target, []).append((fanout.source, fanout.delay, fanout.ops))
    return tuple(_population(graph, name, routes.get(name, [])) for name in populations(graph)[1:])


def _population(graph: Graph, name: str, routes: list[_Route]) -> Population:
    found = [structure(graph, graph.shapes[source], ops) for source, _, ops in routes]
    outs = {_sizes_out(axes, before) for axes, before in found}
    ins = {(source, before) for (source, *_), (_, before) in zip(routes, found, strict=True)}
    flat = len(outs) > 1 or len(ins) > len({source for source, *_ in routes})  # a map on one path only
    paths = []
    for (source, delay, ops), (axes, before) in zip(routes, found, strict=True):
        kernel = _kernel(graph, ops, axes, before)
        if flat:
            area = math.prod(_sizes_out(axes, before)[1:])
            stored = np.zeros(len(kernel) * area, np.int64)
            stored[::area] = kernel  # with the first neuron of each channel
            one = np.ones((1, 1), np.bool_)
            paths.append(Path(source, delay, (_in_one(name, axes, before), one, one), stored))
        else:
            channels, rows, columns = (_matrix(name, a, n) for a, n in zip(axes, before, strict=True))
            paths.append(Path(source, delay, (channels, rows, columns), kernel))
    sizes = outs.pop() if len(outs) == 1 and not flat else (math.prod(graph.shapes[name]), 1, 1)
    return Population(name, sizes, tuple(paths))


def _kernel(graph: Graph, ops: tuple[str, ...], axes: Axes, before: Shape) -> Counts:
    """Weights of one channel of a path's end; those of several weighted ops compose to the largest stencil."""
    channels = _sizes_out(axes, before)[0]
    weighted = [op for op in (graph.ops[name] for name in ops) if isinstance(op, (Conv2d, Linear))]
    match weighted:
        case []:
            return np.ones(channels, np.int64)
        case [Conv2d() as conv]:
            stored = conv.in_channels // conv.groups * math.prod(conv.kernel)
        case [Linear() as linear]:
            stored = linear.in_features
        case _:
            fan_ins = [1 if axis is None else int(axis.sum(axis=1).max()) for axis in axes]
            stored = math.prod(fan_ins)
    return np.full(channels, stored, np.int64)


def _matrix(name: str, axis: Axis, size: int) -> Matrix:
    return _in_one(name, (None,), (size,)) if axis is None else axis


def _in_one(name: str, axes: Axes, before: Shape) -> Matrix:
    """The structure of a path as one matrix."""
    entries = math.prod(_sizes_out(axes, before)) * math.prod(before)
    if entries > _LARGEST_MATRIX:
        raise TargetError(
            name,
            f"takes single neurons of a long vector, whose matrix may have at most {_LARGEST_MATRIX} entries",
            got=entries,
            remedy="pool before the Flatten, or put a Linear behind it",
        )
    return merged(name, axes, before)


def _sizes_out(axes: Axes, before: Shape) -> Shape:
    return tuple(n if axis is None else len(axis) for axis, n in zip(axes, before, strict=True))


def reached(path: Path, axis: int, block: int) -> Matrix:
    """Which positions of the source lead to each block of positions of the target, (blocks, in)."""
    matrix = path.axes[axis]
    if block == 1:
        return matrix
    blocks: Matrix = np.logical_or.reduceat(matrix, np.arange(0, len(matrix), block), axis=0)
    return blocks


def united(paths: Sequence[Path], block: Shape) -> Iterator[tuple[int, tuple[Matrix, Matrix, Matrix]]]:
    """Terms whose sum is 1 where at least one of some paths of one source leads to a block, and 0 elsewhere.

    Each is a sign and one matrix (blocks, in) per axis, whose product it stands for (inclusion and exclusion).
    """
    parts = _largest([tuple(reached(path, axis, size) for axis, size in enumerate(block)) for path in paths])
    for number in range(1, len(parts) + 1):
        for chosen in itertools.combinations(parts, number):
            channels, rows, columns = (reduce(np.logical_and, same) for same in zip(*chosen, strict=True))
            if channels.any() and rows.any() and columns.any():
                yield (1 if number % 2 else -1), (channels, rows, columns)


def _largest(parts: list[tuple[Matrix, ...]]) -> list[tuple[Matrix, ...]]:
    """The parts that lie in no other one: every further part doubles the number of terms."""
    kept: list[tuple[Matrix, ...]] = []
    for part in parts:
        if not any(_lies_in(part, other) for other in kept):
            kept = [other for other in kept if not _lies_in(other, part)] + [part]
    return kept


def _lies_in(part: tuple[Matrix, ...], other: tuple[Matrix, ...]) -> bool:
    return all(bool((a <= b).all()) for a, b in zip(part, other, strict=True))


def outer(channels: Counts, rows: Counts, columns: Counts) -> Counts:
    """Product of three counts per position, (channels, rows, columns)."""
    product: Counts = channels[:, None, None] * rows[:, None] * columns
    return product
