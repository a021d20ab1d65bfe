"""What an earlier run left in a run folder, so that no folder ever mixes two runs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.train.checkpoint import differing
from snndeploy.train.config import Config

TEST = "test.json"
TRAINED, FLOAT32, EXACT = "trained.snn.safetensors", "float32.snn.safetensors", "exact.snn.safetensors"
QUANTIZE = "quantize.json"
_CONVERTED = re.compile(r"converted-T[1-9][0-9]*(-exact)?\.snn\.safetensors")
STEP, SEQUENCE = "step.onnx", "sequence.onnx"
BUNDLE = "lava"
VERIFY, ENERGY = "verify.json", "energy.json"

_FACTS = ("config", "files", "test_accuracy")  # of a finished run, among others
# test.json goes first: where it is, everything else is, too.
_FILES = (TEST, TRAINED, FLOAT32, EXACT, QUANTIZE, STEP, SEQUENCE, VERIFY, ENERGY)


def converted(steps: int, *, exact: bool = False) -> str:
    """Name of the spiking network that an ANN was converted to, for so many time steps."""
    return f"converted-T{steps}{'-exact' if exact else ''}.snn.safetensors"


def clear(run_folder: Path) -> None:
    """Removes what an earlier run left beside its configuration, metrics and checkpoint, and nothing else.

    Raises:
        FileFormatError: Something cannot be removed.
    """
    for name in _FILES:
        remove(run_folder / name)
    for path in run_folder.glob("converted-T*"):
        if _CONVERTED.fullmatch(path.name):
            remove(path)
    bundle = run_folder / BUNDLE
    if (bundle / "manifest.json").is_file() and not bundle.is_symlink():
        try:
            shutil.rmtree(bundle)
        except OSError as error:
            raise FileFormatError(str(bundle), "cannot be replaced", got=error.strerror) from error


def remove(path: Path) -> None:
    """Removes a file, if it is there.

    Raises:
        FileFormatError: It cannot be removed, or is a folder.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FileFormatError(str(path), "cannot be replaced", got=error.strerror) from error


def require_replaceable(config: Config, run_folder: Path) -> None:
    """Checks that a run folder holds no finished run of another configuration.

    Raises:
        ConfigError: It does; names the keys that differ.
        FileFormatError: It holds a result that cannot be read.
    """
    found = read_test(run_folder / TEST)
    if found is not None and (keys := differing(config, found["config"])):
        raise ConfigError(
            str(run_folder),
            f"holds a finished run of another configuration, which differs in {', '.join(keys)}",
            remedy="choose another folder, or replace the run with --overwrite",
        )


def read_test(path: Path) -> dict[str, Any] | None:
    """What a finished run came to, its configuration among it; None if it is not finished.

    Raises:
        FileFormatError: The file is damaged.
    """
    remedy = "delete it and resume again, or replace the run with --overwrite"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(str(path), "cannot be read", got=error, remedy=remedy) from None
    whole = isinstance(found, dict) and set(_FACTS) <= set(found)
    if not whole or not isinstance(found["config"], dict) or not isinstance(found["files"], list):
        raise FileFormatError(str(path), "holds no result of a run", remedy=remedy)
    result: dict[str, Any] = found
    return result
