"""From single precision to the exact format: what is kept, what is lost, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from snndeploy.errors import NetworkError, QuantizeError
from snndeploy.ir import (
    AvgPool2d,
    Exact,
    Flatten,
    Graph,
    Input,
    InputSpec,
    Lif,
    Network,
    Op,
    Output,
    Upsample,
    certify,
    fingerprint,
    quantize,
    run,
    with_backward,
)
from snndeploy.ir.quantize.posttraining import Quantized
from snndeploy.ir.quantize.rounding import Rounding
from tests.ir.graphs import classifier, conv, linear, random_input, random_network, wired
from tests.strategies import Case, Layer, Structure, cases, realise, structures


def exponents(quantized: Quantized, parameter: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """K of each channel of a parameter."""
    assert isinstance(quantized.network.format, Exact)
    return np.array(quantized.network.format.exponents[parameter])


def mantissas(quantized: Quantized, parameter: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A parameter in units of its grids."""
    array = quantized.network.weights[parameter].astype(np.float64)
    scale: np.ndarray[Any, np.dtype[np.float64]] = np.exp2(exponents(quantized, parameter).astype(np.float64))
    return array * scale.reshape(-1, *[1] * (array.ndim - 1))


def rounding(quantized: Quantized, parameter: str) -> Rounding:
    """What the report says of a parameter."""
    return next(r for r in quantized.roundings if r.parameter == parameter)


@settings(max_examples=40)
@given(cases(most_layers=3))
def test_random_networks_keep_the_rules_of_the_format(case: Case) -> None:
    """Eight-bit mantissas, a power of two per channel, graph and settings unchanged, a certificate that holds."""
    found = quantize(case.original, case.x)
    network, original = found.network, case.original
    assert found.certificate.holds
    assert certify(network) == found.certificate
    assert network.graph == original.graph
    assert (network.steps, network.readout, network.input) == (
        original.steps,
        original.readout,
        original.input,
    )
    assert [r.parameter for r in found.roundings] == list(network.weights)
    for name, array in network.weights.items():
        units = mantissas(found, name)
        assert (units == np.round(units)).all()
        assert np.abs(units).max() <= (127 if name.endswith(".weight") else 2**24)
        assert not np.signbit(array[array == 0]).any(), "a file holds no negative zero"
        given = original.weights[name].astype(np.float64)
        report = rounding(found, name)
        assert report.size == given.size
        assert report.exponents == (exponents(found, name).min(), exponents(found, name).max())
        spread = np.sqrt((given**2).mean())
        assert report.relative_error == pytest.approx(
            np.sqrt(((given - array) ** 2).mean()) / spread, rel=1e-6
        )
        if name.endswith(".weight"):
            k = exponents(found, name).reshape(-1, *[1] * (given.ndim - 1))
            clipped = np.abs(given) * np.exp2(k) > 127.5
            assert report.clipped == clipped.sum()
            assert (np.abs(given - array) <= 0.5 * np.exp2(-k) * (1 + 1e-12))[~clipped].all()


@settings(max_examples=8)
@given(structures(most_layers=2))
def test_certified_for_up_to_eight_steps(structure: Structure) -> None:
    """More steps leave fewer digits, down to T = 8 without an error."""
    case = realise(replace(structure, frames=False))
    for steps in range(case.original.graph.largest_delay + 1, 9):
        network = replace(case.original, steps=steps, readout=1)
        assert quantize(network, case.x).certificate.holds


def lively() -> Case:
    """A residual network with a backward connection over three ports."""
    layers = (Layer("chain", 6), Layer("projection", 6, stride=2, pool=True), Layer("residual", 6))
    return realise(Structure((1, 8, 8), layers, (8,), ((3, 0, 1),), steps=4, readout=4, frames=False, seed=3))


