"""The N-score against values worked out by hand and a plain computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from snndeploy.train.search.nscore import Kernel, Variant, n_score


def codes(*rows: str) -> Tensor:
    """Spikes (1, batch, neurons) of one step, a row of 0 and 1 for each sample."""
    return torch.tensor([[[float(spike) for spike in row] for row in rows]])


def random_spikes(seed: int, *shape: int) -> Tensor:
    """Spikes of a quarter of the neurons."""
    return torch.from_numpy(np.random.default_rng(seed).random(shape) < 0.25).float()


def plain(layers: list[Tensor], level: float | None) -> float:
    """The score, neuron by neuron; `level` None stands for the number of neurons."""
    batch = layers[0].shape[1]
    kernel, terms = np.zeros((batch, batch)), 0
    for layer in layers:
        for step in layer.flatten(2).double().numpy():
            neurons = step.shape[1]
            for i, j in np.ndindex(batch, batch):
                differing = sum(abs(a - b) for a, b in zip(step[i], step[j], strict=True))
                r, q = step[i].mean(), step[j].mean()
                expected = (r * (1 - q) + (1 - r) * q) * neurons
                kernel[i, j] += (neurons if level is None else level) - 0.5 / (expected + 1e-3) * differing
            terms += 1
    return float(np.linalg.slogdet(kernel / terms)[1])


def test_two_samples_by_hand() -> None:
    """1100 and 1010: distance 2, expected 2, so K is 4 and 4 - 1 / 2.001 beside it."""
    beside = 4 - 1 / 2.001
    assert n_score({"a": codes("1100", "1010")}, "code") == pytest.approx(math.log(16 - beside**2), rel=1e-12)
    beside = 1 - 1 / 2.001
    expected = math.log(1 - beside**2)
    assert n_score({"a": codes("1100", "1010")}, "normalised") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("variant", "level"), [("code", None), ("normalised", 1.0)])
def test_layers_and_steps_are_summed(variant: Variant, level: float | None) -> None:
    """The kernel is the mean over layers of different sizes and all their steps."""
    layers = [random_spikes(0, 3, 6, 2, 4, 4), random_spikes(1, 3, 6, 10)]
    spikes = dict(zip("ab", layers, strict=True))
    assert n_score(spikes, variant) == pytest.approx(plain(layers, level), rel=1e-9)
    apart = [Kernel.sum([Kernel.of(name, step[None], variant) for step in spikes[name]]) for name in "ab"]
    assert Kernel.sum(apart).score()[0] == pytest.approx(plain(layers, level), rel=1e-9)


def test_memory_layout_makes_no_difference() -> None:
    """Channels innermost in memory give the same score, to the bit."""
    spikes = random_spikes(0, 2, 5, 3, 4, 4)
    inner = spikes.movedim(2, -1).contiguous().movedim(-1, 2)
    assert n_score({"a": spikes}) == n_score({"a": inner})


def test_large_layers_do_not_drown_the_distance() -> None:
    """With 100 000 neurons the kernel in single precision would be off by more than this."""
    layer = random_spikes(0, 1, 4, 100_000)
    assert n_score({"a": layer}, "code") == pytest.approx(plain_fast(layer), rel=1e-10)


def plain_fast(layer: Tensor) -> float:
    """`plain` for one step of one large layer, in integers."""
    (rows,) = layer.numpy().astype(np.int64)
    n = rows.shape[1]
    differing = np.array([[np.abs(a - b).sum() for b in rows] for a in rows])
    counts = rows.sum(1)
    expected = (np.outer(counts, n - counts) + np.outer(n - counts, counts)) / n
    return float(np.linalg.slogdet(n - 0.5 * differing / (expected + 1e-3))[1])


@pytest.mark.parametrize(
    ("other", "why"), [(0.0, "silent at every step: b"), (1.0, "saturated at every step: b")]
)
def test_mute_layers_are_rejected(other: float, why: str) -> None:
    """A layer that says nothing of any sample leaves no score, with its name; one silent step does no harm."""
    good = random_spikes(0, 2, 4, 50)
    spikes = {"a": good, "b": torch.full((2, 4, 8), other)}
    assert n_score(spikes) is None
    score, reason = Kernel.sum(Kernel.of(name, layer, "code") for name, layer in spikes.items()).score()
    assert score is None
    assert why in reason
    once = torch.cat([torch.zeros(1, 4, 50), good])
    assert n_score({"a": once}) is not None


def test_samples_that_cannot_be_told_apart_are_rejected() -> None:
    """Two samples with the same spikes everywhere make the kernel singular."""
    spikes = random_spikes(0, 2, 4, 50)
    spikes[:, 3] = spikes[:, 1]
    score, reason = Kernel.of("a", spikes, "normalised").score()
    assert score is None
    assert "same spikes" in reason
