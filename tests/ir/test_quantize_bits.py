"""The exact format with fewer bits, and with one exponent for a layer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snndeploy.ir import Exact, Input, InputSpec, Lif, Network, Op, Output, certify, fingerprint, quantize
from snndeploy.ir.formats import mantissa
from tests.ir.graphs import classifier, linear, random_input, random_network, wired
from tests.strategies import Structure, realise, structures


@settings(max_examples=30)
@given(structures(most_layers=3), st.integers(2, 8), st.sampled_from(["channel", "layer"]))
def test_mantissas_stay_within_their_bits(structure: Structure, bits: int, granularity: str) -> None:
    """Certified with any number of bits; a layer has one exponent, and reports count what was clipped."""
    case = realise(structure)
    found = quantize(case.original, case.x, bits=bits, granularity=granularity)  # type: ignore[arg-type]  # one of two
    assert certify(found.network).holds
    assert isinstance(found.network.format, Exact)
    for report in found.roundings:
        name = report.parameter
        k = found.network.format.exponents[name]
        assert report.exponents == (min(k), max(k))
        if name.endswith(".weight"):
            units = mantissa(found.network.weights[name], k)
            assert (units == np.round(units)).all()
            assert np.abs(units).max() <= 2 ** (bits - 1) - 1
            assert granularity == "channel" or len(set(k)) == 1
            given_units = np.abs(mantissa(case.original.weights[name], k))
            assert report.clipped == (given_units > 2 ** (bits - 1) - 0.5).sum()


def test_eight_bits_for_each_channel_are_the_default() -> None:
    """Naming the defaults changes nothing."""
    network = random_network(classifier())
    x = random_input(network)
    plain = quantize(network, x)
    named = quantize(network, x, format="exact", bits=8, granularity="channel")
    assert fingerprint(plain.network) == fingerprint(named.network)
    assert plain.roundings == named.roundings


def single(weights: list[list[float]]) -> Network:
    """One layer: in -> fc -> l -> out."""
    ops: dict[str, Op] = {
        "in": Input(shape=(len(weights[0]),)),
        "fc": linear(len(weights[0]), len(weights)),
        "l": Lif(),
        "out": Output(),
    }
    return Network(
        graph=wired(ops, " ".join(ops)),
        weights={"fc.weight": np.array(weights)},
        steps=1,
        input=InputSpec(grid_bits=0),
    )


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (2, [[1.0, 1.0, 0.0]]),
        (3, [[1.5, 0.5, -0.5]]),
        (4, [[1.5, 0.5, -0.25]]),
        (8, [[1.453125, 0.546875, -0.296875]]),
    ],
)
def test_values_of_few_bits(bits: int, expected: list[list[float]]) -> None:
    """1.45, 0.55 and -0.3 with mantissas of up to 1, 3, 7 and 127."""
    network = single([[1.45, 0.55, -0.3]])
    found = quantize(network, np.ones((1, 3)), bits=bits).network.weights["fc.weight"]
    assert found.tolist() == expected


def test_one_exponent_serves_the_larger_errors_first() -> None:
    """A layer's grid is that of its large channels; alone, a small channel would be finer."""
    network = single([[0.9, 0.6], [0.009, 0.006]])
    layer, channel = (quantize(network, np.ones((1, 2)), granularity=g).network for g in ("layer", "channel"))
    assert isinstance(layer.format, Exact)
    assert isinstance(channel.format, Exact)
    assert layer.format.exponents["fc.weight"] == (7, 7)
    assert channel.format.exponents["fc.weight"] == (7, 13)
