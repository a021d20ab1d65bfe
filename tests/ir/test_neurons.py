"""Neurons of the loihi format against an integer model of Lava's fixed-point LIF."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
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
    run,
)
from snndeploy.ir.neurons import Neurons, neurons, registers, total_biases, weight_grids, weighted_twice
from tests.ir.graphs import classifier, conv, direct, linear, random_network, wired

Whole = npt.NDArray[np.int64]
LARGEST = 2**23 - 1
NEURONS = 40


@dataclass(frozen=True)
class Drive:
    """Neurons with random registers and what enters them: activations (steps, neurons) in weights of 1."""

    decay: int
    threshold: Whole
    bias_mantissa: Whole
    bias_exponent: Whole
    activations: Whole

    @property
    def biases(self) -> Whole:
        """In units of the membrane."""
        return self.bias_mantissa << self.bias_exponent


def drawn(seed: int, decay: int, steps: int = 60) -> Drive:
    """Registers over their whole ranges; the largest activations reach what a register holds."""
    rng = np.random.default_rng(seed)
    sizes = np.exp2(rng.uniform(0, 19, NEURONS))  # from some that hardly move to some that saturate
    low, high = rng.choice([-1.0, -1.0, 0.0], NEURONS), rng.choice([0.0, 1.0], NEURONS)
    activations = rng.uniform(low * sizes, high * sizes + 1, (steps, NEURONS))
    return Drive(
        decay=decay,
        threshold=np.exp2(rng.uniform(0, 17, NEURONS)).astype(np.int64).clip(1, 2**17 - 1),
        bias_mantissa=rng.integers(-4095, 4096, NEURONS) * rng.choice([0, 1], NEURONS),
        bias_exponent=rng.integers(0, 8, NEURONS),
        activations=activations.astype(np.int64).clip(-(2**17) + 1, 2**17 - 1),
    )


def integer_model(drive: Drive) -> tuple[Whole, npt.NDArray[np.bool_]]:
    """Potentials before the reset and spikes, in Python's integers, as Lava documents its neuron.

    The current is the activation shifted by 6 bits, as du = 4095 forgets the last one. The potential is
    multiplied by 4096 - dv, its magnitude shifted by 12 bits, current and bias are added, and it is kept
    within 24 bits; it fires above vth shifted by 6 bits and then is 0.
    """
    potentials, spikes = [], []
    rest = [0] * NEURONS
    biases = [int(b) for b in drive.biases]
    for row in drive.activations:
        now = []
        for neuron, activation in enumerate(row):
            size = (abs(rest[neuron]) * (4096 - drive.decay)) >> 12
            left = size if rest[neuron] >= 0 else -size
            now.append(max(-LARGEST, min(LARGEST, left + (int(activation) << 6) + biases[neuron])))
        fired = [u > int(t) << 6 for u, t in zip(now, drive.threshold, strict=True)]
        rest = [0 if f else u for u, f in zip(now, fired, strict=True)]
        potentials.append(now)
        spikes.append(fired)
    return np.array(potentials), np.array(spikes)


def real_model(drive: Drive, grid_bits: Whole) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """The same from `Neurons.charge` in real values and single precision, potentials in units."""
    unit = np.exp2(-(grid_bits + 7.0))
    x = ((drive.activations * 64 + drive.biases) * unit).astype(np.float32)
    threshold = (drive.threshold * 64 * unit).astype(np.float32)
    computing = Neurons(1 - drive.decay / 4096, 1.0, unit)
    rest = np.zeros(NEURONS, np.float32)
    potentials, spikes = [], []
    for row in x:
        u = computing.charge(rest, row)
        assert u.dtype == np.float32
        spikes.append(u > threshold)
        rest = np.where(spikes[-1], np.float32(0), u)
        potentials.append(u / unit)
    return np.array(potentials), np.array(spikes)


@given(
    st.integers(0, 10**6), st.sampled_from([2048, 2048, 0, 1, 1024, 3277, 4095, 4096]) | st.integers(0, 4096)
)
def test_every_potential_is_that_of_the_integers(seed: int, decay: int) -> None:
    """Sixty random steps with any decay, from silent neurons to saturated ones: equal potentials and spikes."""
    drive = drawn(seed, decay)
    grid_bits = np.random.default_rng(seed).integers(-1, 19, NEURONS)
    expected, fired = integer_model(drive)
    potentials, spikes = real_model(drive, grid_bits)
    np.testing.assert_array_equal(potentials, expected)
    np.testing.assert_array_equal(spikes, fired)


def test_the_random_steps_cover_saturation_truncation_and_spikes() -> None:
    """So that the property above says something."""
    drive = drawn(1, 1024)
    potentials, spikes = integer_model(drive)
    assert (potentials == -LARGEST).any()
    assert (potentials == LARGEST).any()
    assert (potentials % 2 != 0).mean() > 0.2
    assert 0.02 < spikes.mean() < 0.6


def test_other_formats_only_leak() -> None:
    """In float32 and exact a potential is tau * v + x, however small or large."""
    computing = Neurons(0.3, 1.0)
    rest, x = np.array([1.0, -1e-6, 1e8], np.float32), np.array([0.5, 0.0, 1e8], np.float32)
    np.testing.assert_array_equal(computing.charge(rest, x), np.float32(0.3) * rest + x)
    network = random_network(classifier())
    assert all(found.unit is None for found in neurons(network).values())


def single(weight: int, bias: float = 0.0, k: int = 6, bias_k: int = 13, **lif: float) -> Network:
    """One neuron with weight * 2**-k on an input of 0 or 1: in -> fc -> l -> out."""
    ops: dict[str, Op] = {
        "in": Input(shape=(1,)),
        "fc": linear(1, 1, bias=True),
        "l": Lif(**lif),
        "out": Output(),
    }
    return Network(
        graph=wired(ops, " ".join(ops)),
        weights={"fc.weight": np.array([[weight * 2.0**-k]]), "fc.bias": np.array([bias])},
        steps=4,
        input=InputSpec(grid_bits=0),
        format=Loihi({"fc.weight": (k,), "fc.bias": (bias_k,)}),
    )


@pytest.mark.parametrize(
    ("units", "mantissa", "exponent"),
    [
        (0, 0, 0),
        (1, 1, 0),
        (-4095, -4095, 0),
        (4096, 2048, 1),
        (8190, 4095, 1),
        (-8192, -2048, 2),
        (4095 * 128, 4095, 7),
        (-4095 * 128, -4095, 7),
    ],
)
def test_biases_have_the_smallest_exponent(units: int, mantissa: int, exponent: int) -> None:
    """A mantissa of at most 4095 in size and an exponent of 0 to 7."""
    found = registers(single(5, units * 2.0**-13))["l"]
    assert (found.bias_mantissa.tolist(), found.bias_exponent.tolist()) == ([mantissa], [exponent])


@pytest.mark.parametrize("units", [4097, -8191, 4095 * 128 + 128, 8192 * 64 + 1])
def test_other_biases_are_refused(units: int) -> None:
    """A bias with too many digits, or too large a one."""
    with pytest.raises(QuantizeError, match=r"l: needs a bias of 4095 \* 2\*\*e units") as caught:
        registers(single(5, units * 2.0**-13))
    assert caught.value.where == "l"
    assert not certify(single(5, units * 2.0**-13)).holds


def test_thresholds_and_leaks_are_registers() -> None:
    """A threshold is a whole number of weights of 1 below 2**17; dv is 4096 (1 - tau)."""
    found = registers(single(5, threshold=3.0, tau=0.25))["l"]
    assert (found.grid_bits.tolist(), found.threshold.tolist(), found.decay) == ([6], [3 * 2**7], 3072)
    assert registers(single(5, k=16, threshold=131071 * 2.0**-17))["l"].threshold.tolist() == [131071]
    for threshold in (1.0, 0.3):
        with pytest.raises(
            QuantizeError, match="l: needs a threshold that is a whole number of at most 131071"
        ):
            registers(single(5, k=16, threshold=threshold))
    with pytest.raises(QuantizeError, match="l: needs a tau that is a whole multiple of 1/4096"):
        registers(single(5, tau=0.3))


def gridded(
    ops: dict[str, Op], paths: list[str], exponents: Mapping[str, tuple[int, ...]], **settings: Any
) -> Network:
    """A loihi network whose weights are one unit of their grids."""
    weights = {
        name: np.ones(shape)
        * np.exp2(-np.array(exponents[name], np.float64)).reshape(-1, *[1] * (len(shape) - 1))
        for name, shape in shapes_of(wired(ops, *paths)).items()
    }
    settings = {"steps": 4, "input": InputSpec(grid_bits=2), **settings}
    return Network(graph=wired(ops, *paths), weights=weights, format=Loihi(exponents), **settings)


def shapes_of(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter."""
    return {name: array.shape for name, array in random_network(graph).weights.items()}


