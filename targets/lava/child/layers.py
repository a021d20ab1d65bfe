"""What each kind of population computes at an update, and what it writes to files; nothing of Lava in here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from snndeploy.targets.lava.child.synapses import Array, Synapses


class Layer(Protocol):
    """One population's part of the computation, called once for every logical step of every sample."""

    def update(self, sample: int, t: int, arrived: Sequence[Array]) -> npt.NDArray[Any]:
        """What the population sends at step t of a sample, given what arrived since its last update."""
        ...


class Source:
    """The Input: sends the values of prepared samples.

    Args:
        samples: File of (batch, *shape) or (batch, time, *shape).
        shape: Of the population.
    """

    def __init__(self, samples: str, shape: Sequence[int]) -> None:
        self._samples = np.load(samples, mmap_mode="r", allow_pickle=False)
        self._is_static = self._samples.ndim == 1 + len(shape)

    def update(self, sample: int, t: int, arrived: Sequence[Array]) -> npt.NDArray[Any]:  # noqa: ARG002
        """Values of one step, *shape."""
        values: npt.NDArray[Any] = self._samples[sample] if self._is_static else self._samples[sample, t]
        return values


class Neurons:
    """A Lif: u = tau * v + x; s = 1 if u > threshold else 0; v = u * (1 - s); v = 0 before the first step.

    Args:
        synapses: Everything that leads into it.
        shape: Of the population.
        tau: Leak.
        threshold: Threshold.
        rows: Number of steps of all samples.
        steps: Number of steps of one sample.
        spikes_path: File for one bit-packed row of spikes per sample and step.
        potentials_path: File for one row of u per sample and step, or None.
    """

    def __init__(
        self,
        synapses: Synapses,
        shape: Sequence[int],
        tau: float,
        threshold: float,
        *,
        rows: int,
        steps: int,
        spikes_path: str,
        potentials_path: str | None,
    ) -> None:
        self._synapses = synapses
        self._tau = np.float32(tau)
        self._threshold = np.float32(threshold)
        self._steps = steps
        self._rest = np.zeros(shape, np.float32)
        size = self._rest.size
        self._spikes = _new_file(spikes_path, np.uint8, (rows, (size + 7) // 8))
        self._potentials = _new_file(potentials_path, np.float32, (rows, size)) if potentials_path else None

    def update(self, sample: int, t: int, arrived: Sequence[Array]) -> npt.NDArray[Any]:
        """Spikes of one step, *shape."""
        current = self._synapses.current(arrived)
        u = current if t == 0 else self._tau * self._rest + current
        spikes = u > self._threshold
        self._rest = np.where(spikes, np.float32(0), u)
        row = sample * self._steps + t
        self._spikes[row] = np.packbits(spikes)
        if self._potentials is not None:
            self._potentials[row] = u.ravel()
        return spikes


class Readout:
    """The Output: sums what arrives in the last `readout` of `steps` steps.

    Args:
        synapses: Everything that leads into it.
        classes: Number of sums.
        samples: Number of samples.
        readout: Steps summed.
        steps: Steps of one sample.
        sums_path: File for one row of sums per sample.
        progress_path: File that one byte is appended to for each sample done.
    """

    def __init__(
        self,
        synapses: Synapses,
        classes: int,
        *,
        samples: int,
        readout: int,
        steps: int,
        sums_path: str,
        progress_path: str,
    ) -> None:
        self._synapses = synapses
        self._first, self._last = steps - readout, steps - 1
        self._sum = np.zeros(classes, np.float32)
        self._sums = _new_file(sums_path, np.float32, (samples, classes))
        self._progress = Path(progress_path)

    def update(self, sample: int, t: int, arrived: Sequence[Array]) -> npt.NDArray[Any]:
        """The sum so far, (classes,)."""
        if t == 0:
            self._sum[:] = 0
        if t >= self._first:
            self._sum += self._synapses.current(arrived)
        if t == self._last:
            self._sums[sample] = self._sum
            with self._progress.open("ab") as file:
                file.write(b".")
        return self._sum


def _new_file(path: str, dtype: type, shape: tuple[int, int]) -> npt.NDArray[Any]:
    created: npt.NDArray[Any] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]  # NumPy 1.26
        path, mode="w+", dtype=dtype, shape=shape
    )
    # With all of its blocks now: on a full disk a later write through the map would be a SIGBUS, no exception.
    with Path(path).open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    return created
