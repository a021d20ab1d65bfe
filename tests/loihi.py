"""Random networks in the loihi format, of any leak and up to 16 time steps, with lively layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from snndeploy.ir import Graph, Lif, quantize
from tests.strategies import Case, enliven, is_lively, realise, structures

TAUS = (0.5, 3686 / 4096, 0.75, 1 / 16, 1.0, 1365 / 4096)


def with_tau(graph: Graph, tau: float) -> Graph:
    """The graph with another leak in all its neurons."""
    ops = {name: replace(op, tau=tau) if isinstance(op, Lif) else op for name, op in graph.ops.items()}
    return Graph(ops, graph.edges)


def in_loihi(case: Case, *, steps: int, tau: float, granularity: Literal["channel", "layer"]) -> Case:
    """The case with another leak and number of time steps, and its network in the loihi format."""
    x = case.x
    if case.network.input.kind == "frames":
        x = np.take(x, np.arange(steps) % len(x), axis=0)
    readout = min(case.network.readout, steps)
    original = replace(case.original, graph=with_tau(case.original.graph, tau), steps=steps, readout=readout)
    original = enliven(original, x)
    return Case(quantize(original, x, format="loihi", granularity=granularity).network, original, x)


@st.composite
def loihi_cases(draw: st.DrawFn, most_layers: int = 3) -> Case:
    """Lively networks in the loihi format with their input; every backward connection changes spikes."""
    structure = draw(structures(most_layers))
    least = 1 + max((delay for _, _, delay in structure.backward), default=0)
    case = in_loihi(
        realise(structure),
        steps=max(least, draw(st.sampled_from([10, 1, 16, 4, 7, 12]))),
        tau=draw(st.sampled_from(TAUS)),
        granularity=draw(st.sampled_from(["channel", "layer"])),
    )
    assume(is_lively(case.network, case.x))
    return case
