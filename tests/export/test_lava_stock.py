"""The stock form's synapses carry what the network's paths do, and what has no stock form is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from snndeploy import ir
from snndeploy.errors import NetworkError, TargetError
from snndeploy.export.lava import composed
from snndeploy.export.lava.composed import (
    LARGEST_MATRIX,
    Convolution,
    StockSynapse,
    channels_last,
    digits,
    stock_synapses,
)
from snndeploy.export.lava.stock import lower
from snndeploy.ir.kernels import conv2d
from snndeploy.ir.neurons import LARGEST_CURRENT, total_biases, weight_grids
from snndeploy.ir.pipeline import pipelined
from snndeploy.ir.replay import delayed, entering
from tests.export.networks import TOPOLOGIES, Case, case, chain, linear, residual, self_loop
from tests.export.networks import graph as graph_of


def loihi(network: ir.Network, bits: int = 4) -> ir.Network:
    """The network with its numbers, all on a grid of 2**-bits, declared to be in the loihi format."""
    return replace(network, format=ir.Loihi({n: (bits,) * len(a) for n, a in network.weights.items()}))


def looped(tau: float = 0.5, bias: float = 0.0, weight: float = 0.0, back: float = 0.0) -> ir.Network:
    """Two neurons that feed themselves one step later, beside a synapse with a fine grid.

    input (1,) -> f0 -> l0 (2,) -> output;  input -> fine -> l0;  l0 ~1 -> back -> l0
    """
    built = graph_of(
        {
            "input": ir.Input(shape=(1,)),
            "f0": linear(1, 2),
            "fine": ir.Linear(in_features=1, out_features=2),
            "back": ir.Linear(in_features=2, out_features=2),
            "l0": ir.Lif(tau=tau),
            "output": ir.Output(),
        },
        "input f0 l0 output",
        "input fine l0",
        "l0 ~1 back l0",
    )
    weights = {
        "f0.weight": np.full((2, 1), weight),
        "f0.bias": np.full(2, bias),
        "fine.weight": np.full((2, 1), 2.0**-9),
        "back.weight": np.full((2, 2), back),
    }
    exponents = {"f0.weight": (0, 0), "f0.bias": (4, 4), "fine.weight": (9, 9), "back.weight": (0, 0)}
    spec = ir.InputSpec(grid_bits=0)
    return ir.Network(graph=built, weights=weights, steps=3, input=spec, format=ir.Loihi(exponents))


def current(synapse: StockSynapse, sent: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Current of one sample, (time, neurons) in Lava's order, of what a source sent, (time, *shape)."""
    sent = delayed(sent, synapse.delay)
    if not isinstance(synapse, Convolution):
        matrix, shape = synapse.dense(synapse.values.astype(np.int32)).astype(np.float64), sent.shape[1:]
        return np.stack([matrix @ channels_last(values, shape) for values in sent])
    kernel = synapse.weight.transpose(0, 3, 1, 2)[:, :, ::-1, ::-1].astype(np.float64)
    op = ir.Conv2d(
        in_channels=sent.shape[1],
        out_channels=len(kernel),
        kernel=(kernel.shape[2], kernel.shape[3]),
        stride=synapse.stride,
        padding=synapse.padding,
        groups=synapse.groups,
    )
    return np.stack([channels_last(y, y.shape) for y in conv2d(sent, np.ascontiguousarray(kernel), op)])


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_synapses_carry_what_enters(name: str) -> None:
    """With spikes given, the sum of all synapses into each population is what enters it, less the biases."""
    tested = case(TOPOLOGIES[name](), steps=5, seed=1)
    network = loihi(tested.network)
    graph, grids = network.graph, weight_grids(network)
    rng = np.random.default_rng(4)
    sent = {port: rng.integers(0, 2, (5, 1, *graph.shapes[port])).astype(np.bool_) for port in graph.ports}
    x = ir.as_steps(network, tested.samples(1))
    expected = dict(entering(network, x, sent))
    values = {port: spikes[:, 0].astype(np.float64) for port, spikes in sent.items()}
    values[graph.input] = np.ascontiguousarray(x[:, 0]) * 16.0
    for population in (*graph.ports, graph.output):
        shape = graph.shapes[population]
        bias = total_biases(network)[population].reshape(-1, *(1,) * (len(shape) - 1))
        scale = np.exp2(grids[population] + 1.0).reshape(bias.shape)
        wanted = np.stack([channels_last(y, shape) for y in (expected[population][:, 0] - bias) * scale])
        found = sum(current(s, values[s.source]) for s in stock_synapses(network, population))
        np.testing.assert_array_equal(found, wanted, err_msg=population)
        assert wanted.any()


