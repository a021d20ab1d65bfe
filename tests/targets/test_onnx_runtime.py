"""The ONNX Runtime runner: same result or a clear error, and never another provider than asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest

from snndeploy.errors import FileFormatError, NetworkError, TargetError
from snndeploy.export.onnx import Form, lower
from snndeploy.ir import Input, InputSpec, Network, Op, Output, Trace, run
from snndeploy.targets.onnx_runtime import CPU, OnnxNetwork, Result, available_providers
from snndeploy.targets.onnx_runtime.session import missing_library
from tests.export.networks import Case, back_over_many, case, chain, graph, linear, vectors

FORMS: tuple[Form, ...] = get_args(Form)


def changed(model: onnx.ModelProto, key: str, text: str | None) -> bytes:
    """The model with one metadata entry replaced, or removed if None."""
    others = [p for p in model.metadata_props if p.key != f"snndeploy.{key}"]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.metadata_props[:]
    copy.metadata_props.extend(others)
    if text is not None:
        copy.metadata_props.add(key=f"snndeploy.{key}", value=text)
    return bytes(copy.SerializeToString())


def opened(network: Network, form: Form, **options: Any) -> OnnxNetwork:
    """A fresh export, opened."""
    return OnnxNetwork(lower(network, form, **options).SerializeToString())


def assert_same(result: Result, expected: Trace) -> None:
    """Fails unless logits, spikes and potentials are those of the interpreter, bit for bit."""
    assert result.logits.dtype == result.readout_sum.dtype == np.float32
    np.testing.assert_array_equal(result.readout_sum, expected.readout_sum)
    np.testing.assert_array_equal(result.logits, expected.logits)
    assert set(result.spikes) == set(result.potentials) == set(expected.spikes)
    for name, spikes in expected.spikes.items():
        assert result.spikes[name].dtype == np.bool_
        np.testing.assert_array_equal(result.spikes[name], spikes, err_msg=name)
        np.testing.assert_array_equal(result.potentials[name], expected.potentials[name], err_msg=name)


@pytest.fixture(scope="module")
def tested() -> Case:
    """A network with backward connections, and images for it."""
    return case(back_over_many(), steps=3, readout=2)


@pytest.fixture(scope="module")
def framed() -> Case:
    """The same with one frame per step."""
    return case(back_over_many(), steps=3, readout=2, kind="frames")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_runs_a_file(tmp_path: Path, tested: Case, form: Form, threads: int) -> None:
    """A file exported for debugging gives the interpreter's trace; running twice gives it twice."""
    path = tmp_path / "network.onnx"
    path.write_bytes(lower(tested.network, form, debug=True).SerializeToString())
    network = OnnxNetwork(path, threads=threads)
    for _ in range(2):
        assert_same(network.run(tested.x), run(tested.network, tested.x, potentials=True))
    assert OnnxNetwork(str(path)).description == network.description


@pytest.mark.parametrize("form", FORMS)
def test_frames(framed: Case, form: Form) -> None:
    """So does one for frames, also when the input is no contiguous array."""
    network = opened(framed.network, form, debug=True)
    expected = run(framed.network, framed.x, potentials=True)
    assert_same(network.run(framed.x), expected)
    assert_same(network.run(np.asfortranarray(framed.x)), expected)


@pytest.mark.parametrize("form", FORMS)
def test_without_spikes(tested: Case, form: Form) -> None:
    """A file as it is normally exported gives the logits, by step where it knows them, and no spikes."""
    result = opened(tested.network, form).run(tested.x)
    expected = run(tested.network, tested.x)
    assert result.spikes == result.potentials == {}
    np.testing.assert_array_equal(result.logits, expected.logits)
    if form == "sequence":
        assert result.logits_by_step is None
        assert result.states == {}
    else:
        assert result.logits_by_step is not None
        np.testing.assert_array_equal(result.logits_by_step[-2:].sum(0), expected.readout_sum)


