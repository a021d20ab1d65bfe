"""Stand-ins for the derivative of a spike, which is zero almost everywhere.

Each is a frozen value with `derivative(potential, threshold)`; the neuron asks for nothing else. `primitive`
is the smooth function whose derivative it is, up to a constant.

Our neurons fire strictly above their threshold. Where a surrogate differs on its two sides, a potential equal
to the threshold therefore belongs to the side that does not fire.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from snndeploy.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Triangle:
    """ds/du = max(0, width - |u - threshold|) / width**2.

    width: Half of the base, in units of the membrane potential.

    Source: BCNAS-SNN, eq. 5, after Bellec et al. (NeurIPS 2018). With width 1 it is the piecewise linear
    function of Spiking Synaptic Penalty, eq. 22, after Esser et al. (PNAS 2016).
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        _require_positive("width", self.width)

    def derivative(self, potential: Tensor, threshold: float) -> Tensor:
        """The stand-in at each membrane potential, in a new tensor of the same shape."""
        # In place, because on a CPU a fresh tensor costs more than the arithmetic that fills it.
        distance = (potential - threshold).abs_()
        return distance.neg_().add_(self.width).clamp_(min=0).div_(self.width**2)

    def primitive(self, potential: Tensor, threshold: float) -> Tensor:
        """Two parabolas, from 0 at threshold - width to 1 at threshold + width."""
        z = ((potential - threshold) / self.width).clamp_(-1, 1)
        return 0.5 + z - 0.5 * z * z.abs()


@dataclass(frozen=True, slots=True)
class ScaledSigmoid:
    """ds/du = sigma * (1 - sigma) / alpha with sigma = 1 / (1 + exp((threshold - u) / alpha)).

    alpha: Scale, in units of the membrane potential.

    Source: Spiking Synaptic Penalty, eq. 23 with its eqs. 4 and 5, after Pellegrini et al. (SLT 2021).
    """

    alpha: float

    def __post_init__(self) -> None:
        _require_positive("alpha", self.alpha)

    def derivative(self, potential: Tensor, threshold: float) -> Tensor:
        """The stand-in at each membrane potential, in a new tensor of the same shape."""
        # It is even in u - threshold; on the side where sigma is small, 1 - sigma does not cancel.
        sigma = (potential - threshold).abs_().div_(-self.alpha).sigmoid_()
        return sigma.addcmul_(sigma, sigma, value=-1).div_(self.alpha)

    def primitive(self, potential: Tensor, threshold: float) -> Tensor:
        """The sigmoid, from 0 to 1."""
        return (potential - threshold).div_(self.alpha).sigmoid_()


@dataclass(frozen=True, slots=True)
class SigmoidReciprocal:
    """ds/du = 1 / (tau * u) above the threshold, and that of `ScaledSigmoid(alpha)` up to it.

    alpha: Scale of the sigmoid, in units of the membrane potential.
    tau: Divides the reciprocal; it is not the leak of the neuron.

    Source: Spiking Synaptic Penalty, eq. 3, after Suetake et al. (Neural Networks 159, 2023). There a neuron
    fires at its threshold, too, and so takes the reciprocal at u = threshold.
    """

    alpha: float
    tau: float

    def __post_init__(self) -> None:
        _require_positive("alpha", self.alpha)
        _require_positive("tau", self.tau)

    def derivative(self, potential: Tensor, threshold: float) -> Tensor:
        """The stand-in at each membrane potential, in a new tensor of the same shape.

        Args:
            potential: Of any shape.
            threshold: Must be positive, as that of every Lif is.
        """
        below = ScaledSigmoid(self.alpha).derivative(potential, threshold)
        return torch.where(potential > threshold, potential.mul(self.tau).reciprocal_(), below)

    def primitive(self, potential: Tensor, threshold: float) -> Tensor:
        """The sigmoid up to the threshold, where it is 1/2, and a logarithm above, without bound."""
        below = ScaledSigmoid(self.alpha).primitive(potential.clamp(max=threshold), threshold)
        return below + (potential / threshold).clamp_(min=1).log_().div_(self.tau)


Surrogate: TypeAlias = Triangle | ScaledSigmoid | SigmoidReciprocal
"""A closed union."""


def surrogate_of(name: str, *, width: float, alpha: float, tau: float) -> Surrogate:
    """The surrogate that a configuration asks for; it takes those of the parameters that it has.

    Args:
        name: "triangle", "scaled_sigmoid" or "sigmoid_reciprocal".
        width: Of `Triangle`.
        alpha: Of `ScaledSigmoid` and `SigmoidReciprocal`.
        tau: Of `SigmoidReciprocal`.

    Raises:
        ConfigError: There is no such surrogate, or one of its parameters is not positive.
    """
    match name:
        case "triangle":
            return Triangle(width)
        case "scaled_sigmoid":
            return ScaledSigmoid(alpha)
        case "sigmoid_reciprocal":
            return SigmoidReciprocal(alpha, tau)
        case _:
            raise ConfigError(
                "surrogate", "must be triangle, scaled_sigmoid or sigmoid_reciprocal", got=repr(name)
            )


def _require_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError("surrogate", f"{name} must be positive", got=value)
