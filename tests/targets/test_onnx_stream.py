"""Streams of single steps: the interpreter's numbers, independent states, in place or in turns."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from snndeploy.errors import TargetError
from snndeploy.export.onnx import Form, lower
from snndeploy.ir import run
from snndeploy.targets.onnx_runtime import CPU, CUDA, OnnxNetwork, Stream
from tests.export.networks import Case, back_over_many, case


@pytest.fixture(scope="module")
def tested() -> Case:
    """A network with backward connections of several delays, and frames for it."""
    return case(back_over_many(), steps=4, kind="frames")


@pytest.fixture(scope="module")
def model(tested: Case) -> onnx.ModelProto:
    """Its step form."""
    return lower(tested.network, "step")


def in_place(model: onnx.ModelProto, decide: Callable[[int, bool], bool]) -> OnnxNetwork:
    """The network with another column of its table of states."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (entry,) = [p for p in copy.metadata_props if p.key == "snndeploy.states"]
    table = json.loads(entry.value)
    entry.value = json.dumps(
        [{**state, "in_place": decide(i, state["in_place"])} for i, state in enumerate(table)]
    )
    return OnnxNetwork(copy.SerializeToString())


def logits(stream: Stream, x: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, Any]:
    """What enters the Output at each step."""
    return np.stack([stream.step(frame) for frame in x])


DECISIONS: list[Callable[[int, bool], bool]] = [
    lambda _, declared: declared,
    lambda _, __: False,
    lambda i, declared: declared and i % 2 == 0,
]


@pytest.mark.parametrize("decide", DECISIONS, ids=["as declared", "in turns", "both"])
def test_steps(tested: Case, model: onnx.ModelProto, decide: Callable[[int, bool], bool]) -> None:
    """Wherever the states lie, their sum over the steps is the interpreter's, and again after a reset."""
    stream = in_place(model, decide).stream(3)
    expected = run(tested.network, tested.x).readout_sum
    for _ in range(2):
        found = logits(stream, tested.x)
        np.testing.assert_array_equal(found.sum(0), expected)
        assert stream.steps_done == 4
        stream.reset()
        assert all(not state.any() for state in stream.state.values())


def test_the_table_decides_where_states_lie(model: onnx.ModelProto) -> None:
    """A network whose table allows it has states in place, and only such states share their buffers."""
    network = OnnxNetwork(model.SerializeToString())
    assert any(state.in_place for state in network.description.states)
    stream = network.stream()
    for state in network.description.states:
        assert len(stream._states[state.input]) == (1 if state.in_place else 2)


@pytest.mark.parametrize("decide", DECISIONS, ids=["as declared", "in turns", "both"])
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_state(tested: Case, model: onnx.ModelProto, decide: Callable[[int, bool], bool], cut: int) -> None:
    """A state taken out is a copy; put into another stream it continues there, in that very place."""
    network = in_place(model, decide)
    first, second = network.stream(3), network.stream(3)
    logits(first, tested.x[:cut])
    taken = first.state
    kept = {name: value.copy() for name, value in taken.items()}
    rest = logits(first, tested.x[cut:])
    assert any((first.state[name] != value).any() for name, value in kept.items())
    second.step(tested.x[0])  # in turns the other buffers are the current ones
    second.state = taken
    np.testing.assert_array_equal(logits(second, tested.x[cut:]), rest)
    for name, value in kept.items():
        np.testing.assert_array_equal(taken[name], value)


def test_streams_are_independent(tested: Case, model: onnx.ModelProto) -> None:
    """Three streams of one session, of two batch sizes, fed in turns, each give what they give alone."""
    network = OnnxNetwork(model.SerializeToString())
    inputs = [tested.x, tested.x[:, ::-1], tested.x[:, :1]]
    alone = [logits(network.stream(x.shape[1]), x) for x in inputs]
    streams = [network.stream(x.shape[1]) for x in inputs]
    together = [[stream.step(x[t]) for stream, x in zip(streams, inputs, strict=True)] for t in range(4)]
    for k, expected in enumerate(alone):
        np.testing.assert_array_equal(np.stack([step[k] for step in together]), expected)


def test_results_are_copies(tested: Case, model: onnx.ModelProto) -> None:
    """Logits of one step stay as they are when the next one runs; the input is not kept."""
    stream = OnnxNetwork(model.SerializeToString()).stream(3)
    x = tested.x[0].copy()
    first = stream.step(x)
    kept = first.copy()
    x[:] = 0
    second = stream.step(tested.x[1])
    np.testing.assert_array_equal(first, kept)
    assert (first != second).any()
    np.testing.assert_array_equal(np.stack([first, second]), logits(_fresh(stream), tested.x[:2]))
    assert stream.step(np.asfortranarray(tested.x[2])).shape == first.shape


def _fresh(stream: Stream) -> Stream:
    stream.reset()
    return stream


