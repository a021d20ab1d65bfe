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
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from snndeploy.errors import ConfigError, NetworkError
from snndeploy.ir import Graph, check_steps
from snndeploy.ir.fanout import psi
from snndeploy.nn.counts import Counts
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

    def __call__(self, counts: Counts) -> Tensor:
        """Omega, averaged over the samples; a float64 scalar with a gradient.

        Args:
            counts: Of spike**p, or of an ANN of its activations, which lie in [0, 1].

        Raises:
            NetworkError: The counts are not those of this graph, number of steps and p.
        """
        return self.summed(counts) / counts.samples

    def summed(self, counts: Counts) -> Tensor:
        """Omega, summed over the samples; arguments and errors as those of the mean.

        Whole weights give an exact sum: each neuron's count stays below 2**24, as single precision needs, and
        the products are added up in double precision.
        """
        self._check(counts)
        parts = [(counts.fired[name] * weight).sum() for name, weight in self.weights.items()]
        return torch.stack(parts).sum() / self.power

    def _check(self, counts: Counts) -> None:
        if (counts.steps, counts.power) != (self.steps, self.power):
            raise NetworkError(
                "counts",
                f"must be of {self.steps} steps and p = {self.power}",
                got=f"{counts.steps} steps and p = {counts.power}",
            )
        if set(counts.fired) != set(self.weights):
            differing = sorted(set(counts.fired) ^ set(self.weights))
            raise NetworkError("counts", "must name every Lif", got=differing[:5])
        for name, weight in self.weights.items():
            if (found := counts.fired[name].shape) != weight.shape:
                raise NetworkError(
                    f"counts of {name}", f"must have shape {tuple(weight.shape)}", got=tuple(found)
                )


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
