"""What an ONNX file holds, read from its bytes before ONNX Runtime sees them.

An ONNX file is one protobuf message. This walks through it with the standard library alone and refuses what
would make ONNX Runtime read other files, run out of stack or abort.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from snndeploy.errors import FileFormatError

# Messages that lie in each kind of message, by field number: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_INSIDE: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 14: "entry", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_BYTES = 1, 2, 9
_BYTES_OF_TYPE = {
    1: 4,
    2: 1,
    3: 1,
    4: 2,
    5: 2,
    6: 4,
    7: 8,
    9: 1,
    10: 2,
    11: 8,
    12: 4,
    13: 8,
    14: 8,
    15: 16,
    16: 2,
}
_MOST_BYTES = 2**31  # of a protobuf message
_NODE_OUTPUT, _NODE_OP, _NODE_DOMAIN = 2, 4, 7
_FUNCTION_NAME, _FUNCTION_INPUT, _FUNCTION_OUTPUT, _FUNCTION_NODE, _FUNCTION_DOMAIN = 1, 4, 5, 7, 10
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
_DEEPEST = 32  # messages within messages; a Scan's body within the body of another needs 12
_ORT_FORMAT = b"ORTM"  # at byte 4 of ONNX Runtime's own format, which it would take for the file's

Part: TypeAlias = "tuple[int, int | memoryview]"


@dataclass(frozen=True)
class External:
    """Where the values of a tensor stand that lie in another file; length 0 is up to its end."""

    location: str
    offset: int = 0
    length: int = 0


@dataclass(frozen=True)
class Contents:
    """What the bytes of a file say.

    metadata: The model's `metadata_props`.
    external: Values in other files.
    control_flow: Whether any node is an If, a Loop or a Scan.
    """

    metadata: Mapping[str, str]
    external: tuple[External, ...]
    control_flow: bool


def read_contents(data: bytes, where: str) -> Contents:
    """Walks through an ONNX file.

    Raises:
        FileFormatError: It is not a whole ONNX file, is nested too deeply, or calls its functions in a way
            that ends ONNX Runtime's process: with too few outputs, or one from within another.
    """
    try:
        return _contents(data)
    except _MalformedError as error:
        raise FileFormatError(where, "is not a whole ONNX file", got=str(error)) from None
    except UnicodeDecodeError:
        raise FileFormatError(where, "has text that is not UTF-8") from None


class _MalformedError(ValueError):
    """The bytes are no ONNX file we run."""


def _contents(data: bytes) -> Contents:
    if data[4:8] == _ORT_FORMAT:
        raise _MalformedError("ONNX Runtime's own format")
    metadata: dict[str, str] = {}
    external: list[External] = []
    calls: list[tuple[tuple[bytes, bytes], int, bool]] = []
    functions: dict[tuple[bytes, bytes], int] = {}
    for path, parts in _messages(memoryview(data), ("model",)):
        if path == ("model",) and not any(number == 7 for number, _ in parts):
            raise _MalformedError("no graph")
        if path == ("model", "entry"):
            key, value = _entry(parts)
            if key in metadata:
                raise _MalformedError(f"metadata {key!r} twice")
            metadata[key] = value
        elif path[-1] == "tensor":
            _check_bytes(parts)
            entries = [
                _entry(list(_parts(value))) for n, value in parts if n == 13 and isinstance(value, memoryview)
            ]
            if entries or (14, 1) in parts:
                external.append(_external(entries))
        elif path[-1] == "node":
            called = (_domain(parts, _NODE_DOMAIN), _last(parts, _NODE_OP))
            calls.append((called, _count(parts, _NODE_OUTPUT), "function" in path))
        elif path[-1] == "function":
            declared = (_domain(parts, _FUNCTION_DOMAIN), _last(parts, _FUNCTION_NAME))
            functions[declared] = _count(parts, _FUNCTION_OUTPUT)
            _check_names(parts)
    for called, outputs, within in calls:
        if within and called in functions:
            raise _MalformedError(f"function {_shown(called)} called within a function")
        if functions.get(called, outputs) != outputs:
            raise _MalformedError(f"call of {_shown(called)} with {outputs} outputs")
    names = {name.decode("utf-8", "replace") for (_, name), _, _ in calls}
    return Contents(metadata, tuple(external), control_flow=not _CONTROL_FLOW.isdisjoint(names))


def _shown(name: tuple[bytes, bytes]) -> str:
    return repr(b"::".join(name).decode("utf-8", "replace"))


def _messages(data: memoryview, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[Part]]]:
    """Every message in a message: the kinds of those it lies in and its own, and its fields."""
    if len(path) > _DEEPEST:
        raise _MalformedError("messages nested too deeply")
    parts = list(_parts(data))
    yield path, parts
    inside = _INSIDE[path[-1]]
    for number, value in parts:
        if number in inside:
            if not isinstance(value, memoryview):
                raise _MalformedError(f"a number for field {number} of a {path[-1]}")
            yield from _messages(value, (*path, inside[number]))


def _parts(data: memoryview) -> Iterator[Part]:
    """Number and value of every field of a message: a whole number, or a view of its bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if not 1 <= number < 2**29:
            raise _MalformedError(f"field number {number}")
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise _MalformedError(f"wire type {wire}")
        if length > len(data) - at:
            raise _MalformedError("a field that ends after its message")
        if wire == 2:
            yield number, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _MalformedError("a number that is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _MalformedError("a number of too many bytes")


def _entry(parts: list[Part]) -> tuple[str, str]:
    """Key and value of a StringStringEntryProto; protobuf would take the last of several."""
    texts = {1: "", 2: ""}
    for number, value in parts:
        if number in texts:
            if texts[number] or not isinstance(value, memoryview):
                raise _MalformedError("a key or value given twice, or as a number")
            texts[number] = value.tobytes().decode("utf-8")
    return texts[1], texts[2]


def _check_names(parts: list[Part]) -> None:
    """Refuses a function in which two values have one name, which ends ONNX Runtime's process."""
    nodes = [
        list(_parts(value)) for n, value in parts if n == _FUNCTION_NODE and isinstance(value, memoryview)
    ]
    made = [value for node in nodes for n, value in node if n == _NODE_OUTPUT]
    names = [
        v.tobytes()
        for v in (*made, *(v for n, v in parts if n == _FUNCTION_INPUT))
        if isinstance(v, memoryview)
    ]
    if len({name for name in names if name}) != sum(map(bool, names)):
        raise _MalformedError("a function in which two values have one name")


def _check_bytes(parts: list[Part]) -> None:
    """Refuses a tensor whose bytes do not fill its shape, which ONNX's shape inference reads all the same."""
    stored = [value for n, value in parts if n == _TENSOR_BYTES and isinstance(value, memoryview)]
    if not stored:
        return
    types = [value for n, value in parts if n == _TENSOR_TYPE and isinstance(value, int)]
    size = _BYTES_OF_TYPE.get(types[-1], 0) if types else 0
    for length in _whole_numbers(parts, _TENSOR_DIMS):
        size *= length
        if size > _MOST_BYTES:
            break
    if size != len(stored[-1]):
        raise _MalformedError(f"a tensor of {len(stored[-1])} bytes where its shape needs {size}")


def _whole_numbers(parts: list[Part], number: int) -> Iterator[int]:
    """Values of a repeated field of whole numbers, each a field of its own or several packed in one."""
    for n, value in parts:
        if n != number:
            continue
        if isinstance(value, int):
            yield value
            continue
        at = 0
        while at < len(value):
            length, at = _varint(value, at)
            yield length


def _external(entries: list[tuple[str, str]]) -> External:
    values = dict(entries)
    if len(values) != len(entries):
        raise _MalformedError("an external tensor with a key twice")
    numbers = [values.get(key, "0") for key in ("offset", "length")]
    if not all(text.isascii() and text.isdigit() and len(text) < 20 for text in numbers):
        raise _MalformedError(f"an external tensor with {', '.join(numbers)} for offset and length")
    return External(values.get("location", ""), int(numbers[0]), int(numbers[1]))


def _last(parts: list[Part], number: int) -> bytes:
    found = [value.tobytes() for n, value in parts if n == number and isinstance(value, memoryview)]
    return found[-1] if found else b""


def _domain(parts: list[Part], number: int) -> bytes:
    """An operator domain; the standard one has two names."""
    found = _last(parts, number)
    return b"" if found == b"ai.onnx" else found


def _count(parts: list[Part], number: int) -> int:
    return sum(n == number for n, _ in parts)
