"""Sizes that a graph learns only at run time, as the vectors with which ONNX shapes values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir

from snndeploy.export.onnx.nodes import Dim, Nodes
from snndeploy.ir import Shape

BATCH, TIME = "batch", "time"


class Sizes:
    """Makes vectors such as (time, batch, *shape), each once.

    Args:
        nodes: Where the nodes go.
        measured: For each symbol its size at run time, (1,) int64.
    """

    def __init__(self, nodes: Nodes, measured: Mapping[str, onnx_ir.Value]) -> None:
        self._nodes, self._measured = nodes, measured
        self._made: dict[tuple[Dim, ...], onnx_ir.Value] = {}

    def vector(self, front: Sequence[Dim], shape: Shape) -> onnx_ir.Value:
        """The vector (*front, *shape), a constant if all of it is known."""
        wanted = (*front, *shape)
        if wanted not in self._made:
            self._made[wanted] = self._vector(wanted, f"size.{'x'.join(map(str, wanted))}")
        return self._made[wanted]

    def _vector(self, wanted: tuple[Dim, ...], label: str) -> onnx_ir.Value:
        if all(isinstance(d, int) for d in wanted):
            return self._nodes.integers(label, [int(d) for d in wanted])
        parts: list[onnx_ir.Value] = []
        known: list[int] = []
        for place, size in enumerate((*wanted, None)):
            if isinstance(size, int):
                known.append(size)
                continue
            if known:
                parts.append(self._nodes.integers(f"{label}.until{place}", known))
                known = []
            if size is not None:
                parts.append(self._measured[size])
        whole = onnx_ir.DataType.INT64
        return self._nodes.add("Concat", parts, label, (len(wanted),), {"axis": 0}, dtype=whole)


def measure(nodes: Nodes, x: onnx_ir.Value, axis: int, name: str) -> onnx_ir.Value:
    """The size of an axis at run time, (1,) int64."""
    ends = {"start": axis, "end": axis + 1}
    return nodes.add("Shape", [x], name, (1,), ends, dtype=onnx_ir.DataType.INT64)
