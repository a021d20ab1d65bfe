"""Where the weights of a training run start: drawn from the seed, or taken from a network file.

A file holds the network as it was trained, with its BatchNorm, or folded without. Either is trained on as it
is: a folded network, and so one in the exact format, keeps its convolutions with biases and gets no new
normalisation. It is trained on from the very values that the file holds, in float32.

The file must be of the graph that the configuration asks for, up to folding. It may lack backward
connections: these are added, with a BatchNorm, and start as any new connection does, without an effect. Time
steps, data and everything else may be others than before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.errors import ConfigError
from snndeploy.ir import (
    BackwardConnection,
    Graph,
    Network,
    backward_connections,
    fold,
    load,
    parameter_shapes,
    with_backward,
)

Weights = Mapping[str, npt.NDArray[Any]]


def starting_point(
    path: str, graph: Graph, connections: Sequence[BackwardConnection]
) -> tuple[Graph, Weights]:
    """The graph to train and the weights it starts from, by name; weights that are not named are to be drawn.

    Args:
        path: A network file; empty for none.
        graph: What the configuration asks for.
        connections: The backward connections in it.

    Raises:
        ConfigError: The file holds another graph.
        FileFormatError: The file cannot be read.
    """
    if not path:
        return graph, {}
    network = load(Path(path))
    return _completed(network, graph, connections, path), network.weights


def _completed(network: Network, graph: Graph, connections: Sequence[BackwardConnection], path: str) -> Graph:
    """The network's graph with the connections it lacks."""
    there = set(backward_connections(network.graph))
    if surplus := sorted(there - set(connections)):
        raise ConfigError(
            f"start {path}",
            "has a backward connection that the configuration does not ask for",
            got=", ".join(f"{c.source}:{c.target}:{c.delay}" for c in surplus),
            remedy="add it to network.backward",
        )
    completed = network.graph
    if len(completed.ports) == len(graph.ports):
        for connection in connections:
            if connection not in there:
                completed = with_backward(completed, connection.source, connection.target, connection.delay)
    if problem := _difference(_skeleton(completed), _skeleton(graph)):
        raise ConfigError(
            f"start {path}",
            "must hold the network that the configuration asks for",
            got=problem,
            remedy="change the configuration, or start from another file",
        )
    return completed


def _skeleton(graph: Graph) -> Graph:
    """The graph as folding leaves it."""
    weights = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(graph).items()}
    return fold(Network(graph=graph, weights=weights, steps=graph.largest_delay + 1)).graph


def _difference(found: Graph, wanted: Graph) -> str:
    """The first thing in which two graphs differ, apart from the order of ops and edges; empty if in nothing."""
    for name in [*wanted.ops, *found.ops]:
        if found.ops.get(name) != wanted.ops.get(name):
            return f"{name} {found.ops.get(name, 'missing')} instead of {wanted.ops.get(name, 'nothing')}"
    surplus, missing = Counter(found.edges), Counter(wanted.edges)
    for edge in (surplus - missing) + (missing - surplus):
        return f"edge {edge} {'too much' if edge in surplus - missing else 'missing'}"
    return ""
