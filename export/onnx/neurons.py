"""LIF neurons as calls of local functions, one call for each time step."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir

from snndeploy.export.onnx.functions import lif_function, loihi_function
from snndeploy.export.onnx.nodes import DOMAIN, Attributes, Nodes, dims, value
from snndeploy.export.onnx.numbers import Numbers
from snndeploy.ir import Graph, Lif
from snndeploy.ir.neurons import DECAY_UNITY

_SUFFIX = {
    onnx_ir.DataType.FLOAT: "",
    onnx_ir.DataType.UINT8: "_uint8",
    onnx_ir.DataType.FLOAT16: "_float16",
}


def lif(
    nodes: Nodes,
    name: str,
    op: Lif,
    x: onnx_ir.Value,
    v: onnx_ir.Value,
    *,
    label: str,
    spikes: str,
    v_next: str,
    u: str,
) -> tuple[onnx_ir.Value, onnx_ir.Value, onnx_ir.Value]:
    """Appends one call of a LIF function for one time step.

    Args:
        nodes: Where the node goes.
        name: The op's name.
        op: The neurons' constants.
        x: Input current, (batch, *shape), in any type.
        v: Membrane potential after the previous step's reset, of the same shape, in the type of membranes.
        label: Name for the node.
        spikes: Final name of the spikes.
        v_next: Final name of the membrane potential after the reset.
        u: Final name of the membrane potential before the reset; in the loihi format in units of its own.
    """
    numbers = nodes.numbers
    outputs = (
        value(spikes, dims(x), numbers.spikes),
        value(v_next, dims(x), numbers.membranes),
        value(u, dims(x)),
    )
    inputs, attributes = [nodes.cast(x), v], _attributes(op, numbers)
    if (unit := numbers.units.get(name)) is not None:
        inputs += [
            nodes.constant(f"{name}.scale", _compact((1 / unit).astype(np.float32))),
            nodes.constant(f"{name}.threshold", _compact((op.threshold / unit).astype(np.float32))),
        ]
    nodes.append(_called(op, numbers), inputs, outputs, label, attributes, domain=DOMAIN)
    return outputs


def functions(graph: Graph, numbers: Numbers) -> list[onnx_ir.Function]:
    """The functions that the neurons of a graph call."""
    made: dict[str, onnx_ir.Function] = {}
    for op in _lifs(graph):
        name = _called(op, numbers)
        if name in made:
            continue
        if numbers.units:
            made[name] = loihi_function(name, numbers.spikes, fraction=_tau(op).numerator != 1)
        else:
            made[name] = lif_function(name, numbers.spikes)
    return list(made.values())


def _lifs(graph: Graph) -> Iterator[Lif]:
    return (op for op in graph.ops.values() if isinstance(op, Lif))


def _called(op: Lif, numbers: Numbers) -> str:
    """Name of a function; where spikes leave it in another type than float32, the name tells so."""
    if not numbers.units:
        return f"LIF{_SUFFIX[numbers.spikes]}"
    fraction = "" if _tau(op).numerator == 1 else "_fraction"
    return f"LoihiLIF{fraction}{_SUFFIX[numbers.spikes]}"


def _attributes(op: Lif, numbers: Numbers) -> Attributes:
    if not numbers.units:
        return {"tau": op.tau, "threshold": op.threshold}
    tau = _tau(op)
    whole = {} if tau.numerator == 1 else {"numerator": tau.numerator}
    return {**whole, "denominator": tau.denominator}


def _tau(op: Lif) -> Fraction:
    """The fraction that tau is in the loihi format."""
    return Fraction(int(op.tau * DECAY_UNITY), DECAY_UNITY)


def _compact(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """One number for all channels where it is the same for all."""
    first = values.ravel()[:1]
    return first.reshape(()) if (values == first).all() else values
