"""Compares what a back end did with the reference interpreter, spike by spike.

Two correct single-precision back ends flip a spike sooner or later, and the flip cascades. So besides the
free-running differences each layer is judged with the back end's own spikes as its input (teacher forcing):
a flip is explained if the neuron lies within the rounding bound of its threshold, and a defect otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.errors import NetworkError
from snndeploy.ir.certificate import certify
from snndeploy.ir.kernels import Values
from snndeploy.ir.network import Exact, Network
from snndeploy.ir.ops import Lif
from snndeploy.ir.replay import entering
from snndeploy.ir.rounding import (
    SMALLEST,
    UNIT_ROUNDOFF,
    accumulated,
    relative_bound,
    roundings,
    worst_ratio,
)
from snndeploy.ir.run import Trace, as_steps

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Layer:
    """How one Lif of a back end compares with the interpreter.

    op: Its name.
    compared: Neuron-steps compared.
    spikes: Spikes of the interpreter.
    differing: Neuron-steps whose spike differs, both running freely.
    flips: Neuron-steps whose spike differs from what the interpreter gives for the back end's own inputs.
    unexplained: Flips that are defects: in single precision those whose neuron lies beyond the rounding bound
        of its threshold, in a certified network all.
    worst_margin: Largest distance of a flipped neuron to its threshold, in rounding bounds.
    """

    op: str
    compared: int
    spikes: int
    differing: int
    flips: int
    unexplained: int
    worst_margin: float

    @property
    def firing_rate(self) -> float:
        """Spikes of the interpreter per neuron and time step."""
        return self.spikes / max(self.compared, 1)


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first spike that differs: earliest time step, then earliest layer, then first sample.

    neuron: Index in the layer's shape.
    potential: Membrane potential before the reset, from the interpreter in float64 with the back end's inputs.
    """

    step: int
    op: str
    sample: int
    neuron: tuple[int, ...]
    expected: bool
    potential: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One back end against the interpreter.

    exact: Whether the network is certified to be exact, so that nothing may differ.
    readout_error: Largest difference of the readout sums, both running freely.
    forced_readout_error: The same, or of the logits times the window, with the back end's own spikes given,
        in rounding bounds; at most 1 is explained by rounding.
    """

    backend: str
    exact: bool
    samples: int
    layers: tuple[Layer, ...]
    first_divergence: Divergence | None
    readout_error: float
    forced_readout_error: float
    top1_agreement: float

    @property
    def compared(self) -> int:
        """Neuron-steps compared, over all layers."""
        return sum(layer.compared for layer in self.layers)

    @property
    def differing(self) -> int:
        """Neuron-steps whose spike differs, over all layers."""
        return sum(layer.differing for layer in self.layers)

    @property
    def defects(self) -> tuple[str, ...]:
        """What rounding cannot explain, one line each, upstream first; empty if the back end is right."""
        found = [
            f"{layer.op}: {layer.unexplained} flips that rounding does not explain "
            f"(up to {layer.worst_margin:.3g} rounding bounds from the threshold)"
            for layer in self.layers
            if layer.unexplained
        ]
        if self.forced_readout_error > 1:
            found.append(
                f"readout: off by {self.forced_readout_error:.3g} rounding bounds with its own spikes given"
            )
        if self.exact and not found and (self.differing or self.readout_error):
            found.append(
                f"exact format: {self.differing} spikes differ, readout differs by {self.readout_error:g}"
            )
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether the back end keeps what the network's number format promises."""
        return not self.defects


def compare(network: Network, x: npt.NDArray[Any], expected: Trace, found: Trace, backend: str) -> Comparison:
    """Compares a back end's trace with the interpreter's on the same input.

    Args:
        network: The folded network both ran.
        x: (batch, *shape) or (time, batch, *shape), prepared input.
        expected: What `run` gave.
        found: What the back end gave, with the spikes of every Lif.
        backend: Its name, for the report.

    Raises:
        NetworkError: The back end's trace lacks a layer, has another shape or type, or is not finite.
    """
    _check_traces(network, expected, found, backend)
    steps = as_steps(network, x)
    exact = isinstance(network.format, Exact) and certify(network).holds
    forced = _Forced(network, exact=exact)
    for start in range(0, steps.shape[1], _BATCH):
        part = slice(start, start + _BATCH)
        spikes = {name: found.spikes[name][:, part] for name in network.graph.ports}
        forced.add(steps[:, part], spikes, found.readout_sum[part], found.logits[part])
    layers = tuple(
        Layer(
            op=name,
            compared=expected.spikes[name].size,
            spikes=int(expected.spikes[name].sum()),
            differing=int((expected.spikes[name] != found.spikes[name]).sum()),
            flips=forced.flips[name],
            unexplained=forced.unexplained[name],
            worst_margin=forced.worst[name],
        )
        for name in network.graph.ports
    )
    agreement = expected.logits.argmax(axis=1) == found.logits.argmax(axis=1)
    return Comparison(
        backend=backend,
        exact=exact,
        samples=steps.shape[1],
        layers=layers,
        first_divergence=first_divergence(network, steps, expected, found),
        readout_error=float(np.abs(expected.readout_sum - found.readout_sum).max(initial=0.0)),
        forced_readout_error=forced.readout,
        top1_agreement=float(agreement.mean()) if agreement.size else 1.0,
    )


