"""Shapes follow from the ops alone, loops included."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snndeploy.errors import GraphError
from snndeploy.ir import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    Input,
    Lif,
    Linear,
    Op,
    Output,
    Shape,
    Upsample,
)
from snndeploy.ir.shapes import output_shape
from tests.ir.graphs import conv, direct, linear, wired

SIZES = st.integers(1, 9)
PAIRS = st.tuples(st.integers(1, 4), st.integers(1, 4))


@pytest.mark.parametrize(
    ("op", "shape", "expected"),
    [
        (Input(shape=(2, 3, 4)), (), (2, 3, 4)),
        (Linear(in_features=3, out_features=5), (3,), (5,)),
        (BatchNorm(channels=3), (3, 4, 5), (3, 4, 5)),
        (BatchNorm(channels=3), (3,), (3,)),
        (Lif(), (3, 4, 5), (3, 4, 5)),
        (Dropout(), (7,), (7,)),
        (AvgPool2d(kernel=(2, 3), stride=(2, 1)), (4, 7, 5), (4, 3, 3)),
        (Upsample(size=(5, 7)), (3, 2, 2), (3, 5, 7)),
        (Upsample(size=(1, 2)), (3, 4, 4), (3, 1, 2)),
        (Upsample(size=(3, 2)), (6,), (6, 3, 2)),
        (Flatten(), (2, 3, 4), (24,)),
        (Output(), (3,), (3,)),
    ],
)
def test_shape_of_each_op(op: Op, shape: Shape, expected: Shape) -> None:
    """Each op gives the shape its documentation says; a vector is upsampled as a 1 x 1 map."""
    assert output_shape("op", op, shape) == expected


@given(size=st.tuples(SIZES, SIZES), kernel=PAIRS, stride=PAIRS, padding=st.tuples(*[st.integers(0, 2)] * 2))
def test_windows_agree_with_torch(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    """Convolution and pooling have torch's shapes, or are refused where torch refuses them."""
    op = Conv2d(in_channels=1, out_channels=2, kernel=kernel, stride=stride, padding=padding)
    x = torch.zeros(1, 1, *size)
    fits = all(n + 2 * p >= k for n, k, p in zip(size, kernel, padding, strict=True))
    if fits:
        expected = torch.nn.functional.conv2d(x, torch.zeros(2, 1, *kernel), stride=stride, padding=padding)
        assert output_shape("op", op, (1, *size)) == tuple(expected.shape[1:])
    else:
        with pytest.raises(GraphError, match="must fit into"):
            output_shape("op", op, (1, *size))
    if all(n >= k for n, k in zip(size, kernel, strict=True)):
        pooled = torch.nn.functional.avg_pool2d(x, kernel, stride)
        assert output_shape("op", AvgPool2d(kernel=kernel, stride=stride), (1, *size)) == pooled.shape[1:]


@pytest.mark.parametrize(
    ("op", "shape", "rule"),
    [
        (conv(3, 4), (2, 8, 8), "Conv2d takes 3 channels"),
        (conv(3, 4), (3,), "Conv2d takes a map"),
        (linear(3, 4), (3, 1, 1), r"Linear takes \(3,\)"),
        (linear(3, 4), (4,), r"Linear takes \(3,\)"),
        (BatchNorm(channels=3), (4, 2, 2), "BatchNorm takes 3 channels"),
        (AvgPool2d(kernel=(2, 2), stride=(2, 2)), (4,), "AvgPool2d takes a map"),
        (AvgPool2d(kernel=(3, 3), stride=(2, 2)), (4, 2, 5), "a window of 3 must fit into 2"),
        (Flatten(), (4,), "Flatten takes a map"),
        (Output(), (3, 1, 1), r"Output takes \(classes,\)"),
    ],
)
def test_shapes_an_op_does_not_take(op: Op, shape: Shape, rule: str) -> None:
    """The message names the op, what it takes, what it got and what to do."""
    with pytest.raises(GraphError, match=f"^name: {rule}") as caught:
        output_shape("name", op, shape)
    assert caught.value.got is not None or "window" in rule
    assert caught.value.remedy


def test_backward_branch_whose_source_comes_later() -> None:
    """Shapes go round a loop: the branch from l2 (4 x 4 x 4) fits l1 (2 x 8 x 8).

    in -> c1 -> l1 -> c2 (stride 2) -> l2 -> flat -> fc -> out, and l2 -(1)-> back -> up -> l1
    """
    ops: dict[str, Op] = {
        "back": conv(4, 2, 1),
        "up": Upsample(size=(8, 8)),
        "in": Input(shape=(1, 8, 8)),
        "c1": conv(1, 2),
        "l1": Lif(),
        "c2": conv(2, 4, stride=2),
        "l2": Lif(),
        "flat": Flatten(),
        "fc": linear(64, 3),
        "out": Output(),
    }
    graph = wired(ops, "in c1 l1 c2 l2 flat fc out", "l2 ~1 back up l1")
    assert graph.shapes == {
        "in": (1, 8, 8),
        "c1": (2, 8, 8),
        "l1": (2, 8, 8),
        "c2": (4, 4, 4),
        "l2": (4, 4, 4),
        "flat": (64,),
        "fc": (3,),
        "out": (3,),
        "back": (2, 4, 4),
        "up": (2, 8, 8),
    }
    assert graph.order.index("back") < graph.order.index("l1"), "computed before its target"


def test_wrong_size_of_a_backward_branch_is_found() -> None:
    """Graph: in -> l1 -> fc (2 to 3) -> l2 -> out and l2 -(1)-> l1 directly: 3 features meet 2."""
    ops: dict[str, Op] = {
        "in": Input(shape=(2,)),
        "l1": Lif(),
        "fc": linear(2, 3),
        "l2": Lif(),
        "out": Output(),
    }
    with pytest.raises(GraphError, match=r"in gives \(2,\), l2 gives \(3,\)") as caught:
        wired(ops, "in l1 fc l2 out", "l2 ~1 l1")
    assert caught.value.where == "l1"


def test_self_loops_and_loops_of_delayed_edges_only() -> None:
    """Graph: in -> a -> out, a -(1)-> a, a -(2)-> b -(1)-> a: b has no input within the same step."""
    graph = direct("in a out", "a ~1 a", "a ~2 b ~1 a", features=5)
    assert set(graph.shapes.values()) == {(5,)}


def test_nothing_is_computed_or_allocated_for_huge_shapes() -> None:
    """A shape of 2^31 - 1 along each axis costs nothing."""
    huge = 2**31 - 1
    ops: dict[str, Op] = {
        "in": Input(shape=(huge, huge, huge)),
        "l": Lif(),
        "flat": Flatten(),
        "out": Output(),
    }
    assert wired(ops, "in l flat out").shapes["out"] == (huge**3,)
