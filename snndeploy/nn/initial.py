"""Weights before training, each parameter drawn by itself from the seed and its name.

So a network with a backward connection starts from the same backbone as the one without, and the two can be
compared as a pair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from typing_extensions import assert_never

from snndeploy.errors import ConfigError
from snndeploy.ir import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    Graph,
    Input,
    Lif,
    Linear,
    Op,
    Output,
    Shape,
    Upsample,
    is_population,
    parameter_shapes,
)
from snndeploy.ir.network import Array
from snndeploy.nn.batchnorm import quiet_steps


def initial_weights(graph: Graph, seed: int, *, backward_scale: float = 0.0) -> dict[str, Array]:
    """An array for every parameter of a graph, by name.

    Convolutions and Linear ops without bias, which drive neurons: normal with variance 2 / fan_in (He et al.,
    ICCV 2015); biases of convolutions 0. Linear ops with bias, the readouts of residual networks: uniform
    within +-1 / sqrt(fan_in), biases too, as PyTorch does. BatchNorm: weight 1, bias 0, running mean 0 and
    variance 1.

    Args:
        graph: Any graph.
        seed: Any whole number of at least 0.
        backward_scale: Weight of the BatchNorm of every backward connection. At 0 the connection starts as if
            absent, without which a connection into an early layer keeps the network from learning; scores
            of untrained networks need 1 to see the connection at all.

    Raises:
        ConfigError: The seed is negative or no whole number.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ConfigError("seed", "must be a whole number of at least 0", got=repr(seed))
    late = _late_branches(graph)
    weights = {}
    for name, shape in parameter_shapes(graph).items():
        op, parameter = name.rsplit(".", 1)
        if op in late and parameter == "weight":
            weights[name] = np.full(shape, backward_scale, np.float32)
        else:
            rng = np.random.default_rng([seed, *name.encode()])
            weights[name] = _draw(graph.ops[op], parameter, shape, rng).astype(np.float32)
    return weights


def _draw(op: Op, parameter: str, shape: Shape, rng: np.random.Generator) -> Array:
    match op:
        case Linear() if op.bias:
            bound = 1 / math.sqrt(op.in_features)
            return rng.uniform(-bound, bound, shape).astype(np.float32)
        case Conv2d() | Linear():
            if parameter == "bias":
                return np.zeros(shape, np.float32)
            return rng.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / math.prod(shape[1:])))
        case BatchNorm():
            return np.full(shape, 1.0 if parameter in ("weight", "running_var") else 0.0, np.float32)
        case Input() | Lif() | AvgPool2d() | Upsample() | Flatten() | Dropout() | Output():
            raise ConfigError(parameter, f"a {type(op).__name__} has no parameters")
        case _:
            assert_never(op)


def _late_branches(graph: Graph) -> set[str]:
    """BatchNorms on branches that join something which arrives earlier, as backward connections do.

    A delayed path that is the only way into a population is none of them: at scale 0 its target would stay
    silent, and no gradient would ever open it.
    """
    quiet = quiet_steps(graph)
    norms = (n for n in graph.order if isinstance(graph.ops[n], BatchNorm) and quiet[n] > 0)
    return {name for name in norms if _joins_earlier(graph, name, quiet[name], quiet)}


def _joins_earlier(graph: Graph, name: str, arrival: int, quiet: Mapping[str, int]) -> bool:
    targets = [edge.target for edge in graph.outgoing[name]]
    return all(
        quiet[target] < arrival
        or (not is_population(graph, target) and _joins_earlier(graph, target, arrival, quiet))
        for target in targets
    )
