"""Profiles and counted networks for tests of energy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from snndeploy.inputs import InputSpec
from snndeploy.ir import Edge, Graph, Input, Lif, Linear, Op, Output
from snndeploy.targets.counts import Counts, Skeleton, count
from snndeploy.targets.profile import TERMS, Interval, Kind, Price, TargetProfile


def profile_of(kind: Kind, numbers: dict[str, float | tuple[float, float, float]]) -> TargetProfile:
    """A profile with these numbers; (low, value, high) where there is a range."""
    prices = {}
    for term, number in numbers.items():
        low, value, high = number if isinstance(number, tuple) else (number, number, number)
        prices[term] = Price(Interval(value, low, high), TERMS[term].unit, f"a test of {term}", "measured")
    return TargetProfile(name="test", notes="For a test.", prices=prices, kind=kind)


def dense_graph(*sizes: int) -> Graph:
    """Fully connected layers: input -> fc1 -> A1 -> fc2 -> A2 -> ... -> output; the last has no Lif."""
    ops: dict[str, Op] = {"input": Input(shape=(sizes[0],))}
    for i, (before, after) in enumerate(pairwise(sizes), 1):
        ops[f"fc{i}"] = Linear(in_features=before, out_features=after)
        if i < len(sizes) - 1:
            ops[f"A{i}"] = Lif()
    ops["output"] = Output()
    return Graph(ops, tuple(Edge(a, b) for a, b in pairwise(ops)))


def counted(graph: Graph, steps: int, rate: float, samples: int = 20, seed: int = 0) -> Counts:
    """Counts of random spikes with a rate, shown random frames of zeros and ones with the same rate."""
    rng = np.random.default_rng(seed)
    network = Skeleton(graph=graph, steps=steps, input=InputSpec(kind="frames"))
    x = (rng.random((steps, samples, *graph.shapes["input"])) < rate).astype(np.float64)
    spikes = {name: rng.random((steps, samples, *graph.shapes[name])) < rate for name in graph.ports}
    return count(network, spikes, x)
