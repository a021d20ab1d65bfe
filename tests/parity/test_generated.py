"""Generated networks in the exact format give the same bits on every back end.

Each network comes from `tests.strategies`: every layer fires at 2 to 60 %, and cutting any of its backward
connections changes spikes.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from snndeploy import nn
from snndeploy.cli.backends import BACKENDS, Machine, Outcome
from snndeploy.errors import TargetError, TimingError
from snndeploy.export import lava as lava_export
from snndeploy.ir import (
    Comparator,
    Network,
    Trace,
    backward_connections,
    certify,
    format_difference,
    in_format,
    run,
)
from snndeploy.ir.pipeline import pipelined_network
from snndeploy.targets import lava
from tests.loihi import in_loihi, loihi_cases
from tests.strategies import (
    HIGHEST_RATE,
    LOWEST_RATE,
    Case,
    Layer,
    Structure,
    cases,
    changed_spikes,
    firing_rates,
    realise,
    structures,
)

EXAMPLES = 100
seen: set[str] = set()  # features of the networks that were compared
stock_seen: list[int] = []  # networks in Lava's stock form, for each example


_CHAIN = Structure(
    shape=(1, 8, 8),
    layers=tuple(Layer("chain", 4) for _ in range(4)),
    hidden=(8,),
    backward=(),
    steps=8,
    readout=3,
    frames=True,
    seed=0,
)
OVERLAPPING = replace(_CHAIN, backward=((2, 0, 1), (3, 1, 2), (3, 0, 1)))
"""input -> 0 -> 1 -> 2 -> 3 -> fully connected 4, with 2 -> 0, 3 -> 1 (delay 2) and 3 -> 0."""
FROM_HIDDEN = replace(_CHAIN, backward=((4, 1, 1), (4, 4, 2)), steps=3, frames=False)
"""The same chain with 4 -> 1, from a vector to a map, and 4 -> 4 with delay 2."""


def features(structure: Structure, network: Network) -> set[str]:
    """What a generated network has that the contract must hold for."""
    found = {f"T={network.steps}", "frames" if structure.frames else "image"}
    for layer in structure.layers:
        found |= {layer.kind, f"stride {layer.stride}", f"groups {layer.groups}"}
        found |= {"pool"} if layer.pool else set()
    connections = backward_connections(network.graph)
    for c in connections:
        found |= {f"BC over {min(c.source - c.target, 2)}", f"BC delay {c.delay}"}
    found |= {f"{min(len(connections), 2)} BCs"}
    for a, b in itertools.combinations(connections, 2):
        if a.target == b.target:
            found.add("two BCs into one port")
        if a.target < b.target <= a.source < b.source:
            found.add("overlapping BCs")
    fully_connected = {
        p for p, name in enumerate(network.graph.ports) if len(network.graph.shapes[name]) == 1
    }
    if any(c.source in fully_connected and c.target not in fully_connected for c in connections):
        found.add("BC from a fully connected port")
    return found


def assert_same(comparator: Comparator, found: Trace, backend: str) -> None:
    """A back end's spikes and readout sums are those of the interpreter, bit for bit."""
    expected = comparator.expected
    assert set(found.spikes) == set(expected.spikes)
    for name, spikes in expected.spikes.items():
        assert found.spikes[name].dtype == bool
        assert np.array_equal(found.spikes[name], spikes), f"{backend}: {name}"
    assert np.array_equal(found.readout_sum, expected.readout_sum), backend
    assert comparator.compare(found, backend).passed


def on(name: str, network: Network, x: npt.NDArray[np.float32]) -> Outcome:
    """What a back end does with a network that it can take."""
    outcome = BACKENDS[name](network, x, Machine())
    assert isinstance(outcome, Outcome), outcome
    return outcome


@settings(max_examples=EXAMPLES)
@given(structure=structures())
@example(structure=OVERLAPPING)
@example(structure=FROM_HIDDEN)
@example(structure=replace(OVERLAPPING, steps=7, readout=3))
def test_in_process_back_ends(structure: Structure) -> None:
    """Interpreter in float32 and float64, PyTorch and ONNX in each form and in integers agree."""
    torch.set_num_threads(1)
    case = realise(structure)
    network, x = case.network, case.x
    assert certify(network).holds
    assert all(LOWEST_RATE <= rate <= HIGHEST_RATE for rate in firing_rates(network, x).values())
    comparator = Comparator(network, x, run(network, x))
    assert_same(comparator, run(network, x, dtype=np.float64), "float64")
    assert_same(comparator, nn.run(network, x), "torch")
    assert_same(comparator, nn.run(network, x, neurons="plain"), "torch without compiled neurons")
    for name in ("onnx-step", "onnx-sequence", "onnx-scan", "onnx-integer"):
        assert_same(comparator, on(name, network, x).trace, name)
    seen.update(features(structure, network))


def test_generated_networks_cover_the_contract() -> None:
    """The networks above had every feature that the promise is made for."""
    if not seen:
        pytest.skip("runs after test_in_process_back_ends, which was not selected")
    wanted = {f"T={t}" for t in range(1, 9)} | {f"BC over {span}" for span in range(3)}
    wanted |= {"chain", "residual", "projection", "stride 2", "pool", "groups 2", "image", "frames"}
    wanted |= {"BC delay 1", "BC delay 2", "0 BCs", "1 BCs", "2 BCs", "two BCs into one port"}
    wanted |= {"overlapping BCs", "BC from a fully connected port"}
    assert wanted <= seen, wanted - seen


