"""The nodes of one ONNX graph while it is being written, each value and node with a unique, stable name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir

from snndeploy.export.onnx.numbers import FLOAT32, Numbers

Dim: TypeAlias = int | str
Attributes: TypeAlias = Mapping[str, float | int | str | Sequence[int] | onnx_ir.Graph]

OPSET = 20
DOMAIN = "snndeploy"
# Ops that hand values on as they are, and so in the type they have.
_MOVES = frozenset(
    {"Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Resize", "Slice", "Split"}
    | {"Squeeze", "Transpose", "Unsqueeze"}
)


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
        numbers: The arithmetic of the ops. Values may then be of several types, and every value is the number
            that stands in it: `sum`, `copy` and the ops convert where they must, and what only moves values
            keeps their type.
    """

    def __init__(self, reserved: Iterable[str], numbers: Numbers = FLOAT32) -> None:
        self.numbers = numbers
        self.nodes: list[onnx_ir.Node] = []
        self.initializers: dict[str, onnx_ir.Value] = {}
        self._reserved = frozenset(reserved)
        self._value_names = set(self._reserved)
        self._node_names: set[str] = set()
        self._derived: dict[tuple[onnx_ir.Value, object], onnx_ir.Value] = {}

    def inner(self) -> Nodes:
        """The nodes of a graph inside this one; the names of the two stay apart."""
        inside = Nodes(self._reserved, self.numbers)
        inside._value_names, inside._node_names = self._value_names, self._node_names
        return inside

    def fresh(self, name: str) -> str:
        """That name for a value, or if it is taken the name with a number after '#', which no op's has."""
        return _claimed(name, self._value_names)

    def constant(self, name: str, array: npt.NDArray[Any] | Callable[[], npt.NDArray[Any]]) -> onnx_ir.Value:
        """The initialiser of that name; made and stored once, however often it is asked for."""
        if name not in self.initializers:
            own = name if name in self._reserved else self.fresh(name)
            array = array() if callable(array) else array
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
        if op_type == "Concat":
            inputs = self.alike([x for x in inputs if x is not None])
        if op_type in _MOVES and inputs[0] is not None:
            for output in outputs:
                output.type = onnx_ir.TensorType(inputs[0].dtype or onnx_ir.DataType.FLOAT)
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
        """The sum of terms of one shape, from left to right: the order decides the rounding.

        Spikes in uint8 are added as such (`numbers` refuses a network where that could overflow), all else
        in float32.
        """
        counts = all(term.dtype == onnx_ir.DataType.UINT8 for term in terms)
        total, *others = terms if counts or len(terms) == 1 else [self.cast(term) for term in terms]
        for index, term in enumerate(others, 1):
            label = name if index == len(others) else f"{name}.{index}"
            dtype = total.dtype or onnx_ir.DataType.FLOAT
            total = self.add("Add", [total, term], label, dims(total), dtype=dtype)
        return total

    def alike(self, terms: Sequence[onnx_ir.Value]) -> list[onnx_ir.Value]:
        """The terms in one type: their own if they share one, else float32."""
        shared = len({term.dtype for term in terms}) == 1
        return list(terms) if shared else [self.cast(term) for term in terms]

    def cast(
        self, x: onnx_ir.Value, dtype: onnx_ir.DataType = onnx_ir.DataType.FLOAT, name: str = ""
    ) -> onnx_ir.Value:
        """The same numbers in another type; made once, however often it is asked for."""
        if x.dtype == dtype:
            return x
        label = name or f"{x.name}.{dtype.name.lower()}"
        return self.derived(
            x, dtype, lambda: self.add("Cast", [x], label, dims(x), {"to": dtype.value}, dtype=dtype)
        )

    def derived(self, x: onnx_ir.Value, key: object, make: Callable[[], onnx_ir.Value]) -> onnx_ir.Value:
        """What `make` appends for a value, appended once for each key."""
        if (x, key) not in self._derived:
            self._derived[x, key] = make()
        return self._derived[x, key]

    def copy(self, x: onnx_ir.Value, name: str) -> onnx_ir.Value:
        """A graph output of that reserved name in float32, of a value that may be an input or output too."""
        output = value(name, dims(x))
        if x.dtype in (None, onnx_ir.DataType.FLOAT):
            self.append("Identity", [x], [output], name)
        else:
            self.append("Cast", [x], [output], name, {"to": onnx_ir.DataType.FLOAT.value})
        return output


def _claimed(name: str, taken: set[str]) -> str:
    free, count = name, 1
    while free in taken:
        count += 1
        free = f"{name}#{count}"
    taken.add(free)
    return free
