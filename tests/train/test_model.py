"""The graph a configuration asks for."""

from __future__ import annotations

import pytest

from snndeploy.backbones import resnet8
from snndeploy.errors import GraphError, NetworkError
from snndeploy.ir import BackwardConnection, Lif, backward_connections
from snndeploy.train.config import NetworkConfig
from snndeploy.train.model import build_graph

SHAPE = (1, 16, 16)


def test_defaults_are_the_backbone() -> None:
    """Without backward connections it is the backbone itself."""
    assert build_graph(NetworkConfig(backward=()), SHAPE, 10) == resnet8(SHAPE, 10)


def test_neurons_and_connections() -> None:
    """Every Lif gets the leak and threshold asked for, and every connection is there."""
    config = NetworkConfig(backward=("4:2", "6:6:2"), tau=0.25, threshold=0.75)
    graph = build_graph(config, SHAPE, 10)
    assert {graph.ops[name] for name in graph.ports} == {Lif(tau=0.25, threshold=0.75)}
    assert backward_connections(graph) == (BackwardConnection(4, 2, 1), BackwardConnection(6, 6, 2))


def test_what_cannot_be_built() -> None:
    """Ports that do not exist, forward connections, and delays that never act."""
    with pytest.raises(GraphError, match="ports are numbered 0 to 6"):
        build_graph(NetworkConfig(backward=("7:2",)), SHAPE, 10)
    with pytest.raises(GraphError, match="did you mean 4:2"):
        build_graph(NetworkConfig(backward=("2:4",)), SHAPE, 10)
    with pytest.raises(NetworkError, match="never acts within 4 time steps"):
        build_graph(NetworkConfig(backward=("4:2:4",)), SHAPE, 10)
