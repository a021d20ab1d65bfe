"""Input specifications whose bounds follow from what is stored and how it is normalised."""

from __future__ import annotations

from typing import Literal

import numpy as np

from snndeploy.ir import InputSpec


def input_spec(
    *,
    kind: Literal["image", "frames"] = "image",
    highest: int,
    divisor: float,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    repeat: int = 1,
    grid_bits: int | None = None,
) -> InputSpec:
    """A specification with the tightest `low` and `high` for raw values from 0 to `highest`.

    Preparing a value is monotone, rounding included, so its bounds are those of the two ends; zero is let in
    because padding is zero.

    Args:
        kind: Whether samples are images or sequences of frames.
        highest: Largest raw value.
        divisor: What raw values are divided by.
        mean: Of each channel after the division; empty for none.
        std: Of each channel after the division; empty for none.
        repeat: How many times rows and columns are repeated.
        grid_bits: Values are rounded to multiples of 2**-grid_bits; None for not at all.

    Raises:
        NetworkError: A value is out of range.
    """
    ends = np.array([[0.0], [highest]]) / divisor
    if mean:
        ends = (ends - np.array(mean)) / np.array(std)
    if grid_bits is not None:
        ends = np.round(ends * 2.0**grid_bits) / 2.0**grid_bits
    stored = ends.astype(np.float32)  # without a grid, what a network gets may be a little further out
    return InputSpec(
        kind=kind,
        divisor=divisor,
        mean=mean,
        std=std,
        repeat=repeat,
        grid_bits=grid_bits,
        low=min(0.0, float(ends.min()), float(stored.min())),
        high=max(0.0, float(ends.max()), float(stored.max())),
    )
