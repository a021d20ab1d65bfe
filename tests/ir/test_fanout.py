"""Fan-out: exact psi against brute force, nominal psi against the published totals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snndeploy.backbones import backbone
from snndeploy.errors import GraphError
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
    Network,
    Op,
    Output,
    Shape,
    Upsample,
    fold,
    is_population,
    parameter_shapes,
    with_backward,
)
from snndeploy.ir.fanout import Fanout, connections, fanouts, psi, psi_total
from snndeploy.ir.kernels import apply
from snndeploy.ir.shapes import output_shape
from tests.strategies import Structure, build, structures


def conv(
    channels: tuple[int, int], kernel: int, stride: int = 1, padding: int = 0, groups: int = 1
) -> Conv2d:
    """A square convolution of (in, out) channels."""
    return Conv2d(
        in_channels=channels[0],
        out_channels=channels[1],
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(padding, padding),
        groups=groups,
    )


def pool(kernel: int, stride: int | None = None) -> AvgPool2d:
    """A square average pool; it tiles unless told otherwise."""
    return AvgPool2d(kernel=(kernel, kernel), stride=(stride or kernel,) * 2)


def chain(shape: Shape, *ops: Op) -> Graph:
    """The graph input -> lif -> op0 -> op1 -> ... -> end (a Lif) -> [flatten] -> readout -> output."""
    named: dict[str, Op] = {"input": Input(shape=shape), "lif": Lif()}
    named |= {f"op{index}": op for index, op in enumerate(ops)} | {"end": Lif()}
    for op in ops:
        shape = output_shape("op", op, shape)
    if len(shape) == 3:
        named["flatten"] = Flatten()
    named["readout"] = Linear(in_features=math.prod(shape), out_features=2)
    named["output"] = Output()
    return Graph(named, edges_along(named))


def edges_along(ops: Mapping[str, Op]) -> tuple[Edge, ...]:
    """Edges from each op to the next."""
    return tuple(Edge(a, b) for a, b in pairwise(ops))


def positive_weights(graph: Graph, seed: int = 0) -> dict[str, npt.NDArray[np.float64]]:
    """Random positive weights, so that nothing cancels, and no biases or shifts."""
    rng = np.random.default_rng(seed)
    return {
        name: np.zeros(shape) if name.endswith(("bias", "running_mean")) else rng.uniform(0.5, 1.5, shape)
        for name, shape in parameter_shapes(graph).items()
    }


def one_hot(shape: Shape) -> npt.NDArray[np.float64]:
    """One sample for each neuron, in which that neuron alone fires."""
    size = math.prod(shape)
    return np.eye(size).reshape(size, *shape)


def count_nonzero(values: npt.NDArray[np.float64], shape: Shape) -> npt.NDArray[np.int64]:
    """Non-zeros of each sample, the samples arranged as the neurons they belong to."""
    counts: npt.NDArray[np.int64] = (values.reshape(len(values), -1) != 0).sum(axis=1)
    return counts.reshape(shape)


def reached(graph: Graph, fanout: Fanout) -> npt.NDArray[np.int64]:
    """Brute force: how many outputs of a path change if one source neuron does, for each of them."""
    weights = positive_weights(graph)
    x = one_hot(fanout.shape)
    for name in fanout.ops:
        x = apply(name, graph.ops[name], x, weights)
    return count_nonzero(x, fanout.shape)


def reached_populations(graph: Graph, source: str) -> npt.NDArray[np.int64]:
    """Brute force: how many neurons' inputs one neuron of a population changes, over all targets and delays."""
    weights = positive_weights(graph)
    shape = graph.shapes[source]
    spikes = one_hot(shape)
    found = np.zeros(shape, np.int64)
    for delay in {edge.delay for edge in graph.outgoing[source]}:
        values: dict[str, npt.NDArray[np.float64]] = {}
        for name in graph.order[1:]:  # the Input comes first
            entering = np.zeros((len(spikes), *graph.shapes[graph.incoming[name][0].source]))
            for edge in graph.incoming[name]:
                if edge.source == source and edge.delay == delay:
                    entering += spikes
                elif not is_population(graph, edge.source):
                    entering += values[edge.source]
            if is_population(graph, name):
                found += count_nonzero(entering, shape)
            else:
                values[name] = apply(name, graph.ops[name], entering, weights)
    return found


