"""Optimisers, with weight decay on the parameters of batch normalisation or without."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from snndeploy.ir import BatchNorm, parameter_shapes
from snndeploy.nn import SpikingNetwork
from snndeploy.train.config import OptimizerConfig


def optimizer_of(network: SpikingNetwork, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimiser that a configuration asks for, at its largest learning rate.

    "adam" and "sgd" add `weight_decay * parameter` to the gradient, which is that of an L2 penalty of half
    that intensity and what PyTorch does by default; "adamw" shrinks the parameters beside it (Loshchilov and
    Hutter, ICLR 2019). Adam and AdamW have beta = (0.9, 0.999) and epsilon = 1e-8.

    Weight and bias of a BatchNorm decay only with `decay_norm`, B_BN in the source. All else decays, biases of
    convolutions and fully connected layers like weights; the networks of the source have no such biases.

    Args:
        network: Whose parameters are to be trained.
        config: Which optimiser.

    Source: Spiking Synaptic Penalty, eq. 21 and section A.3.
    """
    groups = _groups(network, config)
    if config.name == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, weight_decay=config.weight_decay)


def _groups(network: SpikingNetwork, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Parameters that decay and, if there are any, those that do not."""
    decaying: list[nn.Parameter] = []
    fixed: list[nn.Parameter] = []
    for name in parameter_shapes(network.graph):
        tensor = network.tensor(name)
        if isinstance(tensor, nn.Parameter):
            of_norm = isinstance(network.graph.ops[name.rpartition(".")[0]], BatchNorm)
            (fixed if of_norm and not config.decay_norm else decaying).append(tensor)
    groups: list[dict[str, Any]] = [{"params": decaying}, {"params": fixed, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
