"""Files that are damaged, edited or of another kind: each is refused with its reason."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from snndeploy.errors import FileFormatError, GraphError, NetworkError, SnnDeployError
from snndeploy.ir import (
    Network,
    load,
    save,
)
from snndeploy.ir.document import network_from_json, parse
from tests.ir.small_files import Arrays, assert_same, exact, fresh, tiny, unpack, write


@pytest.mark.parametrize("make", [tiny, exact])
def test_truncated_files(make: Callable[[], Network], tmp_path: Path) -> None:
    """Cut at every 97th byte and at each of the last."""
    path = tmp_path / "n"
    save(make(), path)
    whole = path.read_bytes()
    assert len(whole) > 97 * 5
    for length in [*range(0, len(whole), 97), *range(len(whole) - 9, len(whole))]:
        fresh(path, whole[:length])
        with pytest.raises(FileFormatError):
            load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(FileFormatError):
        load(path)
    path.write_bytes(whole)
    assert_same(load(path), make())


def test_a_flipped_bit_anywhere(tmp_path: Path) -> None:
    """One bit of every byte, header and arrays."""
    path = tmp_path / "n"
    save(exact(), path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place * 5 % 8)
        fresh(path, damaged)
        with pytest.raises(FileFormatError):
            load(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"kind": "snndeploy-something"}, "is not a network file of snndeploy"),
        ({"version": "2"}, "must have format version 1, got '2'; use the snndeploy that wrote it"),
        ({"version": ""}, "must have format version 1"),
        ({"sha256": "0" * 64}, "its checksum does not match"),
        ({"document": "{}"}, "its checksum does not match"),
    ],
)
def test_other_kinds_and_versions(metadata: dict[str, str], message: str, tmp_path: Path) -> None:
    """Another kind is told from another version and from damage."""
    save(tiny(), tmp_path / "n")
    write(tmp_path / "n", *unpack(tmp_path / "n"), metadata)
    with pytest.raises(FileFormatError, match=message) as caught:
        load(tmp_path / "n")
    assert caught.value.where == str(tmp_path / "n")
    assert caught.value.remedy


def test_files_of_other_programs(tmp_path: Path) -> None:
    """Plain safetensors without metadata, text, nothing at all, a folder, and no file."""
    path = tmp_path / "n"
    path.write_bytes(safetensors.numpy.save({"a": np.ones(3)}))
    with pytest.raises(FileFormatError, match="is not a network file"):
        load(path)
    for content in (b"", b"{}", b"\xff" * 64, b"PK\x03\x04" + bytes(100), (2**62).to_bytes(8, "little")):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=r"is not a whole network file|cannot be read"):
            load(path)
    with pytest.raises(FileFormatError, match=r"cannot be read|is not a whole network file") as caught:
        load(tmp_path)
    assert caught.value.where == str(tmp_path)
    with pytest.raises(FileFormatError, match="does not exist"):
        load(tmp_path / "missing")
    with pytest.raises(FileFormatError, match=r"does not exist|cannot be read"):
        load(path / "below-a-file")


def set_at(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one value."""

    def change(document: dict[str, Any]) -> None:
        node: Any = document
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = to

    return change


