"""Rounding a network's parameters to given grids, and what that changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from snndeploy.ir.certificate import SIGNIFICAND_BITS
from snndeploy.ir.formats import Exact, Loihi
from snndeploy.ir.network import Network
from snndeploy.ir.quantize.grids import Moments, Whole, Wide, on_grid, per_input


@dataclass(frozen=True, slots=True)
class Rounding:
    """What quantising did to one parameter.

    exponents: Smallest and largest k of its channels.
    clipped: Values beyond the largest mantissa, which were clipped.
    size: Number of values.
    relative_error: Root mean square of the change over that of the values.
    """

    parameter: str
    exponents: tuple[int, int]
    clipped: int
    size: int
    relative_error: float


@dataclass(frozen=True, eq=False)
class Rounded:
    """Weights on their grids, and the biases that go with them, still on none.

    exponents: k of each output channel of an op's weights, by op.
    weights: On the grids of `exponents`, by op.
    biases: Of the ops that have some: they make up for the mean shift that rounding the weights causes.
    limit: Largest mantissa of a weight.
    """

    exponents: Mapping[str, Whole]
    weights: Mapping[str, Wide]
    biases: Mapping[str, Wide]
    limit: int


def rounded(
    network: Network, exponents: Mapping[str, Whole], known: Mapping[str, Moments], limit: int
) -> Rounded:
    """Rounds every op's weights to its exponents and corrects its biases for the change of the mean sum."""
    weights, biases = {}, {}
    for name, k in exponents.items():
        weight = network.weights[f"{name}.weight"].astype(np.float64)
        weights[name] = on_grid(weight, k, limit)
        if f"{name}.bias" in network.weights:
            bias = network.weights[f"{name}.bias"].astype(np.float64)
            lost = (weight - weights[name]) * per_input(known[name].mean, weight)
            biases[name] = bias + lost.sum(axis=tuple(range(1, lost.ndim)))
    return Rounded(dict(exponents), weights, biases, limit)


def assembled(
    network: Network, parts: Rounded, bias_exponents: Mapping[str, Whole], kind: type[Exact | Loihi]
) -> tuple[Network, tuple[Rounding, ...]]:
    """The network of rounded weights, and of biases rounded to their exponents, with what changed."""
    weights: dict[str, Wide] = {}
    exponents: dict[str, Whole] = {}
    roundings: list[Rounding] = []
    for name, k in parts.exponents.items():
        parameter = f"{name}.weight"
        values = network.weights[parameter].astype(np.float64)
        weights[parameter], exponents[parameter] = parts.weights[name], k
        scale = np.exp2(k.astype(np.float64)).reshape(-1, *(1,) * (values.ndim - 1))
        clipped = int((np.abs(values) * scale > parts.limit + 0.5).sum())
        roundings.append(_told(parameter, values, parts.weights[name], k, clipped))
        if name in parts.biases:
            parameter, finer = f"{name}.bias", bias_exponents[name]
            values = network.weights[parameter].astype(np.float64)
            weights[parameter], exponents[parameter] = on_bias_grid(parts.biases[name], finer), finer
            roundings.append(_told(parameter, values, weights[parameter], finer, 0))
    grids = {name: tuple(int(e) for e in k) for name, k in exponents.items()}
    return replace(network, weights=weights, format=kind(grids)), tuple(roundings)


def on_bias_grid(bias: Wide, exponents: Whole) -> Wide:
    """Biases rounded to whole multiples of 2**-k."""
    scale = np.exp2(exponents.astype(np.float64))
    rounded_bias: Wide = np.round(bias * scale) / scale + 0.0
    return rounded_bias


def finest_grid(bias: Wide) -> Whole:
    """The finest grid on which each bias is exact in float32."""
    size = np.where(bias == 0, 1.0, np.abs(bias))
    finest: Whole = (SIGNIFICAND_BITS - 1 - np.floor(np.log2(size))).astype(np.int64)
    return finest


def _told(parameter: str, values: Wide, changed: Wide, exponents: Whole, clipped: int) -> Rounding:
    size = float(np.sqrt((values**2).mean()))
    change = float(np.sqrt(((values - changed) ** 2).mean()))
    relative = change / size if size > 0 else 0.0
    return Rounding(parameter, (int(exponents.min()), int(exponents.max())), clipped, values.size, relative)
