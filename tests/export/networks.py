"""Small folded networks whose arithmetic is exact in float32: weights, biases and input on a grid of 1/16."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from snndeploy.ir import (
    AvgPool2d,
    Conv2d,
    Edge,
    Flatten,
    Graph,
    Input,
    InputSpec,
    Lif,
    Linear,
    Network,
    Op,
    Output,
    Trace,
    Upsample,
    parameter_shapes,
    run,
    upstream,
)

GRID = 16
SAMPLES = 3


@dataclass(frozen=True, eq=False)
class Case:
    """A network and input (batch, *shape) or (time, batch, *shape) on which its layers are active."""

    network: Network
    x: npt.NDArray[np.float32]

    def samples(self, count: int) -> npt.NDArray[np.float32]:
        """The first samples of the input."""
        return self.x[:, :count] if self.network.input.kind == "frames" else self.x[:count]


def conv(i: int, o: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> Conv2d:
    """A convolution with bias that keeps the resolution at stride 1."""
    pad = kernel // 2
    return Conv2d(
        in_channels=i,
        out_channels=o,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(pad, pad),
        groups=groups,
        bias=True,
    )


def linear(i: int, o: int) -> Linear:
    """A fully connected op with bias."""
    return Linear(in_features=i, out_features=o, bias=True)


def graph(ops: Mapping[str, Op], *paths: str) -> Graph:
    """A graph from paths such as `l2 ~1 back l1`: edges from name to name, `~d` delays the next one by d."""
    edges: list[Edge] = []
    for path in paths:
        source, delay = "", 0
        for word in path.split():
            if word.startswith("~"):
                delay = int(word[1:])
                continue
            if source:
                edges.append(Edge(source, word, delay))
            source, delay = word, 0
    return Graph(ops, tuple(edges))


def case(built: Graph, *, steps: int, readout: int = 0, seed: int = 0, kind: str = "image") -> Case:
    """Random weights and input for a graph, with the biases shifted so that each layer fires at 5 to 50 %."""
    rng = np.random.default_rng(seed)
    front = (steps, SAMPLES) if kind == "frames" else (SAMPLES,)
    x = rng.integers(0, GRID + 1, (*front, *built.shapes[built.input])).astype(np.float32) / GRID
    weights = {name: _random(name, shape, rng) for name, shape in parameter_shapes(built).items()}
    spec = InputSpec(kind="frames" if kind == "frames" else "image", grid_bits=4)
    network = Network(graph=built, weights=weights, steps=steps, readout=readout, input=spec)
    for port in built.ports * 2:
        network = _tuned(network, port, x)
    return Case(network, x)


def _random(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    if name.endswith(".bias"):
        return rng.integers(-4, 5, shape) / GRID
    spread = 1.5 / np.sqrt(np.prod(shape[1:]))
    mantissas: npt.NDArray[np.float64] = np.round(rng.normal(0, spread, shape) * GRID)
    return np.clip(mantissas, -GRID, GRID) / GRID


def _tuned(network: Network, port: str, x: npt.NDArray[np.float32]) -> Network:
    ops = [n for n in upstream(network.graph, port) if f"{n}.bias" in network.weights]
    if not ops:
        return network
    bias = next(f"{n}.bias" for n in reversed(ops) if not n.startswith("back"))
    low, high = -64, 64
    while low <= high:
        if 0.05 <= run(network, x).spikes[port].mean() <= 0.5:
            break
        shift = (low + high) // 2
        shifted = replace(network, weights={**network.weights, bias: network.weights[bias] + shift / GRID})
        if run(shifted, x).spikes[port].mean() < 0.2:
            low = shift + 1
        else:
            high = shift - 1
        if 0.05 <= run(shifted, x).spikes[port].mean() <= 0.5:
            network = shifted
    return network


def chain() -> Graph:
    """One path: input -> c1 -> l1 -> c2 (stride 2) -> l2 -> fc -> output."""
    return graph(
        {
            "input": Input(shape=(2, 6, 7)),
            "c1": conv(2, 4),
            "l1": Lif(),
            "c2": conv(4, 4, stride=2),
            "l2": Lif(),
            "flat": Flatten(),
            "fc": linear(48, 3),
            "output": Output(),
        },
        "input c1 l1 c2 l2 flat fc output",
    )


def residual() -> Graph:
    """Two blocks, the first with an identity skip, the second with a projection.

    l0 -> c1 -> l1 -> c2 -> l2 -> c3 (stride 2) -> l3 -> c4 -> l4
    l0 -------------------> l2 -> skip (1x1, stride 2) ------> l4
    """
    return graph(
        {
            "input": Input(shape=(1, 6, 6)),
            "c0": conv(1, 4),
            "l0": Lif(),
            "c1": conv(4, 4),
            "l1": Lif(),
            "c2": conv(4, 4),
            "l2": Lif(),
            "c3": conv(4, 6, stride=2),
            "l3": Lif(),
            "c4": conv(6, 6),
            "skip": conv(4, 6, kernel=1, stride=2),
            "l4": Lif(),
            "pool": AvgPool2d(kernel=(2, 2), stride=(1, 1)),
            "flat": Flatten(),
            "fc": linear(24, 3),
            "output": Output(),
        },
        "input c0 l0 c1 l1 c2 l2 c3 l3 c4 l4 pool flat fc output",
        "l0 l2",
        "l2 skip l4",
    )


def _with_back(*branches: tuple[int, int, int], last: int = 3) -> Graph:
    """l0 (4, 7, 7) -> l1 (4, 7, 7) -> l2 (6, 4, 4) -> l3 (6, 2, 2), and branches (source, target, delay).

    A branch is 1x1 conv -> Upsample to the target's size; 2 -> 4 is an integer factor, 4 -> 7 is none.
    """
    channels, sizes = (4, 4, 6, 6), (7, 7, 4, 2)
    ops: dict[str, Op] = {"input": Input(shape=(1, 7, 7))}
    path, previous = ["input"], 1
    extra = []
    for port in range(last + 1):
        for j, i, delay in branches:
            if i == port:
                stem = f"back{j}_{i}d{delay}"
                ops[f"{stem}.conv"] = conv(channels[j], channels[i], kernel=1)
                ops[f"{stem}.up"] = Upsample(size=(sizes[i], sizes[i]))
                extra.append(f"l{j} ~{delay} {stem}.conv {stem}.up l{i}")
        ops[f"c{port}"] = conv(previous, channels[port], stride=2 if port > 1 else 1)
        ops[f"l{port}"] = Lif()
        path += [f"c{port}", f"l{port}"]
        previous = channels[port]
    features = channels[last] * sizes[last] ** 2
    ops |= {"flat": Flatten(), "fc": linear(features, 3), "output": Output()}
    return graph(ops, " ".join([*path, "flat fc output"]), *extra)


def self_loop() -> Graph:
    """l0 feeds itself through a branch, and l1 itself directly."""
    built = _with_back((0, 0, 1))
    return Graph(built.ops, (*built.edges, Edge("l1", "l1", 1)))


def back_over_one() -> Graph:
    """l1 -> l0, loop {l0, l1}; l2 and l3 lie outside."""
    return _with_back((1, 0, 1))


def back_over_many() -> Graph:
    """l3 (2x2) -> l0 (7x7) and l3 -> l2 (4x4): upsampling by no integer and by an integer."""
    return _with_back((3, 0, 1), (3, 2, 1))


def two_into_one() -> Graph:
    """l1 -> l0 and l2 -> l0."""
    return _with_back((1, 0, 1), (2, 0, 1))


def overlapping() -> Graph:
    """l2 -> l0 and l3 -> l1."""
    return _with_back((2, 0, 1), (3, 1, 1))


def long_delays() -> Graph:
    """l1 -> l0 after 2 steps, l3 -> l2 after 3 and after 1."""
    return _with_back((1, 0, 2), (3, 2, 3), (3, 2, 1))


def separate_loops() -> Graph:
    """Two loops in a row, {l0} and {l2, l3}, with l1 between them."""
    return _with_back((0, 0, 1), (3, 2, 1))


def from_vector() -> Graph:
    """A fully connected port h feeds a map and itself; a BC that leaves a vector is read as (C, 1, 1).

    input -> c0 -> l0 -> pool -> flat -> fc1 -> h -> fc2 -> output
    h ~1 -> back.fc -> back.up (6x4) -> l0;  h ~1 -> back.own -> h
    """
    return graph(
        {
            "input": Input(shape=(2, 6, 4)),
            "c0": conv(2, 4),
            "back.fc": linear(5, 4),
            "back.up": Upsample(size=(6, 4)),
            "l0": Lif(),
            "pool": AvgPool2d(kernel=(2, 4), stride=(2, 4)),
            "flat": Flatten(),
            "fc1": linear(12, 5),
            "back.own": linear(5, 5),
            "h": Lif(tau=0.25, threshold=0.5),
            "fc2": linear(5, 3),
            "output": Output(),
        },
        "input c0 l0 pool flat fc1 h fc2 output",
        "h ~1 back.fc back.up l0",
        "h ~1 back.own h",
    )


def delayed_skips() -> Graph:
    """Delays outside any loop, on direct edges, before a conv with bias, and on the input.

    input -> c0 -> l0 -> c1 -> l1 -> flat -> fc -> output
    input ~1 -> c0;  l0 ~2 -> l1;  l0 ~2 -> late -> l1;  l0 ~1 -> l1
    """
    return graph(
        {
            "input": Input(shape=(2, 5, 5)),
            "c0": conv(2, 4),
            "l0": Lif(),
            "c1": conv(4, 4),
            "late": conv(4, 4, kernel=1),
            "l1": Lif(),
            "flat": Flatten(),
            "fc": linear(100, 3),
            "output": Output(),
        },
        "input c0 l0 c1 l1 flat fc output",
        "input ~1 c0",
        "l0 ~2 l1",
        "l0 ~2 late l1",
        "l0 ~1 l1",
    )


def only_delayed() -> Graph:
    """A layer reached by a delayed edge alone, outside loops and within one.

    input -> c0 -> l0 ~2 -> c1 -> l1 -> flat -> fc -> output;  l1 ~1 -> l2 ~1 -> c2 -> l1
    """
    return graph(
        {
            "input": Input(shape=(1, 4, 4)),
            "c0": conv(1, 4),
            "l0": Lif(),
            "c1": conv(4, 4),
            "l1": Lif(),
            "c2": conv(4, 4),
            "l2": Lif(threshold=0.5),
            "flat": Flatten(),
            "fc": linear(64, 3),
            "output": Output(),
        },
        "input c0 l0 ~2 c1 l1 flat fc output",
        "l1 ~1 l2 ~1 c2 l1",
    )


def grouped() -> Graph:
    """Convolutions in two groups and depthwise, pools of 8 and 2, and height treated unlike width everywhere.

    input -> c0 -> l0 -> pool0 -> c1 -> l1 -> pool1 -> flat -> fc -> output
    """
    oblong = Conv2d(
        in_channels=2, out_channels=4, kernel=(3, 2), stride=(1, 2), padding=(0, 1), groups=2, bias=True
    )
    return graph(
        {
            "input": Input(shape=(2, 11, 12)),
            "c0": oblong,
            "l0": Lif(),
            "pool0": AvgPool2d(kernel=(2, 4), stride=(2, 1)),
            "c1": conv(4, 8, groups=4),
            "l1": Lif(),
            "pool1": AvgPool2d(kernel=(1, 2), stride=(3, 2)),
            "flat": Flatten(),
            "fc": linear(32, 3),
            "output": Output(),
        },
        "input c0 l0 pool0 c1 l1 pool1 flat fc output",
    )


def vectors() -> Graph:
    """A network of vectors whose Output sums a Lif, a Linear and a delayed Lif.

    input -> f0 -> l0 -> f1 -> l1 -> output;  l0 -> f2 -> output;  l1 ~1 -> output
    """
    return graph(
        {
            "input": Input(shape=(6,)),
            "f0": linear(6, 7),
            "l0": Lif(),
            "f1": linear(7, 3),
            "l1": Lif(),
            "f2": linear(7, 3),
            "output": Output(),
        },
        "input f0 l0 f1 l1 output",
        "l0 f2 output",
        "l1 ~1 output",
    )


def awkward_names() -> Graph:
    """A loop whose ops have the names that the exporter would give to other values.

    x -> logits -> a -> a.spikes -> readout_sum -> output;  a ~1 -> a.t1 -> a;  readout_sum is a Lif
    """
    return graph(
        {
            "x": Input(shape=(4,)),
            "logits": linear(4, 4),
            "a.t1": linear(4, 4),
            "a": Lif(),
            "a.spikes": linear(4, 3),
            "state_in.a.v": Linear(in_features=4, out_features=3, bias=True),
            "readout_sum": Lif(),
            "output": Output(),
        },
        "x logits a a.spikes readout_sum output",
        "a ~1 a.t1 a",
        "a state_in.a.v readout_sum",
    )


TOPOLOGIES: Mapping[str, Callable[[], Graph]] = {
    f.__name__: f
    for f in (
        chain,
        residual,
        self_loop,
        back_over_one,
        back_over_many,
        two_into_one,
        overlapping,
        long_delays,
        separate_loops,
        from_vector,
        delayed_skips,
        only_delayed,
        grouped,
        vectors,
        awkward_names,
    )
}


def assert_same(trace: Trace, expected: Trace) -> None:
    """Fails unless all spikes and the sum over the readout window are equal, bit for bit."""
    assert set(trace.spikes) == set(expected.spikes)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(trace.spikes[name], spikes, err_msg=name)
    assert trace.readout_sum.dtype == expected.readout_sum.dtype
    np.testing.assert_array_equal(trace.readout_sum, expected.readout_sum)
    np.testing.assert_array_equal(trace.logits, expected.logits)


def assert_active(case: Case) -> None:
    """Fails unless every layer fires at 2 to 60 %: silence would prove nothing."""
    for name, spikes in run(case.network, case.x).spikes.items():
        assert 0.02 <= spikes.mean() <= 0.60, f"{name} fires at {spikes.mean():.1%}"
