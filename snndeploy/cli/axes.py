"""What a sweep is made of: the values that keys of the configuration take, and the runs of all combinations."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from snndeploy.errors import ConfigError

if TYPE_CHECKING:
    from snndeploy.train.config import Config

_LONGEST_LABEL = 200  # characters; file systems allow 255 bytes
_MOST_RUNS = 10_000
_QUOTED = re.compile(
    r"""\"{3}(?:\\.|[^\\])*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\])*"|'[^']*'""", re.DOTALL
)  # strings of TOML


@dataclass(frozen=True)
class Axis:
    """A key of the configuration and the values that it takes in turn, each as a setting for `--set`."""

    key: str
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One training run of a sweep: the name of its folder below that of the sweep, and all that decides it."""

    name: str
    config: Config


@dataclass(frozen=True)
class Sweep:
    """Runs that differ in some keys.

    keys: Which differ, apart from the seed.
    seeded: Whether each combination of their values is run with several seeds.
    """

    keys: tuple[str, ...]
    seeded: bool
    runs: tuple[Run, ...]


def read_axes(options: Sequence[str], overrides: Sequence[str]) -> tuple[Axis, ...]:
    """Reads what `--sweep` was given.

    Args:
        options: Each "section.key=value,value", the values as for `--set`; or a TOML array of the values.
        overrides: What `--set` was given.

    Raises:
        ConfigError: One is not of that form, has no values or cannot be read; a key stands twice.

    Example:
        >>> for axis in read_axes(["penalty.power=1,2", "network.backward=[['4:2'], []]"], []): print(axis)
        Axis(key='penalty.power', settings=('penalty.power=1', 'penalty.power=2'))
        Axis(key='network.backward', settings=('network.backward=["4:2"]', 'network.backward=[]'))
    """
    taken = {_key(setting): "--set" for setting in overrides}  # by which option
    axes = []
    for option in options:
        key = _key(option)
        if "=" not in option or not all(key.split(".")):
            raise ConfigError(f"--sweep {option!r}", "must have the form section.key=value,value")
        if key in taken:
            raise ConfigError(f"--sweep {key}", f"is given by {taken[key]}, too")
        taken[key] = "another --sweep"
        values = _values(key, option.partition("=")[2])
        if not values:
            raise ConfigError(f"--sweep {key}", "must name at least one value")
        axes.append(Axis(key, tuple(_setting(key, value) for value in values)))
    return tuple(axes)


def plan(resolve: Callable[[Sequence[str]], Config], axes: Sequence[Axis], seeds: int | None) -> Sweep:
    """The runs of all combinations, in order, the last axis and then the seed changing fastest.

    Args:
        resolve: Gives the configuration with settings put on top.
        axes: What is changed.
        seeds: How many seeds, from the configured one on, each combination is run with; None for that one
            alone and no folder of its own.

    Raises:
        ConfigError: A configuration is not valid, a swept key is no single value, two runs are the same, or
            there are more than 10 000.
    """
    from snndeploy.train.checkpoint import as_json

    keys, seeded = tuple(axis.key for axis in axes), seeds is not None
    if seeded and "seed" in keys:
        raise ConfigError("--sweep seed", "cannot be given with --seeds", remedy="leave one of them out")
    count = math.prod([seeds or 1, *(len(axis.settings) for axis in axes)])
    if count > _MOST_RUNS:
        raise ConfigError(
            "--sweep and --seeds",
            f"may ask for at most {_MOST_RUNS} runs",
            got=count,
            remedy="do it in parts",
        )
    runs: dict[str, Run] = {}
    for settings in product(*(axis.settings for axis in axes)):
        first = resolve(settings)
        for seed in range(first.seed, first.seed + (seeds or 1)):
            config = replace(first, seed=seed)
            name = run_name(as_json(config), keys, seeded=seeded)
            if name in runs:
                raise ConfigError(
                    "--sweep",
                    "two runs would be the same",
                    got=name,
                    remedy="name each value once, and give a swept key by no other option",
                )
            runs[name] = Run(name, config)
    return Sweep(keys, seeded, tuple(runs.values()))


def run_name(config: Mapping[str, Any], keys: Sequence[str], *, seeded: bool) -> str:
    """The folder of a run below that of its sweep: as its configuration, so no other's."""
    parts = [label_of(config, keys)] if keys else []
    return "/".join([*parts, f"seed{config['seed']}"] if seeded else parts)


def label_of(config: Mapping[str, Any], keys: Sequence[str]) -> str:
    """A name of a combination that can be a file's; in any order of the keys the same."""
    label = ",".join(f"{key}={_written(key, value_at(config, key))}" for key in sorted(keys))
    if len(label) <= _LONGEST_LABEL:
        return label
    digest = hashlib.sha256(label.encode()).hexdigest()[:16]
    return f"{label[: _LONGEST_LABEL - len(digest) - 1]}~{digest}"


def value_at(config: Mapping[str, Any], key: str) -> Any:
    """What a key such as "penalty.power" has in a configuration."""
    found: Any = config
    for part in key.split("."):
        found = found[part]
    return found


def _key(setting: str) -> str:
    return ".".join(part.strip() for part in setting.partition("=")[0].split("."))


def _values(key: str, text: str) -> list[Any]:
    """The values out of "a,b", be it an array of TOML, what would be one within brackets, or plain strings."""
    for array in (text, f"[{text}]"):
        found = _value(key, array)
        if isinstance(found, list):
            return found
    pieces = text.split(",")
    if not all(piece.strip() for piece in pieces):
        raise ConfigError(f"--sweep {key}", "has an empty value", got=text)
    return [_value(key, piece) for piece in pieces]


def _value(key: str, text: str) -> Any:
    from snndeploy.train.settings import override

    found = value_at(override({}, [f"{key}={text}"]), key)
    if found != text.strip() and "#" in _QUOTED.sub("", text):
        raise ConfigError(
            f"--sweep {key}",
            "has a comment, which would be lost",
            got=text,
            remedy="leave it out, or put a value that holds # in quotes",
        )
    return found


def _setting(key: str, value: Any) -> str:
    """Most of JSON is TOML, too; what is not is no value of a configuration."""
    return f"{key}={json.dumps(value, ensure_ascii=False, default=str)}"


def _written(key: str, value: Any) -> str:
    """Of two values of a key never the same."""
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            return repr(value + 0.0).removesuffix(".0")  # of two zeros the positive one, as they are equal
        case str():  # "~" stands in shortened labels only
            return quote(value, safe=":", errors="surrogateescape").replace("~", "%7E")
        case list():
            return "+".join(_written(key, part) for part in value) or "[]"
        case _:
            raise ConfigError(f"--sweep {key}", "must be a value, not a section")
