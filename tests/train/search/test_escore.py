"""The E-score against values worked out by hand and a plain computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from snndeploy.train.search.escore import e_score, judged

ONE = math.log(1 + 1e-5)
NONE = math.log(1e-5)


def rows(*values: tuple[float, ...]) -> Tensor:
    """Gradients (batch, features)."""
    return torch.tensor(values)


def test_by_hand() -> None:
    """Correlation -1 counts as 1, correlation 0 as the guard; classes count by magnitude, each pair twice."""
    gradients = rows((1, 2, 3), (3, 2, 1), (1, 0, -1), (1, -2, 1))
    labels = torch.tensor([0, 0, 1, 1])
    assert e_score(gradients, labels, 10) == pytest.approx(4 * ONE + abs(2 * ONE + 2 * NONE), rel=1e-9)
    halves = abs((4 * ONE - (2 * ONE + 2 * NONE)) / 2)
    assert e_score(gradients, labels, 101) == pytest.approx(2 * halves / 2, rel=1e-9)


@pytest.mark.parametrize("classes", [10, 100, 101, 200])
def test_plain_computation(classes: int) -> None:
    """Both forms, with classes of different sizes out of order; the border lies between 100 and 101."""
    rng = np.random.default_rng(0)
    gradients, labels = rng.normal(size=(12, 2, 3, 3)), np.array([7, 1, 1, 7, 3, 3, 3, 1, 7, 7, 3, 1])
    sums = {}
    for label in (7, 1, 3):
        flat = gradients[labels == label].reshape(4, -1)
        flat = flat - flat.mean(1, keepdims=True)
        lengths = np.sqrt((flat**2).sum(1))
        sums[label] = sum(
            math.log(abs(float(flat[i] @ flat[j]) / (lengths[i] * lengths[j])) + 1e-5)
            for i in range(4)
            for j in range(4)
        )
    if classes <= 100:
        expected = sum(abs(value) for value in sums.values())
    else:
        expected = sum(abs(a - b) / 4 for a in sums.values() for b in sums.values()) / 3
    found = e_score(torch.from_numpy(gradients), torch.from_numpy(labels), classes)
    assert found == pytest.approx(expected, rel=1e-9)


def test_class_with_one_sample() -> None:
    """Up to 100 classes it adds log(1 + 1e-5); above it is left out, and nothing else changes."""
    rng = np.random.default_rng(1)
    gradients = torch.from_numpy(rng.normal(size=(5, 8)))
    labels = torch.tensor([0, 0, 1, 1, 2])
    few, more = e_score(gradients[:4], labels[:4], 10), e_score(gradients, labels, 10)
    assert few is not None
    assert more == pytest.approx(few + ONE, rel=1e-12)
    assert e_score(gradients, labels, 200) == e_score(gradients[:4], labels[:4], 200)
    score, reason = judged(gradients[3:], labels[3:], 200)
    assert score is None
    assert "class with two samples" in reason


@pytest.mark.parametrize("bad", [0.0, 3.0, math.nan])
def test_constant_gradient_is_rejected(bad: float) -> None:
    """A sample whose gradient is constant, or no number, has no correlation: there is no score, with the reason."""
    gradients = torch.from_numpy(np.random.default_rng(2).normal(size=(4, 1, 3, 3)))
    gradients[2] = bad
    score, reason = judged(gradients, torch.tensor([0, 0, 1, 1]), 10)
    assert score is None
    assert "1 of 4 samples" in reason


def test_scale_and_precision_do_not_matter() -> None:
    """Tiny gradients in single precision score like large ones."""
    gradients = torch.from_numpy(np.random.default_rng(3).normal(size=(8, 20))).float()
    labels = torch.arange(8) % 2
    large, tiny = e_score(gradients, labels, 10), e_score(gradients * 2.0**-90, labels, 10)
    assert large == pytest.approx(tiny, rel=1e-12)
