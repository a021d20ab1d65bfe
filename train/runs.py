"""Finished runs: found in folders, and what each came to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.train.checkpoint import as_json, differing
from snndeploy.train.config import Config
from snndeploy.train.metrics import METRICS_FILE
from snndeploy.train.products import TEST, number, read_test

ACCURACIES = {"float32": "test_accuracy", "exact": "exact_test_accuracy"}
"""Which key of a result holds the accuracy of each number format."""
CONVERSION = "conversion"
"""Stands among the keys of configurations for the time steps of a converted network."""

_MACHINE = frozenset({"threads", "device", "deterministic"})  # where and how a run is done, not what it is
_ASKED = "network.conversion_steps"  # what else an ANN was converted to does not change any of the networks


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a finished run came to.

    accuracy: On the test set, in [0, 1].
    estimated_energy_pj: E_SNN of one inference.
    dead_rate: Share of neurons that never fired.
    conversion: Time steps of the spiking network that an ANN was converted to; None if none was.
    """

    folder: Path
    config: Config
    accuracy: float
    estimated_energy_pj: float
    dead_rate: float
    conversion: int | None = None

    @property
    def intensity(self) -> float:
        """Of the penalty; 0 for none."""
        return self.config.penalty.intensity


@dataclass(frozen=True, kw_only=True)
class Found:
    """Runs in folders.

    unfinished: Folders of runs without a result.
    """

    runs: tuple[Run, ...]
    unfinished: tuple[Path, ...]


def find(folders: Sequence[Path], accuracy: str = "float32") -> Found:
    """All runs at or below folders, each once; of a converted ANN one for each number of time steps.

    Args:
        folders: To look through, at any depth.
        accuracy: Number format of the accuracy to read, a key of `ACCURACIES`.

    Raises:
        ConfigError: Something is no folder, no run is finished, one has no accuracy in that format, or two
            folders hold the same training.
        FileFormatError: A result is damaged.
    """
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(str(folder), "is no folder", remedy="name the folders of runs")
    finished = _folders_with(TEST, folders)
    unfinished = tuple(f for key, f in _folders_with(METRICS_FILE, folders).items() if key not in finished)
    if not finished:
        raise ConfigError(
            ", ".join(map(str, folders)),
            f"no finished run there ({len(unfinished)} unfinished)",
            remedy="train first: snndeploy train CONFIG --out FOLDER",
        )
    runs = tuple(run for folder in finished.values() for run in _read(folder, accuracy))
    _require_distinct(runs)
    return Found(runs=runs, unfinished=unfinished)


def differing_keys(one: Run, other: Run) -> set[str]:
    """Keys of the configuration that make two runs two trainings, and `CONVERSION`."""
    keys = set(differing(one.config, as_json(other.config))) - _MACHINE - {_ASKED}
    return keys if one.conversion == other.conversion else keys | {CONVERSION}


def _folders_with(name: str, folders: Iterable[Path]) -> dict[Path, Path]:
    """Folders that hold a file, as they were found, by their true path."""
    found: dict[Path, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob(name)):
            found.setdefault(path.parent.resolve(), path.parent)
    return found


def _read(folder: Path, accuracy: str) -> list[Run]:
    path = folder / TEST
    found = read_test(path)
    if found is None:  # it was there a moment ago
        raise FileFormatError(str(path), "has been removed")
    try:
        config = Config.from_mapping(found["config"])
    except ConfigError as error:
        raise FileFormatError(str(path), "holds no configuration of this version", got=error) from None
    conversions = found.get("conversions")
    if not conversions:
        return [_run(folder, config, found, accuracy, None)]
    return [_run(folder, config, one, accuracy, one["steps"]) for one in conversions]


def _run(
    folder: Path, config: Config, found: Mapping[str, Any], accuracy: str, conversion: int | None
) -> Run:
    path, key = folder / TEST, ACCURACIES[accuracy]
    if found.get(key) is None and found.get("exact_problem"):
        raise ConfigError(
            str(folder),
            "has no network in the exact format",
            got=found["exact_problem"],
            remedy="compare float32 accuracies",
        )
    return Run(
        folder=folder,
        config=config,
        accuracy=number(path, found, key),
        estimated_energy_pj=number(path, found, "estimated_energy_pj"),
        dead_rate=number(path, found, "dead_rate"),
        conversion=conversion,
    )


def _require_distinct(runs: Iterable[Run]) -> None:
    places: dict[tuple[int, float], list[Run]] = {}
    for run in runs:
        places.setdefault((run.config.seed, run.intensity), []).append(run)
    for group in places.values():
        for one, other in combinations(group, 2):
            if not differing_keys(one, other):
                raise ConfigError(
                    f"{one.folder} and {other.folder}",
                    f"hold the same training, with seed {one.config.seed}"
                    + ("" if one.conversion is None else f" and converted to T = {one.conversion}"),
                    remedy="name one of them only",
                )
