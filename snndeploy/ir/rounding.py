"""How far rounding may move a sum, whatever its order: what tells a rounding from a mistake."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from snndeploy.ir.graph import Graph
from snndeploy.ir.kernels import Values
from snndeploy.ir.network import op_parameters
from snndeploy.ir.ops import AvgPool2d, BatchNorm, Flatten, Lif, Upsample

UNIT_ROUNDOFF = 2.0**-24  # of float32, rounding to nearest
SMALLEST = 2.0**-126  # of float32 before it loses digits, which no relative error describes
SMALLEST_HALF = 2.0**-14  # the same of float16
_HALF = 2**13  # roundings to float32 that one to float16, of unit roundoff 2**-11, is worth


def roundings(graph: Graph, *, half: bool = False) -> dict[str, int]:
    """Largest number of roundings to float32 on the way from spikes to what enters each op.

    Args:
        graph: The network's graph.
        half: Whether every op with a weight is computed with that weight, what enters it and its sum rounded
            to float16, each of which counts as 2**13 roundings to float32; whole spikes lose nothing.
    """
    whole = _whole_spikes(graph)
    leaving: dict[str, int] = {}
    into: dict[str, int] = {}
    for name in graph.order:
        edges = graph.incoming[name]
        into[name] = len(edges) + max((leaving.get(e.source, 0) for e in edges), default=0)
        op = graph.ops[name]
        own = 2
        if isinstance(op, BatchNorm):
            own = 8  # in either of the usual orders of its operations
        elif "weight" in (parameters := op_parameters(op)):
            own = math.prod(parameters["weight"][1:]) + 1
            if half:
                own += _HALF * (2 if all(e.source in whole for e in edges) else 3)
        elif isinstance(op, AvgPool2d):
            own = math.prod(op.kernel) + 1
        leaving[name] = 0 if isinstance(op, Lif) or name == graph.input else into[name] + own
    return into


def _whole_spikes(graph: Graph) -> set[str]:
    """Ops whose output is spikes or sums of them: whole numbers, and small ones."""
    whole = set(graph.ports)
    for name in graph.order:
        if isinstance(graph.ops[name], (Flatten, Upsample)):
            whole |= {name} if all(e.source in whole for e in graph.incoming[name]) else set()
    return whole


def relative_bound(count: int) -> float:
    """Relative error of a sum after that many roundings, in any order (Higham 2002, lemma 3.1)."""
    return count * UNIT_ROUNDOFF / (1 - count * UNIT_ROUNDOFF)


def worst_ratio(error: Values, bound: Values) -> float:
    """Largest error / bound."""
    return float((error / bound).max(initial=0.0))


def accumulated(op: Lif, rounding: Values, spikes: npt.NDArray[np.bool_]) -> Values:
    """Error of the membrane potential: each step's rounding and what the leak leaves of earlier ones."""
    bound = rounding.copy()
    for t in range(1, len(bound)):
        bound[t] += op.tau * bound[t - 1] * ~spikes[t - 1]
    return bound
