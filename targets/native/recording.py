"""What samples did: spikes as bits, an eighth of the memory, which a run of many samples spends on nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from snndeploy import ir
from snndeploy.targets.native.synapses import empty


class Spikes(Mapping[str, npt.NDArray[np.bool_]]):
    """Spikes (time, samples, *shape) of every Lif by name, unpacked whenever they are asked for.

    Args:
        shapes: Of the Lifs.
        packed: (time, samples, bytes), each row the bits of one sample with the channels innermost.
    """

    def __init__(self, shapes: Mapping[str, ir.Shape], packed: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        self._shapes, self._packed = shapes, packed

    def __getitem__(self, name: str) -> npt.NDArray[np.bool_]:
        packed = self._packed[name]
        channels, *places = self._shapes[name]
        bits = np.unpackbits(packed, axis=-1, count=channels * math.prod(places)).view(np.bool_)
        return np.moveaxis(bits.reshape(*packed.shape[:2], *places, channels), -1, 2)

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


@dataclass(frozen=True, eq=False)
class Recording:
    """What some samples did; a run fills its rows.

    spikes: (time, samples, bytes) for every Lif, by name; bits as in `Spikes`.
    potentials: (time, samples, *shape) u before the reset; empty if they are not asked for.
    readout_sum: (samples, classes).
    """

    spikes: Mapping[str, npt.NDArray[np.uint8]]
    potentials: Mapping[str, Tensor]
    readout_sum: Tensor

    @classmethod
    def new(cls, network: ir.Network, samples: int, *, potentials: bool) -> Recording:
        """One to be filled."""
        steps, shapes, ports = network.steps, network.graph.shapes, network.graph.ports
        return cls(
            {p: np.zeros((steps, samples, -(-math.prod(shapes[p]) // 8)), np.uint8) for p in ports},
            {
                p: empty(steps * samples, shapes[p]).view(steps, samples, *shapes[p])
                for p in (ports if potentials else ())
            },
            torch.zeros(samples, *shapes[network.graph.output]),
        )

    def rows(self, first: int, last: int) -> Recording:
        """That of the samples from the first up to, not including, the last, as views."""
        return Recording(
            {name: spikes[:, first:last] for name, spikes in self.spikes.items()},
            {name: u[:, first:last] for name, u in self.potentials.items()},
            self.readout_sum[first:last],
        )

    def trace(self, network: ir.Network) -> ir.Trace:
        """What has been recorded, with logits that are sums over the readout window, divided by it."""
        sums = self.readout_sum.numpy()
        return ir.Trace(
            spikes=Spikes(network.graph.shapes, self.spikes),
            readout_sum=sums,
            logits=sums / sums.dtype.type(network.readout),
            potentials={name: u.numpy() for name, u in self.potentials.items()},
        )
