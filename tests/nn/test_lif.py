"""LIF neurons: their equations, their gradient, and what they keep in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from snndeploy.errors import ConfigError
from snndeploy.ir import Lif
from snndeploy.nn import Triangle
from snndeploy.nn.lif import lif


class Spike(torch.autograd.Function):
    """A step whose derivative is the triangle of a given width: the one piece autograd cannot do itself."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, threshold: float, width: float) -> Tensor:
        """1 above the threshold."""
        ctx.save_for_backward(u)
        ctx.threshold, ctx.width = threshold, width
        return (u > threshold).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Eq. 5 of BCNAS-SNN, written out."""
        (u,) = ctx.saved_tensors
        triangle = torch.maximum(ctx.width - torch.abs(u - ctx.threshold), torch.zeros_like(u)) / ctx.width**2
        return grad * triangle, None, None


def reference(x: Tensor, op: Lif, width: float = 1.0, v: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Spikes and last v by a plain loop of primitive operations."""
    spikes = []
    for current in x:
        u = current if v is None else op.tau * v + current
        s: Tensor = Spike.apply(u, op.threshold, width)  # type: ignore[no-untyped-call]
        v = u * (1 - s)
        spikes.append(s)
    assert v is not None
    return torch.stack(spikes), v


def currents(*shape: int, seed: int = 0) -> Tensor:
    """Currents around the threshold, of both signs."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64) + 0.4


def test_follows_the_equations() -> None:
    """One neuron by hand: leak, strict threshold, hard reset, negative potentials kept."""
    x = torch.tensor([0.8, 0.6, 0.5, 1.0, 0.5, -2.0, 1.9]).view(-1, 1, 1)
    result = lif(x, Lif(tau=0.5, threshold=1.0), Triangle())
    # u: 0.8, 0.4 + 0.6 (= threshold, no spike), 0.5 + 0.5 (no spike), 0.5 + 1 (spike), 0.5, 0.25 - 2, -0.875 + 1.9
    torch.testing.assert_close(
        result.potentials.flatten(), torch.tensor([0.8, 1.0, 1.0, 1.5, 0.5, -1.75, 1.025])
    )
    assert result.spikes.flatten().tolist() == [0, 0, 0, 1, 0, 0, 1]
    assert result.rest.tolist() == [[0.0]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tau", [0.0, 0.5, 0.3, 0.9, 1.0])
def test_bits_are_those_of_numpy(tau: float, dtype: type[np.float32] | type[np.float64]) -> None:
    """Also for a leak whose products round, u has exactly the bits of the interpreter's expression."""
    op = Lif(tau=tau, threshold=0.7)
    x = np.random.default_rng(0).normal(0.3, 1.0, (20, 3, 500)).astype(dtype)
    result = lif(torch.from_numpy(x), op, Triangle())
    v = np.zeros_like(x[0])
    for t, current in enumerate(x):
        u = current if t == 0 else dtype(op.tau) * v + current
        spike = u > dtype(op.threshold)
        v = u * (1 - spike).astype(dtype)
        np.testing.assert_array_equal(result.potentials[t].numpy(), u)
        np.testing.assert_array_equal(result.spikes[t].numpy(), spike.astype(dtype))
    np.testing.assert_array_equal(result.rest.numpy(), v)


@pytest.mark.parametrize("width", [1.0, 0.5, 2.0])
@pytest.mark.parametrize(("tau", "threshold"), [(0.5, 1.0), (0.9, 0.6), (1.0, 1.3)])
def test_gradient_is_that_of_the_plain_loop(tau: float, threshold: float, width: float) -> None:
    """Loss on spikes and on v; the gradient reaches x and the first v, through the reset too."""
    op = Lif(tau=tau, threshold=threshold)
    weights = currents(6, 4, 3, seed=1)
    gradients = []
    for fused in (True, False):
        x, v = currents(6, 4, 3).requires_grad_(), currents(4, 3, seed=2).requires_grad_()
        if fused:
            spikes, rest, _ = lif(x, op, Triangle(width), v)
        else:
            spikes, rest = reference(x, op, width, v)
        ((spikes * weights).sum() + (rest**2).sum()).backward()  # type: ignore[no-untyped-call]
        assert x.grad is not None
        assert v.grad is not None
        assert x.grad.abs().min(dim=0).values.max() > 0
        gradients.append((spikes.detach(), rest.detach(), x.grad, v.grad))
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_gradient_flows_through_the_reset() -> None:
    """A spike at t = 0 lowers u at t = 1: du1/dx0 = tau * ((1 - s) - u * ds/du), not tau * (1 - s)."""
    x = torch.tensor([1.25, 0.75], dtype=torch.float64).view(2, 1, 1).requires_grad_()
    lif(x, Lif(), Triangle()).spikes[1].sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    surrogate_0, surrogate_1 = 0.75, 0.75  # at u = 1.25 and u = 0.75
    expected = surrogate_1 * 0.5 * (0 - 1.25 * surrogate_0)
    torch.testing.assert_close(x.grad.flatten().tolist(), [expected, surrogate_1])


def test_step_by_step_is_the_same_as_all_at_once() -> None:
    """Passing v on from call to call gives the same spikes and gradients."""
    op, weights = Lif(tau=0.3), currents(5, 2, 3, seed=1)
    whole, parts = currents(5, 2, 3).requires_grad_(), currents(5, 2, 3).requires_grad_()
    spikes = lif(whole, op, Triangle()).spikes
    (spikes * weights).sum().backward()  # type: ignore[no-untyped-call]
    found, v = [], None
    for t in range(5):
        step = lif(parts[t : t + 1], op, Triangle(), v)
        v = step.rest
        found.append(step.spikes)
    (torch.cat(found) * weights).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(torch.cat(found), spikes)
    assert whole.grad is not None
    assert parts.grad is not None
    torch.testing.assert_close(parts.grad, whole.grad, rtol=1e-12, atol=1e-12)


def test_keeps_only_the_potentials() -> None:
    """For the backward pass one tensor of the size of x is kept, neither x nor spikes besides."""
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    x = currents(6, 4, 3).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = lif(x, Lif(), Triangle())
    assert [tuple(tensor.shape) for tensor in kept] == [(6, 4, 3)]
    assert torch.equal(kept[0], result.potentials)
    assert not result.potentials.requires_grad


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf")])
def test_a_triangle_needs_a_width(width: float) -> None:
    """A surrogate without area would stop all learning."""
    with pytest.raises(ConfigError, match="width must be positive"):
        Triangle(width)
