"""Files are examined before ONNX Runtime opens them: what it would abort on or read elsewhere is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import pytest

from snndeploy.errors import FileFormatError
from snndeploy.export.onnx import export, lower
from snndeploy.ir import Input, Lif, Op, Output, run
from snndeploy.targets.onnx_runtime import OnnxNetwork
from snndeploy.targets.onnx_runtime.contents import External, read_contents
from tests.export.networks import Case, case, chain, graph, linear


@pytest.fixture(scope="module")
def tested() -> Case:
    """A chain of two layers, and images for it."""
    return case(chain(), steps=2)


@pytest.fixture
def unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test if ONNX Runtime opens a session."""
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("opened"))


def test_contents(tested: Case) -> None:
    """Metadata and control flow are those that the onnx package finds."""
    for form, flow in (("step", False), ("sequence", False), ("scan", True)):
        model = lower(tested.network, form)  # type: ignore[arg-type]
        found = read_contents(model.SerializeToString(), "model")
        assert found.metadata == {p.key: p.value for p in model.metadata_props}
        assert found.external == ()
        assert found.control_flow is flow


def wide() -> Case:
    """Input (64) -> f1 (64 x 64) -> l1 -> f2 -> output: small tensors stay in the file, f1's weight does not."""
    ops: dict[str, Op] = {
        "input": Input(shape=(64,)),
        "f1": linear(64, 64),
        "l1": Lif(),
        "f2": linear(64, 2),
        "output": Output(),
    }
    return case(graph(ops, "input f1 l1 f2 output"), steps=2)


