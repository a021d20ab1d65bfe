"""A graph as text that people can look at, and as the plain data that a drawing needs."""

from __future__ import annotations

import dataclasses

from snndeploy.ir.graph import Graph
from snndeploy.ir.ops import Input, Lif, Output, Shape
from snndeploy.ir.populations import synapses


def mermaid(graph: Graph) -> str:
    """The graph as a mermaid flowchart: LIF layers rounded with their port, delayed edges dotted.

    Example:
        >>> from snndeploy.ir import Edge, Graph, Input, Lif, Linear, Output
        >>> print(mermaid(Graph(
        ...     {"input": Input(shape=(2,)), "lif": Lif(), "output": Output()},
        ...     (Edge("input", "lif"), Edge("lif", "lif", 1), Edge("lif", "output")),
        ... )))
        flowchart TD
            n0[/"input: Input 2"/]
            n1(["lif: LIF, port 0, 2"])
            n2[/"output: Output 2"/]
            n0 --> n1
            n1 -. "delay 1" .-> n1
            n1 --> n2
    """
    number = {name: f"n{index}" for index, name in enumerate(graph.order)}
    port = {name: index for index, name in enumerate(graph.ports)}
    lines = ["flowchart TD"]
    for name in graph.order:
        op, shape = graph.ops[name], "x".join(map(str, graph.shapes[name]))
        if isinstance(op, Lif):
            node = f'(["{name}: LIF, port {port[name]}, {shape}"])'
        elif isinstance(op, (Input, Output)):
            node = f'[/"{name}: {type(op).__name__} {shape}"/]'
        else:
            fields = dataclasses.asdict(op)
            kernel = "x".join(map(str, fields["kernel"])) + " " if "kernel" in fields else ""
            node = f'["{name}: {type(op).__name__} {kernel}to {shape}"]'
        lines.append(f"    {number[name]}{node}")
    for edge in graph.edges:
        arrow = f'-. "delay {edge.delay}" .->' if edge.delay else "-->"
        lines.append(f"    {number[edge.source]} {arrow} {number[edge.target]}")
    return "\n".join(lines)


def layers_of(graph: Graph) -> tuple[tuple[str, Shape], ...]:
    """Name and shape of every port, numbered from the input."""
    return tuple((name, graph.shapes[name]) for name in graph.ports)


def forward_of(graph: Graph) -> tuple[tuple[int, int], ...]:
    """(from, to) of every connection without delay between two ports, sorted.

    Example:
        >>> from snndeploy.backbones import resnet6
        >>> from snndeploy.ir.drawing import forward_of
        >>> forward_of(resnet6((1, 8, 8), 10))
        ((0, 1), (0, 2), (1, 2), (2, 3), (2, 4), (3, 4))
    """
    number = {name: port for port, name in enumerate(graph.ports)}
    return tuple(
        sorted(
            (number[s.source], number[s.target])
            for s in synapses(graph)
            if not s.delay and s.source in number and s.target in number
        )
    )
