"""Losses of the logits over time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from snndeploy.errors import NetworkError
from snndeploy.train.config import LossConfig


def loss_of(logits: Tensor, labels: Tensor, config: LossConfig, *, readout: int) -> Tensor:
    """The loss that a configuration asks for, over the last `readout` time steps.

    Args:
        logits: (time, batch, classes), what enters the Output at every step.
        labels: (batch,), whole numbers from 0.
        config: Which loss.
        readout: How many of the last steps the answer is read from: all, or 1 when the question comes last.

    Raises:
        NetworkError: The window is empty or longer than there are steps.
    """
    steps = logits.shape[0]
    if not 1 <= readout <= steps:
        raise NetworkError("readout", f"must lie in [1, {steps}], the number of time steps", got=readout)
    window = logits[steps - readout :]
    if config.name == "tet":
        return tet(window, labels, mse_weight=config.mse_weight)
    return cross_entropy(window, labels)


def tet(logits: Tensor, labels: Tensor, *, mse_weight: float = 0.0) -> Tensor:
    """Temporal efficient training: every time step is to give the right answer by itself.

    (1 - mse_weight) * mean over t of the cross entropy at t + mse_weight * mean of (logits - 1)**2

    Args:
        logits: (time, batch, classes).
        labels: (batch,), whole numbers from 0.
        mse_weight: Share of the regulariser, lambda in the source.

    Source: Deng et al., Temporal Efficient Training (ICLR 2022); BCNAS-SNN, eq. 3, without the regulariser.
    """
    entropy = F.cross_entropy(logits.flatten(0, 1), labels.repeat(logits.shape[0]))
    if mse_weight == 0:
        return entropy
    return (1 - mse_weight) * entropy + mse_weight * F.mse_loss(logits, torch.ones_like(logits))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of the mean logits, which are what the network answers with.

    Args:
        logits: (time, batch, classes).
        labels: (batch,), whole numbers from 0.

    Source: Spiking Synaptic Penalty, eq. 21, at one time step.
    """
    return F.cross_entropy(logits.mean(0), labels)
