"""Batch normalisation, the sum of what enters, and LIF neurons over time, as one differentiable function.

Between two convolutions nothing is written to memory but the membrane potentials, which the gradient needs,
and the spikes. The arithmetic is that of `snndeploy.nn.lif` and `snndeploy.nn.batchnorm`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snndeploy.ir import Lif
from snndeploy.nn.compiled.calls import (
    Size,
    Term,
    channels_innermost,
    combine,
    lif_backward,
    lif_forward,
    moments,
)
from snndeploy.nn.surrogate import Surrogate, Triangle


@dataclass(frozen=True, eq=False)
class Norm:
    """One BatchNorm for some steps.

    weight, bias, running_mean, running_var: (channels,), float32.
    epsilon: Added to the variance.
    quiet: How many of the first steps are normalised with the running statistics; the others with their own.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    epsilon: float
    quiet: int


class Addend(NamedTuple):
    """One of the values whose sum is the current.

    x: (time, batch, *shape), or (1, batch, *shape) for a value that is the same at every step.
    norm: Applied to it first, if not None.
    """

    x: Tensor
    norm: Norm | None


class Fused(NamedTuple):
    """What the neurons did.

    spikes, potentials: (time, batch, *shape); the potentials carry no gradient.
    rest: (batch, *shape), v after the last step.
    moments: For every norm, in order, the mean and the unbiased variance of every step with statistics of its
        own, each (steps, channels).
    counts: (*shape), the sum over time and samples of spike**p, if asked for.
    """

    spikes: Tensor
    rest: Tensor
    potentials: Tensor
    moments: tuple[tuple[Tensor, Tensor], ...]
    counts: Tensor | None


def fused(
    addends: Sequence[Addend],
    op: Lif,
    surrogate: Surrogate,
    *,
    steps: int,
    rest: Tensor | None = None,
    count_power: int | None = None,
) -> Fused:
    """Runs LIF neurons on a sum. The gradient also flows through the reset, `rest` and batch statistics.

    Counting costs next to nothing, forward or backward: a spike is 0 or 1, so that spike**p is itself and its
    derivative p * spike**(p - 1) is p where the neuron fired, and elsewhere 1 for p = 1 and 0 beyond.

    Args:
        addends: At least one, all of one batch and shape, float32, on a CPU.
        op: Leak and threshold.
        surrogate: Stand-in for ds/du.
        steps: Number of time steps.
        rest: (batch, *shape), v before the first step; None at the beginning of a sample.
        count_power: p of the counts, at least 1; None for no counts.
    """
    tensors = [addend.x for addend in addends]
    for _, norm in addends:
        if norm is not None:
            tensors += [norm.weight, norm.bias]
    spec = _Spec(op, surrogate, tuple(norm for _, norm in addends), steps, count_power)
    spikes, after, counts, potentials, *found = _neurons(spec, rest, *tensors)
    return Fused(spikes, after, potentials, tuple(zip(found[::2], found[1::2], strict=True)), counts)


class _Spec(NamedTuple):
    op: Lif
    surrogate: Surrogate
    norms: tuple[Norm | None, ...]
    steps: int
    count_power: int | None


