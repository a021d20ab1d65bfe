"""ONNX files: written whole or not at all, and read again to look inside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from snndeploy.errors import FileFormatError
from snndeploy.export.onnx.metadata import FORMAT_VERSION, PREFIX, Form
from snndeploy.export.onnx.model import lower
from snndeploy.ir import Network
from snndeploy.ir.files import replacing


def export(
    network: Network, path: Path | str, form: Form, *, batch: int | None = None, fingerprint: str = ""
) -> None:
    """Writes a network to an ONNX file, whole or not at all; arguments and errors as `lower`.

    Raises:
        FileFormatError: The file cannot be written.
    """
    model = lower(network, form, batch=batch, fingerprint=fingerprint).SerializeToString(deterministic=True)
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(model)


def expose_spikes(model: bytes | Path) -> bytes:
    """The same model with the spikes of every Lif as further graph outputs.

    The names are those in the model's own metadata, so that a file which somebody changed can be examined.

    Args:
        model: An exported file or its bytes.

    Raises:
        FileFormatError: The file is missing or damaged, was not exported by snndeploy, has another format
            version, or has lost the values that hold the spikes.
    """
    where = str(model) if isinstance(model, Path) else "ONNX model"
    proto = _parsed(model, where)
    _expose(proto, where)
    return bytes(proto.SerializeToString(deterministic=True))


def _expose(proto: onnx.ModelProto, where: str) -> None:
    graph = proto.graph
    made = {name for node in graph.node for name in node.output}
    shown = {output.name for output in graph.output}
    for lif, shape, spikes in _neurons(proto, where):
        for name in spikes:
            if name not in made:
                raise FileFormatError(where, f"must hold the spikes of {lif}, value {name!r}")
            if name not in shown:
                full = [None, *shape[1:]]
                graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, full))
    exposed = {output.name for output in graph.output}
    others = [info for info in graph.value_info if info.name not in exposed]
    del graph.value_info[:]
    graph.value_info.extend(others)


def differing_weights(network: Network, path: Path) -> tuple[str, ...]:
    """Names of the network's parameters that a file lacks or holds with other values, in their order.

    A changed weight that happens to change no spike on some samples is found here all the same.

    Raises:
        FileFormatError: The file is missing or damaged, or keeps values in other files.
    """
    stored = {i.name: i for i in _parsed(path, str(path)).graph.initializer}
    return tuple(
        name
        for name, array in network.weights.items()
        if name not in stored or not _holds(stored[name], array)
    )


def differing_nodes(network: Network, path: Path) -> tuple[str, ...]:
    """Names of what a file holds otherwise than an export of the network in the same form and batch.

    Nodes, functions (as `domain::name`), initialisers, graph inputs and outputs, operator sets (as
    `opset:domain`) and metadata are compared, each by name; what the file lacks and what it has besides
    counts as well. An edit that changes no spike on some samples is found here all the same. Producer,
    fingerprint, declared shapes of inner values and the order of the nodes do not count.

    Returns:
        The names in the order of the export, then what only the file has; empty if there is no difference.

    Raises:
        FileFormatError: The file is missing or damaged, keeps values in other files, was not exported by
            snndeploy, or has another format version.
        NetworkError: The network is not folded.
        TargetError: The network is too large, or its sequence too long, for the file's form.
    """
    where = str(path)
    proto = _parsed(path, where)
    metadata = _metadata(proto, where)
    form = _form(metadata, where)
    batch = _fixed_batch(proto, form)
    fingerprint = metadata.get(f"{PREFIX}network_sha256", "")
    found = _parts(proto)
    expected = _parts(lower(network, form, batch=batch, fingerprint=fingerprint))
    differing = [key for key in expected | found if expected.get(key) != found.get(key)]
    return tuple(dict.fromkeys(name for _, name in differing))


def _form(metadata: Mapping[str, str], where: str) -> Form:
    found = metadata.get(f"{PREFIX}form")
    forms: tuple[Form, ...] = get_args(Form)
    for form in forms:
        if found == form:
            return form
    raise FileFormatError(where, f"must have form {' or '.join(forms)}", got=repr(found))


def _fixed_batch(proto: onnx.ModelProto, form: Form) -> int | None:
    axis = 0 if form == "step" else 1
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name == "x" and len(dims) > axis and dims[axis].dim_value > 0:
            return int(dims[axis].dim_value)
    return None


def _parts(proto: onnx.ModelProto) -> dict[tuple[str, str], list[Any]]:
    """Everything that decides what a model does, by kind and name; a name may occur more than once."""
    graph = proto.graph
    named = [
        *((("metadata", p.key), p.value) for p in proto.metadata_props),
        *((("opset", f"opset:{o.domain}"), o.version) for o in proto.opset_import),
        *((("function", f"{f.domain}::{f.name}"), _bytes(f)) for f in proto.functions),
        *((("input", i.name), _bytes(i)) for i in graph.input),
        *((("initialiser", t.name), _content(t)) for t in graph.initializer),
        *((("sparse", t.values.name), _bytes(t)) for t in graph.sparse_initializer),
        *((("node", n.name), _bytes(n)) for n in graph.node),
        *((("output", o.name), _bytes(o)) for o in graph.output),
    ]
    parts: dict[tuple[str, str], list[Any]] = {}
    for key, content in named:
        parts.setdefault(key, []).append(content)
    return parts


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))


def _content(tensor: onnx.TensorProto) -> object:
    """A tensor's type, shape and bits, however they are stored."""
    try:
        bits = onnx.numpy_helper.to_array(tensor).tobytes()
    except Exception:  # as in _holds
        return _bytes(tensor)
    return tensor.data_type, tuple(tensor.dims), bits


