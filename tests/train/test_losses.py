"""The loss over time, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from snndeploy.errors import NetworkError
from snndeploy.train.config import LOSSES, LossConfig
from snndeploy.train.losses import cross_entropy, loss_of, tet

LOGITS = torch.tensor(
    [[[2.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [3.0, 0.0]]], dtype=torch.float64
)  # T 2, B 2, C 2
LABELS = torch.tensor([0, 1])


def by_hand(right: float, wrong: float) -> float:
    """Cross entropy of one sample and two classes."""
    return -math.log(math.exp(right) / (math.exp(right) + math.exp(wrong)))


def test_mean_over_steps_of_the_cross_entropy() -> None:
    """Each step is judged by itself: not the cross entropy of the mean logits."""
    expected = (by_hand(2, 0) + by_hand(0, 0) + by_hand(0, 1) + by_hand(0, 3)) / 4
    assert tet(LOGITS, LABELS).item() == pytest.approx(expected, rel=1e-12)
    assert abs(cross_entropy(LOGITS, LABELS).item() - expected) > 0.05


def test_cross_entropy_of_the_mean_logits() -> None:
    """Steps may be wrong by themselves; the mean over them is judged."""
    expected = (by_hand(1.0, 0.5) + by_hand(0.0, 1.5)) / 2
    assert cross_entropy(LOGITS, LABELS).item() == pytest.approx(expected, rel=1e-12)


def test_regulariser_draws_the_logits_to_one() -> None:
    """A share of the mean squared distance from 1 replaces that share of the cross entropy."""
    squared = (1 + 1 + 1 + 1 + 1 + 0 + 4 + 1) / 8
    expected = 0.75 * tet(LOGITS, LABELS).item() + 0.25 * squared
    assert tet(LOGITS, LABELS, mse_weight=0.25).item() == pytest.approx(expected, rel=1e-12)
    assert tet(torch.ones_like(LOGITS), LABELS, mse_weight=1.0).item() == 0


@pytest.mark.parametrize("mse_weight", [0.0, 0.25])
def test_the_configuration_decides(mse_weight: float) -> None:
    """Over all steps the loss is the function of that name."""
    found = loss_of(LOGITS, LABELS, LossConfig(name="tet", mse_weight=mse_weight), readout=2)
    assert torch.equal(found, tet(LOGITS, LABELS, mse_weight=mse_weight))
    found = loss_of(LOGITS, LABELS, LossConfig(name="ce"), readout=2)
    assert torch.equal(found, cross_entropy(LOGITS, LABELS))


@pytest.mark.parametrize("name", LOSSES)
def test_only_the_readout_window_counts(name: str) -> None:
    """With a window of one, both losses are the cross entropy of the last step, which alone gets a gradient."""
    logits = LOGITS.clone().requires_grad_()
    loss = loss_of(logits, LABELS, LossConfig(name=name), readout=1)
    assert loss.item() == pytest.approx((by_hand(0, 1) + by_hand(0, 3)) / 2, rel=1e-12)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert (logits.grad[0] == 0).all()
    assert (logits.grad[1] != 0).all()


@pytest.mark.parametrize("readout", [-1, 0, 3])
def test_a_window_has_at_least_one_step_and_at_most_all(readout: int) -> None:
    """An empty window is no window over everything."""
    with pytest.raises(NetworkError, match=rf"readout: must lie in \[1, 2\], .*, got {readout}"):
        loss_of(LOGITS, LABELS, LossConfig(), readout=readout)
