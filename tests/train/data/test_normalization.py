"""Bounds of normalised input."""

from __future__ import annotations

import numpy as np
import pytest

from snndeploy.train.data.normalization import input_spec

CHANNELS = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)}


@pytest.mark.parametrize("grid_bits", [None, 0, 4, 8])
@pytest.mark.parametrize("normalised", [True, False])
def test_bounds_are_tight(grid_bits: int | None, normalised: bool) -> None:
    """Every raw value of every channel can be prepared, and both bounds are met by one."""
    spec = input_spec(
        highest=255,
        divisor=255,
        mean=CHANNELS["mean"] if normalised else (),
        std=CHANNELS["std"] if normalised else (),
        grid_bits=grid_bits,
    )
    raw = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=1)
    x = spec.prepare(raw)
    spec.check(x)
    assert (x.min(), x.max()) == (np.float32(spec.low), np.float32(spec.high))
    if normalised and grid_bits == 8:
        assert spec.low == np.round(-0.4914 / 0.2470 * 256) / 256
        assert spec.high == np.round((1 - 0.4822) / 0.2435 * 256) / 256
    if not normalised:
        assert (spec.low, spec.high) == (0, 1)


def test_zero_is_always_within() -> None:
    """Padding is zero, even where no pixel is."""
    bright = input_spec(highest=10, divisor=10, mean=(-1.0,), std=(1.0,))
    dark = input_spec(highest=10, divisor=10, mean=(2.0,), std=(1.0,))
    assert (bright.low, bright.high) == (0, 2)
    assert (dark.low, dark.high) == (-2, 0)


def test_grid_of_256_levels_keeps_them_apart() -> None:
    """With CIFAR's deviation one grey level is 1/63: 8 bits keep all apart, 4 bits would not."""

    def levels(grid_bits: int) -> int:
        spec = input_spec(highest=255, divisor=255, mean=(0.4914,), std=(0.2470,), grid_bits=grid_bits)
        return len(np.unique(spec.prepare(np.arange(256).reshape(-1, 1, 1, 1))))

    assert levels(8) == 256
    assert levels(4) < 256
