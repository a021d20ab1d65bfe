"""Random small networks, legal by construction, in the exact format and with lively layers.

A case is drawn as a structure and a seed. Its weights are random; the bias of each layer is then set so that
the layer fires at 2 to 60 % on the case's own input, and every backward connection changes spikes. Silence
would prove nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from snndeploy.ir import (
    AvgPool2d,
    BatchNorm,
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
    Shape,
    fold,
    parameter_shapes,
    quantize,
    run,
    upstream,
    with_backward,
)
from snndeploy.ir.shapes import output_shape

LOWEST_RATE, HIGHEST_RATE = 0.02, 0.60
SAMPLES = 4
_SEEDS_TRIED = 60


@dataclass(frozen=True)
class Layer:
    """One LIF layer of a random network.

    kind: "chain" conv; "residual" two convs and an identity skip; "projection" the same with a 1x1 skip.
    """

    kind: str
    channels: int
    stride: int = 1
    kernel: int = 3
    groups: int = 1
    pool: bool = False


@dataclass(frozen=True)
class Structure:
    """What is drawn: layers, spiking fully connected layers, backward connections (j, i, delay), T."""

    shape: Shape
    layers: tuple[Layer, ...]
    hidden: tuple[int, ...]
    backward: tuple[tuple[int, int, int], ...]
    steps: int
    readout: int
    frames: bool
    seed: int


@dataclass(frozen=True, eq=False)
class Case:
    """A network in the exact format, its float32 original, and input on which it is lively."""

    network: Network
    original: Network
    x: npt.NDArray[np.float32]


def build(structure: Structure) -> Graph:
    """The training graph of a structure, BatchNorm and backward connections included."""
    ops: dict[str, Op] = {}
    edges: list[Edge] = []
    shapes: dict[str, Shape] = {}

    def add(name: str, op: Op, *sources: str) -> str:
        ops[name] = op
        edges.extend(Edge(s, name) for s in sources)
        shapes[name] = output_shape(name, op, shapes[sources[0]] if sources else ())
        return name

    def conv(name: str, source: str, layer: Layer, kernel: int, stride: int, groups: int = 1) -> str:
        op = Conv2d(
            in_channels=shapes[source][0],
            out_channels=layer.channels,
            kernel=(kernel, kernel),
            stride=(stride, stride),
            padding=(kernel // 2, kernel // 2),
            groups=groups if shapes[source][0] % groups == 0 else 1,
        )
        add(f"{name}.conv", op, source)
        return add(f"{name}.norm", BatchNorm(channels=layer.channels), f"{name}.conv")

    last = add("input", Input(shape=structure.shape))
    for index, layer in enumerate(structure.layers):
        name, start = f"l{index}", last
        current = [conv(name, last, layer, layer.kernel, layer.stride, layer.groups)]
        if layer.kind != "chain":
            first = add(f"{name}.inner", Lif(), *current)
            current = [conv(f"{name}b", first, layer, 3, 1)]
            identity = layer.kind == "residual" and shapes[start] == shapes[current[0]] and start != "input"
            current.append(start if identity else conv(f"{name}s", start, layer, 1, layer.stride))
        last = add(f"{name}.lif", Lif(), *current)
        if layer.pool and min(shapes[last][1:]) >= 2:
            last = add(f"{name}.pool", AvgPool2d(kernel=(2, 2), stride=(2, 2)), last)
    last = add("flatten", Flatten(), last)
    for index, features in enumerate(structure.hidden):
        fc = Linear(in_features=shapes[last][0], out_features=features)
        last = add(f"h{index}.fc", fc, last)
        last = add(f"h{index}.norm", BatchNorm(channels=features), last)
        last = add(f"h{index}.lif", Lif(), last)
    last = add("fc", Linear(in_features=shapes[last][0], out_features=3, bias=True), last)
    add("output", Output(), last)
    graph = Graph(ops, tuple(edges))
    for j, i, delay in sorted(set(structure.backward)):
        graph = with_backward(graph, j, i, delay)
    return graph


def realise(structure: Structure) -> Case:
    """A lively case of a structure; tries the seeds that follow the drawn one until it finds one.

    Raises:
        AssertionError: None of the seeds gave a lively network.
    """
    graph = build(structure)
    for attempt in range(_SEEDS_TRIED):
        rng = np.random.default_rng([structure.seed, attempt])
        spec = InputSpec(kind="frames" if structure.frames else "image", grid_bits=4)
        front = (structure.steps, SAMPLES) if structure.frames else (SAMPLES,)
        x = spec.prepare(rng.integers(0, 17, (*front, *structure.shape)) / 16)
        network = fold(
            Network(
                graph=graph,
                weights=random_weights(graph, rng),
                steps=structure.steps,
                readout=structure.readout,
                input=spec,
            )
        )
        original = enliven(network, x)
        exact = quantize(original, x).network
        if is_lively(exact, x):
            return Case(exact, original, x)
    raise AssertionError(f"no lively network in {_SEEDS_TRIED} seeds: {structure}")


def random_weights(graph: Graph, rng: np.random.Generator) -> dict[str, npt.NDArray[np.float64]]:
    """Random weights with outputs of about unit size, and BatchNorm statistics to fold."""
    weights: dict[str, npt.NDArray[np.float64]] = {}
    for name, shape in parameter_shapes(graph).items():
        if name.endswith((".norm.weight", "running_var")):
            weights[name] = rng.uniform(0.5, 1.5, shape)
        elif name.endswith(".weight"):
            gain = 2.0 if name.startswith("back") else 1.2
            weights[name] = rng.normal(0, gain / np.sqrt(0.3 * np.prod(shape[1:])), shape)
        else:
            weights[name] = rng.normal(0, 0.1, shape)
    return weights


def enliven(network: Network, x: npt.NDArray[np.float32]) -> Network:
    """Shifts the bias of each layer, in order and twice over, until it fires at 8 to 40 %."""
    for port in network.graph.ports * 2:
        bias = next(f"{n}.bias" for n in reversed(upstream(network.graph, port)) if not n.startswith("back"))
        low, high = -4.0, 4.0
        start = network.weights[bias]
        for _ in range(8):
            rate = float(run(network, x).spikes[port].mean())
            if 0.08 <= rate <= 0.40:
                break
            middle = (low + high) / 2
            network = replace(network, weights={**network.weights, bias: start + np.float32(middle)})
            rate = float(run(network, x).spikes[port].mean())
            low, high = (middle, high) if rate < 0.2 else (low, middle)
    return network


def firing_rates(network: Network, x: npt.NDArray[np.float32]) -> dict[str, float]:
    """Spikes per neuron and time step of every layer."""
    return {name: float(s.mean()) for name, s in run(network, x).spikes.items()}


def without(network: Network, source_port: int, target_port: int, delay: int = 1) -> Network:
    """The network with one backward connection cut: its branch's weights and biases are zero."""
    stem = f"back{source_port}_{target_port}" + (f"d{delay}" if delay > 1 else "") + "."
    cut = {n: np.zeros_like(w) if n.startswith(stem) else w for n, w in network.weights.items()}
    if cut.keys() and all((cut[n] == network.weights[n]).all() for n in cut):
        raise AssertionError(f"{stem} is not in the network")
    return replace(network, weights=cut)


