"""The learning rate over a training run."""

from __future__ import annotations

import math

from snndeploy.train.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, progress: float) -> float:
    """Learning rate after `progress` epochs: a linear rise, then half a cosine down to 0.

    Source: Loshchilov and Hutter, SGDR (ICLR 2017), without restarts and for every batch.
    """
    warmup = config.warmup_epochs
    if progress < warmup:
        return config.lr * progress / warmup
    return config.lr * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (config.epochs - warmup)))
