"""Values of an ONNX model in a second file beside it."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import onnx

from snndeploy.errors import FileFormatError

LEAST_BYTES = 1024  # smaller values stay in the model
_PAGE = 4096  # values begin at whole pages, so that runtimes can map them into memory
_DIGITS = 12


def detach(model: onnx.ModelProto, stem: str) -> tuple[str, list[bytes]]:
    """Moves the large initialisers out of a model, those of graphs inside its nodes included.

    The name of their file holds a digest of its content. An older model therefore never finds newer values
    under the name it knows.

    Returns:
        The name of the file they belong in, beside the model, and its content in pieces; no pieces if no
        initialiser is large.
    """
    pieces: list[bytes] = []
    moved: list[tuple[onnx.TensorProto, int]] = []
    offset = 0
    for tensor in initializers(model.graph):
        if len(tensor.raw_data) < LEAST_BYTES:
            continue
        gap = -offset % _PAGE
        pieces += [bytes(gap), tensor.raw_data]
        moved.append((tensor, offset + gap))
        offset += gap + len(tensor.raw_data)
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    location = f"{stem}.{digest.hexdigest()[:_DIGITS]}.data"
    for tensor, start in moved:
        length = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, text in (("location", location), ("offset", str(start)), ("length", str(length))):
            tensor.external_data.add(key=key, value=text)
    return location, pieces


def attach(model: onnx.ModelProto, folder: Path, where: str) -> None:
    """Reads initialisers from the files beside a model into it.

    Raises:
        FileFormatError: A file is missing, too short, or not a regular file of that folder.
    """
    budgets: dict[str, int] = {}
    for tensor in initializers(model.graph):
        if not is_external(tensor):
            continue
        location, offset, length = _entries(tensor, where)
        with _opened(folder, location, where) as file:
            size = os.fstat(file.fileno()).st_size
            # Values lie apart, so all together are no more than the file: what claims more could fill memory.
            budgets[location] = budgets.get(location, size) - length
            file.seek(min(offset, size))
            content = file.read(length) if budgets[location] >= 0 else b""
        if len(content) != length:
            raise FileFormatError(
                where, f"needs more bytes of {location!r}", got=f"{size}, for {tensor.name!r}"
            )
        tensor.raw_data = content
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def initializers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """The initialisers of a graph and of the graphs inside its nodes."""
    yield from graph.initializer
    for inner in inner_graphs(graph.node):
        yield from initializers(inner)


def inner_graphs(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """The graphs that nodes hold, such as the body of a Scan."""
    for attribute in (a for node in nodes for a in node.attribute):
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor names another file."""
    return bool(tensor.external_data) or tensor.data_location == onnx.TensorProto.EXTERNAL


def is_ours(location: str, stem: str) -> bool:
    """Whether a file of that name was written by an export to `stem`."""
    return re.fullmatch(rf"{re.escape(stem)}\.[0-9a-f]{{{_DIGITS}}}\.data", location) is not None


def locations(model: onnx.ModelProto) -> frozenset[str]:
    """The files that initialisers name."""
    named = (entry for tensor in initializers(model.graph) for entry in tensor.external_data)
    return frozenset(entry.value for entry in named if entry.key == "location")


def _entries(tensor: onnx.TensorProto, where: str) -> tuple[str, int, int]:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    numbers = [entries.get(key, "") for key in ("offset", "length")]
    whole = all(re.fullmatch("[0-9]{1,18}", number) for number in numbers)
    if (
        not whole
        or len(entries) != len(tensor.external_data)
        or entries.keys() != {"location", "offset", "length"}
    ):
        raise FileFormatError(where, f"has damaged external data of {tensor.name!r}", got=repr(entries))
    return entries["location"], int(numbers[0]), int(numbers[1])


def _opened(folder: Path, location: str, where: str) -> BinaryIO:
    """Opens a regular file of the folder itself, no link."""
    # Nothing but a plain name: no folders, no drives, none of the names that mean an address in memory.
    if location in ("", ".", "..") or not location.isprintable() or any(c in '/\\:*?"<>|' for c in location):
        raise FileFormatError(where, "values outside must lie in a file beside it", got=repr(location))
    path = folder / location
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise FileFormatError(where, f"needs {location!r} beside it to be a regular file, not a link")
        return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb")
    except OSError as error:
        raise FileFormatError(where, f"needs the file {location!r} beside it", got=error.strerror) from None
