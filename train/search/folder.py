"""The run folder of a search: every stage leaves a file there, and is not done again while it is there.

What a search goes on with carries a checksum, so that a file that was damaged or edited is named, and never taken
for a result. Files of earlier versions have none; what they hold is checked all the same, value by value.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.ir.files import write_text
from snndeploy.train.products import remove
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.records import REMEDY, Record, numbers, record
from snndeploy.train.search.space import Architecture, parse

CONFIG = "config.toml"
CANDIDATES, RELIABILITY, POPULATION = "candidates.json", "reliability.json", "population.json"
SUPERNET = "supernet"
SCORES = "scores.jsonl"
EVALUATIONS, EVOLUTION, RANDOM = "evaluations.jsonl", "evolution.json", "random.json"
CONFIRM = "confirm"
FOUND, FOUND_NETWORK = "found.toml", "found.snn.safetensors"
RECOMMENDED = "recommended.toml"
SECONDS, SEARCH = "seconds.json", "search.json"
FIGURES = tuple(
    f"{name}.{end}" for name in ("connections", "matrix", "pareto", "best_so_far") for end in ("svg", "png")
)
ABLATION, ABLATION_TABLE = "ablation", "ablation.json"
SEAL = "crc32"  # of all else in an object

# search.json goes first: where it is, everything else is, too.
_FILES = (
    SEARCH,
    ABLATION_TABLE,
    CANDIDATES,
    RELIABILITY,
    POPULATION,
    EVALUATIONS,
    EVOLUTION,
    RANDOM,
    FOUND,
    FOUND_NETWORK,
    RECOMMENDED,
    SECONDS,
    SCORES,
    *FIGURES,
)
_FOLDERS = (SUPERNET, CONFIRM, ABLATION)


def open_run(config: SearchConfig, folder: Path, *, resume: bool = False, overwrite: bool = False) -> None:
    """Makes the run folder, or finds out whether the search in it is this one.

    Args:
        config: Of the search; kept as config.toml.
        folder: Where everything goes.
        resume: Go on with the search in the folder, if there is one.
        overwrite: Replace it, unless it is resumed.

    Raises:
        ConfigError: The folder holds a search that is not to be touched, or one of another configuration, or
            something that is no search.
        FileFormatError: The folder cannot be written.
    """
    path = folder / CONFIG
    if path.exists():
        found = _config(path)
        if resume and found == config:
            return
        if not overwrite:
            raise _occupied(folder, config, found)
        _clear(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileFormatError(str(folder), "cannot be written", got=error.strerror) from error
    write_text(path, config.to_toml())


def read_json(path: Path) -> Any:
    """The value of a file, without its checksum; None if there is no file.

    Raises:
        FileFormatError: It is damaged, or was edited.
    """
    try:
        return _unsealed(json.loads(path.read_text(encoding="utf-8")), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except FileFormatError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(str(path), "cannot be read", got=error, remedy=REMEDY) from None


def write_json(path: Path, value: Any) -> None:
    """Writes a value, whole or not at all.

    Raises:
        FileFormatError: It cannot be written.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Writes an object with its checksum, whole or not at all.

    Raises:
        FileFormatError: It cannot be written.
    """
    write_json(path, _sealed(value))


def read_object(path: Path, *keys: str) -> dict[str, Any] | None:
    """The JSON object of a file, which must have the keys; None if there is no file.

    Raises:
        FileFormatError: It is damaged.
    """
    value = read_json(path)
    if value is None and not path.exists():
        return None
    if not isinstance(value, dict) or not value.keys() >= set(keys):
        needed = f" with {', '.join(keys)}" if keys else ""
        raise FileFormatError(str(path), f"must hold an object{needed}", remedy=REMEDY)
    return value


def seconds(folder: Path) -> dict[str, float]:
    """What each stage took so far.

    Raises:
        FileFormatError: The file is damaged.
    """
    path = folder / SECONDS
    found = read_json(path)
    return {} if found is None else numbers(found, str(path))


@contextmanager
def timed(folder: Path, stage: str) -> Iterator[None]:
    """Adds the seconds that the block takes to those of a stage; what is killed in it is not counted."""
    start = time.monotonic()
    try:
        yield
    finally:
        spent = seconds(folder)
        spent[stage] = spent.get(stage, 0.0) + time.monotonic() - start
        write_json(folder / SECONDS, spent)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, one in each line; a last line that is not finished is dropped from the file.

    Raises:
        FileFormatError: A line is damaged, or was edited.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise FileFormatError(str(path), "cannot be read", got=error.strerror, remedy=REMEDY) from None
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_text(path, whole)
    return [_object(line, f"{path}, line {number}") for number, line in enumerate(whole.splitlines(), 1)]


def append_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Adds JSON objects, one in each line, with a checksum each.

    Raises:
        FileFormatError: The file cannot be written.
    """
    text = "".join(json.dumps(_sealed(row), allow_nan=False) + "\n" for row in rows)
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise FileFormatError(str(path), "cannot be written", got=error.strerror) from error


