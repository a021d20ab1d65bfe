"""From single precision to the loihi format: every register fits, whatever meets in a neuron."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snndeploy.errors import QuantizeError
from snndeploy.ir import (
    AvgPool2d,
    Flatten,
    Graph,
    Input,
    InputSpec,
    Lif,
    Loihi,
    Network,
    Op,
    Output,
    Upsample,
    certify,
    fingerprint,
    load,
    quantize,
    run,
    save,
    with_backward,
)
from snndeploy.ir.neurons import registers, weight_grids
from snndeploy.ir.quantize.branches import inflows
from tests.ir.graphs import classifier, conv, direct, linear, random_input, random_network, wired
from tests.strategies import Layer, Structure, realise, structures

Granularity = Literal["channel", "layer"]
GRANULARITIES: tuple[Granularity, ...] = ("channel", "layer")


def exponents(network: Network, parameter: str) -> npt.NDArray[np.int64]:
    """K of each channel of a parameter."""
    assert isinstance(network.format, Loihi)
    return np.array(network.format.exponents[parameter])


def mantissas(network: Network, parameter: str) -> npt.NDArray[np.float64]:
    """A parameter in units of its grids."""
    array = network.weights[parameter].astype(np.float64)
    scale: npt.NDArray[np.float64] = np.exp2(exponents(network, parameter).astype(np.float64))
    return array * scale.reshape(-1, *[1] * (array.ndim - 1))


def check(network: Network, original: Network, bits: int, granularity: Granularity) -> None:
    """The rules of the format: mantissas, whole registers, one threshold, nothing else changed."""
    assert certify(network).holds
    assert isinstance(network.format, Loihi)
    for name, array in network.weights.items():
        units = mantissas(network, name)
        assert (units == np.round(units)).all()
        if name.endswith(".weight"):
            assert np.abs(units).max() <= 2 ** (bits - 1) - 1
        assert not np.signbit(array[array == 0]).any(), "a file holds no negative zero"
    for name, found in registers(network).items():
        before, after = original.graph.ops[name], network.graph.ops[name]
        assert isinstance(before, Lif)
        assert isinstance(after, Lif)
        assert abs(after.tau - before.tau) <= 0.5 / 4096
        coarsest = 2.0 ** -(int(found.grid_bits.min()) + 1)
        assert abs(after.threshold - before.threshold) <= max(coarsest / 2, coarsest - before.threshold)
        assert (found.threshold == after.threshold * np.exp2(found.grid_bits + 1.0)).all()
        assert ((found.threshold >= 1) & (found.threshold <= 2**17 - 1)).all()
        assert (np.abs(found.bias_mantissa) <= 4095).all()
        if granularity == "layer":
            assert len(set(found.grid_bits.tolist())) == 1
            assert len(set(found.threshold.tolist())) == 1
        for branch in inflows(network)[name].branches:
            weight = network.weights[f"{branch.op}.weight"]
            used = weight.reshape(len(weight), -1).any(axis=1)
            own = exponents(network, f"{branch.op}.weight") + branch.product_digits
            finer = (found.grid_bits - own.repeat(branch.repeats))[used.repeat(branch.repeats)]
            assert ((finer >= 0) & (finer <= 7)).all(), "synapses share at most a power of 2**7"
    plain = {n: Lif() if isinstance(op, Lif) else op for n, op in network.graph.ops.items()}
    given = {n: Lif() if isinstance(op, Lif) else op for n, op in original.graph.ops.items()}
    assert (plain, network.graph.edges) == (given, original.graph.edges)
    assert (network.steps, network.readout, network.input) == (
        original.steps,
        original.readout,
        original.input,
    )


@settings(max_examples=25)
@given(structures(most_layers=3), st.integers(2, 8), st.sampled_from(GRANULARITIES))
def test_random_networks_keep_the_rules_of_the_format(
    structure: Structure, bits: int, granularity: Granularity
) -> None:
    """Chains and residual blocks, pools, groups and backward connections: certified, whole, unsaturated."""
    case = realise(structure)
    found = quantize(case.original, case.x, format="loihi", bits=bits, granularity=granularity)
    check(found.network, case.original, bits, granularity)
    assert found.certificate == certify(found.network)
    grids = weight_grids(found.network)
    for name, u in run(found.network, case.x, potentials=True).potentials.items():
        channels = np.moveaxis(u.astype(np.float64), 2, -1)
        units = channels * np.exp2(grids[name] + 7.0)
        assert (units == np.round(units)).all()
        assert np.abs(units).max() < 2**23 - 1


def wild(seed: int, steps: int, tau: float) -> Network:
    """A network with scales from 1e-6 to 1e3, zero channels, one-channel maps and a large threshold range.

    in -> c1 -> l1 -> pool -> c2 (2 groups) -> l2 -> thin (1 channel) -> l0 -> flat -> fc -> l3 -> read -> out,
    pool -> l2 (identity), l2 -(1)-> back -> up -> l1
    """
    rng = np.random.default_rng(seed)
    lif = Lif(tau=tau, threshold=float(10.0 ** rng.uniform(-2, 2)))
    ops: dict[str, Op] = {
        "in": Input(shape=(2, 4, 4)),
        "c1": conv(2, 4, bias=True),
        "back": conv(4, 4, 1, bias=True),
        "up": Upsample(size=(4, 4)),
        "l1": lif,
        "pool": AvgPool2d(kernel=(2, 2), stride=(2, 2)),
        "c2": conv(4, 4, groups=2, bias=True),
        "l2": lif,
        "thin": conv(4, 1, 1),
        "l0": lif,
        "flat": Flatten(),
        "fc": linear(4, 3, bias=True),
        "l3": lif,
        "read": linear(3, 3, bias=True),
        "out": Output(),
    }
    paths = ["in c1 l1 pool c2 l2 thin l0 flat fc l3 read out", "pool l2"]
    if steps > 1:
        paths.append("l2 ~1 back up l1")
    else:
        ops = {name: op for name, op in ops.items() if name not in ("back", "up")}
    network = random_network(wired(ops, *paths), seed, steps=steps)
    scaled = {}
    for name, array in network.weights.items():
        scale = 10.0 ** rng.uniform(-6, rng.choice([0, 0, 3]), (len(array), *[1] * (array.ndim - 1)))
        scaled[name] = (
            array * np.where(rng.random(scale.shape) < 0.5, scale, 1) * rng.choice([0, 1, 1, 1], scale.shape)
        )
    return replace(network, weights=scaled)


@settings(max_examples=80)
@given(
    st.integers(0, 10**6),
    st.sampled_from([1, 2, 4, 10, 16]),
    st.sampled_from([0.5, 0.5, 0.0, 1.0, 0.3, 0.9]),
    st.integers(2, 8),
    st.sampled_from(GRANULARITIES),
)
def test_any_weights_are_certified_or_refused(
    seed: int, steps: int, tau: float, bits: int, granularity: Granularity
) -> None:
    """Any scale, zero channels, any leak, up to 16 steps: a certificate that holds, or QuantizeError; it ends."""
    network = wild(seed, steps, tau)
    try:
        found = quantize(network, random_input(network), format="loihi", bits=bits, granularity=granularity)
    except QuantizeError as error:
        assert error.where in network.graph.ops  # noqa: PT017 - most are certified
        return
    check(found.network, network, bits, granularity)


def test_most_wild_networks_are_certified() -> None:
    """So that the property above says something: of 40, at least 30."""
    certified = 0
    for seed in range(40):
        network = wild(seed, 4, 0.5)
        try:
            certified += quantize(network, random_input(network), format="loihi").certificate.holds
        except QuantizeError:
            continue
    assert certified >= 30


def lively() -> tuple[Network, npt.NDArray[np.float32]]:
    """A residual network with a backward connection over three ports, and its input."""
    layers = (Layer("chain", 6), Layer("projection", 6, stride=2, pool=True), Layer("residual", 6))
    case = realise(Structure((1, 8, 8), layers, (8,), ((3, 0, 1),), steps=4, readout=4, frames=False, seed=3))
    return case.original, case.x


def test_the_same_twice_and_again_from_a_file(tmp_path: Any) -> None:
    """Nothing is drawn at random, the original is left alone, and a file brings it back."""
    network, x = lively()
    before = fingerprint(network)
    first, second = (quantize(network, x, format="loihi").network for _ in range(2))
    assert fingerprint(first) == fingerprint(second)
    assert fingerprint(network) == before
    save(first, tmp_path / "loihi.snn.safetensors")
    again = load(tmp_path / "loihi.snn.safetensors")
    assert fingerprint(again) == fingerprint(first)
    assert isinstance(again.format, Loihi)


def test_more_bits_lose_less() -> None:
    """Errors of the weights fall with every bit; channels of their own lose less than a layer's grid."""
    network, x = lively()
    errors = {}
    for granularity in GRANULARITIES:
        for bits in (2, 4, 6, 8):
            found = quantize(network, x, format="loihi", bits=bits, granularity=granularity)
            weights = [r.relative_error for r in found.roundings if r.parameter.endswith(".weight")]
            errors[granularity, bits] = float(np.mean(weights))
    for granularity in GRANULARITIES:
        two, four, six, eight = (errors[granularity, bits] for bits in (2, 4, 6, 8))
        assert two > 2 * four > 4 * six > 8 * eight
    assert errors["channel", 4] < errors["layer", 4]


