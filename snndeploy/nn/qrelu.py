"""Quantised ReLU: the activation of an ANN whose values are rates that an integrate-and-fire neuron may have.

It takes the place of the neurons of a graph for one time step. The same graph, its neurons without a leak,
then is the spiking network that the ANN is converted to.

With a constant current of z thresholds and a hard reset such a neuron fires at every k-th step, where k is the
first number of steps with k * z > 1, so k = floor(1/z) + 1. Its rate is 0 or 1/k, never 2/3 or 2/5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import assert_never

from snndeploy.errors import ConfigError
from snndeploy.ir import Lif


@dataclass(frozen=True, slots=True)
class QuantizedRelu:
    """z = current / threshold, brought down to a level and clipped to [0, 1].

    Down, not to the nearest level: the membrane, too, has to get past its threshold. The gradient is that of
    z ("straight through") for 0 < z < 1 + 1 / levels, and 0 elsewhere. The top level begins at 1; without the
    tread above it no neuron there could be pushed down, by a penalty for example.

    levels: How many above 0.
    kind: "uniform" has the levels m / levels, m = 0 .. levels, as in the source, whose neurons subtract their
        threshold when they fire. "reciprocal" has 0 and 1 / k, k = 1 .. levels, the rates of neurons with a
        hard reset, and goes down to the one that current z gives.

    Source: Sorbaro et al., Front. Neurosci. 14:662 (2020), with floor and gradient as in its authors' sinabs.
        There activations have no upper bound, as a neuron may fire more than once a step; ours cannot.
    """

    levels: int
    kind: Literal["uniform", "reciprocal"] = "uniform"

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ConfigError("quantised ReLU", "must have at least 1 level", got=self.levels)
        if self.kind not in ("uniform", "reciprocal"):
            raise ConfigError("quantised ReLU", "must be uniform or reciprocal", got=repr(self.kind))

    def __call__(self, x: Tensor, op: Lif) -> Tensor:
        """Activations in [0, 1] for currents of any shape; the leak of the neuron plays no part."""
        return _quantised(x, op.threshold, self)

    def level(self, z: Tensor) -> Tensor:
        """The level that each z comes down to, in a new tensor; without a gradient."""
        match self.kind:
            case "uniform":
                return z.mul(self.levels).floor_().clamp_(0, self.levels).div_(self.levels)
            case "reciprocal":
                period = z.clamp(min=0).reciprocal_().floor_().add_(1)  # infinite for z = 0
                return period.reciprocal().masked_fill_(period > self.levels, 0)
            case _:
                assert_never(self.kind)


class _Quantised(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: float, activation: QuantizedRelu) -> Tensor:
        z = x / threshold
        ctx.threshold = threshold
        ctx.save_for_backward((z > 0) & (z < 1 + 1 / activation.levels))
        return activation.level(z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside / ctx.threshold, None, None


_quantised: Callable[..., Tensor] = _Quantised.apply