def test_values_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with external data runs from anywhere; without its path, or its data, it is refused."""
    tested, path = wide(), tmp_path / "folder" / "model.onnx"
    path.parent.mkdir()
    export(tested.network, path, "sequence", external_data=True)
    (data,) = [p for p in path.parent.iterdir() if p != path]
    expected = run(tested.network, tested.x).logits
    monkeypatch.chdir(path.parent)
    for name in (path, Path("model.onnx"), str(path)):
        np.testing.assert_array_equal(OnnxNetwork(name).run(tested.x).logits, expected)
    with pytest.raises(FileFormatError, match="must hold all values itself"):
        OnnxNetwork(path.read_bytes())
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    with pytest.raises(FileFormatError, match="needs more bytes of"):
        OnnxNetwork(path)
    data.rename(tmp_path / "elsewhere")
    with pytest.raises(FileFormatError, match=r"needs the file 'model.*' beside it"):
        OnnxNetwork(path)
    (tmp_path / "elsewhere").write_bytes(whole)
    data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileFormatError, match="not a link"):
        OnnxNetwork(path)
    data.unlink()
    data.mkdir()
    with pytest.raises(FileFormatError, match="regular file"):
        OnnxNetwork(path)


@pytest.mark.usefixtures("unopened")
@pytest.mark.parametrize(
    "location",
    [
        "/etc/hostname",
        "../secret",
        "folder/secret",
        "./secret",
        "..\\secret",
        "C:secret",
        "*/_ORT_MEM_ADDR_/*",
        "",
        ".",
        "..",
        "a\0b",
    ],
)
def test_values_elsewhere(tmp_path: Path, tested: Case, location: str) -> None:
    """Whatever is no plain name of a file beside the model is refused before anything is opened."""
    (tmp_path / "secret").write_bytes(bytes(10_000))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "secret").write_bytes(bytes(10_000))
    model = lower(tested.network, "step")
    _make_external(model.graph.initializer[0], location)
    path = tmp_path / "folder" / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FileFormatError, match="must lie in a file beside it"):
        OnnxNetwork(path)


def _make_external(tensor: onnx.TensorProto, location: str) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def _attribute(model: onnx.ModelProto) -> onnx.TensorProto:
    node = model.graph.node.add(op_type="Constant", output=["c"])
    tensor: onnx.TensorProto = node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t
    return tensor


def _in_function(model: onnx.ModelProto) -> onnx.TensorProto:
    node = model.functions[0].node.add(op_type="Constant", output=["c"])
    tensor: onnx.TensorProto = node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t
    return tensor


def _in_body(model: onnx.ModelProto) -> onnx.TensorProto:
    node = model.graph.node.add(op_type="If", output=["c"])
    tensor: onnx.TensorProto = node.attribute.add(
        name="then_branch", type=onnx.AttributeProto.GRAPH
    ).g.initializer.add()
    return tensor


def _listed(model: onnx.ModelProto) -> onnx.TensorProto:
    node = model.graph.node.add(op_type="Constant", output=["c"])
    tensor: onnx.TensorProto = node.attribute.add(
        name="values", type=onnx.AttributeProto.TENSORS
    ).tensors.add()
    return tensor


def _sparse(model: onnx.ModelProto) -> onnx.TensorProto:
    tensor: onnx.TensorProto = model.graph.sparse_initializer.add().indices
    return tensor


def _training(model: onnx.ModelProto) -> onnx.TensorProto:
    tensor: onnx.TensorProto = model.training_info.add().algorithm.initializer.add()
    return tensor


@pytest.mark.usefixtures("unopened")
@pytest.mark.parametrize("place", [_attribute, _in_function, _in_body, _listed, _sparse, _training])
def test_external_values_are_found_everywhere(
    tested: Case, place: Callable[[onnx.ModelProto], onnx.TensorProto]
) -> None:
    """In attributes, functions, bodies, lists and sparse tensors, with and without the mark of location."""
    model = lower(tested.network, "step")
    tensor = place(model)
    tensor.external_data.add(key="location", value="secret")
    tensor.external_data.add(key="offset", value="4")
    assert read_contents(model.SerializeToString(), "model").external == (External("secret", 4),)
    with pytest.raises(FileFormatError, match="must hold all values itself"):
        OnnxNetwork(model.SerializeToString())
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    assert read_contents(model.SerializeToString(), "model").external == (External(""),)


def _one_output(model: onnx.ModelProto) -> None:
    next(n for n in model.graph.node if n.op_type == "LIF").output.pop()


def _recursive(model: onnx.ModelProto) -> None:
    function = model.functions[0]
    function.node.add(
        op_type=function.name, domain=function.domain, input=function.input, output=["p", "q", "r"]
    )


def _recursive_by_another_name(model: onnx.ModelProto) -> None:
    function = model.functions.add(name="Mul", domain="ai.onnx", input=["a", "b"], output=["c"])
    function.node.add(op_type="Mul", input=["a", "b"], output=["c"])


def _two_of_a_name(model: onnx.ModelProto) -> None:
    model.functions[0].input.append(model.functions[0].node[-1].output[0])


def _short(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.raw_data = tensor.raw_data[:-1]


def _huge(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [2**62, 2**62]


def _negative(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -1


def _two_metadata(model: onnx.ModelProto) -> None:
    model.metadata_props.append(model.metadata_props[0])


def _two_locations(model: onnx.ModelProto) -> None:
    _make_external(model.graph.initializer[0], "a")
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")


def _far_offset(model: onnx.ModelProto) -> None:
    _make_external(model.graph.initializer[0], "a")
    model.graph.initializer[0].external_data.add(key="offset", value="-1")


def _deep(model: onnx.ModelProto) -> None:
    graph = model.graph
    for _ in range(20):
        node = graph.node.add(op_type="If")
        graph = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g


@pytest.mark.usefixtures("unopened")
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_one_output, "call of 'snndeploy::LIF' with"),
        (_recursive, "function 'snndeploy::LIF' called within a function"),
        (_recursive_by_another_name, "function '::Mul' called within a function"),
        (_two_of_a_name, "two values have one name"),
        (_short, "bytes where its shape needs"),
        (_huge, "bytes where its shape needs"),
        (_negative, "bytes where its shape needs"),
        (_two_metadata, "twice"),
        (_two_locations, "with a key twice"),
        (_far_offset, "-1, 0 for offset and length"),
        (_deep, "nested too deeply"),
    ],
)
def test_what_ends_the_process(tested: Case, damage: Callable[[onnx.ModelProto], None], reason: str) -> None:
    """Models on which ONNX Runtime aborts or exhausts its stack, and ambiguous ones, never reach it."""
    model = lower(tested.network, "step")
    damage(model)
    with pytest.raises(FileFormatError, match=f"is not a whole ONNX file, got .*{reason}"):
        OnnxNetwork(model.SerializeToString())


@pytest.mark.usefixtures("unopened")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08",
        b"\x3a\x05abc",
        b"\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
        b"\x00\x00",
        b"\x3b\x3c",
        b"\x38\x07",
        b"\x3d\x00",
        b"\x08\x0aORTM" + bytes(50),
        b"\x08\x0a\x12\x00ORTM" + bytes(50),
    ],
)
def test_bytes_that_are_no_message(data: bytes) -> None:
    """Cut numbers and lengths, groups, a graph that is a number, and ONNX Runtime's own format."""
    with pytest.raises(FileFormatError, match="is not a whole ONNX file"):
        OnnxNetwork(data)


@pytest.mark.usefixtures("unopened")
def test_truncated_files(tmp_path: Path, tested: Case) -> None:
    """A file that ends early is refused wherever it ends; a pipe is not read at all."""
    whole = lower(tested.network, "step").SerializeToString()
    path = tmp_path / "model.onnx"
    for end in range(0, len(whole), 41):
        path.write_bytes(whole[:end])
        with pytest.raises(FileFormatError):
            OnnxNetwork(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileFormatError, match="no regular file"):
        OnnxNetwork(tmp_path / "pipe")
    with pytest.raises(FileFormatError, match="cannot be read"):
        OnnxNetwork("a\0b")
