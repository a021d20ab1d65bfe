"""Grids that Loihi's neurons can be programmed with: all that enters a Lif has to fit its registers.

A Lif's grid, see `snndeploy.ir.neurons`, may be no finer than its threshold, its bias and its largest sum
allow, and no coarser than a threshold of one unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from snndeploy.errors import QuantizeError
from snndeploy.ir.certificate import Certificate, certify
from snndeploy.ir.formats import LARGEST_EXPONENT, Loihi
from snndeploy.ir.graph import Graph
from snndeploy.ir.network import Network
from snndeploy.ir.neurons import DECAY_UNITY, LARGEST_CURRENT, LARGEST_THRESHOLD
from snndeploy.ir.ops import Lif
from snndeploy.ir.quantize.alignment import Alignment, Mask
from snndeploy.ir.quantize.biases import fitting_biases
from snndeploy.ir.quantize.branches import Inflow, inflows, reach
from snndeploy.ir.quantize.coarsening import bias_exponents, coarsen, of_use
from snndeploy.ir.quantize.grids import Moments, Whole, Wide
from snndeploy.ir.quantize.rounding import Rounding, assembled, on_bias_grid, rounded

_FINEST_GRID = 18  # on which a threshold of one unit is still one that a Lif may have


def fitted(
    network: Network, exponents: dict[str, Whole], known: Mapping[str, Moments], bits: int, *, shared: bool
) -> tuple[Network, Certificate, tuple[Rounding, ...]]:
    """Rounds a network to the loihi format, grids lowered from the given exponents as far as they must be.

    Args:
        network: In float32.
        exponents: Best k of each output channel of an op's weights; lowered.
        known: Of the calibration data.
        bits: Of a mantissa.
        shared: Whether the channels of an op have one exponent, so that a population has one threshold.

    Raises:
        QuantizeError: No grids fit; names the population and the limit.
    """
    network = replace(network, graph=_with_decays(network.graph))
    alignment = Alignment(network, inflows(network), bits, shared)
    alignment.refine(exponents)
    bias_caps = dict.fromkeys(exponents, LARGEST_EXPONENT)
    caps = {name: _first_cap(network, name) for name in network.graph.ports}
    while True:  # ends, as every round makes something coarser or raises
        alignment.align(exponents, caps)
        parts = rounded(network, exponents, known, 2 ** (bits - 1) - 1)
        grids = {name: alignment.grid(name, exponents) for name in network.graph.ports}
        free = bias_exponents(network, parts.biases, exponents, bias_caps)
        finer, wide = fitting_biases(alignment, parts.biases, grids, free)
        candidate = replace(network, graph=_with_thresholds(network.graph, grids))
        biases = {op: on_bias_grid(bias, finer[op]) for op, bias in parts.biases.items()}
        wide = wide or _too_wide(candidate, alignment.inflows, parts.weights, biases, grids)
        if wide:
            _lower(alignment, exponents, caps, grids, wide)
            continue
        quantized, roundings = assembled(candidate, parts, finer, Loihi)
        certificate = certify(quantized)
        if certificate.holds:
            return quantized, certificate, roundings
        for row in certificate.failures:
            coarsen(network, row, exponents, bias_caps, bits)


def _with_decays(graph: Graph) -> Graph:
    """The graph with every tau rounded to a multiple of 1/4096, which a decay register can hold."""
    ops = {
        name: replace(op, tau=round(op.tau * DECAY_UNITY) / DECAY_UNITY) if isinstance(op, Lif) else op
        for name, op in graph.ops.items()
    }
    return Graph(ops, graph.edges)


def _with_thresholds(graph: Graph, grids: Mapping[str, Whole]) -> Graph:
    """The graph with thresholds that are whole numbers of a synaptic weight of 1, in every channel."""
    ops = dict(graph.ops)
    for name, grid in grids.items():
        op, units = ops[name], 2.0 ** (int(grid.min()) + 1)
        assert isinstance(op, Lif)  # noqa: S101 - only Lifs have grids
        ops[name] = replace(op, threshold=max(round(op.threshold * units), 1) / units)
    return Graph(ops, graph.edges)


def _first_cap(network: Network, name: str) -> Whole:
    """The finest grid on which the threshold of a Lif fits its register, for each channel."""
    op = network.graph.ops[name]
    assert isinstance(op, Lif)  # noqa: S101 - ports are Lifs
    finest = math.floor(math.log2(LARGEST_THRESHOLD / op.threshold)) - 1
    return np.full(network.graph.shapes[name][0], min(finest, _FINEST_GRID), np.int64)


def _too_wide(
    network: Network,
    entering: Mapping[str, Inflow],
    weights: Mapping[str, Wide],
    biases: Mapping[str, Wide],
    grids: Mapping[str, Whole],
) -> dict[str, Mask]:
    """The channels of each Lif whose sums, potentials or threshold exceed a register."""
    found = {}
    for name, grid in grids.items():
        op = network.graph.ops[name]
        assert isinstance(op, Lif)  # noqa: S101 - only Lifs have grids
        above, below = reach(entering[name], weights, biases)
        memory = 1 / (1 - op.tau) if op.tau < 1 else float(network.steps)
        units = np.exp2(grid + 1.0)
        sums = np.maximum(above + op.tau * op.threshold, memory * below) * units
        mask = (sums > LARGEST_CURRENT) | (op.threshold * units > LARGEST_THRESHOLD)
        if mask.any():
            found[name] = mask
    return found


def _lower(
    alignment: Alignment,
    exponents: Mapping[str, Whole],
    caps: dict[str, Whole],
    grids: Mapping[str, Whole],
    wide: Mapping[str, Mask],
) -> None:
    """Lowers the caps of channels that are too wide to one digit below their grids.

    Raises:
        QuantizeError: That leaves the weights no digits.
    """
    for name, mask in wide.items():
        caps[name] = np.where(mask, np.minimum(caps[name], grids[name] - 1), caps[name])
        left = {
            b.op: np.minimum(exponents[b.op], alignment.met(caps[name], b) - b.product_digits)
            for b in alignment.inflows[name].branches
        }
        if not of_use(alignment.network, left, alignment.bits):
            raise QuantizeError(
                name,
                "cannot be certified, as its sums, bias or threshold need a coarser grid than its weights",
                got=f"weights on the grid 2**{-int(grids[name].max())}",
                remedy="use a smaller layer, or weights, biases and threshold of like size",
            )
