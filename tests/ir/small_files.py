"""Small network files, taken apart and put together again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import safetensors.numpy
from safetensors import safe_open

from snndeploy.ir import (
    Input,
    InputSpec,
    Lif,
    Network,
    Op,
    Output,
    fingerprint,
    quantize,
)
from snndeploy.ir import files as module
from tests.ir.graphs import linear, random_input, random_network, wired

Arrays = dict[str, npt.NDArray[Any]]


def assert_same(a: Network, b: Network) -> None:
    """Equal in every field and every bit."""
    assert a.graph == b.graph
    assert (a.steps, a.readout, a.input, a.format, a.classes) == (
        b.steps,
        b.readout,
        b.input,
        b.format,
        b.classes,
    )
    assert list(a.weights) == list(b.weights)
    for name, array in a.weights.items():
        assert array.tobytes() == b.weights[name].tobytes(), name
        assert array.shape == b.weights[name].shape
    assert fingerprint(a) == fingerprint(b)


def tiny() -> Network:
    """Graph: in (2) -> fc -> a -> out, a -(1)-> a, with class names."""
    ops: dict[str, Op] = {"in": Input(shape=(2,)), "fc": linear(2, 2, bias=True), "a": Lif(), "out": Output()}
    spec = InputSpec(mean=(0.5,), std=(2.0,), grid_bits=4, low=-1.0)
    graph = wired(ops, "in fc a out", "a ~1 a")
    return random_network(graph, steps=3, readout=2, input=spec, classes=("no", "yes"))


def exact() -> Network:
    """The same in the exact format."""
    network = tiny()
    return quantize(network, random_input(network)).network


def unpack(path: Path) -> tuple[dict[str, Any], Arrays]:
    """The document and the arrays of a file."""
    with safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return json.loads(file.metadata()["document"]), arrays


def write(path: Path, document: Any, arrays: Arrays, metadata: Mapping[str, str] | None = None) -> None:
    """A file with a right checksum, whatever it says; a text is taken as the document itself."""
    text = document if isinstance(document, str) else json.dumps(document)
    own = {"kind": module.KIND, "version": module.VERSION, "document": text}
    own["sha256"] = module._digest(text, arrays)
    fresh(path, safetensors.numpy.save(arrays, {**own, **(metadata or {})}))


def fresh(path: Path, content: bytes | bytearray) -> None:
    """Writes a new file; to overwrite one can take a file system a hundred times longer."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
