"""Each op as ONNX nodes, with the arithmetic of the reference interpreter in the same order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import onnx_ir
from typing_extensions import assert_never

from snndeploy.export.onnx.nodes import DOMAIN, OPSET, Attributes, Nodes, dims, value
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

LIF = "LIF"
_LIF_BY_SPIKES = {
    onnx_ir.DataType.FLOAT: LIF,
    onnx_ir.DataType.UINT8: f"{LIF}_uint8",
    onnx_ir.DataType.FLOAT16: f"{LIF}_float16",
}


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


def lif(
    nodes: Nodes,
    name: str,
    op: Lif,
    x: onnx_ir.Value,
    v: onnx_ir.Value,
    *,
    spikes: str,
    v_next: str,
    u: str,
) -> tuple[onnx_ir.Value, onnx_ir.Value, onnx_ir.Value]:
    """Appends one call of the LIF function for one time step.

    Args:
        nodes: Where the node goes.
        name: Name for the node.
        op: The neurons' constants.
        x: Input current, (batch, *shape), in any type.
        v: Membrane potential after the previous step's reset, of the same shape.
        spikes: Final name of the spikes.
        v_next: Final name of the membrane potential after the reset.
        u: Final name of the membrane potential before the reset.
    """
    dtype = nodes.numbers.spikes
    outputs = value(spikes, dims(x), dtype), value(v_next, dims(x)), value(u, dims(x))
    constants: Attributes = {"tau": op.tau, "threshold": op.threshold}
    nodes.append(_LIF_BY_SPIKES[dtype], [nodes.cast(x), v], outputs, name, constants, domain=DOMAIN)
    return outputs


def lif_function(spike_type: onnx_ir.DataType = onnx_ir.DataType.FLOAT) -> onnx_ir.Function:
    """`snndeploy::LIF(x, v) -> (spikes, v_next, u)`, attributes tau and threshold.

    u = tau * v + x;  spikes = 1 if u > threshold else 0;  v_next = u * (1 - spikes).
    Float32; runtimes inline it, so that it costs nothing. Where spikes leave it in another type, its name
    tells so: `LIF_uint8`, `LIF_float16`.
    """
    x, v = onnx_ir.Value(name="x"), onnx_ir.Value(name="v")
    body: list[onnx_ir.Node] = []

    def node(
        op_type: str, inputs: list[onnx_ir.Value], name: str, *attributes: onnx_ir.Attr
    ) -> onnx_ir.Value:
        output = onnx_ir.Value(name=name)
        body.append(onnx_ir.Node("", op_type, inputs, attributes, outputs=[output], name=name))
        return output

    def parameter(name: str) -> onnx_ir.Value:
        reference = onnx_ir.RefAttr("value_float", name, onnx_ir.AttributeType.FLOAT)
        return node("Constant", [], name, reference)

    def cast(x: onnx_ir.Value, name: str, dtype: onnx_ir.DataType) -> onnx_ir.Value:
        return node("Cast", [x], name, onnx_ir.AttrInt64("to", dtype))

    tau, threshold = parameter("tau"), parameter("threshold")
    u = node("Add", [node("Mul", [tau, v], "leaked"), x], "u")
    fires = node("Greater", [u, threshold], "fires")
    spikes = cast(fires, "spikes", spike_type)
    if spike_type == onnx_ir.DataType.FLOAT:
        one = node("Constant", [], "one", onnx_ir.AttrFloat32("value_float", 1.0))
        silent = node("Sub", [one, spikes], "silent")
    else:
        silent = cast(node("Not", [fires], "rests"), "silent", onnx_ir.DataType.FLOAT)
    v_next = node("Mul", [u, silent], "v_next")
    return onnx_ir.Function(
        DOMAIN,
        _LIF_BY_SPIKES[spike_type],
        graph=onnx_ir.Graph([x, v], [spikes, v_next, u], nodes=body, opset_imports={"": OPSET}),
        attributes=[onnx_ir.Attr(name, onnx_ir.AttributeType.FLOAT, None) for name in ("tau", "threshold")],
    )
