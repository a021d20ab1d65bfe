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

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from snndeploy.errors import ConfigError, NetworkError
from snndeploy.ir import Graph, Shape, check_steps
from snndeploy.ir.fanout import psi
from snndeploy.train.config import PenaltyConfig


@dataclass(frozen=True, eq=False)
class Penalty:
    """A penalty for the spikes of one graph.

    shapes: (time, *shape) of the spikes of every Lif, by name.
    weights: (neurons,), float64: the weight of each neuron, Lif after Lif in the order of `shapes`.
    power: p.
    final: Intensity at the end of training; 0 for none.
    grows: Whether the intensity grows linearly from 0 over the training, or is the same throughout.
    """

    shapes: Mapping[str, Shape]
    weights: Tensor
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
            shapes={name: (steps, *graph.shapes[name]) for name in graph.ports},
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
        steps = next(iter(self.shapes.values()))[0]
        return steps * float(self.weights.sum()) / self.power

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
        return replace(self, weights=self.weights.to(device))

    def __call__(self, spikes: Mapping[str, Tensor]) -> Tensor:
        """Omega, averaged over the samples; a float64 scalar with a gradient.

        Args:
            spikes: 0 or 1, (time, batch, *shape) for every Lif.

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
        counts = []
        for name in self.shapes:
            raised = spikes[name] if self.power == 1 else spikes[name] ** self.power
            # Reduced to one map before anything else, which costs one read of the spikes in any memory layout.
            precision = torch.promote_types(raised.dtype, torch.float32)
            counts.append(raised.sum((0, 1), dtype=precision).flatten())
        # `dot`, unlike `@`, is left in double precision by every kind of autocast.
        return torch.dot(torch.cat(counts).double(), self.weights) / self.power

    def _check(self, spikes: Mapping[str, Tensor]) -> None:
        if set(spikes) != set(self.shapes):
            raise NetworkError(
                "spikes", "must name every Lif", got=sorted(set(spikes) ^ set(self.shapes))[:5]
            )
        for name, (steps, *shape) in self.shapes.items():
            found = tuple(spikes[name].shape)
            if found[:1] + found[2:] != (steps, *shape):
                expected = ", ".join(map(str, (steps, "batch", *shape)))
                raise NetworkError(f"spikes of {name}", f"must have shape ({expected})", got=found)


def _weights(config: PenaltyConfig, graph: Graph) -> Tensor:
    if config.name == "syn":
        found = psi(graph, "nominal" if config.psi == "nominal" else "exact")
        parts = [found[name].ravel() for name in graph.ports]
    else:
        sizes = [int(np.prod(graph.shapes[name])) for name in graph.ports]
        parts = [np.full(size, 1 / size if config.name == "balance" else 1.0) for size in sizes]
    return torch.from_numpy(np.concatenate(parts).astype(np.float64))
