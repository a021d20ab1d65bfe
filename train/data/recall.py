"""Delayed recall: a digit is shown for a moment, then there is noise, and at the end comes the question.

A sequence has T steps (10). The digit x in [0, 1]^(8x8) is shown, unchanged, in the two steps that begin at an
onset drawn uniformly from all T - 1 places; every other step is fresh noise,

    pixel = b * u,   b ~ Bernoulli(0.3),   u ~ Uniform(0, 1),

rounded to the nearest multiple of 1/64. The delay, 0 .. T - 2, is the number of noise steps after the digit.
Only the last step is read. A network without memory beyond its membranes fails at long delays; one short
backward connection is enough to keep the digit.

Multiples of 1/64 keep digits (multiples of 1/16) as they are and change a noise pixel by 1/128 at most. They
are the finest with which the first layer of a resnet8 keeps weights of 6 bits in the exact format at T = 10.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from snndeploy.errors import ConfigError
from snndeploy.train.config import DataConfig
from snndeploy.train.data.handwritten import DIGITS_CLASSES, DIGITS_HIGHEST, DIGITS_SHAPE, DIGITS_SPLIT, cut
from snndeploy.train.data.normalization import input_spec
from snndeploy.train.data.samples import Images, Labels, Samples
from snndeploy.train.data.source import Parts, Source, own

SHOWN = 2  # steps
NOISE_RATE = 0.3
_STEPS = 10
_GRID_BITS = 6
_LEVELS = 2**_GRID_BITS  # raw values are multiples of 1 / _LEVELS


def source(config: DataConfig) -> Source:
    """The task, on the digits at 8x8.

    Raises:
        ConfigError: A setting is for other data, or the digit does not fit into the steps.
    """
    if config.size:
        raise ConfigError(
            "data.size", "cannot be chosen for recall", remedy="use data.repeat, or leave it out"
        )
    steps = own(config.steps, _STEPS)
    if steps < SHOWN:
        raise ConfigError("data.steps", f"must be at least {SHOWN}, for which a digit is shown", got=steps)
    return Source(
        read=partial(_read, config.seed),
        shape=DIGITS_SHAPE,
        highest=DIGITS_HIGHEST,
        classes=len(DIGITS_CLASSES),
        input=input_spec(
            kind="frames",
            highest=_LEVELS,
            divisor=_LEVELS,
            repeat=own(config.repeat, 1),
            grid_bits=own(config.grid_bits, _GRID_BITS, unset=-1),
        ),
        steps=steps,
        readout=1,
        draw=partial(draw, steps=steps),
        draw_once=partial(draw_every_delay, steps=steps),
    )


def draw(samples: Samples, rng: np.random.Generator, *, steps: int) -> Samples:
    """One sequence of each digit, at a random delay; the delays are the group "delay"."""
    delays = rng.integers(0, steps - SHOWN + 1, len(samples))
    return _shown(samples, delays, rng, steps)


def draw_every_delay(samples: Samples, rng: np.random.Generator, *, steps: int) -> Samples:
    """For each digit one sequence at each delay, 0 first; the delays are the group "delay"."""
    count = steps - SHOWN + 1
    each = samples.take(np.arange(len(samples)).repeat(count))
    return _shown(each, np.tile(np.arange(count), len(samples)), rng, steps)


def _shown(samples: Samples, delays: Labels, rng: np.random.Generator, steps: int) -> Samples:
    frames = _noise((len(samples), steps, *DIGITS_SHAPE), rng)
    onset = steps - SHOWN - delays
    for step in range(SHOWN):
        frames[np.arange(len(samples)), onset + step] = samples.images * (_LEVELS // DIGITS_HIGHEST)
    return Samples(frames, samples.labels, {**samples.groups, "delay": delays})


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> Images:
    noisy = rng.random(shape) < NOISE_RATE
    noise: Images = np.where(noisy, np.rint(rng.random(shape) * _LEVELS), 0).astype(np.uint8)
    return noise


def _read(seed: int) -> Parts:
    """Split by a plain permutation of the seed, not stratified: NumPy's, so its parts are not PyTorch's."""
    return cut(np.random.default_rng(seed).permutation(sum(DIGITS_SPLIT)))
