"""The sequence form: all time steps of a network in one graph without control flow.

Ops outside loops run once on all steps as one batch, and what an image alone decides once per sample; LIF
neurons and the ops inside loops are unrolled over time.
"""

from __future__ import annotations

import numpy as np
import onnx_ir

from snndeploy.export.onnx.debug import debug_names, shown_potentials
from snndeploy.export.onnx.metadata import Body
from snndeploy.export.onnx.neurons import lif
from snndeploy.export.onnx.nodes import Dim, Nodes, dims, value
from snndeploy.export.onnx.numbers import Numbers
from snndeploy.export.onnx.ops import apply
from snndeploy.export.onnx.prefix import input_only
from snndeploy.export.onnx.sizes import BATCH, Sizes, measure
from snndeploy.ir import Input, Lif, Network, Output, Shape, components


def sequence_body(network: Network, numbers: Numbers, batch: Dim, *, debug: bool) -> Body:
    """Input `x`, (batch, *shape) for images or (steps, batch, *shape); outputs `logits` and `readout_sum`."""
    graph = network.graph
    reserved = ["x", "logits", "readout_sum", *debug_names(graph), *network.weights]
    nodes = Nodes(reserved, numbers)
    front = (batch,) if network.input.kind == "image" else (network.steps, batch)
    x = value("x", (*front, *graph.shapes[graph.input]))
    sequence = _Sequence(network, nodes, x)
    for component in components(graph):
        if component.is_loop:
            for t in range(network.steps):
                for name in component.ops:
                    sequence.step(name, t)
        else:
            sequence.run(component.ops[0])
    outputs = sequence.readout()
    if debug:
        outputs += tuple(shown for name in graph.ports for shown in sequence.show(name))
    return Body(
        nodes=nodes,
        inputs=(x,),
        outputs=outputs,
        spikes={name: tuple(str(s.name) for s in sequence.parts[name]) for name in graph.ports},
    )


