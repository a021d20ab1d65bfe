"""How a network does on samples: accuracy, spikes, and what they cost.

An ANN, which answers with activations where a spiking network fires, is measured alike. Its activations are
rates that spiking neurons are to have, so what depends on them is a forecast for one time step: the synaptic
operations that neurons firing at these rates would cause, which is the loss of Sorbaro et al. (2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from snndeploy.errors import ConfigError
from snndeploy.ir import Network, as_steps
from snndeploy.ir.fanout import psi
from snndeploy.nn import QuantizedRelu, Triangle, membrane_units
from snndeploy.nn.engine import Neurons, simulate
from snndeploy.train.data import Samples, batches, network_input
from snndeploy.train.distributed import World

E_AC_PJ = 0.9
"""Of one accumulation in float32, 45 nm (Horowitz, ISSCC 2014), as Spiking Synaptic Penalty takes it."""

_LARGEST_BATCH = 128
_LARGEST_RECORD = 2**28  # spikes kept at a time, over all layers and steps


@dataclass(frozen=True)
class Evaluation:
    """How a network does on some samples.

    accuracy: Share of right answers.
    firing_rates: Spikes per neuron and time step of every Lif; empty for an ANN.
    dead_neurons: How many neurons of every Lif never fired; of an ANN, whose activation was always 0.
    dead_rate: Their share of all neurons.
    synops: Synaptic operations caused by spikes, per sample: each spike counts the synapses that its neuron
        drives, exactly (`snndeploy.ir.fanout`). What the first layer does to analog input is not among them.
        Of an ANN the sum over its activations in place of spikes, a forecast for one time step.
    group_accuracies: Accuracy by the value of each group of the samples, such as {"delay": {0: 0.9}}.
    mean_activations: Of the neurons of every Lif in an ANN; empty for a spiking network.
    """

    accuracy: float
    firing_rates: Mapping[str, float]
    dead_neurons: Mapping[str, int]
    dead_rate: float
    synops: float
    group_accuracies: Mapping[str, Mapping[int, float]]
    mean_activations: Mapping[str, float] = field(default_factory=dict)

    @property
    def estimated_energy_pj(self) -> float:
        """Of the synaptic operations of one sample, E_SNN of Spiking Synaptic Penalty, eq. 10: an estimate."""
        return E_AC_PJ * self.synops


def evaluate(
    network: Network,
    samples: Samples,
    *,
    activation: QuantizedRelu | None = None,
    device: torch.device | str = "cpu",
    neurons: Neurons = "compiled",
    world: World = World(),  # noqa: B008  (frozen)
) -> Evaluation:
    """Runs a network, folded or not, on raw samples, in single precision and with the neurons of its format.

    Args:
        network: Spiking, or an ANN.
        samples: Raw, as they come from the data set.
        activation: Of the ANN; None for a spiking network.
        device: Where to run it.
        neurons: What computes them.
        world: The ranks that share the work, and all get the result.

    Raises:
        ConfigError: There are no samples.
        GraphError: As `snndeploy.ir.fanout.psi`.
        NetworkError: The samples do not fit the network.
        QuantizeError: The network is in the loihi format, and its certificate does not hold.
    """
    if len(samples) == 0:
        raise ConfigError("samples", "there must be at least one to evaluate")
    tensors = {name: torch.tensor(array, device=device) for name, array in network.weights.items()}
    units = membrane_units(network, device=device)
    synapses = psi(network.graph)
    # Spikes are counted exactly, as whole numbers below 2**53.
    counts = {name: np.zeros(array.shape, np.float64) for name, array in synapses.items()}
    width = sum(array.size for array in synapses.values())
    size = max(1, min(_LARGEST_BATCH, _LARGEST_RECORD // max(width * network.steps, 1)))
    right = np.zeros(len(samples), np.bool_)
    for index, batch in enumerate(batches(samples, size)):
        if index % world.size != world.rank:
            continue
        x = as_steps(network, network_input(batch, network.input))
        answers, spikes = _run(network, tensors, units, torch.tensor(x, device=device), activation, neurons)
        right[index * size : index * size + len(batch)] = answers == batch.labels
        for name, fired in spikes.items():
            counts[name] += fired
    right = world.total(right.astype(np.int64)).astype(np.bool_)
    counts = {name: world.total(count) for name, count in counts.items()}
    dead = {name: int((count == 0).sum()) for name, count in counts.items()}
    shown = len(samples) * network.steps
    rates = {name: float(count.sum()) / (count.size * shown) for name, count in counts.items()}
    return Evaluation(
        accuracy=float(right.mean()),
        firing_rates=rates if activation is None else {},
        dead_neurons=dead,
        dead_rate=sum(dead.values()) / max(width, 1),
        synops=sum(float((counts[name] * synapses[name]).sum()) for name in counts) / len(samples),
        group_accuracies={
            name: {int(value): float(right[values == value].mean()) for value in np.unique(values)}
            for name, values in samples.groups.items()
        },
        mean_activations={} if activation is None else rates,
    )


def _run(
    network: Network,
    tensors: Mapping[str, Tensor],
    units: Mapping[str, Tensor],
    x: Tensor,
    activation: QuantizedRelu | None,
    neurons: Neurons,
) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.float64]]]:
    """The answers (batch,) and how often each neuron of every Lif fired, over all samples and steps.

    Of an ANN the sums of its activations take the place of spikes.
    """
    with torch.no_grad():
        done = simulate(
            network.graph,
            tensors,
            x,
            surrogate=Triangle(),
            activation=activation,
            units=units,
            record_spikes=True,
            neurons=neurons,
        )
        total = torch.zeros_like(done.logits[0])
        for logits in done.logits[network.steps - network.readout :]:  # in order, so exact where it can be
            total = total + logits
        answers: npt.NDArray[np.int64] = total.argmax(1).cpu().numpy()
        fired = {
            name: spikes.sum((0, 1), dtype=torch.float64).cpu().numpy()
            for name, spikes in done.spikes.items()
        }
    return answers, fired
