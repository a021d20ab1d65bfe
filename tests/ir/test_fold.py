"""Folding takes BatchNorm and Dropout away and changes nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snndeploy.ir import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    Edge,
    Exact,
    Flatten,
    Float32,
    Graph,
    Input,
    InputSpec,
    Lif,
    Linear,
    Network,
    Op,
    Output,
    as_steps,
    compare,
    fingerprint,
    fold,
    quantize,
    run,
    with_backward,
)
from snndeploy.ir.replay import entering
from tests.ir.graphs import classifier, conv, linear, random_input, random_network, wired
from tests.strategies import Structure, build, structures


def assert_same_function(network: Network, folded: Network, seed: int = 0) -> None:
    """With the same spikes given, the same currents enter every LIF and the Output, within 1e-5."""
    assert folded.graph.training_only == ()
    assert folded.graph.ports == network.graph.ports
    assert (folded.steps, folded.readout, folded.input) == (network.steps, network.readout, network.input)
    x = as_steps(network, random_input(network, seed))
    rng = np.random.default_rng(seed)
    spikes = {n: rng.random((*x.shape[:2], *network.graph.shapes[n])) < 0.3 for n in network.graph.ports}
    ends = (*network.graph.ports, network.graph.output)
    before = {n: v for n, v in entering(network, x, spikes) if n in ends}
    after = {n: v for n, v in entering(folded, x, spikes) if n in ends}
    assert list(before) == [n for n in before if n in after]
    for name, value in before.items():
        size = max(1.0, float(np.abs(value).max()))
        np.testing.assert_allclose(after[name], value, rtol=0, atol=1e-5 * size, err_msg=name)
        assert value.any(), "silence proves nothing"


@given(structures(), st.integers(0, 99))
def test_random_networks_compute_the_same(structure: Structure, seed: int) -> None:
    """Chains, residual blocks and backward connections, as they are trained."""
    spec = InputSpec(kind="frames" if structure.frames else "image", grid_bits=4)
    network = random_network(build(structure), seed, steps=structure.steps, input=spec)
    folded = fold(network)
    assert_same_function(network, folded, seed)
    assert {type(op) for op in folded.graph.ops.values()}.isdisjoint({BatchNorm, Dropout})
    assert set(folded.graph.ops) <= set(network.graph.ops)


def test_one_convolution_takes_scale_and_shift() -> None:
    """Conv -> norm: weight * s and (bias - mean) * s + beta, s = gamma / sqrt(var + eps), by hand."""
    ops: dict[str, Op] = {
        "in": Input(shape=(1, 1, 1)),
        "c": conv(1, 2, 1, bias=True),
        "n": BatchNorm(channels=2, epsilon=0.5),
        "l": Lif(),
        "flat": Flatten(),
        "out": Output(),
    }
    weights = {
        "c.weight": np.array([3.0, -1.0]).reshape(2, 1, 1, 1),
        "c.bias": np.array([1.0, 2.0]),
        "n.weight": np.array([2.0, 0.5]),
        "n.bias": np.array([0.25, -1.0]),
        "n.running_mean": np.array([0.5, 4.0]),
        "n.running_var": np.array([3.5, 0.5]),
    }
    folded = fold(Network(graph=wired(ops, " ".join(ops)), weights=weights, steps=1))
    assert folded.graph == wired({name: op for name, op in ops.items() if name != "n"}, "in c l flat out"), (
        "the op keeps its bias, its place and its name"
    )
    assert folded.weights["c.weight"].ravel().tolist() == [3.0, -0.5]  # 2 / sqrt(4) and 0.5 / sqrt(1)
    assert folded.weights["c.bias"].tolist() == [1 - 0.5 + 0.25, (2 - 4) * 0.5 - 1]


def summed() -> Graph:
    """Two convolutions and, as a third, one that came through a Dropout, normalised together.

    in -> a -> n -> l -> flat -> out, in -> b -> n, in -> c -> drop -> n
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(2, 4, 4)),
        "a": conv(2, 3, bias=True),
        "b": conv(2, 3, 1),
        "c": conv(2, 3),
        "drop": Dropout(),
        "n": BatchNorm(channels=3),
        "l": Lif(),
        "flat": Flatten(),
        "out": Output(),
    }
    return wired(ops, "in a n l flat out", "in b n", "in c drop n")


