"""TOML files of numbers that say where they come from: prices of a target, limits of a chip.

A file has `schema = 1`, a table `[target]` with `name` and `notes`, and one table for each number:

    [energy.synop]
    value = 0.9           # or "unpublished", without low and high: nobody has published it
    low = 0.03            # low <= value <= high
    high = 5.9
    unit = "pJ"
    evidence = "datasheet"
    source = "..."        # never empty
    conditions = "..."    # may be left out
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from snndeploy.errors import FileFormatError, TargetError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = 1
_LARGEST = 1e12  # in picojoules a joule for a single operation: beyond it the unit is wrong
EVIDENCE = ("measured", "fitted", "simulated", "datasheet", "derived", "assumed", "unpublished")
"""Where a number comes from, the strongest evidence first."""

_TARGET_KEYS = ("name", "notes")
_SOURCE_KEYS = ("source", "evidence", "conditions")
_NUMBER_KEYS = ("value", "low", "high", "unit", *_SOURCE_KEYS)


@dataclass(frozen=True, slots=True)
class Interval:
    """A number and the range it may lie in: low <= value <= high."""

    value: float
    low: float
    high: float

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.value + other.value, self.low + other.low, self.high + other.high)

    def __mul__(self, factor: float) -> Interval:
        return Interval(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and where it is known from.

    amount: None if nobody published it.
    evidence: One of `EVIDENCE`.
    conditions: Under which the number holds, and what its range stands for; may be empty.
    """

    amount: Interval | None
    unit: str
    source: str
    evidence: str
    conditions: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """A yes or no and where it is known from, as a `Quantity`."""

    holds: bool
    source: str
    evidence: str
    conditions: str = ""


@dataclass(frozen=True, eq=False)
class Document:
    """A file as it was read, its header checked.

    where: What messages call the file.
    tables: All but `schema` and `target`.
    """

    where: str
    name: str
    notes: str
    tables: Mapping[str, Any]


def shipped(folder: str) -> tuple[str, ...]:
    """Names of the files that come with the package in a folder of `snndeploy.targets`; "" is that itself."""
    files = (resources.files("snndeploy.targets") / folder).iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def read(name_or_path: str | Path, kind: str, folder: str) -> Document:
    """A shipped file by name, or any file.

    Args:
        name_or_path: A name of `shipped(folder)`, or a path: whatever is a Path, ends in .toml or has a
            separator.
        kind: What the file describes, for messages.
        folder: Of the shipped files.

    Raises:
        TargetError: There is no such file; the message lists the shipped ones.
        FileFormatError: It is no TOML or has another header.
    """
    text, names = str(name_or_path), shipped(folder)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text or "\\" in text:
        where, load = text, Path(text).read_bytes
    elif text in names:
        where = f"{kind} {text}"
        load = (resources.files("snndeploy.targets") / folder / f"{text}.toml").read_bytes
    else:
        raise TargetError(
            f"target {text!r}", "is not known", remedy=f"choose one of {listed(names)} or a file"
        )
    try:
        data = load()
    except OSError as error:
        remedy = f"choose a readable file, or one of {listed(names)}"
        raise TargetError(where, "cannot be read", got=error.strerror, remedy=remedy) from None
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # ValueError: neither UTF-8 nor TOML, or a number too long
        raise FileFormatError(where, "must be TOML", got=str(error)) from None
    return _with_header(where, document)


def _with_header(where: str, document: Mapping[str, Any]) -> Document:
    if "schema" not in document or isinstance(document["schema"], bool) or document["schema"] != SCHEMA:
        raise FileFormatError(
            f"{where}, schema",
            f"must be {SCHEMA}",
            got=_shown(document.get("schema")),
            remedy=f"see {__name__}",
        )
    target = document.get("target")
    if not isinstance(target, dict):
        raise FileFormatError(f"{where}, target", "must be a table", got=_shown(target))
    _check_keys(f"{where}, target", target, _TARGET_KEYS)
    for key in _TARGET_KEYS:
        _check_text(f"{where}, target.{key}", target.get(key))
    tables = {key: value for key, value in document.items() if key not in ("schema", "target")}
    return Document(where, target["name"], target["notes"].strip(), tables)


