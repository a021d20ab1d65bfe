"""Compares what a back end did with the reference interpreter, spike by spike.

Two correct single-precision back ends flip a spike sooner or later, and the flip cascades. So besides the
free-running differences each layer is judged with the back end's own spikes as its input (teacher forcing):
a flip is explained if the neuron lies within the rounding bound of its threshold, and a defect otherwise.
Where back end and interpreter disagree on the same inputs, float64 is the referee.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.errors import NetworkError
from snndeploy.ir.certificate import certify
from snndeploy.ir.forced import Forced, potentials
from snndeploy.ir.formats import Float32
from snndeploy.ir.network import Network
from snndeploy.ir.neurons import neurons
from snndeploy.ir.replay import entering
from snndeploy.ir.run import Trace, as_steps

_BATCH = 32


@dataclass(frozen=True, slots=True)
class Layer:
    """How one Lif of a back end compares with the interpreter.

    op: Its name.
    compared: Neuron-steps compared.
    spikes: Spikes of the interpreter.
    differing: Neuron-steps whose spike differs, both running freely.
    flips: Neuron-steps whose spike differs from what the interpreter gives in float64 for the back end's own
        inputs.
    unexplained: Flips that are defects: those whose neuron lies beyond the rounding bound of its threshold,
        in a certified network all.
    worst_margin: Largest distance of a flipped neuron to its threshold, in rounding bounds.
    spikes_found: Spikes of the back end.
    disputed: Neuron-steps where the back end and the interpreter in float32 differ, both given the back end's
        own inputs and earlier spikes.
    upheld: Those of them where float64 gives what the back end gave.
    """

    op: str
    compared: int
    spikes: int
    differing: int
    flips: int
    unexplained: int
    worst_margin: float
    spikes_found: int
    disputed: int
    upheld: int

    @property
    def firing_rate(self) -> float:
        """Spikes of the interpreter per neuron and time step."""
        return self.spikes / max(self.compared, 1)

    @property
    def firing_rate_difference(self) -> float:
        """By how much the back end's firing rate is higher, both running freely."""
        return (self.spikes_found - self.spikes) / max(self.compared, 1)


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

    exact: Whether nothing may differ: the network is certified to be exact, and the arithmetic keeps it so.
    readout_error: Largest difference of the readout sums, both running freely.
    forced_readout_error: The same, or of the logits times the window, with the back end's own spikes given,
        in rounding bounds; at most 1 is explained by rounding.
    float64_differing: Neuron-steps whose spike differs from the interpreter's in float64, both running freely;
        None unless asked for.
    potential_error: Largest difference of membrane potentials before the reset, both running freely; None
        unless both gave them.
    """

    backend: str
    exact: bool
    samples: int
    layers: tuple[Layer, ...]
    first_divergence: Divergence | None
    readout_error: float
    forced_readout_error: float
    top1_agreement: float
    float64_differing: int | None = None
    potential_error: float | None = None

    @property
    def compared(self) -> int:
        """Neuron-steps compared, over all layers."""
        return sum(layer.compared for layer in self.layers)

    @property
    def differing(self) -> int:
        """Neuron-steps whose spike differs, over all layers."""
        return sum(layer.differing for layer in self.layers)

    @property
    def largest_rate_difference(self) -> float:
        """Largest difference of a layer's firing rate, without sign."""
        return max((abs(layer.firing_rate_difference) for layer in self.layers), default=0.0)

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
        if self.exact and not found and self.potential_error:
            found.append(f"exact format: membrane potentials differ by up to {self.potential_error:g}")
        if self.exact and not found and (self.differing or self.readout_error):
            found.append(
                f"exact format: {self.differing} spikes differ, readout differs by {self.readout_error:g}"
            )
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether the back end keeps what the network's number format promises."""
        return not self.defects


def compare(
    network: Network, x: npt.NDArray[Any], expected: Trace, found: Trace, backend: str, *, half: bool = False
) -> Comparison:
    """Compares a back end's trace with the interpreter's on the same input; see `Comparator`."""
    return Comparator(network, x, expected).compare(found, backend, half=half)


