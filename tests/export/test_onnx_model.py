"""What an exported model looks like to others: its names, its metadata, its functions."""

from __future__ import annotations

import itertools
import json
import platform
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from snndeploy.backbones import resnet8
from snndeploy.errors import ConfigError, NetworkError, TargetError
from snndeploy.export.onnx import FORMAT_VERSION, Form, lower
from snndeploy.ir import (
    InputSpec,
    Network,
    backward_connections,
    certify,
    components,
    parameter_shapes,
    quantize,
)
from snndeploy.ir.document import input_from_json
from tests.export.networks import TOPOLOGIES, back_over_many, case

FORMS: tuple[Form, ...] = get_args(Form)


def network_of(topology: str, steps: int = 4) -> Network:
    """A network of that topology with all weights zero."""
    built = TOPOLOGIES[topology]()
    weights = {name: np.zeros(shape) for name, shape in parameter_shapes(built).items()}
    return Network(graph=built, weights=weights, steps=steps)


def metadata(model: onnx.ModelProto) -> dict[str, str]:
    """The model's own description, by short key."""
    return {p.key.removeprefix("snndeploy."): p.value for p in model.metadata_props}


def dims(entry: onnx.ValueInfoProto) -> list[Any]:
    """Dimensions of a graph input or output, symbols by their name."""
    return [d.dim_param or d.dim_value for d in entry.type.tensor_type.shape.dim]


def with_input(network: Network, kind: Literal["image", "frames"]) -> Network:
    """The network for another kind of input."""
    return replace(network, input=replace(network.input, kind=kind))


def all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes of a graph and of the graphs inside them."""
    return [*graph.node, *(node for body in bodies(graph) for node in all_nodes(body))]


def all_initializers(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """The initialisers of a graph and of the graphs inside its nodes."""
    return [*graph.initializer, *(t for body in bodies(graph) for t in all_initializers(body))]


def bodies(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """The graphs inside a graph's nodes."""
    return [a.g for node in graph.node for a in node.attribute if a.HasField("g")]


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_passes_the_strict_checker(topology: str, form: Form, batch: int | None) -> None:
    """The checker finds no fault, and strict shape inference agrees with the declared shapes."""
    model = lower(network_of(topology), form, batch=batch)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_nodes(topology: str, form: Form) -> None:
    """Every LIF a call of the one local function; Scans in one form alone; nothing of the machine.

    Names are unique, inside Scans and outside together.
    """
    network = network_of(topology)
    model = lower(network, form)
    nodes = all_nodes(model.graph)
    kinds = Counter((node.domain, node.op_type) for node in nodes)
    loops = [c for c in components(network.graph) if set(c.ops) & set(network.graph.ports)]
    assert kinds["", "Scan"] == (len(loops) if form == "scan" else 0)
    assert not {"Loop", "If"} & {op_type for _, op_type in kinds}
    calls = len(network.graph.ports) * (network.steps if form == "sequence" else 1)
    assert kinds["snndeploy", "LIF"] == calls
    assert [(f.domain, f.name, list(f.input), list(f.output)) for f in model.functions] == [
        ("snndeploy", "LIF", ["x", "v"], ["spikes", "v_next", "u"])
    ]
    names = [node.name for node in nodes]
    values = [name for node in nodes for name in node.output]
    assert len(set(names)) == len(names)
    assert len(set(values)) == len(values)
    assert not any(node.doc_string or node.metadata_props for node in nodes)
    assert (model.ir_version, {o.domain: o.version for o in model.opset_import}) == (
        10,
        {"": 20, "snndeploy": 1},
    )


