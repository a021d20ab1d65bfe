"""A network: a graph with its weights, its time steps, its input and its number format."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_never

from snndeploy.errors import NetworkError
from snndeploy.inputs import InputSpec
from snndeploy.ir.formats import (
    LARGEST_EXPONENT,
    LARGEST_MANTISSA,
    Exact,
    Float32,
    Loihi,
    NumberFormat,
    mantissa,
)
from snndeploy.ir.graph import Graph
from snndeploy.ir.ops import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    Input,
    Lif,
    Linear,
    Op,
    Output,
    Shape,
    Upsample,
)

Array: TypeAlias = npt.NDArray[np.float32]
_MOST_STEPS = 100_000


@dataclass(frozen=True, eq=False, kw_only=True)
class Network:
    """A graph with everything needed to run it. Arrays are read-only copies.

    graph: Its structure.
    weights: Array by parameter name, `<op>.<parameter>`, float32; see `parameter_shapes`.
    steps: Logical time steps T of one sample.
    readout: The logits are the mean over the last `readout` steps; 0 stands for all of them.
    input: How raw data becomes input.
    format: Number format the weights are in.
    classes: Names of the classes; may be empty.
    """

    graph: Graph
    weights: Mapping[str, npt.NDArray[Any]]
    steps: int
    readout: int = 0
    input: InputSpec = field(default_factory=InputSpec)
    format: NumberFormat = field(default_factory=Float32)
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_steps(self.graph, self.steps)
        if isinstance(self.readout, bool) or not isinstance(self.readout, int):
            raise NetworkError("readout", "must be a whole number of time steps", got=repr(self.readout))
        if self.readout == 0:
            object.__setattr__(self, "readout", self.steps)
        if not 1 <= self.readout <= self.steps:
            raise NetworkError("readout", f"must lie in [1, {self.steps}] time steps", got=self.readout)
        _check_input(self.input, self.graph.shapes[self.graph.input])
        object.__setattr__(self, "classes", tuple(self.classes))
        classes = self.graph.shapes[self.graph.output][0]
        if self.classes and len(self.classes) != classes:
            raise NetworkError("classes", f"must name {classes} classes or none", got=len(self.classes))
        object.__setattr__(self, "weights", MappingProxyType(_checked_weights(self)))
        if isinstance(self.format, (Exact, Loihi)):
            _check_grids(self, self.format)

    def __reduce__(self) -> tuple[Any, ...]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return partial(Network, **{**values, "weights": dict(self.weights)}), ()


def check_steps(graph: Graph, steps: int) -> None:
    """Raises NetworkError unless every delayed edge of the graph can act within `steps` time steps."""
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= _MOST_STEPS:
        raise NetworkError("steps", f"must be a whole number in [1, {_MOST_STEPS}]", got=repr(steps))
    for edge in graph.edges:
        if edge.delay >= steps:
            raise NetworkError(
                f"edge {edge}",
                f"never acts within {steps} time steps, as its delay is not below them",
                remedy=f"use a delay of at most {steps - 1}, or more time steps",
            )


def _check_input(spec: InputSpec, shape: Shape) -> None:
    if len(spec.mean) not in (0, 1, shape[0]):
        raise NetworkError("input", f"mean and std must have 1 or {shape[0]} entries", got=len(spec.mean))
    if spec.repeat > 1 and (len(shape) != 3 or shape[1] % spec.repeat or shape[2] % spec.repeat):
        raise NetworkError(
            "input",
            "repeat enlarges maps, so it must divide the height and width of the network's input",
            got=f"repeat {spec.repeat}, shape {shape}",
        )


def op_parameters(op: Op) -> dict[str, Shape]:
    """Shape of each parameter of an op, by its short name."""
    match op:
        case Conv2d():
            shapes: dict[str, Shape] = {"weight": (op.out_channels, op.in_channels // op.groups, *op.kernel)}
            return shapes | ({"bias": (op.out_channels,)} if op.bias else {})
        case Linear():
            shapes = {"weight": (op.out_features, op.in_features)}
            return shapes | ({"bias": (op.out_features,)} if op.bias else {})
        case BatchNorm():
            return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (op.channels,))
        case Input() | Lif() | AvgPool2d() | Upsample() | Flatten() | Dropout() | Output():
            return {}
        case _:
            assert_never(op)


def parameter_shapes(graph: Graph) -> dict[str, Shape]:
    """Shape of every parameter of a graph, by name `<op>.<parameter>`, in the order of execution."""
    return {
        f"{name}.{parameter}": shape
        for name in graph.order
        for parameter, shape in op_parameters(graph.ops[name]).items()
    }


def parameter_count(graph: Graph) -> int:
    """Number of trained values: weights and biases, without running statistics."""
    return sum(op_parameter_count(op) for op in graph.ops.values())


def op_parameter_count(op: Op) -> int:
    """Number of trained values of one op."""
    return sum(math.prod(s) for name, s in op_parameters(op).items() if not name.startswith("running_"))


def require_folded(graph: Graph, purpose: str) -> None:
    """Raises NetworkError if the graph still has ops that exist only while training."""
    if graph.training_only:
        name = graph.training_only[0]
        raise NetworkError(
            name,
            f"a {type(graph.ops[name]).__name__} exists only while training and cannot be used for {purpose}",
            remedy="fold the network first (snndeploy.ir.fold)",
        )


def _checked_weights(network: Network) -> dict[str, Array]:
    shapes = parameter_shapes(network.graph)
    unknown = sorted(set(network.weights) - set(shapes))
    missing = sorted(set(shapes) - set(network.weights))
    if unknown or missing:
        raise NetworkError(
            "weights",
            "must name exactly the graph's parameters",
            got=f"missing {missing[:5] or 'none'}, unknown {unknown[:5] or 'none'}",
        )
    checked: dict[str, Array] = {}
    for name, shape in shapes.items():
        with np.errstate(over="ignore", invalid="ignore"):  # what is no finite float32 is refused below
            array = np.array(network.weights[name], dtype=np.float32, copy=True, order="C")
        if array.shape != shape:
            raise NetworkError(name, f"must have shape {shape}", got=array.shape)
        if not np.isfinite(array).all():
            raise NetworkError(name, "must hold finite numbers", got="NaN or infinity")
        if name.endswith(".running_var") and (array < 0).any():
            raise NetworkError(name, "a variance must not be negative", got=float(array.min()))
        array.flags.writeable = False
        checked[name] = array
    return checked


def _check_grids(network: Network, form: Exact | Loihi) -> None:
    require_folded(network.graph, f"the {form.name} format")
    if network.input.grid_bits is None:
        raise NetworkError(
            "input", f"the {form.name} format needs inputs on a power-of-two grid", remedy="set grid_bits"
        )
    if set(form.exponents) != set(network.weights):
        raise NetworkError("format", "exponents must name exactly the graph's parameters")
    for name, array in network.weights.items():
        exponents = form.exponents[name]
        allowed = all(-LARGEST_EXPONENT <= k <= LARGEST_EXPONENT for k in exponents)
        if len(exponents) != array.shape[0] or not allowed:
            raise NetworkError(
                name,
                f"needs {array.shape[0]} exponents in [-{LARGEST_EXPONENT}, {LARGEST_EXPONENT}]",
                got=exponents[:8],
            )
        mantissas = mantissa(array, exponents)
        limit = LARGEST_MANTISSA if name.endswith(".weight") else 2**24
        if (mantissas != np.round(mantissas)).any() or (np.abs(mantissas) > limit).any():
            raise NetworkError(
                name,
                f"values must be whole multiples of 2**-k below {limit + 1} in size",
                remedy="quantize again",
            )
