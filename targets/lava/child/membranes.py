"""The membranes of LIF neurons: the arithmetic of one time step, in real or in whole numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from snndeploy.targets.lava.child.synapses import Array

_SHIFT = 6  # a synaptic weight of 1 and a threshold of 1 are 2**6 units of the membrane
_LARGEST = 2**23 - 1
_UNITY_BITS = 12  # of the leak


class Membranes(Protocol):
    """What a population's neurons keep from one time step to the next."""

    def update(self, current: Array, begins: bool) -> npt.NDArray[np.bool_]:
        """Spikes, *shape, for what enters at one step; `begins` forgets what was before."""
        ...

    def potentials(self) -> Array:
        """Membrane potential u before the reset of the last update, *shape, in real values."""
        ...


class RealMembranes:
    """u = tau * v + x; s = 1 if u > threshold else 0; v = u * (1 - s), in float32."""

    def __init__(self, tau: float, threshold: float, shape: Sequence[int]) -> None:
        self._tau, self._threshold = np.float32(tau), np.float32(threshold)
        self._u = self._rest = np.zeros(shape, np.float32)

    def update(self, current: Array, begins: bool) -> npt.NDArray[np.bool_]:
        """Spikes, *shape."""
        self._u = current if begins else self._tau * self._rest + current
        spikes = self._u > self._threshold
        self._rest = np.where(spikes, np.float32(0), self._u)
        return spikes

    def potentials(self) -> Array:
        """U of the last update, *shape."""
        return self._u


class WholeMembranes:
    """The same with the registers of the loihi format, in int32: Lava 0.10.0's `fixed_pt` LIF with du = 4095.

    A current is a whole number of synaptic weights of 1; without its bias it enters 2**6 fold. The leak keeps
    (4096 - decay) / 4096 of v, rounded towards zero, and u saturates at 2**23 - 1. The network's certificate
    bounds every current by 2**17 - 1, at which Lava's own current does not wrap round either.

    Args:
        registers: `grid_bits`, `threshold`, `bias_mantissa` and `bias_exponent` per channel, and `decay`.
        shape: Of the population.
    """

    def __init__(self, registers: Mapping[str, Any], shape: Sequence[int]) -> None:
        def per_channel(name: str) -> npt.NDArray[np.int32]:
            return np.asarray(registers[name], np.int32).reshape(-1, *(1,) * (len(shape) - 1))

        self._scale = np.exp2(per_channel("grid_bits") + 1).astype(np.float32)
        self._unit = 1 / (self._scale * np.float32(2**_SHIFT))
        self._bias = per_channel("bias_mantissa") << per_channel("bias_exponent")
        self._threshold = per_channel("threshold") << _SHIFT
        self._kept = np.int32((1 << _UNITY_BITS) - registers["decay"])
        self._u = self._rest = np.zeros(shape, np.int32)

    def update(self, current: Array, begins: bool) -> npt.NDArray[np.bool_]:
        """Spikes, *shape, for a current without bias in real values."""
        u = ((current * self._scale).astype(np.int32) << _SHIFT) + self._bias
        if not begins:
            u += self._leaked()
        self._u = np.clip(u, -_LARGEST, _LARGEST)
        spikes: npt.NDArray[np.bool_] = self._u > self._threshold
        self._rest = np.where(spikes, np.int32(0), self._u)
        return spikes

    def _leaked(self) -> npt.NDArray[np.int32]:
        """What the leak leaves of v; in two parts, since the product with 23 bits would need 35."""
        size = np.abs(self._rest)
        high, low = size >> _UNITY_BITS, size & ((1 << _UNITY_BITS) - 1)
        left = high * self._kept + (low * self._kept >> _UNITY_BITS)
        return np.where(self._rest < 0, -left, left)

    def potentials(self) -> Array:
        """U of the last update, *shape, exact in float32 as it has 23 bits."""
        real: Array = self._u.astype(np.float32) * self._unit
        return real
