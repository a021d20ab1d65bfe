"""Each op as ONNX nodes, with the arithmetic of the reference interpreter in the same order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import onnx_ir
from typing_extensions import assert_never

from snndeploy.export.onnx.nodes import Attributes, Nodes, dims
from snndeploy.export.onnx.weighted import weighted
from snndeploy.ir import (
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


def apply(
    nodes: Nodes,
    name: str,
    op: Op,
    x: onnx_ir.Value,
    *,
    label: str,
    shape: Shape,
    weights: Mapping[str, npt.NDArray[Any]],
) -> onnx_ir.Value:
    """Appends one stateless op and returns its output.

    Args:
        nodes: Where the nodes go.
        name: The op's name, which its parameters carry.
        op: A Conv2d, Linear, AvgPool2d, Upsample or Flatten.
        x: Its summed input (samples, *input shape).
        label: Name for its output, (samples, *shape).
        shape: The op's output shape, without time and batch.
        weights: Array by parameter name.
    """
    out = (dims(x)[0], *shape)
    match op:
        case Conv2d() | Linear():
            return weighted(nodes, name, op, x, label=label, shape=shape, weights=weights)
        case AvgPool2d():
            pool: Attributes = {"kernel_shape": op.kernel, "strides": op.stride}
            return nodes.add("AveragePool", [nodes.cast(x)], label, out, pool)
        case Upsample():
            return _upsample(nodes, name, op, x, label)
        case Flatten():
            return nodes.add("Flatten", [x], label, out, {"axis": 1})
        case Input() | Lif() | Output() | BatchNorm() | Dropout():
            raise TypeError(f"{name}: {type(op).__name__} is no stateless op of a folded network")
        case _:
            assert_never(op)


def _upsample(nodes: Nodes, name: str, op: Upsample, x: onnx_ir.Value, label: str) -> onnx_ir.Value:
    samples, channels, *size = dims(x)
    if not size:
        size = [1, 1]
        shape = nodes.integers(f"{name}.map_shape", (-1, int(channels), 1, 1))
        x = nodes.add("Reshape", [x, shape], f"{label}.map", (samples, channels, 1, 1))
    height, width = (int(s) for s in size)
    out = (samples, channels, *op.size)
    if op.size[0] % height == 0 and op.size[1] % width == 0:
        factors = onnx_ir.tensor([1.0, 1.0, op.size[0] / height, op.size[1] / width]).numpy()
        nearest: Attributes = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
        scales = nodes.constant(f"{name}.scales", factors)
        return nodes.add("Resize", [x, None, scales], label, out, nearest)
    # Resize computes positions in floating point, and for such sizes not always (i * in) // out.
    rows = nodes.integers(f"{name}.rows", [i * height // op.size[0] for i in range(op.size[0])])
    columns = nodes.integers(f"{name}.columns", [i * width // op.size[1] for i in range(op.size[1])])
    tall = (samples, channels, op.size[0], width)
    x = nodes.add("Gather", [x, rows], f"{label}.rows", tall, {"axis": 2})
    return nodes.add("Gather", [x, columns], label, out, {"axis": 3})
