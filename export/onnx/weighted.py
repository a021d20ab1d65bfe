"""The ops with weights as ONNX nodes, in each of the arithmetics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir
from typing_extensions import assert_never

from snndeploy.export.onnx.nodes import Attributes, Dim, Nodes, dims
from snndeploy.export.onnx.numbers import Count
from snndeploy.ir import Conv2d, Linear, Shape
from snndeploy.ir.formats import mantissa

Weights: TypeAlias = Mapping[str, npt.NDArray[Any]]
Mantissas: TypeAlias = Callable[[], npt.NDArray[np.int16]]

_INT32 = onnx_ir.DataType.INT32
_ZERO_POINT = 128  # of weights in uint8, which ConvInteger asks for on CPUs
# Where a convolution is faster as a product of matrices, see `_as_product`.
_LEAST_PATCH = 256
_MOST_POSITIONS = 1024


def weighted(
    nodes: Nodes,
    name: str,
    op: Conv2d | Linear,
    x: onnx_ir.Value,
    *,
    label: str,
    shape: Shape,
    weights: Weights,
) -> onnx_ir.Value:
    """Appends a Conv2d or a Linear in the arithmetic of the nodes; arguments as `ops.apply`.

    float32: one node. float16: products in float16, summed as the provider does (CUDA in float32), the bias
    added in float32. integer: see `_integer`.

    Returns:
        Its output in float32.
    """
    out = (dims(x)[0], *shape)
    weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    if name in nodes.numbers.counts:
        return _integer(nodes, name, op, x, label=label, shape=shape, weights=weights)
    op_type, attributes = ("Conv", _window(op)) if isinstance(op, Conv2d) else ("Gemm", {"transB": 1})
    if nodes.numbers.arithmetic != "float16":
        constants = [nodes.constant(f"{name}.weight", weight)]
        constants += [] if bias is None else [nodes.constant(f"{name}.bias", bias)]
        return nodes.add(op_type, [nodes.cast(x), *constants], label, out, attributes)
    half = onnx_ir.DataType.FLOAT16
    inputs = [nodes.cast(x, half), nodes.constant(f"{name}.weight", lambda: weight.astype(np.float16))]
    products = nodes.add(op_type, inputs, f"{label}.float16", out, attributes, dtype=half)
    return _biased(nodes, name, nodes.cast(products, name=f"{label}.products"), bias, label)


def _window(op: Conv2d) -> Attributes:
    return {
        "kernel_shape": op.kernel,
        "strides": op.stride,
        "pads": (*op.padding, *op.padding),
        "group": op.groups,
    }


def _biased(
    nodes: Nodes, name: str, x: onnx_ir.Value, bias: npt.NDArray[Any] | None, label: str
) -> onnx_ir.Value:
    """A value plus a bias per channel (its second axis), unless that is zero everywhere."""
    if bias is None or not bias.any():
        return x
    per_channel = bias.reshape(-1, *(1,) * (len(dims(x)) - 2))
    return nodes.add("Add", [x, nodes.constant(f"{name}.bias", per_channel)], label, dims(x))


def _integer(
    nodes: Nodes,
    name: str,
    op: Conv2d | Linear,
    x: onnx_ir.Value,
    *,
    label: str,
    shape: Shape,
    weights: Weights,
) -> onnx_ir.Value:
    """Appends a Conv2d or Linear that is entered by counts of spikes, in whole numbers.

    With counts c and weights m * 2**-k the sum over c * m is a whole number in int32, exact in any order. In
    a certified network it is at most 2**24 in size (`snndeploy.ir.certify` bounds it in units at least as
    fine), so its conversion to float32 is exact too, as is the product with a power of two; and the bias is
    added within the same certificate. The result has the bits of the float32 form.

    DequantizeLinear converts and scales in one pass over the map. Not so for a single channel: ONNX Runtime
    moves a DequantizeLinear of one scale behind the Reshape that follows it and puts a QuantizeLinear to uint8
    in its place, which rounds.
    """
    count, exponents = nodes.numbers.counts[name], nodes.numbers.exponents[name]
    counted, out = _counted(nodes, x, count), (dims(x)[0], *shape)

    def mantissas() -> npt.NDArray[np.int16]:
        return mantissa(weights[f"{name}.weight"], exponents).astype(np.int16)

    match op:
        case Linear():
            total = _product(nodes, name, counted, lambda: mantissas().T, out, f"{label}.int32")
        case Conv2d() if _as_product(op, shape):
            total = _convolved_as_product(nodes, name, op, counted, mantissas, label=label, shape=shape)
        case Conv2d():
            shifted = nodes.constant(f"{name}.weight", lambda: (mantissas() + _ZERO_POINT).astype(np.uint8))
            zero_point = nodes.constant("weight_zero_point", np.array(_ZERO_POINT, np.uint8))
            inputs = [counted, shifted, None, zero_point]
            total = nodes.add("ConvInteger", inputs, f"{label}.int32", out, _window(op), dtype=_INT32)
        case _:
            assert_never(op)
    bias = weights.get(f"{name}.bias")
    units = np.exp2(-np.asarray(exponents, np.float64) - count.bits).astype(np.float32)
    scale = nodes.constant(f"{name}.scale", units)
    plain = bias is None or not bias.any()
    scaled = label if plain else f"{label}.products"
    if units.size == 1:
        products = nodes.add("Mul", [nodes.cast(total), scale], scaled, dims(total))
    else:
        products = nodes.add("DequantizeLinear", [total, scale], scaled, dims(total), {"axis": 1})
    return _biased(nodes, name, products, bias, label)


def _counted(nodes: Nodes, x: onnx_ir.Value, count: Count) -> onnx_ir.Value:
    """The whole number n of n * 2**-bits, in uint8."""
    if not count.bits:
        return nodes.cast(x, onnx_ir.DataType.UINT8)

    def scaled() -> onnx_ir.Value:
        area = nodes.constant(f"count.{2**count.bits}", np.array(2**count.bits, np.float32))
        return nodes.add("Mul", [nodes.cast(x), area], f"{x.name}.counts", dims(x))

    return nodes.cast(nodes.derived(x, count, scaled), onnx_ir.DataType.UINT8)


def _product(
    nodes: Nodes, name: str, x: onnx_ir.Value, matrix: Mantissas, out: tuple[Dim, ...], label: str
) -> onnx_ir.Value:
    """The product of counts by a matrix of weights, which as int8 need no zero point."""
    weight = nodes.constant(f"{name}.weight", lambda: np.ascontiguousarray(matrix().astype(np.int8)))
    return nodes.add("MatMulInteger", [x, weight], label, out, dtype=_INT32)


def _as_product(op: Conv2d, shape: Shape) -> bool:
    """Whether a convolution is to be one product of a matrix of patches with the matrix of its weights.

    ONNX Runtime packs the weights of ConvInteger anew for every sample, those of MatMulInteger once and for
    all, and takes them as int8, for which its kernels are faster. Measured on AVX-512 VNNI with 4 and 64
    samples at a time, a 3x3 convolution takes of ConvInteger's time with ONNX Runtime 1.23 0.3 to 0.9 (0.8
    and 1.3 on maps of 32x32) and with 1.31 0.2 to 0.7 (0.5 and 0.9). Short patches cost more to gather than
    the product saves, and those of larger maps outgrow the cache.
    """
    patch = op.in_channels * math.prod(op.kernel)
    return op.groups == 1 and patch >= _LEAST_PATCH and math.prod(shape[1:]) <= _MOST_POSITIONS


def _convolved_as_product(
    nodes: Nodes,
    name: str,
    op: Conv2d,
    x: onnx_ir.Value,
    mantissas: Mantissas,
    *,
    label: str,
    shape: Shape,
) -> onnx_ir.Value:
    """A convolution as (samples, positions, kernel * in_channels) by (kernel * in_channels, out_channels)."""
    samples, positions = dims(x)[0], math.prod(shape[1:])

    def matrix() -> npt.NDArray[np.int16]:
        return mantissas().transpose(2, 3, 1, 0).reshape(-1, op.out_channels)

    out = (samples, positions, op.out_channels)
    product = _product(nodes, name, _patches(nodes, op, x, shape), matrix, out, f"{label}.positions")
    channels_first: Attributes = {"perm": (0, 2, 1)}
    flat = nodes.add(
        "Transpose", [product], f"{label}.channels", (samples, op.out_channels, positions), channels_first
    )
    map_shape = nodes.integers(f"map.{'x'.join(map(str, shape))}", (0, *shape))
    return nodes.add("Reshape", [flat, map_shape], f"{label}.int32", (samples, *shape))


def _patches(nodes: Nodes, op: Conv2d, x: onnx_ir.Value, shape: Shape) -> onnx_ir.Value:
    """What each position of a convolution's output sees, (samples, positions, kernel * channels)."""
    samples, channels, height, width = dims(x)
    positions, taps = math.prod(shape[1:]), math.prod(op.kernel)
    sizes = (int(height), int(width))
    if taps == 1 and op.stride == (1, 1) and not any(op.padding):
        return _rows(nodes, x)
    kernel, stride, padding = ("x".join(map(str, pair)) for pair in (op.kernel, op.stride, op.padding))
    geometry = f"{height}x{width}.kernel{kernel}.stride{stride}.pad{padding}"

    def gathered() -> onnx_ir.Value:
        rows = _with_zero_row(nodes, x) if any(op.padding) else _rows(nodes, x)
        index = nodes.constant(f"patches.{geometry}", _seen(op, sizes, shape))
        out = (samples, positions * taps, channels)
        seen = nodes.add("Gather", [rows, index], f"{x.name}.taps", out, {"axis": 1})
        patch = (positions, taps * int(channels))
        patch_shape = nodes.integers(f"patches.{patch[0]}x{patch[1]}", (0, *patch))
        return nodes.add("Reshape", [seen, patch_shape], f"{x.name}.patches", (samples, *patch))

    return nodes.derived(x, geometry, gathered)


