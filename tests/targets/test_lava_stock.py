"""Lava's own processes compute what the interpreter and the fused form do, bit for bit, in the loihi format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from snndeploy import ir
from snndeploy.cli.backends import BACKENDS, Inapplicable, Machine, Outcome
from snndeploy.export import lava as lowering
from snndeploy.ir.pipeline import pipelined
from snndeploy.targets import lava
from tests.export.networks import (
    TOPOLOGIES,
    Case,
    assert_active,
    assert_same,
    back_over_many,
    case,
    chain,
    grouped,
    linear,
)
from tests.export.networks import graph as graph_of
from tests.strategies import Layer, Structure, realise

pytestmark = pytest.mark.lava

HAND_MADE = (
    "residual",
    "self_loop",
    "back_over_many",
    "long_delays",
    "from_vector",
    "delayed_skips",
    "grouped",
)
STRUCTURES = {
    # l0 -> residual block l1 (pooled) -> hidden h0, with BCs h0 -> l0 (upsampled) and l1 -> l1
    "T = 16": Structure(
        shape=(1, 6, 6),
        layers=(Layer("chain", 4), Layer("residual", 4, pool=True)),
        hidden=(5,),
        backward=((3, 0, 4), (2, 2, 1)),
        steps=16,
        readout=5,
        frames=False,
        seed=3,
    ),
    # two strided layers with a projection, frames, and a BC that is one step longer than it must be
    "frames": Structure(
        shape=(2, 5, 7),
        layers=(Layer("chain", 4, groups=2), Layer("projection", 6, stride=2)),
        hidden=(),
        backward=((2, 1, 3),),
        steps=8,
        readout=8,
        frames=True,
        seed=5,
    ),
}


@dataclass(frozen=True, eq=False)
class Run:
    """A network on its input, its two bundles and what Lava did with them."""

    tested: Case
    bundle: Path
    stock: lava.Simulation
    fused: lava.Simulation

    @property
    def document(self) -> Mapping[str, Any]:
        """The stock bundle's manifest."""
        found: Mapping[str, Any] = json.loads((self.bundle / "manifest.json").read_text())
        return found

    def synapses(self) -> list[Mapping[str, Any]]:
        """Every Lava synapse process of the stock bundle."""
        return [s for population in self.document["stock"]["populations"] for s in population["synapses"]]


def loihi(tested: Case) -> Case:
    """The same case with its numbers, all on a grid of 1/16, declared to be in the loihi format."""
    exponents = {name: (4,) * len(array) for name, array in tested.network.weights.items()}
    return Case(replace(tested.network, format=ir.Loihi(exponents)), tested.x)


def quantized(structure: Structure, granularity: Literal["layer", "channel"]) -> Case:
    """A lively random network in the loihi format, its grids chosen by `quantize`."""
    drawn = realise(structure)
    found = ir.quantize(drawn.original, drawn.x, format="loihi", granularity=granularity)
    return Case(found.network, drawn.x)


def eager() -> Case:
    """Two neurons whose bias alone makes them fire; the first always does, and inhibits the second a step later.

    input (2,) -> f0 -> l0 (2,) -> output;  l0 ~1 -> back -> l0
    """
    built = graph_of(
        {
            "input": ir.Input(shape=(2,)),
            "f0": linear(2, 2),
            "back": ir.Linear(in_features=2, out_features=2),
            "l0": ir.Lif(),
            "output": ir.Output(),
        },
        "input f0 l0 output",
        "l0 ~1 back l0",
    )
    x = np.asarray([[1, 0], [0, 1], [0.5, 0.5]], np.float32)
    weights = {
        "f0.weight": np.eye(2) / 8,
        "f0.bias": np.asarray([3.0, 1.25]),
        "back.weight": np.asarray([[0.0, 0.0], [-1.0, 0.0]]),
    }
    network = ir.Network(graph=built, weights=weights, steps=4, input=ir.InputSpec(grid_bits=4))
    return loihi(Case(network, x))


