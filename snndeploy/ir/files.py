"""One file holds a network: safetensors for the arrays, JSON in its metadata for everything else.

Nothing in a file can execute code. A checksum over all of it tells a damaged file from a good one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from snndeploy.errors import FileFormatError, SnnDeployError
from snndeploy.ir.document import network_from_json, network_to_json, parse
from snndeploy.ir.formats import Float32, mantissa
from snndeploy.ir.network import Network

KIND = "snndeploy-network"
VERSION = "1"
SUFFIX = ".snn.safetensors"
_EXPONENT = "/exponent"  # '/' cannot stand in an op's name

Arrays = Mapping[str, npt.NDArray[Any]]


def save(network: Network, path: Path | str) -> None:
    """Writes a network to a file, whole or not at all.

    Except in float32, weights are stored as int8, biases as int32, each with its exponents.

    Raises:
        FileFormatError: The file cannot be written.
    """
    document, arrays = _packed(network)
    metadata = {"kind": KIND, "version": VERSION, "document": document, "sha256": _digest(document, arrays)}
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(_in_order(safetensors.numpy.save(dict(arrays), metadata)))


def load(path: Path | str) -> Network:
    """Reads a network from a file.

    Raises:
        FileFormatError: The file is missing, damaged, of another kind or another version.
        SnnDeployError: What it describes breaks a rule of graphs or networks.
    """
    path = Path(path)
    metadata, arrays = _read(path)
    if metadata.get("kind") != KIND:
        raise FileFormatError(
            str(path), "is not a network file of snndeploy", remedy=f"expected a file written as *{SUFFIX}"
        )
    if metadata.get("version") != VERSION:
        raise FileFormatError(
            str(path),
            f"must have format version {VERSION}",
            got=repr(metadata.get("version")),
            remedy="use the snndeploy that wrote it",
        )
    document = metadata.get("document", "")
    if metadata.get("sha256") != _digest(document, arrays):
        raise FileFormatError(
            str(path),
            "is damaged or was edited: its checksum does not match",
            remedy="export or copy it again",
        )
    weights, exponents = _unpacked(path, arrays)
    try:
        return network_from_json(parse(document, str(path)), weights, exponents)
    except RecursionError:  # while naming a value nested almost too deeply to be read
        raise FileFormatError(str(path), "is nested too deeply") from None


def fingerprint(network: Network) -> str:
    """SHA-256 of a network's structure, settings and weights, in hexadecimal."""
    return _digest(*_packed(network))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well and vanishes otherwise.

    Raises:
        FileFormatError: The folder is missing or cannot be written.
    """
    # os.path answers for a name that is too long, too, where pathlib raises
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113
        raise FileFormatError(
            str(path), "cannot be written, as it is no regular file", remedy="choose another path"
        )
    try:
        handle, name = mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    except OSError as error:
        raise FileFormatError(
            str(path),
            "cannot be written",
            got=error.strerror,
            remedy="choose a folder that exists and is writable",
        ) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp makes it private
        temporary.replace(path)
    except OSError as error:
        raise FileFormatError(str(path), "cannot be written", got=error.strerror) from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all.

    Raises:
        FileFormatError: It cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _in_order(content: bytes) -> bytes:
    """The same safetensors file with its metadata sorted, so that equal networks make equal files."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the arrays stay aligned
    return len(text).to_bytes(8, "little") + text + content[end:]


def _packed(network: Network) -> tuple[str, Arrays]:
    document = json.dumps(network_to_json(network), separators=(",", ":"), allow_nan=False)
    if isinstance(network.format, Float32):
        return document, network.weights
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, array in network.weights.items():
        exponents = network.format.exponents[name]
        kind = np.int8 if name.endswith(".weight") else np.int32
        arrays[name] = mantissa(array, exponents).astype(kind)
        arrays[name + _EXPONENT] = np.asarray(exponents, np.int8)
    return document, arrays


def _unpacked(path: Path, arrays: Arrays) -> tuple[Arrays, dict[str, tuple[int, ...]]]:
    exponents: dict[str, tuple[int, ...]] = {}
    weights: dict[str, npt.NDArray[Any]] = {}
    for name, array in arrays.items():
        if name.endswith(_EXPONENT):
            if name.removesuffix(_EXPONENT) not in arrays:
                raise FileFormatError(f"{path}: {name}", "belongs to no array")
            continue
        if array.dtype not in (np.float32, np.int8, np.int32):
            raise FileFormatError(f"{path}: {name}", "must be float32, int8 or int32", got=array.dtype)
        grid = arrays.get(name + _EXPONENT)
        if grid is None:
            weights[name] = array
            continue
        if grid.ndim != 1 or grid.dtype != np.int8 or array.ndim < 1 or grid.shape != array.shape[:1]:
            raise FileFormatError(f"{path}: {name}", "needs one int8 exponent for each output channel")
        exponents[name] = tuple(int(k) for k in grid)
        scale = np.exp2(-grid.astype(np.float64)).reshape(-1, *(1,) * (array.ndim - 1))
        with np.errstate(over="ignore"):  # a Network refuses infinities
            weights[name] = (array * scale).astype(np.float32)
    return weights, exponents


def _read(path: Path) -> tuple[dict[str, str], Arrays]:
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            return dict(metadata), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise FileFormatError(str(path), "does not exist") from None
    except SnnDeployError:
        raise
    except OSError as error:
        raise FileFormatError(str(path), "cannot be read", got=error.strerror or str(error)) from None
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, MemoryError) as error:
        raise FileFormatError(str(path), "is not a whole network file", got=str(error)) from None


def _digest(document: str, arrays: Arrays) -> str:
    digest = hashlib.sha256(document.encode("utf-8", "surrogatepass"))
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}:{array.dtype.str}:{array.shape}".encode("utf-8", "surrogatepass"))
        digest.update(array.tobytes())
    return digest.hexdigest()
