"""A Lava bundle on disk: what it says about itself, checked against what its files hold."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy import ir
from snndeploy.errors import FileFormatError, SnnDeployError
from snndeploy.ir.document import input_from_json, parse

FORMAT = "snndeploy-lava-bundle"
VERSION = 1
MANIFEST = "manifest.json"
_FILES = {"weights.npz", "samples.npy", "expected.npz"}
_ENDS = ("Input", "Output")
_REMEDY = "export the network again"
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Bundle:
    """What a bundle says.

    path: Its folder.
    fingerprint: Identifies the network file it was made from; may be empty.
    number_format: Name of the number format of its weights.
    exact: Whether Lava must give the expected spikes bit for bit.
    steps: Logical time steps T of one sample.
    readout: The readout sums the last `readout` steps.
    schedule: When each population updates.
    input: How raw data becomes input.
    types: "Input", "Lif" or "Output" for each population, by name, in the order of execution.
    shapes: Shape of each population, by name.
    samples: Number of samples in the bundle.
    """

    path: Path
    fingerprint: str
    number_format: str
    exact: bool
    steps: int
    readout: int
    schedule: ir.Schedule
    input: ir.InputSpec
    types: Mapping[str, str]
    shapes: Mapping[str, ir.Shape]
    samples: int

    @property
    def input_shape(self) -> ir.Shape:
        """Shape of what enters at one step."""
        return next(self.shapes[name] for name, kind in self.types.items() if kind == "Input")

    @property
    def ports(self) -> tuple[str, ...]:
        """Names of the Lif populations in the order of execution."""
        return tuple(name for name, kind in self.types.items() if kind == "Lif")

    @property
    def inputs(self) -> npt.NDArray[np.float32]:
        """The samples as `ir.run` takes them: (batch, *shape) for images or (time, batch, *shape).

        Raises:
            FileFormatError: The file cannot be read.
        """
        stored: npt.NDArray[np.float32] = _load(self.path / "samples.npy")
        return stored if stored.ndim == 1 + len(self.input_shape) else np.moveaxis(stored, 0, 1)

    @cached_property
    def expected(self) -> ir.Trace:
        """What the reference interpreter did on the samples.

        Raises:
            FileFormatError: The file cannot be read or does not fit the manifest.
        """
        path = self.path / "expected.npz"
        try:
            with _load(path) as arrays:
                spikes = {
                    name: unpack_spikes(arrays[f"spikes/{name}"], self.steps, self.shapes[name])
                    for name in self.ports
                }
                return trace(spikes, arrays["readout_sum"], self.readout)
        except _DAMAGE as error:
            raise FileFormatError(
                str(path), "does not fit the manifest", got=error, remedy=_REMEDY
            ) from error


def read(path: str | os.PathLike[str]) -> Bundle:
    """Reads and checks a bundle.

    Args:
        path: Its folder.

    Raises:
        FileFormatError: It is no bundle, of another version, incomplete, or was changed after it was written.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    try:
        _check_files(path, manifest["files"])
        return _bundle(path, manifest)
    except SnnDeployError:
        raise
    except _DAMAGE as error:
        rule = "lacks or garbles what a bundle must say"
        raise FileFormatError(str(path / MANIFEST), rule, got=repr(error), remedy=_REMEDY) from error


def _read_manifest(path: Path) -> dict[str, Any]:
    where = str(path / MANIFEST)
    try:
        text = (path / MANIFEST).read_text(encoding="utf-8")
    except OSError as error:
        raise FileFormatError(
            str(path), "is no Lava bundle, as it has no manifest", got=error.strerror
        ) from error
    except UnicodeDecodeError as error:
        raise FileFormatError(where, "is not valid JSON", got=error, remedy=_REMEDY) from error
    manifest = parse(text, where)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise FileFormatError(where, "is not the manifest of a Lava bundle")
    if manifest.get("version") != VERSION:
        raise FileFormatError(
            where, f"must have format version {VERSION}", got=manifest.get("version"), remedy=_REMEDY
        )
    if manifest.get("checksum") != _checksum(manifest):
        raise FileFormatError(where, "is damaged or was edited: its checksum does not match", remedy=_REMEDY)
    return manifest


