"""The arithmetics an exported network can compute in, and what each asks of the network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import onnx_ir
from typing_extensions import assert_never

from snndeploy.errors import ConfigError, TargetError
from snndeploy.ir import (
    AvgPool2d,
    Conv2d,
    Exact,
    Flatten,
    Float32,
    Graph,
    Linear,
    Loihi,
    Network,
    Upsample,
    certify,
)
from snndeploy.ir.neurons import membrane_unit, weight_grids

Arithmetic: TypeAlias = Literal["float32", "integer", "float16"]
LARGEST_SUM = 255  # of uint8
LARGEST_COUNT = 128  # kernels without VNNI add two products of a count and an int8 weight in int16


@dataclass(frozen=True, slots=True)
class Count:
    """A value that counts spikes: n * 2**-bits with a whole number n in [0, largest]."""

    largest: int
    bits: int = 0


@dataclass(frozen=True)
class Numbers:
    """How the ops of one network compute; `Nodes` has it, so that what writes the nodes need not ask.

    arithmetic: Its name.
    counts: What enters each Conv2d and Linear that computes in integers.
    exponents: For each of their output channels the k of weights int8 * 2**-k, by op.
    units: In the loihi format, of the membranes of each Lif, (channels, 1, 1) or (features,); else empty.
    """

    arithmetic: Arithmetic = "float32"
    counts: Mapping[str, Count] = field(default_factory=dict)
    exponents: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    units: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)

    @property
    def membranes(self) -> onnx_ir.DataType:
        """Type of membrane potentials: real values in float32, or whole numbers of their unit in int32."""
        return onnx_ir.DataType.INT32 if self.units else onnx_ir.DataType.FLOAT

    def state(self, delay: int) -> onnx_ir.DataType:
        """Type of a state in the interface: a membrane, or what left an op that many steps ago."""
        return onnx_ir.DataType.FLOAT if delay else self.membranes

    @property
    def spikes(self) -> onnx_ir.DataType:
        """Type of spikes on their way from a Lif to the next op."""
        match self.arithmetic:
            case "float32":
                return onnx_ir.DataType.FLOAT
            case "integer":
                return onnx_ir.DataType.UINT8
            case "float16":
                return onnx_ir.DataType.FLOAT16
            case _:
                assert_never(self.arithmetic)


FLOAT32 = Numbers()


def numbers(network: Network, arithmetic: Arithmetic) -> Numbers:
    """How the ops of a network compute in an arithmetic.

    Raises:
        ConfigError: There is no such arithmetic.
        TargetError: The network cannot be computed in it: for `integer` it must be in the exact or the loihi
            format with a certificate that holds, as for every arithmetic in the loihi format; for `float16`
            it must not be in the loihi format, and its weights must lie in the range of that type.
    """
    units = _units(network, arithmetic)
    match arithmetic:
        case "float32":
            return replace(FLOAT32, units=units)
        case "integer":
            return replace(_integer(network), units=units)
        case "float16":
            return _float16(network)
        case _:
            known = ", ".join(get_args(Arithmetic))
            raise ConfigError(
                f"ONNX arithmetic {arithmetic!r}", "is not known", remedy=f"choose one of {known}"
            )


def _units(network: Network, arithmetic: str) -> dict[str, npt.NDArray[np.float64]]:
    """Units of the membranes of each Lif of a network in the loihi format."""
    if not isinstance(network.format, Loihi):
        return {}
    if arithmetic == "float16":
        raise TargetError(
            "ONNX arithmetic float16",
            "cannot hold the numbers of the loihi format",
            remedy="choose float32 or integer",
        )
    _require_certificate(network, "ONNX export of the loihi format", "quantize the network again")
    grids = weight_grids(network)
    return {name: membrane_unit(network, name, grids) for name in network.graph.ports}


def _require_certificate(network: Network, where: str, remedy: str) -> None:
    failures = certify(network).failures
    if failures:
        raise TargetError(
            f"{where}, {failures[0].op}",
            "needs a certificate of exactness that holds",
            got=failures[0].reason,
            remedy=remedy,
        )


def _integer(network: Network) -> Numbers:
    where = "ONNX arithmetic integer"
    if isinstance(network.format, Float32):
        raise TargetError(
            where,
            "needs a network in the exact format or the loihi format",
            got=network.format.name,
            remedy="quantize the network first, or choose float32",
        )
    if isinstance(network.format, Exact):
        _require_certificate(network, where, "quantize the network again, or choose float32")
    entering = _counts(network.graph)
    counts: dict[str, Count] = {}
    for name, count in entering.items():
        if isinstance(network.graph.ops[name], (Conv2d, Linear)) and count.largest <= LARGEST_COUNT:
            counts[name] = count
        if not count.bits and count.largest > LARGEST_SUM:
            raise TargetError(
                f"{where}, {name}",
                f"adds spikes up to {LARGEST_SUM}, the largest number in uint8",
                got=count.largest,
                remedy="choose float32",
            )
    exponents = {name: network.format.exponents[f"{name}.weight"] for name in counts}
    return Numbers("integer", counts, exponents)


def _float16(network: Network) -> Numbers:
    limit = float(np.finfo(np.float16).max)
    for name, array in network.weights.items():
        largest = float(np.abs(array).max(initial=0))
        if name.endswith(".weight") and largest > limit:
            raise TargetError(
                f"ONNX arithmetic float16, {name}",
                f"needs weights of at most {limit:.0f} in size",
                got=largest,
                remedy="choose float32",
            )
    return Numbers("float16")


def _counts(graph: Graph) -> dict[str, Count]:
    """What enters each op where that counts spikes, delayed spikes and the zeros before them included."""
    entering: dict[str, Count] = {}
    leaving: dict[str, Count] = dict.fromkeys(graph.ports, Count(1))
    for name in graph.order:
        terms = [leaving.get(edge.source) for edge in graph.incoming[name]]
        known = [term for term in terms if term is not None]
        if not known or len(known) < len(terms):
            continue
        count = _total(known)
        entering[name] = count
        match graph.ops[name]:
            case Upsample() | Flatten():
                leaving[name] = count
            case AvgPool2d() as op:
                area = math.prod(op.kernel)
                leaving[name] = Count(count.largest * area, count.bits + area.bit_length() - 1)
            case _:  # currents, and spikes, which are known already
                pass
    return entering


def _total(terms: list[Count]) -> Count:
    bits = max(term.bits for term in terms)
    return Count(sum(term.largest << (bits - term.bits) for term in terms), bits)
