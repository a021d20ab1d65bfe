"""ONNX files on disk, and the spikes of files that others may have changed."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from snndeploy.backbones import resnet8
from snndeploy.errors import FileFormatError, NetworkError, SnnDeployError
from snndeploy.export.onnx import (
    Arithmetic,
    Form,
    differences,
    export,
    expose_spikes,
    lower,
)
from snndeploy.ir import Network, parameter_shapes, run
from tests.export import sessions
from tests.export.networks import assert_same, back_over_one, case

FORMS: tuple[Form, ...] = get_args(Form)


def unfolded() -> Network:
    """A network that cannot be lowered."""
    graph = resnet8((3, 8, 8), 10)
    weights = {name: np.ones(shape) for name, shape in parameter_shapes(graph).items()}
    return Network(graph=graph, weights=weights, steps=2)


def with_metadata(model: onnx.ModelProto, key: str, text: str | None) -> bytes:
    """The model with one metadata entry replaced, or removed if None."""
    others = [p for p in model.metadata_props if p.key != key]
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.metadata_props[:]
    changed.metadata_props.extend(others)
    if text is not None:
        changed.metadata_props.add(key=key, value=text)
    return bytes(changed.SerializeToString())


@pytest.mark.parametrize("form", FORMS)
def test_exported_file_runs(tmp_path: Path, form: Form) -> None:
    """A file gives what the model gives, and nothing else is left in the folder."""
    tested = case(back_over_one(), steps=3)
    path = tmp_path / "network.onnx"
    export(tested.network, path, form, batch=3, debug=True, fingerprint="ab12")
    expected = lower(tested.network, form, batch=3, debug=True, fingerprint="ab12")
    assert onnx.load(path) == expected
    found = sessions.run(form, path.read_bytes(), tested.network, tested.x)
    assert_same(found, run(tested.network, tested.x))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", FORMS)
def test_failed_export_leaves_the_folder_as_it_was(tmp_path: Path, form: Form) -> None:
    """When the lowering fails, the file that stood there is untouched and no temporary file is left."""
    path = tmp_path / "network.onnx"
    path.write_bytes(b"before")
    with pytest.raises(NetworkError):
        export(unfolded(), path, form)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"before"


def test_unwritable_folder(tmp_path: Path) -> None:
    """A folder that is missing, or is a file, is an error that names the path."""
    network = case(back_over_one(), steps=2).network
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "missing" / "n.onnx", tmp_path / "file" / "n.onnx"):
        with pytest.raises(SnnDeployError, match=r"n\.onnx: cannot be written"):
            export(network, path, "step")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("arithmetic", ["float32", "float16"])
@pytest.mark.parametrize("form", FORMS)
def test_exposed_spikes_are_those_of_debug_outputs(form: Form, arithmetic: Arithmetic) -> None:
    """What exposing adds holds the values that debug outputs hold, in every form."""
    tested = case(back_over_one(), steps=3)
    feed = {"x": tested.x}
    if form == "step":
        rng, shapes = np.random.default_rng(0), tested.network.graph.shapes
        states = {**{f"{lif}.v": shapes[lif] for lif in tested.network.graph.ports}, "l1.y1": shapes["l1"]}
        feed |= {f"state_in.{n}": rng.random((3, *shape), np.float32) for n, shape in states.items()}
    models = (lower(tested.network, form, arithmetic=arithmetic, debug=debug) for debug in (False, True))
    plain, debugged = models
    exposed = sessions.call(sessions.session(expose_spikes(plain.SerializeToString())), feed)
    shown = sessions.call(sessions.session(debugged), feed)
    names = {
        lif: f"{lif}.spikes{'.float16' * (arithmetic == 'float16')}" for lif in tested.network.graph.ports
    }
    for lif, name in names.items():
        whole = shown[f"{lif}.spikes"]
        assert 0 < whole.mean() < 1
        assert whole.dtype == np.float32
        parts = [exposed[f"{lif}.spikes.t{t}"] for t in range(3)] if form == "sequence" else []
        np.testing.assert_array_equal(np.stack(parts) if parts else exposed[name], whole)


@pytest.mark.parametrize("form", FORMS)
def test_exposed_model_is_the_same_model(form: Form) -> None:
    """Exposing adds outputs and nothing else, passes the strict checker, and twice is once."""
    network = case(back_over_one(), steps=3).network
    model = lower(network, form)
    exposed = onnx.load_model_from_string(expose_spikes(model.SerializeToString()))
    onnx.checker.check_model(exposed, full_check=True)
    assert exposed.graph.node == model.graph.node
    assert exposed.graph.initializer == model.graph.initializer
    assert exposed.metadata_props == model.metadata_props
    first = len(model.graph.output)
    assert list(exposed.graph.output)[:first] == list(model.graph.output)
    assert len(exposed.graph.output) == first + 4 * (3 if form == "sequence" else 1)
    assert expose_spikes(exposed.SerializeToString()) == exposed.SerializeToString(deterministic=True)


def test_spikes_of_a_changed_file(tmp_path: Path) -> None:
    """A file whose weights somebody changed and whose value information is gone still shows its spikes."""
    tested = case(back_over_one(), steps=3)
    model = lower(tested.network, "sequence")
    del model.graph.value_info[:]
    next(t for t in model.graph.initializer if t.name == "c0.weight").raw_data = bytes(4 * 36)
    path = tmp_path / "changed.onnx"
    path.write_bytes(model.SerializeToString())
    found = sessions.call(sessions.session(expose_spikes(path)), {"x": tested.x})
    weights = {**tested.network.weights, "c0.weight": np.zeros((4, 1, 3, 3))}
    changed = Network(graph=tested.network.graph, weights=weights, steps=3)
    for lif, spikes in run(changed, tested.x).spikes.items():
        np.testing.assert_array_equal(np.stack([found[f"{lif}.spikes.t{t}"] for t in range(3)]) > 0, spikes)


def test_files_that_cannot_be_exposed(tmp_path: Path) -> None:
    """Missing, damaged, foreign, newer and stripped files are refused, each with its reason."""
    model = lower(case(back_over_one(), steps=2).network, "step")
    whole = model.SerializeToString()
    with pytest.raises(FileFormatError, match="does not exist"):
        expose_spikes(tmp_path / "missing.onnx")
    for unreadable in (tmp_path, Path("/dev/zero"), tmp_path / "a\0b"):
        with pytest.raises(FileFormatError, match="cannot be read"):
            expose_spikes(unreadable)
    with pytest.raises(FileFormatError, match="is not an ONNX file"):
        expose_spikes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match="was not exported by snndeploy"):
        expose_spikes(b"")
    with pytest.raises(FileFormatError, match=r"format version 2, got '1'.*export the network again"):
        expose_spikes(with_metadata(model, "snndeploy.format_version", "1"))
    for text in (None, "{", "[1]", '[{"name": "l0"}]', "7"):
        with pytest.raises(FileFormatError, match="damaged table of neurons"):
            expose_spikes(with_metadata(model, "snndeploy.neurons", text))
    with pytest.raises(FileFormatError, match="arithmetic float32 or integer or float16, got 'float8'"):
        expose_spikes(with_metadata(model, "snndeploy.arithmetic", "float8"))
    next(n for n in model.graph.node if n.name == "l1").output[0] = "renamed"
    with pytest.raises(FileFormatError, match=r"spikes of l1, value 'l1\.spikes'"):
        expose_spikes(model.SerializeToString())


@pytest.mark.parametrize("place", ["sparse", "node", "function", "subgraph"])
def test_values_in_other_files_are_refused(tmp_path: Path, place: str) -> None:
    """No tensor but an initialiser may name another file, wherever in the model it stands."""
    network = case(back_over_one(), steps=2).network
    model = lower(network, "step")
    attribute = onnx.AttributeProto(name="value")
    tensor = {
        "sparse": model.graph.sparse_initializer.add().values,
        "subgraph": attribute.g.sparse_initializer.add().values,
    }.get(place, attribute.t)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    owner = model.functions[0] if place == "function" else model.graph
    owner.node[0].attribute.append(attribute)
    if place != "sparse":
        del model.graph.sparse_initializer[:]
    path = tmp_path / "network.onnx"
    path.write_bytes(model.SerializeToString())
    for attempt in (
        expose_spikes,
        lambda p: differences(network, p).weights,
        lambda p: differences(network, p).nodes,
    ):
        with pytest.raises(FileFormatError, match=r"network\.onnx: must hold all values itself"):
            attempt(path)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    """Damaged text in metadata or names is an error of the file."""
    network = case(back_over_one(), steps=2).network
    whole = lower(network, "step").SerializeToString()
    path = tmp_path / "network.onnx"
    path.write_bytes(whole.replace(b"snndeploy.readout", b"snndeploy.\xff\xfeadout"))
    for attempt in (expose_spikes, lambda p: differences(network, p).nodes):
        with pytest.raises(FileFormatError, match="not UTF-8"):
            attempt(path)
    path.write_bytes(whole.replace(b"c0.weight", b"c0.w\xff\xfeght"))
    with pytest.raises(FileFormatError, match="not UTF-8"):
        differences(network, path)
