"""Small graphs for the tests of `snndeploy.ir`, and random weights for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.ir import (
    BatchNorm,
    Conv2d,
    Edge,
    Flatten,
    Graph,
    Input,
    InputSpec,
    Lif,
    Linear,
    Network,
    Op,
    Output,
    parameter_shapes,
)


def conv(i: int, o: int, kernel: int = 3, stride: int = 1, groups: int = 1, *, bias: bool = False) -> Conv2d:
    """A convolution with square kernel that keeps the resolution at stride 1."""
    return Conv2d(
        in_channels=i,
        out_channels=o,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(kernel // 2, kernel // 2),
        groups=groups,
        bias=bias,
    )


def linear(i: int, o: int, *, bias: bool = False) -> Linear:
    """A fully connected op."""
    return Linear(in_features=i, out_features=o, bias=bias)


def edges(*paths: str) -> tuple[Edge, ...]:
    """Edges along paths such as `a b ~2 c`: from a to b, and from b to c with a delay of 2."""
    found = []
    for path in paths:
        source, delay = "", 0
        for word in path.split():
            if word.startswith("~"):
                delay = int(word[1:])
                continue
            if source:
                found.append(Edge(source, word, delay))
            source, delay = word, 0
    return tuple(found)


def wired(ops: Mapping[str, Op], *paths: str) -> Graph:
    """A graph from ops and paths as `edges` reads them."""
    return Graph(ops, edges(*paths))


def direct(*paths: str, features: int = 2) -> Graph:
    """A graph of Lifs of equal size without weights; `in` is the Input and `out` the Output."""
    found = edges(*paths)
    names = dict.fromkeys(name for edge in found for name in (edge.source, edge.target))
    ends: dict[str, Op] = {"in": Input(shape=(features,)), "out": Output()}
    return Graph({name: ends.get(name, Lif()) for name in names}, found)


def classifier(*, norm: bool = False) -> Graph:
    """Graph: input -> conv -> [norm ->] lif1 -> fc -> lif2 -> readout -> output, on a 2 x 4 x 4 input."""
    ops: dict[str, Op] = {
        "input": Input(shape=(2, 4, 4)),
        "conv": conv(2, 3),
        "norm": BatchNorm(channels=3),
        "lif1": Lif(),
        "flatten": Flatten(),
        "fc": linear(48, 5, bias=True),
        "lif2": Lif(),
        "readout": linear(5, 3, bias=True),
        "output": Output(),
    }
    if not norm:
        del ops["norm"]
    return wired(ops, " ".join(ops))


def random_weights(
    graph: Graph, rng: np.random.Generator, gain: float = 1.5
) -> dict[str, npt.NDArray[np.float64]]:
    """Random parameters with outputs of about unit size."""
    weights: dict[str, npt.NDArray[np.float64]] = {}
    for name, shape in parameter_shapes(graph).items():
        if name.endswith("running_var") or (name.endswith(".weight") and len(shape) == 1):
            weights[name] = rng.uniform(0.5, 1.5, shape)
        elif name.endswith(".weight"):
            weights[name] = rng.normal(0, gain / np.sqrt(np.prod(shape[1:])), shape)
        else:
            weights[name] = rng.normal(0.1, 0.3, shape)
    return weights


def random_network(graph: Graph, seed: int = 0, **settings: Any) -> Network:
    """A float32 network with random weights; 4 time steps and input on a grid unless the settings say else."""
    rng = np.random.default_rng(seed)
    settings = {"steps": 4, "input": InputSpec(grid_bits=4), **settings}
    return Network(graph=graph, weights=random_weights(graph, rng), **settings)


def random_input(network: Network, seed: int = 0, samples: int = 3) -> npt.NDArray[np.float32]:
    """Input on the grid of 1/16, (batch, *shape) or (time, batch, *shape)."""
    rng = np.random.default_rng([seed, 1])
    front = (network.steps, samples) if network.input.kind == "frames" else (samples,)
    shape = (*front, *network.graph.shapes[network.graph.input])
    x: npt.NDArray[np.float32] = (rng.integers(0, 17, shape) / 16).astype(np.float32)
    return x
