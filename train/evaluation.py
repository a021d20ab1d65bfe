"""How a network does on samples: accuracy, spikes, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from snndeploy.errors import ConfigError
from snndeploy.ir import Network, as_steps
from snndeploy.ir.fanout import psi
from snndeploy.nn import Triangle
from snndeploy.nn.engine import simulate
from snndeploy.train.data import Samples, batches, network_input

E_AC_PJ = 0.9
"""Of one accumulation in float32, 45 nm (Horowitz, ISSCC 2014), as Spiking Synaptic Penalty takes it."""

_LARGEST_BATCH = 128
_LARGEST_RECORD = 2**28  # spikes kept at a time, over all layers and steps


@dataclass(frozen=True)
class Evaluation:
    """How a network does on some samples.

    accuracy: Share of right answers.
    firing_rates: Spikes per neuron and time step of every Lif.
    dead_neurons: How many neurons of every Lif never fired.
    dead_rate: Their share of all neurons.
    synops: Synaptic operations caused by spikes, per sample: each spike counts the synapses that its neuron
        drives, exactly (`snndeploy.ir.fanout`). What the first layer does to analog input is not among them.
    group_accuracies: Accuracy by the value of each group of the samples, such as {"delay": {0: 0.9}}.
    """

    accuracy: float
    firing_rates: Mapping[str, float]
    dead_neurons: Mapping[str, int]
    dead_rate: float
    synops: float
    group_accuracies: Mapping[str, Mapping[int, float]]

    @property
    def estimated_energy_pj(self) -> float:
        """Of the synaptic operations of one sample, E_SNN of Spiking Synaptic Penalty, eq. 10: an estimate."""
        return E_AC_PJ * self.synops


def evaluate(network: Network, samples: Samples, *, device: torch.device | str = "cpu") -> Evaluation:
    """Runs a network, folded or not, on raw samples, in single precision.

    Raises:
        ConfigError: There are no samples.
        GraphError: As `snndeploy.ir.fanout.psi`.
        NetworkError: The samples do not fit the network.
    """
    if len(samples) == 0:
        raise ConfigError("samples", "there must be at least one to evaluate")
    tensors = {name: torch.tensor(array, device=device) for name, array in network.weights.items()}
    synapses = psi(network.graph)
    counts = {name: np.zeros(array.shape, np.int64) for name, array in synapses.items()}
    neurons = sum(array.size for array in synapses.values())
    size = max(1, min(_LARGEST_BATCH, _LARGEST_RECORD // max(neurons * network.steps, 1)))
    right = np.zeros(len(samples), np.bool_)
    for index, batch in enumerate(batches(samples, size)):
        x = as_steps(network, network_input(batch, network.input))
        answers, spikes = _run(network, tensors, torch.tensor(x, device=device))
        right[index * size : index * size + len(batch)] = answers == batch.labels
        for name, fired in spikes.items():
            counts[name] += fired
    dead = {name: int((count == 0).sum()) for name, count in counts.items()}
    shown = len(samples) * network.steps
    return Evaluation(
        accuracy=float(right.mean()),
        firing_rates={name: int(count.sum()) / (count.size * shown) for name, count in counts.items()},
        dead_neurons=dead,
        dead_rate=sum(dead.values()) / max(neurons, 1),
        synops=sum(int((counts[name] * synapses[name]).sum()) for name in counts) / len(samples),
        group_accuracies={
            name: {int(value): float(right[values == value].mean()) for value in np.unique(values)}
            for name, values in samples.groups.items()
        },
    )


def _run(
    network: Network, tensors: Mapping[str, Tensor], x: Tensor
) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.int64]]]:
    """The answers (batch,) and how often each neuron of every Lif fired, over all samples and steps."""
    with torch.no_grad():
        done = simulate(network.graph, tensors, x, surrogate=Triangle(), record_spikes=True)
        total = torch.zeros_like(done.logits[0])
        for logits in done.logits[network.steps - network.readout :]:  # in order, so exact where it can be
            total = total + logits
        answers: npt.NDArray[np.int64] = total.argmax(1).cpu().numpy()
        fired = {
            name: spikes.sum((0, 1)).cpu().numpy().astype(np.int64) for name, spikes in done.spikes.items()
        }
    return answers, fired
