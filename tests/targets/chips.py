"""Small chips for the tests of resources, and every synapse of a small graph, found the long way."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from snndeploy.ir import BatchNorm, Conv2d, Graph, Lif, Linear, is_population, parameter_shapes
from snndeploy.ir.kernels import apply
from snndeploy.targets.chip import LIMITS, RULES, Chip
from snndeploy.targets.quantity import Interval, Quantity, Statement

Matrix = npt.NDArray[np.bool_]


def chip(allowed: str = "", limits: Mapping[str, float] | None = None, **more: float) -> Chip:
    """A chip without limits but those given, as `neurons` for `core.neurons`; no rule holds but those named."""
    values = {
        "cores": 2**30,
        "neurons": 2**30,
        "memory": 2**30,
        "state": 4,
        "step": 1.0,
        **(limits or {}),
        **more,
    }
    return Chip(
        name="tiny",
        notes="A chip of a test.",
        limits={
            key: Quantity(Interval(value, value, value), unit, "a test", "assumed")
            for key, unit in LIMITS.items()
            if (value := values.get(key.split(".")[1])) is not None
        },
        rules={
            key: Statement(key.removeprefix("rules.") in allowed.split(), "a test", "assumed")
            for key in RULES
        },
    )


def paths(graph: Graph, start: str) -> Iterator[tuple[str, ...]]:
    """Every path of ops from one population to the next, both included."""
    waiting: list[tuple[str, ...]] = [(start, edge.target) for edge in graph.outgoing[start]]
    while waiting:
        path = waiting.pop()
        if is_population(graph, path[-1]):
            yield path
        else:
            waiting += [(*path, edge.target) for edge in graph.outgoing[path[-1]]]


def matrix(graph: Graph, path: tuple[str, ...]) -> Matrix:
    """Which neurons of a path's start (columns) have a synapse on which of its end (rows), neuron by neuron."""
    shape = graph.shapes[path[0]]
    values: npt.NDArray[np.float64] = np.eye(math.prod(shape)).reshape(-1, *shape)
    weights = {name: np.ones(size) for name, size in parameter_shapes(graph).items()}
    for name in path[1:-1]:
        op = graph.ops[name]
        if isinstance(op, (Conv2d, Linear)):
            weights = {n: w * 0 if n == f"{name}.bias" else w for n, w in weights.items()}
        if not isinstance(op, BatchNorm):
            values = apply(name, op, values, weights)
    return values.reshape(len(values), -1).T > 0


def synapses(graph: Graph, source: str, target: str) -> list[Matrix]:
    """The matrix of every path between two populations."""
    return [matrix(graph, path) for path in paths(graph, source) if path[-1] == target]


def spiking(graph: Graph) -> list[str]:
    """Names of all Lifs."""
    return [name for name, op in graph.ops.items() if isinstance(op, Lif)]
