"""Every ONNX form gives the spikes and potentials of the reference interpreter, bit for bit."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import get_args

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snndeploy.errors import TargetError
from snndeploy.export.onnx import Arithmetic, Form, lower
from snndeploy.ir import (
    AvgPool2d,
    Flatten,
    Input,
    InputSpec,
    Lif,
    Network,
    Output,
    Trace,
    Upsample,
    certify,
    quantize,
    run,
)
from tests import strategies
from tests.export import sessions
from tests.export.networks import TOPOLOGIES, Case, assert_active, assert_same, case, conv, graph, linear
from tests.strategies import cases

FORMS: tuple[Form, ...] = get_args(Form)
WITH_BRANCHES = (
    "self_loop",
    "back_over_one",
    "back_over_many",
    "two_into_one",
    "overlapping",
    "long_delays",
    "separate_loops",
    "from_vector",
)


def onnx_trace(network: Network, x: npt.NDArray[np.float32], form: Form, batch: int | None = None) -> Trace:
    """What ONNX Runtime makes of a network, spikes and potentials included."""
    return sessions.run(form, lower(network, form, batch=batch, debug=True), network, x)


def assert_parity(tested: Case) -> None:
    """Fails unless every form agrees with the interpreter, for one sample and for three."""
    assert_active(tested)
    for form in FORMS:
        for count in (1, 3):
            x = tested.samples(count)
            expected = run(tested.network, x, potentials=True)
            found = onnx_trace(tested.network, x, form)
            assert_same(found, expected)
            for name, potentials in expected.potentials.items():
                np.testing.assert_array_equal(found.potentials[name], potentials, err_msg=name)


@pytest.mark.parametrize("kind", ["image", "frames"])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_topology(topology: str, kind: str) -> None:
    """Each topology, drawn where it is built, gives equal spikes and potentials for images and for frames."""
    assert_parity(case(TOPOLOGIES[topology](), steps=4, kind=kind, seed=1))


@pytest.mark.parametrize("readout", ["last", "half", "all"])
@pytest.mark.parametrize(
    ("topology", "steps"),
    [
        *[("chain", steps) for steps in (1, 2, 3, 5)],
        *[("residual", steps) for steps in (1, 2, 5)],
        *[("back_over_one", steps) for steps in (2, 3, 5)],
        *[("back_over_many", steps) for steps in (2, 5)],
        *[("delayed_skips", steps) for steps in (3, 5)],
        ("long_delays", 5),
    ],
)
def test_any_number_of_steps(topology: str, steps: int, readout: str) -> None:
    """The number of steps and the readout window do not matter."""
    window = {"last": 1, "half": (steps + 1) // 2, "all": steps}[readout]
    assert_parity(case(TOPOLOGIES[topology](), steps=steps, readout=window, seed=2))


@pytest.mark.parametrize("topology", WITH_BRANCHES)
def test_branches_matter(topology: str) -> None:
    """Without its backward connections each of these networks spikes differently, in ONNX too."""
    tested = case(TOPOLOGIES[topology](), steps=4, seed=1)
    weights = tested.network.weights
    cut = replace(
        tested.network,
        weights={n: np.zeros_like(w) if n.startswith("back") else w for n, w in weights.items()},
    )
    for form in FORMS:
        full, less = (onnx_trace(network, tested.x, form).spikes for network in (tested.network, cut))
        assert any((full[name] != less[name]).any() for name in full)


@pytest.mark.parametrize("form", FORMS)
def test_bias_behind_a_delay_acts_from_the_first_step(form: Form) -> None:
    """A delayed spike is zero before the first step, but the bias that follows the edge is added.

    input -> fc -> l0 -> out -> output;  l0 ~2 -> late -> output, late with bias 5, three steps
    """
    built = graph(
        {
            "input": Input(shape=(1,)),
            "fc": linear(1, 1),
            "l0": Lif(),
            "out": linear(1, 1),
            "late": linear(1, 1),
            "output": Output(),
        },
        "input fc l0 out output",
        "l0 ~2 late output",
    )
    ones = {name: np.ones((1, 1)) for name in ("fc.weight", "out.weight", "late.weight")}
    biases = {"fc.bias": [0.5], "out.bias": [0.0], "late.bias": [5.0]}
    network = Network(graph=built, weights={**ones, **{n: np.array(b) for n, b in biases.items()}}, steps=3)
    trace = onnx_trace(network, np.ones((1, 1), np.float32), form)
    assert trace.spikes["l0"].all()
    assert trace.readout_sum.tolist() == [[3 * 1 + 3 * 5 + 1]]


@pytest.mark.parametrize("form", FORMS)
def test_threshold_is_strict(form: Form) -> None:
    """A potential equal to the threshold does not fire, and the next float above it does.

    input -> lif -> output
    """
    built = graph({"input": Input(shape=(3,)), "lif": Lif(), "output": Output()}, "input lif output")
    network = Network(graph=built, weights={}, steps=1)
    x = np.array([[1.0, np.nextafter(np.float32(1), np.float32(2)), 0.0]], np.float32)
    assert onnx_trace(network, x, form).spikes["lif"].tolist() == [[[False, True, False]]]


@pytest.mark.parametrize("form", FORMS)
def test_every_upsampling_ratio(form: Form) -> None:
    """Output row i reads input row (i * in) // out, for enlarging and for reducing, by integers or not.

    input -> up -> flat -> output, without any Lif
    """
    for size in range(1, 8):
        for enlarged in range(1, 15):
            built = graph(
                {
                    "input": Input(shape=(1, size, 2)),
                    "up": Upsample(size=(enlarged, 4)),
                    "flat": Flatten(),
                    "output": Output(),
                },
                "input up flat output",
            )
            network = Network(graph=built, weights={}, steps=1)
            x = np.arange(2 * size, dtype=np.float32).reshape(1, 1, size, 2)
            assert_same(onnx_trace(network, x, form), run(network, x))


@pytest.mark.parametrize("topology", ["residual", "back_over_many"])
def test_fixed_batch(topology: str) -> None:
    """A model for a fixed number of samples gives the same."""
    tested = case(TOPOLOGIES[topology](), steps=3, seed=3)
    for form in FORMS:
        trace = onnx_trace(tested.network, tested.x, form, batch=3)
        assert_same(trace, run(tested.network, tested.x))


@pytest.mark.parametrize("topology", ["residual", "overlapping", "delayed_skips"])
def test_graph_optimisation_changes_nothing(topology: str) -> None:
    """ONNX Runtime's optimised graph and the plain one give the same bits."""
    tested = case(TOPOLOGIES[topology](), steps=4, seed=4)
    expected = run(tested.network, tested.x).readout_sum
    levels = onnxruntime.GraphOptimizationLevel
    for form in ("sequence", "scan"):
        model = lower(tested.network, form)
        for level in (levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_ALL):
            opened = sessions.session(model, level)
            np.testing.assert_array_equal(opened.run(["readout_sum"], {"x": tested.x})[0], expected)


