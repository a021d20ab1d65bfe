"""Our networks made of the layers of SpikingJelly and of snnTorch, for benchmarks/training.py.

The neuron is ours in all of them: u = v / 2 + x, a spike at the threshold 1, reset to 0, the triangle of width 1 as
surrogate, gradients through time. What differs is theirs:

- SpikingJelly fires at u >= threshold, the others at u > threshold.
- SpikingJelly in multi-step mode folds time into the batch, also for the statistics of BatchNorm; ours, its
  single-step mode and snnTorch take them at every step.
- snnTorch by default resets at the next step and lets no gradient through the reset, which is less to compute; with
  `reset_delay=False` the gradient is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import numpy.typing as npt
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from snndeploy.ir import AvgPool2d, BatchNorm, Conv2d, Flatten, Graph, Lif, Linear, Op, parameter_shapes

Make: TypeAlias = Callable[[Op], nn.Module]


class Layers(nn.Module):
    """A graph without delays, a module for each op; what no op reads any more is let go.

    Args:
        graph: Without backward connections.
        make: The module of an op.
        weights: Of every parameter and running statistic, by name.
    """

    def __init__(self, graph: Graph, make: Make, weights: Mapping[str, npt.NDArray[Any]]) -> None:
        super().__init__()
        self.graph = graph
        inner = [name for name in graph.order if name not in (graph.input, graph.output)]
        self.layers = nn.ModuleDict({_held_as(name): make(graph.ops[name]) for name in inner})
        states = self.layers.state_dict()
        with torch.no_grad():
            for name in parameter_shapes(graph):
                op, short = name.rsplit(".", 1)
                states[f"{_held_as(op)}.{short}"].copy_(torch.tensor(weights[name]))

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        graph = self.graph
        readers = {name: len(graph.outgoing[name]) for name in graph.ops}
        values = {graph.input: x}
        for name in graph.order[1:]:
            sources = [edge.source for edge in graph.incoming[name]]
            entering = values[sources[0]]
            for source in sources[1:]:
                entering = entering + values[source]
            for source in sources:
                readers[source] -= 1
                if readers[source] == 0:
                    del values[source]
            values[name] = entering if name == graph.output else self.layers[_held_as(name)](entering)
            del entering
        result: Tensor = values[graph.output]
        return result


class SpikingJellyNetwork(nn.Module):
    """Frames (time, batch, *shape) to the logits of each step, in layers of SpikingJelly.

    Args:
        layers: The network.
        mode: "m" computes each layer for all steps, "s" each step through all layers.
    """

    def __init__(self, layers: Layers, mode: str) -> None:
        super().__init__()
        self.layers, self.mode = layers, mode
        functional.set_step_mode(layers, mode)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of each step; `reset` must follow."""
        if self.mode == "m":
            logits: Tensor = self.layers(x)
            return logits
        return torch.stack([self.layers(frame) for frame in x])

    def reset(self) -> None:
        """Puts the neurons to rest."""
        functional.reset_net(self.layers)


class SnnTorchNetwork(nn.Module):
    """Frames (time, batch, *shape) to the logits of each step, in layers of PyTorch and snnTorch."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.layers = layers
        self.neurons = [module for module in layers.modules() if isinstance(module, snntorch.Leaky)]

    def forward(self, x: Tensor) -> Tensor:
        """Logits of each step; `reset` must follow."""
        return torch.stack([self.layers(frame) for frame in x])

    def reset(self) -> None:
        """Puts the neurons to rest."""
        for leaky in self.neurons:
            leaky.reset_mem()


Peer: TypeAlias = SpikingJellyNetwork | SnnTorchNetwork


def spikingjelly_network(
    graph: Graph, weights: Mapping[str, npt.NDArray[Any]], *, mode: str
) -> SpikingJellyNetwork:
    """The graph in SpikingJelly, in step mode "m" or "s"."""
    return SpikingJellyNetwork(Layers(graph, spikingjelly_layer, weights), mode)


def snntorch_network(
    graph: Graph, weights: Mapping[str, npt.NDArray[Any]], *, differentiable_reset: bool
) -> SnnTorchNetwork:
    """The graph in snnTorch, with a gradient through the reset or, as by default there, without."""
    make = partial(_snntorch_layer, reset_delay=not differentiable_reset)
    return SnnTorchNetwork(Layers(graph, make, weights))


def spikingjelly_layer(op: Op) -> nn.Module:
    """The layer of SpikingJelly that computes an op."""
    if isinstance(op, Lif):
        made: nn.Module = neuron.LIFNode(
            tau=1 / (1 - op.tau),  # it leaks by v / tau
            decay_input=False,
            v_threshold=op.threshold,
            v_reset=0.0,
            surrogate_function=surrogate.PiecewiseQuadratic(alpha=1.0),
            detach_reset=False,
        )
        return made
    return _stateless(op, layer)


def _snntorch_layer(op: Op, *, reset_delay: bool) -> nn.Module:
    if isinstance(op, Lif):
        made: nn.Module = snntorch.Leaky(
            beta=op.tau,
            threshold=op.threshold,
            spike_grad=_triangle,
            init_hidden=True,
            reset_mechanism="zero",
            reset_delay=reset_delay,
        )
        return made
    return _stateless(op, nn)


def _stateless(op: Op, library: Any) -> nn.Module:
    """An op in the module of that name in `torch.nn`, or of its wrapper in SpikingJelly."""
    match op:
        case Conv2d():
            made = library.Conv2d(
                op.in_channels,
                op.out_channels,
                op.kernel,
                stride=op.stride,
                padding=op.padding,
                groups=op.groups,
                bias=op.bias,
            )
        case Linear():
            made = library.Linear(op.in_features, op.out_features, bias=op.bias)
        case BatchNorm():
            made = library.BatchNorm2d(op.channels, eps=op.epsilon)
        case AvgPool2d():
            made = library.AvgPool2d(op.kernel, op.stride)
        case Flatten():
            made = library.Flatten()
        case _:
            raise TypeError(f"no counterpart for {op}")
    module: nn.Module = made
    return module


class _Triangle(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, distance: Tensor) -> Tensor:
        ctx.save_for_backward(distance)
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        distance: Tensor = ctx.saved_tensors[0]
        return gradient * (1 - distance.abs()).clamp_(min=0)


_triangle: Callable[[Tensor], Tensor] = _Triangle.apply


def _held_as(name: str) -> str:
    return name.replace(".", "/")
