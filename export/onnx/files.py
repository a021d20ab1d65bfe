"""ONNX files, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from snndeploy.errors import FileFormatError
from snndeploy.export.onnx.external import detach, is_ours, locations
from snndeploy.export.onnx.metadata import Form
from snndeploy.export.onnx.model import lower
from snndeploy.export.onnx.numbers import Arithmetic
from snndeploy.export.onnx.reading import parse
from snndeploy.ir import Network
from snndeploy.ir.files import replacing


def export(
    network: Network,
    path: Path | str,
    form: Form,
    *,
    arithmetic: Arithmetic = "float32",
    batch: int | None = None,
    debug: bool = False,
    inline_functions: bool = False,
    external_data: bool = False,
    fingerprint: str = "",
) -> None:
    """Writes a network to an ONNX file, whole or not at all; other arguments and errors as `lower`.

    With `external_data` the weights go into a second file beside it, `<name>.<digest>.data`, which networks
    of more than 2 GB need. Whenever the writing ends, the model at `path` finds its own weights. The file of
    weights of the model that stood there before is removed.

    Raises:
        FileFormatError: A file cannot be written.
    """
    path = Path(path)
    model = lower(
        network,
        form,
        arithmetic=arithmetic,
        batch=batch,
        debug=debug,
        inline_functions=inline_functions,
        fingerprint=fingerprint,
        bounded=not external_data,
    )
    name, pieces = detach(model, path.name) if external_data else ("", [])
    with replacing(path) as temporary:
        before = _own_data(path)
        temporary.write_bytes(model.SerializeToString(deterministic=True))
        if pieces:
            with replacing(path.with_name(name)) as data, data.open("wb") as file:
                file.writelines(pieces)
    for old in before - ({name} if pieces else set()):
        path.with_name(old).unlink(missing_ok=True)


def _own_data(path: Path) -> set[str]:
    """Names of the files of weights that the model at that path has by itself."""
    try:
        named = locations(parse(path.read_bytes(), str(path)))
    except (OSError, FileFormatError):  # nothing, or no model
        return set()
    return {name for name in named if is_ours(name, path.name)}
