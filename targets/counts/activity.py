"""Which neurons spikes and other values reach, at each time step: what makes a neuron update a driven one.

A neuron is driven if a value that is not zero arrives over any synapse that the architecture does not force to
vanish. The synapses of one path are a Kronecker product of a bool matrix per axis (`snndeploy.ir.fanout`), so
what is reached is found axis by axis: behind a convolution without groups it is the same for all channels, and
only a window of positions is left to look at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from snndeploy.ir import Graph, Shape
from snndeploy.ir.fanout import Axis, fanouts, structure

Active: TypeAlias = npt.NDArray[np.bool_]
"""(time, samples, channels, rows, columns); an axis of length 1 stands for equal values along it."""


@dataclass(frozen=True, eq=False, slots=True)
class Way:
    """One path, from a population to what it enters.

    delay: Logical time steps.
    axes: Per axis, which elements of the source (columns) each element of the end (rows) depends on; None for
        the identity.
    sizes: Of the source's axes.
    """

    source: str
    delay: int
    axes: tuple[Axis, ...]
    sizes: Shape

    @classmethod
    def of(cls, graph: Graph, source: str, delay: int, ops: tuple[str, ...]) -> Way:
        """The path from a source through some ops."""
        axes, sizes = structure(graph, graph.shapes[source], ops)
        return cls(source, delay, tuple(map(_plain, axes)), sizes)

    @property
    def ends(self) -> Shape:
        """Sizes of the axes at its end."""
        pairs = zip(self.axes, self.sizes, strict=True)
        return tuple(size if axis is None else len(axis) for axis, size in pairs)


def ways(graph: Graph) -> dict[str, tuple[Way, ...]]:
    """All ways into every Lif, from population to population, by name."""
    found: dict[str, list[Way]] = {name: [] for name in graph.ports}
    for path in fanouts(graph, deployed=True):
        if path.target in found:
            found[path.target].append(Way.of(graph, path.source, path.delay, path.ops))
    return {name: tuple(each) for name, each in found.items()}


def ends(into: Sequence[Way]) -> Shape:
    """Sizes of the axes that ways meet on: those of a vector where they do not all give the same map."""
    first, *others = {way.ends for way in into}
    return (math.prod(first), 1, 1) if others else first


def reached(into: Sequence[Way], active: Mapping[str, npt.NDArray[np.bool_]], steps: int) -> Active:
    """What at least one of some ways into one op reaches, at each of the time steps that are asked for.

    Args:
        into: At least one way.
        active: Whether an element is not zero, (time, samples, *shape), by source.
        steps: Time steps; what a delay carries beyond them is dropped.
    """
    size = ends(into)
    total: Active | None = None
    for way in into:
        found = _delayed(_through(way, active[way.source]), way.delay, steps)
        if way.ends != size:
            found = np.broadcast_to(found, (*found.shape[:2], *way.ends)).reshape(*found.shape[:2], *size)
        total = found if total is None else total | found
    assert total is not None  # noqa: S101 - there is at least one way
    return total


def driven(
    into: Sequence[Way], active: Mapping[str, npt.NDArray[np.bool_]], steps: int
) -> npt.NDArray[np.int64]:
    """Neurons of one op that are reached, summed over the time steps, (samples,); arguments as `reached`."""
    found = reached(into, active, steps)
    copies = math.prod(ends(into)) // math.prod(found.shape[2:])
    each: npt.NDArray[np.int64] = emitted(found).reshape(found.shape[1], -1).sum(axis=1, dtype=np.int64)
    return each * copies


def emitted(values: npt.NDArray[np.bool_]) -> npt.NDArray[np.integer[Any]]:
    """How often each element is true over time, (samples, ...), in the smallest type of whole number that holds it."""
    smallest = np.min_scalar_type(len(values))
    bits = values.view(np.uint8)  # bytes add up several at a time
    total: npt.NDArray[np.integer[Any]] = np.add.reduce(bits, axis=0, dtype=smallest)
    return total


def weighed(
    values: npt.NDArray[np.integer[Any]], factors: Iterable[npt.NDArray[np.int64]]
) -> npt.NDArray[np.int64]:
    """The sum over the elements of each sample, weighed by an outer product of factors along the axes, (samples,).

    Args:
        values: (samples, ...), as many elements as the factors' product has.
        factors: Channels, rows, columns.
    """
    channels, rows, columns = factors
    maps = values.reshape(len(values), len(channels), len(rows), len(columns))
    if (channels == channels[0]).all():  # summed before they are widened
        plane = maps.sum(axis=1, dtype=np.int64) * channels[0]
    else:
        plane = np.tensordot(maps.astype(np.int64), channels, (1, 0))
    total: npt.NDArray[np.int64] = plane @ columns @ rows
    return total


def _plain(axis: Axis) -> Axis:
    """None for a matrix that is the identity."""
    if axis is None or axis.shape[0] != axis.shape[1]:
        return axis
    return None if (axis == np.eye(len(axis), dtype=np.bool_)).all() else axis


def _through(way: Way, values: npt.NDArray[np.bool_]) -> Active:
    found = values.reshape(*values.shape[:2], *way.sizes)
    dense = [axis for axis, matrix in enumerate(way.axes, 2) if matrix is not None and matrix.all()]
    for axis in dense:
        found = found.any(axis=axis, keepdims=True)
    for axis, matrix in enumerate(way.axes, 2):
        if matrix is not None and axis not in dense:
            runs = np.flatnonzero(np.r_[True, (matrix[:, 1:] != matrix[:, :-1]).any(axis=0)])
            if len(runs) < matrix.shape[1]:  # elements that all reach the same, such as a group's channels
                found, matrix = np.logical_or.reduceat(found, runs, axis=axis), matrix[:, runs]  # noqa: PLW2901
            last = np.moveaxis(found, axis, -1).astype(
                np.float32
            )  # sums of zeros and ones: positive if one is
            found = np.moveaxis(last @ matrix.T.astype(np.float32) > 0, -1, axis)
    return found


def _delayed(values: Active, delay: int, steps: int) -> Active:
    if delay == 0 and len(values) == steps:
        return values
    later = np.zeros((steps, *values.shape[1:]), np.bool_)
    later[delay : delay + len(values)] = values[: max(steps - delay, 0)]
    return later
