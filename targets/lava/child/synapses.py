"""What lies between populations: convolutions, pools, sums and so on, in float32 NumPy, one sample at a time.

Maps are (channels, height, width). In a certified network, whether exact or loihi, every partial sum is a whole
number of at most 2**24 units of one power of two, and so exact in float32: the order of summation does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Function = Callable[[Array], Array]
Key = tuple[str, int]  # a source and its delay in logical time steps


class Synapses:
    """All ops that lead into one population.

    Args:
        population: Its entry in the manifest.
        weights: Array by parameter name.
        biases: Whether ops add theirs; otherwise the neurons have all of them as a register.
    """

    def __init__(
        self, population: Mapping[str, Any], weights: Mapping[str, Array], *, biases: bool = True
    ) -> None:
        self._arrivals = [(a["source"], a["delay"]) for a in population["arrivals"]]
        self._program = [
            ((step["name"], 0), _keys(step["sources"]), function(step, weights, biases=biases))
            for step in population["program"]
        ]
        self._sources = _keys(population["sources"])

    def current(self, arrived: Sequence[Array]) -> Array:
        """Input of the population, *shape, for what arrived since its last update, in the order of arrivals."""
        values: dict[Key, Array] = dict(zip(self._arrivals, arrived, strict=True))
        for key, sources, apply in self._program:
            values[key] = apply(reduce(add, (values[source] for source in sources)))
        return reduce(add, (values[source] for source in self._sources))


def _keys(sources: Sequence[Mapping[str, Any]]) -> list[Key]:
    return [(source["source"], source["delay"]) for source in sources]


def function(step: Mapping[str, Any], weights: Mapping[str, Array], *, biases: bool = True) -> Function:
    """One op as a function of its summed input.

    Args:
        step: The op's entry in the manifest.
        weights: Array by parameter name.
        biases: Whether it adds its bias.
    """
    name, kind = step["name"], step["type"]
    silent = np.zeros(1, np.float32)
    if kind == "Conv2d":
        bias = weights[f"{name}.bias"] if step["bias"] and biases else silent
        return _conv2d(step, weights[f"{name}.weight"], bias)
    if kind == "Linear":
        weight = weights[f"{name}.weight"]
        bias = weights[f"{name}.bias"] if step["bias"] and biases else silent
        return lambda x: weight @ x + bias
    if kind == "AvgPool2d":
        area = np.float32(step["kernel"][0] * step["kernel"][1])
        return lambda x: _windows(x, step).sum(axis=(-2, -1)) / area
    if kind == "Upsample":
        return lambda x: _upsample(x, *step["size"])
    if kind == "Flatten":
        return np.ravel
    raise ValueError(f"{name} is of the unknown type {kind!r}")


def _conv2d(step: Mapping[str, Any], weight: Array, bias: Array) -> Function:
    """Cross-correlation as one matrix product per group over unfolded windows (im2col)."""
    groups = step["groups"]
    vertical, horizontal = step["padding"]
    filters = weight.reshape(groups, weight.shape[0] // groups, -1)

    def convolve(x: Array) -> Array:
        windows = _windows(np.pad(x, ((0, 0), (vertical, vertical), (horizontal, horizontal))), step)
        height, width = windows.shape[1:3]
        patches = windows.transpose(0, 3, 4, 1, 2).reshape(groups, -1, height * width)
        out: Array = (filters @ patches).reshape(-1, height, width) + bias[:, None, None]
        return out

    return convolve


def _windows(x: Array, step: Mapping[str, Any]) -> Array:
    """All windows of a map, (channels, height, width, *kernel), as a view."""
    vertical, horizontal = step["stride"]
    kernel: tuple[int, ...] = tuple(step["kernel"])
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(1, 2))  # type: ignore[call-overload]
    windows: Array = view[:, ::vertical, ::horizontal]
    return windows


def _upsample(x: Array, height: int, width: int) -> Array:
    maps = x if x.ndim == 3 else x[:, None, None]
    rows = np.arange(height) * maps.shape[1] // height
    columns = np.arange(width) * maps.shape[2] // width
    return maps[:, rows[:, None], columns]
