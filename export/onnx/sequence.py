"""The sequence form: all time steps of a network in one graph without control flow.

Ops outside loops run once on all steps as one batch; only their LIF neurons and the ops inside loops are
unrolled over time.
"""

from __future__ import annotations

import numpy as np
import onnx_ir

from snndeploy.export.onnx.metadata import Body
from snndeploy.export.onnx.nodes import Dim, Nodes, dims, value
from snndeploy.export.onnx.ops import apply, lif
from snndeploy.ir import Input, Lif, Network, Output, Shape, components


def sequence_body(network: Network, batch: Dim) -> Body:
    """Input `x` (steps, batch, *shape), outputs `logits` and `readout_sum` (batch, classes)."""
    graph = network.graph
    nodes = Nodes(["x", "logits", "readout_sum", *network.weights])
    x = value("x", (network.steps, batch, *graph.shapes[graph.input]))
    sequence = _Sequence(network, nodes, x)
    for component in components(graph):
        if component.is_loop:
            for t in range(network.steps):
                for name in component.ops:
                    sequence.step(name, t)
        else:
            sequence.run(component.ops[0])
    logits, readout_sum = sequence.readout()
    return Body(
        nodes=nodes,
        inputs=(x,),
        outputs=(logits, readout_sum),
        spikes={name: tuple(str(s.name) for s in sequence.parts[name]) for name in graph.ports},
    )


