"""What is certified is exact in any order of summation, and what is not is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snndeploy.errors import NetworkError, QuantizeError
from snndeploy.ir import (
    AvgPool2d,
    Certificate,
    Exact,
    Flatten,
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
    parameter_shapes,
    run,
)
from tests.ir.backend import backend
from tests.ir.graphs import classifier, conv, direct, linear, random_network, wired
from tests.strategies import Case, cases


def row(certificate: Certificate, op: str) -> Any:
    """The certificate's row for an op."""
    return next(r for r in certificate.rows if r.op == op)


def assert_equal_bits(a: Trace, b: Trace) -> None:
    """Spikes, potentials and readout sums are the same numbers."""
    for name, spikes in a.spikes.items():
        assert (spikes == b.spikes[name]).all(), name
        assert (a.potentials[name] == b.potentials[name]).all(), name
    assert (a.readout_sum == b.readout_sum).all()


def assert_exact(network: Network, x: npt.NDArray[np.float32], seed: int) -> None:
    """Single precision in two orders and double precision agree in every bit."""
    reference = run(network, x, potentials=True, dtype=np.float64)
    assert_equal_bits(run(network, x, potentials=True), reference)
    assert_equal_bits(backend(network, x, seed), reference)


@settings(max_examples=40)
@given(cases(most_layers=3), st.integers(0, 99))
def test_quantized_networks_are_exact(case: Case, seed: int) -> None:
    """Random lively networks: certified, and then the same in any order."""
    assert certify(case.network).holds
    assert_exact(case.network, case.x, seed)


def every_op(tau: float, threshold: float) -> Graph:
    """Every op that adds, streams of several convolutions without a LIF between, skips and delays.

    in (2 x 4 x 4) -> c1 -> (l1, pool) ; l1 -> c2 -> c3 (groups) -> l2 -> pool2 -> flat -> fc -> out
    in -> l1 directly, c2 -> l2, pool -> up -> l2, l2 -(1)-> back -> l1, l1 -(2)-> l1
    """
    lif = Lif(tau=tau, threshold=threshold)
    ops: dict[str, Op] = {
        "in": Input(shape=(2, 4, 4)),
        "c1": conv(2, 2, bias=True),
        "back": conv(2, 2, 1, bias=True),
        "l1": lif,
        "pool": AvgPool2d(kernel=(2, 2), stride=(2, 2)),
        "up": Upsample(size=(4, 4)),
        "c2": conv(2, 2),
        "c3": conv(2, 2, 1, groups=2, bias=True),
        "l2": lif,
        "pool2": AvgPool2d(kernel=(4, 2), stride=(4, 2)),
        "flat": Flatten(),
        "fc": linear(4, 3, bias=True),
        "out": Output(),
    }
    paths = (
        "in c1 l1 c2 c3 l2 pool2 flat fc out",
        "in l1",
        "c1 pool up l2",
        "c2 l2",
        "l2 ~1 back l1",
        "l1 ~2 l1",
    )
    return wired(ops, *paths)


def arbitrary(rng: np.random.Generator) -> tuple[Network, npt.NDArray[np.float32]]:
    """A network of random mantissas and grids, often close to what single precision can hold, and input."""
    tau, threshold = rng.choice([0.0, 0.25, 0.5, 0.5, 0.5, 1.0]), rng.choice([0.3, 1.0, 7.5])
    graph = every_op(float(tau), float(threshold))
    exponents, weights = {}, {}
    for name, shape in parameter_shapes(graph).items():
        low = 0 if name.endswith(".weight") else 3
        k = rng.integers(low, low + 7, shape[0])
        mantissas = rng.integers(-127, 128, shape) >> rng.integers(0, 7)
        exponents[name] = tuple(int(n) for n in k)
        weights[name] = mantissas / 2.0 ** k.reshape(-1, *[1] * (len(shape) - 1))
    bits = int(rng.integers(0, 5))
    spec = InputSpec(kind="frames", grid_bits=bits, low=-1.0, high=2.0)
    steps = int(rng.integers(3, 7))
    network = Network(graph=graph, weights=weights, steps=steps, input=spec, format=Exact(exponents))
    x = rng.integers(-(2**bits), 2 * 2**bits + 1, (steps, 3, 2, 4, 4)) / 2**bits
    return network, x.astype(np.float32)


def test_whatever_is_certified_is_exact() -> None:
    """Hundreds of arbitrary networks near the limit: those certified are exact, some of the others are not."""
    certified, refused, inexact = 0, 0, 0
    for seed in range(400):
        network, x = arbitrary(np.random.default_rng(seed))
        if certify(network).holds:
            certified += 1
            assert_exact(network, x, seed)
        else:
            refused += 1
            try:
                assert_exact(network, x, seed)
            except AssertionError:
                inexact += 1
    assert certified >= 100
    assert refused >= 50
    assert inexact >= 10, "the certificate is not needlessly strict, and the comparison can fail"


