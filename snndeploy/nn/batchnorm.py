"""Batch normalisation in a network that may hold loops: statistics per time step, one running pair.

Statistics over all steps at once cannot be had inside a loop, where step t is computed before step t + 1.
Normalising each step by itself makes the result independent of which ops happen to lie in a loop.

Steps before anything can arrive through a delayed edge take no part: their constant input would pull the
running variance towards zero and so inflate the folded weights. There the output is that of evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from snndeploy.errors import NetworkError
from snndeploy.ir import BatchNorm, Graph, is_population

MOMENTUM = 0.1  # weight of the newest iteration in the running statistics
Statistics: TypeAlias = tuple[Tensor, Tensor]
"""Mean and unbiased variance, each (channels,)."""


def quiet_steps(graph: Graph) -> Mapping[str, int]:
    """Number of first time steps in which nothing can enter each op, as all its sources are delayed."""
    quiet: dict[str, int] = {}
    for name in graph.order:
        arrivals = (
            edge.delay + (0 if is_population(graph, edge.source) else quiet[edge.source])
            for edge in graph.incoming[name]
        )
        quiet[name] = min(arrivals, default=0)
    return quiet


@dataclass(eq=False)
class StepwiseNorm:
    """One BatchNorm during one forward pass.

    op: The op.
    weight, bias, running_mean, running_var: (channels,); none of them is changed.
    quiet: Number of first steps without statistics.
    batch_statistics: Normalise with the statistics of the batch (training) or the running ones.
    """

    name: str
    op: BatchNorm
    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    quiet: int
    batch_statistics: bool
    _seen: list[Statistics] = field(default_factory=list, init=False)

    def __call__(self, x: Tensor, first: int) -> Tensor:
        """Normalises some consecutive steps.

        Args:
            x: (time, batch, *shape).
            first: Which step x[0] is.

        Raises:
            NetworkError: The batch has a single value per channel, which has no variance.
        """
        steps, batch = x.shape[:2]
        folded = x.flatten(0, 1)
        if not self.batch_statistics:
            return self._as_in_evaluation(folded).view(x.shape)
        quiet = min(max(self.quiet - first, 0), steps)
        before, *after = torch.split(folded, [quiet * batch] + [batch] * (steps - quiet))
        done = [self._as_in_evaluation(before)] if quiet else []
        done += [self._by_itself(step) for step in after]
        return torch.cat(done).view(x.shape)

    def statistics(self) -> Statistics | None:
        """Means over the steps seen so far of each step's mean and variance; None if there was none."""
        if not self._seen:
            return None
        means, variances = zip(*self._seen, strict=True)
        return torch.stack(means).mean(0), torch.stack(variances).mean(0)

    def _as_in_evaluation(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.op.epsilon
        )

    def _by_itself(self, x: Tensor) -> Tensor:
        if x.numel() <= x.shape[1]:
            raise NetworkError(
                self.name,
                "batch statistics need more than one value per channel",
                remedy="use a larger batch",
            )
        mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        # With momentum 1 the "running" statistics become those of this step.
        y = F.batch_norm(
            x, mean, variance, self.weight, self.bias, training=True, momentum=1.0, eps=self.op.epsilon
        )
        self._seen.append((mean, variance))
        return y
