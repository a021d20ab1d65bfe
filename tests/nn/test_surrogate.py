"""Surrogates: each against its published formula and against differences of its primitive."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from snndeploy.errors import ConfigError
from snndeploy.ir import Lif
from snndeploy.nn.lif import lif
from snndeploy.nn.surrogate import ScaledSigmoid, SigmoidReciprocal, Surrogate, Triangle, surrogate_of

Formula = Callable[[float, float], float]


def triangle(width: float) -> Formula:
    """Eq. 5 of BCNAS-SNN."""
    return lambda u, threshold: 1 / width**2 * max(0.0, width - abs(u - threshold))


def piecewise_linear(u: float, threshold: float) -> float:
    """Eq. 22 of Spiking Synaptic Penalty."""
    return max(1 - abs(u - threshold), 0)


def scaled_sigmoid(alpha: float) -> Formula:
    """Eq. 23 of Spiking Synaptic Penalty, from its eqs. 4 and 5."""

    def slope(u: float, threshold: float) -> float:
        sigma = 1 / (1 + math.exp((-u + threshold) / alpha))
        return 1 / alpha * sigma * (1 - sigma)

    return slope


def sigmoid_reciprocal(alpha: float, tau: float) -> Formula:
    """Eq. 3 of Spiking Synaptic Penalty."""
    return lambda u, threshold: 1 / tau / u if u > threshold else scaled_sigmoid(alpha)(u, threshold)


CASES = [
    (Triangle(), triangle(1.0)),
    (Triangle(), piecewise_linear),
    (Triangle(0.4), triangle(0.4)),
    (ScaledSigmoid(0.45), scaled_sigmoid(0.45)),
    (ScaledSigmoid(1.5), scaled_sigmoid(1.5)),
    (SigmoidReciprocal(0.25, 0.6), sigmoid_reciprocal(0.25, 0.6)),
    (SigmoidReciprocal(0.35, 1.0), sigmoid_reciprocal(0.35, 1.0)),
]
SURROGATES = [Triangle(0.4), Triangle(), ScaledSigmoid(0.45), SigmoidReciprocal(0.25, 0.6)]
THRESHOLDS = [1.0, 0.3, 2.5]


def potentials(threshold: float) -> Tensor:
    """Of both signs and sides, no corner of a surrogate among them."""
    u = torch.linspace(-4.0, 6.0, 997, dtype=torch.float64)
    for corner in (threshold, threshold - 1, threshold + 1, threshold - 0.4, threshold + 0.4):
        u = u[(u - corner).abs() > 1e-4]
    return u


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize(("surrogate", "formula"), CASES)
def test_follows_its_formula(surrogate: Surrogate, formula: Formula, threshold: float) -> None:
    """At potentials on both sides, far away, and at the threshold itself."""
    u = torch.cat([potentials(threshold), torch.tensor([threshold], dtype=torch.float64)])
    expected = torch.tensor([formula(value, threshold) for value in u.tolist()], dtype=torch.float64)
    torch.testing.assert_close(surrogate.derivative(u, threshold), expected, rtol=1e-9, atol=1e-12)
    assert expected.max() > 0.1


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_is_the_slope_of_its_primitive(surrogate: Surrogate, threshold: float) -> None:
    """Central differences of the primitive; it never falls, and has no step at the threshold."""
    u, h = potentials(threshold), 1e-6
    differences = (surrogate.primitive(u + h, threshold) - surrogate.primitive(u - h, threshold)) / (2 * h)
    torch.testing.assert_close(surrogate.derivative(u, threshold), differences, rtol=1e-6, atol=1e-8)
    assert (surrogate.primitive(u, threshold).diff() >= 0).all()
    around = torch.tensor([threshold - 1e-9, threshold, threshold + 1e-9], dtype=torch.float64)
    half = torch.full((3,), 0.5, dtype=torch.float64)
    torch.testing.assert_close(surrogate.primitive(around, threshold), half, rtol=0, atol=1e-7)


def test_the_primitives_end_where_they_should() -> None:
    """Triangle and sigmoid go from 0 to 1, so their area is that of the step; the logarithm has no end."""
    ends = torch.tensor([-50.0, 60.0], dtype=torch.float64)
    for surrogate in (Triangle(0.4), Triangle(2.0), ScaledSigmoid(0.45)):
        assert surrogate.primitive(ends, 1.0).tolist() == pytest.approx([0, 1], abs=1e-12)
    low, high = SigmoidReciprocal(0.25, 0.6).primitive(ends, 1.0).tolist()
    assert low == pytest.approx(0, abs=1e-12)
    assert high == pytest.approx(0.5 + math.log(60) / 0.6)


def test_at_the_threshold_no_neuron_fires() -> None:
    """So u = threshold is on the sigmoid's side; the next larger number is on that of the reciprocal."""
    at = torch.tensor([1.0], dtype=torch.float64)
    above = torch.nextafter(at, torch.tensor(2.0, dtype=torch.float64))
    surrogate = SigmoidReciprocal(0.25, 0.6)
    assert surrogate.derivative(at, 1.0).item() == 1 / (4 * 0.25)
    assert surrogate.derivative(above, 1.0).item() == pytest.approx(1 / 0.6)
    fired = lif(torch.stack([at, above], 1)[None], Lif(tau=0.0), surrogate).spikes
    assert fired.flatten().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_leaves_the_potentials_alone(surrogate: Surrogate, dtype: torch.dtype) -> None:
    """A new tensor of the same shape and precision, finite everywhere, also where u is 0 or far away."""
    u = torch.tensor([[-1e4, -3.0, 0.0], [0.5, 1.0, 1e4]], dtype=dtype)
    before = u.clone()
    for found in (surrogate.derivative(u, 1.0), surrogate.primitive(u, 1.0)):
        assert torch.equal(u, before)
        assert (found.shape, found.dtype) == (u.shape, dtype)
        assert found.isfinite().all()