def _holds(tensor: onnx.TensorProto, array: npt.NDArray[np.generic]) -> bool:
    try:
        return np.array_equal(onnx.numpy_helper.to_array(tensor), array)
    except Exception:  # many kinds, for an unknown type or bytes that do not fit the shape
        return False


def _parsed(model: bytes | Path, where: str) -> onnx.ModelProto:
    try:
        proto = onnx.load_model_from_string(model.read_bytes() if isinstance(model, Path) else model)
    except FileNotFoundError:
        raise FileFormatError(where, "does not exist") from None
    except OSError as error:
        raise FileFormatError(where, "cannot be read", got=error.strerror) from None
    except Exception as error:  # protobuf's, for which onnx has no name
        raise FileFormatError(where, "is not an ONNX file", got=str(error)) from None
    tensors = [*_tensors(proto.graph), *(t for f in proto.functions for t in _attribute_tensors(f.node))]
    # Whatever file such a tensor names would be read as weights.
    if any(t.external_data or t.data_location == onnx.TensorProto.EXTERNAL for t in tensors):
        raise FileFormatError(where, "must hold all values itself", got="a tensor in another file")
    if not _is_text(proto):
        raise FileFormatError(where, "has names or metadata that are not UTF-8")
    return proto


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in a graph and in the graphs inside it."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _attribute_tensors(graph.node)


def _attribute_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in (a for node in nodes for a in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors(graph)


def _is_text(proto: onnx.ModelProto) -> bool:
    """Whether all names and metadata are UTF-8, which protobuf checks only when one looks, if at all."""
    graph = proto.graph
    named = (*graph.input, *graph.output, *graph.initializer, *graph.node, *proto.functions)
    try:
        texts: list[object] = [part.name for part in named]
        texts += [name for node in graph.node for name in node.output]
        texts += [text for entry in proto.metadata_props for text in (entry.key, entry.value)]
        texts += [sparse.values.name for sparse in graph.sparse_initializer]
        texts += [part.domain for part in (*proto.functions, *proto.opset_import)]
    except UnicodeDecodeError:
        return False
    return all(isinstance(text, str) for text in texts)


def _metadata(proto: onnx.ModelProto, where: str) -> dict[str, str]:
    """The model's metadata, if they are of our format."""
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    version = metadata.get(f"{PREFIX}format_version")
    if version is None:
        raise FileFormatError(
            where, "was not exported by snndeploy", remedy="give it a file of `export onnx`"
        )
    if version != str(FORMAT_VERSION):
        raise FileFormatError(
            where,
            f"must have format version {FORMAT_VERSION}",
            got=repr(version),
            remedy="use the snndeploy that wrote it",
        )
    return metadata


def _neurons(proto: onnx.ModelProto, where: str) -> list[tuple[str, list[int], list[str]]]:
    """Name, shape and names of the spikes of every Lif, from the model's metadata."""
    metadata = _metadata(proto, where)
    try:
        table = json.loads(metadata[f"{PREFIX}neurons"])
        return [
            (str(entry["name"]), [int(d) for d in entry["shape"]], [str(s) for s in entry["spikes"]])
            for entry in table
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(where, "has a damaged table of neurons", got=repr(error)) from None
