"""Numbers that say where they come from: prices of a target, limits of a chip.

Each is a table of a TOML file, see `snndeploy.targets.document`:

    [energy.synop]
    value = 0.9           # or "unpublished", without low and high: nobody has published it
    low = 0.03            # low <= value <= high
    high = 5.9
    unit = "pJ"
    evidence = "datasheet"
    source = "..."        # never empty
    conditions = "..."    # may be left out
    verified = false      # may be left out: value or range was not checked at its source
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from snndeploy.errors import FileFormatError

_Option = TypeVar("_Option", bound=str)
_LARGEST = 1e12  # in picojoules a joule for a single operation: beyond it the unit is wrong
EVIDENCE = ("measured", "fitted", "simulated", "datasheet", "derived", "assumed", "unpublished")
"""Where a number comes from, the strongest evidence first."""

_SOURCE_KEYS = ("source", "evidence", "conditions")
_NUMBER_KEYS = ("value", "low", "high", "unit", *_SOURCE_KEYS, "verified")


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
    verified: Whether value and range were checked at their source.
    """

    amount: Interval | None
    unit: str
    source: str
    evidence: str
    conditions: str = ""
    verified: bool = True


@dataclass(frozen=True, slots=True)
class Statement:
    """A yes or no and where it is known from, as a `Quantity`."""

    holds: bool
    source: str
    evidence: str
    conditions: str = ""


def quantity(where: str, table: Mapping[str, Any], expected_unit: str) -> Quantity:
    """A number from its table.

    Raises:
        FileFormatError: A key is unknown or missing, the unit is another, the range is none, or nothing says
            where the number comes from.
    """
    check_keys(where, table, _NUMBER_KEYS)
    check_text(f"{where}.unit", table.get("unit"))
    evidence = _evidence(where, table)
    unit = table["unit"]
    if unit != expected_unit:
        raise FileFormatError(f"{where}.unit", f"must be {expected_unit!r}", got=repr(unit))
    unpublished = table.get("value") == "unpublished"
    if unpublished != (evidence == "unpublished"):
        rule = "value and evidence must both be 'unpublished' or neither"
        raise FileFormatError(where, rule, got=f"{shown(table.get('value'))} and {evidence!r}")
    amount = None if unpublished else _amount(where, table)
    if unpublished and table.keys() & {"low", "high", "verified"}:
        raise FileFormatError(where, "an unpublished value has no low, high and verified", remedy="drop them")
    verified = table.get("verified", True)
    if not isinstance(verified, bool):
        raise FileFormatError(f"{where}.verified", "must be true or false", got=shown(verified))
    return Quantity(amount, unit, table["source"], evidence, table.get("conditions", ""), verified)


def statement(where: str, table: Mapping[str, Any]) -> Statement:
    """A yes or no from its table: `value`, `source`, `evidence` and maybe `conditions`.

    Raises:
        FileFormatError: A key is unknown or missing.
    """
    check_keys(where, table, ("value", *_SOURCE_KEYS))
    evidence = _evidence(where, table)
    if not isinstance(table.get("value"), bool):
        raise FileFormatError(f"{where}.value", "must be true or false", got=shown(table.get("value")))
    return Statement(table["value"], table["source"], evidence, table.get("conditions", ""))


def _evidence(where: str, table: Mapping[str, Any]) -> str:
    for key in ("source", "evidence"):
        check_text(f"{where}.{key}", table.get(key))
    if "conditions" in table:
        check_text(f"{where}.conditions", table["conditions"])
    return choice(f"{where}.evidence", table["evidence"], EVIDENCE)


def choice(where: str, value: object, options: tuple[_Option, ...]) -> _Option:
    """The option that a value of a file names.

    Raises:
        FileFormatError: It names none.
    """
    for option in options:
        if value == option:
            return option
    raise FileFormatError(where, f"must be one of {listed(options)}", got=shown(value))


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
        raise FileFormatError(where, "must be a finite number of at least 0", got=shown(value))
    if number > _LARGEST:
        raise FileFormatError(
            where, f"must be at most {_LARGEST:g}", got=shown(value), remedy="check its unit"
        )
    return number


def shown(value: object) -> str:
    """A value of a file as messages show it."""
    try:
        return repr(value)[:60]
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a number too long to show"


def check_text(where: str, value: object) -> None:
    """Refuses what is no text, or an empty one.

    Raises:
        FileFormatError: It is none.
    """
    if not isinstance(value, str) or not value.strip():
        raise FileFormatError(where, "must say something", got=shown(value))


def check_keys(where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuses a table with a key that is not known.

    Raises:
        FileFormatError: It has one; the message lists the known ones.
    """
    for key in table:
        if key not in known:
            raise FileFormatError(f"{where}.{key}", "is no known key", remedy=f"the keys are {listed(known)}")


def listed(names: tuple[str, ...]) -> str:
    """Names as messages list them."""
    return ", ".join(names)
