"""Comparing back ends: half precision, the float64 referee, firing rates, several back ends at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from snndeploy.ir import (
    AvgPool2d,
    Comparator,
    Flatten,
    Float32,
    Input,
    InputSpec,
    Lif,
    Network,
    Op,
    Output,
    Trace,
    compare,
    run,
)
from snndeploy.ir.replay import entering
from snndeploy.ir.rounding import roundings
from tests.ir.backend import backend
from tests.ir.graphs import conv, linear, wired
from tests.ir.test_verify import exact, flipped, in_tenths

HALF = 2**13


def in_half(network: Network) -> Network:
    """The network with its weights, not its biases, rounded to float16."""
    weights = {
        name: w.astype(np.float16).astype(np.float32) if name.endswith(".weight") else w
        for name, w in network.weights.items()
    }
    return replace(network, weights=weights)


def alike(weight: float, threshold: float, count: int = 1) -> tuple[Network, npt.NDArray[np.float32]]:
    """One step of a neuron with so many inputs of the same weight, and all of them 1.

    in -> fc -> l -> out
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(count,)),
        "fc": linear(count, 1, bias=False),
        "l": Lif(threshold=threshold),
        "out": Output(),
    }
    weights = {"fc.weight": np.full((1, count), weight, np.float32)}
    network = Network(graph=wired(ops, "in fc l out"), weights=weights, steps=1, input=InputSpec())
    return network, np.ones((1, count), np.float32)


def test_half_weights_are_explained_as_such_only() -> None:
    """Hundreds of flips of half weights lie within their bound, and beyond that of single precision."""
    flips = beyond = 0
    for seed in range(40):
        network, x = in_tenths(seed)
        expected, found = run(network, x), run(in_half(network), x)
        half = compare(network, x, expected, found, "half", half=True)
        assert half.passed, (seed, half.defects)
        assert not half.exact
        flips += sum(layer.flips for layer in half.layers)
        assert all(layer.worst_margin <= 1 and not layer.unexplained for layer in half.layers)
        beyond += not compare(network, x, expected, found, "half").passed
    assert flips > 100
    assert beyond > 30


@pytest.mark.parametrize("make", [exact, lambda: in_tenths(3)], ids=["exact", "float32"])
def test_flips_beyond_the_bound_of_half_are_defects(make: object) -> None:
    """Weights that are a fifth off, or a spike out of nothing, are found all the same, in its layer."""
    network, x = make()  # type: ignore[operator]
    weights = {**network.weights, "c2.weight": network.weights["c2.weight"] * np.float32(1.2)}
    wrong = run(replace(network, weights=weights, format=Float32()), x)
    found = compare(network, x, run(network, x), wrong, "wrong", half=True)
    assert found.defects[0].startswith("l2: ")
    trace = run(network, x, potentials=True)
    last = trace.potentials["l3"][-1]
    place = np.unravel_index(last.argmin(), last.shape)
    noisy = flipped(trace, ("l3", (network.steps - 1, *(int(i) for i in place))))
    found = compare(network, x, trace, noisy, "noisy", half=True)
    assert found.defects[0].startswith("l3: 1 flips")


def test_weights_below_the_normal_numbers_of_half() -> None:
    """1.4 of its smallest steps becomes one step: no relative error covers that, and it is no defect."""
    step = 2.0**-24
    network, x = alike(1.4 * step, 120 * step, 100)
    expected, found = run(network, x), run(in_half(network), x)
    assert (expected.spikes["l"].item(), found.spikes["l"].item()) == (True, False)
    comparison = compare(network, x, expected, found, "half", half=True)
    assert comparison.layers[0].flips == 1
    assert comparison.passed
    busy, x = alike(4.4 * step, 120 * step, 100)
    silent = replace(busy, weights={"fc.weight": np.zeros((1, 100), np.float32)})
    assert not compare(busy, x, run(busy, x), run(silent, x), "half", half=True).passed


def test_smallest_sizes_at_every_op() -> None:
    """With a smallest size only zeros stay below it: input, weights, and what ops give."""
    network, x = alike(2.0**-20, 1.0)
    graph = wired({**network.graph.ops, "fc2": linear(1, 1, bias=False)}, "in fc fc2 l out")
    weights = {**network.weights, "fc2.weight": np.full((1, 1), -1, np.float32)}
    chain = replace(network, graph=graph, weights=weights)
    spikes = {"l": np.zeros((1, 2, 1), bool)}
    x = np.array([[[2.0**-20], [0]]], np.float32)
    sizes = dict(entering(chain, x, spikes, magnitudes=True, smallest=2.0**-14))
    np.testing.assert_array_equal(sizes["fc"].ravel(), [2.0**-14, 0])
    np.testing.assert_array_equal(sizes["fc2"].ravel(), [2.0**-14, 0])
    np.testing.assert_array_equal(sizes["l"].ravel(), [2.0**-14, 0])
    plain = dict(entering(chain, x, spikes, magnitudes=True))
    np.testing.assert_array_equal(plain["l"].ravel(), [2.0**-40, 0])