def neuron(weights: list[float], bias: float, k: tuple[int, int], **settings: Any) -> Network:
    """One neuron: in -> fc -> l -> out, with the exponents of weights and bias."""
    ops: dict[str, Op] = {
        "in": Input(shape=(len(weights),)),
        "fc": linear(len(weights), 1, bias=True),
        "l": settings.pop("lif", Lif()),
        "out": Output(),
    }
    return Network(
        graph=wired(ops, " ".join(ops)),
        weights={"fc.weight": np.array([weights]), "fc.bias": np.array([bias])},
        format=Exact({"fc.weight": (k[0],), "fc.bias": (k[1],)}),
        **{"steps": 3, "input": InputSpec(grid_bits=4), **settings},
    )


def test_bound_of_one_neuron_by_hand() -> None:
    """Weights 3/4 and -2/4, bias 5/256, input in [0, 1] on 1/16: g = 8, P = 197, N = 128 units, T = 3."""
    certificate = certify(neuron([0.75, -0.5], 5 / 256, (2, 8)))
    assert [r.op for r in certificate.rows] == ["fc", "l", "out"]
    assert (row(certificate, "fc").bound, row(certificate, "fc").grid_bits) == (197, 8)
    assert row(certificate, "l").bound == max(197 + 256 / 2, 2 * 128) * 2**2
    assert row(certificate, "out").bound == 3
    assert certificate.holds
    assert certificate.failures == ()


def test_the_finer_of_products_and_bias_makes_the_grid() -> None:
    """Products are on 2^-(2 + 4); a bias on 2^-3 is coarser, and none at all does not count, whatever its k."""
    assert row(certify(neuron([0.75, -0.5], 0.125, (2, 3))), "fc").grid_bits == 6
    assert row(certify(neuron([0.75, -0.5], 0.0, (2, 30))), "fc").grid_bits == 6
    assert row(certify(neuron([0.75, -0.5], 1 / 128, (2, 7))), "fc").grid_bits == 7


def test_negative_charge_counts_twice() -> None:
    """A neuron that is only inhibited sinks to 2 N, which is more than P + V_th / 2."""
    certificate = certify(neuron([-3.0, -2.0], 0.0, (0, 0)))
    assert row(certificate, "l").bound == 2 * 5 * 2**4 * 2**2
    assert row(certificate, "fc").bound == 5 * 2**4


def test_negative_inputs_swap_the_signs() -> None:
    """Input in [-2, 1]: P = 3/4 * 1 + 2/4 * 2, N = 3/4 * 2 + 2/4 * 1, in units of 2^-6."""
    spec = InputSpec(grid_bits=4, low=-2.0)
    certificate = certify(neuron([0.75, -0.5], 0.0, (2, 0), input=spec))
    assert row(certificate, "fc").bound == max(1.75, 2.0) * 2**6
    assert row(certificate, "l").bound == max(1.75 + 0.5, 2 * 2.0) * 2**6 * 4


@pytest.mark.parametrize(
    ("tau", "steps", "bound"),
    [
        (0.5, 1, max(197 + 128, 2 * 128)),
        (0.25, 3, (197 + 256 / 4) * 4**2),
        (0.0, 9, 197),
        (1.0, 3, max(197 + 256, 3 * 128)),
        (1.0, 9, 9 * 128),
    ],
)
def test_bounds_for_other_leaks(tau: float, steps: int, bound: float) -> None:
    """Tau = 1/4 takes two digits a step, tau = 1 none but sums up all steps, tau = 0 forgets."""
    found = certify(neuron([0.75, -0.5], 5 / 256, (2, 8), lif=Lif(tau=tau), steps=steps))
    assert row(found, "l").bound == bound


def test_pools_add_digits_and_upsampling_none() -> None:
    """A mean over 4 x 2 spikes is on 2^-3; its sum reaches 8 units."""
    ops: dict[str, Op] = {
        "in": Input(shape=(1, 8, 4)),
        "l": Lif(),
        "pool": AvgPool2d(kernel=(4, 2), stride=(4, 2)),
        "up": Upsample(size=(3, 3)),
        "l2": Lif(),
        "flat": Flatten(),
        "out": Output(),
    }
    graph = wired(ops, " ".join(ops))
    spec = InputSpec(grid_bits=0)
    certificate = certify(Network(graph=graph, weights={}, steps=2, input=spec, format=Exact()))
    assert (row(certificate, "pool").grid_bits, row(certificate, "pool").bound) == (3, 8)
    assert row(certificate, "l2").bound == (1 + 0.5) * 2**3 * 2
    assert [r.op for r in certificate.rows] == ["l", "pool", "l2", "out"]


