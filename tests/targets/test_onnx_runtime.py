"""The ONNX Runtime runner: same result or a clear error, and never another provider than asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import onnxruntime
import pytest

from snndeploy.errors import FileFormatError, TargetError
from snndeploy.export.onnx import Form, expose_spikes, lower
from snndeploy.ir import run
from snndeploy.ir.network import Array
from snndeploy.targets.onnx_runtime import CPU, OnnxNetwork, available_providers
from tests.export.networks import Case, assert_same, back_over_many, case, chain, vectors

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


@pytest.fixture(scope="module")
def tested() -> Case:
    """A network with backward connections, and images for it."""
    return case(back_over_many(), steps=3, readout=2)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_runs_a_file(tmp_path: Path, tested: Case, form: Form, threads: int) -> None:
    """A file with spikes as outputs gives the interpreter's trace; running twice gives it twice."""
    path = tmp_path / "network.onnx"
    path.write_bytes(expose_spikes(lower(tested.network, form).SerializeToString()))
    network = OnnxNetwork(path, threads=threads)
    expected = run(tested.network, tested.x)
    for _ in range(2):
        trace = network.run(tested.x)
        assert_same(trace, expected)
        assert all(spikes.dtype == np.bool_ for spikes in trace.spikes.values())


@pytest.mark.parametrize("form", FORMS)
def test_without_spikes(tested: Case, form: Form) -> None:
    """A file as it was exported gives the logits and no spikes."""
    trace = OnnxNetwork(lower(tested.network, form).SerializeToString()).run(tested.x)
    expected = run(tested.network, tested.x)
    assert trace.spikes == {}
    np.testing.assert_array_equal(trace.readout_sum, expected.readout_sum)
    np.testing.assert_array_equal(trace.logits, expected.logits)


@pytest.mark.parametrize("form", FORMS)
def test_images_and_frames(tested: Case, form: Form) -> None:
    """An image is the same as itself at every step, also when the input is no contiguous array."""
    network = OnnxNetwork(lower(tested.network, form).SerializeToString())
    frames = np.repeat(tested.x[None], 3, axis=0)
    once = network.run(tested.x).readout_sum
    np.testing.assert_array_equal(network.run(frames).readout_sum, once)
    np.testing.assert_array_equal(network.run(np.asfortranarray(frames)).readout_sum, once)


@pytest.mark.parametrize("form", FORMS)
def test_input_that_does_not_fit(form: Form) -> None:
    """Wrong shape, number of steps, number of samples and kind of number are named."""
    images, frames = case(chain(), steps=3), case(vectors(), steps=3, kind="frames")
    network = OnnxNetwork(lower(images.network, form).SerializeToString())
    shape = r"must have shape \('batch', 2, 6, 7\) or \(3, 'batch', 2, 6, 7\)"
    for wrong in (images.x[0], images.x[:, :1], np.zeros((2, 1, 2, 6, 7), np.float32), np.float32(1)):
        with pytest.raises(TargetError, match=shape):
            network.run(np.asarray(wrong))
    for kind in (np.float64, np.uint8, np.complex64):
        with pytest.raises(TargetError, match="must be float32, got"):
            network.run(images.x.astype(kind))
    with pytest.raises(TargetError, match="at least 1 samples, got 0"):
        network.run(images.x[:0])
    with pytest.raises(TargetError, match=r"must have shape \(3, 'batch', 6\), got"):
        OnnxNetwork(lower(frames.network, form).SerializeToString()).run(frames.x[0])
    with pytest.raises(TargetError, match="must have 2 samples, got 3"):
        OnnxNetwork(lower(images.network, form, batch=2).SerializeToString()).run(images.x)


def test_files_that_cannot_be_run(tmp_path: Path, tested: Case) -> None:
    """Missing, damaged, foreign, newer and tampered files are refused, each with its reason."""
    model = lower(tested.network, "step")
    whole = model.SerializeToString()
    path = tmp_path / "short.onnx"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match="does not exist"):
        OnnxNetwork(tmp_path / "missing.onnx")
    with pytest.raises(FileFormatError, match="cannot be read"):
        OnnxNetwork(tmp_path)
    for damaged in (path, b"", b"nothing", whole[:-1]):
        with pytest.raises(FileFormatError, match="cannot be loaded by ONNX Runtime"):
            OnnxNetwork(damaged)
    with pytest.raises(FileFormatError, match="was not exported by snndeploy"):
        OnnxNetwork(changed(model, "format_version", None))
    with pytest.raises(FileFormatError, match="format version 1, got '99'"):
        OnnxNetwork(changed(model, "format_version", "99"))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("steps", None),
        ("steps", "three"),
        ("steps", "1"),
        ("readout", "0"),
        ("form", "scan"),
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


