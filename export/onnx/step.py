"""The step form: one time step of a network, with its states as inputs and outputs."""

from __future__ import annotations

import onnx_ir

from snndeploy.export.onnx.metadata import Body, State
from snndeploy.export.onnx.nodes import Dim, Nodes, value
from snndeploy.export.onnx.ops import apply, lif
from snndeploy.ir import Graph, Input, Lif, Network, Output, populations


def states(graph: Graph) -> tuple[State, ...]:
    """The states of a graph, in the order of its populations.

    Each Lif has its membrane potential, `<name>.v`. A population with delayed edges has its output k steps
    ago, `<name>.y<k>`, for every k up to the largest of its delays.
    """
    found: list[State] = []
    for name in populations(graph):
        shape = graph.shapes[name]
        if isinstance(graph.ops[name], Lif):
            found.append(State(name, shape))
        longest = max((e.delay for e in graph.outgoing[name]), default=0)
        found += [State(name, shape, delay) for delay in range(1, longest + 1)]
    return tuple(found)


def step_body(network: Network, batch: Dim) -> Body:
    """Inputs `x` and `state_in.*`, outputs `logits` and `state_out.*`, each (batch, *shape).

    `logits` is what enters the Output at this one step; the caller sums it over the readout window.
    """
    graph = network.graph
    table = states(graph)
    names = [name for state in table for name in (state.input, state.output)]
    nodes = Nodes(["x", "logits", *names, *network.weights])
    x = value("x", (batch, *graph.shapes[graph.input]))
    before = {(s.op, s.delay): value(s.input, (batch, *s.shape)) for s in table}
    after: dict[tuple[str, int], onnx_ir.Value] = {}
    now: dict[str, onnx_ir.Value] = {graph.input: x}
    spikes: dict[str, tuple[str, ...]] = {}
    for name in graph.order:
        op = graph.ops[name]
        if isinstance(op, Input):
            continue
        terms = [before[e.source, e.delay] if e.delay else now[e.source] for e in graph.incoming[name]]
        entering = nodes.sum(terms, f"{name}.sum")
        match op:
            case Lif():
                fired, rest = nodes.fresh(f"{name}.spikes"), State(name, graph.shapes[name]).output
                spikes[name] = (fired,)
                now[name], after[name, 0] = lif(
                    nodes, name, op, entering, before[name, 0], spikes=fired, v_next=rest
                )
            case Output():
                now[name] = nodes.copy(entering, "logits")
            case _:
                shape = graph.shapes[name]
                now[name] = apply(nodes, name, op, entering, label=name, shape=shape, weights=network.weights)
    for state in table:
        if state.delay:
            newer = before[state.op, state.delay - 1] if state.delay > 1 else now[state.op]
            after[state.op, state.delay] = nodes.copy(newer, state.output)
    return Body(
        nodes=nodes,
        inputs=(x, *before.values()),
        outputs=(now[graph.output], *(after[s.op, s.delay] for s in table)),
        spikes=spikes,
        states=table,
    )
