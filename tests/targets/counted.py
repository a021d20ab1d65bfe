"""Graphs to count, counts as plain values, to be compared, and which neurons events reach, found the long way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.ir import AvgPool2d, Flatten, Graph, Input, Lif, Op, Output, Upsample, is_population
from snndeploy.targets.counts import Counts
from snndeploy.targets.resources import Messages
from tests.ir.graphs import conv, linear, wired
from tests.targets.chips import matrix

Spikes = Mapping[str, npt.NDArray[np.bool_]]
MAPS: dict[str, Op] = {
    "in": Input(shape=(2, 6, 5)),
    "c": conv(2, 4),
    "a": Lif(),
    "g": conv(4, 4, 3, 2, groups=2),
    "skip": conv(4, 4, 1, 2),
    "b": Lif(),
    "depth": conv(4, 4, groups=4),
    "c2": Lif(),
    "pool": AvgPool2d(kernel=(2, 2), stride=(1, 1)),
    "pd": conv(4, 2, 1),
    "d": Lif(),
    "back": conv(4, 4, 1),
    "up": Upsample(size=(6, 5)),
    "flat": Flatten(),
    "fc": linear(8, 3),
    "out": Output(),
}
RESIDUAL = wired(
    MAPS,
    "in c a g b depth c2 pool pd d flat fc out",
    "a ~2 skip b",
    "b c2",
    "c2 ~1 back up a",
)
"""A grouped and a depthwise convolution, a pool, an identity, a delayed skip and a backward connection."""
VECTORS = wired(
    {
        "in": Input(shape=(2, 3, 3)),
        "c": conv(2, 3),
        "a": Lif(),
        "f": Flatten(),
        "b": Lif(),
        "g": linear(27, 27),
        "h": linear(27, 4),
        "v": Lif(),
        "w": linear(4, 3),
        "up": Upsample(size=(3, 3)),
        "fc": linear(4, 2),
        "out": Output(),
    },
    "in c a f b h v fc out",
    "f g b",
    "v ~1 w up a",
    "b ~2 b",
)
"""A map flattened into a Lif on its own and through weights, a vector spread over a map, a loop of delay 2."""
STREAMS = wired(
    {
        "in": Input(shape=(2, 4, 4)),
        "pool": AvgPool2d(kernel=(2, 2), stride=(2, 2)),
        "p": conv(2, 2, 3),
        "stem": conv(2, 2, 3, 2),
        "c": conv(2, 2, 3),
        "a": Lif(),
        "c2": conv(2, 2, 1),
        "b": Lif(),
        "flat": Flatten(),
        "fc": linear(8, 2),
        "out": Output(),
    },
    "in pool p a",
    "in ~1 pool",
    "in stem c a",
    "stem b",
    "a c2 b flat fc out",
    "in ~2 stem",
)
"""Analog values that several ops use, that pass two convolutions, and that a delay holds back."""


def plain(counts: Counts) -> dict[str, Any]:
    """Every number of counts."""

    def of(array: npt.NDArray[Any] | None) -> list[Any] | None:
        return None if array is None else array.tolist()

    return {
        "steps": (counts.steps, counts.machine_steps, counts.neurons, counts.neuron_updates),
        "synapses": [(str(one.fanout), of(one.operations)) for one in counts.synapses],
        "layers": [
            (one.name, of(one.spikes), of(one.resets), of(one.fired), of(one.driven), of(one.idle))
            for one in counts.layers
        ],
        "messages": [
            one.messages and [of(getattr(one.messages, field.name)) for field in fields(Messages)]
            for one in counts.layers
        ],
        "macs": [
            (one.target, one.macs, one.constant, of(one.effective), of(one.effective_once))
            for one in counts.macs
        ],
        "ops": counts.ops,
        "uncounted": counts.uncounted,
    }


def delayed_paths(graph: Graph, start: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Every path from a population to the next, both included, with the delay of its first edge."""
    waiting: list[tuple[int, tuple[str, ...]]] = [
        (edge.delay, (start, edge.target)) for edge in graph.outgoing[start]
    ]
    while waiting:
        delay, path = waiting.pop()
        if is_population(graph, path[-1]):
            yield delay, path
        else:
            waiting += [(delay, (*path, edge.target)) for edge in graph.outgoing[path[-1]]]


def driven_by_hand(graph: Graph, active: Spikes, steps: int) -> dict[str, npt.NDArray[np.int64]]:
    """Neurons of each Lif that something arrives at, summed over steps, neuron by neuron and path by path.

    Args:
        graph: A small graph.
        active: What is not zero of the Input and of every Lif, (time, samples, *shape).
        steps: Logical steps that are looked at; what arrives later is none of them.
    """
    samples = active[graph.input].shape[1]
    found = {
        name: np.zeros((steps, samples, int(np.prod(graph.shapes[name]))), np.bool_) for name in graph.ports
    }
    for source in (graph.input, *graph.ports):
        flat = active[source].reshape(len(active[source]), samples, -1)
        for delay, path in delayed_paths(graph, source):
            if path[-1] in found:
                synapses = matrix(graph, path).astype(np.int64)
                for t in range(min(len(flat), steps - delay)):
                    found[path[-1]][t + delay] |= flat[t].astype(np.int64) @ synapses.T > 0
    return {name: reached.sum(axis=(0, 2)) for name, reached in found.items()}
