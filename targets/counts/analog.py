"""Multiply-accumulates of ops on analog values: with all inputs, and with those that are not zero."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snndeploy.ir import AvgPool2d, BatchNorm, Graph, arrivals, is_population
from snndeploy.ir.fanout import Counts as Factors
from snndeploy.ir.fanout import Fanout, connections, structure
from snndeploy.targets.counts.activity import Way, emitted, ends, reached, weighed
from snndeploy.targets.counts.counts import MacCount


@dataclass(frozen=True, eq=False, slots=True)
class AnalogOp:
    """One op on analog values.

    target: The weighted op, or the Lif or Output that takes analog values directly.
    macs: Of one evaluation for one sample.
    constant: Whether its input is the same at every step.
    parts: Ways from the Input whose values meet in the same multiplications, and how many of these each element
        that enters takes, per axis; none where a value has passed another weighted op before.
    """

    target: str
    macs: int
    constant: bool
    parts: tuple[tuple[tuple[Way, ...], tuple[Factors, ...]], ...]

    def count(self, nonzero: npt.NDArray[np.bool_] | None, source: str, steps: int) -> MacCount:
        """Of some samples.

        Args:
            nonzero: Where the input is not zero, (time, samples, *shape); None if it is not known.
            source: Name of the Input.
            steps: Logical time steps.
        """
        if nonzero is None:
            return MacCount(self.target, self.macs, self.constant, None, None)
        samples = nonzero.shape[1]
        if not self.parts:
            once = np.full(samples, self.macs, np.int64)
            return MacCount(self.target, self.macs, self.constant, once * steps, once)
        total, last = np.zeros((2, samples), np.int64)
        for into, factors in self.parts:
            found = reached(into, {source: nonzero}, steps)
            sizes = tuple(len(factor) for factor in factors)
            whole = np.broadcast_to(found, (*found.shape[:2], *ends(into))).reshape(*found.shape[:2], *sizes)
            total += weighed(emitted(whole), factors)
            last += weighed(emitted(whole[-1:]), factors)
        return MacCount(self.target, self.macs, self.constant, total, last)


def analog_ops(graph: Graph, paths: Iterable[Fanout], *, image: bool) -> tuple[AnalogOp, ...]:
    """All ops on analog values.

    Args:
        graph: Any graph.
        paths: Its `fanouts`.
        image: Whether one image is shown at every step.
    """
    entering: dict[str, list[Fanout]] = {}
    for path in paths:
        if path.kind == "analog":
            entering.setdefault(path.target, []).append(path)
    return tuple(
        _direct(graph, target, each, image)
        if is_population(graph, target)
        else _weighted(graph, target, each, image)
        for target, each in entering.items()
    )


def _direct(graph: Graph, target: str, each: list[Fanout], image: bool) -> AnalogOp:
    """Each path is multiplied by itself."""
    alone = [((Way.of(graph, p.source, p.delay, ()),), p.factors) for p in each if p.source == graph.input]
    whole = len(alone) == len(each)
    return AnalogOp(target, sum(p.total for p in each), image, tuple(alone) if whole else ())


def _weighted(graph: Graph, target: str, each: list[Fanout], image: bool) -> AnalogOp:
    """It is evaluated once for the sum of all that enters."""
    constant = image and all(source == graph.input for source, _ in arrivals(graph, target))
    macs = connections(graph, target)
    if any(path.source != graph.input for path in each):
        return AnalogOp(target, macs, constant, ())
    into = tuple(Way.of(graph, path.source, path.delay, path.ops[: path.ops.index(target)]) for path in each)
    axes, sizes = structure(graph, graph.shapes[graph.incoming[target][0].source], (target,))
    factors = tuple(
        np.ones(size, np.int64) if axis is None else np.count_nonzero(axis, axis=0).astype(np.int64)
        for axis, size in zip(axes, sizes, strict=True)
    )
    return AnalogOp(target, macs, constant, ((into, factors),))


def uncounted(graph: Graph, paths: Iterable[Fanout]) -> tuple[str, ...]:
    """Pools of analog values and BatchNorms that no convolution absorbs."""
    listed = list(paths)
    on_spikes = {name for path in listed if path.kind == "spike" for name in path.ops}
    behind_weights = {name for path in listed for name in path.ops}
    return tuple(
        name
        for name in graph.order
        if (isinstance(graph.ops[name], AvgPool2d) and name not in on_spikes)
        or (isinstance(graph.ops[name], BatchNorm) and name not in behind_weights)
    )
