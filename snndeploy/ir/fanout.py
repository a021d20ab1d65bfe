"""How many synapses each neuron drives (psi), from the structure of a graph alone.

psi of a neuron is the number of matrix elements that leave it and that the architecture does not force to
vanish (Spiking Synaptic Penalty, section 3.2): padding, stride, groups and pooling count, the values of the
weights do not. Convolutions and fully connected layers are *weighted*, everything else between two
populations is not. The output of a weighted op is a *stream*: an analog value, no spike.

The structure of every op is a Kronecker product of one boolean matrix per axis (channels, rows, columns). So
is that of ops in a row, each matrix the boolean product of theirs, and psi is the outer product of the three
column counts. No matrix over all neurons is ever built.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_never

from snndeploy.errors import GraphError
from snndeploy.ir.graph import Graph
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
    Shape,
    Upsample,
)
from snndeploy.ir.populations import is_population

Mode: TypeAlias = Literal["exact", "nominal", "deployed"]
Counts: TypeAlias = npt.NDArray[np.int64]
Axis: TypeAlias = npt.NDArray[np.bool_] | None  # (out, in); None stands for the identity
Axes: TypeAlias = tuple[Axis, ...]  # channels, rows, columns

_LARGEST_MERGE = 2**27  # entries of the one matrix that flattening can force upon us: 128 MiB


@dataclass(frozen=True, eq=False, slots=True)
class Fanout:
    """The synapses of one path out of a population or stream.

    source: The population, or for a stream the last op it runs through before it is used.
    ops: The ops the path runs through, in order; none for a direct edge.
    target: The weighted op on the path, or without one the population it ends in. With `deployed` always
        the population.
    delay: Logical time steps.
    kind: "spike" if the source is a Lif, else "analog".
    shape: Shape of the source.
    factors: Per axis of the source (channels, rows, columns), how many of the target's positions an element
        reaches. A vector of features is (features, 1, 1).
    nominal: Synapses per neuron with the borders ignored, the same for every neuron of the source.
    """

    source: str
    ops: tuple[str, ...]
    target: str
    delay: int
    kind: Literal["spike", "analog"]
    shape: Shape
    factors: tuple[Counts, ...]
    nominal: Fraction

    def __str__(self) -> str:
        after = f" (delay {self.delay})" if self.delay else ""
        end = () if self.target in self.ops else (self.target,)
        return " -> ".join((self.source, *self.ops, *end)) + after

    @property
    def total(self) -> int:
        """Synapses of all neurons of the source together."""
        return math.prod(int(factor.sum()) for factor in self.factors)

    @property
    def nominal_total(self) -> Fraction:
        """`nominal` of all neurons of the source together."""
        return self.nominal * math.prod(self.shape)

    def array(self) -> Counts:
        """Synapses of each neuron, of the source's shape."""
        channels, rows, columns = self.factors
        product: Counts = channels[:, None, None] * rows[:, None] * columns
        return product.reshape(self.shape)


def fanouts(graph: Graph, *, deployed: bool = False) -> tuple[Fanout, ...]:
    """All synapses of a graph, path by path, by source in the order of execution.

    A path starts at the Input or a Lif, runs through unweighted ops to a weighted op and on through the
    unweighted ops after it for as long as nothing else uses the stream: a 1x1 convolution before an f-fold
    upsampling reaches f * f * out_channels neurons. So each weighted op is counted once, however many
    neurons its stream feeds. A path to a Lif or the Output without a weighted op has one synapse per
    structural non-zero. Where several edges or paths join, each counts. What leaves the Input, or a stream
    for another weighted op, is analog. BatchNorm and Dropout change nothing.

    Args:
        graph: Any graph, folded or not.
        deployed: Compose every path from population to population completely instead, as a chip without
            streams must. The spiking part is the same unless a stream feeds several ops or a weighted one.

    Raises:
        GraphError: A map is flattened and then upsampled as a vector, and is too large for that.
    """
    found = []
    for source in graph.order:
        if isinstance(graph.ops[source], (Input, Lif)):
            found += [_fanout(graph, source, delay, path) for delay, path in _paths(graph, source, deployed)]
        elif not deployed and _is_weighted(graph, source):
            stream = (source, *_tail(graph, source))[-1]
            if all(fanout.source != stream for fanout in found):
                onward = (
                    path for _, path in _paths(graph, stream, deployed) if _is_weighted(graph, path[-1])
                )
                found += [_fanout(graph, stream, 0, path) for path in onward]
    return tuple(found)