@settings(max_examples=30)
@given(case=loihi_cases())
def test_loihi_in_process_back_ends(case: Case) -> None:
    """In the loihi format, too, up to 16 steps and with any leak; membrane potentials are compared as well."""
    torch.set_num_threads(1)
    network, x = case.network, case.x
    assert network.format.name == "loihi"
    assert certify(network).holds
    comparator = Comparator(network, x, run(network, x, potentials=True))
    assert_same(comparator, run(network, x, dtype=np.float64), "float64")
    assert_same(comparator, nn.run(network, x, potentials=True), "torch")
    for name in ("onnx-step", "onnx-sequence", "onnx-scan", "onnx-integer", "native"):
        assert_same(comparator, on(name, network, x).trace, name)


@settings(max_examples=20)
@given(structure=structures(3), granularity=st.sampled_from(["channel", "layer"]))
def test_formats_agree_where_both_are_certified(
    structure: Structure, granularity: Literal["channel", "layer"]
) -> None:
    """A short loihi network that holds the exact certificate gives the same spikes in the exact format."""
    case = realise(structure)
    loihi = in_loihi(case, steps=case.network.steps, tau=0.5, granularity=granularity)
    assert format_difference(loihi.network) == ""
    exact = in_format(loihi.network, "exact")
    assert certify(exact).holds
    one, other = (run(network, loihi.x, potentials=True) for network in (loihi.network, exact))
    assert changed_spikes(loihi.network, exact, loihi.x) == 0
    assert np.array_equal(one.readout_sum, other.readout_sum)
    assert all(np.array_equal(u, other.potentials[name]) for name, u in one.potentials.items())


@settings(max_examples=30)
@given(case=cases())
def test_float_networks_differ_only_by_rounding(case: Case) -> None:
    """PyTorch and ONNX, also in float16, flip spikes of a float32 network only within the rounding bound."""
    torch.set_num_threads(1)
    network, x = case.original, case.x
    comparator = Comparator(network, x, run(network, x))
    assert comparator.compare(run(network, x, dtype=np.float64), "float64").passed
    assert comparator.compare(nn.run(network, x), "torch").passed
    for name in ("onnx-step", "onnx-sequence", "onnx-scan", "onnx-float16"):
        outcome = on(name, network, x)
        comparison = comparator.compare(outcome.trace, name, half=outcome.half)
        assert comparison.passed, comparison.defects


@pytest.mark.lava
@pytest.mark.usefixtures("lava_interpreter")
@settings(max_examples=4, suppress_health_check=list(HealthCheck))
@given(drawn=st.lists(structures(3), min_size=4, max_size=4))
def test_lava(drawn: list[Structure], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Lava agrees, several networks in one child process, samples streamed back to back."""
    folder: Path = tmp_path_factory.mktemp("bundles")
    made = [realise(structure) for structure in drawn]
    bundles = [
        lava_export.export(case.network, folder / str(index), case.x) for index, case in enumerate(made)
    ]
    for case, simulation in zip(made, lava.simulate(bundles), strict=True):
        comparator = Comparator(case.network, case.x, run(case.network, case.x))
        assert_same(comparator, simulation.trace, "lava")


@pytest.mark.lava
@pytest.mark.usefixtures("lava_interpreter")
@settings(max_examples=3, suppress_health_check=list(HealthCheck))
@given(drawn=st.lists(loihi_cases(2), min_size=3, max_size=3))
def test_lava_in_loihi(drawn: list[Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    """The fused form as it is, and both forms with the delays of a pipeline, states included."""
    folder: Path = tmp_path_factory.mktemp("bundles")
    tasks: list[tuple[Network, npt.NDArray[np.float32], Literal["fused", "stock"]]] = []
    for case in drawn:
        tasks.append((case.network, case.x, "fused"))
        with contextlib.suppress(TimingError):  # a delay would not be below T
            piped = pipelined_network(case.network)
            tasks += [(piped, case.x, "fused"), (piped, case.x, "stock")]
    bundles, run_tasks = [], []
    for index, (network, x, form) in enumerate(tasks):
        with contextlib.suppress(TargetError):  # what the stock form cannot silence or hold
            bundles.append(lava_export.export(network, folder / str(index), x, form=form))
            run_tasks.append((network, x, form))
    stock_seen.append(sum(form == "stock" for _, _, form in run_tasks))
    simulations = lava.simulate(bundles, potentials=True)
    for (network, x, form), simulation in zip(run_tasks, simulations, strict=True):
        expected = run(network, x, potentials=True)
        assert_same(Comparator(network, x, expected), simulation.trace, f"lava {form}")
        for port, rests in simulation.rests.items():
            assert np.array_equal(rests, expected.potentials[port] * ~expected.spikes[port]), port


def test_lava_in_loihi_ran_the_stock_form() -> None:
    """Some of the generated networks have a stock form."""
    if not stock_seen:
        pytest.skip("runs after test_lava_in_loihi, which was not selected")
    assert sum(stock_seen) >= 3, stock_seen