def single(
    weights: list[list[float]],
    bias: list[float] | None = None,
    *,
    steps: int = 10,
    bits: int = 4,
    **lif: float,
) -> Network:
    """One layer on an input of `bits` grid bits: in -> fc -> l -> out."""
    ops: dict[str, Op] = {
        "in": Input(shape=(len(weights[0]),)),
        "fc": linear(len(weights[0]), len(weights), bias=bias is not None),
        "l": Lif(**lif),
        "out": Output(),
    }
    parameters = {"fc.weight": np.array(weights)} | ({} if bias is None else {"fc.bias": np.array(bias)})
    spec = InputSpec(grid_bits=bits)
    return Network(graph=wired(ops, " ".join(ops)), weights=parameters, steps=steps, input=spec)


def to_loihi(network: Network, **settings: Any) -> Network:
    """Quantized with all inputs at their largest."""
    x = np.ones((2, *network.graph.shapes[network.graph.input]))
    return quantize(network, x, format="loihi", **settings).network


def lif(network: Network, name: str = "l") -> Lif:
    """A Lif by name."""
    op = network.graph.ops[name]
    assert isinstance(op, Lif)
    return op


def test_one_threshold_for_a_layer_or_one_for_each_neuron() -> None:
    """Channels of unlike size share the grid of their largest, unless each may have a threshold of its own."""
    network = single([[0.9, 0.5], [0.11, 0.05]], bits=0)
    layer, channel = (
        registers(to_loihi(network))["l"],
        registers(to_loihi(network, granularity="channel"))["l"],
    )
    assert layer.threshold.tolist() == [256, 256]
    assert channel.threshold.tolist() == [256, 2048]
    assert exponents(to_loihi(network, granularity="channel"), "fc.weight").tolist() == [7, 10]


