"""Sums too wide for the certificate: which biases and weights to make coarser, digit by digit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from snndeploy.errors import QuantizeError
from snndeploy.ir.certificate import Row
from snndeploy.ir.formats import LARGEST_EXPONENT, mantissa
from snndeploy.ir.network import Network
from snndeploy.ir.ops import AvgPool2d
from snndeploy.ir.populations import upstream
from snndeploy.ir.quantize.grids import COARSEST, Whole, Wide
from snndeploy.ir.quantize.rounding import finest_grid

_BIAS_BITS = 8  # digits a bias may have beyond the grid of its op's products
_LEAST_BITS = 3  # of the largest weight in a layer; a coarser one is no use to anybody


def bias_exponents(
    network: Network, biases: Mapping[str, Wide], exponents: Mapping[str, Whole], caps: Mapping[str, int]
) -> dict[str, Whole]:
    """K of each channel of the ops' biases: finer than the op's products, unless capped, and never coarser."""
    return {
        name: np.minimum(_allowed(network, name, exponents[name], caps[name]), finest_grid(bias))
        for name, bias in biases.items()
    }


def coarsen(
    network: Network, row: Row, exponents: dict[str, Whole], bias_caps: dict[str, int], bits: int
) -> None:
    """Makes the finest of what enters an op that fails the certificate one binary digit coarser.

    Args:
        network: In float32.
        row: What the certificate says of the op.
        exponents: k of each op's weights; lowered.
        bias_caps: Finest k of each op's biases; lowered.
        bits: Of a mantissa, sign included.

    Raises:
        QuantizeError: Nothing is left to be made coarser.
    """
    names = [n for n in (*upstream(network.graph, row.op), row.op) if n in exponents]
    products = {n: int(exponents[n].max()) + _product_grid(network, n) for n in names}
    biases = {
        n: int(_allowed(network, n, exponents[n], bias_caps[n]).max())
        for n in names
        if f"{n}.bias" in network.weights
    }
    finest = max([*products.values(), *biases.values()], default=0)
    if row.bound > 0 and finest > max(products.values(), default=finest):
        for name in biases:
            bias_caps[name] = min(bias_caps[name], finest - 1)
        return
    digits = max((int(exponents[n].max()) for n in names), default=COARSEST)
    if row.bound == 0 or not of_use(network, {n: np.full(1, digits - 1) for n in names}, bits):
        raise QuantizeError(
            row.op,
            "cannot be certified",
            got=row.reason,
            remedy="use fewer time steps, tau = 0.5, pools whose area is a power of two, or smaller layers",
        )
    for name in names:
        exponents[name] = np.minimum(exponents[name], digits - 1)


def of_use(network: Network, exponents: Mapping[str, Whole], bits: int) -> bool:
    """Whether the largest weight of some ops keeps enough binary digits with the given exponents."""
    least = min(_LEAST_BITS, bits - 1)
    finest = max((int(k.max()) for k in exponents.values()), default=COARSEST - 1)
    if finest < COARSEST:
        return False
    largest = [np.abs(mantissa(network.weights[f"{n}.weight"], tuple(k))).max() for n, k in exponents.items()]
    return bool(max(largest) >= 2.0 ** (least - 1))


def _allowed(network: Network, name: str, k: Whole, cap: int) -> Whole:
    products = k + _product_grid(network, name)
    allowed: Whole = np.clip(products + _BIAS_BITS, None, np.maximum(products, cap))
    return np.minimum(allowed, LARGEST_EXPONENT)


def _product_grid(network: Network, name: str) -> int:
    """Digits of what enters an op, to which its weights' digits are added in a product."""
    graph = network.graph
    bits = 0
    for edge in graph.incoming[name]:
        op = graph.ops[edge.source]
        if edge.source == graph.input:
            bits = max(bits, network.input.grid_bits or 0)
        elif isinstance(op, AvgPool2d):
            area = op.kernel[0] * op.kernel[1]
            bits = max(bits, (area - 1).bit_length() + _product_grid(network, edge.source))
    return bits