def test_what_does_not_fit(tested: Case, model: onnx.ModelProto) -> None:
    """Input, states and batch of wrong shape, type or name are named; the states stay as they were."""
    network = OnnxNetwork(model.SerializeToString())
    stream = network.stream(3)
    stream.step(tested.x[0])
    before = stream.state
    for wrong in (tested.x, tested.x[0, :1], tested.x[0].astype(np.float64)):
        with pytest.raises(TargetError, match=r"must be a float32 array of shape \(3, "):
            stream.step(wrong)
    with pytest.raises(TargetError, match=r"must be a float32 array of shape .*, got list"):
        stream.step(tested.x[0].tolist())
    name = next(iter(before))
    wrong_states: list[Any] = [before[name][:1], before[name].astype(np.float64), [[1], [1, 0]], None]
    for value in wrong_states:
        with pytest.raises(TargetError, match=f"state '{name}': must be a float32 array of shape"):
            stream.state = {**before, name: value}
    with pytest.raises(TargetError, match=r"state 'v': does not exist; there are state_in\."):
        stream.state = {name: np.zeros_like(before[name]), "v": before[name]}
    for key, value in stream.state.items():
        np.testing.assert_array_equal(value, before[key])
    for batch in (0, -1, True, 2**31, 1.0):
        with pytest.raises(TargetError, match="batch: must be a whole number"):
            network.stream(batch)  # type: ignore[arg-type]
    with pytest.raises(TargetError, match="must have batch 2, got 3"):
        OnnxNetwork(lower(tested.network, "step", batch=2).SerializeToString()).stream(3)


def test_no_room(model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers that cannot be had are an error of ours."""
    network = OnnxNetwork(model.SerializeToString())

    def full(*_: object) -> None:
        raise MemoryError("no memory")

    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_numpy", full)
    with pytest.raises(TargetError, match="finds no room on the cpu, got no memory"):
        network.stream(2)


@pytest.mark.parametrize("form", ["sequence", "scan"])
def test_only_the_step_form_streams(tested: Case, form: Form) -> None:
    """A file of another form says how to get one."""
    network = OnnxNetwork(lower(tested.network, form).SerializeToString())
    with pytest.raises(TargetError, match=r"must have the step form for a stream.*--form step"):
        network.stream()


def test_cuda_graphs_are_refused(tested: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, for control flow, and for any number of samples; each error says what to do."""
    scan, step = (lower(tested.network, form).SerializeToString() for form in ("scan", "step"))
    with pytest.raises(TargetError, match=r"needs CUDAExecutionProvider as the first provider, got CPU"):
        OnnxNetwork(step, cuda_graph=True)
    with pytest.raises(TargetError, match=r"cannot capture control flow.*step or sequence form"):
        OnnxNetwork(scan, (CUDA,), cuda_graph=True)
    create, asked = onnxruntime.InferenceSession, dict[str, dict[str, str]]()

    class OnCpu:
        """A session on the CPU that says it is on CUDA."""

        def __init__(self, model: bytes, options: object, **rest: Any) -> None:
            asked.update(rest["providers"])
            self._session = create(model, options, **{**rest, "providers": [CPU]})

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

        def get_providers(self) -> list[str]:
            """What a session on CUDA says."""
            return [CUDA, CPU]

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", OnCpu)
    with pytest.raises(TargetError, match=r"needs a fixed batch.*--batch"):
        OnnxNetwork(step, (CUDA,), cuda_graph=True)
    assert asked[CUDA] == {"use_tf32": "0", "enable_cuda_graph": "1"}
    fixed = lower(tested.network, "step", batch=2).SerializeToString()
    assert OnnxNetwork(fixed, (CUDA,), cuda_graph=True).description.form == "step"


@pytest.mark.parametrize("form", ["step", "sequence"])
def test_captured_calls_repeat(tested: Case, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fixed buffers, and warm calls before the first step, change no result; tried on the CPU."""
    module = "snndeploy.targets.onnx_runtime"
    monkeypatch.setattr(f"{module}.network.check_file", lambda *_: None)
    opening = OnnxNetwork.__init__.__globals__["open_session"]
    monkeypatch.setattr(f"{module}.network.open_session", lambda *args, **_: opening(*args, cuda_graph=False))
    source = lower(tested.network, form, batch=3, debug=True).SerializeToString()
    network, expected = OnnxNetwork(source, cuda_graph=True), run(tested.network, tested.x, potentials=True)
    for _ in range(2):
        result = network.run(tested.x)
        np.testing.assert_array_equal(result.logits, expected.logits)
        for name, spikes in expected.spikes.items():
            np.testing.assert_array_equal(result.spikes[name], spikes)
            np.testing.assert_array_equal(result.potentials[name], expected.potentials[name])
    first = network._captured
    network.run(tested.x)
    assert network._captured is first is not None