def test_which_paths_are_convolutions() -> None:
    """Single convolutions and direct edges of maps are, pools with a linear op are one matrix."""
    network = loihi(case(residual(), steps=3, seed=1).network)
    kinds = {
        name: [(type(s).__name__, s.source) for s in stock_synapses(network, name)]
        for name in ("l2", "l4", "output")
    }
    assert kinds == {
        "l2": [("Convolution", "l1"), ("Convolution", "l0")],
        "l4": [("Convolution", "l3"), ("Convolution", "l2")],
        "output": [("Matrix", "l4")],
    }
    direct = stock_synapses(network, "l2")[1]
    assert isinstance(direct, Convolution)
    assert direct.weight.shape == (4, 1, 1, 1)
    np.testing.assert_array_equal(direct.weight.ravel(), 2 ** (weight_grids(network)["l2"] + 1))


def test_digits_add_up() -> None:
    """Digits are even, fit into 8 bits with their sign, and what all weights share needs no second part."""
    rng = np.random.default_rng(0)
    for weight, parts in (
        (2 * rng.integers(-127, 128, (20, 30)), 1),
        (2 * rng.integers(-127, 128, (20, 30)) << 9, 1),
        (2 * rng.integers(-(2**14) + 1, 2**14, (20, 30)), 2),
        (np.zeros((2, 3), np.int64), 1),
    ):
        found = list(digits(weight))
        assert len(found) == parts
        assert all(np.abs(part).max() <= 254 and not (part % 2).any() for _, part in found)
        assert all((part * weight >= 0).all() for _, part in found)
        np.testing.assert_array_equal(sum(part.astype(np.int64) << e for e, part in found), weight)


def test_holds_and_silence() -> None:
    """A skip past two layers is held back for two steps, and only sources of delayed spikes are silenced."""
    network = loihi(case(pipelined(self_loop()), steps=3, seed=1).network)
    entries = {p["name"]: p for p in lower(network, ir.schedule(network.graph)).document["populations"]}
    assert [name for name, entry in entries.items() if entry["silence"]] == ["l0", "l1"]
    network = loihi(case(residual(), steps=3, seed=1).network)
    entries = {p["name"]: p for p in lower(network, ir.schedule(network.graph)).document["populations"]}
    assert [(s["source"], s["hold"]) for s in entries["l2"]["synapses"]] == [("l1", 0), ("l0", 1)]
    assert not any(entry["silence"] for entry in entries.values())


@pytest.mark.parametrize("tau", [0.5, 0.875])
def test_silence_outweighs_everything(tau: float) -> None:
    """Under the largest current, at the threshold, no neuron fires; a whole step of the weights less would do."""
    network = looped(tau=tau, bias=2.0, weight=9.0, back=5.0)
    stock = lower(network, ir.schedule(network.graph))
    silence = next(p["silence"] for p in stock.document["populations"] if p["name"] == "l0")
    inhibition = stock.arrays[silence["weight"]].astype(np.int64) << silence["weight_exp"]
    unit = 2.0 ** -(weight_grids(network)["l0"][0] + 1)
    largest = 9.0 + 2.0**-9 + 2 * 5.0 + 2.0  # all inputs and both spikes at once, and the bias
    needed = largest - (1 - tau) * 1.0
    assert inhibition.shape == (2, 1)
    assert (-inhibition * unit >= needed).all()
    assert (-inhibition * unit < needed + (2 << silence["weight_exp"]) * unit).all()


def refusal(network: ir.Network, schedule: ir.Schedule | None = None) -> TargetError:
    """The error that lowering raises."""
    with pytest.raises(TargetError) as caught:
        lower(network, schedule or ir.schedule(network.graph))
    return caught.value


def test_other_formats_are_refused() -> None:
    """float32 and exact have no whole-number neurons."""
    tested: Case = case(chain(), steps=3)
    exponents = {name: (4,) * len(array) for name, array in tested.network.weights.items()}
    for network in (tested.network, replace(tested.network, format=ir.Exact(exponents))):
        error = refusal(network)
        assert "loihi format" in error.rule
        assert error.got == network.format.name


