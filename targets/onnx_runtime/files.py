"""ONNX files, read and examined before ONNX Runtime opens anything."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from snndeploy.errors import FileFormatError
from snndeploy.targets.onnx_runtime.contents import Contents, External, read_contents


@dataclass(frozen=True)
class Model:
    """A model and where it is from.

    data: The bytes of the ONNX file.
    folder: Where files with further values lie; None if there are none.
    where: What messages call the model.
    """

    data: bytes
    contents: Contents
    folder: Path | None
    where: str


def read_model(model: Path | str | bytes, where: str = "") -> Model:
    """Reads a model and checks what it may make ONNX Runtime read.

    Values outside the file must lie in plain files beside it.

    Raises:
        FileFormatError: The file is missing or damaged, or names values elsewhere.
    """
    if isinstance(model, bytes):
        data, folder, where = model, None, where or "ONNX model"
    else:
        path = Path(model)
        where = where or str(path)
        data, folder = _read(path, where), path.parent
    contents = read_contents(data, where)
    for external in contents.external:
        _check_external(external, folder, where)
    return Model(data, contents, folder.resolve() if folder and contents.external else None, where)


def _read(path: Path, where: str) -> bytes:
    try:
        if path.is_file() or not path.exists():  # a pipe or device would never end
            return path.read_bytes()
    except FileNotFoundError:
        raise FileFormatError(where, "does not exist") from None
    except OSError as error:
        raise FileFormatError(where, "cannot be read", got=error.strerror) from None
    except ValueError as error:  # a null character in the path
        raise FileFormatError(where, "cannot be read", got=str(error)) from None
    raise FileFormatError(where, "cannot be read", got="no regular file")


def _check_external(external: External, folder: Path | None, where: str) -> None:
    """Refuses values anywhere but in a regular file of the model's own folder."""
    name = external.location
    if folder is None:
        raise FileFormatError(
            where, "must hold all values itself", got=repr(name), remedy="give the path of the file"
        )
    # Nothing but a plain name: no folders, no drives, none of the names that mean an address in memory.
    if name in ("", ".", "..") or not name.isprintable() or any(c in '/\\:*?"<>|' for c in name):
        raise FileFormatError(where, "values outside must lie in a file beside it", got=repr(name))
    try:
        found = (folder / name).lstat()
    except OSError as error:
        raise FileFormatError(where, f"needs the file {name!r} beside it", got=error.strerror) from None
    if not stat.S_ISREG(found.st_mode):
        raise FileFormatError(where, f"needs {name!r} beside it to be a regular file, not a link")
    if external.offset + external.length > found.st_size:
        raise FileFormatError(
            where,
            f"needs more bytes of {name!r}",
            got=f"{found.st_size} of {external.offset + external.length}",
        )