class _Neurons(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, spec: _Spec, rest: Tensor | None, *tensors: Tensor) -> tuple[Tensor | None, ...]:
        xs = [channels_innermost(x) for x in tensors[: len(spec.norms)]]
        size = Size.of(xs[0], spec.steps, normed=any(spec.norms))
        affines = [None if n is None else _affine(x, n) for x, n in zip(xs, spec.norms, strict=True)]
        terms = [
            Term(x) if affine is None else Term(x, affine.scale, affine.shift)
            for x, affine in zip(xs, affines, strict=True)
        ]
        counted = spec.count_power is not None
        spikes, after, potentials, counts = lif_forward(terms, size, spec.op, rest, count=counted)
        ctx.save_for_backward(potentials, *(x for x, a in zip(xs, affines, strict=True) if a is not None))
        ctx.spec, ctx.size, ctx.affines, ctx.has_rest = spec, size, affines, rest is not None
        ctx.lengths = [len(x) for x in xs]
        ctx.set_materialize_grads(False)
        found = [moment for affine in affines if affine is not None for moment in affine.moments]
        ctx.mark_non_differentiable(potentials, *found)
        return spikes, after, counts, potentials, *found

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        from_spikes: Tensor | None,
        from_after: Tensor | None,
        from_counts: Tensor | None,
        *_: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        potentials, *kept = ctx.saved_tensors
        spec, size, affines = ctx.spec, ctx.size, ctx.affines
        entered = iter(kept)
        normed = [(next(entered), affine) for affine in affines if affine is not None]
        triangle = isinstance(spec.surrogate, Triangle)
        gradient, to_before, sums = lif_backward(
            [Term(x, affine.scale, affine.shift, affine.mean) for x, affine in normed],
            size,
            spec.op,
            potentials,
            spec.surrogate.width if triangle else spec.surrogate.derivative(potentials, spec.op.threshold),
            from_spikes,
            from_after,
            from_counts,
            fired=float(spec.count_power or 0),
            silent=float(spec.count_power == 1),
        )
        found = iter(zip(normed, sums, strict=True))
        to_x: list[Tensor | None] = []
        to_norms: list[Tensor | None] = []
        for length, affine in zip(ctx.lengths, affines, strict=True):
            arriving = gradient if length == spec.steps else gradient.sum(0, keepdim=True)
            if affine is None:
                to_x.append(arriving)
                continue
            (x, _), (sum_g, sum_gx) = next(found)
            if length != spec.steps:
                sum_g, sum_gx = sum_g.sum(0, keepdim=True), sum_gx.sum(0, keepdim=True)
            to_x.append(_through_norm(arriving, x, affine, sum_g, sum_gx, size))
            to_norms += [(sum_gx * affine.inverse).sum(0).float(), sum_g.sum(0).float()]
        return None, to_before if ctx.has_rest else None, *to_x, *to_norms


_neurons: Callable[..., tuple[Any, ...]] = _Neurons.apply


class _Affine(NamedTuple):
    """A BatchNorm as x * scale + shift.

    scale, shift, mean: (steps, channels), float32.
    inverse: (steps, channels), 1 / standard deviation, float64.
    quiet: How many of the first steps do not depend on the statistics of x.
    moments: Mean and unbiased variance of the others, each (steps, channels), float32.
    """

    scale: Tensor
    shift: Tensor
    mean: Tensor
    inverse: Tensor
    quiet: int
    moments: tuple[Tensor, Tensor]


def _affine(x: Tensor, norm: Norm) -> _Affine:
    quiet = min(norm.quiet, len(x))
    mean, variance = moments(x[quiet:])
    values = x[0].numel() // x.shape[2]
    means = torch.cat([norm.running_mean.double().expand(quiet, -1), mean])
    variances = torch.cat([norm.running_var.double().expand(quiet, -1), variance])
    inverse = (variances + norm.epsilon).rsqrt()
    scale = inverse * norm.weight.detach()
    shift = norm.bias.detach() - means * scale
    unbiased = variance * (values / max(values - 1, 1))
    return _Affine(
        scale.float(), shift.float(), means.float(), inverse, quiet, (mean.float(), unbiased.float())
    )


def _through_norm(
    gradient: Tensor, x: Tensor, affine: _Affine, sum_g: Tensor, sum_gx: Tensor, size: Size
) -> Tensor:
    """Gradient with respect to x, given that with respect to the normalised x and its sums over rows.

    scale * (g - mean(g) - (x - mean) * inverse^2 * mean(g * (x - mean))), and scale * g where the statistics
    are not those of x.
    """
    a = affine.scale.double()
    b = -a * affine.inverse.square() * sum_gx / size.rows
    c = -a * sum_g / size.rows
    b[: affine.quiet], c[: affine.quiet] = 0, 0
    return combine(gradient, x, affine.mean, a.float(), b.float(), c.float())
