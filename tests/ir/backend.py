"""A second interpreter, as another back end might be: sums in random order, and mistakes on request."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.ir import (
    AvgPool2d,
    Conv2d,
    Flatten,
    Input,
    Lif,
    Linear,
    Network,
    Op,
    Trace,
    Upsample,
    as_steps,
)

Single = npt.NDArray[np.float32]


def shuffled_sum(terms: Single, rng: np.random.Generator) -> Single:
    """The sum over the last axis, one addition after another in float32, in random order."""
    order = rng.permutation(terms.shape[-1])
    return np.add.accumulate(terms[..., order], axis=-1, dtype=np.float32)[..., -1]


def backend(
    network: Network,
    x: npt.NDArray[Any],
    seed: int = 0,
    *,
    fires: Callable[[Single, np.float32], npt.NDArray[np.bool_]] = np.greater,
    resets: bool = True,
) -> Trace:
    """Runs a folded network in float32, each sum in a random order of its own.

    Args:
        network: The network.
        x: Its input, as `snndeploy.ir.run` takes it.
        seed: Of the orders.
        fires: Comparison of potential and threshold.
        resets: Whether a spike takes the charge.
    """
    rng = np.random.default_rng(seed)
    graph, steps = network.graph, as_steps(network, x)
    past: dict[str, list[Single]] = {name: [] for name in graph.ops}
    rest: dict[str, Single] = {}
    potentials: dict[str, list[Single]] = {name: [] for name in graph.ports}
    for t in range(network.steps):
        for name in graph.order:
            op = graph.ops[name]
            if isinstance(op, Input):
                past[name].append(steps[t])
                continue
            terms = [
                past[e.source][t - e.delay]
                if t >= e.delay
                else np.zeros((steps.shape[1], *graph.shapes[e.source]), np.float32)
                for e in graph.incoming[name]
            ]
            if isinstance(op, Lif):
                if t:
                    terms.append(np.float32(op.tau) * rest[name])
                u = shuffled_sum(np.stack(terms, axis=-1), rng)
                spikes = fires(u, np.float32(op.threshold))
                rest[name] = np.where(spikes, np.float32(0), u) if resets else u
                potentials[name].append(u)
                past[name].append(spikes.astype(np.float32))
            else:
                total = shuffled_sum(np.stack(terms, axis=-1), rng)
                past[name].append(_apply(name, op, total, network, rng))
    readout_sum = shuffled_sum(np.stack(past[graph.output][-network.readout :], axis=-1), rng)
    return Trace(
        spikes={name: np.stack(past[name]) > 0 for name in graph.ports},
        readout_sum=readout_sum,
        logits=readout_sum / np.float32(network.readout),
        potentials={name: np.stack(u) for name, u in potentials.items()},
    )


def _apply(name: str, op: Op, x: Single, network: Network, rng: np.random.Generator) -> Single:
    if isinstance(op, (Conv2d, Linear)):
        return _weighted(name, op, x, network, rng)
    if isinstance(op, AvgPool2d):
        windows = _windows(x, op.kernel, op.stride)
        area = math.prod(op.kernel)
        return shuffled_sum(windows.reshape(*windows.shape[:4], area), rng) / np.float32(area)
    if isinstance(op, Upsample):
        maps = x if x.ndim == 4 else x[:, :, None, None]
        rows, columns = (np.arange(n) * maps.shape[2 + a] // n for a, n in enumerate(op.size))
        return maps[:, :, rows][:, :, :, columns]
    return x.reshape(len(x), -1) if isinstance(op, Flatten) else x


def _weighted(
    name: str, op: Conv2d | Linear, x: Single, network: Network, rng: np.random.Generator
) -> Single:
    """Products and bias of each output channel, added in an order of the channel's own."""
    weight = network.weights[f"{name}.weight"]
    if isinstance(op, Linear):
        places = x[:, None, None, :]  # batch, height, width, fan-in
        groups = 1
    else:
        (vertical, horizontal), groups = op.padding, op.groups
        padded = np.pad(x, ((0, 0), (0, 0), (vertical, vertical), (horizontal, horizontal)))
        places = np.moveaxis(_windows(padded, op.kernel, op.stride), 1, 3)
        places = places.reshape(*places.shape[:3], -1)
    out = []
    for channel, filters in enumerate(weight.reshape(len(weight), -1)):
        group = channel // (len(weight) // groups)
        fan_in = places[..., group * len(filters) : (group + 1) * len(filters)]
        terms = fan_in * filters
        if op.bias:
            bias = np.full((*terms.shape[:-1], 1), network.weights[f"{name}.bias"][channel])
            terms = np.concatenate([terms, bias], axis=-1)
        out.append(shuffled_sum(terms, rng))
    stacked: Single = np.stack(out, axis=1)
    return stacked[:, :, 0, 0] if isinstance(op, Linear) else stacked


def _windows(x: Single, kernel: tuple[int, int], stride: tuple[int, int]) -> Single:
    """Windows (batch, channels, height, width, *kernel)."""
    height, width = ((x.shape[2 + a] - kernel[a]) // stride[a] + 1 for a in (0, 1))
    found = np.empty((*x.shape[:2], height, width, *kernel), np.float32)
    for i, j in np.ndindex(height, width):
        top, left = i * stride[0], j * stride[1]
        found[:, :, i, j] = x[:, :, top : top + kernel[0], left : left + kernel[1]]
    return found
