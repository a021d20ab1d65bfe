"""What each kind of population computes at an update, and what it writes to files; nothing of Lava in here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from snndeploy.targets.lava.child.membranes import Membranes
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
    """A Lif: what its membranes do with what its synapses give.

    Args:
        synapses: Everything that leads into it.
        membranes: Its neurons.
        size: Number of them.
        rows: Number of steps of all samples.
        steps: Number of steps of one sample.
        spikes_path: File for one bit-packed row of spikes per sample and step.
        potentials_path: File for one row of u per sample and step, or None.
    """

    def __init__(
        self,
        synapses: Synapses,
        membranes: Membranes,
        size: int,
        *,
        rows: int,
        steps: int,
        spikes_path: str,
        potentials_path: str | None,
    ) -> None:
        self._synapses = synapses
        self._membranes = membranes
        self._steps = steps
        self._spikes = new_file(spikes_path, np.uint8, (rows, (size + 7) // 8))
        self._potentials = new_file(potentials_path, np.float32, (rows, size)) if potentials_path else None

    def update(self, sample: int, t: int, arrived: Sequence[Array]) -> npt.NDArray[Any]:
        """Spikes of one step, *shape."""
        spikes = self._membranes.update(self._synapses.current(arrived), begins=t == 0)
        row = sample * self._steps + t
        self._spikes[row] = np.packbits(spikes)
        if self._potentials is not None:
            self._potentials[row] = self._membranes.potentials().ravel()
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
        self._sums = new_file(sums_path, np.float32, (samples, classes))
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


def new_file(path: str, dtype: type, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """A file of results that is written through the array returned."""
    created: npt.NDArray[Any] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]  # NumPy 1.26
        path, mode="w+", dtype=dtype, shape=shape
    )
    # With all of its blocks now: on a full disk a later write through the map would be a SIGBUS, no exception.
    with Path(path).open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    return created