def test_uncertified_networks_are_refused() -> None:
    """A current that could overflow is named with its population."""
    error = refusal(looped(weight=127.0, back=127.0))
    assert error.where == "l0"
    assert "2**17 - 1" in error.rule


def test_training_graphs_are_refused() -> None:
    """BatchNorm has to be folded first."""
    ops = {**chain().ops, "norm": ir.BatchNorm(channels=4)}
    edges = [e for e in chain().edges if e != ir.Edge("c1", "l1")] + [
        ir.Edge("c1", "norm"),
        ir.Edge("norm", "l1"),
    ]
    graph = ir.Graph(ops, tuple(edges))
    weights = {n: np.ones(s, np.float32) for n, s in ir.parameter_shapes(graph).items()}
    network = ir.Network(graph=graph, weights=weights, steps=2)
    with pytest.raises(NetworkError, match="fold"):
        lower(network, ir.schedule(graph))


def test_schedules_without_a_stock_form_are_refused() -> None:
    """An interval above 1, no machine steps at all, too few blank steps, and an arrival before its departure."""
    network = loihi(case(TOPOLOGIES["back_over_many"](), steps=3, seed=1).network)
    assert "initiation interval of 1" in refusal(network).rule
    assert "--pipelined" in refusal(network).remedy
    network = loihi(case(pipelined(self_loop()), steps=3, seed=1).network)
    graph = network.graph
    assert "synchronous" in refusal(network, ir.schedule(graph, kind="synchronous")).rule
    fitting = ir.schedule(graph)
    assert "blank steps" in refusal(network, replace(fitting, gap=0)).rule
    early = replace(fitting, start={**fitting.start, "l2": 0})
    assert refusal(network, early).where == "synapse l1 -> l2"


def test_large_matrices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fully connected layer with more weights than the limit is named, with its size and its source."""
    network = loihi(case(chain(), steps=3, seed=1).network)
    used = int(np.count_nonzero(network.weights["fc.weight"]))
    monkeypatch.setattr(composed, "LARGEST_MATRIX", used - 1)
    error = refusal(network)
    assert error.where == "output"
    assert f"3 x 48 with more than {used - 1} weights for what arrives from l2" in error.rule
    monkeypatch.setattr(composed, "LARGEST_MATRIX", used)
    assert lower(network, ir.schedule(network.graph)).arrays


def test_populations_that_cannot_be_silenced_are_refused() -> None:
    """The inhibition and the own negative weights may wrap around together, or the leak forget its start at once."""
    certified = looped(weight=-40.0, back=60.0)
    assert ir.certify(certified).holds
    error = refusal(certified)
    assert error.where == "l0"
    assert f"up to {LARGEST_CURRENT}" in error.rule
    assert int(str(error.got)) > LARGEST_CURRENT
    forgetful = looped(tau=0.0, bias=1.5, back=-1.0)
    assert ir.certify(forgetful).holds
    assert "first machine step" in refusal(forgetful).rule
    assert lower(looped(tau=0.0, bias=1.0, back=-1.0), ir.schedule(forgetful.graph)).arrays


def test_arrays_are_small_whole_numbers() -> None:
    """Every Dense holds even numbers of 8 bits, and all arrays are int32 under names of their own."""
    network = loihi(case(pipelined(TOPOLOGIES["back_over_many"]()), steps=6, seed=1).network)
    stock = lower(network, ir.schedule(network.graph))
    entries = [s for p in stock.document["populations"] for s in p["synapses"]]
    entries += [p["silence"] for p in stock.document["populations"] if p["silence"]]
    assert {entry["weight"] for entry in entries} == set(stock.arrays)
    assert all(name.startswith("stock/") and a.dtype == np.int32 for name, a in stock.arrays.items())
    assert {e.get("type") for e in entries} == {"Conv", "Dense", "Sparse", None}
    assert {stock.arrays[e["weight"]].shape[0] for e in entries if e.get("type") == "Sparse"} == {3}
    dense = [
        stock.arrays[e["weight"]][2 * (e.get("type") == "Sparse") :]
        for e in entries
        if e.get("type") != "Conv"
    ]
    assert all(np.abs(array).max() <= 254 and not (array % 2).any() for array in dense)
    assert all(math.prod(array.shape) <= LARGEST_MATRIX for array in dense)
