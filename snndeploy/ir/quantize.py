"""From float32 to the exact format: int8 weights times a power of two per channel, calibrated on data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.errors import QuantizeError
from snndeploy.ir.certificate import SIGNIFICAND_BITS, Certificate, Row, certify
from snndeploy.ir.formats import LARGEST_EXPONENT, LARGEST_MANTISSA, Exact
from snndeploy.ir.network import Network, require_folded
from snndeploy.ir.ops import AvgPool2d, Conv2d, Linear
from snndeploy.ir.populations import upstream
from snndeploy.ir.replay import entering
from snndeploy.ir.run import as_steps, run

Wide = npt.NDArray[np.float64]
_FINEST, _COARSEST = 24, -24  # exponents tried
_BIAS_BITS = 8  # digits a bias may have beyond the grid of its op's products
_BATCH = 32  # calibration samples looked at together
_LEAST_BITS = 3  # of the largest weight in a layer; a coarser one is no use to anybody


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


@dataclass(frozen=True, slots=True)
class Quantized:
    """A network in the exact format, its certificate, and what was lost on the way."""

    network: Network
    certificate: Certificate
    roundings: tuple[Rounding, ...]


def quantize(network: Network, calibration: npt.NDArray[Any]) -> Quantized:
    """Puts a folded float32 network into the exact format.

    Each output channel takes the exponent with the smallest error of its sums on the calibration data, which
    may clip a few outliers; biases make up for the mean shift that rounding the weights causes. Where a sum
    could become too wide for the certificate, whichever of the biases and weights that enter it is finest is
    made coarser, digit by digit.

    Args:
        network: Folded network in float32.
        calibration: Prepared input, (batch, *shape) or (time, batch, *shape); a few dozen samples do.

    Raises:
        QuantizeError: No grid allows a certificate; names the op and the bound.
        NetworkError: The network is not folded, its input is on no grid, or the calibration data are not.
    """
    require_folded(network.graph, "quantisation")
    network.input.check(np.asarray(calibration, dtype=np.float32))
    moments = _moments(network, calibration)
    exponents = {
        name: _best_exponents(network.weights[f"{name}.weight"].astype(np.float64), moments[name])
        for name in moments
    }
    bias_caps = dict.fromkeys(moments, LARGEST_EXPONENT)
    while True:  # ends, as every round makes something coarser or raises
        quantized, roundings = _rounded(network, exponents, bias_caps, moments)
        certificate = certify(quantized)
        if certificate.holds:
            return Quantized(quantized, certificate, roundings)
        for row in certificate.failures:
            _coarsen(network, row, exponents, bias_caps)


@dataclass(frozen=True, slots=True)
class _Moments:
    """Mean and mean square of what enters a weighted op, per input channel, over data, steps and places."""

    mean: Wide
    square: Wide


def _moments(network: Network, calibration: npt.NDArray[Any]) -> dict[str, _Moments]:
    steps = as_steps(network, calibration)
    if steps.shape[1] == 0:
        raise QuantizeError("calibration", "needs at least one sample")
    found: dict[str, _Moments] = {}
    for start in range(0, steps.shape[1], _BATCH):
        part = steps[:, start : start + _BATCH]
        share = part.shape[1] / steps.shape[1]
        for name, value in entering(network, part, run(network, part).spikes):
            if isinstance(network.graph.ops[name], (Conv2d, Linear)):
                axes = (0, 1, *range(3, value.ndim))
                mean, square = share * value.mean(axis=axes), share * (value**2).mean(axis=axes)
                known = found.get(name, _Moments(np.zeros_like(mean), np.zeros_like(square)))
                found[name] = _Moments(known.mean + mean, known.square + square)
    return found


def _per_input(values: Wide, weight: Wide) -> Wide:
    """A per-input-channel vector laid out beside a weight (out, in / groups, ...) of any grouping."""
    groups = len(values) // weight.shape[1]
    grouped = values.reshape(groups, weight.shape[1]).repeat(len(weight) // groups, axis=0)
    return grouped.reshape(*weight.shape[:2], *(1,) * (weight.ndim - 2))


def _best_exponents(weight: Wide, moments: _Moments) -> npt.NDArray[np.int64]:
    """For each output channel the exponent with the least expected squared error of its sum."""
    flat_axes = tuple(range(1, weight.ndim))
    importance = _per_input(moments.square + 1e-6, weight)  # a silent input still counts a little
    largest = np.abs(weight).max(axis=flat_axes)
    safe = np.where(largest > 0, largest, 1.0)
    fitting = np.clip(np.floor(np.log2(LARGEST_MANTISSA / safe)), _COARSEST, _FINEST - 2).astype(np.int64)
    tried = np.stack([fitting, fitting + 1, fitting + 2])
    errors = np.stack([(((weight - _round(weight, k)) ** 2) * importance).sum(axis=flat_axes) for k in tried])
    best: npt.NDArray[np.int64] = np.take_along_axis(tried, errors.argmin(axis=0)[None], axis=0)[0]
    return best


def _round(values: Wide, exponents: npt.NDArray[np.int64]) -> Wide:
    scale = np.exp2(exponents.astype(np.float64)).reshape(-1, *(1,) * (values.ndim - 1))
    rounded: Wide = np.clip(np.round(values * scale), -LARGEST_MANTISSA, LARGEST_MANTISSA) / scale
    return rounded + 0.0  # of two zeros the positive one, which is what a file can hold


def _rounded(
    network: Network,
    exponents: Mapping[str, npt.NDArray[np.int64]],
    bias_caps: Mapping[str, int],
    moments: Mapping[str, _Moments],
) -> tuple[Network, tuple[Rounding, ...]]:
    weights: dict[str, Wide] = {}
    grids: dict[str, tuple[int, ...]] = {}
    roundings: list[Rounding] = []
    for name, k in exponents.items():
        weight = network.weights[f"{name}.weight"].astype(np.float64)
        rounded = _round(weight, k)
        clipped = np.abs(weight) * np.exp2(k.astype(np.float64)).reshape(-1, *(1,) * (weight.ndim - 1))
        _record(
            f"{name}.weight", weight, rounded, k, int((clipped > LARGEST_MANTISSA + 0.5).sum()), roundings
        )
        weights[f"{name}.weight"] = rounded
        grids[f"{name}.weight"] = tuple(int(e) for e in k)
        if f"{name}.bias" in network.weights:
            bias = network.weights[f"{name}.bias"].astype(np.float64)
            lost = (weight - rounded) * _per_input(moments[name].mean, weight)
            corrected = bias + lost.sum(axis=tuple(range(1, lost.ndim)))
            finer = np.minimum(_bias_exponents(network, name, k, bias_caps[name]), _finest_grid(corrected))
            weights[f"{name}.bias"] = np.round(corrected * np.exp2(finer)) / np.exp2(finer) + 0.0
            grids[f"{name}.bias"] = tuple(int(e) for e in finer)
            _record(f"{name}.bias", bias, weights[f"{name}.bias"], finer, 0, roundings)
    return replace(network, weights=weights, format=Exact(grids)), tuple(roundings)


def _bias_exponents(network: Network, name: str, k: npt.NDArray[np.int64], cap: int) -> npt.NDArray[np.int64]:
    """Exponents of an op's biases: finer than its products, unless capped, but never coarser than they."""
    products = k + _product_grid(network, name)
    exponents: npt.NDArray[np.int64] = np.clip(products + _BIAS_BITS, None, np.maximum(products, cap))
    return np.minimum(exponents, LARGEST_EXPONENT)


