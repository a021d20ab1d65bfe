"""Removes what exists only while training: BatchNorm goes into weights and biases, Dropout disappears."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.ir.formats import Float32
from snndeploy.ir.graph import Edge, Graph
from snndeploy.ir.network import Network
from snndeploy.ir.ops import BatchNorm, Conv2d, Dropout, Linear, Op

Wide = npt.NDArray[np.float64]


def fold(network: Network) -> Network:
    """The same network without BatchNorm and Dropout.

    Rules, in this order:

    1. A Dropout is left out; its edges are joined.
    2. A BatchNorm whose inputs are all Conv2d or Linear, each of which feeds nothing else, is folded into
       them: each is scaled, the first also takes the shift.
    3. Any other BatchNorm becomes a 1x1 Conv2d with groups = channels (a Linear with a diagonal weight on
       vectors), of the same name.

    The arithmetic is done in float64 and rounded once. The result is in float32 format.
    """
    state = _Folding(network)
    for name in network.graph.order:
        match network.graph.ops[name]:
            case Dropout():
                state.bypass(name)
            case BatchNorm() as norm:
                state.fold_norm(name, norm)
    graph = Graph(state.ops, tuple(state.edges))
    return replace(network, graph=graph, weights=state.weights, format=Float32())


class _Folding:
    """The graph while it is being folded."""

    def __init__(self, network: Network) -> None:
        self.ops: dict[str, Op] = dict(network.graph.ops)
        self.edges = list(network.graph.edges)
        self.shapes = network.graph.shapes
        self.weights: dict[str, npt.NDArray[Any]] = {
            name: array.astype(np.float64) for name, array in network.weights.items()
        }

    def bypass(self, name: str) -> None:
        """Joins the edges into an op with those out of it, each in the place of the edge it replaces."""
        sources = [e for e in self.edges if e.target == name]
        joined: list[Edge] = []
        for edge in self.edges:
            if edge.source == name:
                joined += [Edge(s.source, edge.target, s.delay + edge.delay) for s in sources]
            elif edge.target != name:
                joined.append(edge)
        self.edges = joined
        del self.ops[name]

    def fold_norm(self, name: str, norm: BatchNorm) -> None:
        own = {p: self.weights.pop(f"{name}.{p}") for p in ("weight", "bias", "running_mean", "running_var")}
        scale: Wide = own["weight"] / np.sqrt(own["running_var"] + norm.epsilon)
        shift: Wide = own["bias"] - own["running_mean"] * scale
        sources = [e for e in self.edges if e.target == name]
        if all(self._feeds_only(e, name) for e in sources):
            for index, edge in enumerate(sources):
                self._scale(edge.source, scale, shift if index == 0 else np.zeros_like(shift))
            self.bypass(name)
        else:
            self._replace(name, norm, scale, shift)

    def _feeds_only(self, edge: Edge, target: str) -> bool:
        consumers = [e.target for e in self.edges if e.source == edge.source]
        return isinstance(self.ops[edge.source], (Conv2d, Linear)) and consumers == [target]

    def _scale(self, name: str, scale: Wide, shift: Wide) -> None:
        op = self.ops[name]
        if not isinstance(op, (Conv2d, Linear)):
            raise TypeError(name)
        weight = self.weights[f"{name}.weight"]
        bias = self.weights.get(f"{name}.bias", np.zeros(len(scale)))
        self.weights[f"{name}.weight"] = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
        self.weights[f"{name}.bias"] = bias * scale + shift
        self.ops[name] = replace(op, bias=True)

    def _replace(self, name: str, norm: BatchNorm, scale: Wide, shift: Wide) -> None:
        count = norm.channels
        if len(self.shapes[name]) == 3:
            self.ops[name] = Conv2d(
                in_channels=count, out_channels=count, kernel=(1, 1), groups=count, bias=True
            )
            self.weights[f"{name}.weight"] = scale.reshape(-1, 1, 1, 1)
        else:
            self.ops[name] = Linear(in_features=count, out_features=count, bias=True)
            self.weights[f"{name}.weight"] = np.diag(scale)
        self.weights[f"{name}.bias"] = shift
