"""What enters every op when the spikes are given: teacher forcing, for all time steps at once.

With all spikes known nothing has to be stepped, so loops do not matter here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.ir.kernels import Values, apply
from snndeploy.ir.network import Network
from snndeploy.ir.ops import Lif


def entering(
    network: Network,
    x: npt.NDArray[Any],
    spikes: Mapping[str, npt.NDArray[np.bool_]],
    *,
    dtype: type[np.float32] | type[np.float64] = np.float64,
    magnitudes: bool = False,
    smallest: float = 0.0,
) -> Iterator[tuple[str, Values]]:
    """Yields (op, what enters it) for every op but the Input, in the order of execution.

    Args:
        network: The network.
        x: (time, batch, *shape), prepared input.
        spikes: (time, batch, *shape) of every Lif, by name.
        dtype: Precision of the arithmetic.
        magnitudes: Use absolute values of weights, biases and input: the result is the sum of the sizes of
            all terms, which bounds the rounding error of adding them in any order.
        smallest: With magnitudes, count every number but zero as at least that large: below it a type loses
            digits, and no relative error describes its roundings.

    Yields:
        Name and array (time, batch, *shape of the op's input).
    """
    graph = network.graph
    weights: Mapping[str, npt.NDArray[Any]] = network.weights
    given: Values = x.astype(dtype)
    if magnitudes:
        # A mean is subtracted, so that its size adds up with a minus sign.
        sizes = {n: _size(w, smallest) for n, w in weights.items()}
        weights = {n: -size if n.endswith(".running_mean") else size for n, size in sizes.items()}
        given = _size(given, smallest)
    remaining = {name: len(graph.outgoing[name]) for name in graph.ops}
    values: dict[str, Values] = {graph.input: given}
    for name in graph.ports:
        values[name] = spikes[name].astype(dtype)
    for name in graph.order:
        if name == graph.input:
            continue
        total: Values | None = None
        for edge in graph.incoming[name]:
            value = delayed(values[edge.source], edge.delay)
            total = value if total is None else total + value
            remaining[edge.source] -= 1
            if remaining[edge.source] == 0:
                del values[edge.source]  # a large network's streams would not all fit into memory
        if total is None:
            raise AssertionError(name)  # a Graph has an edge into every op but the Input
        yield name, total
        if not isinstance(graph.ops[name], Lif) and remaining[name]:
            flat = total.reshape(-1, *total.shape[2:])
            out = apply(name, graph.ops[name], flat, weights)
            if smallest:
                out = _size(out, smallest)
            values[name] = out.reshape(*total.shape[:2], *out.shape[1:])


def _size(values: npt.NDArray[Any], smallest: float) -> npt.NDArray[Any]:
    """Absolute values, those that are not zero raised to the smallest."""
    size: npt.NDArray[Any] = np.abs(values)
    return np.where(size > 0, np.maximum(size, size.dtype.type(smallest)), size) if smallest else size


def delayed(values: Values, delay: int) -> Values:
    """Values (time, ...) `delay` steps later, zero before."""
    if delay == 0:
        return values
    shifted = np.zeros_like(values)
    shifted[delay:] = values[:-delay]
    return shifted