CHAINS: dict[str, tuple[Shape, tuple[Op, ...]]] = {
    "1x1": ((3, 4, 5), (conv((3, 2), 1),)),
    "3x3 padded": ((2, 5, 4), (conv((2, 3), 3, padding=1),)),
    "3x3 unpadded": ((2, 5, 4), (conv((2, 3), 3),)),
    "strided": ((2, 7, 6), (conv((2, 3), 3, stride=2, padding=1),)),
    "stride beyond the kernel": ((2, 7, 7), (conv((2, 3), 1, stride=3),)),
    "unequal sides": (
        (2, 6, 7),
        (Conv2d(in_channels=2, out_channels=2, kernel=(3, 2), stride=(2, 1), padding=(0, 1)),),
    ),
    "padding beyond the kernel": ((1, 3, 3), (conv((1, 2), 2, padding=3),)),
    "kernel beyond the map": ((1, 2, 2), (conv((1, 2), 5, padding=2),)),
    "groups": ((4, 4, 4), (conv((4, 6), 3, padding=1, groups=2),)),
    "depthwise": ((4, 4, 4), (conv((4, 4), 3, padding=1, groups=4),)),
    "pool before": ((2, 6, 6), (pool(2), conv((2, 3), 3, padding=1))),
    "pool that leaves a rest": ((2, 5, 7), (pool(2), conv((2, 3), 3, padding=1))),
    "overlapping pool before": ((2, 7, 7), (pool(3, 2), conv((2, 3), 3, padding=1))),
    "pool after": ((2, 6, 6), (conv((2, 3), 3, padding=1), pool(2))),
    "overlapping pool after": ((2, 7, 7), (conv((2, 3), 3, padding=1), pool(3, 1))),
    "upsampling after": ((3, 3, 3), (conv((3, 4), 1), BatchNorm(channels=4), Upsample(size=(6, 6)))),
    "broken upsampling after": ((3, 3, 4), (conv((3, 4), 1), Upsample(size=(7, 5)))),
    "upsampling before": ((2, 3, 3), (Upsample(size=(5, 8)), conv((2, 2), 3, padding=1))),
    "downsampling before": ((2, 5, 5), (Upsample(size=(3, 2)), conv((2, 2), 2))),
    "fully connected": ((7,), (Linear(in_features=7, out_features=5),)),
    "flattened": ((2, 3, 4), (Flatten(), Linear(in_features=24, out_features=5))),
    "pooled and flattened": (
        (2, 5, 4),
        (pool(2), Flatten(), Dropout(), Linear(in_features=8, out_features=5)),
    ),
    "vector to map": ((4,), (Linear(in_features=4, out_features=3), Upsample(size=(3, 2)))),
    "vector to map and back": (
        (4,),
        (Upsample(size=(2, 3)), Flatten(), Linear(in_features=24, out_features=5)),
    ),
    "flattened to a map": ((2, 3, 2), (Flatten(), Upsample(size=(3, 3)), conv((12, 2), 2))),
    "pooled and flattened to a map": (
        (3, 2, 2),
        (pool(2), Flatten(), Upsample(size=(3, 3)), conv((3, 2), 2)),
    ),
    "flattened, to a map, in groups": (
        (2, 2, 2),
        (pool(1), Flatten(), Upsample(size=(2, 2)), conv((8, 4), 2, groups=4)),
    ),
    "pooled identity": ((2, 5, 5), (pool(2),)),
    "identity": ((2, 3, 3), ()),
}


@pytest.mark.parametrize("case", CHAINS)
def test_exact_psi_of_a_chain_is_the_brute_force_count(case: str) -> None:
    """Perturbing a neuron changes exactly psi outputs: input -> lif -> ops -> end -> readout -> output."""
    shape, ops = CHAINS[case]
    graph = chain(shape, *ops)
    (found,) = [f for f in fanouts(graph) if f.source == "lif"]
    assert found.ops == tuple(f"op{index}" for index in range(len(ops)))
    assert found.kind == "spike"
    assert found.array().dtype == np.int64
    assert found.array().max() > 0
    np.testing.assert_array_equal(found.array(), reached(graph, found))
    np.testing.assert_array_equal(psi(graph)["lif"], found.array())
    np.testing.assert_array_equal(psi(graph, "deployed")["lif"], found.array())
    assert found.total == found.array().sum()


