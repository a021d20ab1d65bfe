"""Batch normalisation in a network that may hold loops: statistics per time step, one running pair.

Statistics over all steps at once cannot be had inside a loop, where step t is computed before step t + 1.
Normalising each step by itself makes the result independent of which ops happen to lie in a loop.

Steps before anything can arrive through a delayed edge take no part: their constant input would pull the
running variance towards zero and so inflate the folded weights. There the output is that of evaluation.

Where several processes train together, the statistics of a step are those of the batches of all of them, and
gradients flow back to all of them: the result is that of one process on the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from snndeploy.errors import NetworkError
from snndeploy.ir import BatchNorm, Graph, is_population
from snndeploy.nn.compiled import Norm

MOMENTUM = 0.1  # weight of the newest iteration in the running statistics
Statistics: TypeAlias = tuple[Tensor, Tensor]
"""Mean and unbiased variance, each (channels,)."""
BatchStatistics: TypeAlias = bool | dist.ProcessGroup
"""Whether to normalise with the statistics of the batch, as in training, or the running ones; a group of
processes stands for the statistics of all their batches together."""


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
    batch_statistics: Which statistics to normalise with.
    """

    name: str
    op: BatchNorm
    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    quiet: int
    batch_statistics: BatchStatistics
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
        if self.batch_statistics is False:
            return self._as_in_evaluation(folded).view(x.shape)
        quiet = min(max(self.quiet - first, 0), steps)
        before, *after = torch.split(folded, [quiet * batch] + [batch] * (steps - quiet))
        done = [self._as_in_evaluation(before)] if quiet else []
        if self.batch_statistics is True:
            done += [self._by_itself(step) for step in after]
        elif after:
            done.append(self._together(x[quiet:], self.batch_statistics).flatten(0, 1))
        return torch.cat(done).view(x.shape)

    def for_steps(self, x: Tensor, first: int) -> Norm:
        """This norm for some consecutive steps, for compiled neurons that apply it themselves.

        Args:
            x: (time, batch, *shape), what enters.
            first: Which step x[0] is.

        Raises:
            NetworkError: The batch has a single value per channel, which has no variance.
        """
        quiet = min(max(self.quiet - first, 0), len(x)) if self.batch_statistics else len(x)
        if quiet < len(x):
            self._require_variance(x[0])
        return Norm(self.weight, self.bias, self.running_mean, self.running_var, self.op.epsilon, quiet)

    def record(self, means: Tensor, variances: Tensor) -> None:
        """Takes note of statistics (steps, channels) that compiled neurons found."""
        self._seen += zip(means, variances, strict=True)

    def statistics(self) -> Statistics | None:
        """Means over the steps seen so far of each step's mean and variance; None if there was none."""
        if not self._seen:
            return None
        means, variances = zip(*self._seen, strict=True)
        return torch.stack(means).mean(0), torch.stack(variances).mean(0)

    def _require_variance(self, x: Tensor) -> None:
        if x.numel() <= x.shape[1]:
            raise NetworkError(
                self.name,
                "batch statistics need more than one value per channel",
                remedy="use a larger batch",
            )

    def _as_in_evaluation(self, x: Tensor) -> Tensor:
        if len(x) == 1 and torch.is_grad_enabled():
            # PyTorch's gives wrong gradients of one sample that lies in memory in another way than its gradient.
            mean, variance, weight, bias = (
                values.view(-1, *[1] * (x.ndim - 2))
                for values in (self.running_mean, self.running_var, self.weight, self.bias)
            )
            return torch.addcmul(bias, x - mean, (variance + self.op.epsilon).rsqrt() * weight)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.op.epsilon
        )

    def _by_itself(self, x: Tensor) -> Tensor:
        self._require_variance(x)
        mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        # With momentum 1 the "running" statistics become those of this step.
        y = F.batch_norm(
            x, mean, variance, self.weight, self.bias, training=True, momentum=1.0, eps=self.op.epsilon
        )
        self._seen.append((mean, variance))
        return y

    def _together(self, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        """All steps at once, each by itself: one exchange serves them all."""
        y, means, variances = _synchronised(x, self.weight, self.bias, self.op.epsilon, group)
        self._seen += zip(means, variances, strict=True)
        return y


class _Synchronised(torch.autograd.Function):
    """Normalises each step of x (time, batch, channels, ...) over its batches in all processes of a group.

    Forward, mean and squared deviations of each process are put together pairwise, which unlike the
    difference of two large sums loses nothing (Chan, Golub and LeVeque, 1979). Backward, with n values in all,

        dx = weight / deviation * (dy - sum(dy) / n - x_hat * sum(dy * x_hat) / n)

    where the sums are over all processes: each gets the gradient of the sum of all their losses.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, group: dist.ProcessGroup
    ) -> tuple[Tensor, Tensor, Tensor]:
        own_variance, own_mean = torch.var_mean(x, _inner(x), correction=0)
        own_count = torch.full_like(own_mean, x.numel() // own_mean.numel())
        own = torch.stack([own_count, own_mean, own_variance])
        everybody = own.new_empty(group.size(), *own.shape)
        dist.all_gather_into_tensor(everybody.flatten(0, 1), own, group=group)
        counts, means, variances = everybody.unbind(1)
        count = counts.sum(0)
        mean = (means * (counts / count)).sum(0)
        squares = (counts * (variances + (means - mean) ** 2)).sum(0)
        inverse = (squares / count + epsilon).rsqrt()
        ctx.group = group
        ctx.save_for_backward(x, weight, mean, inverse, count)
        variance = squares / (count - 1)
        ctx.mark_non_differentiable(mean, variance)
        y = torch.addcmul(_wide(bias.expand_as(mean), x), x - _wide(mean, x), _wide(inverse * weight, x))
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight, mean, inverse, count = ctx.saved_tensors
        normalised = (x - _wide(mean, x)) * _wide(inverse, x)
        own = torch.stack([grad.sum(_inner(x)), (grad * normalised).sum(_inner(x))])
        total = own.clone()
        dist.all_reduce(total, group=ctx.group)
        level, slope = total / count
        grad_x = (grad - _wide(level, x)).addcmul_(normalised, _wide(slope, x), value=-1)
        grad_bias, grad_weight = own.sum(1)
        return grad_x.mul_(_wide(inverse * weight, x)), grad_weight, grad_bias, None, None


_synchronised: Callable[..., tuple[Tensor, Tensor, Tensor]] = _Synchronised.apply


def _inner(x: Tensor) -> list[int]:
    """All axes of x (time, batch, channels, ...) but time and channels."""
    return [axis for axis in range(x.ndim) if axis not in (0, 2)]


def _wide(values: Tensor, x: Tensor) -> Tensor:
    """Values (time, channels) such that they meet those of x (time, batch, channels, ...)."""
    return values.view(len(values), 1, -1, *[1] * (x.ndim - 3))