def test_edges_are_added_up_and_groups_kept_apart() -> None:
    """Graph: in (2) -> conv (groups 2, weights 1 and 64) -> l, and in -> l twice: channels differ."""
    ops: dict[str, Op] = {
        "in": Input(shape=(2, 1, 1)),
        "c": conv(2, 2, 1, groups=2),
        "l": Lif(),
        "flat": Flatten(),
        "out": Output(),
    }
    graph = wired(ops, "in c l flat out", "in l", "in l")
    weights = {"c.weight": np.array([1.0, 64.0]).reshape(2, 1, 1, 1)}
    network = Network(
        graph=graph,
        weights=weights,
        steps=1,
        input=InputSpec(grid_bits=2),
        format=Exact({"c.weight": (3, 0)}),
    )
    certificate = certify(network)
    assert row(certificate, "c").bound == max(1 * 2**5, 64 * 2**2)
    assert row(certificate, "c").grid_bits == 5
    assert row(certificate, "l").bound == max((1 + 2 + 0.5) * 2**5, (64 + 2 + 0.5) * 2**2)


def test_the_output_counts_all_steps() -> None:
    """max(P, N) times T."""
    ops: dict[str, Op] = {
        "in": Input(shape=(1,)),
        "l": Lif(),
        "fc": linear(1, 2),
        "out": Output(),
    }
    weights = {"fc.weight": np.array([[5.0], [-7.0]])}
    network = Network(
        graph=wired(ops, " ".join(ops)),
        weights=weights,
        steps=6,
        input=InputSpec(grid_bits=0),
        format=Exact({"fc.weight": (0, 0)}),
    )
    assert row(certify(network), "out").bound == 7 * 6


def at_the_limit(high: float) -> Network:
    """A neuron fed directly on a grid of 2^-16 for one step: (high + 1/2) * 2^16 units."""
    spec = InputSpec(grid_bits=16, high=high)
    return Network(graph=direct("in l out", features=1), weights={}, steps=1, input=spec, format=Exact())


def test_a_bound_of_exactly_the_limit_is_certified() -> None:
    """2^24 units are exact, a unit more is not."""
    certificate = certify(at_the_limit(255.5))
    assert row(certificate, "l").bound == 2**24
    assert row(certificate, "l").bits_left == 0
    assert certificate.holds
    beyond = certify(at_the_limit(255.5 + 2**-16))
    assert row(beyond, "l").bound == 2**24 + 1
    assert row(beyond, "l").bits_left < 0
    assert not beyond.holds


def test_failures_are_named_with_op_and_reason() -> None:
    """A leak or a pool that is no power of two, too many steps, sums too wide."""
    base = neuron([0.75, -0.5], 5 / 256, (2, 8))
    leak = certify(neuron([0.75, -0.5], 5 / 256, (2, 8), lif=Lif(tau=0.3)))
    assert [(r.op, r.reason) for r in leak.failures] == [("l", "tau 0.3 is no power of two")]
    assert not leak.holds
    long = certify(replace(base, steps=20))
    (failure,) = long.failures
    assert failure.op == "l"
    assert failure.reason.startswith("sums can reach 1.704e+08 units, above 2**24")
    endless = certify(replace(base, steps=100_000))
    assert [r.op for r in endless.failures] == ["l"]
    coarse = certify(neuron([float(2**30), 0.0], 0.0, (-24, 0)))
    assert "fc" not in [r.op for r in coarse.failures], "a coarse grid holds large numbers"
    wide = certify(neuron([127.0, 0.0], 127 / 2**20, (0, 20)))
    assert [r.op for r in wide.failures] == ["fc", "l"]
    ops: dict[str, Op] = {
        "in": Input(shape=(1, 3, 3)),
        "l": Lif(),
        "pool": AvgPool2d(kernel=(3, 3), stride=(3, 3)),
        "flat": Flatten(),
        "out": Output(),
    }
    pooled = Network(
        graph=wired(ops, " ".join(ops)), weights={}, steps=2, input=InputSpec(grid_bits=0), format=Exact()
    )
    assert [(r.op, r.reason) for r in certify(pooled).failures] == [
        ("pool", "the pool's area 9 is no power of two")
    ]


def test_numbers_beyond_the_range_of_single_precision() -> None:
    """Grids that add up to less than the smallest normal number, or more than the largest, are refused."""
    ops: dict[str, Op] = {
        "in": Input(shape=(1,)),
        "a": linear(1, 1),
        "b": linear(1, 1),
        "l": Lif(threshold=1e-6),
        "out": Output(),
    }
    graph = wired(ops, " ".join(ops))
    for k in (64, -64):
        network = Network(
            graph=graph,
            weights={"a.weight": np.array([[2.0**-k]]), "b.weight": np.array([[2.0**-k]])},
            steps=1,
            input=InputSpec(grid_bits=0),
            format=Exact({"a.weight": (k,), "b.weight": (k,)}),
        )
        found = certify(network)
        assert not found.holds
        assert row(found, "b").reason
        assert row(found, "a").certified


def test_only_folded_networks_in_the_exact_format() -> None:
    """Single precision promises nothing, and BatchNorm cannot be in the exact format."""
    with pytest.raises(QuantizeError, match="covers the exact and the loihi format only, got float32"):
        certify(random_network(classifier()))
    with pytest.raises(NetworkError, match="BatchNorm exists only while training"):
        random_network(classifier(norm=True), format=Exact())
