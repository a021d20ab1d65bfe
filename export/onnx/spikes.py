"""The spikes of a model that was exported before, made visible."""

from __future__ import annotations

from pathlib import Path

import onnx

from snndeploy.errors import FileFormatError
from snndeploy.export.onnx.external import initializers
from snndeploy.export.onnx.model import LARGEST_BYTES
from snndeploy.export.onnx.numbers import Numbers
from snndeploy.export.onnx.reading import arithmetic_of, neurons, read


def expose_spikes(model: bytes | Path) -> bytes:
    """The same model with the spikes of every Lif as further graph outputs.

    The names are those in the model's own metadata, so that a file which somebody changed can be examined.
    Values in a file beside the model are taken into it.

    Args:
        model: An exported file or its bytes.

    Raises:
        FileFormatError: The file is missing or damaged, was not exported by snndeploy, has another format
            version, or has lost the values that hold the spikes; or it and what lies beside it are too large
            for one ONNX file.
    """
    where = str(model) if isinstance(model, Path) else "ONNX model"
    proto = read(model, where)
    _expose(proto, where)
    if sum(len(tensor.raw_data) for tensor in initializers(proto.graph)) > LARGEST_BYTES:
        raise FileFormatError(
            where,
            f"must fit into {LARGEST_BYTES} bytes with its values",
            remedy="export it with debug outputs",
        )
    return bytes(proto.SerializeToString(deterministic=True))


def _expose(proto: onnx.ModelProto, where: str) -> None:
    graph = proto.graph
    dtype = Numbers(arithmetic_of(proto, where)).spikes.value
    made = {name for node in graph.node for name in node.output}
    shown = {output.name for output in graph.output}
    for lif, shape, spikes in neurons(proto, where):
        front: list[None] = [None, None] if isinstance(spikes, str) else [None]
        for name in [spikes] if isinstance(spikes, str) else spikes:
            if name not in made:
                raise FileFormatError(where, f"must hold the spikes of {lif}, value {name!r}")
            if name not in shown:
                full = [*front, *shape[1:]]
                graph.output.append(onnx.helper.make_tensor_value_info(name, dtype, full))
    exposed = {output.name for output in graph.output}
    others = [info for info in graph.value_info if info.name not in exposed]
    del graph.value_info[:]
    graph.value_info.extend(others)