@pytest.mark.parametrize("kind", ["image", "frames"])
@pytest.mark.parametrize("form", ["step", "scan"])
def test_chunks(tested: Case, framed: Case, form: Form, kind: str) -> None:
    """Steps in two runs, the second from the states of the first, are those of one run, to the last bit."""
    source = framed if kind == "frames" else tested
    network = opened(source.network, form, debug=True)
    x = source.x if kind == "image" else np.concatenate([source.x, source.x[::-1]])[:5]
    whole = network.run(x, steps=5)
    for cut in (1, 2, 4):
        first = network.run(x[:cut] if kind == "frames" else x, steps=cut)
        then = network.run(x[cut:] if kind == "frames" else x, steps=5 - cut, states=first.states)
        for name, spikes in whole.spikes.items():
            np.testing.assert_array_equal(np.concatenate([first.spikes[name], then.spikes[name]]), spikes)
            both = np.concatenate([first.potentials[name], then.potentials[name]])
            np.testing.assert_array_equal(both, whole.potentials[name])
        assert set(then.states) == set(whole.states) == {s.input for s in network.description.states}
        for name, state in whole.states.items():
            np.testing.assert_array_equal(then.states[name], state)


@pytest.mark.parametrize("form", ["step", "scan"])
def test_other_numbers_of_steps(tested: Case, form: Form) -> None:
    """Images may be shown for longer, or for fewer steps than the readout window, whose mean is then theirs."""
    network = opened(tested.network, form)
    one, two = (network.run(tested.x, steps=steps) for steps in (1, 2))
    assert one.logits_by_step is not None
    np.testing.assert_array_equal(one.logits, one.logits_by_step[0])
    np.testing.assert_array_equal(two.logits, two.readout_sum / np.float32(2))
    assert network.run(tested.x, steps=7).states.keys() == network.run(tested.x).states.keys()
    with pytest.raises(TargetError, match="must have 1 to 2147483647 steps, got 0"):
        network.run(tested.x, steps=0)
    for steps in (2**31, 2**63):
        with pytest.raises(TargetError, match="must have 1 to 2147483647 steps"):
            network.run(tested.x, steps=steps)
    numpys: Any = np.int64(2)
    np.testing.assert_array_equal(network.run(tested.x, steps=numpys).logits, two.logits)
    with pytest.raises(TargetError, match=r"must have 3 steps, got 4; export the scan form"):
        opened(tested.network, "sequence").run(tested.x, steps=4)


@pytest.mark.parametrize("form", FORMS)
def test_states_that_do_not_fit(tested: Case, form: Form) -> None:
    """Unknown names, shapes and types of states are named before anything runs."""
    network = opened(tested.network, form)
    with pytest.raises(TargetError, match="state 'l1': does not exist"):
        network.run(tested.x, states={"l1": tested.x})
    for state in network.description.states[:1]:
        good = np.zeros((len(tested.x), *state.shape), np.float32)
        for wrong in (good[:1], good.astype(np.float64), good[..., :1]):
            with pytest.raises(TargetError, match=r"must be a float32 array of shape \(3, "):
                network.run(tested.x, states={state.input: wrong})


