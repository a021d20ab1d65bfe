"""The operations a network is made of: frozen values, a closed union, no behaviour.

Shapes are written without time and batch: a map is (channels, height, width), a vector is (features,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from snndeploy.errors import GraphError

Shape: TypeAlias = tuple[int, ...]
Size: TypeAlias = tuple[int, int]

_LARGEST = 2**31 - 1  # of any dimension; beyond it a file is damaged rather than large
_LOWEST_THRESHOLD = float(np.float32(1e-6))  # itself a float32, so that a rounded threshold is allowed again


def _check_int(kind: str, name: str, value: object, low: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= _LARGEST:
        raise GraphError(kind, f"{name} must be a whole number of at least {low}", got=repr(value))


def _check_size(kind: str, name: str, value: object, low: int = 1) -> None:
    if not isinstance(value, tuple) or len(value) != 2:
        raise GraphError(kind, f"{name} must be a pair (vertical, horizontal)", got=repr(value))
    for part in value:
        _check_int(kind, name, part, low)


def _check_bool(kind: str, name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise GraphError(kind, f"{name} must be true or false", got=repr(value))


def _check_real(kind: str, name: str, value: object, low: float, high: float) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # type: ignore[operator]  # NaN is in no interval
        raise GraphError(kind, f"{name} must lie in [{low:g}, {high:g}]", got=repr(value))


def _round_to_float32(op: object, name: str) -> None:
    """Makes a constant the same number in every back end, whatever precision it computes in."""
    object.__setattr__(op, name, float(np.float32(getattr(op, name))) + 0.0)  # of two zeros the positive one


def _make_float(op: object, name: str) -> None:
    """Equal ops are written alike: 1 and 1.0 would be two fingerprints."""
    object.__setattr__(op, name, float(getattr(op, name)) + 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """Where a sample enters, once a time step.

    shape: (channels, height, width) or (features,).
    """

    shape: Shape

    def __post_init__(self) -> None:
        if not isinstance(self.shape, tuple) or len(self.shape) not in (1, 3):
            raise GraphError(
                "Input", "shape must be (channels, height, width) or (features,)", got=repr(self.shape)
            )
        for part in self.shape:
            _check_int("Input", "shape", part)


@dataclass(frozen=True, kw_only=True, slots=True)
class Conv2d:
    """2-D cross-correlation with zero padding: (in_channels, h, w) -> (out_channels, h', w').

    Parameters: weight (out_channels, in_channels / groups, *kernel), bias (out_channels,).
    """

    in_channels: int
    out_channels: int
    kernel: Size
    stride: Size = (1, 1)
    padding: Size = (0, 0)
    groups: int = 1
    bias: bool = False

    def __post_init__(self) -> None:
        for name in ("in_channels", "out_channels", "groups"):
            _check_int("Conv2d", name, getattr(self, name))
        _check_size("Conv2d", "kernel", self.kernel)
        _check_size("Conv2d", "stride", self.stride)
        _check_size("Conv2d", "padding", self.padding, low=0)
        _check_bool("Conv2d", "bias", self.bias)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise GraphError(
                "Conv2d",
                f"in_channels (={self.in_channels}) and out_channels (={self.out_channels}) "
                f"must be divisible by groups (={self.groups})",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Linear:
    """Fully connected: (in_features,) -> (out_features,).

    Parameters: weight (out_features, in_features), bias (out_features,).
    """

    in_features: int
    out_features: int
    bias: bool = False

    def __post_init__(self) -> None:
        _check_int("Linear", "in_features", self.in_features)
        _check_int("Linear", "out_features", self.out_features)
        _check_bool("Linear", "bias", self.bias)


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchNorm:
    """Batch normalisation per channel (maps) or feature (vectors); only while training, `fold` removes it.

    Parameters: weight, bias, running_mean, running_var, each (channels,).
    """

    channels: int
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        _check_int("BatchNorm", "channels", self.channels)
        _check_real("BatchNorm", "epsilon", self.epsilon, 1e-12, 1.0)
        _make_float(self, "epsilon")


@dataclass(frozen=True, kw_only=True, slots=True)
class Lif:
    """Leaky integrate-and-fire neurons with hard reset.

    u = tau * v + x;  s = 1 if u > threshold else 0;  v = u * (1 - s); v = 0 before the first step.
    Both constants are rounded to float32 so that every back end uses the same number.
    """

    tau: float = 0.5
    threshold: float = 1.0

    def __post_init__(self) -> None:
        _check_real("Lif", "tau", self.tau, 0.0, 1.0)
        _check_real("Lif", "threshold", self.threshold, _LOWEST_THRESHOLD, 1e6)
        _round_to_float32(self, "tau")
        _round_to_float32(self, "threshold")


@dataclass(frozen=True, kw_only=True, slots=True)
class AvgPool2d:
    """Mean over windows, without padding; a window that does not fit is left out."""

    kernel: Size
    stride: Size

    def __post_init__(self) -> None:
        _check_size("AvgPool2d", "kernel", self.kernel)
        _check_size("AvgPool2d", "stride", self.stride)


@dataclass(frozen=True, kw_only=True, slots=True)
class Upsample:
    """Nearest neighbour to a given size: output row i reads input row (i * in) // out.

    A vector (features,) is read as a map (features, 1, 1). The size may also be smaller than the input's.
    """

    size: Size

    def __post_init__(self) -> None:
        _check_size("Upsample", "size", self.size)


@dataclass(frozen=True, kw_only=True, slots=True)
class Flatten:
    """(channels, height, width) -> (channels * height * width,), channel-major."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropout:
    """Zeroes elements with a probability; only while training, `fold` removes it."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_real("Dropout", "probability", self.probability, 0.0, 0.99)
        _make_float(self, "probability")


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """Where the logits are read: the mean over the readout window of what arrives, (classes,)."""


Op: TypeAlias = Input | Conv2d | Linear | BatchNorm | Lif | AvgPool2d | Upsample | Flatten | Dropout | Output
