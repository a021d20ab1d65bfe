"""Networks with backward connections in layers of SpikingJelly, step by step, for benchmarks/onnx.py.

SpikingJelly fires at u >= threshold and ours at u > threshold, so it is given the next larger number of float32.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from benchmarks.onnx_networks import Case
from benchmarks.onnx_torch import Infer
from benchmarks.training_peers import spikingjelly_layer
from snndeploy.ir import Lif, Network, Op, Upsample


class SpikingJellySteps(nn.Module):
    """A folded network; every call is one time step."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.graph = network.graph
        inner = [
            name for name in network.graph.order if name not in (network.graph.input, network.graph.output)
        ]
        self.layers = nn.ModuleDict(
            {name.replace(".", "_"): _layer(network.graph.ops[name]) for name in inner}
        )
        states = self.layers.state_dict()
        with torch.no_grad():
            for name, array in network.weights.items():
                op, short = name.rsplit(".", 1)
                states[f"{op.replace('.', '_')}.{short}"].copy_(torch.tensor(array))
        self.before: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """What enters the Output."""
        graph = self.graph
        y = {graph.input: x}
        for name in graph.order[1:]:
            arriving = [self._delayed(e.source, x) if e.delay else y[e.source] for e in graph.incoming[name]]
            entering = arriving[0]
            for other in arriving[1:]:
                entering = entering + other
            y[name] = entering if name == graph.output else self.layers[name.replace(".", "_")](entering)
        self.before = {edge.source: y[edge.source] for edge in graph.edges if edge.delay}
        return y[graph.output]

    def reset(self) -> None:
        """Puts all to rest."""
        functional.reset_net(self.layers)
        self.before = {}

    def _delayed(self, name: str, x: Tensor) -> Tensor:
        return self.before[name] if self.before else x.new_zeros(len(x), *self.graph.shapes[name])


def single_step(case: Case) -> Infer:
    """All steps, in step mode "s"."""
    network, x = SpikingJellySteps(case.network).eval(), torch.tensor(case.images)
    functional.set_step_mode(network, "s")

    def infer() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        network.reset()
        total = network(x)
        for _ in range(case.network.steps - 1):
            total = total + network(x)
        logits: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = (total / case.network.steps).numpy()
        return logits

    return torch.inference_mode()(infer)


def _layer(op: Op) -> nn.Module:
    if isinstance(op, Lif):
        op = replace(op, threshold=float(np.nextafter(np.float32(op.threshold), np.float32(np.inf))))
    return nn.Upsample(op.size) if isinstance(op, Upsample) else spikingjelly_layer(op)
