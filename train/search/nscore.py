"""N-score: how differently an untrained network's neurons answer to different samples.

For every layer and time step the Hamming distance of the spikes of samples i and j is compared with what two
independent codes of the same firing rates r would have:

    H_ij = sum over neurons of |s_i - s_j|,   E_ij = N * (r_i * (1 - r_j) + (1 - r_i) * r_j)
    K_ij = level - 1/2 * H_ij / (E_ij + 1e-3)

The score is log |det| of the mean of K over layers and steps. `level` is N, the layer's neurons, in
the variant "code", and 1 in "normalised".

Source: BCNAS-SNN, eqs. 7 and 8, after Kim et al. (ECCV 2022), whose text divides by N and whose code does not;
the guard 1e-3 is that of the code. In single precision N would swallow the second term, so sums are in double
precision here. The state of the neurons is that of one batch from rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Variant: TypeAlias = Literal["code", "normalised"]

_GUARD = 1e-3  # neurons


@dataclass(frozen=True, eq=False)
class Kernel:
    """What layers contribute.

    total: (batch, batch), float64, K summed over layers and steps.
    terms: Number of layers times steps.
    silent, saturated: Layers in which no neuron, or every one, fired at every step for every sample.
    """

    total: Tensor
    terms: int
    silent: tuple[str, ...] = ()
    saturated: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, spikes: Tensor, variant: Variant) -> Kernel:
        """That of one layer.

        Args:
            name: Of the layer.
            spikes: (time, batch, *shape), 0 or 1.
            variant: What K is at distance 0.
        """
        steps, batch = spikes.shape[:2]
        # Neurons in the order of memory, which copies nothing; sums of products of 0 and 1 are exact in float32.
        inner = spikes.detach().movedim(2, -1) if spikes.ndim > 3 else spikes.detach()
        codes = inner.reshape(steps, batch, -1).float()
        neurons = codes.shape[2]
        both = torch.bmm(codes, codes.transpose(1, 2)).double()
        count = both.diagonal(dim1=1, dim2=2)
        first, second = count[:, :, None], count[:, None, :]
        distance = first + second - 2 * both
        expected = (first * (neurons - second) + (neurons - first) * second) / neurons
        level = neurons if variant == "code" else 1
        total = level * steps - 0.5 * (distance / (expected + _GUARD)).sum(0)
        fired = float(count.sum())
        return cls(
            total,
            steps,
            silent=(name,) if fired == 0 else (),
            saturated=(name,) if fired == steps * batch * neurons else (),
        )

    @classmethod
    def sum(cls, kernels: Iterable[Kernel]) -> Kernel:
        """That of all layers of some; there must be one."""
        parts = list(kernels)
        return cls(
            torch.stack([part.total for part in parts]).sum(0),
            sum(part.terms for part in parts),
            silent=tuple(name for part in parts for name in part.silent),
            saturated=tuple(name for part in parts for name in part.saturated),
        )

    def score(self) -> tuple[float | None, str]:
        """The log determinant; or None and the reason, if a layer says nothing or samples cannot be told apart."""
        for names, what in ((self.silent, "silent"), (self.saturated, "saturated")):
            if names:
                return None, f"N-score: {what} at every step: {', '.join(names)}"
        alike = self.total >= self.total.diagonal()  # no distance in any layer; rounding would hide it below
        if int(alike.sum()) > len(alike):
            return None, "N-score: samples have the same spikes, so the kernel is singular"
        logarithm = float(torch.linalg.slogdet(self.total / self.terms).logabsdet)
        if not math.isfinite(logarithm):
            return None, "N-score: the kernel is singular"
        return logarithm, ""


def n_score(spikes: Mapping[str, Tensor], variant: Variant = "code") -> float | None:
    """The N-score of one batch; higher is better.

    Args:
        spikes: (time, batch, *shape) of every layer, 0 or 1, all steps of the batch from rest.
        variant: "code" or "normalised"; see above.

    Returns:
        None where it is undefined: a layer is silent or saturated at every step for every sample, or two
        samples have the same spikes everywhere.
    """
    return Kernel.sum(Kernel.of(name, values, variant) for name, values in spikes.items()).score()[0]
