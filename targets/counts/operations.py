"""What one evaluation of each op takes whatever its input: the work of hardware that knows no events."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from snndeploy.ir import BatchNorm, Conv2d, Graph, Input, Lif, Linear, arrivals, is_population
from snndeploy.ir.fanout import Fanout, connections, fanouts
from snndeploy.ir.network import op_parameters


@dataclass(frozen=True, slots=True)
class OpCount:
    """One op, evaluated once for one sample.

    kind: Name of its class.
    macs: Multiply-accumulates, zeros included: every connection of a convolution or fully connected layer; of a
        Lif or Output one for each synapse of the paths into it that hold no weights.
    undelayed_macs: Those of them that are not behind a delay: all there is in a network of one time step, such as
        the artificial one of the same topology.
    weights, biases: Stored numbers.
    inputs: Elements that enter, by all edges.
    outputs: Elements that leave.
    states: Membrane potentials.
    hands_on: What of its output lasts until something uses it: spikes, analog values, or nothing, where sums go
        straight into the neurons behind it.
    """

    name: str
    kind: str
    macs: int
    undelayed_macs: int
    weights: int
    biases: int
    inputs: int
    outputs: int
    states: int
    hands_on: Literal["spikes", "analog", "nothing"]


@dataclass(frozen=True, slots=True)
class Bytes:
    """Memory of a network, each op's part rounded up to whole bytes.

    weights: Unique ones, each once however often it is fetched, and biases.
    states: Membrane potentials.
    activations: Of one time step: a bit for each neuron that may spike, and analog values that are handed on.
    """

    weights: int
    states: int
    activations: int


def op_counts(graph: Graph) -> tuple[OpCount, ...]:
    """Every op of a graph, in the order of execution."""
    paths = fanouts(graph)
    streams = {path.source for path in paths if path.kind == "analog"}
    return tuple(
        OpCount(
            name,
            type(graph.ops[name]).__name__,
            *_macs(graph, name, paths),
            *_parameters(graph, name),
            inputs=sum(math.prod(graph.shapes[edge.source]) for edge in graph.incoming[name]),
            outputs=math.prod(graph.shapes[name]),
            states=math.prod(graph.shapes[name]) if isinstance(graph.ops[name], Lif) else 0,
            hands_on=_hands_on(graph, name, streams),
        )
        for name in graph.order
    )


def storage(
    ops: Iterable[OpCount], *, weight_bits: int, state_bits: int, activation_bits: int, bias_bits: int = 32
) -> Bytes:
    """Memory of ops at given widths; an analog value takes `activation_bits`, a spike one bit."""
    weights = states = activations = 0
    for op in ops:
        weights += _bytes(op.weights * weight_bits) + _bytes(op.biases * bias_bits)
        states += _bytes(op.states * state_bits)
        activations += {
            "spikes": _bytes(op.outputs),
            "analog": _bytes(op.outputs * activation_bits),
            "nothing": 0,
        }[op.hands_on]
    return Bytes(weights, states, activations)


def _bytes(bits: int) -> int:
    return -(-bits // 8)


def _macs(graph: Graph, name: str, paths: Iterable[Fanout]) -> tuple[int, int]:
    """All, and those that no delay holds back."""
    if isinstance(graph.ops[name], (Conv2d, Linear)):
        every = connections(graph, name)
        return every, every if any(delay == 0 for _, delay in arrivals(graph, name)) else 0
    if isinstance(graph.ops[name], Input) or not is_population(graph, name):
        return 0, 0
    direct = [path for path in paths if path.target == name]
    return sum(path.total for path in direct), sum(path.total for path in direct if path.delay == 0)


def _parameters(graph: Graph, name: str) -> tuple[int, int]:
    op = graph.ops[name]
    if isinstance(op, BatchNorm):  # folded, it is a bias of the convolution before it
        return 0, op.channels
    shapes = op_parameters(op)
    weights = math.prod(shapes["weight"]) if "weight" in shapes else 0
    return weights, math.prod(shapes["bias"]) if "bias" in shapes else 0


def _hands_on(graph: Graph, name: str, streams: set[str]) -> Literal["spikes", "analog", "nothing"]:
    if isinstance(graph.ops[name], Lif):
        return "spikes"
    return "analog" if name in streams else "nothing"