def test_a_sum_of_convolutions_is_scaled_once_each_and_shifted_once() -> None:
    """No op is added; each convolution feeds the LIF itself."""
    network = random_network(summed())
    folded = fold(network)
    assert_same_function(network, folded)
    assert set(folded.graph.ops) == {"in", "a", "b", "c", "l", "flat", "out"}
    assert [e.source for e in folded.graph.incoming["l"]] == ["a", "b", "c"]
    assert not folded.weights["b.bias"].any(), "the shift is added once"


@pytest.mark.parametrize("extra", ["l", "n"])
def test_a_convolution_that_feeds_others_is_left_alone(extra: str) -> None:
    """Graph: in -> c -> n -> l -> flat -> out with c -> l, or c -> n twice: n becomes a 1x1 convolution."""
    ops: dict[str, Op] = {
        "in": Input(shape=(2, 4, 4)),
        "c": conv(2, 3),
        "n": BatchNorm(channels=3),
        "l": Lif(),
        "flat": Flatten(),
        "out": Output(),
    }
    network = random_network(wired(ops, "in c n l flat out", f"c {extra}"))
    folded = fold(network)
    assert_same_function(network, folded)
    assert folded.graph.ops["n"] == Conv2d(in_channels=3, out_channels=3, kernel=(1, 1), groups=3, bias=True)
    assert folded.graph.edges == network.graph.edges
    assert (folded.weights["c.weight"] == network.weights["c.weight"]).all()


def test_normalising_spikes_a_sum_and_the_input() -> None:
    """Pre-activation: BatchNorm on the input, on a sum of spikes and a convolution, and behind a pool.

    in -> n0 -> l0 -> c1 -> n1 -> l1 -> pool -> n2 -> l2 -> flat -> out, l0 -> n1, l1 -(1)-> n1
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(2, 4, 4)),
        "n0": BatchNorm(channels=2),
        "l0": Lif(),
        "c1": conv(2, 2),
        "n1": BatchNorm(channels=2),
        "l1": Lif(),
        "pool": AvgPool2d(kernel=(2, 2), stride=(2, 2)),
        "n2": BatchNorm(channels=2),
        "l2": Lif(),
        "flat": Flatten(),
        "out": Output(),
    }
    network = random_network(wired(ops, " ".join(ops), "l0 n1", "l1 ~1 n1"))
    folded = fold(network)
    assert_same_function(network, folded)
    assert [type(folded.graph.ops[n]) for n in ("n0", "n1", "n2")] == [Conv2d] * 3
    assert folded.graph.edges == network.graph.edges


def test_normalising_vectors() -> None:
    """Graph: in (3) -> n0 -> l0 -> fc -> n1 -> l1 -> n2 -> out: n1 goes into fc, the others become diagonal."""
    ops: dict[str, Op] = {
        "in": Input(shape=(3,)),
        "n0": BatchNorm(channels=3),
        "l0": Lif(),
        "fc": linear(3, 4),
        "n1": BatchNorm(channels=4),
        "l1": Lif(),
        "n2": BatchNorm(channels=4),
        "out": Output(),
    }
    network = random_network(wired(ops, " ".join(ops)))
    folded = fold(network)
    assert_same_function(network, folded)
    assert folded.graph.ops["n0"] == Linear(in_features=3, out_features=3, bias=True)
    assert "n1" not in folded.graph.ops
    off_diagonal = folded.weights["n2.weight"][~np.eye(4, dtype=bool)]
    assert not off_diagonal.any()


def test_normalising_twice() -> None:
    """Graph: in -> c -> n1 -> n2 -> l -> n3 -> n4 -> flat -> out: all of it ends in c and in n3."""
    ops: dict[str, Op] = {
        "in": Input(shape=(2, 2, 2)),
        "c": conv(2, 2),
        "n1": BatchNorm(channels=2),
        "n2": BatchNorm(channels=2),
        "l": Lif(),
        "n3": BatchNorm(channels=2),
        "n4": BatchNorm(channels=2),
        "flat": Flatten(),
        "out": Output(),
    }
    network = random_network(wired(ops, " ".join(ops)))
    folded = fold(network)
    assert_same_function(network, folded)
    assert list(folded.graph.ops) == ["in", "c", "l", "n3", "flat", "out"]


def test_dropout_with_several_edges_in_and_out() -> None:
    """Every source is joined with every target, delays kept, in the places of the edges that go.

    in -> a -> drop -> b -> out, a -(1)-> drop, in -> drop, drop -> c -> out, a -> b
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(2,)),
        "a": Lif(),
        "drop": Dropout(),
        "b": Lif(),
        "c": Lif(),
        "out": Output(),
    }
    graph = wired(ops, "in a drop b out", "a ~1 drop", "in drop c out", "a b")
    network = random_network(graph)
    folded = fold(network)
    assert_same_function(network, folded)
    assert folded.graph.edges == (
        Edge("in", "a"),
        Edge("a", "b"),
        Edge("a", "b", 1),
        Edge("in", "b"),
        Edge("b", "out"),
        Edge("a", "c"),
        Edge("a", "c", 1),
        Edge("in", "c"),
        Edge("c", "out"),
        Edge("a", "b"),
    )


