"""Checkpoints: one file with everything that a training run needs to go on as if it had not been stopped.

Tensors are stored as safetensors, everything else as JSON in the metadata. Nothing in a file can execute
code, and a checksum over all of it tells a damaged file from a good one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.ir.files import replacing
from snndeploy.train.config import Config
from snndeploy.train.metrics import METRICS_FILE

CHECKPOINT_FILE = "checkpoint.safetensors"
FINE_TUNING_FILE = "fine-tuning.safetensors"
_KIND = "snndeploy-checkpoint"
_VERSION = "1"
_AGAIN = "train again without resuming, or put back an undamaged copy"
_FREE = frozenset(  # these may differ: they decide where files are and when they are written, no result
    {
        "data.folder",
        "data.download",
        "data.url",
        "checkpoint_batches",
        "checkpoint_seconds",
        "tensorboard",
    }
)

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a training run.

    config: The resolved configuration, as JSON values.
    state: Everything else that is no array, as JSON values.
    arrays: By name.
    sha256: Of all this, if it was read from a file.
    """

    config: Mapping[str, Any]
    state: Mapping[str, Any]
    arrays: Arrays
    sha256: str = ""


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Writes a checkpoint in place of the one before, whole or not at all, whenever the process is killed.

    Raises:
        FileFormatError: The file cannot be written.
    """
    values = {"config": checkpoint.config, "state": checkpoint.state}
    document = json.dumps(values, separators=(",", ":"), allow_nan=False)
    metadata = {
        "kind": _KIND,
        "version": _VERSION,
        "document": document,
        "sha256": _digest(document, checkpoint.arrays),
    }
    data = safetensors.numpy.save(dict(checkpoint.arrays), metadata)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # or a power failure after the renaming could leave an empty file


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        FileFormatError: The file is missing, damaged, of another kind or another version.
    """
    metadata, arrays = _read(path)
    if metadata.get("kind") != _KIND:
        raise FileFormatError(str(path), "is not a checkpoint of snndeploy", remedy=_AGAIN)
    if metadata.get("version") != _VERSION:
        raise FileFormatError(
            str(path),
            f"must have format version {_VERSION}",
            got=repr(metadata.get("version")),
            remedy="resume with the snndeploy that wrote it",
        )
    document = metadata.get("document", "")
    if metadata.get("sha256") != (digest := _digest(document, arrays)):
        raise FileFormatError(str(path), "is damaged: its checksum does not match", remedy=_AGAIN)
    try:
        values = json.loads(document)
        return Checkpoint(dict(values["config"]), dict(values["state"]), arrays, digest)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FileFormatError(str(path), "holds no training run", got=error, remedy=_AGAIN) from error


def sweep(run_folder: Path) -> None:
    """Removes what processes of this run that were killed while writing a file left in the run folder."""
    for name in (CHECKPOINT_FILE, FINE_TUNING_FILE, METRICS_FILE, "config.toml"):
        for path in run_folder.glob(f".{name}.*"):
            path.unlink(missing_ok=True)


def as_json(config: Config) -> dict[str, Any]:
    """A configuration as it looks after a round trip through JSON."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), allow_nan=False))
    return values


def require_same(config: Config, earlier: Mapping[str, Any], where: str) -> None:
    """Checks that a run may be gone on with under a configuration.

    Args:
        config: What is asked for now.
        earlier: What the run was started with, as JSON values.
        where: What holds it, for the message.

    Raises:
        ConfigError: They differ; names the keys and both values.
    """
    if keys := differing(config, earlier):
        now, before = dict(_flat(as_json(config))), dict(_flat(_completed(earlier)))
        raise ConfigError(
            ", ".join(keys),
            f"cannot be changed in a run that is resumed: {where} has "
            + ", ".join(f"{key} = {json.dumps(before.get(key))}" for key in keys),
            got=", ".join(json.dumps(now.get(key)) for key in keys),
            remedy="resume with the same configuration, or train in another folder",
        )


def differing(config: Config, earlier: Mapping[str, Any]) -> list[str]:
    """Keys in which a configuration is another than an earlier one, apart from those that decide no result.

    Args:
        config: What is asked for now.
        earlier: As JSON values. A key that it lacks, as it was added since, has its default.
    """
    now, before = dict(_flat(as_json(config))), dict(_flat(_completed(earlier)))
    missing = object()
    return [
        key
        for key in {**before, **now}
        if key not in _FREE and now.get(key, missing) != before.get(key, missing)
    ]


def _completed(earlier: Mapping[str, Any]) -> Mapping[str, Any]:
    """A configuration of this or an older version with all keys of this one; as it is if it is no such one."""
    try:
        return as_json(Config.from_mapping(earlier))
    except ConfigError:
        return earlier


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _read(path: Path) -> tuple[dict[str, str], Arrays]:
    try:
        with safe_open(path, framework="np") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise FileFormatError(str(path), "does not exist", remedy="train without resuming") from None
    except OSError as error:
        raise FileFormatError(str(path), "cannot be read", got=error.strerror or str(error)) from None
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, MemoryError) as error:
        raise FileFormatError(str(path), "is no whole checkpoint", got=str(error), remedy=_AGAIN) from None


def _digest(document: str, arrays: Arrays) -> str:
    digest = hashlib.sha256(document.encode("utf-8", "surrogatepass"))
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}:{array.dtype.str}:{array.shape}".encode("utf-8", "surrogatepass"))
        digest.update(array.tobytes())
    return digest.hexdigest()
