"""Exported files, read again with the care that a stranger's file needs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar, get_args

import onnx

from snndeploy.errors import FileFormatError
from snndeploy.export.onnx.external import attach, initializers, inner_graphs, is_external
from snndeploy.export.onnx.metadata import FORMAT_VERSION, PREFIX, Form
from snndeploy.export.onnx.numbers import Arithmetic

Neuron = tuple[str, list[int], list[str] | str]
Name = TypeVar("Name", bound=str)


def read(model: bytes | Path, where: str) -> onnx.ModelProto:
    """A model with all its values, those in files beside it too.

    Raises:
        FileFormatError: The file is missing or damaged, or names values anywhere else.
    """
    proto = parse(_content(model, where) if isinstance(model, Path) else model, where)
    ours = list(initializers(proto.graph))
    others = [t for t in _tensors(proto) if is_external(t)]
    # Whatever file such a tensor names would be read as weights.
    if others or (isinstance(model, bytes) and any(is_external(t) for t in ours)):
        raise FileFormatError(where, "must hold all values itself", got="a tensor in another file")
    if not _is_text(proto):
        raise FileFormatError(where, "has names or metadata that are not UTF-8")
    if isinstance(model, Path):
        attach(proto, model.parent, where)
    return proto


def parse(content: bytes, where: str) -> onnx.ModelProto:
    """The model in those bytes.

    Raises:
        FileFormatError: They are damaged.
    """
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's, for which onnx has no name
        raise FileFormatError(where, "is not an ONNX file", got=str(error)) from None


def metadata(proto: onnx.ModelProto, where: str) -> dict[str, str]:
    """The model's metadata, if they are of our format.

    Raises:
        FileFormatError: The model was not exported by snndeploy, or has another format version.
    """
    found = {entry.key: entry.value for entry in proto.metadata_props}
    version = found.get(f"{PREFIX}format_version")
    if version is None:
        raise FileFormatError(
            where, "was not exported by snndeploy", remedy="give it a file of `export onnx`"
        )
    if version != str(FORMAT_VERSION):
        raise FileFormatError(
            where,
            f"must have format version {FORMAT_VERSION}",
            got=repr(version),
            remedy="export the network again, or use the snndeploy that wrote it",
        )
    return found


def form_of(proto: onnx.ModelProto, where: str) -> Form:
    """The form a model says it has."""
    return _one_of(get_args(Form), proto, "form", where)


def arithmetic_of(proto: onnx.ModelProto, where: str) -> Arithmetic:
    """The arithmetic a model says it computes in."""
    return _one_of(get_args(Arithmetic), proto, "arithmetic", where)


def _one_of(known: tuple[Name, ...], proto: onnx.ModelProto, key: str, where: str) -> Name:
    found = metadata(proto, where).get(f"{PREFIX}{key}")
    for name in known:
        if found == name:
            return name
    raise FileFormatError(where, f"must have {key} {' or '.join(known)}", got=repr(found))


def neurons(proto: onnx.ModelProto, where: str) -> list[Neuron]:
    """Name, shape with -1 for the batch, and names of the spikes of every Lif.

    Raises:
        FileFormatError: The model has no such table.
    """
    found = metadata(proto, where)
    try:
        table = json.loads(found[f"{PREFIX}neurons"])
        return [
            (str(entry["name"]), [int(d) for d in entry["shape"]], _names(entry["spikes"])) for entry in table
        ]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FileFormatError(where, "has a damaged table of neurons", got=repr(error)) from None


def _names(spikes: object) -> list[str] | str:
    if isinstance(spikes, str):
        return spikes
    if isinstance(spikes, list):
        return [str(name) for name in spikes]
    raise TypeError(spikes)


def _content(path: Path, where: str) -> bytes:
    # A pipe or a device may never end; os.path answers for every name, where pathlib may raise.
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113
        raise FileFormatError(where, "cannot be read", got="no regular file")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileFormatError(where, "does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise FileFormatError(where, "cannot be read", got=str(error)) from None


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in a model that is no plain initialiser."""
    yield from _inside(proto.graph)
    for function in proto.functions:
        yield from _of_attributes(function.node)
        for graph in inner_graphs(function.node):
            yield from (*initializers(graph), *_inside(graph))


def _inside(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_attributes(graph.node)
    for inner in inner_graphs(graph.node):
        yield from _inside(inner)


def _of_attributes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in (a for node in nodes for a in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)


def _is_text(proto: onnx.ModelProto) -> bool:
    """Whether all names and metadata are UTF-8, which protobuf checks only when one looks, if at all."""
    try:
        texts = list(_graph_texts(proto.graph))
        texts += [function.name for function in proto.functions]
        texts += [text for entry in proto.metadata_props for text in (entry.key, entry.value)]
        texts += [part.domain for part in (*proto.functions, *proto.opset_import)]
    except UnicodeDecodeError:
        return False
    return all(isinstance(text, str) for text in texts)


def _graph_texts(graph: onnx.GraphProto) -> Iterator[object]:
    named = (*graph.input, *graph.output, *graph.initializer, *graph.node)
    yield from (part.name for part in named)
    yield from (name for node in graph.node for name in node.output)
    yield from (sparse.values.name for sparse in graph.sparse_initializer)
    entries = (entry for tensor in graph.initializer for entry in tensor.external_data)
    yield from (text for entry in entries for text in (entry.key, entry.value))
    for inner in inner_graphs(graph.node):
        yield from _graph_texts(inner)
