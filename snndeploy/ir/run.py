"""The reference interpreter: the numeric contract in NumPy, the oracle of every back end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.errors import NetworkError
from snndeploy.ir.kernels import Values, apply
from snndeploy.ir.network import Array, Network
from snndeploy.ir.ops import Lif

_BATCH = 32  # samples interpreted at a time, which bounds the memory of unfolded convolutions


@dataclass(frozen=True, eq=False)
class Trace:
    """What a network did on some samples.

    spikes: (time, batch, *shape) bool for every Lif, by name.
    readout_sum: (batch, classes), the sum over the readout window of what entered the Output.
    logits: (batch, classes), that sum divided by the window.
    potentials: (time, batch, *shape), membrane potential u before the reset for every Lif, if asked for.
    """

    spikes: Mapping[str, npt.NDArray[np.bool_]]
    readout_sum: Values
    logits: Values
    potentials: Mapping[str, Values] = field(default_factory=dict)


def as_steps(network: Network, x: npt.NDArray[Any]) -> Array:
    """Input as (time, batch, *shape): frames as they are, an image repeated at every step.

    Args:
        network: Decides the number of steps and the kind of input.
        x: Prepared input, (batch, *shape) for images or (time, batch, *shape).

    Raises:
        NetworkError: The shape does not fit the network.
    """
    shape = network.graph.shapes[network.graph.input]
    x = np.asarray(x, dtype=np.float32)
    if network.input.kind == "image" and x.shape[1:] == shape:
        return np.broadcast_to(x, (network.steps, *x.shape))
    if x.shape[:1] + x.shape[2:] != (network.steps, *shape):
        one = f"(batch, {', '.join(map(str, shape))}) or " if network.input.kind == "image" else ""
        raise NetworkError("input", f"must have shape {one}{(network.steps, 'batch', *shape)}", got=x.shape)
    return x


def run(
    network: Network,
    x: npt.NDArray[Any],
    *,
    potentials: bool = False,
    dtype: type[np.float32] | type[np.float64] = np.float32,
) -> Trace:
    """Runs a network on prepared input.

    Batch normalisation uses its running statistics and dropout does nothing.

    Args:
        network: The network.
        x: (batch, *shape) for images or (time, batch, *shape).
        potentials: Also return the membrane potentials.
        dtype: Precision of all arithmetic.

    Raises:
        NetworkError: The input's shape does not fit.
    """
    steps = as_steps(network, x)
    chunks = [
        _run_chunk(network, steps[:, start : start + _BATCH].astype(dtype), potentials)
        for start in range(0, max(steps.shape[1], 1), _BATCH)
    ]
    readout_sum = np.concatenate([c.readout_sum for c in chunks])
    return Trace(
        spikes={n: np.concatenate([c.spikes[n] for c in chunks], axis=1) for n in network.graph.ports},
        readout_sum=readout_sum,
        logits=readout_sum / dtype(network.readout),
        potentials={
            n: np.concatenate([c.potentials[n] for c in chunks], axis=1) for n in chunks[0].potentials
        },
    )


def _run_chunk(network: Network, x: Values, potentials: bool) -> Trace:
    graph = network.graph
    history: dict[str, list[Values]] = {name: [] for name in graph.ops}  # y_s(t) for all steps so far
    membranes: dict[str, list[Values]] = {name: [] for name in graph.ports}
    rest: dict[str, Values] = {}  # v after the reset
    readout_sum = np.zeros((x.shape[1], *graph.shapes[graph.output]), x.dtype)
    for t in range(network.steps):
        for name in graph.order:
            op = graph.ops[name]
            entering = x[t] if name == graph.input else _entering(network, name, history, t, x)
            if isinstance(op, Lif):
                u = entering if t == 0 else x.dtype.type(op.tau) * rest[name] + entering
                spike = u > x.dtype.type(op.threshold)
                rest[name] = u * (1 - spike).astype(x.dtype)
                if potentials:
                    membranes[name].append(u)
                history[name].append(spike.astype(x.dtype))
            else:
                history[name].append(apply(name, op, entering, network.weights))
        if t >= network.steps - network.readout:
            readout_sum = readout_sum + history[graph.output][t]
    return Trace(
        spikes={name: np.stack(history[name]) > 0 for name in graph.ports},
        readout_sum=readout_sum,
        logits=readout_sum / x.dtype.type(network.readout),
        potentials={name: np.stack(membranes[name]) for name in graph.ports} if potentials else {},
    )


def _entering(network: Network, name: str, history: Mapping[str, list[Values]], t: int, x: Values) -> Values:
    """x_n(t): the sum over the edges into an op, in their order; a source is zero before the first step."""
    total: Values | None = None
    for edge in network.graph.incoming[name]:
        if t < edge.delay:
            shape = network.graph.shapes[edge.source]
            value: Values = np.zeros((x.shape[1], *shape), x.dtype)
        else:
            value = history[edge.source][t - edge.delay]
        total = value if total is None else total + value
    if total is None:
        raise NetworkError(name, "has no input")
    return total