def psi(graph: Graph, mode: Mode = "exact") -> dict[str, npt.NDArray[Any]]:
    """Synapses of each neuron of every Lif, by name, in arrays of the Lif's shape.

    Args:
        graph: Any graph, folded or not.
        mode: "exact" and "deployed" (see `fanouts`) give int64. "nominal" gives float64, constant over a
            Lif: eq. 6 of Spiking Synaptic Penalty for each convolution with its own input map (so after a
            pool), out_features for each Linear, both times the mean number of positions that the pools and
            upsamplings on the path lead to. An identity edge is one synapse.

    Raises:
        GraphError: As `fanouts`.
    """
    dtype = np.float64 if mode == "nominal" else np.int64
    total: dict[str, npt.NDArray[Any]] = {name: np.zeros(graph.shapes[name], dtype) for name in graph.ports}
    for fanout in fanouts(graph, deployed=mode == "deployed"):
        if fanout.kind == "spike":
            total[fanout.source] += float(fanout.nominal) if mode == "nominal" else fanout.array()
    return total


def psi_total(graph: Graph, mode: Mode = "exact") -> int | Fraction:
    """Synapses of all Lif neurons together, an int whenever whole; arguments and errors as `psi`."""
    spiking = [f for f in fanouts(graph, deployed=mode == "deployed") if f.kind == "spike"]
    if mode != "nominal":
        return sum(fanout.total for fanout in spiking)
    total = sum((fanout.nominal_total for fanout in spiking), Fraction())
    return int(total) if total.denominator == 1 else total


def connections(graph: Graph, name: str) -> int:
    """Structural connections of one weighted op from its own input: the multiplications of evaluating it.

    Raises:
        GraphError: The op is no Conv2d or Linear.
    """
    if not _is_weighted(graph, name):
        raise GraphError(name, "must be a Conv2d or Linear", got=type(graph.ops[name]).__name__)
    shape = _shape_into(graph, name)
    return math.prod(int(factor.sum()) for factor in _factors(graph, shape, (name,)))


def _is_weighted(graph: Graph, name: str) -> bool:
    return isinstance(graph.ops[name], (Conv2d, Linear))


def _shape_into(graph: Graph, name: str) -> Shape:
    return graph.shapes[graph.incoming[name][0].source]