OPS = ("graph", "ops")
EDITS: list[tuple[Callable[[dict[str, Any]], Any], type[SnnDeployError], str]] = [
    (
        set_at(*OPS, 2, "type", to="Spike"),
        FileFormatError,
        "op 'a': is of an unknown type, got 'Spike'; known are",
    ),
    (set_at(*OPS, 2, "type", to=["Lif"]), FileFormatError, "unknown type"),
    (set_at(*OPS, 2, "type", to=None), FileFormatError, "unknown type"),
    (set_at(*OPS, 2, "decay", to=0.5), FileFormatError, "a Lif has the fields"),
    (lambda d: d["graph"]["ops"][2].pop("tau"), FileFormatError, "a Lif has the fields"),
    (lambda d: d["graph"]["ops"][2].pop("name"), FileFormatError, "each op must be an object with a name"),
    (set_at(*OPS, 2, to="Lif"), FileFormatError, "each op must be an object with a name"),
    (set_at(*OPS, 2, "tau", to="0.5"), GraphError, "op 'a', a Lif: tau must lie in"),
    (set_at(*OPS, 2, "tau", to=True), GraphError, "tau must lie in"),
    (set_at(*OPS, 2, "tau", to=10**300), GraphError, "tau must lie in"),
    (set_at(*OPS, 2, "tau", to={"a": []}), GraphError, "tau must lie in"),
    (set_at(*OPS, 1, "in_features", to=10**30), GraphError, "op 'fc', a Linear: in_features must be"),
    (set_at(*OPS, 1, "in_features", to=2.0), GraphError, "in_features must be a whole number"),
    (set_at(*OPS, 1, "bias", to=1), GraphError, "bias must be true or false"),
    (set_at(*OPS, 0, "shape", to=2), GraphError, "op 'in', a Input: shape must be"),
    (set_at(*OPS, 0, "shape", to=[[2]]), GraphError, "shape must be a whole number"),
    (set_at(*OPS, 0, "shape", to=[3]), GraphError, "Linear takes"),
    (set_at(*OPS, 0, "name", to="a"), FileFormatError, "op 'a': a name may stand only once"),
    (set_at(*OPS, 0, "name", to="\ud800"), GraphError, "letters, digits"),
    (set_at("graph", "ops", to={}), FileFormatError, "ops: must be a list"),
    (set_at("graph", "edges", 0, to=["in", "fc"]), FileFormatError, "source, target, delay"),
    (set_at("graph", "edges", 0, to=[["in"], "fc", 0]), FileFormatError, "source, target, delay"),
    (set_at("graph", "edges", 0, to=["in", "cf", 0]), GraphError, "names 'cf', which is no op"),
    (set_at("graph", "edges", 0, to=["in", "\ud800", 0]), GraphError, "which is no op"),
    (set_at("graph", "edges", 3, to=["a", "a", 0]), GraphError, "cycle a -> a"),
    (set_at("graph", "edges", 3, to=["a", "fc", 0]), GraphError, "cycle"),
    (set_at("graph", "edges", 3, to=["a", "a", 0.5]), GraphError, "delay must be"),
    (set_at("graph", "edges", 3, to=["a", "a", 3]), NetworkError, "never acts within 3 time steps"),
    (set_at("graph", "edges", to=[]), GraphError, "in: must lead to the Output"),
    (set_at("graph", "extra", to=[]), FileFormatError, "graph: must be an object with the fields"),
    (set_at("graph", to=None), FileFormatError, "graph: must be an object"),
    (set_at("steps", to=1e9), NetworkError, "steps: must be"),
    (set_at("steps", to=10**4000), NetworkError, "steps: must be"),
    (set_at("steps", to="3"), NetworkError, "steps: must be"),
    (set_at("steps", to=True), NetworkError, "steps: must be"),
    (set_at("readout", to=4), NetworkError, "readout: must lie in"),
    (set_at("readout", to=[]), NetworkError, "readout: must be"),
    (set_at("format", to="int4"), FileFormatError, "format: must be 'float32', 'exact' or 'loihi'"),
    (set_at("format", to="exact"), NetworkError, "exponents must name"),
    (set_at("format", to=[]), FileFormatError, "format: must be"),
    (set_at("classes", to="ab"), FileFormatError, "classes: must be a list"),
    (set_at("classes", to=[1, 2]), FileFormatError, "classes: must be a list of names"),
    (set_at("classes", to=["a"]), NetworkError, "must name 2 classes"),
    (set_at("input", "divisor", to=10**400), NetworkError, "divisor must be finite"),
    (set_at("input", "mean", to=5), NetworkError, "mean must be a tuple"),
    (set_at("input", "mean", to={}), NetworkError, "mean must be a tuple"),
    (set_at("input", "std", to=None), NetworkError, "std must be a tuple"),
    (set_at("input", "kind", to=[]), NetworkError, "kind must be"),
    (set_at("input", "scale", to=1), FileFormatError, "input: must be an object with the fields"),
    (set_at("input", to=[]), FileFormatError, "input: must be an object with the fields"),
    (set_at("extra", to=1), FileFormatError, "network: must be an object with the fields"),
    (lambda d: d.pop("steps"), FileFormatError, "network: must be an object with the fields"),
]


@pytest.mark.parametrize("case", range(len(EDITS)))
def test_edited_documents_with_a_right_checksum(case: int, tmp_path: Path) -> None:
    """Each says what is wrong, under one of our own errors, and can be printed."""
    change, kind, message = EDITS[case]
    save(tiny(), tmp_path / "n")
    document, arrays = unpack(tmp_path / "n")
    change(document)
    write(tmp_path / "n", document, arrays)
    with pytest.raises(kind, match=message) as caught:
        load(tmp_path / "n")
    assert str(caught.value).encode()
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        "{} {}",
        '{"steps": NaN}',
        '{"steps": -Infinity}',
        '{"steps": ' + "9" * 5000 + "}",
        "[" * 100_000,
        '{"graph": "\ud800"}',
        '{"graph": "\\ud800"}',
    ],
    ids=lambda text: text[:20],
)
def test_documents_that_are_no_json_of_ours(text: str, tmp_path: Path) -> None:
    """Broken JSON, NaN, endless digits, nesting up to and beyond what Python can read."""
    path = tmp_path / "n"
    try:
        write(path, text, {"fc.bias": np.ones(2, np.float32)})
    except UnicodeEncodeError:
        with pytest.raises(FileFormatError):
            network_from_json(parse(text, "text"), {}, {})
        return
    with pytest.raises(FileFormatError):
        load(path)


