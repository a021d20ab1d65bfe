"""Values of JSON as the dataclasses they were written from, every one of them checked.

A file can be of the right shape and still be damaged, or edited by hand; what is wrong is then named with its
place, and never met as a text where a number should be.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from snndeploy.errors import FileFormatError

Record = TypeVar("Record")

REMEDY = "delete it and resume again, or replace the search with --overwrite"


def record(kind: type[Record], value: Any, where: str) -> Record:
    """A dataclass out of the JSON object that `dataclasses.asdict` made of one.

    Args:
        kind: Its fields are numbers, texts, such dataclasses, any of these or None, or numbers by name.
        value: What was read: an object with all the fields and no others.
        where: File, and line if there are several.

    Raises:
        FileFormatError: It is no such object. Numbers must be finite.
    """
    hints = get_type_hints(kind)
    if not isinstance(value, dict) or value.keys() != hints.keys():
        raise _damaged(where, f"must hold {', '.join(hints)}", value)
    found = {}
    for name, hint in hints.items():
        within, one = _dataclass(hint), value[name]
        if within is not None and one is not None:
            one = record(within, one, f"{where}, {name}")
        if not _fits(one, hint):
            raise _damaged(where, f"{name} must be {_named(hint)}", one)
        found[name] = one
    return kind(**found)


def numbers(value: Any, where: str) -> dict[str, float]:
    """Finite numbers by name.

    Raises:
        FileFormatError: It is something else.
    """
    if not _fits(value, Mapping[str, float]):
        raise _damaged(where, "must hold finite numbers by name", value)
    return dict(value)


def _fits(value: Any, hint: Any) -> bool:
    if hint is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and abs(value) <= sys.float_info.max  # false for what is no number at all, too
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if get_origin(hint) is not None and issubclass(_class(hint), Mapping):
        return isinstance(value, dict) and all(_fits(one, get_args(hint)[1]) for one in value.values())
    if options := get_args(hint):
        return any(_fits(value, option) for option in options)
    return isinstance(value, hint)


def _dataclass(hint: Any) -> type | None:
    """The dataclass among the options of a hint."""
    options = get_args(hint) or (hint,)
    return next((one for one in options if isinstance(one, type) and dataclasses.is_dataclass(one)), None)


def _class(hint: Any) -> type:
    """What a parametrised type is made of; a union is made of nothing in particular."""
    origin = get_origin(hint)
    return origin if isinstance(origin, type) else object


def _named(hint: Any) -> str:
    options = [one for one in get_args(hint) if one is not NoneType]
    if get_origin(hint) is not None and issubclass(_class(hint), Mapping):
        return "finite numbers by name"
    names = {float: "a finite number", int: "a whole number", str: "a text", bool: "true or false"}
    nullable = " or null" if len(options) < len(get_args(hint)) else ""
    return " or ".join(names.get(one, "an object") for one in options or [hint]) + nullable


def _damaged(where: str, rule: str, got: Any) -> FileFormatError:
    shown = repr(got)
    return FileFormatError(where, rule, got=shown if len(shown) < 80 else f"{shown[:76]}...", remedy=REMEDY)
