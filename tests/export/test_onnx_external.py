"""Weights in a second file: found again, never mixed with another model's, never read from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest

from snndeploy.errors import FileFormatError
from snndeploy.export.onnx import Form, differences, export, expose_spikes
from snndeploy.export.onnx.external import initializers
from snndeploy.ir import Network, run
from tests.export import sessions
from tests.export.networks import Case, assert_same, back_over_one, case

FORMS: tuple[Form, ...] = get_args(Form)


@pytest.fixture(autouse=True)
def _small_values_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moves the small weights of these networks as well."""
    monkeypatch.setattr("snndeploy.export.onnx.external.LEAST_BYTES", 64)


def looped(seed: int = 0) -> Case:
    """A network with a loop, so that the Scan of it holds weights."""
    return case(back_over_one(), steps=3, seed=seed)


def exported(network: Network, path: Path, form: Form = "scan", *, debug: bool = False) -> Path:
    """Exports with external data and returns the path of the one file beside the model."""
    export(network, path, form, external_data=True, debug=debug)
    (beside,) = set(path.parent.iterdir()) - {path}
    return beside


@pytest.mark.parametrize("form", FORMS)
def test_runs_and_is_unchanged(tmp_path: Path, form: Form) -> None:
    """ONNX Runtime and the checker find the values, also those inside Scans; so do we."""
    tested = looped()
    path = tmp_path / "network.onnx"
    beside = exported(tested.network, path, form, debug=True)
    model = onnx.load(path, load_external_data=False)
    assert all(len(t.raw_data) < 64 for t in initializers(model.graph))
    assert beside.stat().st_size > 4096
    onnx.checker.check_model(path, full_check=True)
    opened = sessions.session(str(path))
    expected = run(tested.network, tested.x)
    if form == "step":
        assert_same(sessions.run_step(opened, tested.network, tested.x), expected)
    else:
        found = sessions.call(opened, {"x": tested.x})
        np.testing.assert_array_equal(found["readout_sum"], expected.readout_sum)
    assert differences(tested.network, path).nodes == differences(tested.network, path).weights == ()


def test_exposed_model_holds_its_values(tmp_path: Path) -> None:
    """Exposing gives bytes that need no second file."""
    tested = looped()
    path = tmp_path / "network.onnx"
    exported(tested.network, path)
    found = sessions.call(sessions.session(expose_spikes(path)), {"x": tested.x})
    for lif, spikes in run(tested.network, tested.x).spikes.items():
        np.testing.assert_array_equal(found[f"{lif}.spikes"] > 0, spikes)


def test_a_second_export_replaces_both_files(tmp_path: Path) -> None:
    """The same network gives the same two files; another one, or one file, leaves none of the old ones."""
    path = tmp_path / "network.onnx"
    first = exported(looped().network, path)
    contents = first.read_bytes(), path.read_bytes()
    assert exported(looped().network, path) == first
    assert (first.read_bytes(), path.read_bytes()) == contents
    other = exported(looped(seed=1).network, path)
    assert other != first
    assert not first.exists()
    export(looped().network, path, "scan")
    assert list(tmp_path.iterdir()) == [path]


def test_only_an_own_file_is_removed(tmp_path: Path) -> None:
    """A file that the old model names but no export of that name wrote stays."""
    path, kept = tmp_path / "network.onnx", tmp_path / "precious.data"
    beside = exported(looped().network, path)
    model = onnx.load(path, load_external_data=False)
    for tensor in initializers(model.graph):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = kept.name
    path.write_bytes(model.SerializeToString())
    beside.replace(kept)
    export(looped().network, path, "scan")
    assert kept.exists()


@pytest.mark.parametrize("call", range(2))
def test_interrupted_export_leaves_the_old_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """Whether the file of weights or the model cannot take its place, the old model finds its own weights."""
    tested, path = looped(), tmp_path / "network.onnx"
    exported(tested.network, path)
    calls = iter(range(2))
    replace = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if next(calls) == call:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(KeyboardInterrupt):
        export(looped(seed=1).network, path, "scan", external_data=True)
    monkeypatch.undo()
    assert differences(tested.network, path).nodes == ()
    assert not list(tmp_path.glob(".*"))


Edit = Callable[[onnx.TensorProto, Path], None]


def _entry(key: str, text: str) -> Edit:
    def edit(tensor: onnx.TensorProto, _: Path) -> None:
        for entry in tensor.external_data:
            if entry.key == key:
                entry.value = text

    return edit


def _link(_: onnx.TensorProto, beside: Path) -> None:
    moved = beside.with_name("moved")
    beside.replace(moved)
    beside.symlink_to(moved)


def _folder(_: onnx.TensorProto, beside: Path) -> None:
    beside.unlink()
    beside.mkdir()


def _again(tensor: onnx.TensorProto, _: Path) -> None:
    tensor.external_data.add(key="length", value="1")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_entry("location", "/etc/passwd"), "must lie in a file beside it, got '/etc/passwd'"),
        (_entry("location", "../network.data"), "must lie in a file beside it"),
        (_entry("location", "folder/network.data"), "must lie in a file beside it"),
        (_entry("location", "C:network.data"), "must lie in a file beside it"),
        (_entry("location", "..\\network.data"), "must lie in a file beside it"),
        (_entry("location", ".."), "must lie in a file beside it"),
        (_entry("location", ""), "must lie in a file beside it"),
        (_entry("location", "*/_ORT_MEM_ADDR_/*"), "must lie in a file beside it"),
        (_entry("location", "a\0b"), "must lie in a file beside it"),
        (_entry("location", "missing.data"), "needs the file 'missing.data' beside it"),
        (_entry("location", "x" * 300), "needs the file 'xxx"),
        (_entry("offset", "999999999"), "needs more bytes"),
        (_entry("length", "999999999999"), "needs more bytes"),
        (_entry("length", "-1"), "damaged external data"),
        (_entry("offset", "1e3"), "damaged external data"),
        (_entry("offset", "9" * 40), "damaged external data"),
        (_again, "damaged external data"),
        (_link, "to be a regular file, not a link"),
        (_folder, "to be a regular file, not a link"),
    ],
)
def test_hostile_external_data(tmp_path: Path, edit: Edit, message: str) -> None:
    """Other folders, links, damaged places and lengths are refused by name before anything is read."""
    network, path = looped().network, tmp_path / "network.onnx"
    beside = exported(network, path)
    model = onnx.load(path, load_external_data=False)
    edit(next(t for t in initializers(model.graph) if t.external_data), beside)
    path.write_bytes(model.SerializeToString())
    for attempt in (
        expose_spikes,
        lambda p: differences(network, p).weights,
        lambda p: differences(network, p).nodes,
    ):
        with pytest.raises(FileFormatError, match=message):
            attempt(path)


def test_many_claims_on_one_file(tmp_path: Path) -> None:
    """Values that together are larger than their file are refused: they could fill the memory."""
    network, path = looped().network, tmp_path / "network.onnx"
    beside = exported(network, path)
    model = onnx.load(path, load_external_data=False)
    for tensor in initializers(model.graph):
        if tensor.external_data:
            _entry("offset", "0")(tensor, beside)
            _entry("length", str(beside.stat().st_size))(tensor, beside)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FileFormatError, match="needs more bytes"):
        expose_spikes(path)


def test_values_of_bytes_alone(tmp_path: Path) -> None:
    """A model given as bytes has no folder, and so may name no file."""
    path = tmp_path / "network.onnx"
    exported(looped().network, path)
    with pytest.raises(FileFormatError, match="must hold all values itself"):
        expose_spikes(path.read_bytes())