class _Sequence:
    """The values of every op in up to three views, each made from another when it is first needed.

    once: (batch, *shape), the same at every step, for the ops that only an image decides.
    whole: (steps * batch, *shape), time-major, by name and delay.
    parts: One value (batch, *shape) for each step.
    rest: Membrane potential after the latest step, by Lif.
    potentials: Membrane potential before the reset for each step, by Lif.
    """

    def __init__(self, network: Network, nodes: Nodes, x: onnx_ir.Value) -> None:
        self.network, self.graph, self.nodes, self.x = network, network.graph, nodes, x
        self.unchanging = input_only(network)
        self.batch_axis = 0 if self.unchanging else 1
        self.steps, self.batch = network.steps, dims(x)[self.batch_axis]
        self.samples: Dim = "steps_batch"  # a symbol: ONNX has no products of them
        if isinstance(self.batch, int):
            self.samples = self.steps * self.batch
        elif self.steps == 1:
            self.samples = self.batch
        self.once: dict[str, onnx_ir.Value] = {}
        self.whole: dict[tuple[str, int], onnx_ir.Value] = {}
        self.parts: dict[str, list[onnx_ir.Value]] = {}
        self.rest: dict[str, onnx_ir.Value] = {}
        self.potentials: dict[str, list[onnx_ir.Value]] = {}
        self._zeros: dict[Shape, onnx_ir.Value] = {}
        self._sizes: Sizes | None = None

    def run(self, name: str) -> None:
        """Appends an op outside loops, for all steps."""
        op = self.graph.ops[name]
        shape = self.graph.shapes[name]
        match op:
            case Input() if name in self.unchanging:
                self.once[name] = self.x
            case Input():
                frames = self.nodes.integers(f"{name}.flat_shape", (-1, *shape))
                out = (self.samples, *shape)
                self.whole[name, 0] = self.nodes.add("Reshape", [self.x, frames], name, out)
            case Lif():
                for t, x in enumerate(self.entering_parts(name)):
                    self.fire(name, op, x, t)
            case Output():
                self.parts[name] = self.entering_parts(name)
            case _ if name in self.unchanging:
                self.once[name] = self.apply(name, self.entering_once(name), name)
            case _:
                self.whole[name, 0] = self.apply(name, self.entering(name), name)

    def step(self, name: str, t: int) -> None:
        """Appends an op inside a loop, for step t."""
        op = self.graph.ops[name]
        edges = self.graph.incoming[name]
        # A source is zero before the first step: nothing is added, but an op with a bias still acts.
        terms = [self.by_step(e.source)[t - e.delay] for e in edges if t >= e.delay]
        x = self.nodes.sum(terms or [self.silence(edges[0].source)], f"{name}.sum.t{t}")
        if isinstance(op, Lif):
            self.fire(name, op, x, t)
        else:
            self.parts.setdefault(name, []).append(self.apply(name, x, f"{name}.t{t}"))

    def apply(self, name: str, x: onnx_ir.Value, label: str) -> onnx_ir.Value:
        """Appends a stateless op."""
        op, shape = self.graph.ops[name], self.graph.shapes[name]
        return apply(self.nodes, name, op, x, label=label, shape=shape, weights=self.network.weights)

    def fire(self, name: str, op: Lif, x: onnx_ir.Value, t: int) -> None:
        """Appends step t of LIF neurons."""
        zeros = self.zeros(self.graph.shapes[name])
        v = self.rest[name] if t else self.nodes.cast(zeros, self.nodes.numbers.membranes)
        spikes, self.rest[name], u = lif(
            self.nodes,
            name,
            op,
            x,
            v,
            label=f"{name}.t{t}",
            spikes=self.nodes.fresh(f"{name}.spikes.t{t}"),
            v_next=self.nodes.fresh(f"{name}.v.t{t}"),
            u=self.nodes.fresh(f"{name}.u.t{t}"),
        )
        self.parts.setdefault(name, []).append(spikes)
        self.potentials.setdefault(name, []).append(u)

    def readout(self) -> tuple[onnx_ir.Value, ...]:
        """Appends the graph's outputs: the mean and the sum over the readout window."""
        graph, nodes = self.graph, self.nodes
        # In float32, as spikes over many steps exceed what integers of theirs can count.
        window = [nodes.cast(x) for x in self.parts[graph.output][self.steps - self.network.readout :]]
        readout_sum = nodes.copy(nodes.sum(window, f"{graph.output}.sum_over_time"), "readout_sum")
        logits = value("logits", dims(readout_sum))
        length = nodes.constant(f"{graph.output}.window", np.array(self.network.readout, np.float32))
        nodes.append("Div", [readout_sum, length], [logits], "logits")
        return logits, readout_sum

    def show(self, name: str) -> tuple[onnx_ir.Value, ...]:
        """Appends the spikes and u of a Lif as graph outputs (steps, batch, *shape)."""
        shape = self.graph.shapes[name]
        batch = self.batch if isinstance(self.batch, int) else -1
        full = self.nodes.integers(f"{name}.shown_shape", (self.steps, batch, *shape))
        spikes, u = (value(f"{name}.{part}", (self.steps, self.batch, *shape)) for part in ("spikes", "u"))
        fired = self.at_once(name, 0)
        if fired.dtype == onnx_ir.DataType.FLOAT16:
            fired = self.nodes.cast(fired)
        joined = self.join(f"{name}.u.all", self.potentials[name])
        potentials = shown_potentials(self.nodes, name, joined, self.nodes.fresh(f"{name}.u.real"))
        self.nodes.append("Reshape", [fired, full], [spikes], f"{name}.spikes")
        self.nodes.append("Reshape", [potentials, full], [u], f"{name}.u")
        return spikes, u

    def entering_once(self, name: str) -> onnx_ir.Value:
        """The summed input of an op that only an image decides."""
        return self.nodes.sum([self.once[e.source] for e in self.graph.incoming[name]], f"{name}.sum")

    def entering(self, name: str) -> onnx_ir.Value:
        """The summed input of an op, all steps as one batch."""
        terms = [self.at_once(e.source, e.delay) for e in self.graph.incoming[name]]
        return self.nodes.sum(terms, f"{name}.sum")

    def entering_parts(self, name: str) -> list[onnx_ir.Value]:
        """The summed input of an op, step by step."""
        edges = self.graph.incoming[name]
        if len(edges) == 1:
            return self.delayed(edges[0].source, edges[0].delay)
        unchanging = [e.source in self.once and e.delay == 0 for e in edges]
        if all(unchanging):
            return [self.entering_once(name)] * self.steps
        if any(unchanging):
            steps = zip(*(self.delayed(e.source, e.delay) for e in edges), strict=True)
            return [self.nodes.sum(terms, f"{name}.sum.t{t}") for t, terms in enumerate(steps)]
        return self.split(self.entering(name), f"{name}.sum")

    def at_once(self, name: str, delay: int) -> onnx_ir.Value:
        """Output of an op `delay` steps ago, all steps as one batch."""
        if (name, delay) not in self.whole:
            label = f"{name}.spikes.all" if isinstance(self.graph.ops[name], Lif) else f"{name}.all"
            label += f".delay{delay}" if delay else ""
            self.whole[name, delay] = self.join(label, self.delayed(name, delay))
        return self.whole[name, delay]

    def join(self, label: str, parts: list[onnx_ir.Value]) -> onnx_ir.Value:
        """Makes one value of those of every step."""
        if self.steps == 1:
            return parts[0]
        return self.nodes.add("Concat", parts, label, (self.samples, *dims(parts[0])[1:]), {"axis": 0})

    def delayed(self, name: str, delay: int) -> list[onnx_ir.Value]:
        """Output of an op `delay` steps ago, step by step."""
        parts = self.by_step(name)
        return [self.silence(name)] * delay + parts[: self.steps - delay] if delay else parts

    def by_step(self, name: str) -> list[onnx_ir.Value]:
        """Output of an op for each step so far."""
        if name in self.once:
            return [self.once[name]] * self.steps
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

    def silence(self, name: str) -> onnx_ir.Value:
        """Output of a population before the first step."""
        zeros = self.zeros(self.graph.shapes[name])
        return self.nodes.cast(zeros, self.nodes.numbers.spikes) if name in self.graph.ports else zeros

    def zeros(self, shape: Shape) -> onnx_ir.Value:
        """Zeros (batch, *shape), one value for each shape."""
        if shape not in self._zeros:
            full = (self.batch, *shape)
            sizes = self.sizes.vector((self.batch,), shape)
            label = f"zeros.{'x'.join(map(str, shape))}"
            self._zeros[shape] = self.nodes.add("ConstantOfShape", [sizes], label, full)
        return self._zeros[shape]

    @property
    def sizes(self) -> Sizes:
        """Where vectors of sizes come from; a batch of any size is measured when the first one is needed."""
        if self._sizes is None:
            known = isinstance(self.batch, int)
            measured = {} if known else {BATCH: measure(self.nodes, self.x, self.batch_axis, "batch_size")}
            self._sizes = Sizes(self.nodes, measured)
        return self._sizes
