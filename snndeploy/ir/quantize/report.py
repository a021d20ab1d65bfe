"""What quantising did to every layer: its weights, its currents and how often it fires."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.ir.certificate import Certificate
from snndeploy.ir.formats import Loihi
from snndeploy.ir.network import Network
from snndeploy.ir.neurons import Registers, registers
from snndeploy.ir.ops import Lif
from snndeploy.ir.populations import upstream
from snndeploy.ir.quantize.posttraining import Quantized
from snndeploy.ir.replay import entering
from snndeploy.ir.run import as_steps, run

_BATCH = 32  # samples looked at together


@dataclass(frozen=True, slots=True)
class RegisterReport:
    """What the neurons of a loihi population are programmed with, smallest and largest of its channels.

    grid_bits: g: a synaptic weight of 1 stands for 2**-(g + 1).
    threshold: `vth`, in units of a weight of 1.
    threshold_change: Of the threshold's value, relative to what it was.
    decay: `dv`, 4096 * (1 - tau).
    tau_change: Of tau, absolute.
    bias_exponent: Of the biases.
    """

    grid_bits: tuple[int, int]
    threshold: tuple[int, int]
    threshold_change: float
    decay: int
    tau_change: float
    bias_exponent: tuple[int, int]


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What quantising did to a Lif or the Output and the weights of the synapses that enter it.

    exponents: Smallest and largest k of those weights; None if there are none.
    clipped, size: Weights that were clipped, and all of them.
    weight_error: Root mean square of the weights' change over that of the weights.
    current_error: The same of what enters the layer on the calibration data, with the original's spikes.
    bits_left: Of the certificate.
    rate, quantized_rate: Spikes per neuron and step on the calibration data, each network running on its own;
        None for the Output.
    registers: In the loihi format, for a Lif.
    """

    op: str
    exponents: tuple[int, int] | None
    clipped: int
    size: int
    weight_error: float
    current_error: float
    bits_left: float
    rate: float | None
    quantized_rate: float | None
    registers: RegisterReport | None

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)


def layer_reports(
    original: Network, quantized: Quantized, calibration: npt.NDArray[Any]
) -> tuple[LayerReport, ...]:
    """What quantising did, for every Lif and the Output in the order of execution.

    Args:
        original: What was quantized.
        quantized: What came of it.
        calibration: Prepared input, as for `quantize`.

    Raises:
        NetworkError: The input does not fit the network.
    """
    measured = _Measured(original, quantized.network, calibration)
    known = registers(quantized.network) if isinstance(quantized.network.format, Loihi) else {}
    names = (*original.graph.ports, original.graph.output)
    return tuple(_report(name, original, quantized, measured, known) for name in names)


class _Measured:
    """What two networks do on data, by Lif and for the Output.

    Attributes:
        current_errors: Of what enters, with the spikes of the first.
        rates: Spikes per neuron and step of the first and of the second.
    """

    def __init__(self, original: Network, quantized: Network, data: npt.NDArray[Any]) -> None:
        steps, ports = as_steps(original, data), original.graph.ports
        change = dict.fromkeys((*ports, original.graph.output), 0.0)
        size = dict.fromkeys(change, 0.0)
        fired = {name: np.zeros(2) for name in ports}
        for start in range(0, steps.shape[1], _BATCH):
            part = steps[:, start : start + _BATCH]
            spikes = run(original, part).spikes
            own = run(quantized, part).spikes
            for name in ports:
                fired[name] += spikes[name].sum(), own[name].sum()
            pairs = zip(entering(original, part, spikes), entering(quantized, part, spikes), strict=True)
            for (name, before), (_, after) in pairs:
                if name in change:
                    change[name] += float(((before - after) ** 2).sum())
                    size[name] += float((before**2).sum())
        self.current_errors = {name: _relative(change[name], size[name]) for name in change}
        neurons = {name: steps.shape[1] * len(steps) * np.prod(original.graph.shapes[name]) for name in ports}
        self.rates = {name: tuple(float(n) for n in fired[name] / neurons[name]) for name in ports}


def _relative(change: float, size: float) -> float:
    """Root of the ratio of two sums of squares; 0 where there is nothing."""
    return float(np.sqrt(change / size)) if size > 0 else 0.0


def _report(
    name: str,
    original: Network,
    quantized: Quantized,
    measured: _Measured,
    known: Mapping[str, Registers],
) -> LayerReport:
    parameters = {f"{op}.weight" for op in upstream(original.graph, name)} & original.weights.keys()
    roundings = [r for r in quantized.roundings if r.parameter in parameters]
    before = [original.weights[r.parameter].astype(np.float64) for r in roundings]
    after = [quantized.network.weights[r.parameter].astype(np.float64) for r in roundings]
    change = sum(float(((a - b) ** 2).sum()) for a, b in zip(before, after, strict=True))
    rates = measured.rates.get(name, (None, None))
    ends = [end for r in roundings for end in r.exponents]
    return LayerReport(
        op=name,
        exponents=(min(ends), max(ends)) if ends else None,
        clipped=sum(r.clipped for r in roundings),
        size=sum(r.size for r in roundings),
        weight_error=_relative(change, sum(float((a**2).sum()) for a in before)),
        current_error=measured.current_errors[name],
        bits_left=_bits_left(quantized.certificate, name),
        rate=rates[0],
        quantized_rate=rates[1],
        registers=_registers(name, original, quantized.network, known[name]) if name in known else None,
    )


def _bits_left(certificate: Certificate, name: str) -> float:
    return next(row.bits_left for row in certificate.rows if row.op == name)


def _registers(name: str, original: Network, quantized: Network, found: Registers) -> RegisterReport:
    before, after = original.graph.ops[name], quantized.graph.ops[name]
    assert isinstance(before, Lif)  # noqa: S101 - only Lifs have registers
    assert isinstance(after, Lif)  # noqa: S101 - and quantising keeps them
    return RegisterReport(
        grid_bits=_span(found.grid_bits),
        threshold=_span(found.threshold),
        threshold_change=after.threshold / before.threshold - 1,
        decay=found.decay,
        tau_change=after.tau - before.tau,
        bias_exponent=_span(found.bias_exponent),
    )


def _span(values: npt.NDArray[np.int64]) -> tuple[int, int]:
    return int(values.min()), int(values.max())