def test_lif_function_has_the_order_of_the_contract() -> None:
    """U = tau * v + x, s = u > threshold, v = u * (1 - s), with tau and threshold by reference."""
    function = lower(network_of("chain"), "step").functions[0]
    assert [n.op_type for n in function.node if n.op_type != "Constant"] == [
        "Mul",
        "Add",
        "Greater",
        "Cast",
        "Sub",
        "Mul",
    ]
    references = {a.ref_attr_name for n in function.node for a in n.attribute if a.ref_attr_name}
    assert references == set(function.attribute) == {"tau", "threshold"}


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_stored_once_under_their_names(form: Form) -> None:
    """Each parameter is one initialiser of the same name and values, used by every unrolled step."""
    network = case(back_over_many(), steps=4).network
    model = lower(network, form)
    tensors = list(all_initializers(model.graph))
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in tensors}
    assert len(stored) == len(tensors)
    for name, array in network.weights.items():
        np.testing.assert_array_equal(stored[name], array)
    floats = {name for name, array in stored.items() if array.dtype == np.float32 and array.ndim}
    others = {n for n in floats if n.endswith(".scales") or n.startswith("state_in.")}
    assert floats - others == set(network.weights)


def test_ops_outside_loops_run_once() -> None:
    """Outside loops a convolution of the sequence form is one node; within, one for each step.

    l0 <-> l1 form the loop of the first graph; the second has none.
    """
    convs = Counter(
        node.name.split(".t")[0]
        for node in lower(network_of("back_over_one"), "sequence").graph.node
        if node.op_type == "Conv"
    )
    assert convs == {"c0": 1, "c1": 4, "back1_0d1.conv": 4, "c2": 1, "c3": 1}
    plain = lower(network_of("residual"), "sequence")
    assert sum(node.op_type == "Conv" for node in plain.graph.node) == 6


def test_resize_only_for_whole_factors() -> None:
    """2x2 to 4x4 is a Resize; 2x2 to 7x7 gathers rows and columns by index.

    l3 (2x2) -> l0 (7x7), l3 -> l2 (4x4)
    """
    kinds = {node.name: node.op_type for node in lower(network_of("back_over_many"), "step").graph.node}
    assert kinds["back3_2d1.up"] == "Resize"
    assert kinds["back3_0d1.up.rows"] == kinds["back3_0d1.up"] == "Gather"


def test_step_interface() -> None:
    """States in and out stand in one order, shapes and table agree, a delay of 3 needs 3 values.

    l1 -> l0 after 2 steps, l3 -> l2 after 3 and after 1
    """
    model = lower(network_of("long_delays"), "step")
    states = ["l0.v", "l1.v", "l1.y1", "l1.y2", "l2.v", "l3.v", "l3.y1", "l3.y2", "l3.y3"]
    assert [i.name for i in model.graph.input] == ["x", *(f"state_in.{s}" for s in states)]
    assert [o.name for o in model.graph.output] == ["logits", *(f"state_out.{s}" for s in states)]
    shapes = {v.name: dims(v) for v in (*model.graph.input, *model.graph.output)}
    assert shapes["x"] == ["batch", 1, 7, 7]
    assert shapes["logits"] == ["batch", 3]
    for entry, name in zip(json.loads(metadata(model)["states"]), states, strict=True):
        assert (entry["in"], entry["out"]) == (f"state_in.{name}", f"state_out.{name}")
        assert entry["op"] == name.split(".")[0]
        assert entry["kind"] == ("membrane" if name.endswith(".v") else "delayed")
        assert (entry["dtype"], entry["init"], entry["shape"][0]) == ("float32", 0.0, -1)
        assert shapes[entry["in"]] == shapes[entry["out"]] == ["batch", *entry["shape"][1:]]


@pytest.mark.parametrize("kind", ["image", "frames"])
def test_sequence_interface(kind: Literal["image", "frames"]) -> None:
    """An image or frames in, mean and sum over the readout window out, no states."""
    model = lower(with_input(network_of("long_delays"), kind), "sequence")
    assert {v.name: dims(v) for v in (*model.graph.input, *model.graph.output)} == {
        "x": ["batch", 1, 7, 7] if kind == "image" else [4, "batch", 1, 7, 7],
        "logits": ["batch", 3],
        "readout_sum": ["batch", 3],
    }
    assert json.loads(metadata(model)["states"]) == []