@st.composite
def chains(draw: st.DrawFn) -> Graph:
    """Random chains of 1 to 4 convolutions, pools and upsamplings, legal by construction."""
    shape: Shape = (draw(st.integers(1, 4)), draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    start, ops = shape, []
    sides = st.tuples(st.integers(1, 3), st.integers(1, 3))
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["conv", "conv", "pool", "upsample"]))
        op: Op
        if kind == "conv":
            padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
            groups = draw(st.sampled_from([g for g in (1, 2, 3, 4) if shape[0] % g == 0]))
            op = Conv2d(
                in_channels=shape[0],
                out_channels=groups * draw(st.integers(1, 2)),
                kernel=(
                    draw(st.integers(1, min(4, shape[1] + 2 * padding[0]))),
                    draw(st.integers(1, min(4, shape[2] + 2 * padding[1]))),
                ),
                stride=draw(sides),
                padding=padding,
                groups=groups,
            )
        elif kind == "pool":
            kernel = (draw(st.integers(1, min(3, shape[1]))), draw(st.integers(1, min(3, shape[2]))))
            op = AvgPool2d(kernel=kernel, stride=draw(sides))
        else:
            op = Upsample(size=(draw(st.integers(1, 7)), draw(st.integers(1, 7))))
        ops.append(op)
        shape = output_shape("op", op, shape)
    return chain(start, *ops)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(chains())
def test_random_chains_match_brute_force(graph: Graph) -> None:
    """Each path of a random chain, and the whole chain once deployed, is the brute-force count."""
    for found in fanouts(graph):
        np.testing.assert_array_equal(found.array(), reached(graph, found), err_msg=str(found))
    np.testing.assert_array_equal(psi(graph, "deployed")["lif"], reached_populations(graph, "lif"))
    covered = [name for f in fanouts(graph) if f.source not in ("input", "end") for name in f.ops]
    assert covered == [name for name in graph.ops if name.startswith("op")]


@settings(max_examples=60, derandomize=True, deadline=None)
@given(structures())
def test_random_networks_match_brute_force(structure: Structure) -> None:
    """Residual blocks, pools and backward connections: psi is what one neuron reaches in the whole graph."""
    graph = build(structure)
    found, deployed = psi(graph), psi(graph, "deployed")
    assert list(found) == list(graph.ports)
    for name in graph.ports:
        np.testing.assert_array_equal(found[name], deployed[name])
        np.testing.assert_array_equal(found[name], reached_populations(graph, name))


def test_sum_of_psi_times_spikes_is_the_ones_convolution() -> None:
    """The synaptic operations of random spikes are the sum of their convolution with ones."""
    rng = np.random.default_rng(3)
    for op in (conv((4, 6), 3, 2, 1, groups=2), conv((4, 5), 4, 1, 0), conv((4, 2), 2, 3, 1)):
        graph = chain((4, 8, 7), op)
        spikes = (rng.random((5, 4, 8, 7)) < 0.3).astype(np.float64)
        ones = {"op0.weight": np.ones(parameter_shapes(graph)["op0.weight"])}
        assert (psi(graph)["lif"] * spikes).sum() == apply("op0", op, spikes, ones).sum()


