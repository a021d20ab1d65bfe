"""TOML files of sourced numbers: a header, and a table for each number by its dotted name.

A file has `schema` (a whole number), a table `[target]` with `name`, `notes` and what its kind adds, and the
tables of `snndeploy.targets.quantity`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from snndeploy.errors import FileFormatError, TargetError
from snndeploy.targets.quantity import check_keys, check_text, listed, shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TEXTS = ("name", "notes")  # that every file needs


@dataclass(frozen=True, slots=True)
class Form:
    """What all files of one kind share.

    kind: What such a file describes, for messages.
    folder: Of the shipped ones, in `snndeploy.targets`.
    keys: That `[target]` may have besides `name` and `notes`.
    settings: Tables that hold no number.
    """

    kind: str
    folder: str
    schema: int
    keys: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Document:
    """A file as it was read, its header checked.

    form: What such a file has.
    where: What messages call the file.
    header: The further keys of `[target]`, as they stand there.
    tables: All but `schema` and `target`.
    """

    form: Form
    where: str
    name: str
    notes: str
    header: Mapping[str, Any]
    tables: Mapping[str, Any]


def shipped(form: Form) -> tuple[str, ...]:
    """Names of the files of a kind that come with the package."""
    files = (resources.files("snndeploy.targets") / form.folder).iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def is_path(name_or_path: str | Path) -> bool:
    """Whether something stands for a file: whatever is a Path, ends in .toml or has a separator."""
    text = str(name_or_path)
    return isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text or "\\" in text


def read(name_or_path: str | Path, form: Form) -> Document:
    """A shipped file by name, or any file.

    Args:
        name_or_path: A name of `shipped(form)`, or a path, see `is_path`.
        form: What such a file has.

    Raises:
        TargetError: There is no such file; the message lists the shipped ones.
        FileFormatError: It is no TOML or has another header.
    """
    text, names = str(name_or_path), shipped(form)
    if is_path(name_or_path):
        where, load = text, Path(text).read_bytes
    elif text in names:
        where = f"{form.kind} {text}"
        load = (resources.files("snndeploy.targets") / form.folder / f"{text}.toml").read_bytes
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
    return _with_header(where, document, form)


def _with_header(where: str, document: Mapping[str, Any], form: Form) -> Document:
    schema = document.get("schema")
    if isinstance(schema, bool) or schema != form.schema:
        remedy = f"see {__name__}"
        raise FileFormatError(f"{where}, schema", f"must be {form.schema}", got=shown(schema), remedy=remedy)
    target = document.get("target")
    if not isinstance(target, dict):
        raise FileFormatError(f"{where}, target", "must be a table", got=shown(target))
    check_keys(f"{where}, target", target, (*_TEXTS, *form.keys))
    for key in _TEXTS:
        check_text(f"{where}, target.{key}", target.get(key))
    header = {key: target[key] for key in form.keys if key in target}
    tables = {key: value for key, value in document.items() if key not in ("schema", "target")}
    return Document(form, where, target["name"], target["notes"].strip(), header, tables)


def terms(document: Document, known: tuple[str, ...]) -> dict[str, Mapping[str, Any]]:
    """The table of every term a document has, by its dotted name.

    Raises:
        FileFormatError: It has one that is not known, one that is no table, or one together with its parts.
    """
    settings = document.form.settings
    numbers = {key: value for key, value in document.tables.items() if key not in settings}
    return dict(_terms(document, numbers, known, ""))


def _terms(
    document: Document, table: Mapping[str, Any], known: tuple[str, ...], prefix: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, value in table.items():
        name = prefix + key
        where = f"{document.where}, {name}"
        parts = [term.removeprefix(f"{name}.") for term in known if term.startswith(f"{name}.")]
        if "." in key or not (name in known or parts):
            everything = ("schema", "target", *document.form.settings, *known)
            raise FileFormatError(where, "is no known term", remedy=f"the terms are {listed(everything)}")
        if not isinstance(value, dict):
            raise FileFormatError(where, "must be a table", got=shown(value))
        if name in known and not value.keys() & set(parts):
            yield name, value
        elif name in known and value.keys() - set(parts):
            raise FileFormatError(
                where,
                "must be one number or its parts, not both",
                remedy=f"its parts are {listed(tuple(parts))}",
            )
        else:
            yield from _terms(document, value, known, f"{name}.")
