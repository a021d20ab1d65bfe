"""Scores of candidates the plain way, to compare with: a network is built for each, in PyTorch's own operations.

Every candidate has its own network, whose weights want gradients, run step by step, once for each score. The
formulas are written out sample by sample and class by class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from snndeploy.ir import with_backward
from snndeploy.nn import SpikingNetwork
from snndeploy.nn.surrogate import Surrogate, Triangle
from snndeploy.train.search.scoring import Scores
from snndeploy.train.search.space import Architecture, Space


class PlainScorer:
    """Takes what `snndeploy.train.search.scoring.Scorer` takes.

    compiled: Whether neurons are the compiled ones and time is folded, as everywhere else in the package.
    """

    def __init__(
        self,
        space: Space,
        x: Tensor,
        labels: Tensor,
        *,
        seed: int,
        surrogate: Surrogate = Triangle(),  # noqa: B008  (frozen)
        variant: str = "code",
        classes: int,
        compiled: bool = False,
        readout: int = 0,
    ) -> None:
        self.space, self.x, self.labels, self.seed = space, x, labels, seed
        self.surrogate, self.variant, self.classes, self.compiled = surrogate, variant, classes, compiled
        self.readout = readout or len(x)

    def score(self, architectures: Sequence[Architecture]) -> list[Scores]:
        """Both scores of each candidate; they must be defined."""
        return [Scores(self._n(a), self._e(a)) for a in architectures]

    def _network(self, architecture: Architecture) -> SpikingNetwork:
        graph = self.space.backbone
        for connection in architecture:
            graph = with_backward(graph, connection.source, connection.target, connection.delay)
        network = SpikingNetwork(graph, surrogate=self.surrogate, seed=self.seed, backward_scale=1.0)
        network.neurons = "compiled" if self.compiled else "plain"
        return network.to(self.x.dtype).train()

    def _n(self, architecture: Architecture) -> float:
        network = self._network(architecture)
        with torch.no_grad():
            spikes = network.advance(self.x, stepped=not self.compiled, record_spikes=True).spikes
        batch = self.x.shape[1]
        kernel, terms = np.zeros((batch, batch)), 0
        for layer in spikes.values():
            for step in layer:
                codes = step.flatten(1).double().numpy()
                neurons = codes.shape[1]
                rates = codes.mean(1)
                distance = codes @ (1 - codes).T + (1 - codes) @ codes.T
                expected = (np.outer(rates, 1 - rates) + np.outer(1 - rates, rates)) * neurons
                kernel += (neurons if self.variant == "code" else 1) - 0.5 / (expected + 1e-3) * distance
                terms += 1
        return float(np.linalg.slogdet(kernel / terms)[1])

    def _e(self, architecture: Architecture) -> float:
        network = self._network(architecture)
        static = self.x.stride(0) == 0
        leaf = (self.x[0] if static else self.x).clone().requires_grad_()
        x = leaf.expand(self.x.shape) if static else leaf
        network(x, stepped=not self.compiled)[len(x) - self.readout :].mean(0).sum().backward()
        assert leaf.grad is not None  # noqa: S101
        rows = (leaf.grad if static else leaf.grad.movedim(0, 1)).flatten(1).double().numpy()
        labels = self.labels.numpy()
        values = []
        for label in np.unique(labels):
            correlations = np.atleast_2d(np.corrcoef(rows[labels == label]))
            total = sum(math.log(abs(value) + 1e-5) for value in correlations.flatten())
            if self.classes <= 100:
                values.append(total)
            elif len(correlations) > 1:
                values.append(total / len(correlations))
        if self.classes <= 100:
            return sum(abs(value) for value in values)
        return sum(abs(one - other) for one in values for other in values) / len(values)
