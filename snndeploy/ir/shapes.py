"""The shape of every op's output, without time and batch."""

from __future__ import annotations

from typing_extensions import assert_never

from snndeploy.errors import GraphError
from snndeploy.ir.ops import (
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


def output_shape(name: str, op: Op, shape: Shape) -> Shape:
    """Shape of what an op gives.

    Args:
        name: The op's name, for messages.
        op: The op.
        shape: Shape of its (summed) input; ignored for Input.

    Raises:
        GraphError: The op does not accept that shape.
    """
    match op:
        case Input():
            return op.shape
        case Conv2d():
            return _conv_shape(name, op, shape)
        case Linear():
            if shape != (op.in_features,):
                raise GraphError(
                    name,
                    f"Linear takes ({op.in_features},)",
                    got=shape,
                    remedy="put a Flatten before it or change in_features",
                )
            return (op.out_features,)
        case BatchNorm():
            if shape[0] != op.channels:
                raise GraphError(
                    name,
                    f"BatchNorm takes {op.channels} channels",
                    got=shape[0],
                    remedy="change its channels or what feeds it",
                )
            return shape
        case AvgPool2d():
            _need_map(name, op, shape)
            return (shape[0], *(_windows(name, shape[a + 1], op.kernel[a], op.stride[a], 0) for a in (0, 1)))
        case Upsample():
            return (shape[0], *op.size)
        case Flatten():
            _need_map(name, op, shape)
            return (shape[0] * shape[1] * shape[2],)
        case Output():
            if len(shape) != 1:
                raise GraphError(
                    name,
                    "Output takes (classes,)",
                    got=shape,
                    remedy="end the network with Flatten and Linear",
                )
            return shape
        case Lif() | Dropout():
            return shape
        case _:
            assert_never(op)


def _conv_shape(name: str, op: Conv2d, shape: Shape) -> Shape:
    _need_map(name, op, shape)
    if shape[0] != op.in_channels:
        raise GraphError(
            name,
            f"Conv2d takes {op.in_channels} channels",
            got=shape[0],
            remedy="change its in_channels or what feeds it",
        )
    size = (
        _windows(name, shape[axis + 1], op.kernel[axis], op.stride[axis], op.padding[axis]) for axis in (0, 1)
    )
    return (op.out_channels, *size)


def _need_map(name: str, op: Op, shape: Shape) -> None:
    if len(shape) != 3:
        raise GraphError(
            name,
            f"{type(op).__name__} takes a map (channels, height, width)",
            got=shape,
            remedy="an Upsample to (1, 1) turns a vector into a map",
        )


def _windows(name: str, length: int, kernel: int, stride: int, padding: int) -> int:
    count = (length + 2 * padding - kernel) // stride + 1
    if count < 1:
        raise GraphError(
            name,
            f"a window of {kernel} must fit into {length} + 2 * {padding} padding",
            remedy="use a smaller kernel, fewer strided layers, or a larger input",
        )
    return count
