"""From an ANN with quantised activations to spiking networks: the same graph and weights, more time steps.

An ANN's neuron for a current z answers with a rate; an integrate-and-fire neuron (tau = 1) that gets z at
every step fires at about that rate. Biases, those that BatchNorm is folded to among them, act at every step as
inputs do, so weights need not be rescaled: activations are clipped to [0, 1], the rates that a neuron can have.

What a hard reset throws away makes rates fall from layer to layer. A lower threshold in all of them makes up
for it; how low is chosen on samples that were not trained on.

Source: Sorbaro et al., Front. Neurosci. 14:662 (2020); as a baseline Spiking Synaptic Penalty, section 4.3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from snndeploy.errors import ConfigError, NetworkError
from snndeploy.ir import Graph, Lif, Network, fold
from snndeploy.nn import QuantizedRelu
from snndeploy.nn.engine import Neurons
from snndeploy.train.config import NetworkConfig
from snndeploy.train.data import Dataset, Samples
from snndeploy.train.evaluation import evaluate


def activation_of(config: NetworkConfig) -> QuantizedRelu | None:
    """The activation of the ANN that a configuration asks for; None for a spiking network.

    Raises:
        ConfigError: There is no such neuron.
    """
    match config.neuron:
        case "lif":
            return None
        case "qrelu":
            kind = config.quantizer
            return QuantizedRelu(config.levels, "reciprocal" if kind == "reciprocal" else "uniform")
        case _:
            raise ConfigError("network.neuron", "must be lif or qrelu", got=repr(config.neuron))


def require_images(config: NetworkConfig, data: Dataset) -> None:
    """Checks that there is something to show a converted network at every time step.

    Raises:
        ConfigError: An ANN is asked for, and the data are sequences.
    """
    if config.neuron != "lif" and data.input.kind != "image":
        raise ConfigError(
            "network.neuron",
            "must be lif for sequences, as a converted network is shown one image at all steps",
            got=repr(config.neuron),
        )


def best_conversion(
    network: Network,
    steps: int,
    factors: Sequence[float],
    samples: Samples,
    *,
    device: torch.device | str = "cpu",
    neurons: Neurons = "compiled",
) -> Network:
    """Of the spiking networks with each factor on the threshold the most accurate, the first of equals.

    Args:
        network: As for `convert`.
        steps: Logical time steps T.
        factors: On the threshold, at least one.
        samples: To choose by; not those of the test.
        device: Where to run them.
        neurons: What computes their neurons.

    Raises:
        NetworkError: As `convert`.
    """
    candidates = [convert(network, steps, factor) for factor in factors]
    if len(candidates) == 1:
        return candidates[0]
    return max(candidates, key=lambda one: evaluate(one, samples, device=device, neurons=neurons).accuracy)


def convert(network: Network, steps: int, factor: float = 1.0) -> Network:
    """The spiking network that an ANN becomes, folded; its logits are the mean over all steps.

    Args:
        network: Graph and weights of the ANN, folded or not. Its neurons must have tau 1.
        steps: Logical time steps T.
        factor: On the threshold of all neurons.

    Raises:
        NetworkError: A neuron leaks, a connection is delayed, the input is a sequence, or steps is not a
            positive whole number.
    """
    for name, op in network.graph.ops.items():
        if isinstance(op, Lif) and op.tau != 1:
            raise NetworkError(name, "must have tau 1 in an ANN that is converted", got=op.tau)
    if network.graph.largest_delay:
        raise NetworkError("graph", "an ANN that is converted has no delayed connections")
    if network.input.kind != "image":
        raise NetworkError("input", "of an ANN that is converted must be an image", got=network.input.kind)
    folded = fold(network)
    ops = {
        name: replace(op, threshold=factor * op.threshold) if isinstance(op, Lif) else op
        for name, op in folded.graph.ops.items()
    }
    return replace(folded, graph=Graph(ops, folded.graph.edges), steps=steps, readout=0)
