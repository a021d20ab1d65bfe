"""How often each neuron fired, over time and samples, with a gradient: what a price for each spike asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True, eq=False)
class Counts:
    """The sum over time and samples of spike**p, for every neuron.

    For spikes, 0 or 1, p decides nothing but the gradient, which is p * spike**(p - 1).

    power: p.
    steps: Time steps.
    samples: In the batch.
    fired: (*shape) for every Lif, in single precision or better: exact for up to 2**24 spikes of a neuron.
    """

    power: int
    steps: int
    samples: int
    fired: Mapping[str, Tensor]

    @classmethod
    def of(cls, spikes: Mapping[str, Tensor], power: int) -> Counts:
        """Those of spikes at hand.

        Args:
            spikes: (time, batch, *shape) for every Lif, 0 or 1; of an ANN its activations, in [0, 1].
            power: p, 1 or 2.
        """
        steps, samples = next(iter(spikes.values())).shape[:2]
        return cls(power, steps, samples, {name: counted(values, power) for name, values in spikes.items()})


def counted(spikes: Tensor, power: int, *, traceable: bool = False) -> Tensor:
    """The sum of spike**p over time and samples, (*shape), in single precision or better.

    Args:
        spikes: (time, batch, *shape).
        power: p, 1 or 2.
        traceable: Take nothing but operations that PyTorch can differentiate.
    """
    if power == 2:
        spikes = spikes * spikes if traceable else _squared(spikes)
    # Summing over samples, and spreading the gradient over them, takes ten times less along the memory, where
    # maps may lie with their channels innermost, than across it.
    layout = sorted(range(2, spikes.ndim), key=spikes.stride, reverse=True)
    along = spikes.permute(0, 1, *layout)
    precision = torch.float64 if spikes.dtype == torch.float64 else torch.float32
    sums = along.sum((0, 1), dtype=precision)
    return sums.permute([layout.index(axis) for axis in range(2, spikes.ndim)])


class _Squared(torch.autograd.Function):
    """x * x, whose gradient PyTorch's power would take three passes over memory for."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        # Every sample and step has the same gradient, and so it is doubled before it is spread over them.
        once = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in gradient.stride())
        product: Tensor = x * (2 * gradient[once])
        return product


_squared: Callable[[Tensor], Tensor] = _Squared.apply