@pytest.mark.parametrize("form", FORMS)
def test_debug_outputs(form: Form) -> None:
    """Spikes and u of every Lif are further outputs; steps come first, except where there is but one."""
    network = network_of("long_delays")
    plain, model = lower(network, form), lower(network, form, debug=True)
    count = len(plain.graph.output)
    assert list(model.graph.output)[:count] == list(plain.graph.output)
    fronts: dict[Form, list[int | str]] = {"step": [], "sequence": [4], "scan": ["time"]}
    front = fronts[form]
    assert {o.name: dims(o) for o in list(model.graph.output)[count:]} == {
        f"{lif}.{part}": [*front, "batch", *network.graph.shapes[lif]]
        for lif in network.graph.ports
        for part in ("spikes", "u")
    }
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("form", FORMS)
def test_batch_dimension(form: Form, steps: int) -> None:
    """It is the symbol `batch` everywhere by default, and the number asked for otherwise."""
    kinds: tuple[Literal["image", "frames"], ...] = ("image", "frames")
    for kind, batch in itertools.product(kinds, (None, 5)):
        model = lower(with_input(network_of("chain", steps), kind), form, batch=batch)
        values = (v for v in (*model.graph.input, *model.graph.output) if v.name != "steps")
        for entry in values:
            with_time = entry.name == "logits_by_step" or (
                entry.name == "x" and kind == "frames" and form != "step"
            )
            assert dims(entry)[1 if with_time else 0] == (batch or "batch"), entry.name


@pytest.mark.parametrize("form", FORMS)
def test_metadata_round_trip(form: Form) -> None:
    """The metadata gives back what the network says about steps, input, classes, neurons and connections."""
    spec = InputSpec(kind="frames", divisor=255.0, mean=(0.5,), std=(0.25,), low=-2.0, high=2.0, grid_bits=4)
    network = replace(network_of("long_delays"), readout=2, input=spec, classes=("one", "zwei", "trois é"))
    found = metadata(lower(network, form, fingerprint="ab12"))
    assert found["format_version"] == str(FORMAT_VERSION) == "2"
    assert (found["form"], found["steps"], found["readout"]) == (form, "4", "2")
    assert (found["arithmetic"], found["certificate"]) == ("float32", "null")
    assert (found["number_format"], found["network_sha256"]) == ("float32", "ab12")
    assert input_from_json(json.loads(found["input"])) == spec
    assert tuple(json.loads(found["classes"])) == network.classes
    assert json.loads(found["backward"]) == [asdict(c) for c in backward_connections(network.graph)]
    neurons = json.loads(found["neurons"])
    assert [n["name"] for n in neurons] == list(network.graph.ports)
    assert all((n["tau"], n["threshold"]) == (0.5, 1.0) for n in neurons)
    made = {name for node in lower(network, form).graph.node for name in node.output}
    for neuron in neurons:
        name = neuron["name"]
        values = {
            "step": [f"{name}.spikes"],
            "sequence": [f"{name}.spikes.t{t}" for t in range(4)],
            "scan": f"{name}.spikes",
        }[form]
        assert neuron["spikes"] == values
        assert made.issuperset([values] if isinstance(values, str) else values)
    assert "network_sha256" not in metadata(lower(network, form))


def test_names_are_those_of_the_ops() -> None:
    """Every value is named after its op, in all forms.

    input -> c1 -> l1 -> c2 -> l2 -> flat -> fc -> output
    """
    step, sequence, scan = (
        [name for node in lower(network_of("chain", 2), form).graph.node for name in node.output]
        for form in FORMS
    )
    assert step == [
        *("c1", "l1.spikes", "state_out.l1.v", "l1.u", "c2", "l2.spikes", "state_out.l2.v", "l2.u"),
        *("flat", "fc", "logits"),
    ]
    assert sequence == [
        *("c1", "batch_size", "size.batchx4x6x7", "zeros.4x6x7"),
        *("l1.spikes.t0", "l1.v.t0", "l1.u.t0", "l1.spikes.t1", "l1.v.t1", "l1.u.t1", "l1.spikes.all"),
        *("c2", "c2.t0", "c2.t1", "size.batchx4x3x4", "zeros.4x3x4"),
        *("l2.spikes.t0", "l2.v.t0", "l2.u.t0", "l2.spikes.t1", "l2.v.t1", "l2.u.t1", "l2.spikes.all"),
        *("flat", "fc", "fc.t0", "fc.t1", "output.sum_over_time", "readout_sum", "logits"),
    ]
    assert scan == [
        *("time", "batch_size", "size.batchx4x6x7", "l1.v.before", "size.batchx4x3x4", "l2.v.before"),
        *("c1", "ticks", "state_out.l1.v", "l1.spikes", "l1.rows"),
        *("c2", "size.timexbatchx4x3x4", "c2.steps", "state_out.l2.v", "l2.spikes", "l2.rows"),
        *("flat", "fc", "size.timexbatchx3", "logits_by_step", "output.window", "readout_sum"),
        *("output.window_size", "output.window_size.float", "logits"),
    ]


