"""Comparing a back end: rounding is explained, mistakes are found and located."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snndeploy.errors import NetworkError
from snndeploy.ir import (
    AvgPool2d,
    Edge,
    Exact,
    Flatten,
    Float32,
    Graph,
    Input,
    InputSpec,
    Lif,
    Network,
    Op,
    Output,
    Trace,
    Upsample,
    certify,
    compare,
    fold,
    parameter_shapes,
    quantize,
    run,
    with_backward,
)
from tests.ir.backend import backend
from tests.ir.graphs import classifier, conv, linear, random_input, random_network, wired
from tests.strategies import Case, Structure, cases, realise

Samples = npt.NDArray[np.float32]


def recurrent(*, bias: bool = True) -> Graph:
    """Two convolutional layers, a fully connected one, a skip, and connections back over two ports and none.

    in (2 x 6 x 6) -> c1 -> l1 -> c2 -> l2 -> pool -> flat -> fc -> l3 -> read -> out
    l1 -> l2, l3 -(1)-> back -> up -> l1, l2 -(2)-> self -> l2
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(2, 6, 6)),
        "c1": conv(2, 4, bias=bias),
        "back": linear(6, 4, bias=bias),
        "up": Upsample(size=(6, 6)),
        "l1": Lif(),
        "c2": conv(4, 4, bias=bias),
        "self": conv(4, 4, 1, bias=bias),
        "l2": Lif(),
        "pool": AvgPool2d(kernel=(2, 2), stride=(2, 2)),
        "flat": Flatten(),
        "fc": linear(36, 6, bias=bias),
        "l3": Lif(),
        "read": linear(6, 3, bias=bias),
        "out": Output(),
    }
    main = "in c1 l1 c2 l2 pool flat fc l3 read out"
    return wired(ops, main, "l1 l2", "l3 ~1 back up l1", "l2 ~2 self l2")


def exact() -> tuple[Network, Samples]:
    """The recurrent network in the exact format, and samples on which it is busy."""
    network = random_network(recurrent(), 206, steps=5)
    x = random_input(network, samples=12)
    found = quantize(network, x).network
    assert all(0.02 < s.mean() < 0.7 for s in run(found, x).spikes.values())
    return found, x


def in_tenths(seed: int, steps: int = 6) -> tuple[Network, Samples]:
    """Weights and input in tenths, so that sums often lie at the threshold but for their rounding."""
    graph = recurrent()
    rng = np.random.default_rng(seed)
    weights = {
        name: np.round(rng.normal(0.05, 0.3 if len(shape) > 1 else 0.1, shape), 1)
        for name, shape in parameter_shapes(graph).items()
    }
    network = Network(graph=graph, weights=weights, steps=steps, readout=3, input=InputSpec())
    x = (rng.integers(0, 11, (8, 2, 6, 6)) / 10).astype(np.float32)
    return network, x


def test_a_trace_agrees_with_itself() -> None:
    """Nothing differs, every layer is listed with its counts, and the report holds plain finite numbers."""
    network, x = exact()
    trace = run(network, x)
    found = compare(network, x, trace, trace, "interpreter")
    assert found.passed
    assert found.exact
    assert found.defects == ()
    assert found.first_divergence is None
    assert (found.differing, found.readout_error, found.top1_agreement) == (0, 0.0, 1.0)
    assert found.forced_readout_error < 1
    assert (found.backend, found.samples) == ("interpreter", 12)
    assert [layer.op for layer in found.layers] == ["l1", "l2", "l3"]
    for layer in found.layers:
        assert layer.compared == trace.spikes[layer.op].size
        assert layer.spikes == trace.spikes[layer.op].sum()
        assert layer.firing_rate == trace.spikes[layer.op].mean()
        assert (layer.flips, layer.unexplained, layer.worst_margin) == (0, 0, 0.0)
    assert found.compared == sum(s.size for s in trace.spikes.values())
    json.dumps(asdict(found), allow_nan=False)


@settings(max_examples=20)
@given(cases(most_layers=3), st.integers(0, 99))
def test_another_order_of_sums_passes(case: Case, seed: int) -> None:
    """Random lively networks, exact ones without any difference, float ones within their rounding."""
    reference = run(case.network, case.x)
    found = compare(case.network, case.x, reference, backend(case.network, case.x, seed), "other")
    assert found.passed
    assert (found.exact, found.differing, found.readout_error) == (True, 0, 0.0)
    other = backend(case.original, case.x, seed)
    found = compare(case.original, case.x, run(case.original, case.x), other, "other")
    assert found.passed
    assert not found.exact


