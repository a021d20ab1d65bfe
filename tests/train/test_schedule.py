"""The learning rate rises linearly and falls like a cosine."""

from __future__ import annotations

import math

import pytest

from snndeploy.train.config import OptimizerConfig
from snndeploy.train.schedule import learning_rate


def test_learning_rate() -> None:
    """A linear rise over the warm-up, the largest value at its end, then half a cosine down to 0."""
    config = OptimizerConfig(lr=0.2, epochs=10, warmup_epochs=2)
    assert [learning_rate(config, t) for t in (0, 1, 2)] == [0, 0.1, 0.2]
    assert learning_rate(config, 6) == pytest.approx(0.1)
    assert learning_rate(config, 4) == pytest.approx(0.1 * (1 + math.sqrt(0.5)))
    assert learning_rate(config, 10) == pytest.approx(0)
    assert learning_rate(OptimizerConfig(lr=0.2, epochs=10, warmup_epochs=0), 0) == 0.2
    assert learning_rate(OptimizerConfig(lr=0.2, epochs=1, warmup_epochs=1), 0.5) == 0.1
