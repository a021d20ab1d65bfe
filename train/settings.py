"""Values out of TOML and the command line, as the types that a configuration has."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from snndeploy.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Made = TypeVar("Made")


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML file.

    Raises:
        ConfigError: It cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), "cannot be read as text", got=error) from error
    except (ValueError, RecursionError) as error:  # no TOML, a number too long, or arrays too deep
        raise ConfigError(str(path), "is not valid TOML", got=error) from error


def override(mapping: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """A copy of a configuration with single values replaced.

    Args:
        mapping: As read from TOML; left as it is.
        settings: Each "key=value" or "section.key=value", the value as in TOML; what is no TOML is a string.

    Raises:
        ConfigError: A setting is not of that form, its section is a value, or its value cannot be read.

    Example:
        >>> override({"seed": 1}, ["optimizer.lr=0.02", "network.backward=['6:4']", "data.name=digits"])
        {'seed': 1, 'optimizer': {'lr': 0.02}, 'network': {'backward': ['6:4']}, 'data': {'name': 'digits'}}
    """
    try:
        changed = _copy(mapping)
    except RecursionError:
        raise ConfigError("configuration", "is nested too deeply") from None
    for setting in settings:
        key, equals, text = setting.partition("=")
        path = [part.strip() for part in key.split(".")]
        if not equals or not all(path):
            raise ConfigError(f"setting {setting!r}", "must have the form section.key=value")
        section = changed
        for part in path[:-1]:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise ConfigError(f"setting {setting!r}", f"{part} is a value, not a section")
        section[path[-1]] = _value(key, text)
    return changed


def _copy(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in mapping.items()}


def _value(key: str, text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text.strip()
    except (ValueError, RecursionError) as error:  # a number too long, or arrays too deep
        raise ConfigError(f"setting {key}", "has a value that cannot be read", got=error) from None
    return found["value"] if len(found) == 1 else text


def typed(kind: type[Made], mapping: Mapping[str, Any], where: str = "") -> Made:
    """A dataclass made of values of TOML; its fields may be dataclasses, too.

    Args:
        kind: The dataclass.
        mapping: Values by field; what is left out keeps its default.
        where: Section of the configuration, for messages.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type.
    """
    hints = get_type_hints(kind)
    unknown = sorted(set(mapping) - set(hints))
    if unknown:
        raise ConfigError(
            where or "configuration", f"has no key {unknown[0]!r}", remedy=f"the keys are {', '.join(hints)}"
        )
    prefix = f"{where}." if where else ""
    return kind(**{name: _converted(hints[name], value, prefix + name) for name, value in mapping.items()})


def _converted(kind: Any, value: Any, where: str) -> Any:
    """A value of TOML as the type a field has."""
    if dataclasses.is_dataclass(kind):
        _require(isinstance(value, Mapping), where, "must be a table", value)
        return typed(kind, value, where)  # type: ignore[arg-type]
    if kind is float:
        number = isinstance(value, float) or _is_whole(value)
        number = number and abs(value) <= sys.float_info.max
        _require(number, where, "must be a finite number", value)
        return float(value)
    if kind is int:
        _require(_is_whole(value), where, "must be a whole number", value)
        _require(value.bit_length() < 64, where, "must have at most 64 bits", value)
        return value
    if kind is bool:
        _require(isinstance(value, bool), where, "must be true or false", value)
        return value
    if kind is str:
        _require(isinstance(value, str), where, "must be a string", value)
        return value
    many = isinstance(value, (list, tuple))
    if kind in (tuple[int, ...], tuple[float, ...]):
        whole = kind == tuple[int, ...]
        _require(many, where, f"must be a list of {'whole ' if whole else ''}numbers", value)
        return tuple(_converted(int if whole else float, one, where) for one in value)
    _require(many and all(isinstance(v, str) for v in value), where, "must be a list of strings", value)
    return tuple(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(holds: bool, where: str, rule: str, got: object) -> None:
    if not holds:
        raise ConfigError(where, rule, got=_shown(got))


def _shown(value: object) -> str:
    try:
        return repr(value)
    except (ValueError, RecursionError):  # a number too long, or arrays too deep
        return f"an unprintable {type(value).__name__}"


def require(holds: bool, where: str, rule: str, got: object) -> None:
    """Checks a value of a configuration.

    Args:
        holds: Whether it keeps the rule.
        where: Its key.
        rule: What it must be.
        got: The value.

    Raises:
        ConfigError: It does not.
    """
    if not holds:
        raise ConfigError(where, rule, got=repr(got))


def require_one_of(known: tuple[str, ...], where: str, value: str) -> None:
    """Checks that a value of a configuration is one of those there are.

    Raises:
        ConfigError: It is none of them.
    """
    require(value in known, where, f"must be one of {', '.join(known)}", value)