def test_metadata_that_names_other_values(tested: Case) -> None:
    """A table of states that does not match the graph's inputs and outputs is refused."""
    model = lower(tested.network, "step")
    table = json.loads(next(p.value for p in model.metadata_props if p.key == "snndeploy.states"))
    for states in (table[1:], [{**table[0], "in": "other"}, *table[1:]], [{**table[0], "out": "other"}]):
        with pytest.raises(FileFormatError, match="those of its metadata"):
            OnnxNetwork(changed(model, "states", json.dumps(states)))
    with pytest.raises(FileFormatError, match="those of its metadata"):
        OnnxNetwork(changed(lower(tested.network, "sequence"), "form", "step"))


def test_failure_while_running_is_ours(tested: Case) -> None:
    """An error inside ONNX Runtime while running comes out as ours, in one line."""
    model = lower(tested.network, "step")
    table = json.loads(next(p.value for p in model.metadata_props if p.key == "snndeploy.states"))
    table[0]["shape"] = [-1, 1, 2, 3]
    network = OnnxNetwork(changed(model, "states", json.dumps(table)))
    with pytest.raises(TargetError, match="ONNX Runtime failed") as failure:
        network.run(tested.x)
    assert "\n" not in str(failure.value)


def test_the_cpu_is_available() -> None:
    """Every installation can run on the CPU."""
    assert CPU in available_providers()


@pytest.mark.parametrize("providers", [("NoSuchProvider",), ("CPUExecutionProvider", "NoSuchProvider"), ()])
def test_provider_that_is_not_installed(tested: Case, providers: tuple[str, ...]) -> None:
    """A provider this installation has not is an error that lists those it has."""
    model = lower(tested.network, "step").SerializeToString()
    with pytest.raises(TargetError, match=r"is not in this installation.*CPUExecutionProvider"):
        OnnxNetwork(model, providers=providers)


def opened(model: bytes, provider: str) -> OnnxNetwork | TargetError:
    """The network on that provider, or the error that it is not to be had."""
    try:
        return OnnxNetwork(model, providers=(provider,))
    except TargetError as error:
        return error


@pytest.mark.parametrize("provider", available_providers())
def test_the_provider_asked_for_or_an_error(
    tested: Case, provider: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A provider that ONNX Runtime offers takes part, or is an error that names it; nothing is printed."""
    network = opened(lower(tested.network, "sequence").SerializeToString(), provider)
    if isinstance(network, TargetError):
        assert provider != CPU
        assert network.where == f"ONNX Runtime provider {provider}"
        assert network.rule == "could not be started"
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


@pytest.mark.parametrize("threads", [0, -1, True, 1.5])
def test_threads_must_be_a_number(tested: Case, threads: int) -> None:
    """Zero threads would mean all cores to ONNX Runtime; here it is refused."""
    with pytest.raises(TargetError, match="threads"):
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
def test_samples_in_chunks(tested: Case, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """70 samples are run 32 at a time with the result of one run; a file for 70 takes them at once."""
    x = np.concatenate([tested.x] * 24)[:70]
    expected = run(tested.network, x)
    for batch, sizes in ((None, {32, 6}), (70, {70})):
        network = OnnxNetwork(expose_spikes(lower(tested.network, form, batch=batch).SerializeToString()))
        seen: set[int] = set()
        call = network._call

        def counted(
            wanted: list[str],
            feed: Mapping[str, Array],
            seen: set[int] = seen,
            call: Callable[..., dict[str, Array]] = call,
        ) -> dict[str, Array]:
            seen.add(feed["x"].shape[-4])
            return call(wanted, feed)

        monkeypatch.setattr(network, "_call", counted)
        assert_same(network.run(x), expected)
        assert seen == sizes
