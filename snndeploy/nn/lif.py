"""Leaky integrate-and-fire neurons over time, as one differentiable function that keeps only u.

    u = tau * v + x;   s = 1 if u > threshold else 0;   v = u * (1 - s)

A loop body calls it for one step at a time and passes v on; outside loops one call covers all steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snndeploy.ir import Lif
from snndeploy.nn.surrogate import Surrogate


class LifResult(NamedTuple):
    """What LIF neurons did during some steps.

    spikes: (time, batch, *shape), 0 or 1, in the precision of the input.
    rest: (batch, *shape), v after the last step.
    potentials: (time, batch, *shape), u before the reset; carries no gradient.
    """

    spikes: Tensor
    rest: Tensor
    potentials: Tensor


def lif(x: Tensor, op: Lif, surrogate: Surrogate, rest: Tensor | None = None) -> LifResult:
    """Runs LIF neurons. The gradient also flows through the reset and through `rest`.

    The arithmetic and its order are those of the reference interpreter, so equal currents give equal spikes.

    Args:
        x: (time, batch, *shape), the current at each step.
        op: Leak and threshold.
        surrogate: Stand-in for ds/du.
        rest: (batch, *shape), v before the first of these steps; None at the beginning of a sample.
    """
    if rest is None:
        rest = torch.zeros_like(x[0])
    return LifResult(*_neurons(x, rest, op.tau, op.threshold, surrogate))


def traceable_lif(x: Tensor, op: Lif, surrogate: Surrogate, rest: Tensor | None = None) -> LifResult:
    """The same in operations that PyTorch can differentiate, for a compiler to make a function of."""
    spikes, potentials = [], []
    v = torch.zeros_like(x[0]) if rest is None else rest
    for current in x.unbind():
        u = op.tau * v + current
        smooth = surrogate.primitive(u, op.threshold)
        s = (u > op.threshold).to(x.dtype) + (
            smooth - smooth.detach()
        )  # the value is 0 or 1, the slope is smooth's
        v = u * (1 - s)
        spikes.append(s)
        potentials.append(u.detach())
    return LifResult(torch.stack(spikes), v, torch.stack(potentials))


class _Neurons(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rest: Tensor, tau: float, threshold: float, surrogate: Surrogate
    ) -> tuple[Tensor, Tensor, Tensor]:
        spikes, potentials = torch.empty_like(x), torch.empty_like(x)
        v, nothing = rest, rest.new_zeros(())
        for current, u, s in zip(x, potentials, spikes, strict=True):
            # Two roundings, as in the interpreter: a fused multiply-add would round once.
            torch.mul(v, tau, out=u).add_(current)
            torch.gt(u, threshold, out=s)
            v = torch.where(u > threshold, nothing, u)  # u * (1 - s), of infinite u, too
        ctx.tau, ctx.threshold, ctx.surrogate = tau, threshold, surrogate
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(potentials)
        ctx.save_for_backward(potentials)
        return spikes, v, potentials

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_spikes: Tensor | None, grad_rest: Tensor | None, _: None
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (potentials,) = ctx.saved_tensors
        grad_x = torch.empty_like(potentials)
        grad_v = torch.zeros_like(potentials[0]) if grad_rest is None else grad_rest
        for t in reversed(range(len(potentials))):
            u = potentials[t]
            # v = u * (1 - s) depends on u directly and through s, and so does the loss.
            through_spike = u * grad_v
            if grad_spikes is None:
                through_spike.neg_()
            else:
                torch.sub(grad_spikes[t], through_spike, out=through_spike)
            through_spike *= ctx.surrogate.derivative(u, ctx.threshold)
            torch.le(u, ctx.threshold, out=grad_x[t]).mul_(grad_v).add_(through_spike)
            grad_v = grad_x[t] * ctx.tau
        return grad_x, grad_v, None, None, None


_neurons: Callable[..., tuple[Tensor, Tensor, Tensor]] = _Neurons.apply