def test_the_sigmoid_is_accurate_far_above_the_threshold() -> None:
    """In single precision its two tails are equal, though 1 - sigma rounds to 0 on the upper side."""
    tails = ScaledSigmoid(0.1).derivative(torch.tensor([-2.0, 4.0]), 1.0)
    assert tails[0] == tails[1] > 0
    assert tails[1].item() == pytest.approx(10 * math.exp(-30), rel=1e-5)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_neurons_use_it(surrogate: Surrogate) -> None:
    """The gradient of a spike with respect to its current is the stand-in, for a neuron without a past."""
    x = torch.linspace(-1, 3, 41, dtype=torch.float64).view(1, 1, 41).requires_grad_()
    lif(x, Lif(threshold=0.75), surrogate).spikes.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.equal(x.grad, surrogate.derivative(x.detach(), 0.75))


def test_found_by_name() -> None:
    """Each takes the parameters that it has."""
    parameters = {"width": 0.5, "alpha": 0.35, "tau": 0.8}
    assert surrogate_of("triangle", **parameters) == Triangle(0.5)
    assert surrogate_of("scaled_sigmoid", **parameters) == ScaledSigmoid(0.35)
    assert surrogate_of("sigmoid_reciprocal", **parameters) == SigmoidReciprocal(0.35, 0.8)
    with pytest.raises(ConfigError, match=r"surrogate: must be triangle, .*, got 'square'"):
        surrogate_of("square", **parameters)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_parameters_must_be_positive(value: float) -> None:
    """A surrogate of no or infinite height or width would stop all learning."""
    for make in (
        lambda: Triangle(value),
        lambda: ScaledSigmoid(value),
        lambda: SigmoidReciprocal(value, 1.0),
        lambda: SigmoidReciprocal(1.0, value),
    ):
        with pytest.raises(ConfigError, match=r"surrogate: (width|alpha|tau) must be positive"):
            make()
