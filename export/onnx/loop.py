"""One Scan over time: the ops of a loop, or a Lif by itself, with their weights inside.

Weights stay inside because ONNX Runtime prepares those of the graph a convolution stands in, and no others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir

from snndeploy.export.onnx.debug import potentials_name, spikes_name
from snndeploy.export.onnx.neurons import lif
from snndeploy.export.onnx.nodes import Attributes, Dim, Nodes, dims, value
from snndeploy.export.onnx.ops import apply
from snndeploy.export.onnx.sizes import TIME
from snndeploy.export.onnx.states import State, longest_delay
from snndeploy.ir import Component, Edge, Lif, Network


@dataclass(frozen=True, eq=False)
class Outside:
    """What a Scan reaches in the graph around it.

    once: Outputs (batch, *shape) that are the same at every step.
    before: Every state, (batch, *shape), by op and delay.
    series: Gives an op's output some steps ago, (time, batch, *shape).
    ticks: Gives one number for each step.
    """

    nodes: Nodes
    once: Mapping[str, onnx_ir.Value]
    before: Mapping[tuple[str, int], onnx_ir.Value]
    series: Callable[[str, int], onnx_ir.Value]
    ticks: Callable[[], onnx_ir.Value]


@dataclass(frozen=True, eq=False)
class Made:
    """What a Scan gives.

    series: (time, batch, *shape) by op, of every Lif and of whatever is needed outside.
    potentials: The same of u, by Lif; empty unless asked for.
    rest: Membrane potential after the last step, (batch, *shape), by Lif.
    """

    series: Mapping[str, onnx_ir.Value]
    potentials: Mapping[str, onnx_ir.Value]
    rest: Mapping[str, onnx_ir.Value]


def loop(network: Network, component: Component, outside: Outside, *, debug: bool) -> Made:
    """Appends a component as one Scan."""
    body = _Body(network, component, outside)
    for name in component.ops:
        body.append(name)
    return body.close(debug=debug)


class _Body:
    """One time step inside a Scan.

    now: Every op's output at this step.
    kept: Delayed outputs of its own ops, by name and delay.
    sliced: Outputs of other ops at this step, by name and delay.
    """

    def __init__(self, network: Network, component: Component, outside: Outside) -> None:
        self.network, self.graph, self.outside = network, network.graph, outside
        self.ops, self.lifs = component.ops, [n for n in component.ops if n in network.graph.ports]
        self.name = component.ops[0] if len(component.ops) == 1 else f"{self.lifs[0]}.loop"
        self.nodes = outside.nodes.inner()
        self.now: dict[str, onnx_ir.Value] = {}
        self.rest: dict[str, onnx_ir.Value] = {}
        self.potentials: dict[str, onnx_ir.Value] = {}
        self.sliced: dict[tuple[str, int], onnx_ir.Value] = {}
        self.before = {name: self._inside(outside.before[name, 0], f"{name}.v") for name in self.lifs}
        self.kept = {
            (name, k): self._inside(outside.before[name, k], f"{name}.y{k}")
            for name in self.lifs
            for k in range(1, longest_delay(self.graph, name, self.ops) + 1)
        }

    def append(self, name: str) -> None:
        """Appends an op."""
        op, shape, nodes = self.graph.ops[name], self.graph.shapes[name], self.nodes
        x = nodes.sum([self._term(e) for e in self.graph.incoming[name]], f"{name}.sum")
        if isinstance(op, Lif):
            self.now[name], self.rest[name], self.potentials[name] = lif(
                nodes,
                name,
                op,
                x,
                self.before[name],
                label=name,
                spikes=nodes.fresh(f"{name}.spikes.now"),
                v_next=nodes.fresh(f"{name}.v.next"),
                u=nodes.fresh(f"{name}.u.now"),
            )
        else:
            label, weights = f"{name}.now", self.network.weights
            self.now[name] = apply(nodes, name, op, x, label=label, shape=shape, weights=weights)

    def close(self, *, debug: bool) -> Made:
        """Appends the Scan to the graph around it."""
        leaving = [name for name in self.ops if name in self.lifs or self._is_needed_outside(name)]
        shown = self.lifs if debug else []
        inner = [self.now[name] for name in leaving] + [self.potentials[name] for name in shown]
        outer = self.outside.nodes
        own = [spikes_name(outer, name) if name in self.lifs else outer.fresh(name) for name in leaving]
        names = own + [potentials_name(outer, name) for name in shown]
        series = [self._outer(n, x, (TIME,)) for n, x in zip(names, inner, strict=True)]
        rest = [
            self._outer(State(name, self.graph.shapes[name]).output, self.rest[name]) for name in self.lifs
        ]
        shifted = [self._shifted(*key) for key in self.kept]
        left = [self._outer(outer.fresh(f"{name}.y{k}.left"), x) for (name, k), x in self.kept.items()]
        if not self.sliced:
            ticks = self.outside.ticks()
            self.sliced["", 0] = value(self.nodes.fresh(f"{self.name}.tick"), dims(ticks)[1:])
            entering = [ticks]
        else:
            entering = [self.outside.series(*key) for key in self.sliced]
        before = [self.outside.before[name, 0] for name in self.lifs]
        before += [self.outside.before[key] for key in self.kept]
        body = onnx_ir.Graph(
            [*self.before.values(), *self.kept.values(), *self.sliced.values()],
            [*self.rest.values(), *shifted, *inner],
            nodes=self.nodes.nodes,
            initializers=list(self.nodes.initializers.values()),
            name=f"{self.name}.step",
        )
        attributes: Attributes = {"body": body, "num_scan_inputs": len(entering)}
        outputs = [*rest, *left, *series]
        outer.append("Scan", [*before, *entering], outputs, f"{self.name}.scan", attributes)
        return Made(
            series=dict(zip(leaving, series, strict=False)),
            potentials=dict(zip(shown, series[len(leaving) :], strict=True)),
            rest=dict(zip(self.lifs, rest, strict=True)),
        )

    def _term(self, edge: Edge) -> onnx_ir.Value:
        """What an edge brings at this step."""
        key = edge.source, edge.delay
        if edge.source in self.ops:
            return self.kept[key] if edge.delay else self.now[edge.source]
        if edge.source in self.outside.once and not edge.delay:
            return self.outside.once[edge.source]
        if key not in self.sliced:
            label = f"{edge.source}.now" + (f".delay{edge.delay}" if edge.delay else "")
            whole = self.outside.series(*key)
            self.sliced[key] = value(self.nodes.fresh(label), dims(whole)[1:], _type(whole))
        return self.sliced[key]

    def _shifted(self, name: str, delay: int) -> onnx_ir.Value:
        """What is `delay` steps old at the next step; a copy, as a body must not give one value twice."""
        newer = self.kept[name, delay - 1] if delay > 1 else self.now[name]
        return self.nodes.add("Identity", [newer], f"{name}.y{delay}.next", dims(newer))

    def _is_needed_outside(self, name: str) -> bool:
        return any(e.target not in self.ops for e in self.graph.outgoing[name])

    def _inside(self, state: onnx_ir.Value, label: str) -> onnx_ir.Value:
        return value(self.nodes.fresh(label), dims(state), _type(state))

    def _outer(self, name: str, x: onnx_ir.Value, front: tuple[Dim, ...] = ()) -> onnx_ir.Value:
        return value(name, (*front, *dims(x)), _type(x))


def _type(x: onnx_ir.Value) -> onnx_ir.DataType:
    return x.dtype or onnx_ir.DataType.FLOAT