def test_paths_of_a_residual_block_with_a_backward_connection() -> None:
    """Each conv, the identity skip and the backward branch are one path each, the branch with its upsampling.

    input -> stem -> A -> c1 -> B (stride 2) -> c2 -> C -> flatten -> fc -> output;  B -> C;  C ~> A
    """
    ops: dict[str, Op] = {
        "input": Input(shape=(1, 6, 6)),
        "stem": conv((1, 3), 3, padding=1),
        "A": Lif(),
        "c1": conv((3, 4), 3, stride=2, padding=1),
        "B": Lif(),
        "c2": conv((4, 4), 3, padding=1),
        "C": Lif(),
        "flatten": Flatten(),
        "fc": Linear(in_features=36, out_features=2),
        "output": Output(),
    }
    graph = with_backward(Graph(ops, (*edges_along(ops), Edge("B", "C"))), 2, 0)
    found = {str(f): f for f in fanouts(graph)}
    assert list(found) == [
        "input -> stem",
        "A -> c1",
        "B -> c2",
        "B -> C",
        "C -> flatten -> fc",
        "C -> back2_0.conv -> back2_0.norm -> back2_0.upsample (delay 1)",
    ]
    branch = found["C -> back2_0.conv -> back2_0.norm -> back2_0.upsample (delay 1)"]
    assert (branch.target, branch.delay, branch.kind) == ("back2_0.conv", 1, "spike")
    assert (branch.array() == 2 * 2 * 3).all()  # a 1x1 conv to 3 channels, then 2-fold upsampling
    assert branch.nominal == 12
    assert found["B -> C"].target == "C"
    assert (found["B -> C"].array() == 1).all()
    assert found["B -> C"].nominal == 1
    assert found["input -> stem"].kind == "analog"
    assert found["input -> stem"].total == connections(graph, "stem") == 3 * 16 * 16
    for name in ("A", "C"):
        np.testing.assert_array_equal(psi(graph)[name], reached_populations(graph, name))
    merged = reached_populations(graph, "B")  # both paths from B end in the same neurons of C
    np.testing.assert_array_equal(psi(graph)["B"], merged + 1)


def test_a_self_loop_without_ops_is_one_synapse_per_neuron() -> None:
    """A delayed edge of a Lif to itself counts one synapse, and is drawn with both its ends.

    input -> fc -> A -> read -> output;  A ~> A
    """
    ops: dict[str, Op] = {
        "input": Input(shape=(3,)),
        "fc": Linear(in_features=3, out_features=4),
        "A": Lif(),
        "read": Linear(in_features=4, out_features=2),
        "output": Output(),
    }
    graph = Graph(ops, (*edges_along(ops), Edge("A", "A", 1)))
    loop = fanouts(graph)[-1]
    assert (str(loop), loop.total, loop.ops) == ("A -> A (delay 1)", 4, ())
    np.testing.assert_array_equal(psi(graph)["A"], np.full(4, 3))


def test_parallel_edges_and_paths_count_separately() -> None:
    """Two delayed copies of a spike, and a plain and a pooled path into one target, are two synapses each.

    input -> A -> flatten -> fc -> output;  A -> p (1x1 pool) -> B -> flatten;  A -> B;  A ~> B (delay 1)
    """
    ops: dict[str, Op] = {
        "input": Input(shape=(2, 2, 2)),
        "A": Lif(),
        "p": pool(1),
        "B": Lif(),
        "flatten": Flatten(),
        "fc": Linear(in_features=8, out_features=3),
        "output": Output(),
    }
    edges = (*edges_along(ops), Edge("A", "B"), Edge("A", "B", 1), Edge("A", "flatten"))
    graph = Graph(ops, edges)
    assert [str(f) for f in fanouts(graph) if f.source == "A"] == [
        "A -> p -> B",
        "A -> B",
        "A -> B (delay 1)",
        "A -> flatten -> fc",
    ]
    np.testing.assert_array_equal(psi(graph)["A"], np.full((2, 2, 2), 1 + 1 + 1 + 3))


def streams() -> Graph:
    """A stream that feeds two Lifs, one of them through a pool, and a weighted op.

    input -> A -> c -> norm -> B -> fb -> fc -> output
                          |--> p -> D -> fd -> gc -> output
                          `--> w -> E -> fe -> hc -> output
    """
    ops: dict[str, Op] = {
        "input": Input(shape=(2, 4, 4)),
        "A": Lif(),
        "c": conv((2, 3), 3, padding=1),
        "norm": BatchNorm(channels=3),
        "p": pool(2),
        "w": conv((3, 2), 1),
        "B": Lif(),
        "D": Lif(),
        "E": Lif(),
        **{name: Flatten() for name in ("fb", "fd", "fe")},
        "fc": Linear(in_features=48, out_features=2),
        "gc": Linear(in_features=12, out_features=2),
        "hc": Linear(in_features=32, out_features=2),
        "output": Output(),
    }
    ends = "fc output, gc output, hc output"
    pairs = "input A, A c, c norm, norm p, norm B, norm w, p D, w E, B fb, D fd, E fe, fb fc, fd gc, fe hc"
    names = [pair.split() for pair in f"{pairs}, {ends}".split(", ")]
    return Graph(ops, tuple(Edge(source, target) for source, target in names))


