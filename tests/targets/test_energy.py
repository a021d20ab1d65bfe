"""Energy: whole-number counts from graph and spikes, prices from a profile, and what is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from snndeploy.backbones import backbone
from snndeploy.errors import NetworkError
from snndeploy.ir import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Edge,
    Flatten,
    Graph,
    Input,
    InputSpec,
    Lif,
    Linear,
    Network,
    Op,
    Output,
    parameter_shapes,
    run,
    with_backward,
)
from snndeploy.ir.fanout import psi
from snndeploy.ir.kernels import apply
from snndeploy.targets import profile
from snndeploy.targets.counts import count, merge
from snndeploy.targets.energy import estimate
from snndeploy.targets.profile import Interval, Price, TargetProfile
from tests.strategies import random_weights

Spikes = Mapping[str, npt.NDArray[np.bool_]]


def network_of(
    graph: Graph, steps: int, kind: Literal["image", "frames"] = "image", seed: int = 0
) -> Network:
    """A network with random weights and a moderate bias-free drive."""
    weights = random_weights(graph, np.random.default_rng(seed))
    return Network(graph=graph, weights=weights, steps=steps, input=InputSpec(kind=kind))


def tiny_graph() -> Graph:
    """A fully connected layer of three neurons with a self-loop: input (2) -> fc1 -> A -> fc2 -> output; A ~> A."""
    ops: dict[str, Op] = {
        "input": Input(shape=(2,)),
        "fc1": Linear(in_features=2, out_features=3),
        "A": Lif(),
        "fc2": Linear(in_features=3, out_features=2),
        "output": Output(),
    }
    return Graph(ops, (*(Edge(a, b) for a, b in pairwise(ops)), Edge("A", "A", 1)))


def tiny_spikes() -> dict[str, npt.NDArray[np.bool_]]:
    """Two steps of two samples: the first emits 3 spikes, the second 1, and the middle neuron is dead."""
    by_step = [[[1, 0, 1], [0, 0, 0]], [[1, 0, 0], [0, 0, 1]]]
    return {"A": np.array(by_step, dtype=np.bool_)}


def small_network(steps: int = 3) -> tuple[Network, Spikes]:
    """resnet8 on 8x8 maps with a backward connection, and its spikes for 6 random images."""
    graph = with_backward(backbone("resnet8", (2, 8, 8), 4), 4, 1)
    network = network_of(graph, steps)
    return network, run(network, np.random.default_rng(1).random((6, 2, 8, 8))).spikes


def priced(**amounts: float) -> TargetProfile:
    """A profile with these prices per term of `energy`, and no range."""
    prices = {
        f"energy.{term}": Price(Interval(value, value, value), "pJ", "a test", "measured")
        for term, value in amounts.items()
    }
    return TargetProfile(name="test", notes="For a test.", prices=prices)


def test_counts_of_a_tiny_network_by_hand() -> None:
    """Spikes, synaptic operations per path, multiply-accumulates, updates and dead neurons, counted by hand."""
    counts = count(network_of(tiny_graph(), 2), tiny_spikes())
    assert (counts.samples, counts.steps, counts.neurons, counts.neuron_updates) == (2, 2, 3, 9)
    assert counts.machine_steps == 3  # two logical steps and a blank one for the self-loop, II = 1
    assert [(str(s.fanout), list(s.operations)) for s in counts.synapses] == [
        ("A -> fc2", [6, 2]),  # two synapses for each of 3 spikes and of 1
        ("A -> A (delay 1)", [3, 1]),
    ]
    assert list(counts.synaptic_operations) == [9, 3]
    assert counts.synaptic_operations.dtype == np.int64
    assert [(m.target, m.macs, m.constant) for m in counts.macs] == [("fc1", 6, True)]
    assert (counts.mac_operations(), counts.mac_operations(once=True)) == (12, 6)
    assert [(layer.name, list(layer.spikes), layer.dead) for layer in counts.layers] == [("A", [3, 1], 1)]
    assert counts.uncounted == ()


def test_idle_updates_count() -> None:
    """A backward connection over three ports makes II = 4, and every neuron is served in all of its steps."""
    network, spikes = small_network()
    counts = count(network, spikes)
    assert counts.machine_steps == (3 + 1) * 4
    assert counts.neuron_updates == 16 * sum(array[0, 0].size for array in spikes.values())


def test_energy_of_a_tiny_network_by_hand() -> None:
    """0.9 pJ for each of 6 mean synaptic operations and 4.6 pJ for each of 12 multiply-accumulates."""
    energy = estimate(count(network_of(tiny_graph(), 2), tiny_spikes()), profile.load("paper-45nm"))
    assert energy.e_snn_pj == Interval(6 * 0.9, 6 * 0.03, 6 * 5.9)
    assert energy.mac_pj == Interval(12 * 4.6, 12 * 0.23, 12 * 9.6)
    assert energy.mac_once_pj == Interval(6 * 4.6, 6 * 0.23, 6 * 9.6)
    assert energy.neuron_pj is None
    assert energy.total_pj.value == pytest.approx(6 * 0.9 + 12 * 4.6)
    assert 6 * 0.03 + 12 * 0.23 < energy.total_pj.low < energy.total_pj.value < energy.total_pj.high
    assert energy.unpriced == ("energy.neuron",)
    assert energy.bound == "lower bound"
    assert energy.evidence == "derived"


def test_the_report_is_plain_json_and_says_what_it_is() -> None:
    """The report survives a JSON round trip and names label, target, sources, evidence, bounds and spread."""
    counts = count(network_of(tiny_graph(), 2), tiny_spikes())
    report = estimate(counts, profile.load("paper-45nm")).to_json()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["label"] == "ESTIMATED"
    assert (report["target"], report["evidence"]) == ("paper-45nm", "derived")
    assert (report["bound"], report["unpriced"]) == ("lower bound", ["energy.neuron"])
    assert "Horowitz" in report["prices"]["energy.synop"]["source"]
    assert report["prices"]["energy.synop"]["amount"] == {"value": 0.9, "low": 0.03, "high": 5.9}
    assert (report["samples"], report["steps"], report["neuron_updates"]) == (2, 2, 9)
    assert report["e_snn_pj"]["value"] == pytest.approx(5.4)
    assert report["neuron_pj"] is None
    assert report["mac_operations"] == {"every_step": 12, "once": 6}
    assert report["first_layer"] == "recomputed at every step"
    assert report["synaptic_operations"] == pytest.approx(
        {"mean": 6.0, "standard_deviation": 18**0.5, "p95": 3 + 0.95 * 6}
    )
    assert report["synapses"][1] == {
        "source": "A",
        "ops": [],
        "target": "A",
        "delay": 1,
        "synapses": 3,
        "synaptic_operations": 2.0,
        "energy_pj": pytest.approx({"value": 1.8, "low": 0.06, "high": 11.8}),
    }
    assert report["macs"][0]["energy_pj"]["value"] == pytest.approx(12 * 4.6)
    assert report["layers"] == [
        {"name": "A", "neurons": 3, "spikes": 2.0, "firing_rate": pytest.approx(2 / 6), "dead_neurons": 1}
    ]
    assert report["dead_rate"] == pytest.approx(1 / 3)
    assert report["firing_rate"] == pytest.approx({"sum": 2 / 6, "mean": 2 / 6})


def test_one_sample_has_no_standard_deviation() -> None:
    """The spread of a single sample is unknown, not zero."""
    one = {"A": tiny_spikes()["A"][:, :1]}
    report = estimate(count(network_of(tiny_graph(), 2), one), profile.load("paper-45nm")).to_json()
    assert report["synaptic_operations"] == {"mean": 9.0, "standard_deviation": None, "p95": 9.0}


def test_counts_are_psi_times_spikes_and_the_paths_add_up() -> None:
    """On a real run the counts per sample are sum psi * s, and the energy is 0.9 pJ times their mean."""
    network, spikes = small_network()
    counts = count(network, spikes)
    expected = np.zeros(6, np.int64)
    for name, each in psi(network.graph).items():
        expected += (each * spikes[name]).sum(axis=(0, *range(2, spikes[name].ndim)))
    np.testing.assert_array_equal(counts.synaptic_operations, expected)
    assert expected.std() > 0
    energy = estimate(counts, profile.load("paper-45nm"))
    assert energy.e_snn_pj is not None
    assert energy.e_snn_pj.value == pytest.approx(0.9 * expected.mean())
    rows = energy.to_json()["synapses"]
    assert sum(row["energy_pj"]["value"] for row in rows) == pytest.approx(energy.e_snn_pj.value)
    (branch,) = [row for row in rows if row["delay"]]
    assert (branch["source"], branch["target"]) == (network.graph.ports[4], "back4_1.conv")
    assert branch["synaptic_operations"] > 0


def test_operations_of_a_conv_are_those_of_its_convolution_with_ones() -> None:
    """What one convolution of a network costs is the sum of its ones-weight convolution of the spikes."""
    network, spikes = small_network()
    graph = network.graph
    checked = 0
    for synapse in count(network, spikes).synapses:
        op, path = graph.ops[synapse.fanout.target], synapse.fanout
        if isinstance(op, Conv2d) and path.delay == 0:
            ones = {f"{path.target}.weight": np.ones(parameter_shapes(graph)[f"{path.target}.weight"])}
            flat = spikes[path.source].reshape(-1, *path.shape).astype(np.float64)
            assert synapse.operations.sum() == apply(path.target, op, flat, ones).sum()
            checked += 1
    assert checked == 8


def test_a_trace_is_accepted_like_its_spikes() -> None:
    """The result of `run` can be counted as it is."""
    network, _ = small_network()
    trace = run(network, np.random.default_rng(1).random((6, 2, 8, 8)))
    np.testing.assert_array_equal(
        count(network, trace).synaptic_operations, count(network, trace.spikes).synaptic_operations
    )


def test_frames_are_computed_at_every_step() -> None:
    """Only an image that stands still could be evaluated once."""
    counts = count(network_of(tiny_graph(), 2, kind="frames"), tiny_spikes())
    assert counts.mac_operations() == counts.mac_operations(once=True) == 12


def analog_graph() -> Graph:
    """Analog values on all kinds of ways; several arrows into one op are summed.

    input -> pool -> c1 -> c2 -> A -> B -> flatten -> fc -> output
    input -> A;  input ~> A (delay 1);  c1 -> n2;  c2 -> n2 -> B;  B ~> c2 (delay 1)
    """
    ops: dict[str, Op] = {
        "input": Input(shape=(2, 4, 4)),
        "pool": AvgPool2d(kernel=(1, 1), stride=(1, 1)),
        "c1": Conv2d(in_channels=2, out_channels=2, kernel=(1, 1)),
        "c2": Conv2d(in_channels=2, out_channels=2, kernel=(3, 3), padding=(1, 1)),
        "A": Lif(),
        "n2": BatchNorm(channels=2),
        "B": Lif(),
        "flatten": Flatten(),
        "fc": Linear(in_features=32, out_features=2),
        "output": Output(),
    }
    pairs = "input pool,pool c1,c1 c2,c2 A,input A,A B,c2 n2,c1 n2,n2 B,B flatten,flatten fc,fc output"
    names = [pair.split() for pair in pairs.split(",")]
    return Graph(
        ops, (*(Edge(source, target) for source, target in names), Edge("input", "A", 1), Edge("B", "c2", 1))
    )


def test_analog_work_is_counted_once_per_op_and_the_rest_is_named() -> None:
    """Streams and direct inputs are MACs, constant only if spikes take no part; pools and norms are named."""
    graph = analog_graph()
    silent = {name: np.zeros((3, 1, *graph.shapes[name]), np.bool_) for name in graph.ports}
    counts = count(network_of(graph, 3), silent)
    assert {(m.target, m.macs, m.constant) for m in counts.macs} == {
        ("c1", 2 * 2 * 16, True),
        ("A", 2 * 32, True),
        ("c2", 2 * 2 * 10 * 10, False),  # 10 taps of 12 lie inside, along either axis
    }
    assert counts.mac_operations() == 3 * (64 + 64 + 400)
    assert counts.mac_operations(once=True) == 64 + 64 + 3 * 400
    assert counts.uncounted == ("pool", "n2")
    assert estimate(counts, priced(synop=1, mac=1, neuron=1)).bound == "lower bound"


def test_a_fully_priced_total_is_an_estimate() -> None:
    """With a price for every kind of work the total is their sum, and no bound."""
    energy = estimate(count(network_of(tiny_graph(), 2), tiny_spikes()), priced(synop=2, mac=3, neuron=5))
    assert energy.total_pj.value == 2 * 6 + 3 * 12 + 5 * 9
    assert (energy.bound, energy.unpriced, energy.evidence) == ("estimate", (), "measured")


def test_without_prices_everything_is_unpriced() -> None:
    """A profile without numbers prices nothing and says so, rather than reporting zero joules as an estimate."""
    energy = estimate(count(network_of(tiny_graph(), 2), tiny_spikes()), priced())
    assert energy.unpriced == ("energy.synop", "energy.mac", "energy.neuron")
    assert (energy.e_snn_pj, energy.bound, energy.evidence) == (None, "lower bound", "unpublished")
    assert energy.to_json()["synapses"][0]["energy_pj"] is None


def test_batches_merge_into_the_counts_of_all_samples() -> None:
    """Two batches give what one gives, dead neurons included: a neuron is dead if it fired in neither."""
    network, spikes = small_network()
    whole = count(network, spikes)
    parts = [
        count(network, {n: s[:, part] for n, s in spikes.items()}) for part in (slice(0, 2), slice(2, 6))
    ]
    merged = merge(parts)
    paper = profile.load("paper-45nm")
    assert estimate(merged, paper).to_json() == estimate(whole, paper).to_json()
    assert sum(layer.dead for layer in parts[0].layers) > sum(layer.dead for layer in merged.layers) > 0


def test_counts_of_different_networks_do_not_merge() -> None:
    """Other structure or other steps: refused, and so is nothing at all."""
    first = count(network_of(tiny_graph(), 2), tiny_spikes())
    other = count(*small_network())
    longer = replace(first, steps=3)
    for parts in ([], [first, other], [first, longer]):
        with pytest.raises(NetworkError, match="counts: must be of one network to be merged"):
            merge(parts)


@pytest.mark.parametrize(
    ("spikes", "message"),
    [
        ({}, r"spikes: must name every Lif, got missing \['A'\]"),
        ({**tiny_spikes(), "Z": tiny_spikes()["A"]}, r"unknown \['Z'\]"),
        ({"A": tiny_spikes()["A"][:1]}, r"spikes of A: must have shape \(2, 2, 3\), got \(1, 2, 3\)"),
        ({"A": tiny_spikes()["A"][:, :0]}, "at least one sample"),
        ({"A": np.array(True)}, "at least one sample"),
        (
            {"A": tiny_spikes()["A"].astype(np.float32)},
            "spikes of A: must be bool, got float32; pass `spikes > 0`",
        ),
    ],
)
def test_spikes_that_do_not_fit_are_refused(spikes: Spikes, message: str) -> None:
    """Missing or unknown layers, other steps, no samples, other types: an error that says which."""
    with pytest.raises(NetworkError, match=message):
        count(network_of(tiny_graph(), 2), spikes)
