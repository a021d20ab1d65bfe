"""Which power of two each weight becomes a multiple of: the one with the least error on calibration data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from snndeploy.errors import QuantizeError
from snndeploy.ir.network import Network
from snndeploy.ir.ops import Conv2d, Linear
from snndeploy.ir.replay import entering
from snndeploy.ir.run import as_steps, run

Wide: TypeAlias = npt.NDArray[np.float64]
Whole: TypeAlias = npt.NDArray[np.int64]
COARSEST = -24  # exponents tried lie between these two
_FINEST = 24
_TRIED = 3  # exponents from the one that clips nothing on
_BATCH = 32  # calibration samples looked at together


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and mean square of what enters a weighted op, per input channel, over data, steps and places."""

    mean: Wide
    square: Wide


def moments(network: Network, calibration: npt.NDArray[Any]) -> dict[str, Moments]:
    """What enters every op with weights when a network runs on data, in the order of execution.

    Raises:
        QuantizeError: There are no samples.
        NetworkError: The samples do not fit the network.
    """
    steps = as_steps(network, calibration)
    if steps.shape[1] == 0:
        raise QuantizeError("calibration", "needs at least one sample")
    found: dict[str, Moments] = {}
    for start in range(0, steps.shape[1], _BATCH):
        part = steps[:, start : start + _BATCH]
        share = part.shape[1] / steps.shape[1]
        for name, value in entering(network, part, run(network, part).spikes):
            if isinstance(network.graph.ops[name], (Conv2d, Linear)):
                axes = (0, 1, *range(3, value.ndim))
                mean, square = share * value.mean(axis=axes), share * (value**2).mean(axis=axes)
                known = found.get(name, Moments(np.zeros_like(mean), np.zeros_like(square)))
                found[name] = Moments(known.mean + mean, known.square + square)
    return found


def per_input(values: Wide, weight: Wide) -> Wide:
    """A per-input-channel vector laid out beside a weight (out, in / groups, ...) of any grouping."""
    groups = len(values) // weight.shape[1]
    grouped = values.reshape(groups, weight.shape[1]).repeat(len(weight) // groups, axis=0)
    return grouped.reshape(*weight.shape[:2], *(1,) * (weight.ndim - 2))


def best_exponents(weight: Wide, known: Moments, limit: int, *, shared: bool) -> Whole:
    """For each output channel the exponent with the least expected squared error of its sum.

    Args:
        weight: (out, in / groups, ...).
        known: Of what enters the op.
        limit: Largest mantissa; a few outliers may be clipped to it.
        shared: Whether all channels take the exponent with the least error of them together.
    """
    flat_axes = tuple(range(1, weight.ndim))
    importance = per_input(known.square + 1e-6, weight)  # a silent input still counts a little
    largest = np.abs(weight).max(axis=flat_axes)
    if shared:
        largest = np.full_like(largest, largest.max())
    safe = np.where(largest > 0, largest, 1.0)
    fitting = np.clip(np.floor(np.log2(limit / safe)), COARSEST, _FINEST + 1 - _TRIED).astype(np.int64)
    tried = np.stack([fitting + finer for finer in range(_TRIED)])
    errors = np.stack(
        [(((weight - on_grid(weight, k, limit)) ** 2) * importance).sum(axis=flat_axes) for k in tried]
    )
    if shared:
        errors = np.broadcast_to(errors.sum(axis=1, keepdims=True), errors.shape)
    best: Whole = np.take_along_axis(tried, errors.argmin(axis=0)[None], axis=0)[0]
    return best


def on_grid(values: Wide, exponents: Whole, limit: int) -> Wide:
    """Values rounded to mantissas of at most `limit` in size times 2**-k, k along the first axis."""
    scale = np.exp2(exponents.astype(np.float64)).reshape(-1, *(1,) * (values.ndim - 1))
    rounded: Wide = np.clip(np.round(values * scale), -limit, limit) / scale
    return rounded + 0.0  # of two zeros the positive one, which is what a file can hold
