"""The work of a network is the same whole numbers whatever counted its spikes."""

from __future__ import annotations

from typing import Any

import pytest

from snndeploy.cli.backends import BACKENDS, LAVA, Machine, Outcome
from snndeploy.export.onnx import lower
from snndeploy.ir import backward_connections, run
from snndeploy.targets.chip import load
from snndeploy.targets.counts import count
from snndeploy.targets.onnx_runtime import OnnxNetwork
from snndeploy.targets.resources import Mapping, map_onto
from tests.strategies import Case, Layer, Structure, realise
from tests.targets.counted import plain

GROUPED = Structure(
    shape=(1, 6, 6),
    layers=(Layer("chain", 4), Layer("residual", 4, groups=2, pool=True)),
    hidden=(8,),
    backward=((2, 0, 1), (3, 1, 1)),
    steps=4,
    readout=4,
    frames=True,
    seed=3,
)
"""input -> 0 -> (1 -> 2, identity 0 -> 2) -> pool -> fully connected 3 -> readout, with 2 -> 0 and 3 -> 1."""


@pytest.fixture(scope="module")
def case() -> Case:
    """A lively exact network with two backward connections."""
    return realise(GROUPED)


@pytest.fixture(scope="module")
def mapping(case: Case) -> Mapping:
    """Its cores on a Loihi 2."""
    return map_onto(case.network.graph, load("loihi2"))


@pytest.fixture(scope="module")
def expected(case: Case, mapping: Mapping) -> dict[str, Any]:
    """The interpreter's counts."""
    assert len(backward_connections(case.network.graph)) == 2
    counts = count(case.network, run(case.network, case.x), case.x, mapping=mapping)
    assert counts.driven is not None
    assert counts.idle is not None
    assert counts.messages is not None
    for positive in (counts.synaptic_operations, counts.driven, counts.idle, counts.messages.sent):
        assert (positive > 0).all()
    return plain(counts)


def counted_on(name: str, case: Case, mapping: Mapping) -> dict[str, Any]:
    """The counts of what a back end did."""
    outcome = BACKENDS[name](case.network, case.x, Machine())
    assert isinstance(outcome, Outcome), outcome
    return plain(count(case.network, outcome.trace, case.x, mapping=mapping))


@pytest.mark.parametrize(
    "name", ["torch", "onnx-step", "onnx-sequence", "onnx-scan", "onnx-integer", "native"]
)
def test_back_ends_count_alike(name: str, case: Case, mapping: Mapping, expected: dict[str, Any]) -> None:
    """PyTorch, ONNX files exported for debugging and our own engine of bundles give the interpreter's counts."""
    assert counted_on(name, case, mapping) == expected


def test_a_file_for_debugging_counts_alike(case: Case, mapping: Mapping, expected: dict[str, Any]) -> None:
    """What `export onnx --debug` writes gives all spikes by itself."""
    model = lower(case.network, "step", debug=True)
    spikes = OnnxNetwork(model.SerializeToString()).run(case.x).spikes
    assert plain(count(case.network, spikes, case.x, mapping=mapping)) == expected


@pytest.mark.lava
@pytest.mark.usefixtures("lava_interpreter")
def test_lava_counts_alike(case: Case, mapping: Mapping, expected: dict[str, Any]) -> None:
    """So does Lava."""
    assert counted_on(LAVA, case, mapping) == expected