def test_planted_weight_change_is_seen() -> None:
    """One changed weight in the lowered network changes spikes, so equality means something."""
    tested = case(TOPOLOGIES["back_over_one"](), steps=4, seed=1)
    model = lower(tested.network, "sequence", debug=True)
    tensor = next(t for t in model.graph.initializer if t.name == "c1.weight")
    values = np.frombuffer(tensor.raw_data, np.float32).copy()
    values[4] += 1.0
    tensor.raw_data = values.tobytes()
    changed = sessions.run("sequence", model, tested.network, tested.x)
    expected = run(tested.network, tested.x)
    assert (changed.spikes["l1"] != expected.spikes["l1"]).any()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("topology", ["residual", "overlapping", "delayed_skips"])
def test_without_functions(topology: str, form: Form) -> None:
    """A model whose LIFs are plain nodes gives the same, and has no function and no call of one."""
    tested = case(TOPOLOGIES[topology](), steps=4, seed=5)
    model = lower(tested.network, form, debug=True, inline_functions=True)
    assert not model.functions
    assert all(not node.domain for node in all_nodes(model.graph))
    assert [imported.domain for imported in model.opset_import] == [""]
    assert_same(sessions.run(form, model, tested.network, tested.x), run(tested.network, tested.x))


def all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes of a graph and of the graphs inside them."""
    inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return [*graph.node, *(node for body in inner for node in all_nodes(body))]


@pytest.mark.parametrize("form", FORMS)
def test_image_beside_spikes(form: Form) -> None:
    """What an image alone decides adds up with what spikes do, in the order of the edges.

    input -> c1 -> l1 -> c2 -> l2 -> pool -> flat -> fc -> output
    input -> c3 -> l2, input ~1 -> c4 -> l2, input -> p -> c5 -> l1, l2 ~1 -> l1
    """
    built = graph(
        {
            "input": Input(shape=(2, 6, 6)),
            **{name: conv(2 if name != "c2" else 4, 4) for name in ("c1", "c2", "c3", "c4", "c5")},
            "p": Upsample(size=(6, 6)),
            "l1": Lif(),
            "l2": Lif(),
            "pool": AvgPool2d(kernel=(2, 2), stride=(2, 2)),
            "flat": Flatten(),
            "fc": linear(36, 3),
            "output": Output(),
        },
        "input c1 l1 c2 l2 pool flat fc output",
        "input c3 l2",
        "input ~1 c4 l2",
        "input p c5 l1",
        "l2 ~1 l1",
    )
    tested = case(built, steps=4, readout=2, seed=2)
    assert_active(tested)
    found = onnx_trace(tested.network, tested.x, form)
    assert_same(found, run(tested.network, tested.x))
    kinds = [node.op_type for node in lower(tested.network, "sequence").graph.node if node.name == "c1"]
    assert kinds == ["Conv"]


@settings(max_examples=12, deadline=None)
@given(cases(most_layers=3), st.data())
def test_random_networks(drawn: strategies.Case, data: st.DataObject) -> None:
    """Random networks, exact and free: every form, any chunking, gives the interpreter's bits where exact.

    Where it is not exact the first layer, whose input is the same, may differ by rounding only.
    """
    network = drawn.network
    expected = run(network, drawn.x, potentials=True)
    cuts = data.draw(st.sets(st.integers(1, max(network.steps - 1, 1)), max_size=3))
    bounds = sorted({0, network.steps, *(c for c in cuts if c < network.steps)})
    chunks = [end - start for start, end in itertools.pairwise(bounds)]
    arithmetics: tuple[Arithmetic, ...] = ("float32", "integer") if certify(network).holds else ("float32",)
    for form, arithmetic in itertools.product(FORMS, arithmetics):
        try:
            model = lower(network, form, debug=True, arithmetic=arithmetic)
        except TargetError:
            assert arithmetic == "integer"
            continue
        found = sessions.run(form, model, network, drawn.x, chunks)
        assert_same(found, expected)
        for name, potentials in expected.potentials.items():
            np.testing.assert_array_equal(found.potentials[name], potentials, err_msg=name)
        free = sessions.run(form, lower(drawn.original, form, debug=True), drawn.original, drawn.x)
        first = network.graph.ports[0]
        close = run(drawn.original, drawn.x, potentials=True).potentials[first][0]
        np.testing.assert_allclose(free.potentials[first][0], close, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("arithmetic", ["float32", "integer"])
@pytest.mark.parametrize("form", FORMS)
def test_spikes_that_are_the_output_itself(form: Form, arithmetic: Arithmetic) -> None:
    """More spikes in the readout window than 8 bits count add up to their number.

    input -> lif -> output, without memory; 2 fires at each of 300 steps, 0.5 never
    """
    built = graph({"input": Input(shape=(2,)), "lif": Lif(tau=0.0), "output": Output()}, "input lif output")
    spec = InputSpec(grid_bits=4, high=2.0)
    x = np.array([[2.0, 0.5]], np.float32)
    free = Network(graph=built, weights={}, steps=300, input=spec)
    network = quantize(free, x).network
    model = lower(network, form, debug=True, arithmetic=arithmetic)
    found = sessions.run(form, model, network, x)
    assert found.readout_sum.tolist() == [[300.0, 0.0]]