class Comparator:
    """Compares back ends with the interpreter on one input.

    What follows from spikes alone is worked out once for all back ends that give the interpreter's.

    Args:
        network: The folded network that all ran.
        x: (batch, *shape) or (time, batch, *shape), prepared input.
        expected: What `run` gave.
        double: What `run` gave in float64, for `Comparison.float64_differing`.
    """

    def __init__(
        self, network: Network, x: npt.NDArray[Any], expected: Trace, double: Trace | None = None
    ) -> None:
        self.network, self.steps = network, as_steps(network, x)
        self.expected, self.double = expected, double
        self.certified = is_certified(network)
        self._same: dict[bool, Forced] = {}

    def compare(self, found: Trace, backend: str, *, half: bool = False) -> Comparison:
        """Compares one back end.

        Args:
            found: What it gave, with the spikes of every Lif.
            backend: Its name, for the report.
            half: Whether it rounds weights, and the inputs and sums of the ops that have them, to float16.
                Then no equality is promised, and more rounding is explained.

        Raises:
            NetworkError: The trace lacks a layer, has another shape or type, or is not finite.
        """
        expected = self.expected
        _check_traces(self.network, expected, found, backend)
        differing = {
            name: int((expected.spikes[name] != found.spikes[name]).sum())
            for name in self.network.graph.ports
        }
        forced = self._forced(found, half, same=not any(differing.values()))
        layers = tuple(
            Layer(
                op=name,
                compared=expected.spikes[name].size,
                spikes=int(expected.spikes[name].sum()),
                differing=differing[name],
                flips=forced.flips[name],
                unexplained=forced.unexplained[name],
                worst_margin=forced.worst[name],
                spikes_found=int(found.spikes[name].sum()),
                disputed=forced.disputed[name],
                upheld=forced.upheld[name],
            )
            for name in self.network.graph.ports
        )
        agreement = expected.logits.argmax(axis=1) == found.logits.argmax(axis=1)
        return Comparison(
            backend=backend,
            exact=self.certified and not half,
            samples=self.steps.shape[1],
            layers=layers,
            first_divergence=first_divergence(self.network, self.steps, expected, found),
            readout_error=float(np.abs(expected.readout_sum - found.readout_sum).max(initial=0.0)),
            forced_readout_error=forced.readout_error(found),
            top1_agreement=float(agreement.mean()) if agreement.size else 1.0,
            float64_differing=None if self.double is None else spikes_differing(self.double, found),
            potential_error=_potential_error(expected, found),
        )

    def _forced(self, found: Trace, half: bool, *, same: bool) -> Forced:
        if same and half in self._same:
            return self._same[half]
        forced = Forced(self.network, exact=self.certified, half=half)
        for start in range(0, self.steps.shape[1], _BATCH):
            part = slice(start, start + _BATCH)
            forced.add(self.steps[:, part], {n: found.spikes[n][:, part] for n in self.network.graph.ports})
        if same:
            self._same[half] = forced
        return forced


def is_certified(network: Network) -> bool:
    """Whether a network is in a format whose certificate holds, so that all back ends give the same bits."""
    return not isinstance(network.format, Float32) and certify(network).holds


def spikes_differing(one: Trace, other: Trace) -> int:
    """Neuron-steps whose spike differs between two traces, over all layers."""
    return sum(int((spikes != other.spikes[name]).sum()) for name, spikes in one.spikes.items())


def _potential_error(expected: Trace, found: Trace) -> float | None:
    """Largest difference of the membrane potentials that both have, infinite where one is no number."""
    shared = expected.potentials.keys() & found.potentials.keys()
    if not shared:
        return None
    with np.errstate(invalid="ignore"):
        errors = [np.abs(expected.potentials[n] - found.potentials[n]).max(initial=0.0) for n in shared]
    return float(np.nan_to_num(errors, nan=np.inf, posinf=np.inf).max())


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
            computing = neurons(network)[name]
            potential = potentials(computing, current, alone[name])[0][t, 0]
            where = (sample, *neuron)
            return Divergence(
                step=t,
                op=name,
                sample=sample,
                neuron=tuple(neuron),
                expected=bool(expected.spikes[name][t][where]),
                potential=float(potential[tuple(neuron)]),
                threshold=computing.threshold,
            )
    return None


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
