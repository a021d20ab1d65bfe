"""The graphs on which the PyTorch engine is tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest
import torch

from snndeploy.ir import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    Edge,
    Flatten,
    Graph,
    Input,
    Lif,
    Linear,
    Op,
    Output,
    Upsample,
    with_backward,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tests must not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, bias: bool = False) -> Conv2d:
    """A convolution that keeps the size at stride 1."""
    return Conv2d(
        in_channels=inputs,
        out_channels=outputs,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(kernel // 2, kernel // 2),
        bias=bias,
    )


def edges(*paths: str) -> tuple[Edge, ...]:
    """Edges along paths such as "input a.conv a.norm"; "lif >2 b" delays the edge into b by 2."""
    found = []
    for path in paths:
        source, delay = "", 0
        for word in path.split():
            if word.startswith(">"):
                delay = int(word[1:])
                continue
            if source:
                found.append(Edge(source, word, delay))
            source, delay = word, 0
    return tuple(dict.fromkeys(found))


def chain() -> Graph:
    """Three ports, the last one fully connected.

    input 2x4x4 -> a (conv, norm, LIF, 3x4x4) -> b (stride 2, 4x2x2) -> flatten -> c (linear, 5) -> fc -> output
    """
    ops: Mapping[str, Op] = {
        "input": Input(shape=(2, 4, 4)),
        "a.conv": conv(2, 3),
        "a.norm": BatchNorm(channels=3),
        "a.lif": Lif(),
        "b.conv": conv(3, 4, stride=2),
        "b.norm": BatchNorm(channels=4),
        "b.lif": Lif(),
        "flatten": Flatten(),
        "c.fc": Linear(in_features=16, out_features=5),
        "c.norm": BatchNorm(channels=5),
        "c.lif": Lif(),
        "fc": Linear(in_features=5, out_features=3, bias=True),
        "output": Output(),
    }
    path = "input a.conv a.norm a.lif b.conv b.norm b.lif flatten c.fc c.norm c.lif fc output"
    return Graph(ops, edges(path))


def residual() -> Graph:
    """A block with a projection, then one with an identity skip, and a backward connection over both.

                 .- skip.conv - skip.norm --.             .----------.
    input - a.lif - b.conv - b.norm - b.lif - c.conv - c.lif - d.conv - d.lif - pool - fc - output
                 ^--------------------- backward, delay 1 ---------------'
    """
    ops: Mapping[str, Op] = {
        "input": Input(shape=(2, 4, 4)),
        "a.conv": conv(2, 3),
        "a.norm": BatchNorm(channels=3),
        "a.lif": Lif(),
        "b.conv": conv(3, 4, stride=2),
        "b.norm": BatchNorm(channels=4),
        "b.lif": Lif(),
        "c.conv": conv(4, 4),
        "c.norm": BatchNorm(channels=4),
        "skip.conv": conv(3, 4, kernel=1, stride=2),
        "skip.norm": BatchNorm(channels=4),
        "c.lif": Lif(),
        "d.conv": conv(4, 4),
        "d.norm": BatchNorm(channels=4),
        "d.lif": Lif(),
        "pool": AvgPool2d(kernel=(2, 2), stride=(2, 2)),
        "flatten": Flatten(),
        "fc": Linear(in_features=4, out_features=3),
        "output": Output(),
    }
    graph = Graph(
        ops,
        edges(
            "input a.conv a.norm a.lif b.conv b.norm b.lif c.conv c.norm c.lif d.conv d.norm d.lif",
            "a.lif skip.conv skip.norm c.lif d.lif pool flatten fc output",
        ),
    )
    return with_backward(graph, 3, 0)


def self_loop() -> Graph:
    """chain() with the spikes of port 1 fed back to port 1."""
    return with_backward(chain(), 1, 1)


def upsampled() -> Graph:
    """chain() with port 1 (2x2) fed back to port 0 (4x4), two steps later."""
    return with_backward(chain(), 1, 0, delay=2)


def overlapping() -> Graph:
    """chain() with backward connections 2:1 and 1:0, whose loops share port 1."""
    return with_backward(with_backward(chain(), 2, 1), 1, 0)


def from_vector() -> Graph:
    """chain() with the fully connected port 2 fed back to the maps of port 0, and to itself."""
    return with_backward(with_backward(chain(), 2, 0), 2, 2)


def delayed_skip() -> Graph:
    """No loop, but two delayed edges; behind the one is a BatchNorm that nothing reaches at t = 0 and 1.

                 .--- delay 2 --- late.conv - late.norm ---.
    input - a.lif - b.conv - b.norm - b.lif - c.conv - c.norm - c.lif - flatten - fc - output
        '------ delay 1 ----^
    """
    ops: Mapping[str, Op] = {
        "input": Input(shape=(2, 4, 4)),
        "a.conv": conv(2, 2),
        "a.norm": BatchNorm(channels=2),
        "a.lif": Lif(),
        "b.conv": conv(2, 3),
        "b.norm": BatchNorm(channels=3),
        "b.lif": Lif(tau=0.25, threshold=0.75),
        "late.conv": conv(2, 4, kernel=1, bias=True),
        "late.norm": BatchNorm(channels=4),
        "c.conv": conv(3, 4),
        "c.norm": BatchNorm(channels=4),
        "c.lif": Lif(),
        "flatten": Flatten(),
        "fc": Linear(in_features=64, out_features=3),
        "output": Output(),
    }
    return Graph(
        ops,
        edges(
            "input a.conv a.norm a.lif b.conv b.norm b.lif c.conv c.norm c.lif flatten fc output",
            "input >1 b.conv",
            "a.lif >2 late.conv late.norm c.lif",
        ),
    )


def summed_norm() -> Graph:
    """BatchNorm on a sum, dropout, and sizes that are no multiples of each other, inside a loop.

    input - a.lif - a.conv ---.
                              sum.norm - drop - b.lif - up (4x4 -> 3x5) - flatten - fc - output
    b.lif - delay 1 - b.conv -'
    """
    ops: Mapping[str, Op] = {
        "input": Input(shape=(2, 4, 4)),
        "in.conv": conv(2, 3),
        "in.norm": BatchNorm(channels=3),
        "a.lif": Lif(),
        "a.conv": conv(3, 4),
        "b.conv": conv(4, 4),
        "sum.norm": BatchNorm(channels=4),
        "drop": Dropout(probability=0.25),
        "b.lif": Lif(),
        "up": Upsample(size=(3, 5)),
        "flatten": Flatten(),
        "fc": Linear(in_features=60, out_features=3),
        "output": Output(),
    }
    return Graph(
        ops,
        edges(
            "input in.conv in.norm a.lif a.conv sum.norm drop b.lif up flatten fc output",
            "b.lif >1 b.conv sum.norm",
        ),
    )


TOPOLOGIES: Mapping[str, Callable[[], Graph]] = {
    f.__name__: f
    for f in (
        chain,
        residual,
        self_loop,
        upsampled,
        overlapping,
        from_vector,
        delayed_skip,
        summed_norm,
    )
}


@pytest.fixture(params=TOPOLOGIES)
def graph(request: pytest.FixtureRequest) -> Graph:
    """Each of the graphs in turn."""
    return TOPOLOGIES[request.param]()


@pytest.fixture
def topologies() -> Mapping[str, Callable[[], Graph]]:
    """All of the graphs, by name."""
    return TOPOLOGIES


@pytest.fixture
def exact_graph(graph: Graph) -> Graph:
    """Each of the graphs in turn, its BatchNorms and Dropouts bridged."""
    ops, links = dict(graph.ops), list(graph.edges)
    for name in graph.training_only:
        del ops[name]
        entering = [e for e in links if e.target == name]
        leaving = [e for e in links if e.source == name]
        links = [e for e in links if name not in (e.source, e.target)]
        links += [Edge(a.source, b.target, a.delay + b.delay) for a in entering for b in leaving]
    return Graph(ops, tuple(links))
