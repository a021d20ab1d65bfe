"""Checks that the peers of benchmarks/training.py compute what ours computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.training_variants import Case, peer_network
from snndeploy.ir import parameter_shapes
from snndeploy.nn import SpikingNetwork, recalibrate
from snndeploy.train.losses import tet

LARGEST_DEVIATION = 1e-9  # of what is the same, in float64


@dataclass(frozen=True)
class Agreement:
    """How far a peer is from computing the same, in float64, relative to the largest value.

    gradients: Of the weights, the largest deviation of any tensor.
    """

    logits: float
    gradients: float

    @property
    def has_our_gradient(self) -> bool:
        """Whether the gradients are the same but for rounding."""
        return self.gradients <= LARGEST_DEVIATION  # false for NaN


def agreement(case: Case, library: str) -> Agreement:
    """Compares a peer with this project on the same weights, neurons training, normalisation evaluating.

    In double precision no spike flips by rounding, so that equal networks agree to the last digits.

    Raises:
        SystemExit: They have different numbers of parameters or give different logits: nothing to compare.
    """
    mine = SpikingNetwork(case.graph)
    recalibrate(mine, [case.frames])  # else hardly any neuron fires
    theirs, _ = peer_network(case, library, mine)
    if sum(p.numel() for p in mine.parameters()) != sum(p.numel() for p in theirs.parameters()):
        raise SystemExit(f"{library}: another number of parameters than ours")
    mine.double()
    theirs.double().train()
    for module in theirs.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    x, labels = case.frames[:, :8].double(), case.labels[:8]
    ours_logits, their_logits = mine.simulate(x).logits, theirs(x)
    for logits in (ours_logits, their_logits):
        torch.autograd.backward(tet(logits, labels))
    found = dict(theirs.named_parameters())
    deviations = [
        _deviation(mine.tensor(name).grad, found[_name_in_peer(name)].grad)
        for name in parameter_shapes(case.graph)
        if _name_in_peer(name) in found
    ]
    deviation = _deviation(ours_logits, their_logits)
    if not deviation <= LARGEST_DEVIATION:  # as NaN is not
        raise SystemExit(f"{library}: logits differ from ours by {deviation:.1e} of the largest")
    return Agreement(deviation, largest(deviations))


def largest(deviations: Sequence[float]) -> float:
    """The largest, or NaN if there is one, which `max` may pass over."""
    return next((one for one in deviations if math.isnan(one)), max(deviations))


def _name_in_peer(name: str) -> str:
    op, short = name.rsplit(".", 1)
    return f"layers.layers.{op.replace('.', '/')}.{short}"


def _deviation(a: Tensor | None, b: Tensor | None) -> float:
    if a is None or b is None:
        raise SystemExit("a parameter without gradient: nothing to compare")
    difference = float((a - b).detach().abs().max())
    return difference / float(a.detach().abs().max()) if difference else 0.0  # of nothing, too
