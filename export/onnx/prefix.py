"""What a network computes but once per sample: the ops that see nothing but a static image."""

from __future__ import annotations

from snndeploy.ir import Input, Network, is_population


def input_only(network: Network) -> frozenset[str]:
    """Names of the ops whose output is the same at every step: empty for frames.

    They are the Input and what it reaches by edges without delay before any Lif. An op that also takes
    something else changes with it.
    """
    graph = network.graph
    if network.input.kind != "image":
        return frozenset()
    found: set[str] = set()
    for name in graph.order:
        edges = graph.incoming[name]
        if isinstance(graph.ops[name], Input) or (
            not is_population(graph, name) and all(e.delay == 0 and e.source in found for e in edges)
        ):
            found.add(name)
    return frozenset(found)
