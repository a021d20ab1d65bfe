"""Neurons of the simulated populations compute what the interpreter's do; they need no Lava."""

from __future__ import annotations

import numpy as np
import pytest

from snndeploy.ir.neurons import DECAY_UNITY, LARGEST_MEMBRANE, Neurons
from snndeploy.targets.lava.child.membranes import WholeMembranes

CHANNELS, STEPS = 6, 40
SHAPE = (CHANNELS, 8, 9)
GRIDS = np.array([0, 3, 7, 9, 11, 15])
LARGEST = 2**17 - 1


@pytest.mark.parametrize("kept", [0, 3, 1024, 2048, 2049, 4095, DECAY_UNITY])
@pytest.mark.parametrize("size", [40, 5_000, LARGEST])
def test_whole_numbers_equal_the_interpreter(kept: int, size: int) -> None:
    """For any leak and currents up to the certificate's limit: same spikes and potentials, to the last unit.

    Currents lean towards the negative, so that membranes go as deep as they can and leak from there.
    """
    rng = np.random.default_rng(kept + size)
    registers = {
        "grid_bits": GRIDS.tolist(),
        "threshold": (threshold := np.minimum(size // 2 + GRIDS, LARGEST)).tolist(),
        "decay": DECAY_UNITY - kept,
        "bias_mantissa": (mantissa := rng.integers(-4095, 4096, CHANNELS)).tolist(),
        "bias_exponent": (exponent := np.array([0, 1, 2, 3, 5, 7])).tolist(),
    }
    scale = np.exp2(GRIDS + 1.0).reshape(-1, 1, 1)
    unit = 1 / (64 * scale)
    bias = (mantissa * 2**exponent).reshape(-1, 1, 1)
    whole = WholeMembranes(registers, SHAPE)
    rest = np.zeros(SHAPE)
    fired, saturated, rounded = 0, 0, 0
    for t in range(STEPS):
        begins = t % 13 == 0
        weights = rng.integers(-size, size // 3 * 2 + 1, SHAPE)
        current = weights / scale
        if begins:
            rest = np.zeros(SHAPE)
        neurons = [Neurons(kept / DECAY_UNITY, 0.0, unit[c]) for c in range(CHANNELS)]
        x = current + bias * unit
        u = np.stack([n.charge(v, i) for n, v, i in zip(neurons, rest, x, strict=True)])
        expected = u > threshold.reshape(-1, 1, 1) / scale
        fired += int(expected.sum())
        saturated += int((np.abs(u) == LARGEST_MEMBRANE * unit).sum())
        rounded += int((u != kept / DECAY_UNITY * rest + x).sum())
        rest = np.where(expected, 0, u)
        np.testing.assert_array_equal(whole.update(current.astype(np.float32), begins), expected)
        np.testing.assert_array_equal(whole.potentials(), u.astype(np.float32))
    assert 0.02 < fired / (STEPS * rest.size) < 0.6
    assert (saturated > 0) == (size == LARGEST)
    assert (rounded > 0) == (kept not in (0, DECAY_UNITY) or size == LARGEST)


def test_the_threshold_is_strict() -> None:
    """A potential of exactly the threshold stays, and half of it, rounded towards zero, remains.

    One neuron of grid 0 and a bias of one unit: a current of 1.5 is 3 weights of 1, that is 192 units.
    """
    registers = {
        "grid_bits": [0],
        "threshold": [3],
        "decay": 2048,
        "bias_mantissa": [1],
        "bias_exponent": [0],
    }
    whole = WholeMembranes(registers, [1])
    found = []
    for current in (1.5, 1.0, -3.0, 0.0):
        spiked = whole.update(np.array([current], np.float32), begins=False)
        found.append((bool(spiked[0]), round(float(whole.potentials()[0] * 128))))
    assert found == [(True, 193), (False, 129), (False, 64 - 384 + 1), (False, -159 + 1)]
