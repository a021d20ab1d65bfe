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
from snndeploy.export.onnx import Form, differing_nodes, differing_weights, export, expose_spikes, lower
from snndeploy.ir import Network, parameter_shapes, run
from snndeploy.targets.onnx_runtime import OnnxNetwork
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
    export(tested.network, path, form, batch=3, fingerprint="ab12")
    expected = lower(tested.network, form, batch=3, fingerprint="ab12")
    assert onnx.load(path) == expected
    assert_same(OnnxNetwork(expose_spikes(path)).run(tested.x), run(tested.network, tested.x))
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
    assert len(exposed.graph.output) == first + 4 * (1 if form == "step" else 3)
    assert expose_spikes(exposed.SerializeToString()) == exposed.SerializeToString(deterministic=True)


def test_spikes_of_a_changed_file(tmp_path: Path) -> None:
    """A file whose weights somebody changed and whose value information is gone still shows its spikes."""
    tested = case(back_over_one(), steps=3)
    model = lower(tested.network, "sequence")
    del model.graph.value_info[:]
    next(t for t in model.graph.initializer if t.name == "c0.weight").raw_data = bytes(4 * 36)
    path = tmp_path / "changed.onnx"
    path.write_bytes(model.SerializeToString())
    trace = OnnxNetwork(expose_spikes(path)).run(tested.x)
    weights = {**tested.network.weights, "c0.weight": np.zeros((4, 1, 3, 3))}
    changed = Network(graph=tested.network.graph, weights=weights, steps=3)
    assert_same(trace, run(changed, tested.x))


@pytest.mark.parametrize("form", FORMS)
def test_differing_weights(tmp_path: Path, form: Form) -> None:
    """Parameters that a file holds changed, cut short or not at all are named in order; no others are."""
    network = case(back_over_one(), steps=3).network
    path = tmp_path / "network.onnx"
    export(network, path, form)
    assert differing_weights(network, path) == ()
    model = onnx.load(path)
    stored = {t.name: t for t in model.graph.initializer}
    stored["c0.weight"].raw_data = bytes(4 * 36)
    stored["c1.bias"].raw_data = stored["c1.bias"].raw_data[:-1]
    stored["fc.weight"].name = "other"
    path.write_bytes(model.SerializeToString())
    assert differing_weights(network, path) == ("c0.weight", "c1.bias", "fc.weight")
    with pytest.raises(FileFormatError, match="does not exist"):
        differing_weights(network, tmp_path / "missing.onnx")


def test_files_that_cannot_be_exposed(tmp_path: Path) -> None:
    """Missing, damaged, foreign, newer and stripped files are refused, each with its reason."""
    model = lower(case(back_over_one(), steps=2).network, "step")
    whole = model.SerializeToString()
    with pytest.raises(FileFormatError, match="does not exist"):
        expose_spikes(tmp_path / "missing.onnx")
    with pytest.raises(FileFormatError, match="cannot be read"):
        expose_spikes(tmp_path)
    with pytest.raises(FileFormatError, match="is not an ONNX file"):
        expose_spikes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match="was not exported by snndeploy"):
        expose_spikes(b"")
    with pytest.raises(FileFormatError, match="format version 1, got '2'"):
        expose_spikes(with_metadata(model, "snndeploy.format_version", "2"))
    for text in (None, "{", "[1]", '[{"name": "l0"}]', "7"):
        with pytest.raises(FileFormatError, match="damaged table of neurons"):
            expose_spikes(with_metadata(model, "snndeploy.neurons", text))
    next(n for n in model.graph.node if n.name == "l1").output[0] = "renamed"
    with pytest.raises(FileFormatError, match=r"spikes of l1, value 'l1\.spikes'"):
        expose_spikes(model.SerializeToString())


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("form", FORMS)
def test_unchanged_file_has_no_differing_nodes(tmp_path: Path, form: Form, batch: int | None) -> None:
    """Form, batch and fingerprint are the file's own; producer and the way of storage do not count."""
    network = case(back_over_one(), steps=3).network
    path = tmp_path / "network.onnx"
    export(network, path, form, batch=batch, fingerprint="ab12")
    model = onnx.load(path)
    model.producer_version = "0"
    stored = next(t for t in model.graph.initializer if t.name == "fc.weight")
    values = onnx.numpy_helper.to_array(stored).ravel().tolist()
    stored.ClearField("raw_data")
    stored.float_data.extend(values)
    path.write_bytes(model.SerializeToString())
    assert differing_nodes(network, path) == ()


