"""What tells a file that somebody edited from the network it is said to come from."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from snndeploy.errors import FileFormatError
from snndeploy.export.onnx import Arithmetic, Form, differences, export, lower
from snndeploy.ir import InputSpec, Network, quantize
from tests.export.networks import back_over_one, case
from tests.export.test_onnx_files import with_metadata

FORMS: tuple[Form, ...] = get_args(Form)
ARITHMETICS: tuple[Arithmetic, ...] = get_args(Arithmetic)


def network_for(arithmetic: Arithmetic) -> Network:
    """A network that every arithmetic can compute, in the exact format where that is needed."""
    tested = case(back_over_one(), steps=3)
    if arithmetic != "integer":
        return tested.network
    return quantize(tested.network, tested.x).network


def initializers(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The initialisers of a graph and of the graphs inside its nodes, by name."""
    inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    found = {t.name: t for t in graph.initializer}
    return found | {name: t for body in inner for name, t in initializers(body).items()}


def nodes(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The nodes of a graph and of the graphs inside them, by name."""
    inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    found = {n.name: n for n in graph.node}
    return found | {name: n for body in inner for name, n in nodes(body).items()}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_a_changed_weight_or_scale_in_every_arithmetic(
    tmp_path: Path, form: Form, arithmetic: Arithmetic
) -> None:
    """One bit in one weight, bias or scale names that parameter, inside Scans too; a loop holds c1."""
    network = network_for(arithmetic)
    path = tmp_path / "network.onnx"
    export(network, path, form, arithmetic=arithmetic)
    assert differences(network, path).weights == ()
    whole = path.read_bytes()
    for name in ("c1.weight", "c1.bias", "c1.scale", "c3.weight"):
        model = onnx.load_model_from_string(whole)
        tensor = initializers(model.graph).get(name)
        if tensor is None:
            assert (name, arithmetic != "integer") == ("c1.scale", True)
            continue
        tensor.raw_data = bytes([tensor.raw_data[0] ^ 1]) + tensor.raw_data[1:]
        path.write_bytes(model.SerializeToString())
        assert differences(network, path).weights == (name.replace("scale", "weight"),)
        assert differences(network, path).nodes == (name,)


@pytest.mark.parametrize("form", FORMS)
def test_differing_weights(tmp_path: Path, form: Form) -> None:
    """Parameters that a file holds changed, cut short or not at all are named in order; no others are."""
    network = case(back_over_one(), steps=3).network
    path = tmp_path / "network.onnx"
    export(network, path, form)
    assert differences(network, path).weights == ()
    model = onnx.load(path)
    stored = initializers(model.graph)
    stored["c0.weight"].raw_data = bytes(4 * 36)
    stored["c1.bias"].raw_data = stored["c1.bias"].raw_data[:-1]
    stored["fc.weight"].name = "other"
    path.write_bytes(model.SerializeToString())
    assert differences(network, path).weights == ("c0.weight", "c1.bias", "fc.weight")
    with pytest.raises(FileFormatError, match="does not exist"):
        differences(network, tmp_path / "missing.onnx")


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("form", FORMS)
def test_options_are_the_files_own(tmp_path: Path, form: Form, arithmetic: Arithmetic) -> None:
    """Debug outputs, inlined functions, external data and the arithmetic of a file make no difference."""
    network = network_for(arithmetic)
    path = tmp_path / "network.onnx"
    for debug, inline, external in ((True, False, False), (False, True, True), (True, True, False)):
        export(
            network,
            path,
            form,
            arithmetic=arithmetic,
            debug=debug,
            inline_functions=inline,
            external_data=external,
        )
        assert differences(network, path).nodes == differences(network, path).weights == ()


@pytest.mark.parametrize("kind", ["image", "frames"])
@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("form", FORMS)
def test_unchanged_file_has_no_differing_nodes(
    tmp_path: Path, form: Form, batch: int | None, kind: str
) -> None:
    """Form, batch and fingerprint are the file's own; producer and the way of storage do not count."""
    network = case(back_over_one(), steps=3, kind=kind).network
    path = tmp_path / "network.onnx"
    export(network, path, form, batch=batch, fingerprint="ab12")
    model = onnx.load(path)
    model.producer_version = "0"
    stored = next(t for t in model.graph.initializer if t.name == "fc.weight")
    values = onnx.numpy_helper.to_array(stored).ravel().tolist()
    stored.ClearField("raw_data")
    stored.float_data.extend(values)
    path.write_bytes(model.SerializeToString())
    assert differences(network, path).nodes == ()


@pytest.mark.parametrize("form", FORMS)
def test_differing_nodes(tmp_path: Path, form: Form) -> None:
    """Every kind of edit is named: function, input, weight, nodes, output, operator set and metadata."""
    network = case(back_over_one(), steps=3).network
    path = tmp_path / "network.onnx"
    model = lower(network, form)
    by_name = nodes(model.graph)
    lif = "l0.t1" if form == "sequence" else "l0"
    next(n for n in model.functions[0].node if n.op_type == "Greater").op_type = "GreaterOrEqual"
    next(a for a in by_name[lif].attribute if a.name == "tau").f = 0.25
    by_name["c0"].input[1] = "c0.bias"
    model.graph.node.remove(by_name["logits"])
    model.graph.node.add(name="more", op_type="Identity", input=["x"], output=["more"])
    next(t for t in model.graph.initializer if t.name == "fc.weight").data_type = 99
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    model.graph.output.add(name="shown")
    model.opset_import[0].version = 19
    next(p for p in model.metadata_props if p.key == "snndeploy.readout").value = "1"
    path.write_bytes(model.SerializeToString())
    found = differences(network, path).nodes
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
        ("form", "loop", "step or sequence or scan, got 'loop'"),
        ("form", None, "step or sequence or scan, got None"),
        ("arithmetic", None, "float32 or integer or float16, got None"),
        ("format_version", "1", "must have format version 2, got '1'"),
        ("format_version", None, "was not exported by snndeploy"),
    ):
        path.write_bytes(with_metadata(lower(network, "step"), f"snndeploy.{key}", text))
        with pytest.raises(FileFormatError, match=rule):
            differences(network, path)


