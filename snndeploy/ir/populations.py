"""The graph as a chip sees it: populations and the synapses between them.

Input, Lif and Output are populations. Whatever lies between two of them (convolution, pooling, upsampling,
flattening, direct edges) is composed into one synapse.
"""

from __future__ import annotations

from dataclasses import dataclass

from snndeploy.ir.graph import Edge, Graph
from snndeploy.ir.ops import Input, Lif, Output


@dataclass(frozen=True, order=True, slots=True)
class Synapse:
    """All paths from one population to another with the same total delay.

    delay: Logical time steps.
    """

    source: str
    target: str
    delay: int

    def __str__(self) -> str:
        return str(Edge(self.source, self.target, self.delay))


def is_population(graph: Graph, name: str) -> bool:
    """Whether an op is a population rather than a part of a synapse."""
    return isinstance(graph.ops[name], (Input, Lif, Output))


def populations(graph: Graph) -> tuple[str, ...]:
    """Names of the populations in the order of execution, the Input first and the Output last."""
    lifs = graph.ports
    return (graph.input, *lifs, graph.output)


def upstream(graph: Graph, name: str) -> tuple[str, ...]:
    """Names of the ops that make up the synapses into an op, in the order of execution."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for edge in graph.incoming[waiting.pop()]:
            if edge.source not in found and not is_population(graph, edge.source):
                found.add(edge.source)
                waiting.append(edge.source)
    return tuple(n for n in graph.order if n in found)


def arrivals(graph: Graph, name: str) -> tuple[tuple[str, int], ...]:
    """Every (population, delay) whose values enter the synapses into an op, sorted."""
    targets = (*upstream(graph, name), name)
    edges = (e for target in targets for e in graph.incoming[target])
    return tuple(sorted({(e.source, e.delay) for e in edges if is_population(graph, e.source)}))


def synapses(graph: Graph) -> tuple[Synapse, ...]:
    """All synapses of a graph, by target in the order of execution."""
    return tuple(
        Synapse(source, target, delay)
        for target in populations(graph)
        for source, delay in arrivals(graph, target)
    )
