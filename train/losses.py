"""Losses of the logits over time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def tet(logits: Tensor, labels: Tensor, *, mse_weight: float = 0.0) -> Tensor:
    """Temporal efficient training: every time step is to give the right answer by itself.

    (1 - mse_weight) * mean over t of the cross entropy at t + mse_weight * mean of (logits - 1)**2

    Args:
        logits: (time, batch, classes).
        labels: (batch,), whole numbers from 0.
        mse_weight: Share of the regulariser, lambda in the source.

    Source: Deng et al., Temporal Efficient Training (ICLR 2022); BCNAS-SNN, eq. 3, without the regulariser.
    """
    cross_entropy = F.cross_entropy(logits.flatten(0, 1), labels.repeat(logits.shape[0]))
    if mse_weight == 0:
        return cross_entropy
    return (1 - mse_weight) * cross_entropy + mse_weight * F.mse_loss(logits, torch.ones_like(logits))
