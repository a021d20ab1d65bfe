"""A Lava bundle on disk: what it says about itself, checked against what its files hold."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy import ir
from snndeploy.errors import FileFormatError, SnnDeployError
from snndeploy.ir.document import parse
from snndeploy.ir.verify import is_certified
from snndeploy.targets.lava.manifest import (
    MANIFEST,
    REMEDY,
    Form,
    count,
    field,
    form_of,
    network_of,
    schedule_of,
)
from snndeploy.targets.lava.stock import check_stock

FORMAT = "snndeploy-lava-bundle"
VERSION = 2
_FILES = {"weights.npz", "samples.npy", "expected.npz"}
_STOCK = "stock/"  # names of the arrays that are no weights of the network
_DAMAGE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError),
    *(EOFError, RuntimeError, zipfile.BadZipFile, zlib.error),  # from archives, encrypted ones included
)


@dataclass(frozen=True, eq=False)
class Bundle:
    """What a bundle says.

    path: Its folder.
    fingerprint: Identifies the network file it was made from; may be empty.
    form: "fused", a process of ours per population, or "stock", Lava's own processes.
    network: What it runs.
    exact: Whether Lava must give the expected spikes bit for bit.
    schedule: When each population updates.
    samples: Number of samples in the bundle.
    """

    path: Path
    fingerprint: str
    form: Form
    network: ir.Network
    exact: bool
    schedule: ir.Schedule
    samples: int

    @property
    def number_format(self) -> str:
        """Name of the number format of its weights."""
        return self.network.format.name

    @property
    def input_shape(self) -> ir.Shape:
        """Shape of what enters at one step."""
        return self.network.graph.shapes[self.network.graph.input]

    @property
    def ports(self) -> tuple[str, ...]:
        """Names of the Lif populations in the order of execution."""
        return self.network.graph.ports

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
        path, network = self.path / "expected.npz", self.network
        try:
            with _load(path) as arrays:
                spikes = {
                    name: unpack_spikes(arrays[f"spikes/{name}"], network.steps, network.graph.shapes[name])
                    for name in self.ports
                }
                found = trace(spikes, arrays["readout_sum"], network.readout)
        except _DAMAGE as error:
            raise FileFormatError(str(path), "does not fit the manifest", got=error, remedy=REMEDY) from error
        sums = (self.samples, *network.graph.shapes[network.graph.output])
        counts = {train.shape[1] for train in spikes.values()} | {self.samples}
        if found.readout_sum.shape != sums or found.readout_sum.dtype != np.float32 or len(counts) > 1:
            raise FileFormatError(str(path), f"must hold results of {self.samples} samples", remedy=REMEDY)
        return found


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
    except FileFormatError:
        raise
    except SnnDeployError as error:
        raise FileFormatError(
            str(path / MANIFEST), "describes what breaks a rule", got=error, remedy=REMEDY
        ) from error
    except _DAMAGE as error:
        rule = "lacks or garbles what a bundle must say"
        raise FileFormatError(str(path / MANIFEST), rule, got=repr(error), remedy=REMEDY) from error


def _read_manifest(path: Path) -> dict[str, Any]:
    where = str(path / MANIFEST)
    try:
        text = _content(path / MANIFEST).decode()
    except OSError as error:
        raise FileFormatError(
            str(path), "is no Lava bundle, as it has no manifest", got=error.strerror
        ) from error
    except UnicodeDecodeError as error:
        raise FileFormatError(where, "is not valid JSON", got=error, remedy=REMEDY) from error
    manifest = parse(text, where)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise FileFormatError(where, "is not the manifest of a Lava bundle")
    if manifest.get("version") != VERSION:
        raise FileFormatError(
            where, f"must have format version {VERSION}", got=manifest.get("version"), remedy=REMEDY
        )
    if manifest.get("checksum") != _checksum(manifest):
        raise FileFormatError(where, "is damaged or was edited: its checksum does not match", remedy=REMEDY)
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
            found = hashlib.sha256(_content(path / name)).hexdigest()
        except OSError as error:
            raise FileFormatError(
                str(path / name), "cannot be read", got=error.strerror, remedy=REMEDY
            ) from error
        if found != expected:
            raise FileFormatError(
                str(path / name),
                "is damaged or was edited: its checksum does not match the manifest's",
                remedy=REMEDY,
            )


def _content(path: Path) -> bytes:
    """What a file holds.

    Raises:
        OSError: It cannot be read, as a pipe or device, which might never end.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no regular file")
    return path.read_bytes()


def _bundle(path: Path, manifest: Mapping[str, Any]) -> Bundle:
    form = form_of(manifest)
    with _load(path / "weights.npz") as arrays:
        every = dict(arrays)
    weights = {name: array for name, array in every.items() if not name.startswith(_STOCK)}
    network = network_of(manifest, weights)
    others = {name: every[name] for name in every.keys() - weights.keys()}
    if form == "stock":
        check_stock(manifest["stock"], network, others)
    elif others:
        raise FileFormatError(
            "weights.npz", "must hold nothing but parameters", got=sorted(others), remedy=REMEDY
        )
    bundle = Bundle(
        path=path,
        fingerprint=field(manifest, "fingerprint", str),
        form=form,
        network=network,
        exact=field(manifest, "exact", bool),
        schedule=schedule_of(manifest, network),
        samples=count(manifest, "samples", 1),
    )
    certified = is_certified(network)
    if bundle.exact != certified:
        raise FileFormatError(
            f"{MANIFEST}, exact", "must say whether the network is certified", remedy=REMEDY
        )
    if isinstance(network.format, ir.Loihi) and not certified:
        raise FileFormatError(str(path), "holds a loihi network without a certificate", remedy=REMEDY)
    _check_samples(bundle)
    return bundle


def _check_samples(bundle: Bundle) -> None:
    stored = _load(bundle.path / "samples.npy")
    shapes = {(bundle.samples, bundle.network.steps, *bundle.input_shape)}
    if bundle.network.input.kind == "image":
        shapes.add((bundle.samples, *bundle.input_shape))
    if stored.dtype != np.float32 or stored.shape not in shapes:
        raise FileFormatError(
            str(bundle.path / "samples.npy"),
            "must hold float32 samples of the network's shape",
            got=f"{stored.dtype} {stored.shape}",
            remedy=REMEDY,
        )
    if not isinstance(bundle.network.format, ir.Float32):
        bundle.network.input.check(stored)


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
        raise FileFormatError(str(path), "cannot be read", got=error, remedy=REMEDY) from error
