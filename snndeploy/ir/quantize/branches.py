"""What enters a population: the ops with weights that lead to it, and the spikes that reach it without one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from snndeploy.errors import QuantizeError
from snndeploy.ir.graph import Graph
from snndeploy.ir.network import Network
from snndeploy.ir.neurons import weighted_twice
from snndeploy.ir.ops import AvgPool2d, Conv2d, Flatten, Lif, Linear, Op
from snndeploy.ir.quantize.grids import Wide


@dataclass(frozen=True, slots=True)
class Signal:
    """Spikes and input before any weight: whole multiples of 2**-digits in [-below, above]."""

    digits: int
    above: float
    below: float


@dataclass(frozen=True, slots=True)
class Branch:
    """An op with weights on its way into a population.

    op: Its name.
    entering: What its weights multiply.
    digits: Binary digits that pools after it add to its products.
    repeats: Channels of the population for each of its own; above 1 behind a Flatten.
    paths: Number of ways from it to the population, each of which adds its output once.
    """

    op: str
    entering: Signal
    digits: int = 0
    repeats: int = 1
    paths: int = 1

    @property
    def product_digits(self) -> int:
        """Digits of what it adds to the population beyond those of its weights."""
        return self.entering.digits + self.digits


@dataclass(frozen=True, slots=True)
class Inflow:
    """All that enters an op or a population.

    direct: What comes without a weight; None if nothing does.
    """

    direct: Signal | None
    branches: tuple[Branch, ...]


def inflows(network: Network) -> dict[str, Inflow]:
    """What enters every Lif and the Output, by name.

    Raises:
        QuantizeError: An op with weights is entered by the sums of another.
    """
    if (twice := weighted_twice(network)) is not None:
        raise QuantizeError(
            twice,
            "is entered by the sums of another op with weights, and no synapse can hold both",
            remedy="put a Lif between them, make one op of the two, or use the exact format",
        )
    graph, spec = network.graph, network.input
    spikes = Inflow(Signal(0, 1.0, 0.0), ())
    leaving = dict.fromkeys(graph.ports, spikes)
    leaving[graph.input] = Inflow(Signal(spec.grid_bits or 0, spec.high, -spec.low), ())
    found: dict[str, Inflow] = {}
    for name in graph.order:
        if name == graph.input:
            continue
        op, entering = graph.ops[name], _sum([leaving[e.source] for e in graph.incoming[name]])
        if isinstance(op, Lif) or name == graph.output:
            found[name] = entering
        else:
            leaving[name] = _passed(name, op, entering, graph)
    return found


def reach(inflow: Inflow, weights: Mapping[str, Wide], biases: Mapping[str, Wide]) -> tuple[Wide, Wide]:
    """Sums of all positive and of all negative contributions at the largest input, for each channel.

    Args:
        inflow: What enters a population.
        weights: By op.
        biases: Of the ops that have some, by op.

    Returns:
        Two arrays of (channels,), or of one entry if nothing but direct signals enters.
    """
    direct = inflow.direct
    above, below = np.full(1, direct.above if direct else 0.0), np.full(1, direct.below if direct else 0.0)
    for branch in inflow.branches:
        weight = weights[branch.op].reshape(len(weights[branch.op]), -1)
        positive, negative = np.maximum(weight, 0).sum(axis=1), np.maximum(-weight, 0).sum(axis=1)
        bias = biases.get(branch.op, np.zeros(1))
        up = positive * branch.entering.above + negative * branch.entering.below + np.maximum(bias, 0)
        down = positive * branch.entering.below + negative * branch.entering.above + np.maximum(-bias, 0)
        above = above + branch.paths * up.repeat(branch.repeats)
        below = below + branch.paths * down.repeat(branch.repeats)
    return above, below


def _sum(parts: list[Inflow]) -> Inflow:
    direct = [part.direct for part in parts if part.direct is not None]
    total = (
        Signal(max(s.digits for s in direct), sum(s.above for s in direct), sum(s.below for s in direct))
        if direct
        else None
    )
    branches: dict[str, Branch] = {}
    for branch in (branch for part in parts for branch in part.branches):
        known = branches.get(branch.op)
        branches[branch.op] = (
            branch
            if known is None
            else replace(known, digits=max(known.digits, branch.digits), paths=known.paths + branch.paths)
        )
    return Inflow(total, tuple(branches.values()))


def _passed(name: str, op: Op, entering: Inflow, graph: Graph) -> Inflow:
    """What leaves an op between populations."""
    direct = entering.direct
    match op:
        case Conv2d() | Linear():
            if direct is None:
                raise AssertionError(name)  # only weights give no direct signal, and those were refused
            return Inflow(None, (Branch(name, direct),))
        case AvgPool2d():
            more = (math.prod(op.kernel) - 1).bit_length()
            return Inflow(
                direct and replace(direct, digits=direct.digits + more),
                tuple(replace(b, digits=b.digits + more) for b in entering.branches),
            )
        case Flatten():
            source = graph.incoming[name][0].source
            area = math.prod(graph.shapes[source][1:])
            return Inflow(direct, tuple(replace(b, repeats=b.repeats * area) for b in entering.branches))
        case _:  # Upsample changes no value
            return entering
