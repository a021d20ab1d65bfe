"""A simulated event camera: what changes between frames, as ON and OFF events, and the sensor's noise.

Each pixel sees the logarithm of its intensity, L(t) = ln(I(t) + 0.1), and remembers the level M of its last
event, at first L(0). At every step t = 1, 2, .. with the contrast threshold c,

    n = trunc((L(t) - M) / c);   ON if n >= 1;   OFF if n <= -1;   M <- M + n * c,

so a change too small for an event is kept until it adds up. Several crossings within one step are one event.
Independently of this every pixel fires an event of either polarity with a small probability at every step
(background activity).

Source: the event generation model of Gallego et al., Event-based Vision: A Survey (TPAMI 2022), eqs. 1 and 2,
in discrete time; the offset 0.1 stands for the dark current, without which black has no logarithm.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from snndeploy.train.data.samples import Images

ON, OFF = 0, 1  # channels
_DARK = 0.1


def record(
    intensity: npt.NDArray[np.float64], rng: np.random.Generator, *, contrast: float, noise: float
) -> Images:
    """Films a scene.

    Args:
        intensity: (samples, time + 1, height, width) in [0, 1]; the first frame only sets the memory.
        rng: Of the noise.
        contrast: Threshold c of an event, in units of the natural logarithm.
        noise: Probability of a background event for each pixel, polarity and step.

    Returns:
        (samples, time, 2, height, width) of 0 and 1, ON before OFF.
    """
    level = np.log(intensity + _DARK)
    memory = level[:, 0]
    frames = np.empty((len(level), level.shape[1] - 1, 2, *level.shape[2:]), np.uint8)
    for step in range(1, level.shape[1]):
        crossings = np.trunc((level[:, step] - memory) / contrast)
        memory = memory + crossings * contrast
        frames[:, step - 1, ON] = crossings >= 1
        frames[:, step - 1, OFF] = crossings <= -1
    frames |= rng.random(frames.shape) < noise
    return frames
