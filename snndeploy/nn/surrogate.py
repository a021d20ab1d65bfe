"""Stand-ins for the derivative of a spike, which is zero almost everywhere.

Each is a frozen value with `derivative(potential, threshold)`; the neuron asks for nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from snndeploy.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Triangle:
    """ds/du = max(0, width - |u - threshold|) / width**2.

    width: Half of the base, in units of the membrane potential.

    Source: BCNAS-SNN, eq. 5, after Bellec et al. (NeurIPS 2018).
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.width) and self.width > 0):
            raise ConfigError("surrogate", "width must be positive", got=self.width)

    def derivative(self, potential: Tensor, threshold: float) -> Tensor:
        """The stand-in at each membrane potential, in a new tensor of the same shape."""
        # In place, because on a CPU a fresh tensor costs more than the arithmetic that fills it.
        distance = (potential - threshold).abs_()
        return distance.neg_().add_(self.width).clamp_(min=0).div_(self.width**2)


Surrogate: TypeAlias = Triangle
"""A closed union, to be widened by further surrogates."""