def test_a_stream_is_counted_once_unless_deployed() -> None:
    """A conv whose stream feeds several ops counts once; composed, every target population counts."""
    graph = streams()
    from_a = [f for f in fanouts(graph) if f.source == "A"]
    assert [str(f) for f in from_a] == ["A -> c -> norm"]
    np.testing.assert_array_equal(from_a[0].array(), reached(graph, from_a[0]))
    composed = [f for f in fanouts(graph, deployed=True) if f.source == "A"]
    assert [str(f) for f in composed] == [
        "A -> c -> norm -> p -> D",
        "A -> c -> norm -> B",
        "A -> c -> norm -> w -> E",
    ]
    np.testing.assert_array_equal(psi(graph, "deployed")["A"], reached_populations(graph, "A"))
    assert psi_total(graph, "deployed") > psi_total(graph)


def test_a_stream_into_a_weighted_op_is_analog() -> None:
    """What a stream feeds into a conv is listed as analog, belongs to no Lif, and is the brute-force count."""
    graph = streams()
    analog = [f for f in fanouts(graph) if f.kind == "analog"]
    assert [(f.source, f.ops, f.target) for f in analog] == [("input", (), "A"), ("norm", ("w",), "w")]
    assert (analog[1].array() == 2).all()
    np.testing.assert_array_equal(analog[1].array(), reached(graph, analog[1]))
    assert connections(graph, "w") == analog[1].total == 3 * 2 * 16


def test_streams_that_are_summed_are_one_stream() -> None:
    """The sum of two convs that a third one takes is listed once, as what leaves the op that sums them.

    input -> A -> c1 -> norm -> w -> B -> flatten -> fc -> output;  A -> c2 -> norm
    """
    ops: dict[str, Op] = {
        "input": Input(shape=(2, 4, 4)),
        "A": Lif(),
        "c1": conv((2, 3), 3, padding=1),
        "c2": conv((2, 3), 1),
        "norm": BatchNorm(channels=3),
        "w": conv((3, 2), 3, padding=1),
        "B": Lif(),
        "flatten": Flatten(),
        "fc": Linear(in_features=32, out_features=2),
        "output": Output(),
    }
    pairs = "input A, A c1, c1 norm, A c2, c2 norm, norm w, w B, B flatten, flatten fc, fc output"
    names = [pair.split() for pair in pairs.split(", ")]
    graph = Graph(ops, tuple(Edge(source, target) for source, target in names))
    assert [str(f) for f in fanouts(graph)] == [
        "input -> A",
        "A -> c1 -> norm",
        "A -> c2 -> norm",
        "norm -> w",
        "B -> flatten -> fc",
    ]
    assert [f.target for f in fanouts(graph) if f.kind == "analog"] == ["A", "w"]


@pytest.mark.parametrize("name", ["resnet8", "resnet19"])
def test_folding_changes_no_psi(name: str) -> None:
    """BatchNorm and Dropout are no connections: folded and unfolded graphs have the same psi."""
    graph = with_backward(backbone(name, (3, 8, 8), 10), 4, 1)
    weights = positive_weights(graph)
    folded = fold(Network(graph=graph, weights=weights, steps=2)).graph
    assert not folded.training_only
    for mode in ("exact", "nominal", "deployed"):
        before, after = psi(graph, mode), psi(folded, mode)
        for port in graph.ports:
            np.testing.assert_array_equal(before[port], after[port])


def taps(length: int, kernel: int, stride: int, padding: int) -> int:
    """Taps inside the map along one axis, counted one by one."""
    outputs = (length + 2 * padding - kernel) // stride + 1
    return sum(0 <= o * stride + k - padding < length for o in range(outputs) for k in range(kernel))


