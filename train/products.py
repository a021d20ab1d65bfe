"""What an earlier run left in a run folder, so that no folder ever mixes two runs."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.train.checkpoint import differing
from snndeploy.train.config import Config

TEST = "test.json"
TRAINED, FLOAT32, EXACT = "trained.snn.safetensors", "float32.snn.safetensors", "exact.snn.safetensors"
FINE_TUNED = "fine-tuned.snn.safetensors"
QUANTIZE = "quantize.json"
_CONVERTED = re.compile(r"converted-T[1-9][0-9]*(-exact)?\.snn\.safetensors")
STEP, SEQUENCE = "step.onnx", "sequence.onnx"
BUNDLE = "lava"
VERIFY, ENERGY = "verify.json", "energy.json"

_FACTS = ("config", "files", "test_accuracy")  # of a finished run, among others
_MOST_SPENT = 1e30  # operations or pJ for an inference: far beyond any, and ratios and deviations stay finite
_LARGEST = {  # of what was measured
    "test_accuracy": 1.0,
    "exact_test_accuracy": 1.0,
    "posttraining_test_accuracy": 1.0,
    "finetuned_test_accuracy": 1.0,
    "dead_rate": 1.0,
    "synops": _MOST_SPENT,
    "estimated_energy_pj": _MOST_SPENT,
}
_CONVERTED_FACTS = ("test_accuracy", "dead_rate", "estimated_energy_pj")  # of a converted network, always
_REMEDY = "delete it and resume again, or replace the run with --overwrite"
# test.json goes first: where it is, everything else is, too.
_FILES = (TEST, TRAINED, FLOAT32, EXACT, FINE_TUNED, QUANTIZE, STEP, SEQUENCE, VERIFY, ENERGY)


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
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(str(path), "cannot be read", got=error, remedy=_REMEDY) from None
    whole = isinstance(found, dict) and set(_FACTS) <= set(found)
    if not whole or not isinstance(found["config"], dict) or not isinstance(found["files"], list):
        raise FileFormatError(str(path), "holds no result of a run", remedy=_REMEDY)
    result: dict[str, Any] = found
    _check_measured(path, result)
    _check_groups(path, result.get("test_group_accuracies"))
    if result.get("conversions"):
        _check_conversions(path, result["conversions"])
    else:
        number(path, result, "test_accuracy")
    return result


def number(path: Path, found: Mapping[str, Any], key: str) -> float:
    """What was measured of a network, an accuracy for instance.

    Args:
        path: Of the result, for the message.
        found: The result, or a part of it.
        key: What to read.

    Raises:
        FileFormatError: It is no number or out of range.
    """
    value: Any = found.get(key)
    most = _LARGEST[key]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and 0 <= value <= most):
        rule = f"must hold {key}, a number in [0, {most:g}]"
        raise FileFormatError(str(path), rule, got=repr(value), remedy=_REMEDY)
    return float(value)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def _check_measured(path: Path, found: Mapping[str, Any]) -> None:
    """Null stands for what does not exist, and an older version may not have measured everything."""
    for key in _LARGEST:
        if found.get(key) is not None:
            number(path, found, key)


def _check_groups(path: Path, groups: Any) -> None:
    """Accuracies by the name of a group and the value it has, if there are groups."""
    tables = [] if groups is None else list(groups.values()) if isinstance(groups, dict) else [None]
    for table in tables:
        if not isinstance(table, dict):
            raise FileFormatError(str(path), "holds no accuracies of groups", got=table, remedy=_REMEDY)
        for accuracy in table.values():
            _check_measured(path, {"test_accuracy": accuracy})


def _check_conversions(path: Path, conversions: Any) -> None:
    """One result for each number of time steps."""
    if not isinstance(conversions, list) or not all(isinstance(one, dict) for one in conversions):
        raise FileFormatError(str(path), "holds no conversions", remedy=_REMEDY)
    steps = [one.get("steps") for one in conversions]
    if not all(type(one) is int and one >= 1 for one in steps) or len(set(steps)) < len(steps):
        rule = "must hold conversions with different whole numbers of steps, each at least 1"
        raise FileFormatError(str(path), rule, got=steps, remedy=_REMEDY)
    for one in conversions:
        _check_measured(path, one)
        for key in _CONVERTED_FACTS:
            number(path, one, key)