def by_architecture(
    kind: type[Record], rows: Iterable[Mapping[str, Any]], path: Path, *, first: int = 1
) -> dict[Architecture, Record]:
    """What lines of a file say of the architecture that each names.

    Args:
        kind: Dataclass of what they say.
        rows: As `read_lines` gives them.
        path: The file, for messages.
        first: Number of the first of these lines.

    Raises:
        FileFormatError: A line says something else.
    """
    found: dict[Architecture, Record] = {}
    for number, row in enumerate(rows, first):
        where = f"{path}, line {number}"
        values = dict(row)
        name = values.pop("architecture", None)
        try:
            architecture = parse(name if isinstance(name, str) else "")
        except ConfigError:
            raise FileFormatError(where, "must name an architecture", got=repr(name), remedy=REMEDY) from None
        found[architecture] = record(kind, values, where)
    return found


def _sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    return {**value, SEAL: _checksum(value)}


def _unsealed(value: Any, where: str) -> Any:
    """A value that was read, without its checksum."""
    if not isinstance(value, dict) or SEAL not in value:
        return value
    found = {key: one for key, one in value.items() if key != SEAL}
    if value[SEAL] != _checksum(found):
        raise FileFormatError(where, "is damaged, or was edited: its checksum does not match", remedy=REMEDY)
    return found


def _checksum(value: Mapping[str, Any]) -> str:
    """Of the values, however they are laid out in a file."""
    text = json.dumps(value, sort_keys=True)
    return f"{zlib.crc32(text.encode()):08x}"


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        value = _unsealed(json.loads(text), where)
    except FileFormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FileFormatError(where, "is damaged", got=error, remedy=REMEDY) from None
    if not isinstance(value, dict):
        raise FileFormatError(where, "must hold an object", got=value, remedy=REMEDY)
    return value


def _config(path: Path) -> SearchConfig | None:
    """What is searched in a folder; None if it is no search."""
    try:
        return SearchConfig.from_file(path)
    except ConfigError:
        return None


def _occupied(folder: Path, config: SearchConfig, found: SearchConfig | None) -> ConfigError:
    if found is None:
        return ConfigError(
            str(folder),
            "holds something else than a search",
            remedy=f"choose another folder, or mend {folder / CONFIG} if it is damaged",
        )
    keys = [key for key, value in _flat(config).items() if _flat(found)[key] != value]
    if keys:
        return ConfigError(
            str(folder),
            f"holds a search of another configuration, which differs in {', '.join(keys)}",
            remedy="choose another folder, or replace the search with --overwrite",
        )
    return ConfigError(
        str(folder),
        "holds this very search already",
        remedy="go on with it, or read its result, with --resume; replace it with --overwrite",
    )


def _flat(config: SearchConfig) -> dict[str, Any]:
    def leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in values.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    return dict(leaves(dataclasses.asdict(config), ""))


def _clear(folder: Path) -> None:
    """Removes what a search left, and nothing else."""
    if _config(folder / CONFIG) is None:
        raise ConfigError(str(folder), "holds something else than a search", remedy="choose another folder")
    for path in [folder / name for name in _FILES]:
        remove(path)
    for name in _FOLDERS:
        if (folder / name).is_dir() and not (folder / name).is_symlink():
            try:
                shutil.rmtree(folder / name)
            except OSError as error:
                raise FileFormatError(str(folder / name), "cannot be replaced", got=error.strerror) from error
