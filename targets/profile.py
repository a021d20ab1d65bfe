"""What a target charges for each kind of work: a TOML file of numbers with their ranges and sources.

A profile has `schema = 1`, a table `[target]` with `name` and `notes`, and one table for each priced term:

    [energy.synop]
    value = 0.9           # or "unpublished", without low and high: work of this kind stays unpriced
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
from types import MappingProxyType
from typing import Any

from snndeploy.errors import FileFormatError, TargetError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = 1
_LARGEST = 1e12  # picojoules, a joule for a single operation: beyond it the unit is wrong
EVIDENCE = ("measured", "fitted", "simulated", "datasheet", "derived", "assumed", "unpublished")
"""Where a number comes from, the strongest evidence first."""

TERMS: Mapping[str, str] = MappingProxyType(
    {
        "energy.synop": "pJ",  # a spike through one synapse: one accumulate
        "energy.mac": "pJ",  # an analog value through one connection: one multiply-accumulate
        "energy.neuron": "pJ",  # one update of one neuron
    }
)
"""Unit of every term that a profile can price, by name."""

_TARGET_KEYS = ("name", "notes")
_NUMBER_KEYS = ("value", "low", "high", "unit", "source", "evidence", "conditions")


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
class Price:
    """What one unit of work costs, and where that is known from.

    amount: None if nobody published it.
    evidence: One of `EVIDENCE`.
    conditions: Under which the number holds, and what its range stands for; may be empty.
    """

    amount: Interval | None
    unit: str
    source: str
    evidence: str
    conditions: str = ""


@dataclass(frozen=True, kw_only=True)
class TargetProfile:
    """A target's prices, by the names of `TERMS`; a term it leaves out is unpriced."""

    name: str
    notes: str
    prices: Mapping[str, Price]


def shipped() -> tuple[str, ...]:
    """Names of the profiles that come with the package."""
    files = resources.files("snndeploy.targets").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def load(name_or_path: str | Path) -> TargetProfile:
    """A shipped profile by name, or any profile from a file.

    Args:
        name_or_path: A name of `shipped()`, or a path: whatever is a Path, ends in .toml or has a separator.

    Raises:
        TargetError: There is no such profile or file; the message lists the shipped ones.
        FileFormatError: The file breaks a rule; the message names the key and the rule.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text or "\\" in text:
        where, read = text, Path(text).read_bytes
    elif text in shipped():
        where, read = f"profile {text}", (resources.files("snndeploy.targets") / f"{text}.toml").read_bytes
    else:
        raise TargetError(
            f"target {text!r}", "is not known", remedy=f"choose one of {_listed(shipped())} or a file"
        )
    try:
        data = read()
    except OSError as error:
        remedy = f"choose a readable file, or one of {_listed(shipped())}"
        raise TargetError(where, "cannot be read", got=error.strerror, remedy=remedy) from None
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # ValueError: neither UTF-8 nor TOML, or a number too long
        raise FileFormatError(where, "must be TOML", got=str(error)) from None
    return _profile(where, document)


def _profile(where: str, document: Mapping[str, Any]) -> TargetProfile:
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
    terms = {key: value for key, value in document.items() if key not in ("schema", "target")}
    prices = {name: _price(f"{where}, {name}", name, table) for name, table in _terms(where, terms)}
    return TargetProfile(name=target["name"], notes=target["notes"].strip(), prices=MappingProxyType(prices))


def _terms(where: str, table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every number's table by its dotted name."""
    for key, value in table.items():
        name = prefix + key
        known = "." not in key and (name in TERMS or any(term.startswith(f"{name}.") for term in TERMS))
        if not known:
            raise FileFormatError(
                f"{where}, {name}",
                "is no known term",
                remedy=f"the terms are schema, target, {_listed(TERMS)}",
            )
        if not isinstance(value, dict):
            raise FileFormatError(f"{where}, {name}", "must be a table", got=_shown(value))
        if name in TERMS:
            yield name, value
        else:
            yield from _terms(where, value, f"{name}.")


def _price(where: str, name: str, table: Mapping[str, Any]) -> Price:
    _check_keys(where, table, _NUMBER_KEYS)
    for key in ("source", "unit", "evidence"):
        _check_text(f"{where}.{key}", table.get(key))
    if "conditions" in table:
        _check_text(f"{where}.conditions", table["conditions"])
    unit, evidence = table["unit"], table["evidence"]
    if unit != TERMS[name]:
        raise FileFormatError(f"{where}.unit", f"must be {TERMS[name]!r}", got=repr(unit))
    if evidence not in EVIDENCE:
        raise FileFormatError(f"{where}.evidence", f"must be one of {_listed(EVIDENCE)}", got=repr(evidence))
    unpublished = table.get("value") == "unpublished"
    if unpublished != (evidence == "unpublished"):
        rule = "value and evidence must both be 'unpublished' or neither"
        raise FileFormatError(where, rule, got=f"{_shown(table.get('value'))} and {evidence!r}")
    amount = None if unpublished else _amount(where, table)
    if unpublished and ("low" in table or "high" in table):
        raise FileFormatError(where, "an unpublished value has no low and high", remedy="drop them")
    return Price(amount, unit, table["source"], evidence, table.get("conditions", ""))


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
            raise FileFormatError(
                f"{where}.{key}", "is no known key", remedy=f"the keys are {_listed(known)}"
            )


def _listed(names: tuple[str, ...] | Mapping[str, Any]) -> str:
    return ", ".join(names)