def changed_spikes(network: Network, other: Network, x: npt.NDArray[np.float32]) -> int:
    """Number of differing spikes of two networks on the same input."""
    a, b = run(network, x).spikes, run(other, x).spikes
    return sum(int((a[name] != b[name]).sum()) for name in a)


def is_lively(network: Network, x: npt.NDArray[np.float32]) -> bool:
    """Whether every layer fires at 2 to 60 % and every backward connection changes spikes."""
    if not all(LOWEST_RATE <= rate <= HIGHEST_RATE for rate in firing_rates(network, x).values()):
        return False
    stems = {n.split(".")[0] for n in network.weights if n.startswith("back")}
    for stem in stems:
        cut = {n: np.zeros_like(w) if n.startswith(stem + ".") else w for n, w in network.weights.items()}
        if changed_spikes(network, replace(network, weights=cut), x) == 0:
            return False
    return True


@st.composite
def structures(draw: st.DrawFn, most_layers: int = 4) -> Structure:
    """Structures of chains and residual blocks with backward connections over any number of ports."""
    layer = st.builds(
        Layer,
        kind=st.sampled_from(["chain", "residual", "projection"]),
        channels=st.sampled_from([2, 4, 6]),
        stride=st.sampled_from([1, 1, 2]),
        kernel=st.sampled_from([1, 3]),
        groups=st.sampled_from([1, 1, 2]),
        pool=st.booleans(),
    )
    steps = draw(st.sampled_from([4, 1, 8, 2, 3, 5, 6, 7, 8]))
    base = Structure(
        shape=(draw(st.integers(1, 2)), draw(st.integers(4, 8)), draw(st.integers(4, 8))),
        layers=tuple(draw(st.lists(layer, min_size=1, max_size=most_layers))),
        hidden=tuple(draw(st.lists(st.sampled_from([5, 8]), max_size=2))),
        backward=(),
        steps=steps,
        readout=draw(st.integers(1, steps)),
        frames=draw(st.booleans()),
        seed=draw(st.integers(0, 2**16)),
    )
    ports = len(build(base).ports)
    count = draw(st.sampled_from([0, 1, 1, 2, 2, 3])) if steps > 1 else 0
    backward = []
    for _ in range(count):
        target = draw(st.integers(0, ports - 1))
        source = draw(st.integers(target, ports - 1))
        backward.append((source, target, draw(st.sampled_from([1, 1, 1, min(2, steps - 1)]))))
    return replace(base, backward=tuple(backward))


def cases(most_layers: int = 4) -> st.SearchStrategy[Case]:
    """Lively networks in the exact format with their input."""
    return structures(most_layers).map(realise)
