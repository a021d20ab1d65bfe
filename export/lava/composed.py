"""The synapses into a population as Lava's own processes hold them: whole numbers, channels last.

Lava orders maps (height, width, channels), and its `Conv` convolves where ours cross-correlates, so that kernels
are stored mirrored. A weight of 1 stands for 2**-(g + 1), g of `snndeploy.ir.neurons.weight_grids`, for each
channel of the target; every weight is even. What an integer input sends counts in units of its own grid.

Of Lava's fixed-point models `Dense` and `Sparse` clip weights to 8 bits and shift sums by `weight_exp`, which
`digits` provides for; `Conv` does neither, so that its weights are shifted beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from snndeploy import ir
from snndeploy.errors import TargetError
from snndeploy.ir.kernels import Values, apply
from snndeploy.ir.neurons import Whole, weight_grids

LARGEST_MATRIX = 2**22
"""Weights other than zero that a matrix may have: 16 MB of int32."""

_VALUES_AT_ONCE = 2**22
_DIGIT_BITS = 7  # with a sign and twice the digit, the 8 bits of a Loihi synapse


@dataclass(frozen=True, eq=False)
class Convolution:
    """A synapse that is one convolution.

    weight: (out, height, width, in / groups), mirrored.
    """

    source: str
    delay: int
    weight: Whole
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int


@dataclass(frozen=True, eq=False)
class Matrix:
    """A synapse as weights between pairs of neurons, both ends flat and channels last.

    outputs, inputs: Number of neurons at either end.
    rows, columns: Output and input of each weight other than zero.
    values: Those weights.
    """

    source: str
    delay: int
    outputs: int
    inputs: int
    rows: Whole
    columns: Whole
    values: Whole

    def dense(self, values: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """The matrix (outputs, inputs) with other values in the place of its own."""
        full = np.zeros((self.outputs, self.inputs), np.int32)
        full[self.rows, self.columns] = values
        return full


StockSynapse: TypeAlias = Convolution | Matrix


def stock_synapses(network: ir.Network, name: str) -> list[StockSynapse]:
    """All synapses into a population; several may share a source and a delay, and their currents are summed.

    A path that is one convolution, or a direct edge between maps, becomes a convolution. All others of one
    source and delay together become one matrix.

    Args:
        network: Certified, in the loihi format.
        name: A Lif or the Output.

    Raises:
        TargetError: A matrix would be too large.
    """
    graph = network.graph
    found: list[StockSynapse] = []
    rest: list[ir.Edge] = []
    for edge in graph.incoming[name]:
        op = graph.ops[edge.source]
        if isinstance(op, ir.Conv2d) and all(
            ir.is_population(graph, e.source) for e in graph.incoming[edge.source]
        ):
            kernel = network.weights[f"{edge.source}.weight"].astype(np.float64)
            found += [
                _convolution(network, name, e, kernel, op.stride, op.padding, op.groups)
                for e in graph.incoming[edge.source]
            ]
        elif ir.is_population(graph, edge.source) and len(graph.shapes[name]) == 3:
            channels = graph.shapes[name][0]
            found.append(_convolution(network, name, edge, np.ones((channels, 1, 1, 1)), groups=channels))
        else:
            rest.append(edge)
    for source, delay in ir.arrivals(graph, name):
        arrival = ir.Edge(source, name, delay)
        if _leads(graph, arrival, rest):
            found.append(_matrix(network, name, arrival, rest))
    return found


def digits(weight: Whole) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
    """Even weights as (e, digits) whose digits * 2**e add up to them.

    Digits are even and at most 254 in size, which a Loihi synapse holds, and have the sign of what they are part
    of, so that no partial sum is larger than the whole. There are several parts where the weights have different
    grids, or were added up, as by a pool.
    """
    half = np.abs(weight) // 2
    union = int(np.bitwise_or.reduce(half, axis=None)) if half.size else 0
    exponent = (union & -union).bit_length() - 1 if union else 0  # what all share
    while True:
        low = half >> exponent & (2**_DIGIT_BITS - 1)
        yield exponent, (2 * low * np.sign(weight)).astype(np.int32)
        exponent += _DIGIT_BITS
        if union >> exponent == 0:
            return


def channels_last(values: Values, shape: ir.Shape) -> Values:
    """One value for each neuron, or for each channel, of a population as a flat array in Lava's order."""
    if len(shape) == 1:
        return values.reshape(shape)
    if values.size == shape[0]:
        values = np.broadcast_to(values.reshape(-1, 1, 1), shape)
    return values.reshape(shape).transpose(1, 2, 0).ravel()


