"""From float32 to weights of a few bits times powers of two, calibrated on data, certified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_never

from snndeploy.errors import NetworkError, QuantizeError
from snndeploy.ir.certificate import Certificate, certify
from snndeploy.ir.formats import LARGEST_EXPONENT, WEIGHT_BITS, Exact, Float32
from snndeploy.ir.network import Network, require_folded
from snndeploy.ir.quantize.coarsening import bias_exponents, coarsen
from snndeploy.ir.quantize.grids import Moments, Whole, best_exponents, moments
from snndeploy.ir.quantize.loihi import fitted
from snndeploy.ir.quantize.rounding import Rounding, assembled, rounded

FormatName: TypeAlias = Literal["exact", "loihi"]
Granularity: TypeAlias = Literal["channel", "layer"]
DEFAULT_GRANULARITY: Mapping[FormatName, Granularity] = {"exact": "channel", "loihi": "layer"}
_FEWEST_BITS = 2  # a sign and a digit: -1, 0 and 1


@dataclass(frozen=True, slots=True)
class Quantized:
    """A network in the exact or the loihi format, its certificate, and what was lost on the way."""

    network: Network
    certificate: Certificate
    roundings: tuple[Rounding, ...]


def quantize(
    network: Network,
    calibration: npt.NDArray[Any],
    *,
    format: FormatName = "exact",  # noqa: A002 - the word that files and networks use
    bits: int = WEIGHT_BITS,
    granularity: Granularity | None = None,
) -> Quantized:
    """Puts a folded float32 network into the exact or the loihi format.

    Each output channel (or each op) takes the exponent with the smallest error of its sums on the calibration
    data, which may clip a few outliers; biases make up for the mean shift that rounding the weights causes.
    Where a sum could become too wide for the certificate, whichever of the biases and weights that enter it is
    finest is made coarser, digit by digit. In the loihi format the leak and the threshold of each Lif become
    multiples of 1/4096 and of a synaptic weight of 1.

    Args:
        network: Folded network in float32.
        calibration: Prepared input, (batch, *shape) or (time, batch, *shape); a few dozen samples do.
        format: The format to put it into.
        bits: Of a weight's mantissa, sign included, 2 to 8: mantissas lie in +-(2**(bits - 1) - 1).
        granularity: "channel": an exponent for each output channel. "layer": one for all channels of an op;
            in loihi so that one threshold serves all neurons of a population. By default "channel" in exact
            and "layer" in loihi.

    Raises:
        QuantizeError: No grid allows a certificate; names the op and the bound.
        NetworkError: The network is not folded, its input is on no grid, or the calibration data are not.
    """
    _check(network, format, bits, granularity)
    network.input.check(np.asarray(calibration, dtype=np.float32))
    shared = (granularity or DEFAULT_GRANULARITY[format]) == "layer"
    known = moments(network, calibration)
    limit = 2 ** (bits - 1) - 1
    exponents = {
        name: best_exponents(
            network.weights[f"{name}.weight"].astype(np.float64), of_op, limit, shared=shared
        )
        for name, of_op in known.items()
    }
    match format:
        case "exact":
            return Quantized(*_exact(network, exponents, known, bits))
        case "loihi":
            return Quantized(*fitted(network, exponents, known, bits, shared=shared))
        case _:
            assert_never(format)


def _check(network: Network, form: str, bits: int, granularity: str | None) -> None:
    if form not in ("exact", "loihi"):
        raise QuantizeError("format", "must be 'exact' or 'loihi'", got=repr(form))
    if isinstance(bits, bool) or not isinstance(bits, int) or not _FEWEST_BITS <= bits <= WEIGHT_BITS:
        raise QuantizeError(
            "bits", f"must be a whole number in [{_FEWEST_BITS}, {WEIGHT_BITS}]", got=repr(bits)
        )
    if granularity not in (None, "channel", "layer"):
        raise QuantizeError("granularity", "must be 'channel' or 'layer'", got=repr(granularity))
    require_folded(network.graph, "quantisation")
    if not isinstance(network.format, Float32):
        raise QuantizeError(
            "network",
            "must be in float32",
            got=network.format.name,
            remedy="quantize the network that it was made from",
        )
    if network.input.grid_bits is None:
        raise NetworkError(
            "input", f"the {form} format needs inputs on a power-of-two grid", remedy="set grid_bits"
        )


def _exact(
    network: Network, exponents: dict[str, Whole], known: dict[str, Moments], bits: int
) -> tuple[Network, Certificate, tuple[Rounding, ...]]:
    bias_caps = dict.fromkeys(exponents, LARGEST_EXPONENT)
    while True:  # ends, as every round makes something coarser or raises
        parts = rounded(network, exponents, known, 2 ** (bits - 1) - 1)
        finer = bias_exponents(network, parts.biases, exponents, bias_caps)
        quantized, roundings = assembled(network, parts, finer, Exact)
        certificate = certify(quantized)
        if certificate.holds:
            return quantized, certificate, roundings
        for row in certificate.failures:
            coarsen(network, row, exponents, bias_caps, bits)