def of_digits() -> tuple[Network, np.ndarray[Any, np.dtype[np.float32]], np.ndarray[Any, np.dtype[np.int64]]]:
    """Random spiking features with a readout fitted to the first 900 digits, all digits and their labels.

    in (1 x 8 x 8) -> conv1 -> l1 -> conv2 (stride 2) -> l2 -> flat -> fc -> out, and l2 -(1)-> back -> up -> l1
    """
    digits = load_digits()
    x, labels = (digits.images[:, None] / 16).astype(np.float32), digits.target
    ops: dict[str, Op] = {
        "in": Input(shape=(1, 8, 8)),
        "conv1": conv(1, 16, bias=True),
        "back": conv(16, 16, 1, bias=True),
        "up": Upsample(size=(8, 8)),
        "l1": Lif(),
        "conv2": conv(16, 16, stride=2, bias=True),
        "l2": Lif(),
        "flat": Flatten(),
        "fc": linear(256, 10, bias=True),
        "out": Output(),
    }
    network = random_network(wired(ops, "in conv1 l1 conv2 l2 flat fc out", "l2 ~1 back up l1"), 3)
    weights = {**network.weights, "back.weight": 0.3 * network.weights["back.weight"]}
    network = replace(network, weights=weights)
    features = run(network, x[:900]).spikes["l2"].mean(axis=0).reshape(900, -1)
    features = np.column_stack([features, np.ones(900)])
    ridge = features.T @ features + np.eye(257)
    readout = np.linalg.solve(ridge, features.T @ np.eye(10)[labels[:900]])
    fitted = {**weights, "fc.weight": readout[:-1].T, "fc.bias": readout[-1]}
    return replace(network, weights=fitted), x, labels


def test_the_exact_network_decides_like_the_original() -> None:
    """On digits neither has seen: at least 92 of 100 answers are the same, and as many are right."""
    network, x, labels = of_digits()
    exact = quantize(network, x[:64]).network
    before, after = (run(n, x[900:]) for n in (network, exact))
    rates = [s.mean() for s in after.spikes.values()]
    assert all(0.02 < rate < 0.6 for rate in rates)
    answers, accuracy = [], []
    for trace in (before, after):
        answers.append(trace.logits.argmax(axis=1))
        accuracy.append((answers[-1] == labels[900:]).mean())
    assert min(accuracy) > 0.8
    assert accuracy[1] > accuracy[0] - 0.01
    assert (answers[0] == answers[1]).mean() >= 0.92


def test_the_same_twice() -> None:
    """Nothing is drawn at random, and the original is left alone."""
    case = lively()
    before = fingerprint(case.original)
    first, second = quantize(case.original, case.x), quantize(case.original, case.x)
    assert fingerprint(first.network) == fingerprint(second.network)
    assert (first.certificate, first.roundings) == (second.certificate, second.roundings)
    assert fingerprint(case.original) == before


def test_calibration_does_not_depend_on_how_samples_are_grouped() -> None:
    """More samples than are looked at together count alike; the order does not matter either."""
    network = random_network(classifier())
    x = random_input(network, samples=70)
    weights = [quantize(network, part).network.weights for part in (x, x[::-1], np.concatenate([x, x]))]
    for name, array in weights[0].items():
        for other in weights[1:]:
            np.testing.assert_allclose(array, other[name], atol=2e-6)


def single(weights: list[float], bias: float = 0.0, **settings: Any) -> Network:
    """One neuron: in -> fc -> l -> out."""
    ops: dict[str, Op] = {
        "in": Input(shape=(len(weights),)),
        "fc": linear(len(weights), 1, bias=True),
        "l": Lif(),
        "out": Output(),
    }
    parameters = {"fc.weight": np.array([weights]), "fc.bias": np.array([bias])}
    settings = {"steps": 1, "input": InputSpec(grid_bits=4), **settings}
    return Network(graph=wired(ops, " ".join(ops)), weights=parameters, **settings)