def test_grids_follow_pools_groups_and_inputs() -> None:
    """The finest of what enters, channel by channel; the area of a pool and the input's grid add digits.

    in (2 x 4 x 4) -> c1 -> l1 -> pool (2 x 2) -> c2 (2 groups) -> l2 -> flat -> fc -> out, l2 -(1)-> back -> up -> l1
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(2, 4, 4)),
        "c1": conv(2, 2),
        "back": conv(2, 2, 1),
        "up": Upsample(size=(4, 4)),
        "l1": Lif(),
        "pool": AvgPool2d(kernel=(2, 2), stride=(2, 2)),
        "c2": conv(2, 2, groups=2),
        "l2": Lif(),
        "flat": Flatten(),
        "fc": linear(8, 3),
        "out": Output(),
    }
    exponents = {"c1.weight": (3, 9), "back.weight": (6, 6), "c2.weight": (4, 7), "fc.weight": (1, 2, 3)}
    paths = ["in c1 l1 pool c2 l2 flat fc out", "l2 ~1 back up l1"]
    grids = weight_grids(gridded(ops, paths, exponents))
    assert {name: g.tolist() for name, g in grids.items()} == {
        "l1": [6, 11],
        "l2": [6, 9],
        "out": [1, 2, 3],
    }


def test_grids_of_direct_edges_and_flattened_channels() -> None:
    """A direct edge has weight 1; behind a Flatten each feature has the grid of its channel."""
    network = direct("in a b out", "b ~1 a")
    loihi = Network(graph=network, weights={}, steps=3, input=InputSpec(grid_bits=3), format=Loihi({}))
    assert {n: g.tolist() for n, g in weight_grids(loihi).items()} == {
        "a": [3, 3],
        "b": [0, 0],
        "out": [0, 0],
    }
    ops: dict[str, Op] = {
        "in": Input(shape=(1, 2, 1)),
        "c": conv(1, 2, 1),
        "flat": Flatten(),
        "l": Lif(),
        "out": Output(),
    }
    flat = gridded(ops, ["in c flat l out"], {"c.weight": (1, 5)})
    assert weight_grids(flat)["l"].tolist() == [3, 3, 7, 7]


def test_biases_of_all_branches_add_up() -> None:
    """Also that of a backward connection, which acts before its first spike arrives."""
    ops: dict[str, Op] = {
        "in": Input(shape=(1,)),
        "fc": linear(1, 2, bias=True),
        "back": linear(2, 2, bias=True),
        "l": Lif(),
        "read": linear(2, 1),
        "out": Output(),
    }
    names = ("fc.weight", "fc.bias", "back.weight", "back.bias")
    exponents = {**dict.fromkeys(names, (4, 5)), "read.weight": (2,)}
    network = gridded(ops, ["in fc l read out", "l ~1 back l"], exponents)
    assert total_biases(network)["l"].tolist() == [2 / 16, 2 / 32]


def test_an_op_after_another_is_named() -> None:
    """A synapse holds one op with weights; another one right after it has no counterpart."""
    ops: dict[str, Op] = {
        "in": Input(shape=(1,)),
        "fc": linear(1, 2),
        "more": linear(2, 2),
        "l": Lif(),
        "out": Output(),
    }
    exponents = {"fc.weight": (4, 4), "more.weight": (4, 4)}
    network = gridded(ops, ["in fc more l out"], exponents)
    assert weighted_twice(network) == "more"
    assert certify(network).failures[0].op == "more"
    assert weighted_twice(single(3)) is None


@given(st.integers(0, 10**6))
def test_a_recurrent_network_in_integers(seed: int) -> None:
    """Long samples of in -> fc -> l -> read -> out with l -(1)-> back -> l: spikes and potentials of the integers."""
    rng = np.random.default_rng(seed)
    size, steps = 6, 20
    ops: dict[str, Op] = {
        "in": Input(shape=(3,)),
        "fc": linear(3, size, bias=True),
        "back": linear(size, size),
        "l": Lif(tau=int(rng.integers(0, 4097)) / 4096, threshold=float(rng.integers(1, 200)) / 64),
        "read": linear(size, 2),
        "out": Output(),
    }
    whole = {
        n: rng.integers(-127, 128, s)
        for n, s in [("fc", (size, 3)), ("back", (size, size)), ("read", (2, size))]
    }
    bias = rng.integers(-4095, 4096, size)
    network = Network(
        graph=wired(ops, "in fc l read out", "l ~1 back l"),
        weights={
            **{f"{n}.weight": w * 2.0**-5 for n, w in whole.items()},
            "fc.bias": bias * 2.0**-14,
        },
        steps=steps,
        input=InputSpec(kind="frames", grid_bits=2),
        format=Loihi(
            {
                "fc.weight": (5,) * size,
                "back.weight": (5,) * size,
                "read.weight": (5,) * 2,
                "fc.bias": (14,) * size,
            }
        ),
    )
    levels = rng.integers(0, 5, (steps, 1, 3))
    trace = run(network, levels / 4, potentials=True)
    op = network.graph.ops["l"]
    assert isinstance(op, Lif)
    rest, before = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for step in range(steps):
        # g = 7, as an input level is a quarter: a weight of a spike counts four times one of a level.
        activation = 2 * (whole["fc"] @ levels[step, 0] + 4 * whole["back"] @ before)
        kept = (np.abs(rest) * round(op.tau * 4096)) >> 12
        u = np.clip(np.sign(rest) * kept + activation * 64 + bias, -LARGEST, LARGEST)
        np.testing.assert_array_equal(trace.potentials["l"][step, 0] * 2.0**14, u)
        before = (u > round(op.threshold * 2**14)).astype(np.int64)
        np.testing.assert_array_equal(trace.spikes["l"][step, 0], before.astype(bool))
        rest = np.where(before, 0, u)


def test_an_uncertified_register_names_its_lif() -> None:
    """The certificate says of which Lif a value has no register, and refuses it as a whole."""
    network = single(5)
    graph = Graph({**network.graph.ops, "l": Lif(tau=0.3)}, network.graph.edges)
    (failure,) = certify(replace(network, graph=graph)).failures
    assert failure.op == "l"
    assert "1/4096" in failure.reason