def test_thresholds_and_leaks_are_rounded() -> None:
    """To a whole number of weights of 1 and of 1/4096; nothing happens to those that are."""
    network = to_loihi(single([[0.9]], tau=0.3, threshold=0.3))
    grid = registers(network)["l"].grid_bits.item()
    assert lif(network).tau == round(0.3 * 4096) / 4096
    assert lif(network).threshold == round(0.3 * 2 ** (grid + 1)) / 2 ** (grid + 1) != 0.3
    network = to_loihi(single([[0.9]], tau=0.25, threshold=0.75))
    assert (lif(network).tau, lif(network).threshold) == (0.25, 0.75)


def test_a_threshold_sets_how_fine_and_how_coarse_a_grid_may_be() -> None:
    """Tiny weights cannot be finer than a threshold of 131071 allows; huge ones are clipped at one unit."""
    tiny = to_loihi(single([[1e-3, 9e-4]], bits=0))
    assert registers(tiny)["l"].threshold.tolist() == [2**16]
    assert mantissas(tiny, "fc.weight").tolist() == [[round(1e-3 * 2**15), round(9e-4 * 2**15)]]
    huge = single([[300.0, 100.0]], bits=0)
    found = quantize(huge, np.array([[1.0, 1.0]]), format="loihi")
    assert registers(found.network)["l"].threshold.tolist() == [1]
    assert found.network.weights["fc.weight"].tolist() == [[254, 100]]
    assert found.roundings[0].clipped == 1
    with pytest.raises(QuantizeError, match="needs a threshold of at least half its weights' grid") as caught:
        to_loihi(single([[300.0] * 4000], threshold=0.5))
    assert caught.value.where == "l"