@pytest.mark.parametrize("form", FORMS)
def test_raw_samples(tested: Case, form: Form) -> None:
    """Raw data are prepared as the file says, with the result of the network's own preparation."""
    spec = InputSpec(divisor=255.0, mean=(0.5,), std=(0.25,), grid_bits=4, low=-2.0, high=2.0)
    network = Network(graph=tested.network.graph, weights=tested.network.weights, steps=3, input=spec)
    runner = opened(network, form)
    assert runner.description.input == spec
    raw = np.random.default_rng(0).integers(0, 256, tested.x.shape, np.uint8)
    np.testing.assert_array_equal(runner.prepare(raw), spec.prepare(raw))
    np.testing.assert_array_equal(
        runner.run(runner.prepare(raw)).logits, run(network, spec.prepare(raw)).logits
    )
    with pytest.raises(NetworkError, match="must lie in"):
        runner.prepare(raw * 300.0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("delayed", [False, True])
def test_without_any_neuron(form: Form, delayed: bool) -> None:
    """A network without a Lif runs too, with or without a delayed edge from its input.

    input -> fc -> output, input ~1 fc
    """
    edges = ["input fc output", *(["input ~1 fc"] if delayed else [])]
    ops: dict[str, Op] = {"input": Input(shape=(2,)), "fc": linear(2, 3), "output": Output()}
    weights = {"fc.weight": np.array([[1.0, 2], [3, 4], [5, 6]]), "fc.bias": np.array([1.0, 0, -1])}
    network = Network(graph=graph(ops, *edges), weights=weights, steps=3)
    x = np.array([[1.0, 0.5], [0.25, 1.0]], np.float32)
    np.testing.assert_array_equal(opened(network, form).run(x).logits, run(network, x).logits)


@pytest.mark.parametrize("form", FORMS)
def test_input_that_does_not_fit(form: Form) -> None:
    """Wrong shape, number of steps, number of samples and kind of number are named."""
    images, frames = case(chain(), steps=3), case(vectors(), steps=3, kind="frames")
    network = opened(images.network, form)
    for wrong in (
        images.x[0],
        images.x[:, :1],
        np.zeros((3, 1, 2, 6, 7), np.float32),
        np.zeros((), np.float32),
    ):
        with pytest.raises(TargetError, match=r"must have shape \('batch', 2, 6, 7\)"):
            network.run(wrong)
    for kind in (np.float64, np.uint8, np.complex64):
        with pytest.raises(TargetError, match="must be a float32 array, got"):
            network.run(images.x.astype(kind))
    with pytest.raises(TargetError, match="must be a float32 array, got list"):
        network.run([1.0])  # type: ignore[arg-type]
    with pytest.raises(TargetError, match="at least 1 samples, got 0"):
        network.run(images.x[:0])
    with pytest.raises(TargetError, match=r"must have shape \('time', 'batch', 6\), got"):
        opened(frames.network, form).run(frames.x[0])
    with pytest.raises(TargetError, match="must have 2 samples, got 3"):
        opened(images.network, form, batch=2).run(images.x)


def test_files_that_cannot_be_run(tmp_path: Path, tested: Case) -> None:
    """Missing, damaged, foreign, newer and tampered files are refused, each with its reason."""
    model = lower(tested.network, "step")
    whole = model.SerializeToString()
    path = tmp_path / "short.onnx"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match="does not exist"):
        OnnxNetwork(tmp_path / "missing.onnx")
    with pytest.raises(FileFormatError, match=r"[^:]*: cannot be read, got no regular file$"):
        OnnxNetwork(tmp_path)
    for damaged in (path, b"", b"nothing", whole[:-1]):
        with pytest.raises(FileFormatError, match="is not a whole ONNX file"):
            OnnxNetwork(damaged)
    with pytest.raises(FileFormatError, match="was not exported by snndeploy"):
        OnnxNetwork(changed(model, "format_version", None))
    with pytest.raises(FileFormatError, match="format version 2, got '99'"):
        OnnxNetwork(changed(model, "format_version", "99"))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("steps", None),
        ("steps", "three"),
        ("steps", "1"),
        ("readout", "0"),
        ("form", "loop"),
        ("arithmetic", "float8"),
        ("steps", "9" * 5000),
        ("neurons", '[{"name":"a","tau":NaN,"threshold":1,"shape":[-1,1],"spikes":"s"}]'),
        ("states", '[{"in":"a"}]'),
        ("states", "[{}]"),
        ("states", "7"),
        ("neurons", "[1]"),
        ("neurons", "{"),
        ("input", "{}"),
        ("input", "[" * 100_000),
        ("classes", "null"),
    ],
)
def test_damaged_metadata(tested: Case, key: str, text: str | None) -> None:
    """Metadata that is missing, no JSON, or of other structure is an error of ours."""
    with pytest.raises(FileFormatError, match="damaged metadata"):
        OnnxNetwork(changed(lower(tested.network, "step"), key, text))


STATE: Mapping[str, Any] = {"in": "state_in.l0.v", "out": "o", "op": "l0", "kind": "membrane", "delay": 0}


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [-1, 2**40]},
        {"shape": [-1, *[2**16] * 3]},
        {"shape": [-1, -4]},
        {"shape": [-1, 1.5]},
        {"shape": [4, 4]},
        {"shape": [-1] * 100},
        {"shape": "4"},
        {"dtype": "float64"},
        {"init": 1.0},
        {"in_place": 1},
        {"kind": "other"},
        {"delay": -1},
        {"in": 3},
        {"out": None},
    ],
)
def test_hostile_states(tested: Case, changes: Mapping[str, object]) -> None:
    """Shapes that are huge or none, and values of other types, are refused before anything is allocated."""
    model = lower(tested.network, "step")
    table = json.loads(next(p.value for p in model.metadata_props if p.key == "snndeploy.states"))
    for entries in ([{**table[0], **changes}, *table[1:]], [table[0], table[0]]):
        with pytest.raises(FileFormatError, match="damaged metadata"):
            OnnxNetwork(changed(model, "states", json.dumps(entries)))


