"""The loihi format in PyTorch: the interpreter's bits, for any leak and any number of time steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings

from snndeploy import nn
from snndeploy.errors import QuantizeError
from snndeploy.ir import Exact, Graph, Lif, Loihi, Network, Trace, certify, quantize, run
from snndeploy.ir.neurons import DECAY_UNITY, LARGEST_MEMBRANE, Neurons, total_biases, weight_grids
from snndeploy.nn.engine import simulate
from snndeploy.nn.loihi import loihi_lif, membrane_units
from tests.export.networks import TOPOLOGIES, Case, case
from tests.loihi import TAUS, loihi_cases, with_tau
from tests.strategies import Case as LivelyCase

UNIT = np.array([2.0**-12, 2.0**-9, 2.0**-14])  # of three channels


def assert_same(found: Trace, expected: Trace) -> None:
    """Fails unless spikes, potentials and readout are equal, bit for bit."""
    assert set(found.spikes) == set(expected.spikes)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes, err_msg=name)
        np.testing.assert_array_equal(found.potentials[name], expected.potentials[name], err_msg=name)
    np.testing.assert_array_equal(found.readout_sum, expected.readout_sum)
    np.testing.assert_array_equal(found.logits, expected.logits)


def loihi(built: Graph, *, tau: float = 0.5, steps: int = 10, kind: str = "image") -> Case:
    """A case of a graph in the loihi format, one exponent for each channel."""
    tuned = case(with_tau(built, tau), steps=steps, kind=kind)
    return Case(quantize(tuned.network, tuned.x, format="loihi", granularity="channel").network, tuned.x)


@settings(max_examples=20)
@given(tested=loihi_cases())
def test_generated_networks(tested: LivelyCase) -> None:
    """Spikes, potentials and readout are the interpreter's, in both precisions."""
    torch.set_num_threads(1)
    network, x = tested.network, tested.x
    assert certify(network).holds
    expected = run(network, x, potentials=True)
    assert_same(nn.run(network, x, potentials=True), expected)
    double = run(network, x, potentials=True, dtype=np.float64)
    assert_same(nn.run(network, x, potentials=True, dtype=np.float64), double)
    np.testing.assert_array_equal(double.readout_sum, expected.readout_sum)


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("topology", ["residual", "long_delays", "from_vector", "grouped"])
def test_topologies(topology: str, tau: float) -> None:
    """Loops, several delays, vectors, groups and pools, for frames; whatever is asked to compute them."""
    tested = loihi(TOPOLOGIES[topology](), tau=tau, kind="frames")
    expected = run(tested.network, tested.x, potentials=True)
    assert all(spikes.any() for spikes in expected.spikes.values())
    for neurons in ("compiled", "plain"):
        assert_same(nn.run(tested.network, tested.x, potentials=True, neurons=neurons), expected)


def test_the_leak_is_rounded() -> None:
    """With the same weights in the exact format the potentials differ, so that agreement is about rounding."""
    tested = loihi(TOPOLOGIES["long_delays"](), tau=0.75)
    assert isinstance(tested.network.format, Loihi)
    exact = replace(tested.network, format=Exact(tested.network.format.exponents))
    rounded, real = (nn.run(n, tested.x, potentials=True).potentials for n in (tested.network, exact))
    assert all((rounded[name] != real[name]).any() for name in rounded)


@pytest.mark.parametrize("topology", ["residual", "back_over_many", "grouped"])
def test_formats_agree_until_halves_are_cut(topology: str) -> None:
    """With biases on the grid of the weights, 8 steps of tau = 1/2 are those of the exact format; 16 are not."""
    tested = loihi(TOPOLOGIES[topology](), steps=16)
    assert isinstance(tested.network.format, Loihi)
    grids, biases = weight_grids(tested.network), total_biases(tested.network)
    for name in tested.network.graph.ports:
        units = biases[name] * 2.0 ** grids[name]
        np.testing.assert_array_equal(units, np.round(units))
    for steps in (8, 16):
        network = replace(tested.network, steps=steps, readout=steps)
        exact = replace(network, format=Exact(tested.network.format.exponents))
        ours = nn.run(network, tested.x, potentials=True, dtype=np.float64)
        others = nn.run(exact, tested.x, potentials=True, dtype=np.float64)
        if steps == 8:
            assert_same(ours, others)
        else:
            assert all((ours.potentials[n] != others.potentials[n]).any() for n in ours.potentials)


