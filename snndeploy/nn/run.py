"""PyTorch as a back end: the counterpart of the reference interpreter, for comparison with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from snndeploy.ir import Network, Trace, as_steps
from snndeploy.nn.engine import Neurons, simulate
from snndeploy.nn.loihi import membrane_units
from snndeploy.nn.surrogate import Triangle

_BATCH = 128  # samples at a time, which bounds the memory


def run(
    network: Network,
    x: npt.NDArray[Any],
    *,
    potentials: bool = False,
    dtype: type[np.float32] | type[np.float64] = np.float32,
    device: str = "cpu",
    neurons: Neurons = "compiled",
) -> Trace:
    """Runs a network on prepared input, as `snndeploy.ir.run` does.

    Batch normalisation uses its running statistics and dropout does nothing.

    Args:
        network: The network, folded or not.
        x: (batch, *shape) for images or (time, batch, *shape).
        potentials: Also return the membrane potentials.
        dtype: Precision of all arithmetic.
        device: Where PyTorch computes.
        neurons: What computes them; the spikes are the same. Those of the loihi format are PyTorch's own.

    Raises:
        NetworkError: The input's shape does not fit.
        QuantizeError: The network is in the loihi format and its certificate does not hold.
    """
    precision = torch.float64 if dtype is np.float64 else torch.float32
    units = membrane_units(network, device=device, dtype=precision)
    tensors = {
        name: torch.tensor(array.astype(dtype), device=device) for name, array in network.weights.items()
    }
    steps = as_steps(network, x)
    chunks = []
    for start in range(0, max(steps.shape[1], 1), _BATCH):
        batch = torch.tensor(steps[:, start : start + _BATCH].astype(dtype), device=device)
        chunks.append(_run_chunk(network, tensors, units, batch, potentials, neurons))
    return Trace.joined(chunks)


def _run_chunk(
    network: Network,
    tensors: Mapping[str, Tensor],
    units: Mapping[str, Tensor],
    x: Tensor,
    potentials: bool,
    neurons: Neurons,
) -> Trace:
    with torch.no_grad():
        done = simulate(
            network.graph,
            tensors,
            x,
            surrogate=Triangle(),  # needed for gradients only
            units=units,
            record_spikes=True,
            record_potentials=potentials,
            neurons=neurons,
        )
    readout_sum = torch.zeros_like(done.logits[0])
    for logits in done.logits[
        network.steps - network.readout :
    ]:  # in order, so that it is exact where it can be
        readout_sum = readout_sum + logits
    summed = readout_sum.cpu().numpy()
    return Trace(
        spikes={name: (spikes > 0).cpu().numpy() for name, spikes in done.spikes.items()},
        readout_sum=summed,
        logits=summed / summed.dtype.type(network.readout),
        potentials={name: u.cpu().numpy() for name, u in done.potentials.items()},
    )
