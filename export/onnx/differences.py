"""What a file holds otherwise than the network it is said to come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx.numpy_helper

from snndeploy.export.onnx.external import initializers, inner_graphs
from snndeploy.export.onnx.metadata import PREFIX
from snndeploy.export.onnx.model import lower
from snndeploy.export.onnx.nodes import DOMAIN
from snndeploy.export.onnx.reading import arithmetic_of, form_of, metadata, read
from snndeploy.ir import Network

_DERIVED = {"weight": ("weight", "scale"), "bias": ("bias",)}  # initialisers made from each kind of parameter


@dataclass(frozen=True)
class Differences:
    """What a file holds otherwise than an export of a network with the same options.

    weights: Names of the network's parameters that the file lacks or holds with other values, in their order.
    nodes: Names of nodes, functions (as `domain::name`), initialisers, graph inputs and outputs, operator sets
        (as `opset:domain`) and metadata, in the order of the export, then what only the file has. What the
        file lacks and what it has besides counts as well, also inside Scans.
    """

    weights: tuple[str, ...]
    nodes: tuple[str, ...]


def differences(network: Network, path: Path) -> Differences:
    """Compares a file, part by part and by name, with the network it is said to come from.

    A changed weight, or any other edit, that happens to change no spike on some samples is found all the same.
    Producer, fingerprint, comments on nodes, declared shapes of inner values, the order of the nodes and the
    place where values are stored do not count.

    Raises:
        FileFormatError: The file is missing or damaged, was not exported by snndeploy, or has another format
            version.
        NetworkError: The network is not folded.
        TargetError: The network cannot have the file's form or arithmetic.
    """
    where = str(path)
    proto = read(path, where)
    again = _again(network, proto, where)
    return Differences(_differing_weights(network, proto, again), _differing_nodes(proto, again))


def _differing_weights(network: Network, proto: onnx.ModelProto, again: onnx.ModelProto) -> tuple[str, ...]:
    found, expected = _initializers(proto), _initializers(again)
    return tuple(
        name
        for name in network.weights
        if any(key in expected and expected[key] != found.get(key) for key in _made_from(name))
    )


def _differing_nodes(proto: onnx.ModelProto, again: onnx.ModelProto) -> tuple[str, ...]:
    found, expected = _parts(proto), _parts(again)
    differing = [key for key in expected | found if expected.get(key) != found.get(key)]
    return tuple(dict.fromkeys(name for _, name in differing))


def _again(network: Network, proto: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """The network lowered with the options that a model shows."""
    shown = {output.name for output in proto.graph.output}
    batch = _fixed_batch(proto, len(network.graph.shapes[network.graph.input]))
    form = form_of(proto, where)
    held = sum(len(tensor.raw_data) for tensor in initializers(proto.graph))
    if form == "scan" and batch and batch > held:  # the states it must hold then would be of more bytes
        batch = None
    return lower(
        network,
        form,
        arithmetic=arithmetic_of(proto, where),
        batch=batch,
        debug=any(f"{lif}.u" in shown for lif in network.graph.ports),
        inline_functions=DOMAIN not in {imported.domain for imported in proto.opset_import},
        fingerprint=metadata(proto, where).get(f"{PREFIX}network_sha256", ""),
        bounded=False,
    )


def _fixed_batch(proto: onnx.ModelProto, axes: int) -> int | None:
    """The number of samples a model is made for, which stands before the axes of one sample."""
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name == "x" and len(dims) > axes and dims[-axes - 1].dim_value > 0:
            return int(dims[-axes - 1].dim_value)
    return None


def _made_from(parameter: str) -> tuple[str, ...]:
    op, kind = parameter.rsplit(".", 1)
    return tuple(f"{op}.{derived}" for derived in _DERIVED[kind])


def _initializers(model: onnx.ModelProto) -> dict[str, object]:
    return {tensor.name: _content(tensor) for tensor in initializers(model.graph)}


def _parts(proto: onnx.ModelProto) -> dict[tuple[str, str], list[Any]]:
    """Everything that decides what a model does, by kind and name; a name may occur more than once."""
    named = [
        *((("metadata", p.key), p.value) for p in proto.metadata_props),
        *((("opset", f"opset:{o.domain}"), o.version) for o in proto.opset_import),
        *((("function", f"{f.domain}::{f.name}"), _bytes(f)) for f in proto.functions),
        *_graph_parts(proto.graph),
    ]
    parts: dict[tuple[str, str], list[Any]] = {}
    for key, content in named:
        parts.setdefault(key, []).append(content)
    return parts


def _graph_parts(graph: onnx.GraphProto) -> list[tuple[tuple[str, str], Any]]:
    parts: list[tuple[tuple[str, str], Any]] = [
        *((("input", i.name), _bytes(i)) for i in graph.input),
        *((("initialiser", t.name), _content(t)) for t in graph.initializer),
        *((("sparse", t.values.name), _bytes(t)) for t in graph.sparse_initializer),
    ]
    for node in graph.node:
        parts.append((("node", node.name), _shell(node)))
        parts += [part for inner in inner_graphs([node]) for part in _graph_parts(inner)]
    parts += [(("output", o.name), _bytes(o)) for o in graph.output]
    return parts


def _shell(node: onnx.NodeProto) -> bytes:
    """A node without what is inside its graphs, which is compared by itself."""
    shell = onnx.NodeProto()
    shell.CopyFrom(node)
    shell.ClearField("doc_string")
    for graph in inner_graphs([shell]):
        names = [[part.name for part in parts] for parts in (graph.input, graph.output)]
        name = graph.name
        graph.Clear()
        graph.name = f"{name}{names}"
    return _bytes(shell)


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))


def _content(tensor: onnx.TensorProto) -> object:
    """A tensor's type, shape and bits, however they are stored."""
    try:
        bits = onnx.numpy_helper.to_array(tensor).tobytes()
    except Exception:  # many kinds, for an unknown type or bytes that do not fit the shape
        return _bytes(tensor)
    return tensor.data_type, tuple(tensor.dims), bits
