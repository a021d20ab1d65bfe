"""Events made from digits: one moves over a small field, and a simulated event camera looks on.

Position of the upper left corner at step t, in pixels, for each axis by itself,

    p(t) = R - |((p0 + v t) mod 2R) - R|,   R = size - 8,

a straight line reflected at the borders; p0 is uniform in [0, R], and (v_row, v_column) has the length 1 pixel
per step and a uniform direction. The digit D is drawn at that fractional place by bilinear interpolation,

    I(t, r, c) = sum over i, j of tri(r - p_row - i) D(i, j) tri(c - p_column - j),   tri(a) = max(0, 1 - |a|).

The camera (`event_camera`) has the contrast threshold 0.3 and 1 % background events. Training sequences are new
for every batch; each validation and test digit is filmed once, by the seed.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from snndeploy.errors import ConfigError
from snndeploy.train.config import DataConfig
from snndeploy.train.data.event_camera import record
from snndeploy.train.data.handwritten import DIGITS_HIGHEST, DIGITS_SHAPE
from snndeploy.train.data.handwritten import source as digits_source
from snndeploy.train.data.normalization import input_spec
from snndeploy.train.data.samples import Samples
from snndeploy.train.data.source import Source, own

CONTRAST = 0.3
NOISE = 0.01
SPEED = 1.0  # pixels per step
_STEPS = 10
_SIZE = 16
_EDGE = DIGITS_SHAPE[-1]


def source(config: DataConfig) -> Source:
    """The task: 10 steps on 16x16 pixels unless the configuration says; values are 0 and 1.

    Raises:
        ConfigError: The field is too small for a digit to move.
    """
    steps, size = own(config.steps, _STEPS), own(config.size, _SIZE)
    if size <= _EDGE:
        raise ConfigError("data.size", f"must be above {_EDGE}, or a digit cannot move", got=size)
    stills = digits_source(DataConfig(name="digits", seed=config.seed))
    return Source(
        read=stills.read,
        shape=stills.shape,
        highest=stills.highest,
        classes=stills.classes,
        input=input_spec(
            kind="frames",
            highest=1,
            divisor=1,
            repeat=own(config.repeat, 1),
            grid_bits=own(config.grid_bits, 0, unset=-1),
        ),
        steps=steps,
        draw=partial(draw, steps=steps, size=size),
    )


def draw(samples: Samples, rng: np.random.Generator, *, steps: int, size: int) -> Samples:
    """Films each digit on a path of its own."""
    rows, columns = paths(len(samples), rng, steps=steps + 1, size=size)
    digits = samples.images[:, 0] / DIGITS_HIGHEST
    frames = record(drawn_at(digits, rows, columns, size), rng, contrast=CONTRAST, noise=NOISE)
    return Samples(frames, samples.labels, samples.groups)


def paths(
    count: int, rng: np.random.Generator, *, steps: int, size: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Rows and columns of the upper left corners, each (count, steps), reflected at the borders."""
    room = size - _EDGE
    start = rng.uniform(0, room, (2, count, 1))
    angle = rng.uniform(0, 2 * np.pi, (count, 1))
    heading = SPEED * np.stack([np.sin(angle), np.cos(angle)])
    place = start + heading * np.arange(steps)
    rows, columns = room - np.abs(place % (2 * room) - room)
    return rows, columns


def drawn_at(
    digits: npt.NDArray[np.float64],
    rows: npt.NDArray[np.float64],
    columns: npt.NDArray[np.float64],
    size: int,
) -> npt.NDArray[np.float64]:
    """Digits (count, 8, 8) at places (count, steps) of a black field: (count, steps, size, size)."""
    down, across = _weights(rows, size), _weights(columns, size)
    field: npt.NDArray[np.float64] = down @ digits[:, None] @ across.swapaxes(-1, -2)
    return field


def _weights(places: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Share of each of the digit's 8 lines in each line of the field: (count, steps, size, 8)."""
    distance = np.arange(size)[:, None] - np.arange(_EDGE) - places[..., None, None]
    weights: npt.NDArray[np.float64] = np.maximum(0.0, 1.0 - np.abs(distance))
    return weights
