"""What LIF neurons compute at a time step, in each number format.

In float32 and exact, u = tau * v + x. In `loihi` they compute as Lava 0.10.0's `fixed_pt` LIF does, which
models Loihi's: membrane potentials are whole numbers of a unit, the leak is rounded towards zero, and they
saturate at 2**23 - 1 units. One unit is 1/64 of a synaptic weight of 1, and weights are even, so with weights
and pools on the grid 2**-g the unit is 2**-(g + 7). All of these numbers are exact in single precision, so
that the whole format is kept in real values: only the leak and the saturation differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from snndeploy.errors import QuantizeError
from snndeploy.ir.formats import Loihi
from snndeploy.ir.kernels import Values
from snndeploy.ir.network import Network
from snndeploy.ir.ops import AvgPool2d, Conv2d, Flatten, Lif, Linear
from snndeploy.ir.populations import upstream

Whole: TypeAlias = npt.NDArray[np.int64]
DECAY_UNITY = 4096  # tau is a whole multiple of 1 / 4096
ACTIVATION_SHIFT = 6  # a weight of 1 and a threshold of 1 are 2**6 units of the membrane
LARGEST_MEMBRANE = 2**23 - 1
LARGEST_THRESHOLD = LARGEST_CURRENT = 2**17 - 1  # in units of a weight of 1
LARGEST_BIAS_MANTISSA, LARGEST_BIAS_EXPONENT = 4095, 7


@dataclass(frozen=True, eq=False)
class Neurons:
    """The constants of a Lif and what it does with them.

    unit: Of the membrane in the loihi format, for each channel in the shape (channels, 1, 1) or (features,);
        None in the other formats.
    """

    tau: float
    threshold: float
    unit: npt.NDArray[np.float64] | None = None

    def carried(self, rest: Values) -> Values:
        """What the leak leaves of v, (..., *shape)."""
        if self.unit is None:
            kept: Values = rest.dtype.type(self.tau) * rest
            return kept
        units = np.trunc(rest.astype(np.float64) / self.unit * self.tau)  # at most 35 binary digits
        left: Values = (units * self.unit).astype(rest.dtype)
        return left

    def charge(self, rest: Values, x: Values) -> Values:
        """Membrane potential u before the reset for v after the last one and the current x."""
        u: Values = self.carried(rest) + x
        if self.unit is None:
            return u
        largest = (LARGEST_MEMBRANE * self.unit).astype(u.dtype)
        return np.clip(u, -largest, largest)


def neurons(network: Network) -> Mapping[str, Neurons]:
    """What computes each Lif of a network, by name."""
    grids = weight_grids(network) if isinstance(network.format, Loihi) else {}
    found = {}
    for name in network.graph.ports:
        op = network.graph.ops[name]
        assert isinstance(op, Lif)  # noqa: S101 - ports are Lifs
        found[name] = Neurons(op.tau, op.threshold, membrane_unit(network, name, grids) if grids else None)
    return found


def membrane_unit(network: Network, name: str, grids: Mapping[str, Whole]) -> npt.NDArray[np.float64]:
    """The unit of a Lif's membrane for each channel, in a shape that broadcasts over the Lif's."""
    unit: npt.NDArray[np.float64] = np.exp2(-(grids[name] + 1.0 + ACTIVATION_SHIFT))
    return unit.reshape(-1, *(1,) * (len(network.graph.shapes[name]) - 1))


def weight_grids(network: Network) -> dict[str, Whole]:
    """G for each channel of what enters every Lif and the Output: their synapses' weights are multiples of 2**-g.

    A composed synapse weighs mantissa * 2**-k over the area of its pools, a direct one 1; whole numbers of
    2**-grid_bits that enter through the input count as that many spikes. Biases do not count.
    """
    graph, form = network.graph, network.format
    if not isinstance(form, Loihi):
        raise QuantizeError("weight grids", "belong to the loihi format", got=form.name)
    leaving: dict[str, Whole] = {name: np.zeros(graph.shapes[name][0], np.int64) for name in graph.ports}
    found: dict[str, Whole] = {}
    for name in graph.order:
        op, channels = graph.ops[name], graph.shapes[name][0]
        if name == graph.input:
            leaving[name] = np.full(channels, network.input.grid_bits or 0, np.int64)
            continue
        into: Whole = np.max([leaving[e.source] for e in graph.incoming[name]], axis=0)
        match op:
            case Conv2d() | Linear():
                groups = op.groups if isinstance(op, Conv2d) else 1
                finest = into.reshape(groups, -1).max(axis=1).repeat(channels // groups)
                leaving[name] = np.asarray(form.exponents[f"{name}.weight"], np.int64) + finest
            case AvgPool2d():
                leaving[name] = into + (op.kernel[0] * op.kernel[1] - 1).bit_length()
            case Flatten():
                area = channels // len(into)
                leaving[name] = into.repeat(area)
            case Lif():
                found[name] = into
            case _:  # Upsample and the Output change no value
                leaving[name] = into
    found[graph.output] = leaving[graph.output]
    return found


@dataclass(frozen=True, eq=False)
class Registers:
    """What the neurons of a loihi population are programmed with, each for every channel.

    grid_bits: g: a synaptic weight of 1 stands for 2**-(g + 1).
    threshold: `vth`, in units of a weight of 1.
    bias_mantissa, bias_exponent: The bias is mantissa * 2**exponent, in units of the membrane.
    decay: `dv`, 4096 * (1 - tau); one number.
    """

    grid_bits: Whole
    threshold: Whole
    bias_mantissa: Whole
    bias_exponent: Whole
    decay: int


def registers(network: Network) -> dict[str, Registers]:
    """The registers of every Lif of a network in the loihi format, by name.

    Raises:
        QuantizeError: A value has no representation; names the Lif and what it may hold.
    """
    grids, biases = weight_grids(network), total_biases(network)
    found = {}
    for name in network.graph.ports:
        op = network.graph.ops[name]
        assert isinstance(op, Lif)  # noqa: S101 - ports are Lifs
        decay = DECAY_UNITY * (1 - op.tau)
        if decay != int(decay):
            raise QuantizeError(name, "needs a tau that is a whole multiple of 1/4096", got=op.tau)
        scale = np.exp2(grids[name] + 1.0)
        threshold = op.threshold * scale
        if (threshold != np.round(threshold)).any() or threshold.max() > LARGEST_THRESHOLD:
            raise QuantizeError(
                name,
                f"needs a threshold that is a whole number of at most {LARGEST_THRESHOLD} weights of 1",
                got=f"{op.threshold:g}, which is {threshold.max():g}",
                remedy="quantize the network again",
            )
        mantissas, exponents = _bias_registers(name, biases[name] * scale * 2**ACTIVATION_SHIFT)
        found[name] = Registers(grids[name], threshold.astype(np.int64), mantissas, exponents, int(decay))
    return found


def total_biases(network: Network) -> dict[str, npt.NDArray[np.float64]]:
    """Sum of all biases that enter each Lif and the Output, for every channel, by name.

    A path holds at most one op with weights, and what follows passes a bias on as it is, in all of a map.
    """
    graph = network.graph
    leaving = {name: np.zeros(graph.shapes[name][0]) for name in (graph.input, *graph.ports)}
    found: dict[str, npt.NDArray[np.float64]] = {}
    for name in graph.order:
        if name == graph.input:
            continue
        op, channels = graph.ops[name], graph.shapes[name][0]
        into: npt.NDArray[np.float64] = np.sum([leaving[e.source] for e in graph.incoming[name]], axis=0)
        match op:
            case Conv2d() | Linear():
                bias = network.weights[f"{name}.bias"] if op.bias else np.zeros(channels)
                leaving[name] = bias.astype(np.float64)
            case Lif():
                found[name] = into
            case Flatten():
                leaving[name] = into.repeat(channels // len(into))
            case _:  # pools and Upsample change nothing
                leaving[name] = into
    found[graph.output] = leaving[graph.output]
    return found


def _bias_registers(name: str, units: npt.NDArray[np.float64]) -> tuple[Whole, Whole]:
    """Mantissa and the smallest exponent for each bias in units of the membrane."""
    exponents = np.ceil(np.log2(np.maximum(np.abs(units), 1) / LARGEST_BIAS_MANTISSA))
    exponents = np.maximum(exponents, 0)
    mantissas = units / np.exp2(exponents)
    if (mantissas != np.round(mantissas)).any() or exponents.max(initial=0) > LARGEST_BIAS_EXPONENT:
        raise QuantizeError(
            name,
            f"needs a bias of {LARGEST_BIAS_MANTISSA} * 2**e units of the membrane, e of 0 to "
            f"{LARGEST_BIAS_EXPONENT}",
            got=f"up to {np.abs(units).max():g} units",
            remedy="quantize the network again",
        )
    return mantissas.astype(np.int64), exponents.astype(np.int64)


def weighted_twice(network: Network) -> str | None:
    """An op with weights that is entered by what another one gave, which no synapse can hold; None if none is."""
    graph = network.graph
    for name in graph.order:
        if isinstance(graph.ops[name], (Conv2d, Linear)):
            before = upstream(graph, name)
            if any(isinstance(graph.ops[n], (Conv2d, Linear)) for n in before):
                return name
    return None
