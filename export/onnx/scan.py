"""The scan form: any number of time steps, from any states to the states after the last one.

Ops outside loops run once on all steps as one batch, and what an image alone decides once per sample. Every
Lif outside loops and every loop is one Scan over time, with the weights of its ops inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir

from snndeploy.export.onnx.debug import debug_names, shown_potentials, shown_spikes
from snndeploy.export.onnx.loop import Outside, loop
from snndeploy.export.onnx.metadata import Body
from snndeploy.export.onnx.nodes import Dim, Nodes, dims, value
from snndeploy.export.onnx.numbers import Numbers
from snndeploy.export.onnx.ops import apply
from snndeploy.export.onnx.prefix import input_only
from snndeploy.export.onnx.sizes import BATCH, TIME, Sizes, measure
from snndeploy.export.onnx.states import State, longest_delay, states
from snndeploy.ir import Component, Input, Lif, Network, Output, components

_WHOLE = onnx_ir.DataType.INT64
_END = 2**63 - 1  # stands for the end of an axis


def scan_body(network: Network, numbers: Numbers, batch: Dim, *, debug: bool) -> Body:
    """Inputs `x`, `steps` for images and `state_in.*`, of which all but `x` have defaults.

    Outputs `logits`, `readout_sum`, `logits_by_step` (time, batch, classes) and `state_out.*`.
    """
    graph = network.graph
    names = [name for state in states(graph) for name in (state.input, state.output)]
    outputs = ["logits", "readout_sum", "logits_by_step"]
    nodes = Nodes(["x", "steps", *outputs, *names, *debug_names(graph), *network.weights], numbers)
    scan = _Scan(network, nodes, batch, debug)
    for component in components(graph):
        if component.is_loop or isinstance(graph.ops[component.ops[0]], Lif):
            scan.step(component)
        else:
            scan.run(component.ops[0])
    read = scan.readout()
    scan.leave()
    spikes = {name: scan.series[name, 0] for name in graph.ports}
    shown = graph.ports if debug else ()
    debugged = [
        x
        for name in shown
        for x in (
            shown_spikes(nodes, name, spikes[name]),
            shown_potentials(nodes, name, scan.potentials[name]),
        )
    ]
    return Body(
        nodes=nodes,
        inputs=tuple(scan.inputs),
        outputs=(*read, *(scan.after[s.op, s.delay] for s in scan.table), *debugged),
        spikes={name: str(x.name) for name, x in spikes.items()},
        states=scan.table,
    )


class _Scan:
    """The values of every op in up to three views, each made from another when it is first needed.

    once: (batch, *shape), the same at every step, for the ops that only an image decides.
    rows: (time * batch, *shape), time-major, by name and delay.
    series: (time, batch, *shape), by name and delay.
    before: Every state as the ops read it, (batch, *shape), by name and delay.
    after: Every state's graph output, likewise.
    potentials: (time, batch, *shape), u by Lif; empty unless asked for.
    """

    def __init__(self, network: Network, nodes: Nodes, batch: Dim, debug: bool) -> None:
        self.network, self.graph, self.nodes = network, network.graph, nodes
        self.batch, self.debug, self.table = batch, debug, states(network.graph)
        self.unchanging = input_only(network)
        self.once: dict[str, onnx_ir.Value] = {}
        self.rows: dict[tuple[str, int], onnx_ir.Value] = {}
        self.series: dict[tuple[str, int], onnx_ir.Value] = {}
        self.after: dict[tuple[str, int], onnx_ir.Value] = {}
        self.potentials: dict[str, onnx_ir.Value] = {}
        self._histories: dict[str, onnx_ir.Value] = {}
        self._ticks: list[onnx_ir.Value] = []
        front = (batch,) if self.unchanging else (TIME, batch)
        self.x = value("x", (*front, *self.graph.shapes[self.graph.input]))
        self.inputs = [self.x]
        self.length = self._length()
        measured = {TIME: self.length}
        if not isinstance(batch, int):
            measured[BATCH] = measure(nodes, self.x, len(front) - 1, "batch_size")
        self.sizes = Sizes(nodes, measured)
        self.before = {(s.op, s.delay): self._before(s) for s in self.table}

    def _length(self) -> onnx_ir.Value:
        """The number of steps, (1,) int64."""
        if not self.unchanging:
            return measure(self.nodes, self.x, 0, "time")
        steps = self._optional("steps", (), np.array(self.network.steps, np.int64))
        return self.nodes.add("Reshape", [steps, self.nodes.integers("one", [1])], "time", (1,), dtype=_WHOLE)

    def _before(self, state: State) -> onnx_ir.Value:
        """A state as an input that is zero by default, for as many samples as `x` has."""
        samples = self.batch if isinstance(self.batch, int) else 1
        zeros = np.zeros((samples, *state.shape), self.nodes.numbers.state(state.delay).numpy())
        given = self._optional(state.input, (self.batch, *state.shape), zeros)
        label = f"{state.op}.y{state.delay}" if state.delay else f"{state.op}.v"
        if isinstance(self.batch, str):
            full = self.sizes.vector((BATCH,), state.shape)
            given = self.nodes.add("Expand", [given, full], f"{label}.before", (BATCH, *state.shape))
        if state.delay and state.op in self.graph.ports:
            given = self.nodes.cast(given, self.nodes.numbers.spikes)
        return given

    def _optional(self, name: str, shape: Sequence[Dim], default: npt.NDArray[Any]) -> onnx_ir.Value:
        """A graph input that is an initialiser too, which gives way to what the caller feeds."""
        tensor = onnx_ir.tensor(default, name=name)
        given = value(name, shape, tensor.dtype)
        given.const_value = tensor
        self.nodes.initializers[name] = given
        self.inputs.append(given)
        return given

    def run(self, name: str) -> None:
        """Appends an op outside loops, for all steps."""
        edges = self.graph.incoming[name]
        match self.graph.ops[name]:
            case Input() if name in self.unchanging:
                self.once[name] = self.x
            case Input():
                self.series[name, 0] = self.x
            case Output():
                rows = self.nodes.cast(self.entering(name))
                self.series[name, 0] = self._in_series(rows, "logits_by_step")
            case _ if name in self.unchanging:
                x = self.nodes.sum([self.once[e.source] for e in edges], f"{name}.sum")
                self.once[name] = self.apply(name, x)
            case _:
                self.rows[name, 0] = self.apply(name, self.entering(name))

    def entering(self, name: str) -> onnx_ir.Value:
        """The summed input of an op, all steps as one batch."""
        terms = [self.in_rows(e.source, e.delay) for e in self.graph.incoming[name]]
        return self.nodes.sum(terms, f"{name}.sum")

    def apply(self, name: str, x: onnx_ir.Value) -> onnx_ir.Value:
        """Appends a stateless op, for all samples of its input."""
        op, shape = self.graph.ops[name], self.graph.shapes[name]
        return apply(self.nodes, name, op, x, label=name, shape=shape, weights=self.network.weights)

    def step(self, component: Component) -> None:
        """Appends a loop, or a Lif outside loops, as one Scan."""
        outside = Outside(
            nodes=self.nodes,
            once=self.once,
            before=self.before,
            series=self.in_series,
            ticks=self.ticks,
        )
        made = loop(self.network, component, outside, debug=self.debug)
        self.series.update({(name, 0): series for name, series in made.series.items()})
        self.potentials.update(made.potentials)
        for name, rest in made.rest.items():
            self.after[name, 0] = rest

    def in_rows(self, name: str, delay: int = 0) -> onnx_ir.Value:
        """Output of an op `delay` steps ago, all steps as one batch."""
        if (name, delay) not in self.rows:
            x, shape = self.in_series(name, delay), self.graph.shapes[name]
            rows = self.nodes.integers(f"{name}.rows_shape", (-1, *shape))
            label = f"{name}.rows" + (f".delay{delay}" if delay else "")
            self.rows[name, delay] = self.nodes.add("Reshape", [x, rows], label, ("time_batch", *shape))
        return self.rows[name, delay]

    def in_series(self, name: str, delay: int = 0) -> onnx_ir.Value:
        """Output of an op `delay` steps ago, step after step."""
        if (name, delay) not in self.series:
            if delay:
                made = self._delayed(name, delay)
            elif name in self.once:
                shape = self.graph.shapes[name]
                full = self.sizes.vector((TIME, self.batch), shape)
                made = self.nodes.add(
                    "Expand", [self.once[name], full], f"{name}.steps", (TIME, self.batch, *shape)
                )
            else:
                made = self._in_series(self.rows[name, 0], self.nodes.fresh(f"{name}.steps"))
            self.series[name, delay] = made
        return self.series[name, delay]

    def ticks(self) -> onnx_ir.Value:
        """One number for each step, for what has no other input that changes."""
        if not self._ticks:
            self._ticks.append(self.nodes.add("ConstantOfShape", [self.length], "ticks", (TIME,)))
        return self._ticks[0]

    def _in_series(self, rows: onnx_ir.Value, name: str) -> onnx_ir.Value:
        """The same values under that final name, (time, batch, *shape)."""
        shape = tuple(int(d) for d in dims(rows)[1:])
        series = value(name, (TIME, self.batch, *shape))
        front = (-1, self.batch) if isinstance(self.batch, int) else (TIME, self.batch)
        self.nodes.append("Reshape", [rows, self.sizes.vector(front, shape)], [series], name)
        return series

    def _delayed(self, name: str, delay: int) -> onnx_ir.Value:
        longest = longest_delay(self.graph, name)
        bounds = [self.nodes.integers(str(bound), [bound]) for bound in (longest - delay, -delay, 0)]
        shape = (TIME, self.batch, *self.graph.shapes[name])
        return self.nodes.add("Slice", [self._history(name), *bounds], f"{name}.delay{delay}", shape)

    def _history(self, name: str) -> onnx_ir.Value:
        """Output of a population at the steps before the first and at all steps."""
        if name not in self._histories:
            shape, first = self.graph.shapes[name], self.nodes.integers("0", [0])
            earlier = [
                self.nodes.add(
                    "Unsqueeze", [self.before[name, k], first], f"{name}.y{k}.step", (1, self.batch, *shape)
                )
                for k in range(longest_delay(self.graph, name), 0, -1)
            ]
            parts = [*earlier, self.in_series(name)]
            full = (f"time_after_{len(earlier)}", self.batch, *shape)
            self._histories[name] = self.nodes.add("Concat", parts, f"{name}.history", full, {"axis": 0})
        return self._histories[name]

    def readout(self) -> tuple[onnx_ir.Value, ...]:
        """Appends mean and sum over the last steps of the readout window, all of them if they are fewer."""
        nodes, name = self.nodes, self.graph.output
        by_step = self.series[name, 0]
        shape = dims(by_step)[1:]
        start, axis = nodes.integers(f"{name}.start", [-self.network.readout]), nodes.integers("0", [0])
        bounds = [start, nodes.integers(f"{name}.end", [_END]), axis]
        window = nodes.add("Slice", [by_step, *bounds], f"{name}.window", ("window", *shape))
        readout_sum, logits = value("readout_sum", shape), value("logits", shape)
        nodes.append("ReduceSum", [window, axis], [readout_sum], "readout_sum", {"keepdims": 0})
        length = nodes.cast(measure(nodes, window, 0, f"{name}.window_size"))
        nodes.append("Div", [readout_sum, length], [logits], "logits")
        return logits, readout_sum, by_step

    def leave(self) -> None:
        """Appends the outputs of delayed values; those of membrane potentials leave the Scans."""
        for state in self.table:
            if state.delay:
                place = self.nodes.constant(f"last.{state.delay}", np.array(-state.delay, np.int64))
                label, shape = f"{state.op}.y{state.delay}.after", (self.batch, *state.shape)
                last = self.nodes.add("Gather", [self._history(state.op), place], label, shape, {"axis": 0})
                self.after[state.op, state.delay] = self.nodes.copy(last, state.output)