def _convolution(
    network: ir.Network,
    name: str,
    edge: ir.Edge,
    kernel: npt.NDArray[np.float64],
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
) -> Convolution:
    scaled = kernel * _scale(network, name, edge.source).reshape(-1, 1, 1, 1)
    mirrored = scaled[:, :, ::-1, ::-1].transpose(0, 2, 3, 1)
    return Convolution(edge.source, edge.delay, _whole(mirrored), stride, padding, groups)


def _scale(network: ir.Network, name: str, source: str) -> npt.NDArray[np.float64]:
    """Weights of 1 for each unit of the target's current per unit that the source sends, by target channel."""
    sent = network.input.grid_bits or 0 if source == network.graph.input else 0
    scale: npt.NDArray[np.float64] = np.exp2(weight_grids(network)[name] + 1.0 - sent)
    return scale


def _whole(values: npt.NDArray[np.float64]) -> Whole:
    rounded: Whole = np.rint(values).astype(np.int64)
    if (rounded != values).any() or (rounded % 2).any():
        raise AssertionError("weights off the grid")  # a certified network has none
    return rounded


def _matrix(network: ir.Network, name: str, arrival: ir.Edge, edges: list[ir.Edge]) -> Matrix:
    """What each unit of a source adds to each neuron through some edges into it, by sending one after the other."""
    graph = network.graph
    shape, target = graph.shapes[arrival.source], graph.shapes[name]
    inputs, outputs = math.prod(shape), math.prod(target)
    silent = {n: np.zeros_like(w) if n.endswith(".bias") else w for n, w in network.weights.items()}
    scale = np.repeat(_scale(network, name, arrival.source), outputs // target[0])
    parts: list[tuple[Whole, Whole, Whole]] = []
    at_once = max(1, _VALUES_AT_ONCE // max(outputs, inputs))
    for first in range(0, inputs, at_once):
        units = np.eye(min(at_once, inputs - first), inputs, first).reshape(-1, *shape)
        values: dict[str, Values] = {}
        for op in ir.upstream(graph, name):
            entering = _entering(graph.incoming[op], arrival, units, values)
            if entering is not None:
                values[op] = apply(op, graph.ops[op], entering, silent)
        entering = _entering(edges, arrival, units, values)
        assert entering is not None  # noqa: S101 - one of the edges leads there
        weights = _whole(entering.reshape(len(units), outputs) * scale)
        columns, rows = np.nonzero(weights)
        parts.append((rows, columns + first, weights[columns, rows]))
        if sum(len(rows) for rows, _, _ in parts) > LARGEST_MATRIX:
            raise TargetError(
                name,
                f"needs a matrix of {outputs} x {inputs} with more than {LARGEST_MATRIX} weights for what arrives "
                f"from {arrival.source}, which is too large for the stock form",
                remedy="use the fused form",
            )
    rows, columns, found = (np.concatenate(part) for part in zip(*parts, strict=True))
    places = [np.argsort(channels_last(np.arange(math.prod(s)), s)) for s in (target, shape)]
    return Matrix(arrival.source, arrival.delay, outputs, inputs, places[0][rows], places[1][columns], found)


def _entering(
    edges: tuple[ir.Edge, ...] | list[ir.Edge], arrival: ir.Edge, units: Values, values: dict[str, Values]
) -> Values | None:
    """Sum of what enters through some edges when one source sends units; None if nothing does."""
    total: Values | None = None
    for edge in edges:
        sends = (edge.source, edge.delay) == (arrival.source, arrival.delay)
        part = units if sends else values.get(edge.source)
        if part is not None:
            total = part if total is None else total + part
    return total


def _leads(graph: ir.Graph, arrival: ir.Edge, edges: list[ir.Edge]) -> bool:
    """Whether what a source sends with a delay passes any of these edges."""
    return any(
        (edge.source, edge.delay) == (arrival.source, arrival.delay)
        or (
            not ir.is_population(graph, edge.source)
            and _leads(graph, arrival, list(graph.incoming[edge.source]))
        )
        for edge in edges
    )
