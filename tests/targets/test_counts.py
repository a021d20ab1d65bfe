"""Counts beyond synaptic operations: driven updates, effective multiplications, messages, memory, streaming."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

from snndeploy.errors import NetworkError, TargetError
from snndeploy.ir import (
    BatchNorm,
    Conv2d,
    Flatten,
    Graph,
    Input,
    InputSpec,
    Lif,
    Op,
    Output,
    fold,
    parameter_shapes,
    run,
    schedule,
)
from snndeploy.ir.kernels import apply
from snndeploy.targets.counts import Counter, Counts, Skeleton, count, op_counts, storage
from snndeploy.targets.resources import map_onto, messages
from tests.ir.graphs import linear, random_network, wired
from tests.strategies import Structure, build, structures
from tests.targets import chips
from tests.targets.counted import MAPS, RESIDUAL, STREAMS, VECTORS, Spikes, driven_by_hand, plain

GRAPHS = {"residual": RESIDUAL, "vectors": VECTORS, "streams": STREAMS}


def assert_equal(found: npt.NDArray[Any] | None, expected: npt.NDArray[Any] | int | None) -> None:
    """Fails unless both are known and the same."""
    assert found is not None
    assert expected is not None
    np.testing.assert_array_equal(found, expected)


def random_spikes(graph: Graph, steps: int, samples: int, rate: float, seed: int = 0) -> Spikes:
    """Spikes that no network need have given."""
    rng = np.random.default_rng(seed)
    return {name: rng.random((steps, samples, *graph.shapes[name])) < rate for name in graph.ports}


def random_frames(graph: Graph, steps: int, samples: int, rate: float) -> npt.NDArray[np.float32]:
    """Sparse frames."""
    rng = np.random.default_rng(1)
    shape = (steps, samples, *graph.shapes[graph.input])
    return (rng.random(shape, dtype=np.float32) + 0.1) * (rng.random(shape) < rate)


def skeleton(graph: Graph, steps: int, kind: Any = "frames") -> Skeleton:
    """A network without weights."""
    return Skeleton(graph=graph, steps=steps, input=InputSpec(kind=kind))


def driven(counts: Counts) -> dict[str, list[int]]:
    """Driven updates of each sample, by Lif."""
    assert all(layer.driven is not None for layer in counts.layers)
    return {layer.name: layer.driven.tolist() for layer in counts.layers if layer.driven is not None}


def assert_driven_as_by_hand(graph: Graph, steps: int, rate: float, seed: int = 0) -> int:
    """Compares with the long way, with and without the input; returns the driven updates."""
    network = skeleton(graph, steps)
    spikes, x = random_spikes(graph, steps, 2, rate, seed), random_frames(graph, steps, 2, rate)
    until = steps + schedule(graph).gap
    found = driven(count(network, spikes, x))
    expected = driven_by_hand(graph, {**spikes, graph.input: x != 0}, until)
    assert found == {name: each.tolist() for name, each in expected.items()}
    everywhere = driven_by_hand(graph, {**spikes, graph.input: np.ones(x.shape, np.bool_)}, until)
    assert driven(count(network, spikes)) == {name: each.tolist() for name, each in everywhere.items()}
    return sum(map(sum, found.values()))


@pytest.mark.parametrize("rate", [0.02, 0.2])
@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_driven_updates_are_those_that_something_arrives_at(graph: Graph, rate: float) -> None:
    """For every kind of path, delays, sums and streams: as found neuron by neuron."""
    neurons = sum(math.prod(graph.shapes[name]) for name in graph.ports)
    assert 0 < assert_driven_as_by_hand(graph, 4, rate) < 2 * neurons * 6


@settings(max_examples=100)
@given(structure=structures(3))
def test_driven_updates_of_generated_networks(structure: Structure) -> None:
    """The same for residual networks with backward connections, whose rates leave most positions alone."""
    graph = build(structure)
    assert_driven_as_by_hand(graph, structure.steps, 0.01, structure.seed)


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_a_single_spike_drives_the_neurons_of_its_synapses(graph: Graph) -> None:
    """Each neuron's own spike drives exactly those that it has a synapse to, a step's each once."""
    steps = 3
    silent = random_spikes(graph, steps, 1, 0.0)
    x = np.zeros((steps, 1, *graph.shapes[graph.input]), np.float32)
    counter = Counter(skeleton(graph, steps))
    expected = []
    for name in graph.ports:
        for place in np.ndindex(graph.shapes[name]):
            one = {**silent, name: silent[name].copy()}
            index = (1, 0, *place)
            one[name][index] = True
            counter.add(one, x)
            reached = driven_by_hand(graph, {**one, graph.input: x != 0}, steps + schedule(graph).gap)
            expected.append(sum(int(each[0]) for each in reached.values()))
    assert counter.counts.driven is not None
    assert counter.counts.driven.tolist() == expected
    assert len(set(expected)) > 1


def test_driven_and_idle_updates_are_all_machine_steps_of_all_neurons() -> None:
    """Phases that are waited through and blank steps between samples are idle, but for what arrives in them."""
    network = skeleton(RESIDUAL, 4)
    counts = count(network, random_spikes(RESIDUAL, 4, 3, 0.3))
    timing = schedule(RESIDUAL)
    assert (timing.initiation_interval, timing.gap) == (3, 2)
    assert counts.machine_steps == (4 + 2) * 3
    assert counts.driven is not None
    assert counts.idle is not None
    assert_equal(counts.driven + counts.idle, counts.neurons * 18)
    assert_equal(counts.resets, counts.spikes)
    slower = count(
        network, random_spikes(RESIDUAL, 4, 3, 0.3), timing=schedule(RESIDUAL, initiation_interval=5)
    )
    assert slower.machine_steps == 30
    assert_equal(slower.driven, counts.driven)
    assert slower.idle is not None
    assert_equal(slower.idle - counts.idle, counts.neurons * 12)


def test_what_arrives_after_the_last_step_drives_too() -> None:
    """A spike of the last step crosses a backward connection of delay 1 in the blank step that follows."""
    graph = wired(
        {"in": Input(shape=(1,)), "a": Lif(), "f": linear(1, 1), "out": Output()}, "in a f out", "a ~1 a"
    )
    spikes = {"a": np.array([[[False]], [[True]]])}
    silent = np.zeros((2, 1, 1), np.float32)
    assert driven(count(skeleton(graph, 2), spikes, silent)) == {"a": [1]}
    assert driven(count(skeleton(graph, 2), {"a": ~spikes["a"]}, silent)) == {"a": [1]}
    assert driven(count(skeleton(graph, 2), spikes)) == {"a": [3]}  # two values of the input, and the spike


def test_effective_multiplications_are_those_by_inputs_that_are_not_zero() -> None:
    """A convolution with ones over the places that are not zero counts them, frame by frame."""
    network, x = skeleton(RESIDUAL, 4), random_frames(RESIDUAL, 4, 3, 0.2)
    counts = count(network, random_spikes(RESIDUAL, 4, 3, 0.3), x)
    (mac,) = counts.macs
    ones = {"c.weight": np.ones(parameter_shapes(RESIDUAL)["c.weight"])}
    each = np.stack([apply("c", RESIDUAL.ops["c"], (frame != 0).astype(np.float64), ones) for frame in x])
    by_step = each.sum(axis=(2, 3, 4))
    assert mac.effective is not None
    assert mac.effective_once is not None
    assert_equal(mac.effective, by_step.sum(axis=0))
    assert_equal(mac.effective_once, by_step[-1])
    assert not mac.constant
    assert_equal(counts.effective_mac_operations(once=True), mac.effective)
    assert (mac.effective < counts.mac_operations()).all()
    full = count(network, random_spikes(RESIDUAL, 4, 3, 0.3), np.ones_like(x))
    assert_equal(full.effective_mac_operations(), full.mac_operations())


def test_an_image_is_the_same_at_every_step() -> None:
    """Its effective multiplications are T times those of one step, which suffice where a target keeps them."""
    network = skeleton(RESIDUAL, 4, "image")
    x = random_frames(RESIDUAL, 1, 3, 0.2)[0]
    counts = count(network, random_spikes(RESIDUAL, 4, 3, 0.3), x)
    every, once = counts.effective_mac_operations(), counts.effective_mac_operations(once=True)
    assert every is not None
    assert once is not None
    assert_equal(every, 4 * once)
    repeated = count(network, random_spikes(RESIDUAL, 4, 3, 0.3), np.broadcast_to(x, (4, *x.shape)))
    assert plain(repeated) == plain(counts)


def test_effective_multiplications_of_sums_and_streams() -> None:
    """What a pool and a delay sum counts where any of it is not zero; behind other weights everything does."""
    x = random_frames(STREAMS, 4, 2, 0.2)
    counts = count(skeleton(STREAMS, 4), random_spikes(STREAMS, 4, 2, 0.3), x)
    found = {mac.target: mac for mac in counts.macs}
    assert set(found) == {"p", "stem", "c"}
    assert_equal(found["c"].effective, 4 * found["c"].macs)
    late = np.concatenate([np.zeros_like(x[:1]), x[:-1]])
    pooled = (x + late).reshape(4, 2, 2, 2, 2, 2, 2).sum(axis=(4, 6)) != 0
    ones = {"p.weight": np.ones(parameter_shapes(STREAMS)["p.weight"])}
    expected = [apply("p", STREAMS.ops["p"], step.astype(np.float64), ones).sum((1, 2, 3)) for step in pooled]
    assert_equal(found["p"].effective, np.sum(expected, axis=0))
    assert "pool" in counts.uncounted


def test_a_direct_input_counts_where_it_is_not_zero() -> None:
    """Each arrow of the Input into a Lif multiplies on its own, the delayed one a step later."""
    graph = wired(
        {"in": Input(shape=(3,)), "a": Lif(), "f": linear(3, 2), "out": Output()}, "in a f out", "in ~1 a"
    )
    x = np.array([[[1, 0, 2]], [[0, 0, 3]]], np.float32)
    (mac,) = count(skeleton(graph, 2), random_spikes(graph, 2, 1, 0.5), x).macs
    assert (mac.target, mac.macs) == ("a", 6)
    assert mac.effective is not None
    assert mac.effective_once is not None
    assert (mac.effective.tolist(), mac.effective_once.tolist()) == ([2 + 1 + 2], [1 + 2])


def test_messages_are_those_of_the_mapping() -> None:
    """Messages and hops by layer, and their sum; without a mapping there are none."""
    network, spikes = skeleton(RESIDUAL, 4), random_spikes(RESIDUAL, 4, 3, 0.3)
    mapping = map_onto(
        RESIDUAL, chips.chip(neurons=16, limits={"columns": 2, "rows": 4, "tile": 2, "cores": 16})
    )
    counts = count(network, spikes, mapping=mapping)
    expected = messages(mapping, spikes)
    for layer in counts.layers:
        assert layer.messages is not None
        assert_equal(layer.messages.sent, expected[layer.name].sent)
        assert_equal(layer.messages.hops_east_west, expected[layer.name].hops_east_west)
    assert counts.messages is not None
    assert_equal(counts.messages.sent, sum(one.sent for one in expected.values()))
    assert_equal(counts.messages.off_chip, sum(one.off_chip for one in expected.values()))
    assert (counts.messages.sent > counts.spikes).all()
    assert count(network, spikes).messages is None
    with pytest.raises(TargetError, match="mapping: must be one of the graph that is counted"):
        count(skeleton(VECTORS, 4), random_spikes(VECTORS, 4, 1, 0.3), mapping=mapping)


def test_batches_are_those_of_all_samples() -> None:
    """Whatever the batches, the counter ends with the same numbers, messages and effective ones included."""
    network, spikes = skeleton(RESIDUAL, 4), random_spikes(RESIDUAL, 4, 7, 0.05)
    x = random_frames(RESIDUAL, 4, 7, 0.3)
    mapping = map_onto(
        RESIDUAL, chips.chip(neurons=16, limits={"columns": 2, "rows": 4, "tile": 2, "cores": 16})
    )
    counter = Counter(network, mapping=mapping)
    for start in range(0, 7, 3):
        part = slice(start, start + 3)
        counter.add({name: array[:, part] for name, array in spikes.items()}, x[:, part])
    assert plain(counter.counts) == plain(count(network, spikes, x, mapping=mapping))
    assert counter.counts.samples == 7


def test_layout_in_memory_does_not_matter() -> None:
    """Spikes whose channels lie innermost, as PyTorch may leave them, count alike."""
    network, spikes = skeleton(RESIDUAL, 4), random_spikes(RESIDUAL, 4, 3, 0.3)
    last = {
        name: np.ascontiguousarray(array.transpose(1, 3, 4, 2, 0)).transpose(4, 0, 3, 1, 2)
        for name, array in spikes.items()
    }
    assert not last["a"].flags.c_contiguous
    assert plain(count(network, last)) == plain(count(network, spikes))


def test_many_steps_overflow_nothing() -> None:
    """More spikes of a neuron than a byte holds, and more updates than two bytes hold."""
    spikes = random_spikes(RESIDUAL, 300, 2, 1.1)
    counts = count(skeleton(RESIDUAL, 300), spikes)
    assert counts.layers[0].spikes.tolist() == [300 * 120] * 2
    assert counts.layers[0].driven is not None
    assert counts.layers[0].driven.tolist() == [301 * 120] * 2  # and what is fed back after the last step


def test_sums_over_time_give_all_but_driven_updates() -> None:
    """Spikes counted over time price like spikes by step; driven and idle updates are unknown, not zero."""
    network, spikes = skeleton(RESIDUAL, 4), random_spikes(RESIDUAL, 4, 3, 0.3)
    counter, whole = Counter(network), count(network, spikes)
    counter.add_totals({name: array.sum(axis=0) for name, array in spikes.items()})
    counts = counter.counts
    assert_equal(counts.synaptic_operations, whole.synaptic_operations)
    assert_equal(counts.spikes, whole.spikes)
    assert counts.neuron_updates == whole.neuron_updates
    assert (counts.driven, counts.idle) == (None, None)
    with pytest.raises(NetworkError, match="must be of one network to be merged"):
        counter.add(spikes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda total: total[:, 1:], r"spikes of a: must have shape \(2, 4, 6, 5\)"),
        (lambda total: total * 1.0, "spikes of a: must be whole numbers, got float64"),
        (
            lambda total: total + 4,
            r"spikes of a: must lie in \[0, 4\], as a neuron spikes at most once a step",
        ),
        (lambda total: total - 5, r"spikes of a: must lie in \[0, 4\]"),
        (lambda total: total[:0], "at least one sample"),
    ],
)
def test_sums_that_no_spikes_have_are_refused(change: Callable[[Any], Any], message: str) -> None:
    """Another shape, no whole numbers, more than one spike a step, less than none, no samples."""
    totals = {name: array.sum(axis=0) for name, array in random_spikes(RESIDUAL, 4, 2, 0.3).items()}
    with pytest.raises(NetworkError, match=message):
        Counter(skeleton(RESIDUAL, 4)).add_totals({**totals, "a": change(totals["a"])})


def test_input_that_does_not_fit_is_refused() -> None:
    """Other samples, other steps, or one image where there are frames."""
    network, spikes = skeleton(RESIDUAL, 4), random_spikes(RESIDUAL, 4, 2, 0.3)
    x = random_frames(RESIDUAL, 4, 2, 0.3)
    for wrong in (x[:, :1], x[1:], x[0]):
        with pytest.raises(NetworkError, match=r"input: must have shape \(4, 2, 2, 6, 5\), got"):
            count(network, spikes, wrong)
    with pytest.raises(NetworkError, match=r"input: must have shape \(2, 2, 6, 5\) or \(4, 2, 2, 6, 5\)"):
        count(skeleton(RESIDUAL, 4, "image"), spikes, x[0, :1])


def test_nothing_counted_is_no_count() -> None:
    """A counter without samples has no counts, rather than zero work."""
    with pytest.raises(NetworkError, match="at least one sample"):
        _ = Counter(skeleton(RESIDUAL, 4)).counts


def test_strictness_refuses_uncounted_work() -> None:
    """A pool of analog values is named; a network without such work is counted strictly."""
    with pytest.raises(TargetError, match="pool: is work that is not counted"):
        Counter(skeleton(STREAMS, 4), strict=True)
    assert count(skeleton(RESIDUAL, 4), random_spikes(RESIDUAL, 4, 1, 0.3), strict=True).uncounted == ()


def test_ops_whatever_their_input() -> None:
    """Connections, what a first step evaluates, parameters and elements of each op, and what outlasts it."""
    found = {op.name: op for op in op_counts(RESIDUAL)}
    inside = (2 + 3 * 4 + 2) * (2 + 3 * 3 + 2)  # taps of 3 along 6 rows and 5 columns
    assert (found["c"].macs, found["c"].undelayed_macs) == (2 * 4 * inside, 2 * 4 * inside)
    assert (found["c"].weights, found["c"].biases) == (2 * 4 * 9, 0)
    assert (found["back"].macs, found["back"].undelayed_macs) == (16 * 9, 0)
    assert (found["skip"].macs, found["skip"].undelayed_macs) == (16 * 9, 0)
    assert (found["c2"].macs, found["b"].macs) == (36, 0)  # the identity
    assert found["b"].inputs == 36 + 36
    assert (found["pool"].inputs, found["pool"].outputs) == (36, 16)
    assert [op.name for op in found.values() if op.states] == ["a", "b", "c2", "d"]
    assert {name: op.hands_on for name, op in found.items() if op.hands_on != "nothing"} == {
        "in": "analog",
        "a": "spikes",
        "b": "spikes",
        "c2": "spikes",
        "d": "spikes",
    }
    streams = {op.name: op.hands_on for op in op_counts(STREAMS)}
    assert (streams["stem"], streams["p"], streams["c"]) == ("analog", "nothing", "nothing")


def test_bytes_at_given_widths() -> None:
    """Weights once, biases wide, states, spikes as bits and analog values, each op rounded up to bytes."""
    graph = wired(
        {
            "in": Input(shape=(3,)),
            "f": linear(3, 5, bias=True),
            "a": Lif(),
            "g": linear(5, 2),
            "out": Output(),
        },
        "in f a g out",
    )
    found = storage(op_counts(graph), weight_bits=3, state_bits=23, activation_bits=12)
    assert found.weights == 6 + 5 * 4 + 4  # 45 bits, 5 biases, 30 bits
    assert found.states == 15  # 115 bits
    assert found.activations == 5 + 1  # 36 bits of input, 5 of spikes


def test_a_folded_norm_weighs_the_same() -> None:
    """Before folding, a BatchNorm counts as the bias that it becomes."""
    ops: dict[str, Op] = {**MAPS, "norm": BatchNorm(channels=4)}
    graph = wired(ops, "in c norm a g b depth c2 pool pd d flat fc out", "a skip b", "c2 ~1 back up a")
    before = op_counts(graph)
    after = op_counts(fold(random_network(graph)).graph)
    widths = {"weight_bits": 8, "state_bits": 16, "activation_bits": 8}
    assert storage(before, **widths).weights == storage(after, **widths).weights


def test_a_network_counts_like_its_skeleton() -> None:
    """Weights decide the spikes and nothing else."""
    network = random_network(RESIDUAL, steps=4)
    trace = run(network, np.random.default_rng(0).random((2, 2, 6, 5)))
    bare = Skeleton(graph=network.graph, steps=4, input=network.input)
    assert plain(count(network, trace)) == plain(count(bare, trace.spikes))


def test_the_steps_of_a_skeleton_are_checked() -> None:
    """As those of a network: a delay must act."""
    with pytest.raises(NetworkError, match="never acts within 2 time steps"):
        Skeleton(graph=RESIDUAL, steps=2)


def test_padding_alone_drives_nobody() -> None:
    """Neurons whose windows lie in the padding have no synapse, so nothing arrives at them."""
    far = Conv2d(in_channels=1, out_channels=2, kernel=(1, 1), padding=(1, 1))
    graph = wired(
        {
            "in": Input(shape=(1, 2, 2)),
            "c": far,
            "a": Lif(),
            "f": Flatten(),
            "g": linear(32, 2),
            "out": Output(),
        },
        "in c a f g out",
    )
    counts = count(skeleton(graph, 3), random_spikes(graph, 3, 1, 0.5))
    assert driven(counts) == {"a": [3 * 2 * 4]}
    assert counts.idle is not None
    assert counts.idle.tolist() == [3 * 2 * 12]
