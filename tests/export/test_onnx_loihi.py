"""The loihi format in ONNX: the interpreter's bits in every form, for any leak and any number of time steps."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper
import onnxruntime
import pytest
from hypothesis import given, settings

from snndeploy.cli.backends import BACKENDS, Inapplicable, Machine
from snndeploy.errors import FileFormatError, TargetError
from snndeploy.export.onnx import Arithmetic, Form, differences, export, expose_spikes, lower
from snndeploy.ir import (
    Edge,
    Exact,
    Graph,
    Input,
    InputSpec,
    Lif,
    Loihi,
    Network,
    Op,
    Output,
    Trace,
    certify,
    quantize,
    run,
)
from snndeploy.ir.neurons import LARGEST_MEMBRANE, weight_grids
from snndeploy.targets.onnx_runtime import OnnxNetwork
from tests.export import sessions
from tests.export.networks import TOPOLOGIES, Case, back_over_many, case, chain
from tests.loihi import TAUS, loihi_cases, with_tau
from tests.strategies import Case as LivelyCase

FORMS: tuple[Form, ...] = ("step", "sequence", "scan")
SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "run_onnx.py"
ARITHMETICS: tuple[Arithmetic, ...] = ("float32", "integer")


def loihi(built: Graph, *, tau: float = 0.5, steps: int = 10, kind: str = "image") -> Case:
    """A case of a graph in the loihi format, one exponent for each channel."""
    tuned = case(with_tau(built, tau), steps=steps, kind=kind)
    return Case(quantize(tuned.network, tuned.x, format="loihi", granularity="channel").network, tuned.x)


def assert_same(found: Trace, expected: Trace) -> None:
    """Fails unless spikes, potentials and readout are equal, bit for bit."""
    assert set(found.spikes) == set(expected.spikes)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes, err_msg=name)
        assert found.potentials[name].dtype == np.float32
        np.testing.assert_array_equal(found.potentials[name], expected.potentials[name], err_msg=name)
    np.testing.assert_array_equal(found.readout_sum, expected.readout_sum)
    np.testing.assert_array_equal(found.logits, expected.logits)


def metadata(model: onnx.ModelProto, key: str) -> Any:
    """A JSON table of a model."""
    return json.loads(next(p.value for p in model.metadata_props if p.key == f"snndeploy.{key}"))


@settings(max_examples=10)
@given(tested=loihi_cases())
def test_generated_networks(tested: LivelyCase) -> None:
    """Spikes, potentials and readout in every form and both arithmetics, the scan form in chunks as well."""
    network, x = tested.network, tested.x
    assert certify(network).holds
    expected = run(network, x, potentials=True)
    for form in FORMS:
        for arithmetic in ARITHMETICS:
            model = lower(network, form, arithmetic=arithmetic, debug=True)
            assert_same(sessions.run(form, model, network, x), expected)
    if network.steps > 1:
        chunks = (1, network.steps - 1)
        assert_same(sessions.run("scan", lower(network, "scan", debug=True), network, x, chunks), expected)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_topologies(topology: str) -> None:
    """Loops, several delays, vectors, groups, pools and awkward names; a leak that is a fraction."""
    tested = loihi(TOPOLOGIES[topology](), tau=TAUS[1])
    expected = run(tested.network, tested.x, potentials=True)
    assert all(spikes.any() for spikes in expected.spikes.values())
    for form in FORMS:
        model = lower(tested.network, form, arithmetic="integer", debug=True)
        assert_same(sessions.run(form, model, tested.network, tested.x), expected)


def test_the_leak_is_rounded() -> None:
    """With the same weights in the exact format the potentials differ, so that agreement is about rounding."""
    tested = loihi(back_over_many(), tau=0.75)
    assert isinstance(tested.network.format, Loihi)
    exact = replace(tested.network, format=Exact(tested.network.format.exponents))
    models = (lower(network, "sequence", debug=True) for network in (tested.network, exact))
    rounded, real = (sessions.run("sequence", m, tested.network, tested.x).potentials for m in models)
    assert all((rounded[name] != real[name]).any() for name in rounded)


def bare(tau: float, channels: int = 4096) -> Network:
    """Neurons that the input enters directly, threshold 1: input -> l -> output."""
    ops: dict[str, Op] = {"input": Input(shape=(channels,)), "l": Lif(tau=tau), "output": Output()}
    graph = Graph(ops, (Edge("input", "l"), Edge("l", "output")))
    spec = InputSpec(kind="image", grid_bits=7)
    return Network(graph=graph, weights={}, steps=1, input=spec, format=Loihi())


@pytest.mark.parametrize("n", [1, 2, 3, 1024, 1365, 2047, 2048, 2049, 3072, 3686, 4095, 4096])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_neurons_by_themselves(n: int, arithmetic: Arithmetic) -> None:
    """From any int32 membrane, also one whose products exceed 32 bits, u and v are those of whole numbers.

    A membrane of the input's grid of 2**-7 has units of 2**-14. Here currents far beyond the input's range,
    which no certified network has, saturate it at both ends.
    """
    rng = np.random.default_rng(n)
    v = rng.integers(-LARGEST_MEMBRANE, LARGEST_MEMBRANE + 1, (1, 4096))
    v[0, :2048] = rng.integers(-10, 11, 2048)
    x = rng.integers(-(2**16), 2**16, v.shape) * 128
    x[0, -64:], v[0, -64:-32], v[0, -32:] = 0, LARGEST_MEMBRANE, -LARGEST_MEMBRANE
    opened = sessions.session(lower(bare(n / 4096), "step", arithmetic=arithmetic, debug=True))
    found = sessions.call(opened, {"x": (x / 2**14).astype(np.float32), "state_in.l.v": v.astype(np.int32)})
    kept = np.sign(v) * (np.abs(v) * n // 4096)
    u = np.clip(kept + x, -LARGEST_MEMBRANE, LARGEST_MEMBRANE)
    np.testing.assert_array_equal(found["l.u"], (u / 2**14).astype(np.float32))
    np.testing.assert_array_equal(found["l.spikes"], u > 2**14)
    assert found["state_out.l.v"].dtype == np.int32
    np.testing.assert_array_equal(found["state_out.l.v"], np.where(u > 2**14, 0, u))
    assert (kept[v < 0] * 4096 > v[v < 0] * n).any() or n == 4096  # rounded towards zero, not downwards
    if n > 512:
        assert (np.abs(v * n) > 2**31).any()
    if n >= 2048:
        assert (kept + x < -LARGEST_MEMBRANE).any()
        assert (kept + x > LARGEST_MEMBRANE).any()


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC"])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_optimisation_changes_nothing(arithmetic: Arithmetic, level: str) -> None:
    """A runtime that rewrites less gives the same bits."""
    tested = loihi(back_over_many(), tau=TAUS[1])
    model = lower(tested.network, "sequence", arithmetic=arithmetic)
    opened = sessions.session(model, getattr(onnxruntime.GraphOptimizationLevel, level))
    found = sessions.call(opened, {"x": tested.x})
    np.testing.assert_array_equal(found["readout_sum"], run(tested.network, tested.x).readout_sum)


def test_function() -> None:
    """One function for halves and one for fractions, each with the nodes of the contract in its order."""
    built = TOPOLOGIES["from_vector"]()
    graph = Graph({**built.ops, "h": Lif(tau=0.75, threshold=0.5)}, built.edges)
    tuned = case(graph, steps=4)
    tested = replace(tuned, network=quantize(tuned.network, tuned.x, format="loihi").network)
    found = {f.name: f for f in lower(tested.network, "step").functions}
    assert set(found) == {"LoihiLIF", "LoihiLIF_fraction"}
    acting = [n.op_type for n in found["LoihiLIF"].node if n.op_type != "Constant"]
    assert acting == ["Cast", "Div", "Mul", "Cast", "Add", "Clip", "Greater", "Cast", "Sub", "Mul", "Cast"]
    assert list(found["LoihiLIF"].attribute) == ["denominator"]
    assert list(found["LoihiLIF_fraction"].attribute) == ["numerator", "denominator"]
    integer = {f.name for f in lower(tested.network, "step", arithmetic="integer").functions}
    assert integer == {"LoihiLIF_uint8", "LoihiLIF_fraction_uint8"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_interface(form: Form, arithmetic: Arithmetic) -> None:
    """Membranes are int32 in interface and table; delayed spikes, potentials and all else float32."""
    tested = loihi(back_over_many())
    model = lower(tested.network, form, arithmetic=arithmetic, debug=True)
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)}
    for name, kind in kinds.items():
        if name.startswith("state_") and name.endswith(".v"):
            assert kind == onnx.TensorProto.INT32, name
        elif not (name.endswith(".spikes") or name == "steps"):
            assert kind == onnx.TensorProto.FLOAT, name
    table = metadata(model, "states")
    assert all(entry["dtype"] == ("int32" if entry["kind"] == "membrane" else "float32") for entry in table)
    assert len(table) == (0 if form == "sequence" else 5)
    grids = weight_grids(tested.network)
    for entry in table:
        if entry["kind"] == "membrane":
            units = np.broadcast_to(entry["unit"], grids[entry["op"]].shape)
            np.testing.assert_array_equal(units, 2.0 ** -(grids[entry["op"]] + 7))
    assert metadata(model, "certificate")["holds"] is True
    described = {p.key: p.value for p in model.metadata_props}
    assert described["snndeploy.number_format"] == "loihi"
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_ways_to_write_a_file(tmp_path: Path, form: Form, arithmetic: Arithmetic) -> None:
    """Inlined, with weights beside it, for a fixed batch: the same trace, and no difference to the network."""
    tested = loihi(back_over_many(), tau=TAUS[1], kind="frames")
    expected = run(tested.network, tested.x, potentials=True)
    ways: dict[str, dict[str, Any]] = {
        "inlined": {"inline_functions": True},
        "external": {"external_data": True},
        "fixed": {"batch": 3},
    }
    for name, options in ways.items():
        path = tmp_path / f"{name}.onnx"
        export(tested.network, path, form, arithmetic=arithmetic, debug=True, **options)
        found = OnnxNetwork(path).run(tested.x)
        assert_same(
            Trace(found.spikes, found.readout_sum, found.logits, potentials=found.potentials), expected
        )
        assert differences(tested.network, path) == differences(tested.network, path).__class__((), ())


def test_a_changed_threshold_is_a_difference(tmp_path: Path) -> None:
    """Scale and threshold of the neurons count among what a file holds."""
    tested = loihi(chain())
    model = lower(tested.network, "step")
    (tensor,) = [t for t in model.graph.initializer if t.name == "l2.threshold"]
    changed = onnx.numpy_helper.to_array(tensor) + 1
    tensor.CopyFrom(onnx.numpy_helper.from_array(changed, tensor.name))
    (tmp_path / "step.onnx").write_bytes(model.SerializeToString())
    assert differences(tested.network, tmp_path / "step.onnx").nodes == ("l2.threshold",)


@pytest.fixture(scope="module")
def framed() -> Case:
    """A network with backward connections and a leak that is a fraction, and frames for it."""
    return loihi(back_over_many(), tau=TAUS[1], steps=6, kind="frames")


def test_streams(framed: Case) -> None:
    """Steps of a stream, from its start, after a reset, and in another stream from a copy of the states."""
    network = OnnxNetwork(lower(framed.network, "step").SerializeToString())
    expected = run(framed.network, framed.x).readout_sum
    stream, other = network.stream(3), network.stream(3)
    for _ in range(2):
        stream.reset()
        np.testing.assert_array_equal(sum(stream.step(frame) for frame in framed.x), expected)
    stream.reset()
    first = sum(stream.step(frame) for frame in framed.x[:2])
    assert {value.dtype for name, value in stream.state.items() if name.endswith(".v")} == {np.dtype("int32")}
    assert any(value.any() for name, value in stream.state.items() if name.endswith(".v"))
    other.state = stream.state
    np.testing.assert_array_equal(first + sum(other.step(frame) for frame in framed.x[2:]), expected)


@pytest.mark.parametrize("form", ["step", "scan"])
def test_chunks(framed: Case, form: Form) -> None:
    """Runs from the states of the run before, and step by step in a file whose spikes were exposed later."""
    network = OnnxNetwork(expose_spikes(lower(framed.network, form).SerializeToString()))
    whole, expected = network.run(framed.x), run(framed.network, framed.x)
    first = network.run(framed.x[:2])
    then = network.run(framed.x[2:], states=first.states)
    assert whole.logits_by_step is not None
    assert first.logits_by_step is not None
    assert then.logits_by_step is not None
    joined = np.concatenate([first.logits_by_step, then.logits_by_step])
    np.testing.assert_array_equal(joined, whole.logits_by_step)
    np.testing.assert_array_equal(whole.readout_sum, expected.readout_sum)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(whole.spikes[name], spikes)
        np.testing.assert_array_equal(np.concatenate([first.spikes[name], then.spikes[name]]), spikes)


def test_states_of_another_type(framed: Case) -> None:
    """Float membranes are refused, by runs and by streams."""
    network = OnnxNetwork(lower(framed.network, "step").SerializeToString())
    wrong: npt.NDArray[np.float32] = np.zeros((3, 4, 7, 7), np.float32)
    with pytest.raises(TargetError, match=r"state_in.l0.v.*must be an int32 array.*got float32"):
        network.run(framed.x, states={"state_in.l0.v": wrong})
    stream = network.stream(3)
    with pytest.raises(TargetError, match="must be an int32 array"):
        stream.state = {"state_in.l0.v": wrong}


def rewritten(model: onnx.ModelProto, change: Callable[[list[dict[str, Any]]], None]) -> bytes:
    """The model with another table of states."""
    (entry,) = [p for p in model.metadata_props if p.key == "snndeploy.states"]
    table = json.loads(entry.value)
    change(table)
    entry.value = json.dumps(table)
    return bytes(model.SerializeToString())


def test_a_table_that_is_wrong(framed: Case) -> None:
    """The runner refuses a table whose types are not those of the model, or no types of states at all."""

    def all_float(table: list[dict[str, Any]]) -> None:
        for entry in table:
            entry["dtype"] = "float32"

    def all_int(table: list[dict[str, Any]]) -> None:
        for entry in table:
            entry["dtype"] = "int32"

    with pytest.raises(FileFormatError, match="must be those of its metadata"):
        OnnxNetwork(rewritten(lower(framed.network, "step"), all_float))
    with pytest.raises(FileFormatError, match="a state of 'int32'"):  # delayed spikes are float32
        OnnxNetwork(rewritten(lower(framed.network, "step"), all_int))


def test_refusals() -> None:
    """Neither float16 nor a network whose certificate fails, whose reason is given; verify takes note."""
    tested = loihi(chain())
    with pytest.raises(TargetError, match=r"float16.*loihi"):
        lower(tested.network, "step", arithmetic="float16")
    assert isinstance(BACKENDS["onnx-float16"](tested.network, tested.x, Machine()), Inapplicable)
    bias = tested.network.weights["c1.bias"] + np.float32(2**6)
    broken = replace(tested.network, weights={**tested.network.weights, "c1.bias": bias})
    (failure,) = certify(broken).failures
    for arithmetic in ARITHMETICS:
        with pytest.raises(TargetError) as caught:
            lower(broken, "step", arithmetic=arithmetic)
        assert failure.op in str(caught.value)
        assert failure.reason in str(caught.value)
    for name in ("torch", "onnx-step", "onnx-integer"):
        outcome = BACKENDS[name](broken, tested.x, Machine())
        assert isinstance(outcome, Inapplicable)
        assert failure.reason in outcome.reason


def test_script_of_the_docs(tmp_path: Path) -> None:
    """The script without snndeploy runs a step file with int32 states, too."""
    tested = loihi(back_over_many(), tau=TAUS[1])
    export(tested.network, tmp_path / "step.onnx", "step")
    np.save(tmp_path / "x.npy", tested.x)
    printed = subprocess.run(
        [sys.executable, "-I", str(SCRIPT), str(tmp_path / "step.onnx"), str(tmp_path / "x.npy")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = np.array([line.split() for line in printed.splitlines()], np.float32)
    np.testing.assert_array_equal(found, run(tested.network, tested.x).logits)