def _finest_grid(bias: Wide) -> npt.NDArray[np.int64]:
    """The finest grid on which each bias is exact in float32."""
    size = np.where(bias == 0, 1.0, np.abs(bias))
    finest: npt.NDArray[np.int64] = (SIGNIFICAND_BITS - 1 - np.floor(np.log2(size))).astype(np.int64)
    return finest


def _record(
    parameter: str,
    values: Wide,
    rounded: Wide,
    exponents: npt.NDArray[np.int64],
    clipped: int,
    roundings: list[Rounding],
) -> None:
    size = float(np.sqrt((values**2).mean()))
    change = float(np.sqrt(((values - rounded) ** 2).mean()))
    relative = change / size if size > 0 else 0.0
    spread = (int(exponents.min()), int(exponents.max()))
    roundings.append(Rounding(parameter, spread, clipped, values.size, relative))


def _product_grid(network: Network, name: str) -> int:
    """Digits of what enters an op, to which its weights' digits are added in a product."""
    graph = network.graph
    bits = 0
    for edge in graph.incoming[name]:
        op = graph.ops[edge.source]
        if edge.source == graph.input:
            bits = max(bits, network.input.grid_bits or 0)
        elif isinstance(op, AvgPool2d):
            area = op.kernel[0] * op.kernel[1]
            bits = max(bits, (area - 1).bit_length() + _product_grid(network, edge.source))
    return bits


def _coarsen(
    network: Network, row: Row, exponents: dict[str, npt.NDArray[np.int64]], bias_caps: dict[str, int]
) -> None:
    """Makes the finest of what enters an op that fails the certificate one binary digit coarser.

    Raises:
        QuantizeError: Nothing is left to be made coarser.
    """
    names = [n for n in (*upstream(network.graph, row.op), row.op) if n in exponents]
    products = {n: int(exponents[n].max()) + _product_grid(network, n) for n in names}
    biases = {
        n: int(_bias_exponents(network, n, exponents[n], bias_caps[n]).max())
        for n in names
        if f"{n}.bias" in network.weights
    }
    finest = max([*products.values(), *biases.values()], default=0)
    if row.bound > 0 and finest > max(products.values(), default=finest):
        for name in biases:
            bias_caps[name] = min(bias_caps[name], finest - 1)
        return
    digits = max((int(exponents[n].max()) for n in names), default=_COARSEST)
    if row.bound == 0 or not _can_coarsen(network, names, digits):
        raise QuantizeError(
            row.op,
            "cannot be certified exact",
            got=row.reason,
            remedy="use fewer time steps, tau = 0.5, pools whose area is a power of two, or smaller layers",
        )
    for name in names:
        exponents[name] = np.minimum(exponents[name], digits - 1)


def _can_coarsen(network: Network, names: list[str], digits: int) -> bool:
    largest = max((float(np.abs(network.weights[f"{n}.weight"]).max()) for n in names), default=0.0)
    return digits > _COARSEST and largest * 2.0 ** (digits - 1) >= 2.0 ** (_LEAST_BITS - 1)
