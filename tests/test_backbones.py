"""The published layouts, by their figures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from snndeploy.backbones import (
    BACKBONES,
    backbone,
    cnn7,
    resnet6,
    resnet8,
    resnet18,
    resnet18_plain,
    resnet18_preact,
    resnet19,
    vgg11,
)
from snndeploy.errors import ConfigError, GraphError
from snndeploy.ir import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Graph,
    Lif,
    Linear,
    Network,
    Shape,
    architectures,
    fold,
    load,
    parameter_count,
    parameter_shapes,
    possible_connections,
    run,
    save,
    schedule,
    synapses,
    with_backward,
)

CIFAR = (3, 32, 32)
Build = Callable[[Shape, int, Lif | None], Graph]
BUILDERS: dict[str, Build] = {
    "resnet6": resnet6,
    "resnet8": resnet8,
    "resnet18": resnet18,
    "resnet18_plain": resnet18_plain,
    "resnet19": resnet19,
    "cnn7": cnn7,
    "vgg11": vgg11,
    "resnet18_preact": resnet18_preact,
}


def neurons(graph: Graph) -> int:
    """Neurons of all ports."""
    return sum(math.prod(graph.shapes[port]) for port in graph.ports)


def widths(graph: Graph) -> list[tuple[int, ...]]:
    """Shape of every port."""
    return [graph.shapes[port] for port in graph.ports]


def weighted(graph: Graph, kind: type[Conv2d] | type[Linear]) -> list[str]:
    """Names of the convolutions or fully connected ops."""
    return [name for name in graph.order if isinstance(graph.ops[name], kind)]


@pytest.mark.parametrize(
    ("build", "ports", "connections", "sets"),
    [
        (resnet18, 17, 153, 11_782),
        (resnet18_plain, 17, 153, 11_782),
        (resnet19, 18, 171, 14_707),
        (resnet8, 7, 28, 407),
    ],
)
def test_ports_and_size_of_the_search_space(build: Build, ports: int, connections: int, sets: int) -> None:
    """M ports, m(m + 1) / 2 backward connections, and the sets of at most two of them."""
    graph = build(CIFAR, 10, None)
    assert len(graph.ports) == ports
    assert possible_connections(graph) == connections
    assert architectures(graph) == sets


def test_resnet18_layer_by_layer() -> None:
    """64-128-256-512 in two blocks each, halving the resolution between stages; 11.2 million parameters."""
    graph = resnet18(CIFAR, 10)
    stages = [(64, 32), (128, 16), (256, 8), (512, 4)]
    assert widths(graph) == [(64, 32, 32)] + [(c, n, n) for c, n in stages for _ in range(4)]
    assert len(weighted(graph, Conv2d)) == 17 + 3, "three projections"
    # The well-known count of the CIFAR ResNet-18 for 10 classes.
    assert parameter_count(graph) == 11_173_962
    assert graph.shapes["flatten"] == (512,)
    assert schedule(graph).machine_steps(4) == 22


def test_resnet18_without_residual_connections() -> None:
    """The same layers in one chain."""
    graph = resnet18_plain(CIFAR, 10)
    assert widths(graph) == widths(resnet18(CIFAR, 10))
    assert len(weighted(graph, Conv2d)) == 17
    found = synapses(graph)
    assert [(s.source, s.target) for s in found] == list(
        itertools.pairwise([graph.input, *graph.ports, graph.output])
    )


def test_resnet19_layer_by_layer() -> None:
    """Stem 128, blocks [3, 3, 2] of 128-256-512, then a spiking fully connected layer of 256."""
    graph = resnet19(CIFAR, 100)
    stages = [(128, 32, 6), (256, 16, 6), (512, 8, 4)]
    maps = [(c, n, n) for c, n, count in stages for _ in range(count)]
    assert widths(graph) == [(128, 32, 32), *maps, (256,)]
    assert len(weighted(graph, Conv2d)) == 17 + 2
    assert [graph.shapes[n] for n in weighted(graph, Linear)] == [(256,), (100,)]
    assert graph.shapes["flatten"] == (512,)


def test_resnet8_layer_by_layer() -> None:
    """16-32-64, one block each."""
    graph = resnet8((1, 16, 16), 10)
    assert widths(graph) == [(16, 16, 16)] + [
        (c, n, n) for c, n in [(16, 16), (32, 8), (64, 4)] for _ in range(2)
    ]
    assert parameter_count(graph) < 80_000


def test_networks_of_the_penalty_paper() -> None:
    """Neurons and spiking layers of table 1, and for CNN7 of table 5."""
    preact, vgg, cnn = resnet18_preact(CIFAR, 10), vgg11(CIFAR, 10), cnn7((1, 28, 28), 10)
    assert (neurons(preact), len(preact.ports)) == (671_744, 20)
    assert (neurons(vgg), len(vgg.ports)) == (249_856, 10)
    assert (neurons(cnn), len(cnn.ports)) == (35_496, 6)
    for graph in (preact, vgg, cnn):
        assert not any(op.bias for op in graph.ops.values() if isinstance(op, (Conv2d, Linear)))


def test_pre_activation_streams() -> None:
    """Every LIF follows a BatchNorm, of a stream or of one convolution; strided blocks start a new stream."""
    graph = resnet18_preact(CIFAR, 10)
    for port in graph.ports:
        (edge,) = graph.incoming[port]
        assert isinstance(graph.ops[edge.source], BatchNorm)
    streams = [[e.source for e in graph.incoming[n]] for n in graph.order if len(graph.incoming[n]) > 1]
    assert ["stem.conv", "stage1.1.2.conv", "stage1.2.2.conv"] in streams
    assert ["stage4.1.skip.conv", "stage4.1.2.conv", "stage4.2.2.conv"] in streams
    assert all(isinstance(graph.ops[name], Conv2d) for stream in streams for name in stream)


@pytest.mark.parametrize("build", [resnet8, resnet18, resnet19])
def test_a_lif_follows_the_residual_add(build: Build) -> None:
    """An identity skip adds input spikes to the current of the block's second LIF; projections are normalised."""
    graph = build(CIFAR, 10, None)
    adds = [name for name in graph.order if len(graph.incoming[name]) > 1]
    assert adds == [name for name in graph.ports if name.endswith("lif2")]
    for name in adds:
        main, skip = (graph.ops[e.source] for e in graph.incoming[name])
        block = name.removesuffix(".lif2")
        assert isinstance(main, BatchNorm)
        if isinstance(skip, Lif):
            assert f"{block}.skip.conv" not in graph.ops
        else:
            projection = graph.ops[f"{block}.skip.conv"]
            assert isinstance(skip, BatchNorm)
            assert isinstance(projection, Conv2d)
            assert (projection.kernel, projection.padding) == ((1, 1), (0, 0))


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_every_backbone_runs_folds_and_is_saved(name: str, tmp_path: Path) -> None:
    """On a small odd input, with a neuron of one's own, and with a backward connection from end to end."""
    graph = backbone(name, (2, 20, 19), 4)
    graph = with_backward(graph, len(graph.ports) - 1, 0)
    rng = np.random.default_rng(0)
    weights = {
        n: rng.uniform(0.5, 1.5, shape)
        if len(shape) == 1
        else rng.normal(0, np.prod(shape[1:]) ** -0.5, shape)
        for n, shape in parameter_shapes(graph).items()
    }
    folded = fold(Network(graph=graph, weights=weights, steps=2))
    path = tmp_path / "n.snn.safetensors"
    save(folded, path)
    again = load(path)
    assert again.graph == folded.graph
    trace = run(again, rng.random((2, 2, 20, 19)))
    assert trace.logits.shape == (2, 4)
    assert all(s.any() for s in trace.spikes.values())


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_the_neuron_is_that_asked_for(name: str) -> None:
    """In every layer; by default tau = 0.5 and threshold 1."""
    assert set(BUILDERS) == set(BACKBONES)
    lif = Lif(tau=0.25, threshold=0.5)
    graph = BUILDERS[name](CIFAR, 10, lif)
    assert {graph.ops[port] for port in graph.ports} == {lif}
    graph = backbone(name, CIFAR, 10)
    assert {graph.ops[port] for port in graph.ports} == {Lif(tau=0.5, threshold=1.0)}


def test_the_last_pool_covers_the_whole_map() -> None:
    """Whatever the resolution, so that the readout sees one value per channel."""
    for size in (32, 48, 64):
        graph = resnet18((3, size, size), 10)
        assert graph.ops["pool"] == AvgPool2d(kernel=(size // 8, size // 8), stride=(size // 8, size // 8))
        assert graph.shapes["flatten"] == (512,)


def test_unknown_names_list_the_known_ones() -> None:
    """As one line the user can act on."""
    with pytest.raises(
        ConfigError, match=r"backbone 'resnet50': is not known; choose one of resnet6, .*resnet19"
    ):
        backbone("resnet50", CIFAR, 10)


def test_inputs_a_resnet_cannot_take() -> None:
    """Vectors and zero classes are refused by the graph's own rules."""
    with pytest.raises(GraphError, match="takes a map"):
        resnet8((64,), 10)
    with pytest.raises(GraphError, match="out_features must be"):
        resnet8((1, 8, 8), 0)
