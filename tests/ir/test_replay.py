"""Teacher forcing: what enters every op when the spikes are given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from snndeploy.ir import Lif, Network, as_steps, run
from snndeploy.ir.replay import delayed, entering
from tests.ir.graphs import classifier, direct, random_input, random_network
from tests.strategies import Case, cases


@settings(max_examples=30)
@given(cases(most_layers=3))
def test_a_network_s_own_spikes_give_its_own_potentials(case: Case) -> None:
    """Integrating the currents of a run's own spikes gives that run, loops and delays included."""
    network = case.network
    trace = run(network, case.x, potentials=True, dtype=np.float64)
    seen = []
    for name, current in entering(network, as_steps(network, case.x), trace.spikes):
        op = network.graph.ops[name]
        seen.append(name)
        if isinstance(op, Lif):
            rest = np.zeros_like(current[0])
            for t in range(network.steps):
                potential = op.tau * rest + current[t]
                assert (potential == trace.potentials[name][t]).all()
                rest = np.where(potential > op.threshold, 0, potential)
        elif name == network.graph.output:
            assert (current[network.steps - network.readout :].sum(axis=0) == trace.readout_sum).all()
    assert tuple(seen) == tuple(n for n in network.graph.order if n != network.graph.input)


def test_given_spikes_are_used_as_they_are() -> None:
    """Graph: in -> a -> b -> out, a -(2)-> b: what enters b depends on the given spikes of a only."""
    network = Network(graph=direct("in a b out", "a ~2 b", features=1), weights={}, steps=4)
    given = {"a": np.array([1, 0, 1, 1], bool).reshape(4, 1, 1), "b": np.zeros((4, 1, 1), bool)}
    found = dict(entering(network, np.zeros((4, 1, 1)), given))
    assert found["a"].ravel().tolist() == [0, 0, 0, 0]
    assert found["b"].ravel().tolist() == [1, 0, 2, 1]
    assert found["out"].ravel().tolist() == [0, 0, 0, 0]


def test_magnitudes_bound_every_sum() -> None:
    """Sizes of all terms added up: at least the sum's size, and equal to it where nothing has a sign."""
    for norm in (False, True):
        network = random_network(classifier(norm=norm), steps=3)
        x = as_steps(network, random_input(network))
        spikes = run(network, x).spikes
        sums = dict(entering(network, x, spikes))
        sizes = dict(entering(network, x, spikes, magnitudes=True))
        assert all((sizes[n] >= np.abs(s) - 1e-12).all() for n, s in sums.items())
        assert any((sizes[n] > np.abs(s) + 0.1).any() for n, s in sums.items())
        positive = {
            n: -np.abs(w) if n.endswith("running_mean") else np.abs(w) for n, w in network.weights.items()
        }
        plain = Network(graph=network.graph, weights=positive, steps=3, input=network.input)
        for name, total in entering(plain, x, spikes):
            np.testing.assert_allclose(sizes[name], total, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("delay", [0, 1, 3, 4, 5])
def test_delaying(delay: int) -> None:
    """Zero before, nothing wraps around, the original stays."""
    values = np.arange(1.0, 5.0).reshape(4, 1)
    assert delayed(values, delay).ravel().tolist() == [0.0] * min(delay, 4) + list(
        range(1, 5 - min(delay, 4))
    )
    assert values.ravel().tolist() == [1, 2, 3, 4]


def test_precision_is_that_asked_for() -> None:
    """Double by default."""
    network = random_network(classifier())
    x = as_steps(network, random_input(network))
    spikes = run(network, x).spikes
    assert {v.dtype for _, v in entering(network, x, spikes)} == {np.dtype(np.float64)}
    assert {v.dtype for _, v in entering(network, x, spikes, dtype=np.float32)} == {np.dtype(np.float32)}
