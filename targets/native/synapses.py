"""What lies between populations: convolutions, pools, sums and so on, in float32 PyTorch, on a batch.

Maps are (batch, channels, height, width) with the channels innermost in memory, as convolutions want them. In the
`exact` and `loihi` formats every partial sum is exact in float32, so that the order of summation does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import assert_never

from snndeploy.ir import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    Edge,
    Flatten,
    Graph,
    Input,
    Lif,
    Linear,
    Network,
    Op,
    Output,
    Upsample,
    arrivals,
    populations,
    upstream,
)

Function: TypeAlias = Callable[[Tensor], Tensor]
Key: TypeAlias = tuple[str, int]  # a source and its delay in logical time steps


class Synapses:
    """All ops that lead into one population, for one run.

    What only a static image enters is computed once, as long as the same tensor arrives.

    Args:
        graph: A folded graph.
        name: Of the population.
        functions: Each op between populations as a function of its summed input, by name.
        static: Whether the Input sends the same values at every step.
        batch: Samples at a time.
    """

    def __init__(
        self, graph: Graph, name: str, functions: Mapping[str, Function], *, static: bool, batch: int
    ) -> None:
        self._arrivals = arrivals(graph, name)
        self._shapes = [(batch, graph.shapes[source]) for source, _ in self._arrivals]
        self._silence: dict[Key, Tensor] = {}
        self._program = [
            (step, _keys(graph.incoming[step]), functions[step]) for step in upstream(graph, name)
        ]
        self._sources = _keys(graph.incoming[name])
        fixed: set[Key] = {key for key in self._arrivals if static and key[0] == graph.input}
        for step, sources, _ in self._program:
            if fixed.issuperset(sources):
                fixed.add((step, 0))
        self._static = {step for step, _ in fixed}
        self._kept: dict[str, tuple[list[Tensor], Tensor]] = {}

    def current(self, arrived: Sequence[Sequence[Tensor]]) -> Tensor:
        """Input of the population, (batch, *shape), for what arrived since its last update; not to be changed."""
        values: dict[Key, Tensor] = {}
        for key, messages, shape in zip(self._arrivals, arrived, self._shapes, strict=True):
            if not messages and key not in self._silence:
                self._silence[key] = empty(*shape).zero_()
            values[key] = _sum(messages) if messages else self._silence[key]
        for name, sources, apply in self._program:
            values[name, 0] = self._applied(name, [values[source] for source in sources], apply)
        return _sum([values[source] for source in self._sources])

    def _applied(self, name: str, entering: list[Tensor], apply: Function) -> Tensor:
        if name not in self._static:
            return apply(_sum(entering))
        kept = self._kept.get(name)
        if kept is None or not all(a is b for a, b in zip(kept[0], entering, strict=True)):
            kept = self._kept[name] = (entering, apply(_sum(entering)))
        return kept[1]


def empty(batch: int, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor (batch, *shape) with the channels innermost in memory."""
    channels, *places = shape
    return torch.empty(batch, *places, channels, dtype=dtype).movedim(-1, 1)


def functions(network: Network) -> dict[str, Function]:
    """Every op between populations as a function of its summed input, by name."""
    ops = network.graph.ops
    between = ops.keys() - set(populations(network.graph))
    return {name: _function(name, ops[name], network.weights) for name in between}


def _function(name: str, op: Op, weights: Mapping[str, npt.NDArray[np.float32]]) -> Function:
    match op:
        case Conv2d(stride=stride, padding=padding, groups=groups):
            weight, bias = _parameters(name, weights)
            inner = weight.contiguous(memory_format=torch.channels_last)
            return lambda x: F.conv2d(x, inner, bias, stride, padding, groups=groups)
        case Linear():
            weight, bias = _parameters(name, weights)
            return lambda x: F.linear(x, weight, bias)
        case AvgPool2d(kernel=kernel, stride=stride):
            return lambda x: F.avg_pool2d(x, kernel, stride)
        case Upsample(size=(height, width)):
            return lambda x: _upsample(x, height, width)
        case Flatten():
            return lambda x: x.flatten(1)
        case Input() | Lif() | Output() | BatchNorm() | Dropout():
            raise AssertionError(name)  # populations, and what no bundle holds
        case _:
            assert_never(op)


def _parameters(name: str, weights: Mapping[str, npt.NDArray[np.float32]]) -> tuple[Tensor, Tensor | None]:
    bias = weights.get(f"{name}.bias")
    return torch.tensor(weights[f"{name}.weight"]), None if bias is None else torch.tensor(bias)


def _upsample(x: Tensor, height: int, width: int) -> Tensor:
    maps = (x if x.ndim == 4 else x[:, :, None, None]).movedim(1, -1)
    rows = torch.arange(height) * maps.shape[1] // height
    columns = torch.arange(width) * maps.shape[2] // width
    return maps.index_select(1, rows).index_select(2, columns).movedim(-1, 1)


def _sum(values: Sequence[Tensor]) -> Tensor:
    if len(values) == 1:
        return values[0]
    total = values[0] + values[1]
    for value in values[2:]:
        total += value
    return total


def _keys(edges: Sequence[Edge]) -> list[Key]:
    return [(edge.source, edge.delay) for edge in edges]
