"""The scan form: any number of steps, in any chunks, from states that may be left out."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from snndeploy.export.onnx import lower
from snndeploy.ir import Flatten, Input, Lif, Network, Output, Trace, run
from tests.export import sessions
from tests.export.networks import TOPOLOGIES, Case, assert_same, case, graph, linear

CHUNKINGS = ((6,), (1, 5), (2, 2, 2), (4, 1, 1), (1,) * 6)


def longer(tested: Case, steps: int) -> Case:
    """The same network over more steps than it was made for, on more frames if it has frames."""
    network = replace(tested.network, steps=steps)
    frames = network.input.kind == "frames"
    return Case(network, np.concatenate([tested.x] * steps)[:steps] if frames else tested.x)


def assert_parity(found: Trace, expected: Trace) -> None:
    """Fails unless spikes, potentials and logits have the same bits."""
    assert_same(found, expected)
    for name, potentials in expected.potentials.items():
        np.testing.assert_array_equal(found.potentials[name], potentials, err_msg=name)


@pytest.mark.parametrize("kind", ["image", "frames"])
@pytest.mark.parametrize(
    "topology", ["residual", "overlapping", "long_delays", "delayed_skips", "only_delayed"]
)
def test_chunks_give_what_one_run_gives(topology: str, kind: str) -> None:
    """However six steps are cut, also shorter than a delay, spikes and u are those of the interpreter."""
    tested = case(TOPOLOGIES[topology](), steps=6, readout=3, kind=kind, seed=1)
    expected = run(tested.network, tested.x, potentials=True)
    opened = sessions.session(lower(tested.network, "scan", debug=True))
    for chunks in CHUNKINGS:
        assert_parity(sessions.run_scan(opened, tested.network, tested.x, chunks), expected)


@pytest.mark.parametrize("kind", ["image", "frames"])
def test_any_number_of_steps(kind: str) -> None:
    """A model made from a network of four steps runs two, and seven, without change."""
    tested = case(TOPOLOGIES["back_over_many"](), steps=4, readout=2, kind=kind, seed=1)
    opened = sessions.session(lower(tested.network, "scan", debug=True))
    for steps in (2, 7):
        other = longer(tested, steps)
        expected = run(other.network, other.x, potentials=True)
        assert_parity(sessions.run_scan(opened, other.network, other.x), expected)


def test_readout() -> None:
    """Logits are the mean over the last steps of the window; `logits_by_step` shows all of them.

    input -> fc -> output, x = 1, 2, 3, 4, 5, weight 1, bias 0
    """
    built = graph({"input": Input(shape=(1,)), "fc": linear(1, 1), "output": Output()}, "input fc output")
    weights = {"fc.weight": np.ones((1, 1)), "fc.bias": np.zeros(1)}
    network = Network(graph=built, weights=weights, steps=4, readout=3)
    network = replace(network, input=replace(network.input, kind="frames", high=5.0))
    opened = sessions.session(lower(network, "scan"))
    for steps, total, mean in ((5, 12.0, 4.0), (3, 6.0, 2.0), (2, 3.0, 1.5)):
        x = np.arange(1, steps + 1, dtype=np.float32).reshape(steps, 1, 1)
        found = sessions.call(opened, {"x": x})
        assert found["logits_by_step"].tolist() == x.tolist()
        assert found["readout_sum"].tolist() == [[total]]
        assert found["logits"].tolist() == [[mean]]


def test_an_image_without_any_neuron() -> None:
    """A network that only an image decides gives the same logits at every one of the steps.

    input -> flat -> output
    """
    built = graph(
        {"input": Input(shape=(2, 1, 1)), "flat": Flatten(), "output": Output()}, "input flat output"
    )
    network = Network(graph=built, weights={}, steps=3)
    x = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32).reshape(2, 2, 1, 1)
    for form in ("sequence", "scan"):
        found = sessions.call(sessions.session(lower(network, form)), {"x": x})
        assert found["readout_sum"].tolist() == [[3.0, 6.0], [9.0, 12.0]]
    assert found["logits_by_step"].shape == (3, 2, 2)


def test_interface() -> None:
    """All inputs but `x` have defaults; outputs have the time axis where there is one value per step."""
    model = lower(case(TOPOLOGIES["back_over_one"](), steps=4, kind="image").network, "scan")
    states = [f"{lif}.v" for lif in ("l0", "l1")] + ["l1.y1", "l2.v", "l3.v"]
    assert [i.name for i in model.graph.input] == ["x", "steps", *(f"state_in.{s}" for s in states)]
    outputs = ["logits", "readout_sum", "logits_by_step"]
    assert [o.name for o in model.graph.output] == [*outputs, *(f"state_out.{s}" for s in states)]
    opened = sessions.session(model)
    assert [i.name for i in opened.get_inputs()] == ["x"]
    assert len(opened.get_overridable_initializers()) == 1 + len(states)
    x = np.ones((2, 1, 7, 7), np.float32)
    found = sessions.call(opened, {"x": x})
    assert found["logits_by_step"].shape == (4, 2, 3)
    assert sessions.call(opened, {"x": x, "steps": np.array(9)})["logits_by_step"].shape == (9, 2, 3)


@pytest.mark.parametrize("batch", [None, 2])
def test_states_of_another_number_of_samples_are_refused(batch: int | None) -> None:
    """States of three samples do not silently serve two; those of one sample serve any number."""
    network = case(TOPOLOGIES["chain"](), steps=2).network
    opened = sessions.session(lower(network, "scan", batch=batch))
    x = np.ones((2, 2, 6, 7), np.float32)
    wrong = {"state_in.l1.v": np.zeros((3, 4, 6, 7), np.float32)}
    with pytest.raises(Exception, match=r"state_in|invalid expand shape|Expand"):
        opened.run(None, {"x": x, **wrong})
    if batch is None:
        one = {"state_in.l1.v": np.zeros((1, 4, 6, 7), np.float32)}
        for name, array in sessions.call(opened, {"x": x, **one}).items():
            np.testing.assert_array_equal(array, sessions.call(opened, {"x": x})[name])


@pytest.mark.parametrize("topology", ["residual", "back_over_many", "separate_loops"])
def test_fixed_batch_chunks(topology: str) -> None:
    """A model for a fixed number of samples chains its states as well."""
    tested = case(TOPOLOGIES[topology](), steps=6, kind="frames", seed=3)
    opened = sessions.session(lower(tested.network, "scan", batch=3, debug=True))
    expected = run(tested.network, tested.x, potentials=True)
    for chunks in ((6,), (4, 2)):
        assert_parity(sessions.run_scan(opened, tested.network, tested.x, chunks), expected)


def test_weights_of_a_loop_stand_inside() -> None:
    """What is stepped has its weights in the body of its Scan, everything else in the main graph.

    l0 <-> l1 form the loop
    """
    model = lower(case(TOPOLOGIES["back_over_one"](), steps=4).network, "scan")
    inside = {
        node.name: {t.name for t in node.attribute[0].g.initializer}
        for node in model.graph.node
        if node.op_type == "Scan"
    }
    loops = {name: names for name, names in inside.items() if names}
    assert list(loops) == ["l0.loop.scan"]
    (weights,) = loops.values()
    assert {"c1.weight", "back1_0d1.conv.weight"} <= weights
    assert weights.isdisjoint(t.name for t in model.graph.initializer)


def test_planted_change_of_a_state_is_seen() -> None:
    """A changed state changes what follows, so that equality of chunks means something."""
    tested = case(TOPOLOGIES["back_over_one"](), steps=4, kind="frames", seed=1)
    opened = sessions.session(lower(tested.network, "scan"))
    first = sessions.call(opened, {"x": tested.x[:2]})
    names = [s["in"] for s in sessions.table(opened, "states")]
    states: dict[str, npt.NDArray[Any]] = {n: first[n.replace("in", "out", 1)] for n in names}
    whole = sessions.call(opened, {"x": tested.x[2:], **states})["logits_by_step"]
    for name in names:
        changed = {**states, name: states[name] + np.float32(1)}
        assert (sessions.call(opened, {"x": tested.x[2:], **changed})["logits_by_step"] != whole).any(), name


@pytest.mark.parametrize("options", list(itertools.product((False, True), repeat=2)))
def test_passes_the_strict_checker_with_all_options(options: tuple[bool, bool]) -> None:
    """Debug outputs and inlined functions leave a model that the strict checker takes."""
    debug, inline = options
    for topology, kind in itertools.product(
        ("self_loop", "delayed_skips", "awkward_names"), ("image", "frames")
    ):
        network = case(TOPOLOGIES[topology](), steps=3, kind=kind).network
        for batch in (None, 2):
            model = lower(network, "scan", batch=batch, debug=debug, inline_functions=inline)
            onnx.checker.check_model(model, full_check=True)
            onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
            assert bool(model.functions) is not inline


def test_self_loop_of_one_lif() -> None:
    """A Lif that excites itself by an edge alone is a Scan whose body has no weights.

    input -> lif -> output, lif ~1 -> lif; x = 0.6 at every step
    """
    built = graph(
        {"input": Input(shape=(1,)), "lif": Lif(), "output": Output()}, "input lif output", "lif ~1 lif"
    )
    network = Network(graph=built, weights={}, steps=6)
    x = np.full((1, 1), 0.6, np.float32)
    opened = sessions.session(lower(network, "scan", debug=True))
    expected = run(network, x, potentials=True)
    assert 0 < expected.spikes["lif"].sum() < 6
    for chunks in CHUNKINGS:
        assert_parity(sessions.run_scan(opened, network, x, chunks), expected)
