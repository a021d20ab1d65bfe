"""The step form: one time step of a network, with its states as inputs and outputs."""

from __future__ import annotations

import onnx_ir

from snndeploy.export.onnx.debug import (
    debug_names,
    potentials_name,
    shown_potentials,
    shown_spikes,
    spikes_name,
)
from snndeploy.export.onnx.metadata import Body
from snndeploy.export.onnx.neurons import lif
from snndeploy.export.onnx.nodes import Dim, Nodes, value
from snndeploy.export.onnx.numbers import Numbers
from snndeploy.export.onnx.ops import apply
from snndeploy.export.onnx.states import State, states
from snndeploy.ir import Input, Lif, Network, Output


def step_body(network: Network, numbers: Numbers, batch: Dim, *, debug: bool) -> Body:
    """Inputs `x` and `state_in.*`, outputs `logits` and `state_out.*`, each (batch, *shape).

    `logits` is what enters the Output at this one step; the caller sums it over the readout window.
    """
    graph = network.graph
    table = states(graph)
    names = [name for state in table for name in (state.input, state.output)]
    nodes = Nodes(["x", "logits", *names, *debug_names(graph), *network.weights], numbers)
    x = value("x", (batch, *graph.shapes[graph.input]))
    given = {(s.op, s.delay): value(s.input, (batch, *s.shape), numbers.state(s.delay)) for s in table}
    before = {key: _entering(nodes, network, *key, state) for key, state in given.items()}
    after: dict[tuple[str, int], onnx_ir.Value] = {}
    now: dict[str, onnx_ir.Value] = {graph.input: x}
    potentials: dict[str, onnx_ir.Value] = {}
    for name in graph.order:
        op = graph.ops[name]
        if isinstance(op, Input):
            continue
        terms = [before[e.source, e.delay] if e.delay else now[e.source] for e in graph.incoming[name]]
        entering = nodes.sum(terms, f"{name}.sum")
        match op:
            case Lif():
                now[name], after[name, 0], potentials[name] = lif(
                    nodes,
                    name,
                    op,
                    entering,
                    before[name, 0],
                    label=name,
                    spikes=spikes_name(nodes, name),
                    v_next=State(name, graph.shapes[name]).output,
                    u=potentials_name(nodes, name),
                )
            case Output():
                now[name] = nodes.copy(entering, "logits")
            case _:
                shape = graph.shapes[name]
                now[name] = apply(nodes, name, op, entering, label=name, shape=shape, weights=network.weights)
    for state in table:
        if state.delay:
            newer = given[state.op, state.delay - 1] if state.delay > 1 else now[state.op]
            after[state.op, state.delay] = nodes.copy(newer, state.output)
    shown = graph.ports if debug else ()
    debugged = [
        x
        for name in shown
        for x in (shown_spikes(nodes, name, now[name]), shown_potentials(nodes, name, potentials[name]))
    ]
    return Body(
        nodes=nodes,
        inputs=(x, *given.values()),
        outputs=(now[graph.output], *(after[s.op, s.delay] for s in table), *debugged),
        spikes={name: (str(now[name].name),) for name in graph.ports},
        states=table,
    )


def _entering(nodes: Nodes, network: Network, op: str, delay: int, state: onnx_ir.Value) -> onnx_ir.Value:
    """A state as the ops read it: float32 in the interface, a delayed spike of the arithmetic's own type."""
    if delay and isinstance(network.graph.ops[op], Lif):
        return nodes.cast(state, nodes.numbers.spikes, f"{op}.spikes.y{delay}")
    return state
