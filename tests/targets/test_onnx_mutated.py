"""Ten thousand mutated ONNX files raise only our own errors, when they are opened and when they run."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, get_args

import numpy as np
import onnx
import pytest

from snndeploy.errors import SnnDeployError
from snndeploy.export.onnx import Form, lower
from snndeploy.ir import Input, Lif, Output
from snndeploy.targets.onnx_runtime import OnnxNetwork
from tests.export.networks import case, graph, linear
from tests.ir.test_mutated_files import mutated

FORMS: tuple[Form, ...] = get_args(Form)
NAMES = ("", "x", "logits", "steps", "nothing", "l1", "state_in.l1.v", "state_out.l1.v", "l2.spikes")


@pytest.fixture(scope="module")
def models() -> list[onnx.ModelProto]:
    """Input (3) -> f1 -> l1 -> f2 -> l2 -> output, l2 -> f1 one step later, in every form."""
    built = graph(
        {
            "input": Input(shape=(3,)),
            "f1": linear(3, 4),
            "l1": Lif(),
            "f2": linear(4, 2),
            "l2": Lif(),
            "back": linear(2, 4),
            "output": Output(),
        },
        "input f1 l1 f2 l2 output",
        "l2 ~1 back l1",
    )
    network = case(built, steps=2).network
    return [lower(network, form) for form in FORMS]


def opens(data: bytes) -> bool:
    """Whether a file opens; any error but ours, there and while it runs on zeros, fails the test."""
    try:
        network = OnnxNetwork(data)
    except SnnDeployError as error:
        return not str(error).encode()  # printable
    frames = network.description.input.kind == "frames"
    x = np.zeros((*([2] if frames else []), 2, *network.shape), np.float32)
    with suppress(SnnDeployError):
        network.run(x, steps=None if network.description.form == "sequence" else 2)
    return True


def test_six_thousand_files_with_mutated_bytes(models: Sequence[onnx.ModelProto]) -> None:
    """Bytes changed, removed, doubled, cut off or overwritten."""
    rng = random.Random(0)  # noqa: S311 - mutations, no secrets
    wholes = [model.SerializeToString() for model in models]
    opened = 0
    for index in range(6000):
        data = bytearray(wholes[index % len(wholes)])
        for _ in range(rng.choice([1, 1, 2, 8])):
            a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
            match rng.randrange(5):
                case 0:
                    data[a : a + 1] = rng.randbytes(1)
                case 1:
                    del data[a : min(b, a + 20)]
                case 2:
                    data[a:a] = data[a : min(b, a + 20)]
                case 3:
                    data[a : a + 8] = rng.choice([bytes(8), b"\xff" * 8, rng.randbytes(8)])
                case _:
                    del data[rng.choice([b, max(a, len(data) - 50)]) :]
        opened += opens(bytes(data))
    assert 100 < opened < 3000, "some mutations are harmless, most are not"


def test_two_thousand_files_with_mutated_metadata(models: Sequence[onnx.ModelProto]) -> None:
    """Values of what the file says about itself replaced, removed, doubled or moved."""
    rng = random.Random(1)  # noqa: S311 - as above
    opened = 0
    for index in range(2000):
        model = onnx.ModelProto()
        model.CopyFrom(models[index % len(models)])
        for _ in range(rng.choice([1, 1, 2])):
            entry = rng.choice(list(model.metadata_props))
            try:
                value = json.loads(entry.value)
            except ValueError:
                value = entry.value
            text = json.dumps(mutated(value, rng), ensure_ascii=False)
            entry.value = (
                text.encode("utf-8", "replace").decode() if rng.random() < 0.9 else text[: len(text) // 2]
            )
        opened += opens(model.SerializeToString())
    assert 100 < opened < 1700


def test_two_thousand_files_with_mutated_graphs(models: Sequence[onnx.ModelProto]) -> None:
    """Nodes, names, attributes, shapes, initialisers, inputs, outputs and functions of the graph."""
    rng = random.Random(2)  # noqa: S311 - as above
    opened = 0
    for index in range(2000):
        model = onnx.ModelProto()
        model.CopyFrom(models[index % len(models)])
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            rng.choice(CHANGES)(model, rng)
        opened += opens(model.SerializeToString())
    assert 50 < opened < 1700


def _nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    bodies = [a.g for n in model.graph.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH]
    return [
        *model.graph.node,
        *(n for g in bodies for n in g.node),
        *(n for f in model.functions for n in f.node),
    ]


def _names(model: onnx.ModelProto, rng: random.Random) -> str:
    made = [name for node in _nodes(model) for name in (*node.input, *node.output)]
    return str(rng.choice([*made, *NAMES]))


def change_names(model: onnx.ModelProto, rng: random.Random) -> None:
    """Replaces, adds or removes an input or output of a node, or a name of another kind."""
    node = rng.choice(_nodes(model))
    names = rng.choice([node.input, node.output])
    place = rng.randrange(len(names) + 1)
    if place == len(names):
        names.append(_names(model, rng))
    elif rng.random() < 0.3:
        del names[place]
    else:
        names[place] = _names(model, rng)


def change_nodes(model: onnx.ModelProto, rng: random.Random) -> None:
    """Removes, doubles, swaps or renames nodes."""
    holder: Any = rng.choice([model.graph, model.graph, *model.functions])
    index = rng.randrange(len(holder.node))
    match rng.randrange(4):
        case 0 if len(holder.node) > 1:
            del holder.node[index]
        case 1:
            holder.node.append(holder.node[index])
        case 2:
            holder.node[index].op_type = rng.choice(
                ["LIF", "Identity", "Add", "Gemm", "Reshape", "Nothing", "Shape"]
            )
        case _:
            holder.node[index].domain = rng.choice(["", "snndeploy", "ai.onnx", "nowhere"])


def change_attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    """Changes or removes an attribute."""
    node = rng.choice([n for n in _nodes(model) if n.attribute])
    index = rng.randrange(len(node.attribute))
    attribute = node.attribute[index]
    match rng.randrange(4):
        case 0:
            del node.attribute[index]
        case 1:
            attribute.type = rng.randrange(1, 12)
        case 2:
            attribute.i, attribute.f = rng.choice([-1, 0, 7, 2**62]), rng.choice([0.0, -1.0, 1e30])
            attribute.ints[:] = [rng.choice([-1, 0, 3, 2**31])]
        case _:
            attribute.name = rng.choice(["axis", "tau", "body", "value", ""])


def change_initialiser(model: onnx.ModelProto, rng: random.Random) -> None:
    """Changes shape, type, name or bytes of a stored tensor, or removes it."""
    tensors = model.graph.initializer
    index = rng.randrange(len(tensors))
    tensor = tensors[index]
    match rng.randrange(6):
        case 0:
            del tensors[index]
        case 1:
            tensor.dims[:] = [rng.choice([0, 1, 2, 4, -1, 2**31, 2**62]) for _ in range(rng.randrange(4))]
        case 2:
            tensor.data_type = rng.randrange(25)
        case 3:
            tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
        case 4:
            tensor.name = _names(model, rng)
        case _:
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=rng.choice(["/etc/hostname", "../x", "x", ""]))


def change_interface(model: onnx.ModelProto, rng: random.Random) -> None:
    """Changes name, type or shape of a graph input or output, or removes it."""
    infos = rng.choice([model.graph.input, model.graph.output])
    index = rng.randrange(len(infos))
    kind = infos[index].type.tensor_type
    match rng.randrange(4):
        case 0 if len(infos) > 1:
            del infos[index]
        case 1:
            infos[index].name = _names(model, rng)
        case 2:
            kind.elem_type = rng.randrange(12)
        case _ if kind.shape.dim:
            kind.shape.dim[rng.randrange(len(kind.shape.dim))].dim_value = rng.choice([0, 1, 5, -1, 2**40])
        case _:
            kind.ClearField("shape")


def change_functions(model: onnx.ModelProto, rng: random.Random) -> None:
    """Removes, doubles or renames a function, its inputs, outputs or operator sets, or lets it call itself."""
    if not model.functions:
        return
    function = model.functions[0]
    match rng.randrange(7):
        case 0:
            del model.functions[:]
        case 1:
            model.functions.append(function)
        case 2:
            function.name = rng.choice(["Add", "Other", ""])
        case 3:
            names = rng.choice([function.input, function.output, function.attribute])
            if names:
                del names[rng.randrange(len(names))]
        case 4:
            names = rng.choice([function.input, function.output])
            names.append(_names(model, rng))
        case 5:
            function.node.add(
                op_type=function.name, domain=function.domain, input=function.input, output=["p", "q", "r"]
            )
        case _:
            opset = rng.choice([*model.opset_import, *function.opset_import])
            opset.version = rng.choice([0, 1, 13, 19, 22, 99, -1])


CHANGES: list[Callable[[onnx.ModelProto, random.Random], None]] = [
    change_names,
    change_names,
    change_nodes,
    change_attribute,
    change_initialiser,
    change_interface,
    change_functions,
]
