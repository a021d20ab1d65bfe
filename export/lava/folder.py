"""Replaces the folder of a bundle, whole or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snndeploy.errors import FileFormatError
from snndeploy.export.lava.manifest import FORMAT, MANIFEST


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new folder beside `path` that takes its place if the body succeeds, and otherwise leaves no trace.

    Raises:
        FileFormatError: Something that is no bundle stands at `path`.
    """
    _require_replaceable(path)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
        fresh, previous = Path(temporary, "fresh"), Path(temporary, "previous")
        fresh.mkdir()
        yield fresh
        if not path.exists():
            fresh.replace(path)
            return
        path.replace(previous)
        try:
            fresh.replace(path)
        except BaseException:
            previous.replace(path)
            raise


def _require_replaceable(path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        return
    try:
        found = json.loads((path / MANIFEST).read_bytes())["format"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found != FORMAT or path.is_symlink():
        raise FileFormatError(
            str(path), "exists and is not a Lava bundle", remedy="choose another path, or remove it yourself"
        )