def test_metadata_that_names_other_values(tested: Case) -> None:
    """A table of states that does not match the graph's inputs and outputs is refused."""
    model = lower(tested.network, "step")
    table = json.loads(next(p.value for p in model.metadata_props if p.key == "snndeploy.states"))
    wrong: list[Mapping[str, object]] = [{"in": "other"}, {"out": "other"}, {"shape": [-1, 1, 2, 3]}]
    for states in (table[1:], *([{**table[0], **change}, *table[1:]] for change in wrong)):
        with pytest.raises(FileFormatError, match="those of its metadata"):
            OnnxNetwork(changed(model, "states", json.dumps(states)))
    with pytest.raises(FileFormatError, match="those of its metadata"):
        OnnxNetwork(changed(model, "form", "scan"))


@pytest.mark.parametrize("form", FORMS)
def test_failure_while_running_is_ours(tested: Case, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error inside ONNX Runtime while running comes out as ours, in one line."""
    network = opened(tested.network, form)

    class Failing:
        """A session that opens and does not run."""

        def __getattr__(self, name: str) -> Any:
            if name in ("run", "run_with_iobinding"):
                raise RuntimeError("no\nmore ; details")
            return getattr(session, name)

    session = network.session
    monkeypatch.setattr(network, "session", Failing())
    with pytest.raises(TargetError, match=r"ONNX Runtime failed, got no$"):
        network.run(tested.x)


def test_the_cpu_is_available() -> None:
    """Every installation can run on the CPU."""
    assert CPU in available_providers()


@pytest.mark.parametrize("providers", [("NoSuchProvider",), ("CPUExecutionProvider", "NoSuchProvider"), ()])
def test_provider_that_is_not_installed(tested: Case, providers: tuple[str, ...]) -> None:
    """A provider this installation has not is an error that lists those it has."""
    model = lower(tested.network, "step").SerializeToString()
    with pytest.raises(TargetError, match=r"is not in this installation.*CPUExecutionProvider"):
        OnnxNetwork(model, providers=providers)


def test_one_provider_by_its_name(tested: Case) -> None:
    """A single name is one provider, not one for each letter."""
    model = lower(tested.network, "step").SerializeToString()
    assert OnnxNetwork(model, "CPUExecutionProvider").session.get_providers() == [CPU]
    with pytest.raises(TargetError, match="provider NoSuchProvider: is not in this installation"):
        OnnxNetwork(model, "NoSuchProvider")


def on_provider(model: bytes, provider: str) -> OnnxNetwork | TargetError:
    """The network on that provider, or the error that it is not to be had."""
    try:
        return OnnxNetwork(model, (provider,))
    except TargetError as error:
        return error


@pytest.mark.parametrize("provider", available_providers())
def test_the_provider_asked_for_or_an_error(
    tested: Case, provider: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A provider that ONNX Runtime offers takes part, or is an error that names it; nothing is printed."""
    network = on_provider(lower(tested.network, "sequence").SerializeToString(), provider)
    if isinstance(network, TargetError):
        assert provider != CPU
        assert network.where == f"ONNX Runtime provider {provider}"
        assert network.rule.startswith("could not be started")
        assert missing_library(provider) in network.rule
    else:
        assert provider in network.session.get_providers()
        expected = run(tested.network, tested.x)
        np.testing.assert_array_equal(network.run(tested.x).readout_sum, expected.readout_sum)
    assert tuple(capfd.readouterr()) == ("", "")


def test_silent_fallback_is_an_error(tested: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that came up without the provider asked for is not used."""
    listed = [*onnxruntime.get_available_providers(), "LostExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    create = onnxruntime.InferenceSession

    def without_lost(
        model: bytes, options: object, *, providers: list[tuple[str, object]], **rest: object
    ) -> object:
        return create(model, options, providers=[p for p in providers if p[0] in listed[:-1]], **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", without_lost)
    model = lower(tested.network, "step").SerializeToString()
    with pytest.raises(TargetError, match=r"LostExecutionProvider: could not be started, got only CPU"):
        OnnxNetwork(model, providers=("LostExecutionProvider", CPU))


@pytest.mark.parametrize(
    ("message", "missing"),
    [
        ("libcublasLt.so.12: cannot open shared object file: No such file or directory", "libcublasLt.so.12"),
        ("libcudnn.so.9: cannot open shared object file: No such file or directory", "libcudnn.so.9"),
        ("/opt/x.so: undefined symbol: Provider_GetHost", ""),
    ],
)
def test_missing_library_is_named(
    tested: Case, monkeypatch: pytest.MonkeyPatch, message: str, missing: str
) -> None:
    """What the loader says a provider lacks stands in the error; ONNX Runtime itself would only log it."""
    listed = [CPU, "CUDAExecutionProvider"]
    create = onnxruntime.InferenceSession

    def on_cpu(model: bytes, options: object, **rest: Any) -> object:
        return create(model, options, **{**rest, "providers": [CPU]})

    def load(name: str, **_: object) -> None:
        if not name.endswith("_shared.so"):
            raise OSError(message)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(onnxruntime, "InferenceSession", on_cpu)
    monkeypatch.setattr("ctypes.CDLL", load)
    monkeypatch.setattr(Path, "exists", lambda _: True)
    with pytest.raises(TargetError, match="could not be started") as failure:
        OnnxNetwork(lower(tested.network, "step").SerializeToString(), ("CUDAExecutionProvider",))
    assert failure.value.rule == "could not be started" + (f", as {missing} is missing" if missing else "")


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, 2**31])
def test_threads_must_be_a_number(tested: Case, threads: int) -> None:
    """Zero threads would mean all cores to ONNX Runtime; here it is refused."""
    with pytest.raises(TargetError, match="threads: must be a whole number"):
        OnnxNetwork(lower(tested.network, "step").SerializeToString(), threads=threads)


def test_metadata_that_is_not_utf8(tested: Case) -> None:
    """Metadata that are no text are an error that names the model."""
    model = lower(tested.network, "step").SerializeToString()
    damaged = model.replace(b"snndeploy.readout", b"snndeploy.\xff\xfeadout")
    with pytest.raises(FileFormatError, match=r"^some\.onnx: has text that is not UTF-8"):
        OnnxNetwork(damaged, where="some.onnx")


def test_messages_name_the_model(tested: Case) -> None:
    """What is wrong with a file or with its input is said under the name given."""
    with pytest.raises(FileFormatError, match=r"^some\.onnx: "):
        OnnxNetwork(b"damaged", where="some.onnx")
    network = OnnxNetwork(lower(tested.network, "step").SerializeToString(), where="some.onnx")
    for x in (tested.x.astype(np.float64), tested.x[:, :, 1:], tested.x[:0]):
        with pytest.raises(TargetError, match=r"^input of some\.onnx: must "):
            network.run(x)


@pytest.mark.parametrize("form", FORMS)
def test_many_samples(tested: Case, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """70 samples are run 32 at a time with the result of one run; a file for 70 takes them at once."""
    x = np.concatenate([tested.x] * 24)[:70]
    expected = run(tested.network, x, potentials=True)
    for batch, sizes in ((None, [32, 32, 6]), (70, [70])):
        network = opened(tested.network, form, batch=batch, debug=True)
        name = "_run_steps" if form == "step" else "_run_whole"
        seen: list[int] = []
        part = getattr(network, name)

        def counted(
            x: np.ndarray[Any, Any],
            *rest: object,
            seen: list[int] = seen,
            part: Callable[..., Result] = part,
        ) -> Result:
            seen.append(len(x))
            return part(x, *rest)

        monkeypatch.setattr(network, name, counted)
        result = network.run(x)
        assert_same(result, expected)
        assert seen == sizes
        assert all(len(state) == 70 for state in result.states.values())
