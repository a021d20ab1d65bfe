"""The nodes of one ONNX graph while it is being written, each value and node with a unique, stable name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir

Dim: TypeAlias = int | str
Attributes: TypeAlias = Mapping[str, float | int | str | Sequence[int]]

OPSET = 20
DOMAIN = "snndeploy"


def value(name: str, shape: Iterable[Dim], dtype: onnx_ir.DataType = onnx_ir.DataType.FLOAT) -> onnx_ir.Value:
    """A value of that name; each dimension is a number or a symbol."""
    return onnx_ir.Value(name=name, shape=onnx_ir.Shape(list(shape)), type=onnx_ir.TensorType(dtype))


def dims(x: onnx_ir.Value) -> tuple[Dim, ...]:
    """The dimensions a value was made with."""
    return tuple(d if isinstance(d, int) else str(d.value) for d in x.shape or ())


class Nodes:
    """Collects nodes and initialisers.

    Args:
        reserved: Names of graph inputs, outputs and parameters, which no other value may take.
    """

    def __init__(self, reserved: Iterable[str]) -> None:
        self.nodes: list[onnx_ir.Node] = []
        self.initializers: dict[str, onnx_ir.Value] = {}
        self._reserved = frozenset(reserved)
        self._value_names = set(self._reserved)
        self._node_names: set[str] = set()

    def fresh(self, name: str) -> str:
        """That name for a value, or if it is taken the name with a number after '#', which no op's has."""
        return _claimed(name, self._value_names)

    def constant(self, name: str, array: npt.NDArray[Any]) -> onnx_ir.Value:
        """The initialiser of that name; stored once, however often it is asked for."""
        if name not in self.initializers:
            own = name if name in self._reserved else self.fresh(name)
            tensor = onnx_ir.tensor(array, name=own)
            self.initializers[name] = onnx_ir.Value(
                name=own,
                shape=onnx_ir.Shape(array.shape),
                type=onnx_ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
        return self.initializers[name]

    def integers(self, name: str, numbers: Sequence[int]) -> onnx_ir.Value:
        """The int64 vector of that name, as an initialiser."""
        return self.constant(name, np.array(numbers, np.int64))

    def append(
        self,
        op_type: str,
        inputs: Sequence[onnx_ir.Value | None],
        outputs: Sequence[onnx_ir.Value],
        name: str,
        attributes: Attributes | None = None,
        *,
        domain: str = "",
    ) -> None:
        """Appends a node whose outputs have their final names already."""
        made = onnx_ir.convenience.convert_attributes(dict(attributes or {}))
        unique = _claimed(name, self._node_names)
        self.nodes.append(onnx_ir.Node(domain, op_type, inputs, made, outputs=outputs, name=unique))

    def add(
        self,
        op_type: str,
        inputs: Sequence[onnx_ir.Value | None],
        name: str,
        shape: Iterable[Dim],
        attributes: Attributes | None = None,
        *,
        dtype: onnx_ir.DataType = onnx_ir.DataType.FLOAT,
    ) -> onnx_ir.Value:
        """Appends a node with one output, named after it, and returns that output."""
        output = value(self.fresh(name), shape, dtype)
        self.append(op_type, inputs, [output], name, attributes)
        return output

    def sum(self, terms: Sequence[onnx_ir.Value], name: str) -> onnx_ir.Value:
        """The sum of terms of one shape, from left to right: the order decides the rounding."""
        total = terms[0]
        for index, term in enumerate(terms[1:], 1):
            label = name if index == len(terms) - 1 else f"{name}.{index}"
            total = self.add("Add", [total, term], label, dims(total))
        return total

    def copy(self, x: onnx_ir.Value, name: str) -> onnx_ir.Value:
        """A graph output of that reserved name, for a value that may be an input or another output too."""
        output = value(name, dims(x))
        self.append("Identity", [x], [output], name)
        return output


def _claimed(name: str, taken: set[str]) -> str:
    free, count = name, 1
    while free in taken:
        count += 1
        free = f"{name}#{count}"
    taken.add(free)
    return free