def test_weight_of_an_unknown_type(tmp_path: Path) -> None:
    """A weight whose type ONNX does not know differs."""
    network = case(back_over_one(), steps=2).network
    model = lower(network, "step")
    next(t for t in model.graph.initializer if t.name == "c1.weight").data_type = 99
    path = tmp_path / "network.onnx"
    path.write_bytes(model.SerializeToString())
    assert differences(network, path).weights == ("c1.weight",)


def test_edits_inside_a_scan(tmp_path: Path) -> None:
    """An edge cut, a constant changed or a state crossed inside the body of a Scan is named."""
    network = case(back_over_one(), steps=3).network
    path = tmp_path / "network.onnx"
    whole = lower(network, "scan").SerializeToString()

    def edited() -> tuple[onnx.ModelProto, onnx.GraphProto]:
        model = onnx.load_model_from_string(whole)
        return model, nodes(model.graph)["l0.loop.scan"].attribute[0].g

    model, body = edited()
    total = next(n for n in body.node if n.name == "l0.sum")
    total.input[1] = total.input[0]
    path.write_bytes(model.SerializeToString())
    assert differences(network, path).nodes == ("l0.sum",)
    model, body = edited()
    swapped = [body.output[1], body.output[0]]
    others = list(body.output)[2:]
    del body.output[:]
    body.output.extend([*swapped, *others])
    path.write_bytes(model.SerializeToString())
    assert differences(network, path).nodes == ("l0.loop.scan",)
    model, body = edited()
    initializers(model.graph)["state_in.l0.v"].raw_data = np.ones((1, 4, 7, 7), np.float32).tobytes()
    path.write_bytes(model.SerializeToString())
    assert differences(network, path).nodes == ("state_in.l0.v",)


def test_network_of_another_steps_or_spec(tmp_path: Path) -> None:
    """A file made from another network's settings differs in the metadata that name them."""
    network = case(back_over_one(), steps=3).network
    path = tmp_path / "network.onnx"
    export(network, path, "scan")
    other = Network(graph=network.graph, weights=network.weights, steps=4, input=InputSpec(grid_bits=5))
    assert set(differences(other, path).nodes) == {
        *("snndeploy.steps", "snndeploy.readout", "snndeploy.input", "steps", "output.start")
    }
    assert differences(other, path).weights == ()


def test_absurd_batch(tmp_path: Path) -> None:
    """A file that claims very many samples differs; nothing of that size is made to find out."""
    network = case(back_over_one(), steps=3).network
    path = tmp_path / "network.onnx"
    for form in FORMS:
        model = lower(network, form)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**31 - 1
        path.write_bytes(model.SerializeToString())
        assert differences(network, path).nodes
        assert differences(network, path).weights == ()


def test_comments_on_nodes(tmp_path: Path) -> None:
    """They change nothing, and so are no difference."""
    tested, path = case(back_over_one(), steps=2), tmp_path / "m.onnx"
    export(tested.network, path, "scan")
    model = onnx.load(path)
    for node in model.graph.node:
        node.doc_string = "looked at"
    path.write_bytes(model.SerializeToString())
    assert differences(tested.network, path).nodes == ()
