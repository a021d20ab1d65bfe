"""One set of weights in the exact and in the loihi format: when both compute the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from snndeploy.errors import QuantizeError
from snndeploy.ir.certificate import certify
from snndeploy.ir.formats import Exact, Float32, Loihi
from snndeploy.ir.network import Network
from snndeploy.ir.neurons import LARGEST_CURRENT, registers, total_biases
from snndeploy.ir.ops import Lif
from snndeploy.ir.quantize.biases import UNIT_DIGITS, halvings
from snndeploy.ir.quantize.branches import inflows, reach


def in_format(network: Network, name: Literal["exact", "loihi"]) -> Network:
    """A network in the exact or the loihi format as one in the other: the weights and grids stay.

    What it computes may change, see `format_difference`; its certificate may not hold.

    Raises:
        QuantizeError: The network is in float32.
    """
    if isinstance(network.format, Float32):
        raise QuantizeError("network", "is in float32, on no grids", remedy="quantize it")
    form = Exact if name == "exact" else Loihi
    return replace(network, format=form(network.format.exponents))


def format_difference(network: Network) -> str:
    """Why a network may compute different spikes or potentials in the exact and in the loihi format.

    Empty where it cannot: both certificates hold, every potential stays a whole multiple of the unit of
    Loihi's membranes however often it is halved within a sample, and no potential saturates. The condition is
    sufficient, not necessary.

    Raises:
        QuantizeError: The network is in float32.
    """
    loihi = in_format(network, "loihi")
    certificates = {"exact": certify(in_format(network, "exact")), "loihi": certify(loihi)}
    for name, certificate in certificates.items():
        if not certificate.holds:
            row = certificate.failures[0]
            return f"{row.op} is not certified in the {name} format: {row.reason}"
    entering, totals = inflows(loihi), total_biases(loihi)
    parameters = {n: array.astype(np.float64) for n, array in loihi.weights.items()}
    weights = {n.removesuffix(".weight"): w for n, w in parameters.items() if n.endswith(".weight")}
    biases = {n.removesuffix(".bias"): b for n, b in parameters.items() if n.endswith(".bias")}
    for name, found in registers(loihi).items():
        op = loihi.graph.ops[name]
        assert isinstance(op, Lif)  # noqa: S101 - only Lifs have registers
        digits = halvings(op, loihi.steps)
        if digits is None or digits > UNIT_DIGITS:
            return (
                f"{name} halves its potential too often in {loihi.steps} steps for the unit of its membrane"
            )
        if (
            np.remainder(totals[name] * np.exp2(found.grid_bits + UNIT_DIGITS - float(digits)), 1) != 0
        ).any():
            return f"{name} has biases too fine to be halved as often as in {loihi.steps} steps"
        above, _ = reach(entering[name], weights, biases)
        if ((above + op.tau * op.threshold) * np.exp2(found.grid_bits + 1.0) > LARGEST_CURRENT).any():
            return f"{name} may saturate in the loihi format"
    return ""
