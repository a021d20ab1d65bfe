"""What a network hands from one step to the next, and where that may stay in place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx_ir

from snndeploy.export.onnx.nodes import DOMAIN
from snndeploy.ir import Graph, Lif, Shape, populations


@dataclass(frozen=True, slots=True)
class State:
    """What one step, or one run over some steps, hands to the next: zero before the first.

    op: The op it belongs to.
    shape: Without batch.
    delay: The op's output that many steps ago; 0 for its membrane potential after the reset.
    """

    op: str
    shape: Shape
    delay: int = 0

    @property
    def input(self) -> str:
        """Name of the graph input."""
        return f"state_in.{self._name}"

    @property
    def output(self) -> str:
        """Name of the graph output."""
        return f"state_out.{self._name}"

    @property
    def _name(self) -> str:
        return f"{self.op}.y{self.delay}" if self.delay else f"{self.op}.v"


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
        found += [State(name, shape, delay) for delay in range(1, longest_delay(graph, name) + 1)]
    return tuple(found)


def longest_delay(graph: Graph, name: str, targets: Iterable[str] | None = None) -> int:
    """The longest delay of the edges out of an op, or of those into some targets; 0 if there is none."""
    among = None if targets is None else frozenset(targets)
    return max((e.delay for e in graph.outgoing[name] if among is None or e.target in among), default=0)


def in_place(nodes: Sequence[onnx_ir.Node], state: State) -> bool:
    """Whether a runtime may write a state's output over its input.

    It may if everything that reads the input is done before the output is written: each reader is an ancestor
    of the node that writes, or is that node and works element by element, as LIF and Identity do.
    """
    (writer,) = (n for n in nodes if any(o.name == state.output for o in n.outputs))
    readers = [n for n in nodes if any(i is not None and i.name == state.input for i in _reads(n))]
    before = _ancestors(writer)
    by_element = writer.domain == DOMAIN or writer.op_type == "Identity"
    return all(reader in before or (reader is writer and by_element) for reader in readers)


def _ancestors(node: onnx_ir.Node) -> set[onnx_ir.Node]:
    found: set[onnx_ir.Node] = set()
    waiting = [node]
    while waiting:
        for entering in _reads(waiting.pop()):
            maker = None if entering is None else entering.producer()
            if maker is not None and maker not in found:
                found.add(maker)
                waiting.append(maker)
    return found


def _reads(node: onnx_ir.Node) -> list[onnx_ir.Value | None]:
    """What a node reads, the graphs inside it included."""
    inside = (a.value.all_nodes() for a in node.attributes.values() if isinstance(a.value, onnx_ir.Graph))
    return [*node.inputs, *(value for nodes in inside for inner in nodes for value in inner.inputs)]