def test_rounding_flips_spikes_and_is_never_a_defect() -> None:
    """Two hundred networks of tenths: hundreds of flips, all within their bound, none called a defect."""
    flips = divergent = 0
    for seed in range(200):
        network, x = in_tenths(seed)
        reference = run(network, x)
        found = compare(network, x, reference, backend(network, x, seed), "other")
        assert found.passed, (seed, found.defects)
        flips += sum(layer.flips for layer in found.layers)
        divergent += found.first_divergence is not None
        assert max(layer.worst_margin for layer in found.layers) <= 1
    assert flips > 300
    assert divergent > 30


def test_double_precision_passes_as_a_back_end() -> None:
    """Its flips are those of the single precision interpreter, explained by their margins."""
    flips = differing = 0
    for seed in range(30):
        network, x = in_tenths(seed)
        found = compare(network, x, run(network, x), run(network, x, dtype=np.float64), "float64")
        assert found.passed
        flips += sum(layer.flips for layer in found.layers)
        differing += found.differing
        single = compare(network, x, run(network, x, dtype=np.float64), run(network, x), "float32")
        assert single.passed
        flips += sum(layer.flips for layer in single.layers)
    assert differing > 0
    assert flips > 0


def test_errors_of_long_sums_are_explained() -> None:
    """A hundred thousand terms of one sign, added one after another: far off, but not further than it may be."""
    count = 2**17
    ops: dict[str, Op] = {"in": Input(shape=(count,)), "fc": linear(count, 1), "l": Lif(), "out": Output()}
    weights = {"fc.weight": np.full((1, count), 0.1)}
    graph = wired(ops, "in fc out", "in fc l out")
    network = Network(graph=graph, weights=weights, steps=1, input=InputSpec())
    x = np.ones((1, count), np.float32)
    exact_sum = count * float(np.float32(0.1)) + 1
    other = backend(network, x)
    assert abs(other.readout_sum.item() - exact_sum) > 100 * 2.0**-24 * exact_sum
    found = compare(network, x, run(network, x), other, "one by one")
    assert found.passed
    assert found.forced_readout_error > 0.001


def test_errors_that_pile_up_in_a_membrane_are_explained() -> None:
    """Without leak a thousand steps of 0.1 fall short of 99.9995, which they should reach."""
    ops: dict[str, Op] = {"in": Input(shape=(1,)), "l": Lif(tau=1.0, threshold=99.9995), "out": Output()}
    network = Network(graph=wired(ops, "in l out"), weights={}, steps=1000, input=InputSpec())
    x = np.full((1, 1), 0.1, np.float32)
    single, double = run(network, x, potentials=True), run(network, x, potentials=True, dtype=np.float64)
    assert single.potentials["l"][-1].item() < 99.9995 < double.potentials["l"][-1].item()
    found = compare(network, x, double, single, "single")
    assert found.passed
    assert found.layers[0].flips == 1
    last_step = 4 * 2.0**-24 * 100
    assert double.potentials["l"][-1].item() - 99.9995 > 10 * last_step, "more than one step can explain"