def cases() -> dict[str, Case]:
    """Everything that runs, by name."""
    found = {
        name: loihi(case(pipelined(TOPOLOGIES[name]()), steps=7, readout=3, seed=1)) for name in HAND_MADE
    }
    for name, structure in STRUCTURES.items():
        found[f"{name}, layer"] = quantized(structure, "layer")
        found[f"{name}, channel"] = quantized(structure, "channel")
    cut = found["back_over_many"].network
    silent = {n: np.zeros_like(w) if n.startswith("back") else w for n, w in cut.weights.items()}
    found["cut"] = Case(replace(cut, weights=silent), found["back_over_many"].x)
    return found | {"eager": eager()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for bundles."""
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module")
def runs(lava_interpreter: lava.Interpreter, folder: Path) -> Mapping[str, Run]:
    """All cases in both forms, simulated one after the other in one child process."""
    every = cases()
    bundles = [
        lowering.export(tested.network, folder / f"{index}-{form}", tested.x, form=form)
        for index, tested in enumerate(every.values())
        for form in ("stock", "fused")
    ]
    simulations = lava.simulate(bundles, potentials=True, interpreter=lava_interpreter)
    return {
        name: Run(tested, bundles[2 * index], simulations[2 * index], simulations[2 * index + 1])
        for index, (name, tested) in enumerate(every.items())
    }


@pytest.mark.parametrize("name", cases())
def test_equal_to_the_interpreter_and_the_fused_form(name: str, runs: Mapping[str, Run]) -> None:
    """Spikes, sums and the potentials that the reset leaves are equal, samples back to back."""
    run = runs[name]
    expected = ir.run(run.tested.network, run.tested.x, potentials=True)
    assert_same(run.stock.trace, expected)
    assert_same(run.stock.trace, run.fused.trace)
    assert set(run.stock.rests) == set(expected.spikes)
    for port, spikes in expected.spikes.items():
        left = np.where(spikes, np.float32(0), expected.potentials[port])
        np.testing.assert_array_equal(run.stock.rests[port], left, err_msg=port)
        np.testing.assert_array_equal(run.fused.trace.potentials[port], expected.potentials[port])
    assert run.stock.machine_steps == run.fused.machine_steps


def test_cases_exercise_the_form(runs: Mapping[str, Run]) -> None:
    """Layers are active; there are all kinds of processes, T of 4 to 16, delays and gaps of several steps."""
    for name, run in runs.items():
        assert ir.certify(run.tested.network).holds
        if name not in ("eager", "cut"):
            assert_active(run.tested)
    whole, cut = (runs[name].stock.trace.spikes["l0"] for name in ("back_over_many", "cut"))
    assert (whole != cut).any(), "backward spikes matter"
    every = [synapse for run in runs.values() for synapse in run.synapses()]
    assert {synapse["type"] for synapse in every} == {"Conv", "Dense", "Sparse"}
    assert max(synapse["hold"] for synapse in every) >= 2
    assert len({synapse["weight_exp"] for synapse in every if synapse["type"] != "Conv"}) >= 3
    assert {run.document["steps"] for run in runs.values()} >= {4, 7, 8, 16}
    assert {run.document["schedule"]["gap"] for run in runs.values()} >= {0, 1, 3, 4}
    silenced = [p["silence"] is not None for r in runs.values() for p in r.document["stock"]["populations"]]
    assert 0 < sum(silenced) < len(silenced)


@pytest.mark.parametrize("name", ["back_over_many", "T = 16, channel"])
def test_samples_do_not_touch_each_other(
    name: str, runs: Mapping[str, Run], lava_interpreter: lava.Interpreter
) -> None:
    """A sample gives the same alone as after another one, despite backward connections."""
    run = runs[name]
    (alone,) = lava.simulate([run.bundle], samples=run.tested.x[1:2], interpreter=lava_interpreter)
    stream = run.stock.trace
    for port, spikes in alone.trace.spikes.items():
        np.testing.assert_array_equal(stream.spikes[port][:, 1:2], spikes)
    np.testing.assert_array_equal(stream.readout_sum[1:2], alone.trace.readout_sum)


def edited(bundle: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a bundle whose manifest was changed and sealed again."""
    target.mkdir()
    for file in bundle.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((target / "manifest.json").read_text())
    change(manifest)
    manifest["checksum"] = lowering.checksum(manifest)
    (target / "manifest.json").write_text(json.dumps(manifest))
    return target


def test_silence_is_needed(
    runs: Mapping[str, Run], lava_interpreter: lava.Interpreter, tmp_path: Path
) -> None:
    """Without it neurons that a bias makes fire do so while the pipeline fills and between samples.

    In the first sample only machine step 0 comes before, where no synapse acts yet.
    """

    def without(manifest: dict[str, Any]) -> None:
        for population in manifest["stock"]["populations"]:
            population["silence"] = None

    run = runs["eager"]
    (noisy,) = lava.simulate([edited(run.bundle, tmp_path / "b", without)], interpreter=lava_interpreter)
    differs = noisy.trace.spikes["l0"] != run.stock.trace.spikes["l0"]
    assert differs.any(axis=(0, 2)).all(), "in every sample"


@pytest.mark.parametrize("part", ["threshold", "weight"])
def test_a_wrong_network_is_noticed(part: str, lava_interpreter: lava.Interpreter, tmp_path: Path) -> None:
    """One unit more of a threshold, or of one weight's mantissa, and the comparison fails.

    A threshold unit is a synaptic weight of 1, a mantissa unit one of 2.
    """
    right = loihi(case(chain(), steps=6, seed=2))
    network = right.network
    if part == "threshold":
        ops = {**network.graph.ops, "l1": ir.Lif(threshold=1.0 + 2.0**-9)}
        wrong = replace(network, graph=ir.Graph(ops, network.graph.edges))
    else:
        changed = network.weights["c1.weight"].copy()
        changed[3, 0, 1, 1] += np.float32(2.0**-4)
        wrong = replace(network, weights={**network.weights, "c1.weight": changed})
    bundle = lowering.export(wrong, tmp_path / "wrong", right.x, form="stock")
    (found,) = lava.simulate([bundle], interpreter=lava_interpreter)
    assert_same(found.trace, ir.run(wrong, right.x))
    assert not ir.compare(network, right.x, ir.run(network, right.x), found.trace, "wrong").passed


def test_back_end(lava_interpreter: lava.Interpreter) -> None:
    """`lava-stock` passes a pipelined network in the loihi format, and says why it cannot take others."""
    del lava_interpreter  # the back end finds its own; without one the test is skipped
    tested = loihi(case(grouped(), steps=3, seed=1))
    outcome = BACKENDS["lava-stock"](tested.network, tested.x, Machine())
    assert isinstance(outcome, Outcome)
    expected = ir.run(tested.network, tested.x)
    assert ir.compare(tested.network, tested.x, expected, outcome.trace, "lava-stock").passed
    slow = loihi(case(back_over_many(), steps=4, seed=1))
    refused = BACKENDS["lava-stock"](slow.network, slow.x, Machine())
    assert isinstance(refused, Inapplicable)
    assert "initiation interval of 1" in refused.reason