def test_wide_sums_make_a_grid_coarser() -> None:
    """Of 900 weights of 0.9 only as many digits are kept as their sum fits 2**17 units."""
    wide, narrow = to_loihi(single([[0.9] * 900], bits=0)), to_loihi(single([[0.9] * 200], bits=0))
    assert exponents(narrow, "fc.weight").item() == 7
    assert exponents(wide, "fc.weight").item() == 6
    negative = to_loihi(single([[-0.9] * 400], bits=0))  # a potential that never fires reaches twice the sum
    assert exponents(negative, "fc.weight").item() == 6
    apart = to_loihi(single([[-0.9] * 400, [0.2] * 400], bits=0), granularity="channel")
    assert exponents(apart, "fc.weight").tolist() == [6, 9], "only the channel that is too wide"
    leaky = to_loihi(single([[-0.9] * 200], tau=0.75, bits=0))
    assert exponents(leaky, "fc.weight").item() == 7 - 1


def test_large_biases_make_a_grid_coarser() -> None:
    """A bias has at most 4095 * 2**7 units of the membrane."""
    for bias, grid in ((15.0, 8), (31.0, 7), (33.0, 6), (-100.0, 5)):
        found = to_loihi(single([[0.4]], [bias], bits=0), granularity="channel")
        assert registers(found)["l"].grid_bits.item() == grid
        assert found.weights["fc.bias"].item() == pytest.approx(bias, abs=0.5)
    with pytest.raises(QuantizeError, match="its sums, bias or threshold need a coarser grid") as caught:
        to_loihi(single([[0.4]], [1e6]))
    assert caught.value.where == "l"


def test_biases_that_meet_share_a_power_of_two() -> None:
    """Two branches whose biases nearly cancel, or add up to more than one mantissa, in long and in short samples.

    in -> fc -> l -> out and in -> more -> l
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(1,)),
        "fc": linear(1, 3, bias=True),
        "more": linear(1, 3, bias=True),
        "l": Lif(),
        "out": Output(),
    }
    one, other = np.array([13.01, 20.3, 7.77]), np.array([-13.003, 11.2, -0.001])
    weight = np.full((3, 1), 0.4)
    weights = {"fc.weight": weight, "more.weight": weight / 3, "fc.bias": one, "more.bias": other}
    for steps in (1, 6, 20):
        spec = InputSpec(grid_bits=0)
        network = Network(
            graph=wired(ops, "in fc l out", "in more l"), weights=weights, steps=steps, input=spec
        )
        found = quantize(network, np.zeros((1, 1)), format="loihi", granularity="channel").network
        total = (found.weights["fc.bias"].astype(np.float64) + found.weights["more.bias"]).tolist()
        held = registers(found)["l"]
        unit = np.exp2(-(held.grid_bits + 7.0))
        assert total == ((held.bias_mantissa << held.bias_exponent) * unit).tolist()
        np.testing.assert_allclose(total, one + other, atol=float((unit * 128).max()))


def test_an_op_that_feeds_two_lifs_takes_the_coarser_grid() -> None:
    """One of them has wide sums of its own, so what they share cannot be finer there.

    in -> fc -> a -> read -> out and fc -> b -> read, in -> big -> b
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(40,)),
        "fc": linear(40, 2, bias=True),
        "big": linear(40, 2),
        "a": Lif(),
        "b": Lif(),
        "read": linear(2, 2),
        "out": Output(),
    }
    weights = {
        "fc.weight": np.full((2, 40), 0.06),
        "fc.bias": np.array([0.111, -0.3]),
        "big.weight": np.full((2, 40), 60.0),
        "read.weight": np.eye(2),
    }
    graph = wired(ops, "in fc a read out", "fc b read", "in big b")
    network = Network(graph=graph, weights=weights, steps=12, input=InputSpec(grid_bits=0))
    found = quantize(network, np.ones((2, 40)), format="loihi").network
    held = registers(found)
    assert (
        exponents(found, "fc.weight").tolist() == held["a"].grid_bits.tolist() == held["b"].grid_bits.tolist()
    )
    assert held["b"].grid_bits.tolist() == [4, 4], "40 weights of 60 leave no more"
    alone = to_loihi(single([[0.06] * 40] * 2, bits=0))
    assert registers(alone)["l"].grid_bits.tolist() == [11, 11]


