"""Graph and network description as plain JSON values, and back with every value checked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar, cast

from snndeploy.errors import FileFormatError, GraphError
from snndeploy.inputs import InputSpec
from snndeploy.ir.formats import Exact, Float32, Loihi, NumberFormat
from snndeploy.ir.graph import Edge, Graph
from snndeploy.ir.network import Network
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
    Upsample,
)

Json: TypeAlias = Any
Made = TypeVar("Made")
_OPS: Mapping[str, type[Op]] = {
    kind.__name__: kind
    for kind in (Input, Conv2d, Linear, BatchNorm, Lif, AvgPool2d, Upsample, Flatten, Dropout, Output)
}
_LONGEST_LIST = 1_000_000


def graph_to_json(graph: Graph) -> dict[str, Json]:
    """A graph as JSON values; `graph_from_json` is its inverse."""
    return {
        "ops": [
            {"name": name, "type": type(op).__name__, **dataclasses.asdict(op)}
            for name, op in graph.ops.items()
        ],
        "edges": [[e.source, e.target, e.delay] for e in graph.edges],
    }


def graph_from_json(value: Json) -> Graph:
    """The graph a JSON value describes.

    Raises:
        FileFormatError: The value is no description of a graph.
        GraphError: It describes a graph that breaks a rule.
    """
    fields = _fields("graph", value, {"ops", "edges"})
    ops: dict[str, Op] = {}
    for entry in _list("ops", fields["ops"]):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise FileFormatError("ops", "each op must be an object with a name", got=_short(entry))
        if entry["name"] in ops:
            raise FileFormatError(f"op {entry['name']!r}", "a name may stand only once")
        ops[entry["name"]] = _op(entry)
    edges = []
    for entry in _list("edges", fields["edges"]):
        whole = isinstance(entry, list) and len(entry) == 3
        if not whole or not isinstance(entry[0], str) or not isinstance(entry[1], str):
            raise FileFormatError("edges", "each edge must be [source, target, delay]", got=_short(entry))
        edges.append(Edge(*entry))
    return Graph(ops, tuple(edges))


def _op(entry: Mapping[str, Json]) -> Op:
    name, kind = entry["name"], entry.get("type")
    if not isinstance(kind, str) or kind not in _OPS:
        raise FileFormatError(
            f"op {name!r}", "is of an unknown type", got=_short(kind), remedy=f"known are {', '.join(_OPS)}"
        )
    allowed = {f.name for f in dataclasses.fields(_OPS[kind])}
    values = {key: value for key, value in entry.items() if key not in ("name", "type")}
    if set(values) != allowed:
        raise FileFormatError(
            f"op {name!r}", f"a {kind} has the fields {sorted(allowed)}", got=_short(sorted(values))
        )
    try:
        made: Op = _construct(_OPS[kind], values)
    except GraphError as error:  # an op does not know its name
        raise GraphError(f"op {name!r}, a {kind}", error.rule, got=error.got, remedy=error.remedy) from None
    return made


def _construct(kind: type[Made], values: Mapping[str, Json]) -> Made:
    """A frozen value from JSON fields; the class itself checks each of them."""
    return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})


def network_to_json(network: Network) -> dict[str, Json]:
    """All of a network except its arrays, as JSON values."""
    return {
        "graph": graph_to_json(network.graph),
        "steps": network.steps,
        "readout": network.readout,
        "input": input_to_json(network.input),
        "format": network.format.name,
        "classes": list(network.classes),
    }


def network_from_json(
    value: Json, weights: Mapping[str, Any], exponents: Mapping[str, tuple[int, ...]]
) -> Network:
    """The network a JSON value and its arrays describe.

    Args:
        value: What `network_to_json` gave.
        weights: Float array by parameter name.
        exponents: Grid of each parameter; empty in float32.

    Raises:
        SnnDeployError: The value or the arrays break a rule.
    """
    names = {"graph", "steps", "readout", "input", "format", "classes"}
    fields = _fields("network", value, names)
    classes = _list("classes", fields["classes"])
    if not all(isinstance(c, str) for c in classes):
        raise FileFormatError("classes", "must be a list of names", got=_short(classes))
    return Network(
        graph=graph_from_json(fields["graph"]),
        weights=weights,
        steps=fields["steps"],
        readout=fields["readout"],
        input=input_from_json(fields["input"]),
        format=_format(fields["format"], exponents),
        classes=tuple(classes),
    )


def input_to_json(spec: InputSpec) -> dict[str, Json]:
    """An input description as JSON values."""
    return spec.to_json()


def input_from_json(value: Json) -> InputSpec:
    """The input description a JSON value stands for; raises FileFormatError or NetworkError."""
    return InputSpec.from_json(value)


def _format(name: Json, exponents: Mapping[str, tuple[int, ...]]) -> NumberFormat:
    if name == "exact":
        return Exact(exponents)
    if name == "loihi":
        return Loihi(exponents)
    if name == "float32":
        return Float32()
    raise FileFormatError("format", "must be 'float32', 'exact' or 'loihi'", got=_short(name))


def parse(text: str, where: str) -> Json:
    """JSON text as values, with NaN and infinities refused.

    Raises:
        FileFormatError: The text is not JSON.
    """

    def refuse(constant: str) -> None:
        raise FileFormatError(where, "numbers must be finite", got=constant)

    try:
        return json.loads(text, parse_constant=refuse)
    except (json.JSONDecodeError, RecursionError) as error:
        raise FileFormatError(where, "is not valid JSON", got=str(error)) from None
    except ValueError as error:  # a whole number of too many digits
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(where, "is not valid JSON", got=_short(str(error))) from None


def _fields(where: str, value: Json, names: set[str]) -> dict[str, Json]:
    if not isinstance(value, dict) or set(value) != names:
        got = sorted(value) if isinstance(value, dict) else value
        raise FileFormatError(where, f"must be an object with the fields {sorted(names)}", got=_short(got))
    return cast("dict[str, Json]", value)


def _list(where: str, value: Json) -> list[Json]:
    if not isinstance(value, list) or len(value) > _LONGEST_LIST:
        raise FileFormatError(where, "must be a list", got=_short(value))
    return value


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
