"""In the loihi format Lava computes the interpreter's spikes, sums and membrane potentials, for any T."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from snndeploy import ir
from snndeploy.errors import NetworkError, QuantizeError
from snndeploy.export import lava as lowering
from snndeploy.ir.neurons import registers
from snndeploy.targets import lava
from tests.export.networks import TOPOLOGIES, Case, case, overlapping, residual
from tests.targets.lava_cases import Run, pipelined, scheduled, simulated

PER_LAYER = ("residual", "overlapping", "from_vector")
SYNCHRONOUS = ("residual", "back_over_many", "long_delays", "delayed_skips", "only_delayed", "vectors")
PIPELINED = ("overlapping", "two_into_one", "from_vector")


def loihi(
    graph: ir.Graph, *, steps: int, per_layer: bool = False, kind: str = "image", seed: int = 3
) -> Case:
    """A lively case whose weights, off every grid, are quantized to the loihi format."""
    made = case(graph, steps=steps, readout=steps - 1, seed=seed, kind=kind)
    rng = np.random.default_rng(0)
    weights = {name: w * rng.uniform(0.8, 1.2, w.shape) for name, w in made.network.weights.items()}
    network = replace(made.network, weights=weights)
    granularity: Literal["layer", "channel"] = "layer" if per_layer else "channel"
    return Case(ir.quantize(network, made.x, format="loihi", granularity=granularity).network, made.x)


def leaking(graph: ir.Graph, tau: float) -> ir.Graph:
    """The graph with another leak."""
    ops = {n: replace(op, tau=tau) if isinstance(op, ir.Lif) else op for n, op in graph.ops.items()}
    return ir.Graph(ops, graph.edges)


@pytest.fixture(scope="module")
def runs(lava_interpreter: lava.Interpreter, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Run]:
    """All cases, simulated one after the other in one child process."""
    cases = {name: scheduled(loihi(graph(), steps=10)) for name, graph in TOPOLOGIES.items()}
    for name in PER_LAYER:
        cases[f"{name} per layer"] = scheduled(loihi(TOPOLOGIES[name](), steps=10, per_layer=True))
    for name in SYNCHRONOUS:
        cases[f"{name} synchronous"] = scheduled(cases[name][0], "synchronous")
    for name in PIPELINED:
        cases[f"{name} pipelined"] = scheduled(loihi(pipelined(TOPOLOGIES[name]()), steps=10), "pipelined")
    cases["frames"] = scheduled(loihi(overlapping(), steps=16, kind="frames", seed=2))
    cases["slow leak"] = scheduled(loihi(leaking(overlapping(), 3073 / 4096), steps=10))
    stream, schedule = cases["overlapping"]
    for sample in range(len(stream.x)):
        cases[f"alone {sample}"] = Case(stream.network, stream.x[sample : sample + 1]), schedule
    return simulated(cases, tmp_path_factory.mktemp("bundles"), lava_interpreter)


@pytest.mark.lava
@pytest.mark.parametrize(
    "name",
    [
        *TOPOLOGIES,
        *[f"{name} per layer" for name in PER_LAYER],
        *[f"{name} synchronous" for name in SYNCHRONOUS],
        *[f"{name} pipelined" for name in PIPELINED],
        "frames",
        "slow leak",
    ],
)
def test_equal_to_the_interpreter(name: str, runs: Mapping[str, Run]) -> None:
    """Each topology, drawn where it is built, gives equal spikes, sums and potentials, samples back to back."""
    assert ir.certify(runs[name].tested.network).holds
    runs[name].assert_equal()


@pytest.mark.lava
def test_samples_do_not_touch_each_other(runs: Mapping[str, Run]) -> None:
    """A sample gives the same alone and in the middle of a stream, potentials included."""
    stream = runs["overlapping"].simulation.trace
    for sample in range(3):
        alone = runs[f"alone {sample}"].simulation.trace
        np.testing.assert_array_equal(stream.readout_sum[sample : sample + 1], alone.readout_sum)
        for port, spikes in alone.spikes.items():
            np.testing.assert_array_equal(stream.spikes[port][:, sample : sample + 1], spikes)
            np.testing.assert_array_equal(
                stream.potentials[port][:, sample : sample + 1], alone.potentials[port]
            )


@pytest.mark.lava
def test_the_leak_is_rounded(runs: Mapping[str, Run]) -> None:
    """The format shows: with a leak in real numbers the same weights give other potentials."""
    for name in ("overlapping", "slow leak"):
        network, x = runs[name].tested.network, runs[name].tested.x
        real = ir.run(replace(network, format=ir.Float32()), x, potentials=True, dtype=np.float64).potentials
        found = runs[name].simulation.trace.potentials
        assert all((found[port][1:] != real[port][1:]).any() for port in found)


def test_registers_have_one_entry_per_channel(tmp_path: Path) -> None:
    """Manifests name the registers of every Lif, which differ between channels, and every parameter's grid."""
    tested = loihi(overlapping(), steps=4)
    bundle = lava.read(lowering.export(tested.network, tmp_path / "bundle", tested.x))
    assert (bundle.number_format, bundle.exact) == ("loihi", True)
    found, expected = registers(bundle.network), registers(tested.network)
    for port, programmed in expected.items():
        np.testing.assert_array_equal(found[port].bias_mantissa, programmed.bias_mantissa)
        np.testing.assert_array_equal(found[port].grid_bits, programmed.grid_bits)
    assert len(set(expected["l0"].threshold.tolist())) > 1


def test_an_uncertified_network_is_refused(tmp_path: Path) -> None:
    """A bias that no register holds is named, and nothing is written."""
    network = loihi(residual(), steps=4).network
    weights = {**network.weights, "c2.bias": network.weights["c2.bias"] + 2.0**7}
    tested = Case(replace(network, weights=weights), np.zeros((1, 1, 6, 6), np.float32))
    with pytest.raises(
        QuantizeError, match=r"^l2: cannot be lowered to Lava in the loihi format, as it needs"
    ):
        lowering.export(tested.network, tmp_path / "bundle", tested.x)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("value", "rule"), [(1 / 32, "whole multiples"), (2.0, "must lie in")])
def test_samples_must_lie_on_the_grid(value: float, rule: str, tmp_path: Path) -> None:
    """The certificate counts on it, so other samples are refused before any process starts."""
    tested = loihi(residual(), steps=4)
    bundle = lowering.export(tested.network, tmp_path / "bundle", tested.x)
    nowhere = lava.Interpreter(Path("/nowhere/python"), "0", "variable")
    with pytest.raises(NetworkError, match=rule):
        lava.simulate([bundle], samples=np.full((1, 1, 6, 6), value), interpreter=nowhere)
