"""Teacher forcing: whether a back end's spikes follow from its own inputs and earlier spikes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat

import numpy as np
import numpy.typing as npt

from snndeploy.ir.kernels import Values
from snndeploy.ir.network import Network
from snndeploy.ir.neurons import Neurons, neurons
from snndeploy.ir.ops import Lif
from snndeploy.ir.replay import entering
from snndeploy.ir.rounding import (
    SMALLEST,
    SMALLEST_HALF,
    UNIT_ROUNDOFF,
    accumulated,
    relative_bound,
    roundings,
    worst_ratio,
)
from snndeploy.ir.run import Trace


class Forced:
    """Teacher-forced flips and the readout for given spikes, added up over batches.

    Args:
        network: The folded network.
        exact: Whether it is certified, so that single precision rounds nothing.
        half: Whether weights, and the inputs and sums of the ops that have them, are rounded to float16.

    Attributes:
        flips: As in `verify.Layer` by Lif; `unexplained`, `worst` (margin), `disputed` and `upheld` likewise.
        readouts: For each batch the readout sums in float64 and how far rounding may move them.
    """

    def __init__(self, network: Network, *, exact: bool, half: bool) -> None:
        self.network = network
        self.sure = exact and not half  # nothing may round
        self.half, self.referee = half, not exact
        self.smallest = SMALLEST_HALF if half else 0.0
        self.terms = roundings(network.graph, half=half)
        self.neurons = neurons(network)
        ports = network.graph.ports
        self.flips, self.unexplained = dict.fromkeys(ports, 0), dict.fromkeys(ports, 0)
        self.disputed, self.upheld = dict.fromkeys(ports, 0), dict.fromkeys(ports, 0)
        self.worst = dict.fromkeys(ports, 0.0)
        self.readouts: list[tuple[Values, Values]] = []

    def add(self, x: Values, spikes: Mapping[str, npt.NDArray[np.bool_]]) -> None:
        """Adds a batch: input (time, batch, *shape) and the spikes of every Lif."""
        sums = entering(self.network, x, spikes)
        sizes = entering(self.network, x, spikes, magnitudes=True, smallest=self.smallest)
        # A certified network's sums are the same in both precisions.
        singles = entering(self.network, x, spikes, dtype=np.float32) if self.referee else repeat(None)
        for (name, current), (_, size), single in zip(sums, sizes, singles, strict=False):
            op = self.network.graph.ops[name]
            if isinstance(op, Lif):
                self._add_layer(name, op, current, size, spikes[name], single and single[1])
            elif name == self.network.graph.output:
                window = slice(self.network.steps - self.network.readout, None)
                count = self.terms[name] + self.network.readout + 2  # one division, perhaps by its inverse
                bound = relative_bound(count) * size[window].sum(axis=0) + SMALLEST
                self.readouts.append((current[window].sum(axis=0), bound))

    def readout_error(self, found: Trace) -> float:
        """Largest error of readout sums, or of logits times the window, in rounding bounds."""
        if not self.readouts:
            return 0.0
        right, bound = (np.concatenate(parts) for parts in zip(*self.readouts, strict=True))
        given = (found.readout_sum, found.logits.astype(np.float64) * self.network.readout)
        return max(worst_ratio(np.abs(values - right), bound) for values in given)

    def _add_layer(
        self,
        name: str,
        op: Lif,
        current: Values,
        size: Values,
        spikes: npt.NDArray[np.bool_],
        single: Values | None,
    ) -> None:
        potential, carried = potentials(self.neurons[name], current, spikes)
        rounding = relative_bound(self.terms[name]) * size + 2 * UNIT_ROUNDOFF * (
            np.abs(carried) + np.abs(current)
        )
        bound = accumulated(op, rounding, spikes) + SMALLEST
        flipped = (potential > op.threshold) != spikes
        distance = np.abs(potential - op.threshold)[flipped]
        self.flips[name] += int(flipped.sum())
        self.unexplained[name] += int(flipped.sum() if self.sure else (distance > bound[flipped]).sum())
        self.worst[name] = max(self.worst[name], worst_ratio(distance, bound[flipped]))
        disputed = flipped
        if single is not None:
            disputed = (
                potentials(self.neurons[name], single, spikes)[0] > np.float32(op.threshold)
            ) != spikes
        self.disputed[name] += int(disputed.sum())
        self.upheld[name] += int((disputed & ~flipped).sum())


def potentials(neurons: Neurons, current: Values, spikes: npt.NDArray[np.bool_]) -> tuple[Values, Values]:
    """Membrane potential u and what the leak left in it, for given currents and given spikes, (time, ...)."""
    potential, carried = np.empty_like(current), np.zeros_like(current)
    rest = np.zeros_like(current[0])
    for t in range(len(current)):
        carried[t] = neurons.carried(rest)
        potential[t] = neurons.charge(rest, current[t])
        rest = potential[t] * ~spikes[t]
    return potential, carried