def test_dropouts_in_a_row_and_between_convolution_and_norm() -> None:
    """Graph: in -> drop1 -> drop2 -> c -> drop3 -> n -> l -> flat -> drop4 -> out."""
    ops: dict[str, Op] = {
        "in": Input(shape=(2, 2, 2)),
        "drop1": Dropout(),
        "drop2": Dropout(probability=0.9),
        "c": conv(2, 2),
        "drop3": Dropout(),
        "n": BatchNorm(channels=2),
        "l": Lif(),
        "flat": Flatten(),
        "drop4": Dropout(),
        "out": Output(),
    }
    network = random_network(wired(ops, " ".join(ops)))
    folded = fold(network)
    assert_same_function(network, folded)
    assert list(folded.graph.ops) == ["in", "c", "l", "flat", "out"]


@pytest.mark.parametrize("delay", [1, 2])
def test_the_shift_of_a_backward_branch_acts_from_the_first_step(delay: int) -> None:
    """Before a delayed spike arrives the branch gives the BatchNorm's shift, folded or not."""
    network = random_network(with_backward(classifier(), 1, 0, delay), steps=4)
    folded = fold(network)
    bias = folded.weights[next(n for n in folded.weights if n.startswith("back") and n.endswith("bias"))]
    assert bias.all()
    silent = replace(folded, weights={n: np.zeros_like(w) for n, w in folded.weights.items()})
    only = {n: folded.weights[n] if n.startswith("back") else w for n, w in silent.weights.items()}
    currents = run(replace(silent, weights=only), random_input(folded), potentials=True).potentials["lif1"]
    np.testing.assert_allclose(currents[0], np.broadcast_to(bias[:, None, None], currents[0].shape))
    assert_same_function(network, folded)


def test_free_running_differences_are_roundings() -> None:
    """What flips between a trained network and its folded form lies within the rounding bound."""
    network = random_network(with_backward(classifier(norm=True), 1, 0), steps=6)
    x = random_input(network, samples=40)
    folded = fold(network)
    trace = run(folded, x)
    assert compare(folded, x, trace, run(network, x), "unfolded").passed
    assert all(0.02 < s.mean() < 0.9 for s in trace.spikes.values())


def test_folding_again_changes_nothing() -> None:
    """Also not the fingerprint."""
    once = fold(random_network(with_backward(classifier(norm=True), 1, 0)))
    assert fingerprint(fold(once)) == fingerprint(once)


def test_the_original_is_left_alone() -> None:
    """Its graph and weights are what they were."""
    network = random_network(with_backward(classifier(norm=True), 1, 0))
    before = fingerprint(network)
    folded = fold(network)
    assert fingerprint(network) == before
    assert network.graph.training_only
    assert not any(
        np.shares_memory(w, network.weights[n]) for n, w in folded.weights.items() if n in network.weights
    )


def test_the_result_is_in_single_precision() -> None:
    """An exact network that is folded again promises nothing any more."""
    network = random_network(classifier())
    exact = quantize(network, random_input(network)).network
    assert isinstance(exact.format, Exact)
    assert fold(exact).format == Float32()
