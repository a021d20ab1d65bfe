"""The reference interpreter: the numeric contract in NumPy, the oracle of every back end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.errors import NetworkError
from snndeploy.ir.formats import Float32
from snndeploy.ir.kernels import Values, apply
from snndeploy.ir.network import Array, Network
from snndeploy.ir.neurons import neurons
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

    @classmethod
    def joined(cls, parts: Sequence[Trace]) -> Trace:
        """Traces of different samples, at least one, as one."""

        def maps(those: Sequence[Mapping[str, npt.NDArray[Any]]]) -> dict[str, npt.NDArray[Any]]:
            return {name: np.concatenate([part[name] for part in those], axis=1) for name in those[0]}

        return cls(
            spikes=maps([part.spikes for part in parts]),
            readout_sum=np.concatenate([part.readout_sum for part in parts]),
            logits=np.concatenate([part.logits for part in parts]),
            potentials=maps([part.potentials for part in parts]),
        )

    def first(self, count: int) -> Trace:
        """Of the first samples alone."""
        return Trace(
            spikes={name: spikes[:, :count] for name, spikes in self.spikes.items()},
            readout_sum=self.readout_sum[:count],
            logits=self.logits[:count],
            potentials={name: u[:, :count] for name, u in self.potentials.items()},
        )


def as_steps(network: Network, x: npt.NDArray[Any]) -> Array:
    """Input as (time, batch, *shape): frames as they are, an image repeated at every step.

    Args:
        network: Decides the number of steps and the kind of input.
        x: Prepared input, (batch, *shape) for images or (time, batch, *shape).

    Raises:
        NetworkError: The shape does not fit the network, or its format has grids and the values are out
            of range or off theirs.
    """
    shape = network.graph.shapes[network.graph.input]
    x = np.asarray(x, dtype=np.float32)
    if not isinstance(network.format, Float32):
        network.input.check(x)
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
        NetworkError: The input does not fit, see `as_steps`.
    """
    steps = as_steps(network, x)
    chunks = [
        _run_chunk(network, steps[:, start : start + _BATCH].astype(dtype), potentials)
        for start in range(0, max(steps.shape[1], 1), _BATCH)
    ]
    return Trace.joined(chunks)


def _run_chunk(network: Network, x: Values, potentials: bool) -> Trace:
    graph = network.graph
    spikes: dict[str, list[npt.NDArray[np.bool_]]] = {name: [] for name in graph.ports}
    membranes: dict[str, list[Values]] = {name: [] for name in graph.ports}
    rest: dict[str, Values] = {}  # v after the reset
    readout_sum = np.zeros((x.shape[1], *graph.shapes[graph.output]), x.dtype)
    computing = neurons(network)
    for t in range(network.steps):
        now: dict[str, Values] = {}  # y_n(t)
        for name in graph.order:
            op = graph.ops[name]
            entering = x[t] if name == graph.input else _entering(network, name, now, spikes, t, x)
            if isinstance(op, Lif):
                u = computing[name].charge(rest.get(name, np.zeros_like(entering)), entering)
                spike = u > x.dtype.type(op.threshold)
                rest[name] = np.where(spike, x.dtype.type(0), u)
                if potentials:
                    membranes[name].append(u)
                spikes[name].append(spike)
                now[name] = spike.astype(x.dtype)
            else:
                now[name] = apply(name, op, entering, network.weights)
        if t >= network.steps - network.readout:
            readout_sum = readout_sum + now[graph.output]
    return Trace(
        spikes={name: np.stack(spikes[name]) for name in graph.ports},
        readout_sum=readout_sum,
        logits=readout_sum / x.dtype.type(network.readout),
        potentials={name: np.stack(membranes[name]) for name in graph.ports} if potentials else {},
    )


def _entering(
    network: Network,
    name: str,
    now: Mapping[str, Values],
    spikes: Mapping[str, list[npt.NDArray[np.bool_]]],
    t: int,
    x: Values,
) -> Values:
    """x_n(t): the sum over the edges into an op, in their order; a source is zero before the first step."""
    graph = network.graph
    total: Values | None = None
    for edge in graph.incoming[name]:
        value: Values
        if edge.delay == 0:
            value = now[edge.source]
        elif t < edge.delay:
            value = np.zeros((x.shape[1], *graph.shapes[edge.source]), x.dtype)
        elif edge.source == graph.input:
            value = x[t - edge.delay]
        else:
            value = spikes[edge.source][t - edge.delay].astype(x.dtype)
        total = value if total is None else total + value
    if total is None:
        raise NetworkError(name, "has no input")
    return total