def test_stepping_everything_changes_nothing() -> None:
    """One step at a time from what the step before left gives the bits of all steps at once."""
    tested = loihi(TOPOLOGIES["chain"](), tau=TAUS[1], kind="frames")
    network = tested.network
    tensors = {name: torch.tensor(array) for name, array in network.weights.items()}
    whole, stepped = (
        simulate(
            network.graph,
            tensors,
            torch.tensor(tested.x),
            surrogate=nn.Triangle(),
            units=membrane_units(network),
            record_potentials=True,
            stepped=stepped,
        )
        for stepped in (False, True)
    )
    torch.testing.assert_close(stepped.logits, whole.logits, rtol=0, atol=0)
    for name, potentials in whole.potentials.items():
        torch.testing.assert_close(stepped.potentials[name], potentials, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_leak(dtype: torch.dtype) -> None:
    """For every tau = n / 4096 and membranes up to the largest, u and v are those of whole numbers."""
    rng = np.random.default_rng(0)
    low = rng.integers(-9, 10, (8, 3))
    v = np.concatenate([low, rng.integers(-LARGEST_MEMBRANE, LARGEST_MEMBRANE + 1, (24, 3))])
    v[:2] = [[LARGEST_MEMBRANE], [-LARGEST_MEMBRANE]]
    x = rng.integers(-(2**23) + 1, 2**23, v.shape)
    unit = torch.tensor(UNIT, dtype=dtype)
    threshold = 2**10
    rest, current = (torch.tensor(values * UNIT).to(dtype) for values in (v, x))
    saturated = 0
    for n in range(1, DECAY_UNITY + 1):
        result = loihi_lif(current[None], Lif(tau=n / DECAY_UNITY, threshold=threshold), unit, rest)
        kept = np.sign(v) * (np.abs(v) * n // DECAY_UNITY)
        u = np.clip(kept + x, -LARGEST_MEMBRANE, LARGEST_MEMBRANE)
        fires = u * UNIT > threshold
        np.testing.assert_array_equal(result.potentials[0].numpy() / UNIT, u)
        np.testing.assert_array_equal(result.spikes[0].numpy(), fires)
        np.testing.assert_array_equal(result.rest.numpy() / UNIT, np.where(fires, 0, u))
        saturated += int((kept + x < -LARGEST_MEMBRANE).sum())
    assert saturated > 100


def test_neurons_are_the_interpreters() -> None:
    """Over some steps from any membrane, potentials are those of `ir.neurons`, saturated ones as well."""
    rng = np.random.default_rng(1)
    x = (rng.integers(-(2**22), 2**17, (6, 5, 3)) * UNIT).astype(np.float32)
    found = loihi_lif(torch.tensor(x), Lif(tau=TAUS[1]), torch.tensor(UNIT, dtype=torch.float32))
    neurons, rest = Neurons(TAUS[1], 1.0, UNIT), np.zeros_like(x[0])
    lowest = np.inf
    for current, potentials in zip(x, found.potentials, strict=True):
        u = neurons.charge(rest, current)
        np.testing.assert_array_equal(potentials.numpy(), u)
        rest = np.where(u > 1, np.float32(0), u)
        lowest = min(lowest, float((u / UNIT).min()))
    assert lowest == -LARGEST_MEMBRANE


def test_many_samples() -> None:
    """More samples than are run at a time come back in order."""
    tested = loihi(TOPOLOGIES["chain"](), tau=0.75)
    x: npt.NDArray[np.float32] = np.concatenate([tested.x] * 50)
    found, expected = nn.run(tested.network, x), run(tested.network, tested.x)
    np.testing.assert_array_equal(found.readout_sum, np.concatenate([expected.readout_sum] * 50))


def uncertified(network: Network) -> Network:
    """A bias of the first layer beyond what a neuron's registers hold."""
    return replace(network, weights={**network.weights, "c1.bias": network.weights["c1.bias"] + 2**6})


def test_a_certificate_is_needed() -> None:
    """A network without one is refused with its reason; other formats have no units."""
    tested = loihi(TOPOLOGIES["chain"]())
    broken = uncertified(tested.network)
    reason = certify(broken).failures[0]
    with pytest.raises(QuantizeError) as caught:
        nn.run(broken, tested.x)
    assert caught.value.where == reason.op
    assert reason.reason in str(caught.value)
    assert membrane_units(case(TOPOLOGIES["chain"](), steps=2).network) == {}