@pytest.mark.parametrize("form", FORMS)
def test_differing_nodes(tmp_path: Path, form: Form) -> None:
    """Every kind of edit is named: function, input, weight, nodes, output, operator set and metadata."""
    network = case(back_over_one(), steps=3).network
    path = tmp_path / "network.onnx"
    model = lower(network, form)
    nodes = {node.name: node for node in model.graph.node}
    lif = "l0" if form == "step" else "l0.t1"
    next(n for n in model.functions[0].node if n.op_type == "Greater").op_type = "GreaterOrEqual"
    next(a for a in nodes[lif].attribute if a.name == "tau").f = 0.25
    nodes["c0"].input[1] = "c0.bias"
    model.graph.node.remove(nodes["logits"])
    model.graph.node.add(name="more", op_type="Identity", input=["x"], output=["more"])
    next(t for t in model.graph.initializer if t.name == "fc.weight").data_type = 99
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    model.graph.output.add(name="shown")
    model.opset_import[0].version = 19
    next(p for p in model.metadata_props if p.key == "snndeploy.readout").value = "1"
    path.write_bytes(model.SerializeToString())
    found = differing_nodes(network, path)
    assert found[-2:] == ("more", "shown")
    assert set(found[:-2]) == {
        *("snndeploy.readout", "opset:", "snndeploy::LIF", "x", "fc.weight", "c0", lif, "logits")
    }
    assert [name for name in found if name in ("c0", lif, "logits")] == ["c0", lif, "logits"]


def test_form_that_does_not_exist(tmp_path: Path) -> None:
    """A file whose metadata name no form, or which another program wrote, cannot be compared."""
    network = case(back_over_one(), steps=2).network
    path = tmp_path / "network.onnx"
    for key, text, rule in (
        ("form", "scan", "step or sequence, got 'scan'"),
        ("form", None, "step or sequence, got None"),
        ("format_version", None, "was not exported by snndeploy"),
    ):
        path.write_bytes(with_metadata(lower(network, "step"), f"snndeploy.{key}", text))
        with pytest.raises(FileFormatError, match=rule):
            differing_nodes(network, path)


@pytest.mark.parametrize("place", ["initialiser", "sparse", "node", "function", "subgraph"])
def test_values_in_other_files_are_refused(tmp_path: Path, place: str) -> None:
    """No tensor may name another file, wherever in the model it stands."""
    network = case(back_over_one(), steps=2).network
    model = lower(network, "step")
    attribute = onnx.AttributeProto(name="value")
    tensor = {
        "initialiser": model.graph.initializer[0],
        "sparse": model.graph.sparse_initializer.add().values,
        "subgraph": attribute.g.initializer.add(),
    }.get(place, attribute.t)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    if place != "initialiser":
        owner = model.functions[0] if place == "function" else model.graph
        owner.node[0].attribute.append(attribute)
    if place != "sparse":
        del model.graph.sparse_initializer[:]
    path = tmp_path / "network.onnx"
    path.write_bytes(model.SerializeToString())
    for attempt in (
        expose_spikes,
        lambda p: differing_weights(network, p),
        lambda p: differing_nodes(network, p),
    ):
        with pytest.raises(FileFormatError, match=r"network\.onnx: must hold all values itself"):
            attempt(path)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    """Damaged text in metadata or names is an error of the file."""
    network = case(back_over_one(), steps=2).network
    whole = lower(network, "step").SerializeToString()
    path = tmp_path / "network.onnx"
    path.write_bytes(whole.replace(b"snndeploy.readout", b"snndeploy.\xff\xfeadout"))
    for attempt in (expose_spikes, lambda p: differing_nodes(network, p)):
        with pytest.raises(FileFormatError, match="not UTF-8"):
            attempt(path)
    path.write_bytes(whole.replace(b"c0.weight", b"c0.w\xff\xfeght"))
    with pytest.raises(FileFormatError, match="not UTF-8"):
        differing_weights(network, path)


def test_weight_of_an_unknown_type(tmp_path: Path) -> None:
    """A weight whose type ONNX does not know differs."""
    network = case(back_over_one(), steps=2).network
    model = lower(network, "step")
    next(t for t in model.graph.initializer if t.name == "c1.weight").data_type = 99
    path = tmp_path / "network.onnx"
    path.write_bytes(model.SerializeToString())
    assert differing_weights(network, path) == ("c1.weight",)