def changed(network: Network, parameter: str, by: float, index: tuple[int, ...] | None = None) -> Network:
    """The network with one value of a parameter changed, by default the first channels' centre, as floats."""
    array = network.weights[parameter].copy()
    array[index or (0, 0, *(n // 2 for n in array.shape[2:]))[: array.ndim]] += np.float32(by)
    weights = {**network.weights, parameter: array}
    return replace(network, weights=weights, format=Float32())


BUSY = 22  # a pooled pixel that spikes reach
FEEDS = [
    ("c1", "l1"),
    ("back", "l1"),
    ("c2", "l2"),
    ("self", "l2"),
    ("fc", "l3"),
    ("read", "readout"),
]


@pytest.mark.parametrize(("op", "layer"), FEEDS)
@pytest.mark.parametrize("parameter", ["weight", "bias"])
@pytest.mark.parametrize("kind", ["exact", "float32"])
def test_one_changed_number_is_found_in_its_layer(op: str, layer: str, parameter: str, kind: str) -> None:
    """A weight or bias of any op: the first defect names the layer it feeds, and only that layer has any."""
    network, x = exact() if kind == "exact" else in_tenths(3)
    name = f"{op}.{parameter}"
    place = (0, BUSY) if name == "fc.weight" else None
    wrong = changed(network, name, 1.0, place)
    found = compare(network, x, run(network, x), run(wrong, x), "wrong")
    assert not found.passed
    assert found.defects[0].startswith(f"{layer}: ")
    assert len(found.defects) == 1
    if layer == "readout":
        assert found.differing == 0
        assert found.forced_readout_error > 1
    else:
        assert found.first_divergence is not None
        assert [entry.op for entry in found.layers if entry.unexplained] == [layer]


def test_the_smallest_change_of_an_exact_weight_is_found() -> None:
    """One unit of one mantissa, where it changes a spike at all."""
    network, x = exact()
    assert isinstance(network.format, Exact)
    k = network.format.exponents["c2.weight"]
    seen = 0
    for channel in range(4):
        wrong = changed(network, "c2.weight", 2.0 ** -k[channel], (channel, 0, 1, 1))
        found = compare(network, x, run(network, x), run(wrong, x), "wrong")
        if found.differing:
            seen += 1
            assert found.defects[0].startswith("l2: ")
    assert seen >= 2


def test_a_tie_that_fires_is_found() -> None:
    """A back end with >= instead of >: only l2 can meet its threshold exactly, as l1's is on no grid."""
    graph = classifier()
    ops = {**graph.ops, "lif1": Lif(threshold=0.3)}
    weights = {name: np.round(w * 4) / 4 for name, w in random_network(graph).weights.items()}
    exponents = {name: (2,) * len(w) for name, w in weights.items()}
    network = Network(
        graph=Graph(ops, graph.edges),
        weights=weights,
        steps=4,
        input=InputSpec(grid_bits=4),
        format=Exact(exponents),
    )
    assert certify(network).holds
    x = random_input(network, samples=20)
    trace = run(network, x, potentials=True)
    assert not (trace.potentials["lif1"] == np.float32(0.3)).any()
    assert (trace.potentials["lif2"] == 1).any()
    wrong = backend(network, x, fires=np.greater_equal)
    found = compare(network, x, trace, wrong, "wrong")
    assert found.defects[0].startswith("lif2: ")
    assert found.first_divergence is not None
    assert found.first_divergence.potential == found.first_divergence.threshold == 1.0
    assert not found.first_divergence.expected
    # In single precision nobody can know on which side of its threshold such a neuron was.
    single = replace(network, format=Float32())
    found = compare(single, x, run(single, x), wrong, "wrong")
    assert found.passed
    assert sum(layer.flips for layer in found.layers) > 0


@pytest.mark.parametrize("kind", ["exact", "float32"])
def test_a_backward_connection_that_comes_late_is_found(kind: str) -> None:
    """l3 -> l1 after two steps instead of one: l1 is wrong, and nothing else is."""
    network, x = exact() if kind == "exact" else in_tenths(3)
    edges = tuple(replace(e, delay=2) if e == Edge("l3", "back", 1) else e for e in network.graph.edges)
    late = replace(network, graph=Graph(network.graph.ops, edges))
    found = compare(network, x, run(network, x), run(late, x), "late")
    assert [d.split(":")[0] for d in found.defects] == ["l1"]
    assert found.first_divergence is not None
    assert (found.first_divergence.op, found.first_divergence.step) == ("l1", 1)


@pytest.mark.parametrize("kind", ["exact", "float32"])
def test_a_missing_reset_is_found(kind: str) -> None:
    """Every layer keeps its charge after a spike: the first defect is in the first layer."""
    network, x = exact() if kind == "exact" else in_tenths(3)
    found = compare(network, x, run(network, x), backend(network, x, resets=False), "no reset")
    assert [d.split(":")[0] for d in found.defects] == ["l1", "l2", "l3"]


def test_a_wrong_leak_is_found() -> None:
    """Another tau in the last layer only."""
    network, x = exact()
    ops = {**network.graph.ops, "l3": Lif(tau=0.25)}
    leaky = replace(network, graph=Graph(ops, network.graph.edges))
    found = compare(network, x, run(network, x), run(leaky, x), "leaky")
    assert [d.split(":")[0] for d in found.defects] == ["l3"]


def test_wrong_readouts_are_found() -> None:
    """Another window, a sum that is a little off, logits that were not divided."""
    for make in (exact, lambda: in_tenths(3)):
        network, x = make()
        trace = run(network, x)
        window = run(replace(network, readout=1), x)
        wrong = [
            replace(trace, readout_sum=window.readout_sum, logits=window.logits),
            replace(trace, readout_sum=trace.readout_sum + np.float32(0.01)),
            replace(trace, logits=trace.readout_sum),
            replace(trace, logits=trace.logits + np.float32(0.01)),
        ]
        for found in (compare(network, x, trace, w, "wrong") for w in wrong):
            assert [d.split(":")[0] for d in found.defects] == ["readout"]
            assert found.differing == 0


def test_exact_sums_allow_no_rounding_at_all() -> None:
    """A readout off by less than single precision could explain is a defect of a certified network."""
    network, x = exact()
    trace = run(network, x)
    off = np.nextafter(trace.readout_sum, np.float32(99))
    found = compare(network, x, trace, replace(trace, readout_sum=off), "wrong")
    assert found.forced_readout_error < 1
    assert found.defects == (
        f"exact format: 0 spikes differ, readout differs by {np.abs(off - trace.readout_sum).max():g}",
    )
    single = replace(network, format=Float32())
    assert compare(single, x, trace, replace(trace, readout_sum=off), "rounded").passed


def test_exact_weights_without_certificate_promise_nothing() -> None:
    """Too many steps for the certificate: the network is judged as one in single precision."""
    network, x = exact()
    network = replace(network, steps=30, readout=30)
    assert not certify(network).holds
    trace = run(network, x)
    found = compare(network, x, trace, backend(network, x), "other")
    assert not found.exact
    assert found.passed


def flipped(trace: Trace, *places: tuple[str, tuple[int, ...]]) -> Trace:
    """The trace with some spikes flipped."""
    spikes = {name: s.copy() for name, s in trace.spikes.items()}
    for name, place in places:
        spikes[name][place] ^= True
    return replace(trace, spikes=spikes)


def test_the_first_divergence_is_the_earliest() -> None:
    """Earliest step, then earliest layer, then first sample, then first neuron, whatever else differs."""
    network, x = exact()
    trace = run(network, x, potentials=True)
    late = [("l1", (4, 0, 0, 0, 0)), ("l3", (3, 0, 0)), ("l2", (3, 9, 3, 5, 5))]
    first = ("l2", (3, 2, 1, 4, 0))
    found = compare(network, x, trace, flipped(trace, *late, first), "flipped").first_divergence
    assert found is not None
    assert (found.step, found.op, found.sample, found.neuron) == (3, "l2", 2, (1, 4, 0))
    assert found.expected == trace.spikes["l2"][first[1]]
    assert found.potential == trace.potentials["l2"][first[1]]
    assert found.threshold == 1.0
    earlier = compare(network, x, trace, flipped(trace, *late, first, ("l3", (1, 11, 5))), "flipped")
    assert earlier.first_divergence is not None
    assert (earlier.first_divergence.step, earlier.first_divergence.op) == (1, "l3")


def test_one_flip_is_one_flip_however_far_it_spreads() -> None:
    """A single wrong spike in l1 changes everything behind it; forced, it is one flip in one layer."""
    network, x = exact()
    trace = run(network, x, potentials=True)
    place = (1, 3, 2, 3, 3)
    # A back end that is right but for this one spike: the consequences are computed from its own spikes.
    wrong = run_with_flip(network, x, "l1", place)
    found = compare(network, x, trace, wrong, "wrong")
    assert found.differing > 1
    assert {layer.op: layer.flips for layer in found.layers} == {"l1": 1, "l2": 0, "l3": 0}
    assert found.first_divergence is not None
    assert (found.first_divergence.step, found.first_divergence.sample) == (1, 3)
    assert found.defects[0].startswith("l1: 1 flips")


def run_with_flip(network: Network, x: Samples, layer: str, place: tuple[int, ...]) -> Trace:
    """A run in which one spike is flipped when it happens, and all that follows from it."""
    calls = -1

    def fires(u: Samples, threshold: np.float32) -> npt.NDArray[np.bool_]:
        nonlocal calls
        calls += 1
        spikes: npt.NDArray[np.bool_] = u > threshold
        step, port = divmod(calls, len(network.graph.ports))
        if step == place[0] and network.graph.ports[port] == layer:
            spikes[place[1:]] ^= True
        return spikes

    return backend(network, x, fires=fires)


def test_more_samples_than_are_compared_together() -> None:
    """Counts add up over batches, for images and frames, and nothing to compare is no defect."""
    case = realise(Structure((1, 6, 6), (), (8, 5), ((1, 0, 1),), 4, 2, frames=True, seed=1))
    x = np.tile(case.x, (1, 18, 1, 1, 1))
    trace = run(case.network, x)
    wrong = flipped(trace, *(("h0.lif", (2, sample, 0)) for sample in (0, 31, 32, 70)))
    found = compare(case.network, x, trace, wrong, "flipped")
    assert {layer.op: layer.differing for layer in found.layers} == {"h0.lif": 4, "h1.lif": 0}
    assert found.layers[0].unexplained >= 4
    nothing = compare(
        case.network, x[:, :0], run(case.network, x[:, :0]), run(case.network, x[:, :0]), "none"
    )
    assert nothing.passed
    assert nothing.samples == nothing.compared == 0


def test_a_neuron_that_fires_without_any_input_is_found() -> None:
    """No sum, no rounding, no excuse; the report still holds finite numbers."""
    network, x = exact()
    silent = replace(network, weights={n: np.zeros_like(w) for n, w in network.weights.items()})
    for kind in (silent, replace(silent, format=Float32())):
        trace = run(kind, x)
        found = compare(kind, x, trace, flipped(trace, ("l3", (0, 0, 0))), "noisy")
        assert found.defects[0].startswith("l3: 1 flips")
        json.dumps(asdict(found), allow_nan=False)


def test_unfolded_networks_can_be_compared() -> None:
    """The bound covers BatchNorm, whose sums can be done in two ways; a wrong mean is still found."""
    graph = with_backward(classifier(norm=True), 1, 0)
    for seed in range(30):
        network = random_network(graph, seed, steps=6)
        shifted = {n: w * 100 for n, w in network.weights.items() if n.endswith("running_mean")}
        x = random_input(network, seed, samples=20)
        for weights in (network.weights, {**network.weights, **shifted}):  # in the second much cancels
            network = replace(network, weights=weights)
            reference = run(network, x)
            assert compare(network, x, run(network, x, dtype=np.float64), reference, "single").passed
            assert compare(network, x, reference, run(fold(network), x), "folded").passed
    network = random_network(graph, 0, steps=6)
    mean = network.weights["norm.running_mean"] + 0.1
    wrong = replace(network, weights={**network.weights, "norm.running_mean": mean})
    found = compare(network, x, run(network, x), run(wrong, x), "wrong")
    assert [d.split(":")[0] for d in found.defects] == ["lif1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: replace(t, spikes={"l1": t.spikes["l1"], "l2": t.spikes["l2"]}),
            "other: gave no spikes of l3",
        ),
        (lambda t: replace(t, spikes={**t.spikes, "l2": t.spikes["l2"][:, :1]}), "other: l2: spikes must be"),
        (
            lambda t: replace(t, spikes={**t.spikes, "l2": t.spikes["l2"].astype(np.uint8)}),
            "got uint8 of shape",
        ),
        (
            lambda t: replace(t, readout_sum=t.readout_sum[:, :2]),
            "other: readout_sum: must be finite numbers",
        ),
        (lambda t: replace(t, readout_sum=t.readout_sum[0]), "other: readout_sum: must be finite numbers"),
        (lambda t: replace(t, logits=t.logits[:1]), "other: logits: must be finite numbers"),
        (lambda t: replace(t, readout_sum=t.readout_sum * np.nan), "readout_sum: .* got NaN or infinity"),
        (lambda t: replace(t, logits=t.logits + np.inf), "logits: .* got NaN or infinity"),
    ],
)
def test_traces_that_cannot_be_compared(change: Any, message: str) -> None:
    """A missing layer, other shapes, other types and NaN are errors that name the back end."""
    network, x = exact()
    trace = run(network, x)
    with pytest.raises(NetworkError, match=message):
        compare(network, x, trace, change(trace), "other")
