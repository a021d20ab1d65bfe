"""The least that a training step of a network must compute: its convolutions and fully connected layers.

Forward, and backward to their weights and their inputs (the first has none to go to), on spikes of the shapes that
they have with time folded into the batch. No neurons, normalisation or loss, and no dependence between layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from snndeploy.ir import Conv2d, Graph, Input, Linear

FIRING_RATE = 0.15


def bare_products(
    graph: Graph,
    batch: int,
    *,
    layout: torch.memory_format,
    dtype: torch.dtype = torch.float32,
) -> Callable[[], None]:
    """A function that computes all products of a training step once.

    Args:
        graph: Any graph.
        batch: Samples times time steps.
        layout: Of maps and kernels.
        dtype: Of all tensors.
    """
    generator = torch.Generator().manual_seed(0)

    def placed(tensor: Tensor) -> Tensor:
        tensor = tensor.to(dtype)
        return tensor.contiguous(memory_format=layout) if tensor.ndim == 4 else tensor

    layers: list[_Layer] = []
    for name in graph.order:
        op = graph.ops[name]
        if isinstance(op, Conv2d | Linear):
            source = graph.incoming[name][0].source
            spikes = torch.rand(batch, *graph.shapes[source], generator=generator) < FIRING_RATE
            x = placed(spikes).requires_grad_(not isinstance(graph.ops[source], Input))
            weight = placed(torch.randn(_kernel_shape(op), generator=generator)).requires_grad_()
            gradient = placed(torch.rand(batch, *graph.shapes[name], generator=generator))
            layers.append(_Layer(op, x, weight, gradient))
    leaves = [leaf for layer in layers for leaf in (layer.x, layer.weight) if leaf.requires_grad]
    gradients = [layer.gradient for layer in layers]

    def step() -> None:
        torch.autograd.grad([layer() for layer in layers], leaves, gradients)

    return step


@dataclass(frozen=True, eq=False)
class _Layer:
    """One product: its input, its weight, and the gradient that arrives at its output."""

    op: Conv2d | Linear
    x: Tensor
    weight: Tensor
    gradient: Tensor

    def __call__(self) -> Tensor:
        if isinstance(self.op, Linear):
            return F.linear(self.x, self.weight)
        return F.conv2d(self.x, self.weight, None, self.op.stride, self.op.padding, groups=self.op.groups)


def _kernel_shape(op: Conv2d | Linear) -> tuple[int, ...]:
    if isinstance(op, Linear):
        return (op.out_features, op.in_features)
    return (op.out_channels, op.in_channels // op.groups, *op.kernel)