def test_grids_that_meet_differ_by_seven_digits_at_most() -> None:
    """That is what the synapses of a population can be shifted by: weights of 0.01 beside weights of 100.

    in -> fine -> l -> out and in -> coarse -> l
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(1,)),
        "fine": linear(1, 1),
        "coarse": linear(1, 1),
        "l": Lif(),
        "out": Output(),
    }
    weights = {"fine.weight": np.array([[0.01]]), "coarse.weight": np.array([[100.0]])}
    spec = InputSpec(grid_bits=0)
    network = Network(graph=wired(ops, "in fine l out", "in coarse l"), weights=weights, steps=12, input=spec)
    found = to_loihi(network)
    assert (exponents(found, "fine.weight").item(), exponents(found, "coarse.weight").item()) == (7, 0)
    found = to_loihi(replace(network, weights={**weights, "coarse.weight": np.array([[0.5]])}))
    assert (exponents(found, "fine.weight").item(), exponents(found, "coarse.weight").item()) == (13, 7)


def test_a_tiny_branch_does_not_cost_the_others_their_digits() -> None:
    """A backward connection that learned next to nothing is coarsened before the layer it feeds."""
    graph = with_backward(classifier(), 1, 0)
    ops = {n: op for n, op in graph.ops.items() if n != "back1_0.norm"}
    ops["back1_0.conv"] = linear(5, 3, bias=True)
    edges = [e for e in graph.edges if "back1_0.norm" not in (e.source, e.target)]
    joined = wired({"a": Input(shape=(1,)), "o": Output()}, "a o").edges[0]
    graph = Graph(ops, (*edges, replace(joined, source="back1_0.conv", target="back1_0.upsample")))
    network = random_network(graph, steps=12)
    x = random_input(network, samples=16)
    plain = quantize(network, x, format="loihi")
    tiny = {n: w * 1e-6 if n.startswith("back") else w for n, w in network.weights.items()}
    found = quantize(replace(network, weights=tiny), x, format="loihi")
    for name in ("conv.weight", "fc.weight"):
        assert (exponents(found.network, name) >= exponents(plain.network, name)).all()
    grid = registers(found.network)["lif1"].grid_bits.max()
    assert grid - 4 - exponents(found.network, "conv.weight").min() <= 7, "the input adds four digits"


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_tiny_branch_gives_way_beside_a_direct_edge(granularity: Granularity) -> None:
    """It is coarsened to what the others' synapses can be shifted by, and refused is nothing.

    in -> coarse -> l -> out, in -> fine -> l, in -> l
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(1,)),
        "coarse": linear(1, 1),
        "fine": linear(1, 1),
        "l": Lif(),
        "out": Output(),
    }
    weights = {"coarse.weight": np.array([[0.5]]), "fine.weight": np.array([[0.0007]])}
    spec = InputSpec(grid_bits=0)
    graph = wired(ops, "in coarse l out", "in fine l", "in l")
    network = Network(graph=graph, weights=weights, steps=12, input=spec)
    found = quantize(network, np.ones((1, 1)), format="loihi", granularity=granularity).network
    check(found, network, 8, granularity)
    assert exponents(found, "fine.weight") == 13, (
        "7 digits finer than the direct edge with the 6 of a mantissa"
    )


def test_direct_edges_count_as_weights_of_one() -> None:
    """They set the least grid, and the finest is as many digits away as a synapse can shift.

    in -> a -> b -> out and in -> b
    """
    found = quantize(
        Network(graph=direct("in a b out", "in b"), weights={}, steps=12, input=InputSpec(grid_bits=4)),
        np.ones((1, 2)),
        format="loihi",
    ).network
    held = registers(found)
    assert {n: (r.grid_bits.tolist(), r.threshold.tolist()) for n, r in held.items()} == {
        "a": ([4, 4], [32, 32]),
        "b": ([4, 4], [32, 32]),
    }
    fine = Network(graph=direct("in a out"), weights={}, steps=12, input=InputSpec(grid_bits=16))
    with pytest.raises(QuantizeError, match=r"on the grid 2\*\*-16, which is too fine") as caught:
        quantize(fine, np.ones((1, 2)), format="loihi")
    assert caught.value.where == "a"


