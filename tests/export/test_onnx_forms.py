"""Both ONNX forms give the spikes of the reference interpreter, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from snndeploy.export.onnx import Form, expose_spikes, lower
from snndeploy.ir import Flatten, Input, Lif, Network, Output, Trace, Upsample, run
from snndeploy.targets.onnx_runtime import OnnxNetwork
from tests.export.networks import TOPOLOGIES, Case, assert_active, assert_same, case, graph, linear

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
    """What ONNX Runtime makes of a network, spikes included."""
    return OnnxNetwork(expose_spikes(lower(network, form, batch=batch).SerializeToString())).run(x)


def assert_parity(tested: Case) -> None:
    """Fails unless both forms agree with the interpreter, for one sample and for three."""
    assert_active(tested)
    for form in FORMS:
        for count in (1, 3):
            x = tested.samples(count)
            assert_same(onnx_trace(tested.network, x, form), run(tested.network, x))


@pytest.mark.parametrize("kind", ["image", "frames"])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_topology(topology: str, kind: str) -> None:
    """Each topology, drawn where it is built, gives equal spikes for images and for frames."""
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
    frames = np.ascontiguousarray(np.broadcast_to(tested.x, (4, *tested.x.shape)))
    model = lower(tested.network, "sequence").SerializeToString()
    sums = []
    levels = onnxruntime.GraphOptimizationLevel
    for level in (levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_ALL):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        sums.append(session.run(["readout_sum"], {"x": frames})[0])
    np.testing.assert_array_equal(sums[0], sums[1])
    np.testing.assert_array_equal(sums[0], run(tested.network, tested.x).readout_sum)


def test_planted_weight_change_is_seen() -> None:
    """One changed weight in the lowered network changes spikes, so equality means something."""
    tested = case(TOPOLOGIES["back_over_one"](), steps=4, seed=1)
    model = lower(tested.network, "sequence")
    tensor = next(t for t in model.graph.initializer if t.name == "c1.weight")
    values = np.frombuffer(tensor.raw_data, np.float32).copy()
    values[4] += 1.0
    tensor.raw_data = values.tobytes()
    changed = OnnxNetwork(expose_spikes(model.SerializeToString())).run(tested.x)
    expected = run(tested.network, tested.x)
    assert (changed.spikes["l1"] != expected.spikes["l1"]).any()
