"""ONNX files: written whole or not at all, and read again to look inside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from snndeploy.errors import FileFormatError
from snndeploy.export.onnx.metadata import FORMAT_VERSION, PREFIX, Form
from snndeploy.export.onnx.model import lower
from snndeploy.ir import Network
from snndeploy.ir.files import replacing


def export(
    network: Network, path: Path | str, form: Form, *, batch: int | None = None, fingerprint: str = ""
) -> None:
    """Writes a network to an ONNX file, whole or not at all; arguments and errors as `lower`.

    Raises:
        FileFormatError: The file cannot be written.
    """
    model = lower(network, form, batch=batch, fingerprint=fingerprint).SerializeToString(deterministic=True)
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(model)


def expose_spikes(model: bytes | Path) -> bytes:
    """The same model with the spikes of every Lif as further graph outputs.

    The names are those in the model's own metadata, so that a file which somebody changed can be examined.

    Args:
        model: An exported file or its bytes.

    Raises:
        FileFormatError: The file is missing or damaged, was not exported by snndeploy, has another format
            version, or has lost the values that hold the spikes.
    """
    where = str(model) if isinstance(model, Path) else "ONNX model"
    proto = _parsed(model, where)
    graph = proto.graph
    made = {name for node in graph.node for name in node.output}
    shown = {output.name for output in graph.output}
    for lif, shape, spikes in _neurons(proto, where):
        for name in spikes:
            if name not in made:
                raise FileFormatError(where, f"must hold the spikes of {lif}, value {name!r}")
            if name not in shown:
                full = [None, *shape[1:]]
                graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, full))
    exposed = {output.name for output in graph.output}
    others = [info for info in graph.value_info if info.name not in exposed]
    del graph.value_info[:]
    graph.value_info.extend(others)
    return bytes(proto.SerializeToString(deterministic=True))


def differing_weights(network: Network, path: Path) -> tuple[str, ...]:
    """Names of the network's parameters that a file lacks or holds with other values, in their order.

    A changed weight that happens to change no spike on some samples is found here all the same.

    Raises:
        FileFormatError: The file is missing or damaged.
    """
    stored = {i.name: i for i in _parsed(path, str(path)).graph.initializer}
    return tuple(
        name
        for name, array in network.weights.items()
        if name not in stored or not _holds(stored[name], array)
    )


def _holds(tensor: onnx.TensorProto, array: npt.NDArray[np.generic]) -> bool:
    try:
        return np.array_equal(onnx.numpy_helper.to_array(tensor), array)
    except (ValueError, TypeError):  # its bytes do not fit its shape, or lie in another file
        return False


def _parsed(model: bytes | Path, where: str) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(model.read_bytes() if isinstance(model, Path) else model)
    except FileNotFoundError:
        raise FileFormatError(where, "does not exist") from None
    except OSError as error:
        raise FileFormatError(where, "cannot be read", got=error.strerror) from None
    except Exception as error:  # protobuf's, for which onnx has no name
        raise FileFormatError(where, "is not an ONNX file", got=str(error)) from None


def _neurons(proto: onnx.ModelProto, where: str) -> list[tuple[str, list[int], list[str]]]:
    """Name, shape and names of the spikes of every Lif, from the model's metadata."""
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    version = metadata.get(f"{PREFIX}format_version")
    if version is None:
        raise FileFormatError(
            where, "was not exported by snndeploy", remedy="give it a file of `export onnx`"
        )
    if version != str(FORMAT_VERSION):
        raise FileFormatError(
            where,
            f"must have format version {FORMAT_VERSION}",
            got=repr(version),
            remedy="use the snndeploy that wrote it",
        )
    try:
        table = json.loads(metadata[f"{PREFIX}neurons"])
        return [
            (str(entry["name"]), [int(d) for d in entry["shape"]], [str(s) for s in entry["spikes"]])
            for entry in table
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(where, "has a damaged table of neurons", got=repr(error)) from None
