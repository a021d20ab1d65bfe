"""The networks of benchmarks/onnx.py: resnet18 with random weights in the exact format, without and with loops.

In that format sums of float32 are exact in any order, so whatever computes the same network must give the same logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from snndeploy.backbones import backbone
from snndeploy.ir import Graph, InputSpec, Network, fold, load, quantize, with_backward
from snndeploy.nn import SpikingNetwork, recalibrate

STEPS, CLASSES, SHAPE = 4, 10, (3, 32, 32)
GRID_BITS = 8  # of the input
NETWORKS: dict[str, tuple[int, int] | None] = {
    "no BC": None,
    "short BC": (8, 7),  # within one block: most layers stay outside the loop
    "long BC": (16, 0),  # from the last layer of neurons to the first: all but two layers are in the loop
}
"""Backward connections (source port, target port) by the name of a network."""


@dataclass(frozen=True)
class Case:
    """One network on one batch, with one number of threads.

    path: Of a network file.
    """

    path: Path
    batch: int
    threads: int

    @cached_property
    def network(self) -> Network:
        """In the exact format, with a certificate that holds."""
        return load(self.path)

    @cached_property
    def images(self) -> npt.NDArray[np.float32]:
        """(batch, *shape)."""
        return random_images(self.network.graph, self.batch, seed=1)

    def load(self) -> None:
        """Reads the file and draws the images now, so that neither counts for what is measured next."""
        _ = self.network, self.images


def exact_network(graph: Graph, steps: int = STEPS) -> Network:
    """A graph with random weights, folded and quantised, its BatchNorms calibrated so that every layer is active."""
    images = random_images(graph, 8, seed=0)
    module = SpikingNetwork(graph, seed=0, backward_scale=1.0)
    recalibrate(module, [torch.tensor(np.repeat(images[None], steps, axis=0))])
    spec = InputSpec(grid_bits=GRID_BITS)
    folded = fold(Network(graph=graph, weights=module.weights(), steps=steps, input=spec))
    return quantize(folded, images[:2]).network


def resnet(name: str) -> Network:
    """The network of that name."""
    graph = backbone("resnet18", SHAPE, CLASSES)
    connection = NETWORKS[name]
    return exact_network(graph if connection is None else with_backward(graph, *connection))


def random_images(graph: Graph, batch: int, *, seed: int) -> npt.NDArray[np.float32]:
    """(batch, *shape), on the grid of the input."""
    levels = 2**GRID_BITS
    drawn = np.random.default_rng(seed).integers(0, levels + 1, (batch, *graph.shapes[graph.input]))
    return drawn.astype(np.float32) / np.float32(levels)