def test_an_op_that_reaches_a_lif_twice_counts_twice() -> None:
    """Its bias of 20 adds up to 40, which takes a digit more than 20.

    in -> conv -> l -> out and conv -> up -> l
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(1, 1, 1)),
        "conv": conv(1, 1, 1, bias=True),
        "up": Upsample(size=(1, 1)),
        "l": Lif(),
        "flat": Flatten(),
        "out": Output(),
    }
    weights = {"conv.weight": np.full((1, 1, 1, 1), 0.4), "conv.bias": np.array([20.0])}
    found = []
    for paths in (["in conv l flat out"], ["in conv l flat out", "conv up l"]):
        own = {name: op for name, op in ops.items() if name != "up" or len(paths) > 1}
        spec = InputSpec(grid_bits=0)
        network = Network(graph=wired(own, *paths), weights=weights, steps=12, input=spec)
        found.append(to_loihi(network))
    assert [registers(network)["l"].grid_bits.item() for network in found] == [7, 6]
    twice = registers(found[1])["l"]
    assert (twice.bias_mantissa << twice.bias_exponent).item() * 2.0**-13 == 2 * found[1].weights[
        "conv.bias"
    ].item()


def test_zero_channels_set_no_grid() -> None:
    """A channel without weights takes the grid of the others that enter it, and keeps its bias.

    in -> fc -> l -> out and in -> more -> l
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(1,)),
        "fc": linear(1, 2, bias=True),
        "more": linear(1, 2),
        "l": Lif(),
        "out": Output(),
    }
    weights = {
        "fc.weight": np.array([[0.0], [0.02]]),
        "fc.bias": np.array([0.3, 0.0]),
        "more.weight": np.array([[3.0], [0.0]]),
    }
    spec = InputSpec(grid_bits=0)
    network = Network(graph=wired(ops, "in fc l out", "in more l"), weights=weights, steps=12, input=spec)
    found = to_loihi(network, granularity="channel")
    assert exponents(found, "fc.weight").tolist() == exponents(found, "more.weight").tolist()
    assert registers(found)["l"].grid_bits.tolist() == exponents(found, "fc.weight").tolist()
    assert found.weights["fc.bias"].tolist() == pytest.approx([0.3, 0], abs=1e-3)
    empty = to_loihi(replace(network, weights={n: w * 0 for n, w in weights.items()}))
    assert not run(empty, np.ones((1, 1))).spikes["l"].any()


def test_any_number_of_steps() -> None:
    """Unlike the exact format: 200 steps, certified."""
    network = random_network(classifier(), steps=200)
    x = random_input(network, samples=4)
    with pytest.raises(QuantizeError, match="sums can reach"):
        quantize(network, x)
    found = quantize(network, x, format="loihi")
    assert found.certificate.holds
    assert all(0.02 < s.mean() < 0.6 for s in run(found.network, x).spikes.values())


def test_what_has_no_counterpart_is_named() -> None:
    """An op with weights right after another, a pool of area 9, a pool after a sum that is too wide."""
    ops: dict[str, Op] = {
        "in": Input(shape=(2,)),
        "fc": linear(2, 2),
        "more": linear(2, 2),
        "l": Lif(),
        "out": Output(),
    }
    network = random_network(wired(ops, "in fc more l out"))
    with pytest.raises(QuantizeError, match="more: is entered by the sums of another op with weights"):
        quantize(network, np.zeros((1, 2)), format="loihi")
    assert quantize(network, np.zeros((1, 2))).certificate.holds
    ops = {
        "in": Input(shape=(1, 3, 3)),
        "conv": conv(1, 2),
        "l": Lif(),
        "pool": AvgPool2d(kernel=(3, 3), stride=(3, 3)),
        "flat": Flatten(),
        "fc": linear(2, 2),
        "out": Output(),
    }
    with pytest.raises(QuantizeError, match=r"pool: cannot be certified, got the pool's area 9"):
        quantize(random_network(wired(ops, " ".join(ops))), np.zeros((1, 1, 3, 3)), format="loihi")


def test_settings_out_of_range() -> None:
    """An unknown format or granularity, too many bits, a network that was quantized already."""
    network, x = single([[0.5]]), np.ones((1, 1))
    with pytest.raises(QuantizeError, match="must be 'exact' or 'loihi', got 'int8'"):
        quantize(network, x, format="int8")  # type: ignore[arg-type]  # a mistake
    with pytest.raises(QuantizeError, match=r"must be a whole number in \[2, 8\], got 9"):
        quantize(network, x, bits=9)
    with pytest.raises(QuantizeError, match="must be 'channel' or 'layer', got 'neuron'"):
        quantize(network, x, granularity="neuron")  # type: ignore[arg-type]  # a mistake
    with pytest.raises(QuantizeError, match="must be in float32, got loihi; quantize the network that it"):
        quantize(to_loihi(network), x)
