"""The table of states: what may stay in place, checked on the graph and by doing it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from snndeploy.export.onnx import Arithmetic, Form, lower
from snndeploy.export.onnx.states import states
from snndeploy.ir import Network, run
from tests.export import sessions
from tests.export.networks import TOPOLOGIES, Case, case


def in_place(network: Network, form: Form = "step", arithmetic: Arithmetic = "float32") -> dict[str, bool]:
    """What a model says of each of its states, by short name."""
    model = lower(network, form, arithmetic=arithmetic)
    entries = {p.key: p.value for p in model.metadata_props}
    table = json.loads(entries["snndeploy.states"])
    return {entry["in"].removeprefix("state_in."): entry["in_place"] for entry in table}


@pytest.mark.parametrize("arithmetic", ["float32", "float16"])
def test_readers_before_the_writer(arithmetic: Arithmetic) -> None:
    """Membranes may stay in place, and spikes of a step ago whose readers all come before the new ones.

    l1 -> l0 after 1 step
    """
    network = case(TOPOLOGIES["back_over_one"](), steps=4).network
    found = in_place(network, arithmetic=arithmetic)
    assert found == {**{f"l{i}.v": True for i in range(4)}, "l1.y1": True}


def test_delays_of_several_steps() -> None:
    """What is handed on from place to place may not: its reader need not come before it is overwritten.

    l1 -> l0 after 2 steps, l3 -> l2 after 3 and after 1
    """
    network = case(TOPOLOGIES["long_delays"](), steps=4).network
    delayed = ("l1.y1", "l1.y2", "l3.y1", "l3.y2", "l3.y3")
    assert in_place(network) == {f"l{i}.v": True for i in range(4)} | dict.fromkeys(delayed, False)


def test_readers_after_the_writer() -> None:
    """Delayed spikes that a later op reads would be overwritten before it reads them."""
    network = case(TOPOLOGIES["delayed_skips"](), steps=4).network
    found = in_place(network)
    assert {name for name, may in found.items() if not may} == {"input.y1", "l0.y1", "l0.y2"}


@pytest.mark.parametrize("topology", [t for t in TOPOLOGIES if t not in ("vectors",)])
def test_writing_in_place_changes_nothing(topology: str) -> None:
    """With one buffer as input and output of every state that allows it, all steps are as ever."""
    tested = case(TOPOLOGIES[topology](), steps=5, seed=1)
    opened = sessions.session(lower(tested.network, "step"))
    found = _run_in_place(opened, tested)
    np.testing.assert_array_equal(found, run(tested.network, tested.x).readout_sum)


def _run_in_place(opened: Any, tested: Case) -> npt.NDArray[Any]:
    """The sum over all steps, each state in one buffer if it may be, else in two by turns."""
    table = sessions.table(opened, "states")
    size = len(tested.x)
    pairs = {}
    for entry in table:
        first, second = (_zeros((size, *entry["shape"][1:])) for _ in range(2))
        pairs[entry["in"]] = [first, first if entry["in_place"] else second]
    total = np.zeros((size, *tested.network.graph.shapes[tested.network.graph.output]), np.float32)
    for _ in range(tested.network.steps):
        binding = opened.io_binding()
        binding.bind_cpu_input("x", tested.x)
        binding.bind_output("logits")
        for entry in table:
            before, after = pairs[entry["in"]]
            binding.bind_ortvalue_input(entry["in"], before)
            binding.bind_ortvalue_output(entry["out"], after)
            pairs[entry["in"]] = [after, before]
        opened.run_with_iobinding(binding)
        total += binding.copy_outputs_to_cpu()[0]
    return total


def _zeros(shape: tuple[int, ...]) -> Any:
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))


def test_order_of_the_table() -> None:
    """States stand in the order of populations, each membrane before the delayed outputs of its Lif."""
    network = case(TOPOLOGIES["delayed_skips"](), steps=4).network
    names = [f"{s.op}.{'y' + str(s.delay) if s.delay else 'v'}" for s in states(network.graph)]
    assert names == list(in_place(network)) == list(in_place(network, "scan"))
    assert not in_place(network, "sequence")