def first_divergence(
    network: Network, steps: npt.NDArray[Any], expected: Trace, found: Trace
) -> Divergence | None:
    """The first spike that differs between two traces, or None."""
    for t in range(network.steps):
        for name in network.graph.ports:
            differs = expected.spikes[name][t] != found.spikes[name][t]
            if not differs.any():
                continue
            sample, *neuron = (int(i) for i in np.argwhere(differs)[0])
            alone = {n: s[:, sample : sample + 1] for n, s in found.spikes.items()}
            current = dict(entering(network, steps[:, sample : sample + 1], alone))[name]
            op = network.graph.ops[name]
            if not isinstance(op, Lif):
                raise AssertionError(name)  # noqa: TRY004 - ports are Lifs
            potential = _potentials(op, current, alone[name])[0][t, 0]
            where = (sample, *neuron)
            return Divergence(
                step=t,
                op=name,
                sample=sample,
                neuron=tuple(neuron),
                expected=bool(expected.spikes[name][t][where]),
                potential=float(potential[tuple(neuron)]),
                threshold=op.threshold,
            )
    return None


class _Forced:
    """Teacher-forced flips and readout error, added up over batches."""

    def __init__(self, network: Network, *, exact: bool) -> None:
        self.network = network
        self.exact = exact
        self.terms = roundings(network.graph)
        self.flips = dict.fromkeys(network.graph.ports, 0)
        self.unexplained = dict.fromkeys(network.graph.ports, 0)
        self.worst = dict.fromkeys(network.graph.ports, 0.0)
        self.readout = 0.0

    def add(
        self, x: Values, spikes: Mapping[str, npt.NDArray[np.bool_]], readout_sum: Values, logits: Values
    ) -> None:
        sums = entering(self.network, x, spikes)
        sizes = entering(self.network, x, spikes, magnitudes=True)
        for (name, current), (_, size) in zip(sums, sizes, strict=True):
            op = self.network.graph.ops[name]
            if isinstance(op, Lif):
                self._add_layer(name, op, current, size, spikes[name])
            elif name == self.network.graph.output:
                window = slice(self.network.steps - self.network.readout, None)
                count = self.terms[name] + self.network.readout + 2  # one division, perhaps by its inverse
                bound = relative_bound(count) * size[window].sum(axis=0) + SMALLEST
                right = current[window].sum(axis=0)
                for given in (readout_sum, logits.astype(np.float64) * self.network.readout):
                    self.readout = max(self.readout, worst_ratio(np.abs(given - right), bound))

    def _add_layer(
        self, name: str, op: Lif, current: Values, size: Values, spikes: npt.NDArray[np.bool_]
    ) -> None:
        potential, carried = _potentials(op, current, spikes)
        rounding = relative_bound(self.terms[name]) * size + 2 * UNIT_ROUNDOFF * (
            np.abs(carried) + np.abs(current)
        )
        bound = accumulated(op, rounding, spikes) + SMALLEST
        flipped = (potential > op.threshold) != spikes
        distance = np.abs(potential - op.threshold)[flipped]
        self.flips[name] += int(flipped.sum())
        self.unexplained[name] += int(flipped.sum() if self.exact else (distance > bound[flipped]).sum())
        self.worst[name] = max(self.worst[name], worst_ratio(distance, bound[flipped]))


def _potentials(op: Lif, current: Values, spikes: npt.NDArray[np.bool_]) -> tuple[Values, Values]:
    """Membrane potential u and its carried part tau * v for given currents and given spikes, (time, ...)."""
    potential, carried = np.empty_like(current), np.zeros_like(current)
    for t in range(len(current)):
        if t:
            carried[t] = op.tau * potential[t - 1] * ~spikes[t - 1]
        potential[t] = carried[t] + current[t]
    return potential, carried


def _check_traces(network: Network, expected: Trace, found: Trace, backend: str) -> None:
    for name in network.graph.ports:
        if name not in found.spikes:
            raise NetworkError(backend, f"gave no spikes of {name}")
        spikes, shape = found.spikes[name], expected.spikes[name].shape
        if spikes.shape != shape or spikes.dtype != np.bool_:
            raise NetworkError(
                f"{backend}: {name}",
                f"spikes must be booleans of shape {shape}",
                got=f"{spikes.dtype} of shape {spikes.shape}",
            )
    for what in ("readout_sum", "logits"):
        values, shape = getattr(found, what), getattr(expected, what).shape
        if values.shape != shape or not np.isfinite(values).all():
            raise NetworkError(
                f"{backend}: {what}",
                f"must be finite numbers of shape {shape}",
                got=f"shape {values.shape}" if values.shape != shape else "NaN or infinity",
            )