def readable(depth: int) -> bool:
    """Whether Python can read lists nested so deeply."""
    try:
        json.loads("[" * depth + "]" * depth)
    except RecursionError:
        return False
    return True


@pytest.mark.parametrize(
    "change",
    [
        ('"steps": 3', '"steps": @'),
        ('"tau": 0.5', '"tau": @'),
        ('"a", "a", 1', '"a", "a", @'),
        ('"type": "Lif"', '"type": @'),
        ('"divisor": 1.0', '"divisor": @'),
        ('"classes": ["no", "yes"]', '"classes": [@, "yes"]'),
        ('"format": "float32"', '"format": @'),
    ],
    ids=lambda change: change[1],
)
def test_values_nested_as_deeply_as_can_be_read(change: tuple[str, str], tmp_path: Path) -> None:
    """Naming a value in a message needs a little more depth than reading it; that is an error of ours too."""
    save(tiny(), tmp_path / "n")
    document, arrays = unpack(tmp_path / "n")
    text = json.dumps(document)
    assert change[0] in text
    deepest = 1
    while readable(deepest * 2) and deepest < 100_000:
        deepest *= 2
    for bit in reversed(range(deepest.bit_length())):
        deepest += (1 << bit) * readable(deepest + (1 << bit))
    for depth in range(max(1, deepest - 60), deepest + 2):
        write(
            tmp_path / "n", text.replace(change[0], change[1].replace("@", "[" * depth + "]" * depth)), arrays
        )
        with pytest.raises(SnnDeployError):
            load(tmp_path / "n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("fc.bias"), "belongs to no array"),
        (lambda a: a.pop("fc.bias/exponent"), "exponents must name exactly"),
        (lambda a: [a.pop("fc.bias/exponent"), a.pop("fc.bias")], "missing .'fc.bias'."),
        (lambda a: a.update({"fc.bias": a["fc.bias"].astype(np.int64)}), "must be float32, int8 or int32"),
        (lambda a: a.update({"fc.bias": a["fc.bias"].astype(np.float64)}), "must be float32, int8 or int32"),
        (lambda a: a.update({"fc.bias": a["fc.bias"][:, None]}), "must have shape"),
        (lambda a: a.update({"fc.bias": np.array(1, np.int32)}), "needs one int8 exponent"),
        (lambda a: a.update({"fc.bias": np.zeros((0,), np.int32)}), "needs one int8 exponent"),
        (lambda a: a.update({"fc.bias/exponent": np.zeros(3, np.int8)}), "needs one int8 exponent"),
        (lambda a: a.update({"fc.bias/exponent": np.zeros(2, np.int32)}), "needs one int8 exponent"),
        (lambda a: a.update({"fc.bias/exponent": np.full(2, -65, np.int8)}), "exponents in"),
        (lambda a: a.update({"fc.bias/exponent": np.full(2, -128, np.int8)}), "must hold finite numbers"),
        (lambda a: a.update({"fc.weight/exponent": np.full(2, 127, np.int8)}), "exponents in"),
        (lambda a: a.update({"fc.weight": np.full((2, 2), -128, np.int8)}), "below 128 in size"),
        (lambda a: a.update({"fc.bias": np.full(2, 2**31 - 1, np.int32)}), "below 16777217 in size"),
        (lambda a: a.update({"fc.bias": np.full(2, np.nan, np.float32)}), "finite"),
        (lambda a: a.update({"extra": np.ones(1, np.float32)}), "unknown .'extra'."),
    ],
)
def test_edited_arrays_with_a_right_checksum(
    change: Callable[[Arrays], Any], message: str, tmp_path: Path
) -> None:
    """Types, shapes, exponents and mantissas are checked, and overflow is no warning but an error of ours."""
    save(exact(), tmp_path / "n")
    document, arrays = unpack(tmp_path / "n")
    change(arrays)
    write(tmp_path / "n", document, arrays)
    with pytest.raises(SnnDeployError, match=message):
        load(tmp_path / "n")


def test_huge_shapes_are_refused_without_memory(tmp_path: Path) -> None:
    """A document of a few bytes cannot make the reader allocate what it claims."""
    save(tiny(), tmp_path / "n")
    document, arrays = unpack(tmp_path / "n")
    huge = 2**31 - 1
    fc = {"name": "fc", "type": "Linear", "in_features": huge, "out_features": huge, "bias": True}
    document["graph"]["ops"][:2] = [{"name": "in", "type": "Input", "shape": [huge]}, fc]
    document["classes"] = []
    write(tmp_path / "n", document, arrays)
    tracemalloc.start()
    try:
        with pytest.raises(NetworkError, match="must have shape"):
            load(tmp_path / "n")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


# fmt: off
