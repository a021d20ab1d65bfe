"""Penalties on spikes: what is added to the loss so that a network fires less, and where it costs most.

    loss + intensity * Omega,   Omega = 1/p * sum over layers, neurons and time steps of weight * spike**p

averaged over the samples. The weight of a neuron is the number of synapses it drives (`syn`), 1 (`total`), or
1 / the number of neurons of its layer (`balance`). With `syn`, p * E_AC * Omega is the energy E_SNN of eq. 10
for any number of time steps (theorem 3.4): a spike times itself is that spike.

As autograd has it, d/du of spike**p / p is spike**(p - 1) * ds/du: with p = 2 only neurons that fired are
pushed down (eq. 17).

Source: Spiking Synaptic Penalty, eqs. 13, 14 and 17 to 20.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snndeploy.errors import ConfigError, NetworkError
from snndeploy.ir import Graph, check_steps
from snndeploy.ir.fanout import psi
from snndeploy.train.config import PenaltyConfig


@dataclass(frozen=True, eq=False)
class Penalty:
    """A penalty for the spikes of one graph.

    steps: Logical time steps T.
    weights: Weight of each neuron of every Lif by name, float64, of the Lif's shape.
    power: p.
    final: Intensity at the end of training; 0 for none.
    grows: Whether the intensity grows linearly from 0 over the training, or is the same throughout.
    """

    steps: int
    weights: Mapping[str, Tensor]
    power: int
    final: float
    grows: bool

    @classmethod
    def from_config(cls, config: PenaltyConfig, graph: Graph, steps: int) -> Penalty:
        """The penalty that a configuration asks for.

        Args:
            config: Weights, p, intensity and schedule.
            graph: Any graph, folded or not; its backward connections count as synapses like all others.
            steps: Logical time steps T.

        Raises:
            ConfigError: The graph has no spikes, or a normalised intensity is asked for where none costs
                anything.
            GraphError: As `psi`.
            NetworkError: A delay is not below the number of steps.
        """
        check_steps(graph, steps)
        if not graph.ports:
            raise ConfigError("penalty", "needs a network with a Lif")
        unscaled = cls(
            steps=steps,
            weights=_weights(config, graph),
            power=config.power,
            final=config.intensity,
            grows=config.schedule == "linear",
        )
        if not config.normalised:
            return unscaled
        if unscaled.largest == 0:
            raise ConfigError("penalty.normalised", "needs neurons that drive synapses")
        return replace(unscaled, final=config.intensity / unscaled.largest)

    @property
    def largest(self) -> float:
        """Omega(1), its value when every neuron fires at every step, all T of them.

        Eq. 20 relates the normalised intensity to it, there with T = 1. As printed it divides; dividing Omega
        by Omega(1) is multiplying: normalised = intensity * Omega(1), as the intensities of the paper bear out.
        """
        return self.steps * sum(float(weight.sum()) for weight in self.weights.values()) / self.power

    def intensity(self, progress: float) -> float:
        """Factor of the penalty in the loss.

        The paper multiplies by epoch / epochs. The progress of each batch lies between the two readings of
        that, with epochs counted from 0 and from 1.

        Args:
            progress: Share of the training that is done, from 0 to 1.
        """
        return self.final * progress if self.grows else self.final

    def to(self, device: torch.device | str) -> Penalty:
        """The same penalty for spikes on another device."""
        return replace(self, weights={name: weight.to(device) for name, weight in self.weights.items()})

    def __call__(self, spikes: Mapping[str, Tensor]) -> Tensor:
        """Omega, averaged over the samples; a float64 scalar with a gradient.

        Args:
            spikes: 0 or 1, (time, batch, *shape) for every Lif; of an ANN its activations, in [0, 1].

        Raises:
            NetworkError: The spikes are not those of this graph and number of steps.
        """
        total = self.summed(spikes)
        return total / next(iter(spikes.values())).shape[1]

    def summed(self, spikes: Mapping[str, Tensor]) -> Tensor:
        """Omega, summed over the samples; arguments and errors as those of the mean.

        Whole weights give an exact sum: each neuron's count stays below 2**24, as single precision needs, and
        the products are added up in double precision.
        """
        self._check(spikes)
        parts = [
            _weighed(spikes[name] if self.power == 1 else _squared(spikes[name]), weight)
            for name, weight in self.weights.items()
        ]
        return torch.stack(parts).sum() / self.power

    def _check(self, spikes: Mapping[str, Tensor]) -> None:
        if set(spikes) != set(self.weights):
            differing = sorted(set(spikes) ^ set(self.weights))
            raise NetworkError("spikes", "must name every Lif", got=differing[:5])
        for name, weight in self.weights.items():
            found = tuple(spikes[name].shape)
            if found[:1] + found[2:] != (self.steps, *weight.shape):
                expected = ", ".join(map(str, (self.steps, "batch", *weight.shape)))
                raise NetworkError(f"spikes of {name}", f"must have shape ({expected})", got=found)


def _weights(config: PenaltyConfig, graph: Graph) -> dict[str, Tensor]:
    if config.name == "syn":
        synapses = psi(graph, "nominal" if config.psi == "nominal" else "exact")
        return {name: torch.from_numpy(array.astype(np.float64)) for name, array in synapses.items()}
    shapes = {name: graph.shapes[name] for name in graph.ports}
    return {
        name: torch.full(
            shape, 1 / math.prod(shape) if config.name == "balance" else 1.0, dtype=torch.float64
        )
        for name, shape in shapes.items()
    }


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


def _weighed(values: Tensor, weight: Tensor) -> Tensor:
    """Sum over (time, batch, *shape) of values times the weight (*shape) of their neuron."""
    # Summing over samples, and spreading the gradient over them, takes ten times less along the memory, where
    # maps may lie with their channels innermost, than across it.
    layout = sorted(range(weight.ndim), key=lambda axis: -values.stride(axis + 2))
    along = values.permute(0, 1, *(axis + 2 for axis in layout))
    counts = along.sum((0, 1), dtype=torch.promote_types(values.dtype, torch.float32))
    # `dot`, unlike `@`, is left in double precision by every kind of autocast.
    return torch.dot(counts.flatten().double(), weight.permute(layout).flatten())