def terms(document: Document, known: tuple[str, ...]) -> dict[str, Mapping[str, Any]]:
    """The table of every term a document has, by its dotted name.

    Raises:
        FileFormatError: It has one that is not known, or one that is no table.
    """
    return dict(_terms(document.where, document.tables, known, ""))


def _terms(
    where: str, table: Mapping[str, Any], known: tuple[str, ...], prefix: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, value in table.items():
        name = prefix + key
        leads_on = any(term.startswith(f"{name}.") for term in known)
        if "." in key or not (name in known or leads_on):
            raise FileFormatError(
                f"{where}, {name}",
                "is no known term",
                remedy=f"the terms are schema, target, {listed(known)}",
            )
        if not isinstance(value, dict):
            raise FileFormatError(f"{where}, {name}", "must be a table", got=_shown(value))
        if name in known:
            yield name, value
        else:
            yield from _terms(where, value, known, f"{name}.")


def quantity(where: str, table: Mapping[str, Any], expected_unit: str) -> Quantity:
    """A number from its table.

    Raises:
        FileFormatError: A key is unknown or missing, the unit is another, the range is none, or nothing says
            where the number comes from.
    """
    _check_keys(where, table, _NUMBER_KEYS)
    _check_text(f"{where}.unit", table.get("unit"))
    evidence = _evidence(where, table)
    unit = table["unit"]
    if unit != expected_unit:
        raise FileFormatError(f"{where}.unit", f"must be {expected_unit!r}", got=repr(unit))
    unpublished = table.get("value") == "unpublished"
    if unpublished != (evidence == "unpublished"):
        rule = "value and evidence must both be 'unpublished' or neither"
        raise FileFormatError(where, rule, got=f"{_shown(table.get('value'))} and {evidence!r}")
    amount = None if unpublished else _amount(where, table)
    if unpublished and ("low" in table or "high" in table):
        raise FileFormatError(where, "an unpublished value has no low and high", remedy="drop them")
    return Quantity(amount, unit, table["source"], evidence, table.get("conditions", ""))


def statement(where: str, table: Mapping[str, Any]) -> Statement:
    """A yes or no from its table: `value`, `source`, `evidence` and maybe `conditions`.

    Raises:
        FileFormatError: A key is unknown or missing.
    """
    _check_keys(where, table, ("value", *_SOURCE_KEYS))
    evidence = _evidence(where, table)
    if not isinstance(table.get("value"), bool):
        raise FileFormatError(f"{where}.value", "must be true or false", got=_shown(table.get("value")))
    return Statement(table["value"], table["source"], evidence, table.get("conditions", ""))


def _evidence(where: str, table: Mapping[str, Any]) -> str:
    for key in ("source", "evidence"):
        _check_text(f"{where}.{key}", table.get(key))
    if "conditions" in table:
        _check_text(f"{where}.conditions", table["conditions"])
    evidence: str = table["evidence"]
    if evidence not in EVIDENCE:
        raise FileFormatError(f"{where}.evidence", f"must be one of {listed(EVIDENCE)}", got=repr(evidence))
    return evidence


def _amount(where: str, table: Mapping[str, Any]) -> Interval:
    value, low, high = (_number(f"{where}.{key}", table.get(key)) for key in ("value", "low", "high"))
    if not low <= value <= high:
        raise FileFormatError(where, "low <= value <= high must hold", got=f"{low:g}, {value:g}, {high:g}")
    return Interval(value, low, high)


def _number(where: str, value: object) -> float:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        number = float(value) if real else math.nan  # type: ignore[arg-type]  # `real` says what it is
    except OverflowError:  # TOML's whole numbers have no limit
        number = math.inf
    if not math.isfinite(number) or number < 0:
        raise FileFormatError(where, "must be a finite number of at least 0", got=_shown(value))
    if number > _LARGEST:
        raise FileFormatError(
            where, f"must be at most {_LARGEST:g}", got=_shown(value), remedy="check its unit"
        )
    return number


def _shown(value: object) -> str:
    try:
        return repr(value)[:60]
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a number too long to show"


def _check_text(where: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise FileFormatError(where, "must say something", got=_shown(value))


def _check_keys(where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise FileFormatError(f"{where}.{key}", "is no known key", remedy=f"the keys are {listed(known)}")


def listed(names: tuple[str, ...]) -> str:
    """Names as messages list them."""
    return ", ".join(names)
