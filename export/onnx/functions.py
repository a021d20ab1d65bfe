"""The neurons as local ONNX functions, which runtimes inline, so that they cost nothing more than their nodes."""

from __future__ import annotations

import onnx_ir

from snndeploy.export.onnx.nodes import DOMAIN, OPSET
from snndeploy.ir.neurons import LARGEST_MEMBRANE

_FLOAT, _INT32 = onnx_ir.DataType.FLOAT, onnx_ir.DataType.INT32


class _Body:
    """Nodes of a function, each named after its one output."""

    def __init__(self, *inputs: str) -> None:
        self.inputs = {name: onnx_ir.Value(name=name) for name in inputs}
        self.nodes: list[onnx_ir.Node] = []

    def add(
        self, op_type: str, inputs: list[onnx_ir.Value], name: str, *attributes: onnx_ir.Attr
    ) -> onnx_ir.Value:
        output = onnx_ir.Value(name=name)
        self.nodes.append(onnx_ir.Node("", op_type, inputs, attributes, outputs=[output], name=name))
        return output

    def cast(self, x: onnx_ir.Value, name: str, dtype: onnx_ir.DataType) -> onnx_ir.Value:
        return self.add("Cast", [x], name, onnx_ir.AttrInt64("to", dtype))

    def real(self, name: str) -> onnx_ir.Value:
        """The attribute of that name, a float."""
        reference = onnx_ir.RefAttr("value_float", name, onnx_ir.AttributeType.FLOAT)
        return self.add("Constant", [], name, reference)

    def whole(self, name: str) -> onnx_ir.Value:
        """The attribute of that name, a whole number, as int32."""
        reference = onnx_ir.RefAttr("value_int", name, onnx_ir.AttributeType.INT)
        return self.cast(self.add("Constant", [], f"{name}.int64", reference), name, _INT32)

    def number(self, name: str, value: float) -> onnx_ir.Value:
        """A number of that name in float32."""
        return self.add("Constant", [], name, onnx_ir.AttrFloat32("value_float", value))

    def function(
        self, name: str, outputs: list[onnx_ir.Value], **attributes: onnx_ir.AttributeType
    ) -> onnx_ir.Function:
        graph = onnx_ir.Graph(
            list(self.inputs.values()), outputs, nodes=self.nodes, opset_imports={"": OPSET}
        )
        declared = [onnx_ir.Attr(key, kind, None) for key, kind in attributes.items()]
        return onnx_ir.Function(DOMAIN, name, graph=graph, attributes=declared)


def lif_function(name: str, spike_type: onnx_ir.DataType) -> onnx_ir.Function:
    """`snndeploy::LIF(x, v) -> (spikes, v_next, u)`, attributes tau and threshold, all float32 but spikes.

    u = tau * v + x;  spikes = 1 if u > threshold else 0;  v_next = u * (1 - spikes).
    """
    body = _Body("x", "v")
    x, v = body.inputs.values()
    tau, threshold = body.real("tau"), body.real("threshold")
    u = body.add("Add", [body.add("Mul", [tau, v], "leaked"), x], "u")
    spikes, v_next = _fired(body, u, threshold, spike_type, "v_next")
    real = onnx_ir.AttributeType.FLOAT
    return body.function(name, [spikes, v_next, u], tau=real, threshold=real)


def loihi_function(name: str, spike_type: onnx_ir.DataType, *, fraction: bool) -> onnx_ir.Function:
    """`snndeploy::LoihiLIF(x, v, scale, threshold) -> (spikes, v_next, u)`, v and v_next in int32.

    u = tau * v, rounded towards zero, + x * scale, at most 2**23 - 1 either way;
    spikes = 1 if u > threshold else 0;  v_next = u * (1 - spikes).

    v, threshold and u are in units of the membrane; scale is how many of them are 1. tau is 1 / denominator or,
    with `fraction`, numerator / denominator with a denominator of at most 4096. Div of integers rounds towards
    zero (so says its specification). For a fraction, v is h * denominator + l, with the sign of v in both;
    h * numerator is whole, so that l * numerator / denominator alone is rounded. No product leaves int32 as
    long as v is below 2**23: h * numerator is at most v, and l * numerator below 2**24.

    In a network whose certificate holds, x * scale is a whole number below 2**23, as scale is a power of two.
    So is what is left of v, and their sum is below 2**24: float32 rounds nothing, nor does its conversion.
    """
    body = _Body("x", "v", "scale", "threshold")
    x, v, scale, threshold = body.inputs.values()
    whole = onnx_ir.AttributeType.INT
    attributes = {"denominator": whole}
    denominator = body.whole("denominator")
    if fraction:
        attributes = {"numerator": whole, **attributes}
        left = _product_with_fraction(body, v, body.whole("numerator"), denominator)
    else:
        left = body.add("Div", [v, denominator], "left")
    current = body.add("Mul", [x, scale], "current")
    unbounded = body.add("Add", [body.cast(left, "leaked", _FLOAT), current], "unbounded")
    bounds = [body.number("lowest", -LARGEST_MEMBRANE), body.number("largest", LARGEST_MEMBRANE)]
    u = body.add("Clip", [unbounded, *bounds], "u")
    spikes, rest = _fired(body, u, threshold, spike_type, "rest")
    return body.function(name, [spikes, body.cast(rest, "v_next", _INT32), u], **attributes)


def _fired(
    body: _Body, u: onnx_ir.Value, threshold: onnx_ir.Value, spike_type: onnx_ir.DataType, left: str
) -> tuple[onnx_ir.Value, onnx_ir.Value]:
    """Spikes, and u where there is none, under that name."""
    fires = body.add("Greater", [u, threshold], "fires")
    spikes = body.cast(fires, "spikes", spike_type)
    if spike_type == _FLOAT:
        silent = body.add("Sub", [body.number("one", 1), spikes], "silent")
    else:
        silent = body.cast(body.add("Not", [fires], "rests"), "silent", _FLOAT)
    return spikes, body.add("Mul", [u, silent], left)


def _product_with_fraction(
    body: _Body, v: onnx_ir.Value, numerator: onnx_ir.Value, denominator: onnx_ir.Value
) -> onnx_ir.Value:
    high = body.add("Div", [v, denominator], "high")
    low = body.add("Sub", [v, body.add("Mul", [high, denominator], "rounded")], "low")
    rest = body.add("Div", [body.add("Mul", [low, numerator], "low_product"), denominator], "rounded_low")
    return body.add("Add", [body.add("Mul", [high, numerator], "high_product"), rest], "left")
