"""What enters Lava's own processes and what is written of what they do; nothing of Lava in here.

Lava orders maps (height, width, channels), the files (channels, height, width).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from snndeploy.targets.lava.child.layers import Source, new_file
else:  # run as a script, this folder is on the path and snndeploy is not
    from layers import Source, new_file

Whole = npt.NDArray[np.int32]
_MEMBRANE_DIGITS = 7  # of a unit of the membrane below the grid of the weights


@dataclass(frozen=True)
class Window:
    """When a population is inside a sample: at step t of sample s in machine step `s * period + t + start`.

    period: Steps from one sample to the next; those from `steps` on are blank.
    """

    start: int
    steps: int
    period: int
    samples: int

    def position(self, k: int) -> tuple[int, int] | None:
        """(s, t) of a machine step; None outside all samples."""
        sample, t = divmod(k - self.start, self.period)
        return (sample, t) if 0 <= sample < self.samples and t < self.steps else None


def window_of(population: Mapping[str, Any], manifest: Mapping[str, Any], samples: int) -> Window:
    """The window of a population in a stream of samples; both as the manifest has them."""
    steps, gap = manifest["steps"], manifest["schedule"]["gap"]
    return Window(population["start"], steps, steps + gap, samples)


class Values:
    """Sends the values of prepared samples as whole numbers of 2**-bits.

    Args:
        samples: File of (batch, *shape) or (batch, time, *shape).
        shape: Of the Input.
        bits: Of its grid.
        window: Of the Input.
    """

    def __init__(self, samples: str, shape: Sequence[int], bits: int, window: Window) -> None:
        self._source, self._unit, self._window = Source(samples, shape), 2.0**bits, window
        self._silence = channels_last(np.zeros(shape, np.int32))

    def __call__(self, k: int) -> Whole:
        """What is sent in machine step k."""
        position = self._window.position(k)
        if position is None:
            return self._silence
        values = self._source.update(*position, ())
        return channels_last(np.rint(values * self._unit).astype(np.int32))


class Silence:
    """Fires for each machine step in which a population is outside all samples, one before it, for the synapse.

    Args:
        window: Of the population.
    """

    def __init__(self, window: Window) -> None:
        self._window = window

    def __call__(self, k: int) -> Whole:
        """What is sent in machine step k, (1,)."""
        return np.asarray([self._window.position(k + 1) is None], np.int32)


class NeuronWriter:
    """Writes the spikes of a population and, if asked to, its membrane potentials after the reset.

    Args:
        shape: Of the population.
        window: When it is inside a sample.
        grid_bits: g for each channel: a unit of the membrane is 2**-(g + 7).
        spikes_path: File for one bit-packed row of spikes per sample and step.
        rests_path: File for one row of potentials per sample and step, or None.
    """

    def __init__(
        self,
        shape: Sequence[int],
        window: Window,
        grid_bits: Sequence[int],
        spikes_path: str,
        rests_path: str | None,
    ) -> None:
        self._window = window
        rows, size = window.samples * window.steps, int(np.prod(shape))
        self._spikes = new_file(spikes_path, np.uint8, (rows, (size + 7) // 8))
        self._rests = new_file(rests_path, np.float32, (rows, size)) if rests_path else None
        unit = np.exp2(-(np.asarray(grid_bits, np.float64) + _MEMBRANE_DIGITS))
        self._unit = unit.reshape(-1, *(1,) * (len(shape) - 1))

    def see(self, k: int, spikes: npt.NDArray[Any]) -> None:
        """Spikes of machine step k."""
        if (row := self._row(k)) is not None:
            self._spikes[row] = np.packbits(channels_first(spikes) != 0)

    def read(self, k: int, potentials: npt.NDArray[Any]) -> None:
        """Potentials after machine step k, in units of the membrane."""
        if (row := self._row(k)) is not None and self._rests is not None:
            self._rests[row] = (channels_first(potentials) * self._unit).ravel()

    def _row(self, k: int) -> int | None:
        position = self._window.position(k)
        return None if position is None else position[0] * self._window.steps + position[1]


class ReadoutWriter:
    """Sums the current of the Output over the last `readout` steps of each sample.

    Args:
        window: Of the Output.
        readout: Steps summed.
        output: `grid_bits` and `bias` for each class: a weight of 1 is 2**-(grid_bits + 1).
        sums_path: File for one row of sums per sample.
        progress_path: File that one byte is appended to for each sample done.
    """

    def __init__(
        self,
        window: Window,
        readout: int,
        output: Mapping[str, Sequence[float]],
        sums_path: str,
        progress_path: str,
    ) -> None:
        self._window, self._first = window, window.steps - readout
        self._bias = np.asarray(output["bias"], np.float64)
        self._unit = np.exp2(-(np.asarray(output["grid_bits"], np.float64) + 1))
        self._sum = np.zeros_like(self._bias)
        self._sums = new_file(sums_path, np.float32, (window.samples, self._sum.size))
        self._progress = Path(progress_path)

    def see(self, k: int, current: npt.NDArray[Any]) -> None:
        """Current of machine step k, in weights of 1."""
        if (position := self._window.position(k)) is None:
            return
        sample, t = position
        if t == 0:
            self._sum[:] = 0
        if t >= self._first:
            self._sum += current * self._unit + self._bias
        if t == self._window.steps - 1:
            self._sums[sample] = self._sum
            with self._progress.open("ab") as file:
                file.write(b".")


class Writer:
    """Writes what every Lif and, as the last of them, the Output do, numbered in the order of the manifest.

    Args:
        manifest: Of the bundle.
        job: `count` of samples and folder for `results`.
        request: `progress` (file) and whether `potentials` are asked for.
    """

    def __init__(
        self, manifest: Mapping[str, Any], job: Mapping[str, Any], request: Mapping[str, Any]
    ) -> None:
        results = Path(job["results"])
        self._neurons = [
            NeuronWriter(
                population["shape"],
                window_of(population, manifest, job["count"]),
                population["registers"]["grid_bits"],
                str(results / f"{index}.spikes.npy"),
                str(results / f"{index}.rests.npy") if request["potentials"] else None,
            )
            for index, population in enumerate(manifest["populations"])
            if population["type"] == "Lif"
        ]
        self._readout = ReadoutWriter(
            window_of(manifest["populations"][-1], manifest, job["count"]),
            manifest["readout"],
            manifest["stock"]["output"],
            str(results / "readout.npy"),
            request["progress"],
        )

    def see(self, index: int, k: int, values: npt.NDArray[Any]) -> None:
        """What arrives in machine step k: spikes of a Lif, or the Output's current."""
        if index < len(self._neurons):
            self._neurons[index].see(k, values)
        else:
            self._readout.see(k, values)

    def read(self, index: int, k: int, potentials: npt.NDArray[Any]) -> None:
        """Potentials of a Lif after machine step k."""
        self._neurons[index].read(k, potentials)


def channels_last(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A map in Lava's order; a vector stays as it is."""
    return np.moveaxis(values, 0, -1)


def channels_first(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The inverse."""
    return np.moveaxis(values, -1, 0)
