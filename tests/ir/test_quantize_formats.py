"""One set of weights in both formats: where nothing is said to differ, nothing does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from snndeploy.errors import QuantizeError
from snndeploy.ir import (
    Exact,
    Graph,
    Input,
    InputSpec,
    Lif,
    Loihi,
    Network,
    Op,
    Output,
    certify,
    format_difference,
    in_format,
    quantize,
    run,
)
from tests.ir.graphs import classifier, linear, random_input, random_network, wired
from tests.strategies import Structure, realise, structures


def differing(network: Network, x: npt.NDArray[np.float32]) -> bool:
    """Whether any spike, potential or readout sum differs between the formats."""
    one, other = (run(in_format(network, name), x, potentials=True) for name in ("exact", "loihi"))
    same = all((one.spikes[n] == other.spikes[n]).all() for n in one.spikes)
    same = same and all((one.potentials[n] == other.potentials[n]).all() for n in one.potentials)
    return not (same and (one.readout_sum == other.readout_sum).all())


@settings(max_examples=30)
@given(structures(most_layers=3), st.integers(2, 8))
def test_loihi_networks_of_short_samples_are_exact_ones_too(structure: Structure, bits: int) -> None:
    """With tau = 1/2 and up to eight steps both certificates hold, and all numbers are the same."""
    case = realise(structure)
    found = quantize(case.original, case.x, format="loihi", bits=bits).network
    assert format_difference(found) == ""
    assert certify(in_format(found, "exact")).holds
    assert not differing(found, case.x)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.25, 0.0, 1.0]), st.integers(1, 8))
def test_where_nothing_is_said_to_differ_nothing_does(seed: int, tau: float, steps: int) -> None:
    """Any leak that halves, biases coarse enough or not, quantized for either format."""
    network = random_network(classifier(), seed, steps=steps)
    ops = {n: Lif(tau=tau) if isinstance(op, Lif) else op for n, op in network.graph.ops.items()}
    network = replace(network, graph=Graph(ops, network.graph.edges))
    x = random_input(network, seed, samples=6)
    found = [quantize(network, x, format="loihi").network]
    try:
        found.append(quantize(network, x).network)
    except QuantizeError:  # too many digits for the exact format
        assume(tau != 0.5)
    for one in found:
        if not format_difference(one):
            assert not differing(one, x)


def test_long_samples_truncate() -> None:
    """After more halvings than the membrane has digits the formats part, and the function says where."""
    network = random_network(classifier(), 1, steps=30)
    x = random_input(network, samples=8)
    found = quantize(network, x, format="loihi").network
    assert format_difference(found).startswith("lif1 is not certified in the exact format: sums can reach")
    assert differing(found, x)


def test_small_sums_outlive_the_digits_of_the_membrane() -> None:
    """Eleven halvings of a small weight are exact in float32, but not in Loihi's units.

    in -> fc -> l -> out
    """
    ops: dict[str, Op] = {"in": Input(shape=(1,)), "fc": linear(1, 1), "l": Lif(), "out": Output()}
    network = Network(
        graph=wired(ops, " ".join(ops)),
        weights={"fc.weight": np.array([[0.9]])},
        steps=12,
        input=InputSpec(kind="frames", grid_bits=0),
    )
    x = np.zeros((12, 1, 1), np.float32)
    x[0] = 1
    found = quantize(network, x, format="loihi").network
    assert certify(in_format(found, "exact")).holds
    assert (
        format_difference(found)
        == "l halves its potential too often in 12 steps for the unit of its membrane"
    )
    assert differing(found, x)
    assert format_difference(replace(found, steps=8, readout=8)) == ""
    assert not differing(replace(found, steps=8, readout=8), x[:8])


def test_fine_biases_truncate() -> None:
    """A bias of one unit of the membrane does not survive a halving; a threshold may be too high."""
    network = random_network(classifier(), 1, steps=2)
    x = random_input(network, samples=4)
    found = quantize(network, x, format="loihi").network
    assert isinstance(found.format, Loihi)
    assert format_difference(found) == ""
    finer = tuple(k + 1 for k in found.format.exponents["fc.bias"])
    odd = np.exp2(-np.array(finer, np.float64))
    weights = {**found.weights, "fc.bias": odd}
    fine = replace(found, weights=weights, format=Loihi({**found.format.exponents, "fc.bias": finer}))
    assert format_difference(fine) == "lif2 has biases too fine to be halved as often as in 2 steps"
    graph = Graph({**found.graph.ops, "lif1": Lif(threshold=1e5)}, found.graph.edges)
    assert format_difference(replace(found, graph=graph)).startswith("lif1 is not certified in the")


def test_conversion_keeps_weights_and_grids() -> None:
    """There and back is the same network; a float32 network has no grids to keep."""
    network = random_network(classifier(), steps=2)
    exact = quantize(network, random_input(network)).network
    loihi = in_format(exact, "loihi")
    assert isinstance(exact.format, Exact)
    assert loihi.format == Loihi(exact.format.exponents)
    back = in_format(loihi, "exact")
    assert back.format == exact.format
    assert all((back.weights[n] == w).all() for n, w in exact.weights.items())
    with pytest.raises(QuantizeError, match="is in float32, on no grids"):
        in_format(network, "loihi")
    with pytest.raises(QuantizeError, match="is in float32, on no grids"):
        format_difference(network)
