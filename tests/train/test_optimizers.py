"""Optimisers: their first steps by hand, and what weight decay acts on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from snndeploy.ir import BatchNorm, Edge, Graph, Input, Lif, Linear, Op, Output
from snndeploy.nn import SpikingNetwork
from snndeploy.train.config import OPTIMIZERS, OptimizerConfig
from snndeploy.train.optimizers import optimizer_of

LR, DECAY = 0.125, 0.5
NORM = ("norm.weight", "norm.bias")
OTHERS = ("fc.weight", "last.weight", "last.bias")


def small_network() -> SpikingNetwork:
    """In double precision, with no parameter 0.

    input (2) -> fc -> norm -> lif -> last (with bias) -> output
    """
    ops: dict[str, Op] = {
        "input": Input(shape=(2,)),
        "fc": Linear(in_features=2, out_features=3),
        "norm": BatchNorm(channels=3),
        "lif": Lif(),
        "last": Linear(in_features=3, out_features=2, bias=True),
        "output": Output(),
    }
    graph = Graph(ops, tuple(Edge(a, b) for a, b in pairwise(ops)))
    network = SpikingNetwork(graph).double()
    rng = np.random.default_rng(0)
    network.load_weights({name: rng.uniform(0.5, 1.5, a.shape) for name, a in network.weights().items()})
    return network


def config(name: str, decay: float = DECAY, *, decay_norm: bool = True) -> OptimizerConfig:
    """An optimiser with a large learning rate."""
    return OptimizerConfig(name=name, lr=LR, weight_decay=decay, decay_norm=decay_norm)


def step(network: SpikingNetwork, optimizer: torch.optim.Optimizer, gradient: float) -> None:
    """One step with the same gradient everywhere."""
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    optimizer.step()


def test_momentum_sgd_by_hand() -> None:
    """Decay is part of the gradient, and the gradients add up with factor 0.9."""
    network = small_network()
    optimizer, before = optimizer_of(network, config("sgd")), network.weights()
    for gradient in (0.5, -1.0):
        step(network, optimizer, gradient)
    for name in (*NORM, *OTHERS):
        first = 0.5 + DECAY * before[name]
        middle = before[name] - LR * first
        second = 0.9 * first + (-1.0 + DECAY * middle)
        np.testing.assert_allclose(network.weights()[name], middle - LR * second, rtol=1e-12)


def test_momentum_is_configured() -> None:
    """Without it the second step is as long as the first."""
    network = small_network()
    optimizer = optimizer_of(network, OptimizerConfig(name="sgd", lr=LR, weight_decay=0.0, momentum=0.0))
    before = network.weights()
    for _ in range(2):
        step(network, optimizer, 0.5)
    for name in (*NORM, *OTHERS):
        np.testing.assert_allclose(network.weights()[name], before[name] - 2 * LR * 0.5, rtol=1e-12)


def test_adam_by_hand() -> None:
    """Decay is part of the gradient, so it is normalised with it; two steps with the published constants."""
    network = small_network()
    optimizer, before = optimizer_of(network, config("adam")), network.weights()
    for gradient in (0.5, -1.0):
        step(network, optimizer, gradient)
    for name in (*NORM, *OTHERS):
        w, mean, square = before[name], np.zeros(()), np.zeros(())
        for t, gradient in enumerate((0.5, -1.0), 1):
            g = gradient + DECAY * w
            mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
            w = w - LR * (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(network.weights()[name], w, rtol=1e-12)


def test_adamw_by_hand() -> None:
    """Decay acts beside the normalised gradient: a step has the length lr whatever the decay is."""
    network = small_network()
    optimizer, before = optimizer_of(network, config("adamw")), network.weights()
    step(network, optimizer, 0.5)
    for name in (*NORM, *OTHERS):
        expected = before[name] * (1 - LR * DECAY) - LR * 0.5 / (0.5 + 1e-8)
        np.testing.assert_allclose(network.weights()[name], expected, rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decay_can_leave_batch_normalisation_alone(name: str) -> None:
    """With gradient 0 all else shrinks, biases too; scale and shift of a BatchNorm only if asked to."""
    for decay_norm in (False, True):
        network = small_network()
        optimizer, before = optimizer_of(network, config(name, decay_norm=decay_norm)), network.weights()
        step(network, optimizer, 0.0)
        after = network.weights()
        assert all((after[other] < before[other]).all() for other in OTHERS)
        assert all((after[norm] < before[norm]).all() == decay_norm for norm in NORM)
        assert all(np.array_equal(after[norm], before[norm]) != decay_norm for norm in NORM)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("decay_norm", [False, True])
def test_every_parameter_is_trained_once(name: str, decay_norm: bool) -> None:
    """None is forgotten, none in two groups, and every group starts at the largest learning rate."""
    network = small_network()
    optimizer = optimizer_of(network, config(name, decay_norm=decay_norm))
    found = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in network.parameters())
    assert {group["lr"] for group in optimizer.param_groups} == {LR}
    assert len(optimizer.param_groups) == (1 if decay_norm else 2)