def test_biases_make_up_for_what_rounding_shifts() -> None:
    """Weights of 100.4 and 50.4 units both lose 0.4 where the input is always 1: the bias gains 0.8 units."""
    network = single([100.4 / 128, 50.4 / 128], bias=0.25)
    found = quantize(network, np.ones((4, 2)))
    assert mantissas(found, "fc.weight").tolist() == [[100, 50]]
    assert found.network.weights["fc.bias"].item() == pytest.approx(0.25 + 0.8 / 128, abs=1e-5)
    # Half the input, half the correction; no input, none.
    halved = quantize(network, np.full((4, 2), 0.5)).network.weights["fc.bias"].item()
    assert halved == pytest.approx(0.25 + 0.4 / 128, abs=1e-5)
    silent = quantize(network, np.zeros((4, 2))).network.weights["fc.bias"].item()
    assert silent == pytest.approx(0.25, abs=1e-5)


def test_outliers_that_hardly_ever_act_are_clipped() -> None:
    """A large weight on an input that is nearly silent: it is clipped so that the others are finer."""
    weights = [0.99, *([0.2003] * 40)]
    x = np.ones((64, 41), np.float32)
    x[1:, 0] = 0
    kept = quantize(single(weights), np.ones((64, 41)))
    assert (rounding(kept, "fc.weight").clipped, exponents(kept, "fc.weight").item()) == (0, 7)
    x[0, 0] = 1 / 16
    clipped = quantize(single(weights), x)
    assert (rounding(clipped, "fc.weight").clipped, exponents(clipped, "fc.weight").item()) == (1, 8)
    assert mantissas(clipped, "fc.weight").max() == 127


def test_channels_have_grids_of_their_own() -> None:
    """A channel with weights a thousand times smaller keeps its precision; a silent one is harmless."""
    network = random_network(classifier(), steps=2)
    weight = network.weights["fc.weight"].copy()
    weight[1] /= 1024
    weight[2] = 0
    found = quantize(
        replace(network, weights={**network.weights, "fc.weight": weight}), random_input(network)
    )
    k = exponents(found, "fc.weight")
    assert k[1] > k[0] + 6
    assert not found.network.weights["fc.weight"][2].any()
    assert (np.abs(mantissas(found, "fc.weight")).max(axis=1) > 3).tolist() == [True, True, False, True, True]


def test_a_branch_with_tiny_weights_does_not_cost_the_others_their_digits() -> None:
    """A backward connection that learned next to nothing is coarsened before the layer it feeds."""
    graph = classifier()
    ops = {n: conv(2, 3, bias=True) if n == "conv" else op for n, op in graph.ops.items()}
    graph = with_backward(Graph(ops, graph.edges), 1, 0)
    ops = {n: op for n, op in graph.ops.items() if n != "back1_0.norm"}
    ops["back1_0.conv"] = linear(5, 3, bias=True)
    edges = [e for e in graph.edges if "back1_0.norm" not in (e.source, e.target)]
    joined = wired({"a": Input(shape=(1,)), "o": Output()}, "a o").edges[0]
    graph = Graph(ops, (*edges, replace(joined, source="back1_0.conv", target="back1_0.upsample")))
    network = random_network(graph, steps=6)
    x = random_input(network, samples=16)
    plain = quantize(network, x)
    branch = {n: w * 1e-6 if n.startswith("back") else w for n, w in network.weights.items()}
    tiny = quantize(replace(network, weights=branch), x)
    assert tiny.certificate.holds
    assert rounding(tiny, "conv.weight").relative_error <= rounding(plain, "conv.weight").relative_error
    assert exponents(tiny, "conv.bias").min() >= exponents(plain, "conv.bias").min()
    assert exponents(tiny, "back1_0.conv.weight").max() < 20


