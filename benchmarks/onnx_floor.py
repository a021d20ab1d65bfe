"""The least that ONNX Runtime must compute for a network: its convolutions and fully connected layers alone.

All steps at once, but once per sample what an image alone decides; no neurons, no sums, no dependence between layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from typing_extensions import assert_never

from benchmarks.onnx_networks import Case
from benchmarks.onnx_torch import open_session
from snndeploy.export.onnx.prefix import input_only
from snndeploy.ir import Conv2d, Linear, Shape

FIRING_RATE = 0.15
_OPSET, _IR_VERSION = 20, 10

Kind: TypeAlias = Literal["float32", "convolutions", "matrices"]
"""Of products: in float32; of uint8 spikes by ConvInteger; or of their patches, which lie ready, by MatMulInteger."""


def products(case: Case, *, kind: Kind) -> Callable[[], None]:
    """A function that computes all products of an inference once; what an image enters is in float32 in all kinds."""
    graph = case.network.graph
    once = input_only(case.network)
    made: list[_Product] = []
    for name in graph.order:
        op = graph.ops[name]
        if isinstance(op, Conv2d | Linear):
            shape = graph.shapes[graph.incoming[name][0].source]
            steps = 1 if name in once else case.network.steps
            chosen: Kind = "float32" if name in once else kind
            made.append(_product(name, op, (case.batch * steps, *shape), graph.shapes[name], chosen))
    body = helper.make_graph(
        [product.node for product in made],
        "floor",
        [helper.make_tensor_value_info(p.node.input[0], _element(p.x.dtype), p.x.shape) for p in made],
        [helper.make_tensor_value_info(p.node.name, _element(p.made), p.shape) for p in made],
        [constant for product in made for constant in product.constants],
    )
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(body, opset_imports=[opset], ir_version=_IR_VERSION)
    return _bound(
        open_session(model.SerializeToString(), case.threads), {p.node.input[0]: p.x for p in made}, made
    )


@dataclass(frozen=True, eq=False)
class _Product:
    """One product: its node and constants, its input, and the shape and type of its output."""

    node: onnx.NodeProto
    constants: list[onnx.TensorProto]
    x: npt.NDArray[Any]
    shape: Shape
    made: npt.DTypeLike


def _product(name: str, op: Conv2d | Linear, entering: Shape, leaving: Shape, kind: Kind) -> _Product:
    """One product of random spikes by random weights, on which its time does not depend."""
    rng = np.random.default_rng(0)
    convolves, rows = isinstance(op, Conv2d), entering[0]
    shape: Shape = (rows, *leaving)
    kernel = _kernel_shape(op)
    inputs, window = [f"{name}.x", f"{name}.weight"], _window(op)
    made: npt.DTypeLike = np.int32
    match kind:
        case "float32":
            weight: npt.NDArray[Any] = rng.standard_normal(kernel, np.float32)
            x, op_type = _spikes(rng, entering, np.float32), "Conv" if convolves else "Gemm"
            made, attributes = np.float32, window if convolves else {"transB": 1}
        case "convolutions" if convolves:
            weight = rng.integers(1, 256, kernel, np.uint8)
            x, op_type, attributes = _spikes(rng, entering, np.uint8), "ConvInteger", window
            inputs += ["", f"{name}.zero"]
        case "convolutions" | "matrices":
            places, patch = math.prod(leaving[1:]), math.prod(kernel[1:])
            weight = rng.integers(-127, 128, (patch, kernel[0]), np.int8)
            x, op_type = _spikes(rng, (rows, places, patch), np.uint8), "MatMulInteger"
            attributes, shape = {}, (rows, places, kernel[0])
        case _:
            assert_never(kind)
    constants = [numpy_helper.from_array(weight, f"{name}.weight")]
    if op_type == "ConvInteger":
        constants.append(numpy_helper.from_array(np.array(128, np.uint8), f"{name}.zero"))
    return _Product(
        helper.make_node(op_type, inputs, [name], name=name, **attributes), constants, x, shape, made
    )


def _bound(session: Any, fed: Mapping[str, npt.NDArray[Any]], made: list[_Product]) -> Callable[[], None]:
    """A call with buffers for all that enters and leaves."""
    binding = session.io_binding()
    for name, array in fed.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, "cpu", 0))
    for product in made:
        room = onnxruntime.OrtValue.ortvalue_from_shape_and_type(product.shape, product.made, "cpu", 0)
        binding.bind_ortvalue_output(product.node.name, room)

    def run() -> None:
        session.run_with_iobinding(binding)

    return run


def _spikes(rng: np.random.Generator, shape: Shape, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    return (rng.random(shape, np.float32) < FIRING_RATE).astype(kind)


def _element(kind: npt.DTypeLike) -> int:
    return {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "int32": TensorProto.INT32}[
        np.dtype(kind).name
    ]


def _kernel_shape(op: Conv2d | Linear) -> Shape:
    if isinstance(op, Linear):
        return (op.out_features, op.in_features)
    return (op.out_channels, op.in_channels // op.groups, *op.kernel)


def _window(op: Conv2d | Linear) -> dict[str, Any]:
    if isinstance(op, Linear):
        return {}
    pads = (*op.padding, *op.padding)
    return {"kernel_shape": op.kernel, "strides": op.stride, "pads": pads, "group": op.groups}
