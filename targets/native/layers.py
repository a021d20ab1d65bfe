"""What each kind of population computes at an update, for a batch of samples, and what it records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from snndeploy.ir.neurons import LARGEST_MEMBRANE, Neurons
from snndeploy.targets.native.synapses import Synapses, empty

Messages: TypeAlias = Sequence[Sequence[Tensor]]


class Source:
    """The Input: sends the values of prepared samples.

    Args:
        values: (time, samples, *shape), time being 1 for static images.
        batch: Samples at a time.
    """

    def __init__(self, values: Tensor, batch: int) -> None:
        self._values, self._batch = values, batch
        self._sent = values[0, :0]

    def update(self, sample: int, t: int, arrived: Messages) -> Tensor:  # noqa: ARG002
        """Values of one step, (batch, *shape); of an image the very tensor of the step before."""
        if t == 0 or len(self._values) > 1:
            now = self._values[t, sample * self._batch : (sample + 1) * self._batch]
            self._sent = empty(len(now), now.shape[1:]).copy_(now)
        return self._sent


class Membranes:
    """A Lif: u = tau * v + x; s = 1 if u > threshold else 0; v = u * (1 - s); v = 0 before the first step.

    In the loihi format the leak is rounded towards zero to a whole number of units and u saturates, see
    `snndeploy.ir.neurons`.

    Args:
        constants: Its leak, threshold and unit.
        shape: Of the population.
        synapses: Everything that leads into it.
        spikes: To record into, (time, samples, bytes).
        potentials: To record into, (time, samples, *shape), or None.
        batch: Samples at a time.
    """

    def __init__(
        self,
        constants: Neurons,
        shape: Sequence[int],
        synapses: Synapses,
        spikes: npt.NDArray[np.uint8],
        potentials: Tensor | None,
        batch: int,
    ) -> None:
        self._synapses, self._batch = synapses, batch
        self._spikes, self._potentials = spikes, potentials
        self._tau, self._threshold = constants.tau, constants.threshold
        self._shifts = self._tau > 0 and math.frexp(self._tau)[0] == 0.5  # a power of two: products are exact
        self._unit = None if constants.unit is None else torch.tensor(constants.unit, dtype=torch.float32)
        self._rest = empty(batch, shape)

    def update(self, sample: int, t: int, arrived: Messages) -> Tensor:
        """Spikes of one step, (batch, *shape), as 0.0 and 1.0."""
        rows = slice(sample * self._batch, (sample + 1) * self._batch)
        u = self._rest
        self._charge(self._synapses.current(arrived), first=t == 0)
        if self._potentials is not None:
            self._potentials[t, rows] = u
        spikes = torch.gt(u, self._threshold, out=torch.empty_like(u))  # far faster than to bool and back
        u.addcmul_(u, spikes, value=-1)  # u * (1 - s), far faster than filling where s is true
        fired = spikes.to(torch.bool).movedim(1, -1).flatten(1)
        self._spikes[t, rows] = np.packbits(fired.numpy(), axis=1)
        return spikes

    def _charge(self, x: Tensor, *, first: bool) -> None:
        """Makes u of v, in place."""
        v = self._rest
        if first:
            v.copy_(x)
        elif self._unit is not None:
            self._leak(self._unit)
            torch.addcmul(x, v, self._unit, out=v)
        elif self._shifts:
            torch.add(x, v, alpha=self._tau, out=v)
        else:  # rounded twice, as in the interpreter
            v.mul_(self._tau).add_(x)
        if self._unit is not None and self._potentials is not None:
            # Certified neurons saturate above only, where they fire all the same.
            largest = LARGEST_MEMBRANE * self._unit
            torch.clamp(v, -largest, largest, out=v)

    def _leak(self, unit: Tensor) -> None:
        """Makes what the leak leaves of v, in whole units, of v, in place."""
        v = self._rest
        if self._shifts:
            torch.div(v, unit / self._tau, rounding_mode="trunc", out=v)
        else:
            v.copy_((v.double() / unit * self._tau).trunc_())  # at most 35 binary digits


class Readout:
    """The Output: sums what arrives in the last `readout` of `steps` steps.

    Args:
        synapses: Everything that leads into it.
        sums: To record into, (samples, classes), zeros.
        first: The first step that counts.
        batch: Samples at a time.
    """

    def __init__(self, synapses: Synapses, sums: Tensor, first: int, batch: int) -> None:
        self._synapses, self._sums, self._first, self._batch = synapses, sums, first, batch

    def update(self, sample: int, t: int, arrived: Messages) -> Tensor:
        """The sums so far, (batch, classes)."""
        own = self._sums[sample * self._batch : (sample + 1) * self._batch]
        if t >= self._first:
            own += self._synapses.current(arrived)
        return own
