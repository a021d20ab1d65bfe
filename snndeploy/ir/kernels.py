"""What each op computes, in plain NumPy: the arithmetic every back end is compared with.

Arrays are (batch, channels, height, width) or (batch, features); the input's dtype is the precision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_never

from snndeploy.ir.network import op_parameters
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
    Upsample,
)

Values: TypeAlias = npt.NDArray[Any]
"""Of float32 or float64."""


def apply(name: str, op: Op, x: Values, weights: Mapping[str, npt.NDArray[Any]]) -> Values:
    """Output of one stateless op for its summed input.

    Args:
        name: The op's name, which its parameters carry.
        op: The op. Input, Lif and Output pass their input through: their state is the interpreter's.
        x: (batch, *shape).
        weights: Array by parameter name.
    """
    own = {short: weights[f"{name}.{short}"].astype(x.dtype, copy=False) for short in op_parameters(op)}
    match op:
        case Conv2d():
            return _add_bias(conv2d(x, own["weight"], op), own)
        case Linear():
            return _add_bias(x @ own["weight"].T, own)
        case BatchNorm():
            scale = own["weight"] / np.sqrt(own["running_var"] + x.dtype.type(op.epsilon))
            shift = own["bias"] - own["running_mean"] * scale
            axes = (1, -1, *(1,) * (x.ndim - 2))
            normalised: Values = x * scale.reshape(axes) + shift.reshape(axes)
            return normalised
        case AvgPool2d():
            windows = _windows(x, op.kernel, op.stride)
            mean: Values = windows.sum(axis=(-2, -1)) / x.dtype.type(op.kernel[0] * op.kernel[1])
            return mean
        case Upsample():
            maps = x if x.ndim == 4 else x[:, :, None, None]
            rows = np.arange(op.size[0]) * maps.shape[2] // op.size[0]
            columns = np.arange(op.size[1]) * maps.shape[3] // op.size[1]
            return maps[:, :, rows[:, None], columns]
        case Flatten():
            return x.reshape(x.shape[0], math.prod(x.shape[1:]))
        case Input() | Lif() | Dropout() | Output():
            return x
        case _:
            assert_never(op)


def conv2d(x: Values, weight: Values, op: Conv2d) -> Values:
    """Cross-correlation without bias; weight (out, in / groups, *kernel)."""
    vertical, horizontal = op.padding
    padded = np.pad(x, ((0, 0), (0, 0), (vertical, vertical), (horizontal, horizontal)))
    windows = _windows(padded, op.kernel, op.stride)  # batch, in, height, width, *kernel
    batch, _, height, width = windows.shape[:4]
    inputs, outputs = op.in_channels // op.groups, op.out_channels // op.groups  # of one group
    fan_in = inputs * math.prod(op.kernel)
    grouped = windows.reshape(batch, op.groups, inputs, height, width, *op.kernel)
    patches = grouped.transpose(1, 0, 3, 4, 2, 5, 6).reshape(op.groups, batch * height * width, fan_in)
    filters = weight.reshape(op.groups, outputs, fan_in).transpose(0, 2, 1)
    out = (patches @ filters).reshape(op.groups, batch, height, width, outputs)
    return np.ascontiguousarray(out.transpose(1, 0, 4, 2, 3)).reshape(batch, op.out_channels, height, width)


def _windows(x: Values, kernel: tuple[int, int], stride: tuple[int, int]) -> Values:
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))  # type: ignore[call-overload]
    strided: Values = view[:, :, :: stride[0], :: stride[1]]
    return strided


def _add_bias(y: Values, own: Mapping[str, Values]) -> Values:
    if "bias" in own:
        y += own["bias"].reshape(1, -1, *(1,) * (y.ndim - 2))
    return y