@pytest.mark.parametrize(
    ("name", "exact", "nominal"),
    [("resnet18", 480_428_032, 553_918_464), ("resnet19", 2_110_065_152, 2_290_649_600)],
)
def test_totals_of_the_backbones(name: str, exact: int, nominal: int) -> None:
    """Totals of resnet18 and resnet19 at 3x32x32, which follow tap by tap from their convolutions."""
    graph = backbone(name, (3, 32, 32), 10)
    expected = 0
    for op_name, op in graph.ops.items():
        before = graph.shapes[graph.incoming[op_name][0].source] if graph.incoming[op_name] else ()
        if isinstance(op, Conv2d) and op_name != "stem.conv":
            sides = (
                taps(n, k, s, p)
                for n, k, s, p in zip(before[1:], op.kernel, op.stride, op.padding, strict=True)
            )
            expected += op.in_channels * op.out_channels * math.prod(sides)
        elif isinstance(op, Linear):  # behind the global pool, which every pixel of the last map enters
            pixels = math.prod(graph.shapes[graph.incoming["pool"][0].source][1:])
            behind_pool = op.in_features == graph.shapes["pool"][0]
            expected += op.in_features * op.out_features * (pixels if behind_pool else 1)
        elif isinstance(op, Lif):  # identity skips
            skips = [e for e in graph.incoming[op_name] if isinstance(graph.ops[e.source], Lif)]
            expected += len(skips) * math.prod(before)
    assert psi_total(graph) == psi_total(graph, "deployed") == expected == exact
    assert psi_total(graph, "nominal") == nominal
    assert sum(int(array.sum()) for array in psi(graph).values()) == exact


def vgg11() -> Graph:
    """C64-A-C128-C256-A-C512-C512-A-C512-A-C512-C512-FC4096-FC4096-FC10, a LIF after each but the last.

    C is a 3x3 convolution with padding 1 and A a 2x2 average pool of the spikes; 32x32x3 input.
    """
    ops: dict[str, Op] = {"input": Input(shape=(3, 32, 32))}
    channels, side = 3, 32
    for index, width in enumerate([64, 0, 128, 256, 0, 512, 512, 0, 512, 0, 512, 512]):
        if width:
            ops |= {f"conv{index}": conv((channels, width), 3, padding=1), f"lif{index}": Lif()}
            channels = width
        else:
            ops[f"pool{index}"] = pool(2)
            side //= 2
    ops["flatten"] = Flatten()
    ops |= {"fc1": Linear(in_features=channels * side * side, out_features=4096), "lif_fc1": Lif()}
    ops |= {"fc2": Linear(in_features=4096, out_features=4096), "lif_fc2": Lif()}
    ops |= {"fc3": Linear(in_features=4096, out_features=10), "output": Output()}
    return Graph(ops, edges_along(ops))


def preactivation_resnet18() -> Graph:
    """Streams of convolutions, summed where they are normalised: S is BN -> LIF, {} a sum of streams.

    {x} -> S -> C3x3 -> {} -> S -> C3x3 -> {x'};   x' also takes x, or in a strided block x -> S -> C1x1
    """
    ops: dict[str, Op] = {"input": Input(shape=(3, 32, 32)), "stem": conv((3, 64), 3, padding=1)}
    edges = [Edge("input", "stem")]

    def spike_conv(name: str, sources: list[str], op: Conv2d) -> list[str]:
        ops.update(
            {f"{name}.norm": BatchNorm(channels=op.in_channels), f"{name}.lif": Lif(), f"{name}.conv": op}
        )
        edges.extend(Edge(source, f"{name}.norm") for source in sources)
        edges.extend([Edge(f"{name}.norm", f"{name}.lif"), Edge(f"{name}.lif", f"{name}.conv")])
        return [f"{name}.conv"]

    stream, channels = ["stem"], 64
    for index, width in enumerate([64, 64, 128, 128, 256, 256, 512, 512]):
        stride = 1 if width == channels else 2
        inner = spike_conv(f"b{index}.1", stream, conv((channels, width), 3, stride, 1))
        outer = spike_conv(f"b{index}.2", inner, conv((width, width), 3, 1, 1))
        if stride == 2:
            stream = spike_conv(f"b{index}.skip", stream, conv((channels, width), 1, stride))
        stream, channels = stream + outer, width
    last = spike_conv("last", stream, conv((512, 10), 1))
    ops |= {"pool": pool(4), "flatten": Flatten(), "output": Output()}
    edges += [Edge(last[0], "pool"), Edge("pool", "flatten"), Edge("flatten", "output")]
    return Graph(ops, tuple(edges))