@settings(max_examples=60)
@given(st.integers(0, 10**6))
def test_any_scale_is_certified_or_refused(seed: int) -> None:
    """Channels from 1e-9 to 1e9, zeros and huge biases: a certificate that holds, or QuantizeError; it ends."""
    rng = np.random.default_rng(seed)
    network = random_network(classifier(), seed, steps=int(rng.integers(1, 9)))
    scaled = {}
    for name, array in network.weights.items():
        scale = 10.0 ** rng.uniform(-9, rng.choice([0, 0, 9]), (len(array), *[1] * (array.ndim - 1)))
        scaled[name] = array * scale * rng.choice([0, 1, 1, 1], scale.shape)
    threshold = float(10.0 ** rng.uniform(-5, 5))
    ops = {n: Lif(threshold=threshold) if isinstance(op, Lif) else op for n, op in network.graph.ops.items()}
    network = replace(network, graph=Graph(ops, network.graph.edges), weights=scaled)
    try:
        found = quantize(network, random_input(network))
    except QuantizeError as error:
        assert error.where in network.graph.ops  # noqa: PT017 - most are certified
        return
    assert certify(found.network).holds
    assert not any(np.signbit(w[w == 0]).any() for w in found.network.weights.values())


def pooled() -> Graph:
    """Graph: in (1 x 3 x 3) -> conv -> l -> pool (3 x 3) -> flat -> fc -> out."""
    ops: dict[str, Op] = {
        "in": Input(shape=(1, 3, 3)),
        "conv": conv(1, 2),
        "l": Lif(),
        "pool": AvgPool2d(kernel=(3, 3), stride=(3, 3)),
        "flat": Flatten(),
        "fc": linear(2, 2),
        "out": Output(),
    }
    return wired(ops, " ".join(ops))


def test_what_cannot_be_certified_is_named() -> None:
    """A pool of area 9, a leak that is no power of two, too many steps, an input too fine for a direct edge."""
    with pytest.raises(
        QuantizeError, match=r"area 9 is no power of two; use fewer time steps, tau"
    ) as caught:
        quantize(random_network(pooled()), np.zeros((1, 1, 3, 3)))
    assert caught.value.where == "pool"
    graph = classifier()
    leaky = Graph({**graph.ops, "lif2": Lif(tau=0.3)}, graph.edges)
    with pytest.raises(QuantizeError, match=r"tau 0.3 is no power of two") as caught:
        quantize(random_network(leaky), random_input(random_network(leaky)))
    assert caught.value.where == "lif2"
    with pytest.raises(QuantizeError, match=r"sums can reach .* units, above 2\*\*24") as caught:
        quantize(random_network(graph, steps=30), random_input(random_network(graph)))
    assert caught.value.where in ("lif1", "lif2")
    direct: dict[str, Op] = {"in": Input(shape=(2,)), "l": Lif(), "out": Output()}
    spec = InputSpec(grid_bits=16)
    network = Network(graph=wired(direct, "in l out"), weights={}, steps=12, input=spec)
    with pytest.raises(QuantizeError, match="sums can reach") as caught:
        quantize(network, np.zeros((1, 2)))
    assert caught.value.where == "l"


def test_what_the_caller_must_mend() -> None:
    """An unfolded network, an input on no grid, calibration data off the grid or none at all."""
    with pytest.raises(NetworkError, match="BatchNorm exists only while training"):
        quantize(random_network(classifier(norm=True)), np.zeros((1, 2, 4, 4)))
    network = random_network(classifier(), input=InputSpec())
    with pytest.raises(NetworkError, match="set grid_bits"):
        quantize(network, np.zeros((1, 2, 4, 4)))
    network = random_network(classifier())
    with pytest.raises(NetworkError, match=r"whole multiples of 2..-4; prepare the raw data"):
        quantize(network, np.full((1, 2, 4, 4), 0.3))
    with pytest.raises(NetworkError, match="must lie in"):
        quantize(network, np.full((1, 2, 4, 4), 2.0))
    with pytest.raises(QuantizeError, match="needs at least one sample"):
        quantize(network, np.zeros((0, 2, 4, 4)))
    with pytest.raises(NetworkError, match="must have shape"):
        quantize(network, np.zeros((1, 2, 4, 5)))