@pytest.mark.parametrize("form", FORMS)
def test_same_network_same_bytes(form: Form) -> None:
    """Lowering is deterministic, and no path, host or user name is in its result."""
    network = network_of("back_over_many")
    for inline in (False, True):
        first, second = (
            lower(network, form, debug=inline, inline_functions=inline).SerializeToString(deterministic=True)
            for _ in range(2)
        )
        assert first == second
        for text in (str(Path(__file__).parent), str(Path.home()), platform.node()):
            assert len(text) < 4 or text.encode() not in first


@pytest.mark.parametrize("form", FORMS)
def test_refuses_an_unfolded_network(form: Form) -> None:
    """A network that still has BatchNorm is refused, with the remedy."""
    graph = resnet8((3, 8, 8), 10)
    weights = {name: np.ones(shape) for name, shape in parameter_shapes(graph).items()}
    with pytest.raises(NetworkError, match=r"BatchNorm.*fold"):
        lower(Network(graph=graph, weights=weights, steps=2), form)


def test_refuses_other_forms_and_batches() -> None:
    """A form that does not exist and a batch that is no number of samples are refused by name."""
    network = network_of("chain")
    with pytest.raises(ConfigError, match=r"loop.*step, sequence, scan"):
        lower(network, "loop")  # type: ignore[arg-type]
    for batch in (0, -1, True, 1.5, 2**31):
        with pytest.raises(ConfigError, match="batch"):
            lower(network, "step", batch=batch)  # type: ignore[arg-type]


def test_refuses_to_unroll_without_end() -> None:
    """A very long sequence is refused in favour of the forms that do not depend on its length."""
    network = network_of("chain", 2000)
    with pytest.raises(TargetError, match="scan or the step form"):
        lower(network, "sequence")
    assert len(lower(network, "step").graph.node) == 7
    assert lower(network, "scan").graph.node == lower(network_of("chain", 2), "scan").graph.node


@pytest.mark.parametrize("form", FORMS)
def test_refuses_what_does_not_fit_into_one_file(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model beyond the limit of one protobuf message is refused; external data are the remedy."""
    monkeypatch.setattr("snndeploy.export.onnx.model.LARGEST_BYTES", 1000)
    with pytest.raises(TargetError, match=r"must fit into 1000 bytes.*external data"):
        lower(network_of("chain"), form)


def test_refuses_initial_states_without_end() -> None:
    """The scan form for very many samples would hold as many initial states; other forms hold none."""
    network = network_of("chain")
    with pytest.raises(TargetError, match=r"initial states of at most.*smaller batch, or none"):
        lower(network, "scan", batch=2**31 - 1)
    for form in ("step", "sequence"):
        assert dims(lower(network, form, batch=2**31 - 1).graph.input[0])[0] == 2**31 - 1


def test_certificate_of_an_exact_network() -> None:
    """The metadata name the op that leaves the fewest digits, and whether exactness is proven."""
    spec = InputSpec(grid_bits=4)
    original = replace(case(back_over_many(), steps=4).network, input=spec)
    exact = quantize(original, np.zeros((1, 1, 7, 7), np.float32)).network
    found = json.loads(metadata(lower(exact, "scan"))["certificate"])
    rows = certify(exact).rows
    tightest = min(rows, key=lambda row: row.bits_left)
    assert found == {
        "holds": certify(exact).holds,
        "op": tightest.op,
        "bits_left": round(tightest.bits_left, 3),
        "reason": "",
    }
    longer = replace(exact, steps=60)
    found = json.loads(metadata(lower(longer, "scan"))["certificate"])
    assert not found["holds"]
    assert "units" in found["reason"]
