"""LIF neurons of the loihi format over time, see `snndeploy.ir.neurons`; without gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snndeploy.errors import QuantizeError
from snndeploy.ir import Lif, Loihi, Network, certify
from snndeploy.ir.neurons import LARGEST_MEMBRANE, membrane_unit, weight_grids
from snndeploy.nn.lif import LifResult


def membrane_units(
    network: Network, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Units of the membranes of each Lif, (channels, 1, 1) or (features,), for `engine.simulate`.

    Empty unless the network is in the loihi format.

    Raises:
        QuantizeError: It is, and its certificate does not hold; names the op and the reason.
    """
    if not isinstance(network.format, Loihi):
        return {}
    if failures := certify(network).failures:
        raise QuantizeError(
            failures[0].op,
            "needs a certificate that holds, or PyTorch's sums may round",
            got=failures[0].reason,
            remedy="quantize the network again",
        )
    grids = weight_grids(network)
    return {
        name: torch.tensor(membrane_unit(network, name, grids), device=device, dtype=dtype)
        for name in network.graph.ports
    }


def loihi_lif(x: Tensor, op: Lif, unit: Tensor, rest: Tensor | None = None) -> LifResult:
    """Runs LIF neurons whose membrane potential is a whole number of units.

    u = tau * v, rounded towards zero, + x, at most 2**23 - 1 units either way; then as `lif`.

    Args:
        x: (time, batch, *shape), the current at each step, in real values that are whole numbers of units.
        op: Leak and threshold.
        unit: Of the membrane, a power of two for each channel, in a shape that broadcasts over *shape.
        rest: (batch, *shape), v before the first of these steps; None at the beginning of a sample.
    """
    currents, threshold = x / unit, op.threshold / unit
    spikes, potentials = torch.empty_like(x), torch.empty_like(x)
    v = torch.zeros_like(x[0]) if rest is None else rest / unit
    nothing = v.new_zeros(())
    # A product with tau has up to 35 binary digits; halves and the like only move the point.
    precision = x.dtype if math.frexp(op.tau)[0] == 0.5 else torch.float64
    for current, u, s in zip(currents, potentials, spikes, strict=True):
        torch.add(v.to(precision).mul(op.tau).trunc_().to(x.dtype), current, out=u)
        u.clamp_(-LARGEST_MEMBRANE, LARGEST_MEMBRANE)
        torch.gt(u, threshold, out=s)
        v = torch.where(u > threshold, nothing, u)
    return LifResult(spikes, v * unit, potentials.mul_(unit))