def _rows(nodes: Nodes, x: onnx_ir.Value) -> onnx_ir.Value:
    """A map with its channels last, (samples, height * width, channels)."""
    samples, channels, height, width = dims(x)
    places = int(height) * int(width)

    def made() -> onnx_ir.Value:
        flat_shape = nodes.integers(f"flat.{channels}x{places}", (0, int(channels), places))
        flat = nodes.add("Reshape", [x, flat_shape], f"{x.name}.flat", (samples, channels, places))
        return nodes.add(
            "Transpose", [flat], f"{x.name}.rows", (samples, places, channels), {"perm": (0, 2, 1)}
        )

    return nodes.derived(x, "rows", made)


def _with_zero_row(nodes: Nodes, x: onnx_ir.Value) -> onnx_ir.Value:
    """The rows of a map and behind them one of zeros, for what lies outside."""
    rows = _rows(nodes, x)
    samples, places, channels = dims(rows)

    def made() -> onnx_ir.Value:
        behind = nodes.integers("one_row_behind", (0, 0, 0, 0, 1, 0))
        return nodes.add("Pad", [rows, behind], f"{x.name}.padded", (samples, int(places) + 1, channels))

    return nodes.derived(rows, "padded", made)


def _seen(op: Conv2d, sizes: tuple[int, int], shape: Shape) -> npt.NDArray[np.int32]:
    """Row of the map for each position and tap; that behind the last one where a tap lies outside."""
    axes = [
        np.arange(out)[:, None] * stride + np.arange(taps) - padding
        for out, stride, taps, padding in zip(shape[1:], op.stride, op.kernel, op.padding, strict=True)
    ]
    y, x = axes[0][:, None, :, None], axes[1][None, :, None, :]
    inside = (y >= 0) & (y < sizes[0]) & (x >= 0) & (x < sizes[1])
    return np.where(inside, y * sizes[1] + x, sizes[0] * sizes[1]).astype(np.int32).ravel()