class _Sequence:
    """The values of every op in two views, each made from the other when it is first needed.

    whole: (steps * batch, *shape), time-major, by name and delay.
    parts: One value (batch, *shape) for each step.
    rest: Membrane potential after the latest step, by Lif.
    """

    def __init__(self, network: Network, nodes: Nodes, x: onnx_ir.Value) -> None:
        self.network, self.graph, self.nodes, self.x = network, network.graph, nodes, x
        self.steps, self.batch = network.steps, dims(x)[1]
        self.samples: Dim = "steps_batch"  # a symbol: ONNX has no products of them
        if isinstance(self.batch, int):
            self.samples = self.steps * self.batch
        elif self.steps == 1:
            self.samples = self.batch
        self.whole: dict[tuple[str, int], onnx_ir.Value] = {}
        self.parts: dict[str, list[onnx_ir.Value]] = {}
        self.rest: dict[str, onnx_ir.Value] = {}
        self._zeros: dict[Shape, onnx_ir.Value] = {}
        self._batch_size: onnx_ir.Value | None = None

    def run(self, name: str) -> None:
        """Appends an op outside loops, for all steps."""
        op = self.graph.ops[name]
        shape = self.graph.shapes[name]
        match op:
            case Input():
                frames = self.nodes.integers(f"{name}.flat_shape", (-1, *shape))
                out = (self.samples, *shape)
                self.whole[name, 0] = self.nodes.add("Reshape", [self.x, frames], name, out)
            case Lif():
                for t, x in enumerate(self.entering_parts(name)):
                    self.fire(name, op, x, t)
            case Output():
                self.parts[name] = self.entering_parts(name)
            case _:
                x = self.entering(name)
                self.whole[name, 0] = apply(
                    self.nodes, name, op, x, label=name, shape=shape, weights=self.network.weights
                )

    def step(self, name: str, t: int) -> None:
        """Appends an op inside a loop, for step t."""
        op = self.graph.ops[name]
        edges = self.graph.incoming[name]
        # A source is zero before the first step: nothing is added, but an op with a bias still acts.
        terms = [self.by_step(e.source)[t - e.delay] for e in edges if t >= e.delay]
        x = self.nodes.sum(terms or [self.zeros(self.graph.shapes[edges[0].source])], f"{name}.sum.t{t}")
        if isinstance(op, Lif):
            self.fire(name, op, x, t)
            return
        y = apply(
            self.nodes,
            name,
            op,
            x,
            label=f"{name}.t{t}",
            shape=self.graph.shapes[name],
            weights=self.network.weights,
        )
        self.parts.setdefault(name, []).append(y)

    def fire(self, name: str, op: Lif, x: onnx_ir.Value, t: int) -> None:
        """Appends step t of LIF neurons."""
        v = self.rest[name] if t else self.zeros(self.graph.shapes[name])
        spikes, self.rest[name] = lif(
            self.nodes,
            f"{name}.t{t}",
            op,
            x,
            v,
            spikes=self.nodes.fresh(f"{name}.spikes.t{t}"),
            v_next=self.nodes.fresh(f"{name}.v.t{t}"),
        )
        self.parts.setdefault(name, []).append(spikes)

    def readout(self) -> tuple[onnx_ir.Value, onnx_ir.Value]:
        """Appends the graph's outputs: the mean and the sum over the readout window."""
        graph, nodes = self.graph, self.nodes
        window = self.parts[graph.output][self.steps - self.network.readout :]
        readout_sum = nodes.copy(nodes.sum(window, f"{graph.output}.sum_over_time"), "readout_sum")
        logits = value("logits", dims(readout_sum))
        length = nodes.constant(f"{graph.output}.window", np.array(self.network.readout, np.float32))
        nodes.append("Div", [readout_sum, length], [logits], "logits")
        return logits, readout_sum

    def entering(self, name: str) -> onnx_ir.Value:
        """The summed input of an op, all steps as one batch."""
        terms = [self.at_once(e.source, e.delay) for e in self.graph.incoming[name]]
        return self.nodes.sum(terms, f"{name}.sum")

    def entering_parts(self, name: str) -> list[onnx_ir.Value]:
        """The summed input of an op, step by step."""
        edges = self.graph.incoming[name]
        if len(edges) == 1:
            return self.delayed(edges[0].source, edges[0].delay)
        return self.split(self.entering(name), f"{name}.sum")

    def at_once(self, name: str, delay: int) -> onnx_ir.Value:
        """Output of an op `delay` steps ago, all steps as one batch."""
        if (name, delay) not in self.whole:
            self.whole[name, delay] = self.join(name, self.delayed(name, delay), delay)
        return self.whole[name, delay]

    def join(self, name: str, parts: list[onnx_ir.Value], delay: int) -> onnx_ir.Value:
        """Makes one value of those of every step."""
        if self.steps == 1:
            return parts[0]
        label = f"{name}.spikes" if isinstance(self.graph.ops[name], Lif) else name
        label += f".delay{delay}" if delay else ""
        return self.nodes.add("Concat", parts, label, (self.samples, *self.graph.shapes[name]), {"axis": 0})

    def delayed(self, name: str, delay: int) -> list[onnx_ir.Value]:
        """Output of an op `delay` steps ago, step by step."""
        parts = self.by_step(name)
        return [self.zeros(self.graph.shapes[name])] * delay + parts[: self.steps - delay] if delay else parts

    def by_step(self, name: str) -> list[onnx_ir.Value]:
        """Output of an op for each step so far."""
        if name not in self.parts:
            self.parts[name] = self.split(self.whole[name, 0], name)
        return self.parts[name]

    def split(self, x: onnx_ir.Value, label: str) -> list[onnx_ir.Value]:
        """Cuts a value of all steps into one for each."""
        if self.steps == 1:
            return [x]
        shape = (self.batch, *dims(x)[1:])
        parts = [value(self.nodes.fresh(f"{label}.t{t}"), shape) for t in range(self.steps)]
        self.nodes.append("Split", [x], parts, f"{label}.split", {"axis": 0, "num_outputs": self.steps})
        return parts

    def zeros(self, shape: Shape) -> onnx_ir.Value:
        """Zeros (batch, *shape), one value for each shape."""
        if shape not in self._zeros:
            label = f"zeros.{'x'.join(map(str, shape))}"
            full = (self.batch, *shape)
            sizes = self.sizes(label, shape)
            self._zeros[shape] = self.nodes.add("ConstantOfShape", [sizes], label, full)
        return self._zeros[shape]

    def sizes(self, label: str, shape: Shape) -> onnx_ir.Value:
        """The vector (batch, *shape), a constant if the batch is."""
        if isinstance(self.batch, int):
            return self.nodes.integers(f"{label}.shape", (self.batch, *shape))
        whole = onnx_ir.DataType.INT64
        if self._batch_size is None:
            ends = {"start": 1, "end": 2}
            self._batch_size = self.nodes.add("Shape", [self.x], "batch_size", (1,), ends, dtype=whole)
        parts = [self._batch_size, self.nodes.integers(f"{label}.sample", shape)]
        return self.nodes.add("Concat", parts, f"{label}.shape", (len(shape) + 1,), {"axis": 0}, dtype=whole)
