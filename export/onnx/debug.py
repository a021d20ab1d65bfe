"""What debug outputs show of every Lif: its spikes, float32 or whole numbers, and u."""

from __future__ import annotations

import numpy as np
import onnx_ir

from snndeploy.export.onnx.nodes import Nodes, dims, value
from snndeploy.ir import Graph

_HALF = onnx_ir.DataType.FLOAT16


def debug_names(graph: Graph) -> list[str]:
    """Names of the debug outputs, in their order; kept free for them in models without them, too."""
    return [f"{name}.{part}" for name in graph.ports for part in ("spikes", "u")]


def spikes_name(nodes: Nodes, lif: str) -> str:
    """Final name for a Lif's spikes: that of the debug output, unless they are float16 and it is not."""
    half = nodes.numbers.spikes == _HALF
    return nodes.fresh(f"{lif}.spikes.float16") if half else f"{lif}.spikes"


def shown_spikes(nodes: Nodes, lif: str, spikes: onnx_ir.Value) -> onnx_ir.Value:
    """Spikes of that name as a debug output."""
    return nodes.copy(spikes, f"{lif}.spikes") if spikes.dtype == _HALF else spikes


def potentials_name(nodes: Nodes, lif: str) -> str:
    """Final name for a Lif's u: that of the debug output, unless it is in units of the membrane."""
    return nodes.fresh(f"{lif}.u.units") if nodes.numbers.units else f"{lif}.u"


def shown_potentials(nodes: Nodes, lif: str, u: onnx_ir.Value, name: str = "") -> onnx_ir.Value:
    """U in real values, by default under the name of the debug output.

    Args:
        nodes: Where the nodes go.
        lif: Name of the Lif.
        u: (..., *shape), in float32; in the loihi format in units of the membrane.
        name: Final name, if it is another one.
    """
    if lif not in nodes.numbers.units:
        return u
    unit = nodes.constant(f"{lif}.unit", nodes.numbers.units[lif].astype(np.float32))
    shown = value(name or f"{lif}.u", dims(u))
    nodes.append("Mul", [u, unit], [shown], str(shown.name))
    return shown
