"""The graph a configuration asks for, and the surrogate gradient to train it with."""

from __future__ import annotations

from snndeploy.backbones import backbone
from snndeploy.ir import Graph, Lif, Shape, check_steps, with_backward
from snndeploy.nn.surrogate import Surrogate, surrogate_of
from snndeploy.train.config import NetworkConfig


def build_graph(config: NetworkConfig, shape: Shape, classes: int) -> Graph:
    """The backbone with its neurons set and its backward connections added.

    Args:
        config: What is asked for.
        shape: (channels, height, width) of the input.
        classes: Number of classes.

    Raises:
        GraphError: A backward connection is not possible, or the input is too small for the backbone.
        NetworkError: A delay is not below the number of steps.
    """
    graph = backbone(config.backbone, shape, classes)
    neuron = Lif(tau=config.tau, threshold=config.threshold)
    ops = {name: neuron if isinstance(op, Lif) else op for name, op in graph.ops.items()}
    graph = Graph(ops, graph.edges)
    for connection in config.connections:
        graph = with_backward(graph, connection.source, connection.target, connection.delay)
    check_steps(graph, config.steps)
    return graph


def build_surrogate(config: NetworkConfig) -> Surrogate:
    """The stand-in for the derivative of a spike."""
    return surrogate_of(
        config.surrogate,
        width=config.surrogate_width,
        alpha=config.surrogate_alpha,
        tau=config.surrogate_tau,
    )