@pytest.mark.parametrize(
    ("graph", "neurons", "layers", "total"),
    [(vgg11(), 249_856, 10, 827_367_424), (preactivation_resnet18(), 671_744, 20, 553_730_048)],
    ids=["vgg11", "preactivation_resnet18"],
)
def test_nominal_psi_gives_the_published_counts(graph: Graph, neurons: int, layers: int, total: int) -> None:
    """Neurons, spiking layers and eq. 6 summed over all neurons, as table 1 of Spiking Synaptic Penalty.

    The table's total for VGG11 counts each pooled synapse four times; this is the total without that.
    """
    assert sum(math.prod(graph.shapes[name]) for name in graph.ports) == neurons
    assert len(graph.ports) == layers
    assert psi_total(graph, "nominal") == total
    assert sum(array.sum() for array in psi(graph, "nominal").values()) == total
    assert psi_total(graph) < total  # borders


def test_vgg11_total_of_the_paper_counts_pooled_synapses_four_times() -> None:
    """The printed 2 526 060 544 is reached by counting four times whatever leaves a pool."""
    total = Fraction()
    for found in fanouts(vgg11()):
        if found.kind == "spike":
            total += found.nominal_total * (4 if any(name.startswith("pool") for name in found.ops) else 1)
    assert total == 2_526_060_544


def test_nominal_psi_is_eq_6_with_the_own_input_map_of_each_conv() -> None:
    """Constant over a layer: (W' H' / W H) C' k^2 per conv, divided by its groups, and C' per Linear."""
    strided = chain((4, 9, 6), conv((4, 6), 3, 2, 0, groups=2))  # 9x6 -> 4x2
    assert fanouts(strided)[1].nominal == Fraction(4 * 2, 9 * 6) * 3 * 9
    np.testing.assert_allclose(psi(strided, "nominal")["lif"], np.full((4, 9, 6), 4.0))
    pooled = chain((4, 9, 6), pool(3), conv((4, 6), 3, 1, 1))
    assert fanouts(pooled)[1].nominal == 6 * 9
    dense = chain((2, 4, 4), pool(2), Flatten(), Linear(in_features=8, out_features=5))
    assert fanouts(dense)[1].nominal == 5
    thirds = chain((1, 3, 3), conv((1, 1), 2))  # 3x3 -> 2x2, and the readout flattens 4 neurons into 2
    assert psi_total(thirds, "nominal") == 4 * 4 + 4 * 2
    assert isinstance(psi_total(thirds, "nominal"), int)
    assert psi_total(chain((1, 3, 3), pool(2)), "nominal") == 4 + 2


def test_psi_of_a_large_network_needs_no_dense_matrix() -> None:
    """resnet18 at 3x224x224: int64 counts of 27 million neurons, from factors of a few hundred numbers."""
    graph = backbone("resnet18", (3, 224, 224), 10)
    found = fanouts(graph)
    assert sum(f.total for f in found if f.kind == "spike") == psi_total(graph) == 26_601_373_696
    assert max(factor.size for f in found for factor in f.factors) == 512


def test_upsampling_a_large_flattened_map_is_refused_with_a_remedy() -> None:
    """Flattening merges the axes; where that matrix would be huge, the message names the op and a way out."""
    graph = chain((8, 64, 64), Flatten(), Upsample(size=(2, 2)))
    with pytest.raises(GraphError, match=r"op1: upsamples a flattened map.*put a Linear between"):
        psi(graph)


def test_connections_of_an_unweighted_op_are_refused() -> None:
    """Only a Conv2d or Linear multiplies."""
    with pytest.raises(GraphError, match="op0: must be a Conv2d or Linear, got AvgPool2d"):
        connections(chain((2, 4, 4), pool(2)), "op0")