def _checksum(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest without its own `checksum`, as compact JSON with sorted keys."""
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _check_files(path: Path, files: Mapping[str, str]) -> None:
    if set(files) != _FILES:
        raise FileFormatError(
            str(path / MANIFEST), f"must name the files {', '.join(sorted(_FILES))}", got=sorted(files)
        )
    for name, expected in files.items():
        try:
            found = hashlib.sha256((path / name).read_bytes()).hexdigest()
        except OSError as error:
            raise FileFormatError(
                str(path / name), "cannot be read", got=error.strerror, remedy=_REMEDY
            ) from error
        if found != expected:
            raise FileFormatError(
                str(path / name),
                "is damaged or was edited: its checksum does not match the manifest's",
                remedy=_REMEDY,
            )


def _bundle(path: Path, manifest: Mapping[str, Any]) -> Bundle:
    populations = _objects(manifest, "populations")
    for population in populations:
        _check_population(population)
    kinds = [p["type"] for p in populations]
    if len({p["name"] for p in populations}) != len(kinds) or [kinds.count(k) for k in _ENDS] != [1, 1]:
        raise FileFormatError("populations", "must have names of their own, one Input and one Output")
    return Bundle(
        path=path,
        fingerprint=_field(manifest, "fingerprint", str),
        number_format=_field(manifest, "number_format", str),
        exact=_field(manifest, "exact", bool),
        steps=_count(manifest, "steps", 1),
        readout=_count(manifest, "readout", 1),
        schedule=_schedule(_field(manifest, "schedule", dict), populations),
        input=input_from_json(manifest["input"]),
        types={p["name"]: p["type"] for p in populations},
        shapes={p["name"]: tuple(p["shape"]) for p in populations},
        samples=_count(manifest, "samples", 1),
    )


def _schedule(timing: Mapping[str, Any], populations: list[dict[str, Any]]) -> ir.Schedule:
    return ir.Schedule(
        name=_field(timing, "name", str),
        initiation_interval=_count(timing, "initiation_interval", 1),
        start={p["name"]: p["start"] for p in populations},
        waits={
            ir.Synapse(arrival["source"], p["name"], arrival["delay"]): arrival["wait"]
            for p in populations
            for arrival in p["arrivals"]
            if arrival["wait"]
        },
        gap=_count(timing, "gap", 0),
    )


def _check_population(population: Mapping[str, Any]) -> None:
    """Raises FileFormatError unless everything that is read of a population, here or by Lava, has its type."""
    _field(population, "name", str)
    if _field(population, "type", str) not in ("Lif", *_ENDS):
        raise FileFormatError("population", "must be an Input, a Lif or an Output", got=population["type"])
    for name in ("tau", "threshold") if population["type"] == "Lif" else ():
        _field(population, name, float, int)
    _shape(population)
    _count(population, "start", 0)
    program = _objects(population, "program")
    for step in program:
        _field(step, "name", str)
        _field(step, "type", str)
    arrivals = _objects(population, "arrivals")
    for arrival in arrivals:
        _shape(arrival)
        _count(arrival, "wait", 0)
    sources = [source for entry in (population, *program) for source in _objects(entry, "sources")]
    for edge in (*arrivals, *sources):
        _field(edge, "source", str)
        _count(edge, "delay", 0)


def _field(entry: Mapping[str, Any], name: str, *types: type) -> Any:
    """One entry of a JSON object; True is no number."""
    value = entry[name]
    if type(value) not in types:
        raise FileFormatError(
            f"{MANIFEST}, {name}",
            f"must be of type {' or '.join(t.__name__ for t in types)}",
            got=repr(value),
            remedy=_REMEDY,
        )
    return value


def _count(entry: Mapping[str, Any], name: str, least: int) -> int:
    value: int = _field(entry, name, int)
    if value < least:
        raise FileFormatError(f"{MANIFEST}, {name}", f"must be at least {least}", got=value, remedy=_REMEDY)
    return value


def _objects(entry: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = _field(entry, name, list)
    if not all(isinstance(value, dict) for value in values):
        raise FileFormatError(f"{MANIFEST}, {name}", "must be a list of objects", remedy=_REMEDY)
    return values


def _shape(entry: Mapping[str, Any]) -> None:
    sizes = _field(entry, "shape", list)
    if not sizes or not all(type(size) is int and size > 0 for size in sizes):
        raise FileFormatError(f"{MANIFEST}, shape", "must hold positive sizes", got=sizes, remedy=_REMEDY)


def unpack_spikes(packed: npt.NDArray[np.uint8], steps: int, shape: ir.Shape) -> npt.NDArray[np.bool_]:
    """Spikes (time, batch, *shape) from bit-packed rows, one for each sample and step, (batch * time, bytes)."""
    bits = np.unpackbits(packed, axis=1, count=int(np.prod(shape)))
    return np.moveaxis(bits.reshape(-1, steps, *shape), 0, 1).astype(np.bool_)


def trace(
    spikes: Mapping[str, npt.NDArray[np.bool_]],
    readout_sum: npt.NDArray[np.float32],
    readout: int,
    potentials: Mapping[str, npt.NDArray[np.float32]] | None = None,
) -> ir.Trace:
    """A Trace whose logits are the readout sums (batch, classes) divided by the readout window."""
    return ir.Trace(spikes, readout_sum, readout_sum / np.float32(readout), potentials or {})


def _load(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except _DAMAGE as error:
        raise FileFormatError(str(path), "cannot be read", got=error, remedy=_REMEDY) from error