def _paths(graph: Graph, start: str, deployed: bool) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Delay and ops of every path out of an op, its end (population or weighted op) last."""
    waiting: list[tuple[int, tuple[str, ...]]] = []
    waiting += [(edge.delay, (edge.target,)) for edge in reversed(graph.outgoing[start])]
    while waiting:
        delay, path = waiting.pop()
        if is_population(graph, path[-1]) or (not deployed and _is_weighted(graph, path[-1])):
            yield delay, path
        else:  # only the first edge can be delayed: the others leave no population
            waiting += [(delay, (*path, edge.target)) for edge in reversed(graph.outgoing[path[-1]])]


def _tail(graph: Graph, name: str) -> tuple[str, ...]:
    """The unweighted ops after an op, up to the first whose output is used more than once."""
    tail: list[str] = []
    while len(graph.outgoing[name]) == 1:
        name = graph.outgoing[name][0].target
        if is_population(graph, name) or _is_weighted(graph, name):
            break
        tail.append(name)
    return tuple(tail)


def _fanout(graph: Graph, source: str, delay: int, path: tuple[str, ...]) -> Fanout:
    end = path[-1]
    ops = path[:-1] if is_population(graph, end) else (*path, *_tail(graph, end))
    return Fanout(
        source=source,
        ops=ops,
        target=end,
        delay=delay,
        kind="spike" if isinstance(graph.ops[source], Lif) else "analog",
        shape=graph.shapes[source],
        factors=_factors(graph, graph.shapes[source], ops),
        nominal=math.prod((_nominal(graph, name) for name in ops), start=Fraction(1)),
    )


def _factors(graph: Graph, shape: Shape, ops: tuple[str, ...]) -> tuple[Counts, ...]:
    """Column counts per axis of the composed structure of ops in a row, for an input of some shape."""
    axes, sizes = structure(graph, shape, ops)
    return tuple(
        np.ones(size, np.int64) if axis is None else np.count_nonzero(axis, axis=0).astype(np.int64)
        for axis, size in zip(axes, sizes, strict=True)
    )


def structure(graph: Graph, shape: Shape, ops: tuple[str, ...]) -> tuple[Axes, Shape]:
    """Which elements of their input the outputs of ops in a row depend on, as a Kronecker product.

    Args:
        graph: The graph of the ops.
        shape: Of the input.
        ops: Names, each op entered by the one before it.

    Returns:
        Per axis (channels, rows, columns) a bool matrix (out, in), or None for the identity, and the sizes of
        the input's axes: those of `shape`, a vector being (features, 1, 1), or all in one where a flattened
        map is upsampled.

    Raises:
        GraphError: A map is flattened and then upsampled as a vector, and is too large for that.
    """
    sizes = _as_map(shape)
    axes: Axes = (None, None, None)
    for name in ops:
        op, entering = graph.ops[name], _sizes(axes, sizes)
        if isinstance(op, Upsample) and len(_shape_into(graph, name)) == 1 and entering[1:] != (1, 1):
            axes = (merged(name, axes, sizes), None, None)
            sizes = (math.prod(sizes), 1, 1)
            entering = _sizes(axes, sizes)
        axes = tuple(map(_compose, axes, _structure(op, entering)))
    return axes, sizes


def _as_map(shape: Shape) -> Shape:
    return shape if len(shape) == 3 else (*shape, 1, 1)


def _sizes(axes: Axes, sizes: Shape) -> Shape:
    """Sizes of what a structure gives for an input of given sizes."""
    return tuple(size if axis is None else len(axis) for axis, size in zip(axes, sizes, strict=True))


def _compose(first: Axis, second: Axis) -> Axis:
    if first is None or second is None:
        return second if first is None else first
    # Sums of zeros and ones, positive exactly when one term is: single precision cannot get that wrong.
    paths: npt.NDArray[np.float32] = second.astype(np.float32) @ first.astype(np.float32)
    return paths > 0


def merged(name: str, axes: Axes, sizes: Shape) -> npt.NDArray[np.bool_]:
    """The same structure as one matrix over flattened maps, channel-major.

    Raises:
        GraphError: It has too many entries; the message calls it by `name`.
    """
    entries = math.prod(_sizes(axes, sizes)) * math.prod(sizes)
    if entries > _LARGEST_MERGE:
        raise GraphError(
            name,
            f"upsamples a flattened map, whose structure may have at most {_LARGEST_MERGE} entries",
            got=entries,
            remedy="pool the map before flattening it, or put a Linear between Flatten and Upsample",
        )
    matrices = (
        np.eye(n, dtype=np.bool_) if axis is None else axis for axis, n in zip(axes, sizes, strict=True)
    )
    return reduce(np.kron, matrices)


def _structure(op: Op, sizes: Shape) -> Axes:
    """Structure of one op per axis, for an input of given sizes."""
    match op:
        case Conv2d():
            out_group = np.arange(op.out_channels) // (op.out_channels // op.groups)
            in_group = np.arange(op.in_channels) // (op.in_channels // op.groups)
            return (out_group[:, None] == in_group, *map(_taps, sizes[1:], op.kernel, op.stride, op.padding))
        case Linear():  # dense, and the Kronecker product of dense matrices is dense
            return tuple(
                np.ones((n, size), np.bool_) for n, size in zip((op.out_features, 1, 1), sizes, strict=True)
            )
        case AvgPool2d():
            return (None, *map(_taps, sizes[1:], op.kernel, op.stride, (0, 0)))
        case Upsample():
            return (None, *map(_nearest, sizes[1:], op.size))
        case Flatten() | BatchNorm() | Dropout() | Input() | Lif() | Output():
            return (None, None, None)
        case _:
            assert_never(op)


def _taps(length: int, kernel: int, stride: int, padding: int) -> npt.NDArray[np.bool_]:
    """Which positions each window covers, (windows, length)."""
    windows = (length + 2 * padding - kernel) // stride + 1
    offset = np.arange(length) - (np.arange(windows) * stride - padding)[:, None]
    return (offset >= 0) & (offset < kernel)


def _nearest(length: int, size: int) -> npt.NDArray[np.bool_]:
    """Which position each output copies, (size, length)."""
    copied: npt.NDArray[np.bool_] = (np.arange(size) * length // size)[:, None] == np.arange(length)
    return copied


def _nominal(graph: Graph, name: str) -> Fraction:
    """Mean connections per input element of one op, a convolution's as if all its taps met the map.

    Source: Spiking Synaptic Penalty, eq. 6.
    """
    op = graph.ops[name]
    before, after = _as_map(_shape_into(graph, name)), _as_map(graph.shapes[name])
    positions = Fraction(after[1] * after[2], before[1] * before[2])
    match op:
        case Conv2d():
            return positions * (op.out_channels // op.groups) * op.kernel[0] * op.kernel[1]
        case Linear():
            return Fraction(op.out_features)
        case AvgPool2d():
            return positions * op.kernel[0] * op.kernel[1]
        case Upsample():
            return positions
        case Flatten() | BatchNorm() | Dropout() | Input() | Lif() | Output():
            return Fraction(1)
        case _:
            assert_never(op)
