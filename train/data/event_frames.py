"""A recording of events as a few frames of a chosen size."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from snndeploy.errors import FileFormatError
from snndeploy.train.data.aedat import SENSOR, Events
from snndeploy.train.data.samples import Images

_MOST = 4  # events per pixel and frame: what goes beyond comes from hot pixels


def unit(size: int) -> int:
    """How many raw units are one event per sensor pixel: frames hold means over pixels as whole numbers.

    Sensor pixels and those of the frame share a grid of lcm(128, size) lines. On it a frame's pixel is
    128 / gcd(128, size) lines wide, so weighting a sensor pixel by the lines it shares makes whole sums.
    """
    return (SENSOR // math.gcd(SENSOR, size)) ** 2


def highest(size: int) -> int:
    """Largest raw value of a frame."""
    return min(255, _MOST * unit(size))


def frames(events: Events, steps: int, size: int, name: str) -> Images:
    """Cuts a recording into frames of equally many events and averages over the area of each pixel.

    Frame t takes the events floor(t n / T) up to floor((t + 1) n / T) - 1 of n. Equal numbers rather than
    equal times, so that no frame is empty while the camera rests.

    Args:
        events: The recording.
        steps: Number of frames T.
        size: Edge of a frame; of 16, 32, .. 128 each mean fits into a byte.
        name: Of the recording, for the message of an error.

    Returns:
        (time, 2, size, size), ON before OFF, in 1 / `unit(size)` events per sensor pixel.

    Raises:
        FileFormatError: There are fewer events than frames.
    """
    count = len(events.on)
    if count < steps:
        raise FileFormatError(name, f"must hold at least {steps} events, one for each frame", got=count)
    bounds = np.arange(steps + 1) * count // steps
    frame = np.repeat(np.arange(steps), np.diff(bounds))
    place = ((frame * 2 + ~events.on) * SENSOR + events.rows) * SENSOR + events.columns
    counts = np.bincount(place, minlength=steps * 2 * SENSOR**2).reshape(steps, 2, SENSOR, SENSOR)
    shares = _shares(size)
    means = shares @ counts.astype(np.float64) @ shares.T  # whole numbers, exact in float64
    return np.minimum(means, highest(size)).astype(np.uint8)


def _shares(size: int) -> npt.NDArray[np.float64]:
    """Lines that each pixel of the frame shares with each pixel of the sensor: (size, 128)."""
    common = math.gcd(SENSOR, size)
    wide, narrow = SENSOR // common, size // common
    start, sensor = np.arange(size)[:, None] * wide, np.arange(SENSOR) * narrow
    overlap = np.minimum(start + wide, sensor + narrow) - np.maximum(start, sensor)
    shares: npt.NDArray[np.float64] = np.maximum(overlap, 0).astype(np.float64)
    return shares