def test_roundings_to_half() -> None:
    """Three for each weighted op on the way, two where only whole spikes enter.

    in -> c1 -> l1 -> c2 -> l2 -> pool -> flat -> fc -> l3 -> read -> out
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(1, 4, 4)),
        "c1": conv(1, 2),
        "l1": Lif(),
        "c2": conv(2, 2),
        "l2": Lif(),
        "pool": AvgPool2d(kernel=(2, 2), stride=(2, 2)),
        "flat": Flatten(),
        "fc": linear(8, 3),
        "l3": Lif(),
        "read": linear(3, 2),
        "out": Output(),
    }
    graph = wired(ops, "in c1 l1 c2 l2 pool flat fc l3 read out")
    single, half = roundings(graph), roundings(graph, half=True)
    added = {name: (half[name] - single[name]) / HALF for name in ("l1", "l2", "l3", "out")}
    assert added == {"l1": 3, "l2": 2, "l3": 3, "out": 2}


def test_half_of_a_certified_network_promises_nothing() -> None:
    """Differing spikes and readouts of an exact network pass if float16 explains them."""
    network, x = exact()
    trace = run(network, x)
    off = replace(trace, readout_sum=trace.readout_sum * np.float32(1 + 2.0**-12))
    found = compare(network, x, trace, replace(off, logits=off.readout_sum / 5), "half", half=True)
    assert found.readout_error > 0
    assert not found.exact
    assert found.passed
    assert not compare(network, x, trace, off, "single").passed


def test_the_referee_takes_both_sides() -> None:
    """Between two orders of summation float64 sometimes upholds the one, sometimes the other."""
    disputed = upheld = 0
    for seed in range(40):
        network, x = in_tenths(seed)
        found = compare(network, x, run(network, x), backend(network, x, seed), "other")
        for layer in found.layers:
            # What differs from float64 differs from the interpreter, unless that errs alike.
            assert layer.disputed - layer.upheld <= layer.flips
        disputed += sum(layer.disputed for layer in found.layers)
        upheld += sum(layer.upheld for layer in found.layers)
    assert 0 < upheld < disputed


def test_the_referee_upholds_itself_and_no_mistake() -> None:
    """A back end in float64 wins every dispute, and one with a wrong weight loses all that matter."""
    disputed = 0
    for seed in range(20):
        network, x = in_tenths(seed)
        double = run(network, x, dtype=np.float64)
        found = compare(network, x, run(network, x), double, "float64")
        assert all(layer.disputed == layer.upheld and not layer.flips for layer in found.layers)
        disputed += sum(layer.disputed for layer in found.layers)
    assert disputed > 0
    network, x = exact()
    place = ("l2", (1, 0, 0, 0, 0))
    (_, layer, _) = compare(network, x, run(network, x), flipped(run(network, x), place), "wrong").layers
    assert layer.disputed == layer.flips > 0
    assert layer.upheld == 0


def test_free_running_float64_and_rates() -> None:
    """Spikes that differ from float64's are counted where it is given; rates carry a sign."""
    network, x = in_tenths(3)
    expected, double = run(network, x), run(network, x, dtype=np.float64)
    place = ("l3", (0, 0, 0))
    other = flipped(double, place)
    found = Comparator(network, x, expected, double).compare(other, "other")
    assert found.float64_differing == 1
    assert compare(network, x, expected, other, "other").float64_differing is None
    fired = int(other.spikes["l3"].sum()) - int(expected.spikes["l3"].sum())
    layer = found.layers[2]
    assert layer.spikes_found == other.spikes["l3"].sum()
    assert layer.firing_rate_difference == fired / layer.compared
    assert found.largest_rate_difference == max(abs(row.firing_rate_difference) for row in found.layers) > 0


@pytest.mark.parametrize("make", [exact, lambda: in_tenths(3)], ids=["exact", "float32"])
def test_back_ends_compared_one_after_the_other(make: object) -> None:
    """What is kept from one comparison changes no other: same spikes or not, half or not."""
    network, x = make()  # type: ignore[operator]
    trace = run(network, x)
    off = replace(trace, readout_sum=trace.readout_sum + np.float32(0.01))
    wrong = flipped(trace, ("l1", (0, 0, 0, 0, 0)))
    comparator = Comparator(network, x, trace)
    given: list[tuple[Trace, bool]] = [(trace, False), (off, False), (wrong, False), (trace, True)]
    given += [(off, True), (wrong, True), (trace, False)]
    for found, half in given:
        alone = compare(network, x, trace, found, "it", half=half)
        assert comparator.compare(found, "it", half=half) == alone
