"""Each op's arithmetic against torch and against plain loops."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snndeploy.ir import AvgPool2d, BatchNorm, Conv2d, Dropout, Flatten, Lif, Linear, Op, Output, Upsample
from snndeploy.ir.kernels import apply

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


def given_by_torch(function: object, *tensors: npt.NDArray[np.float64], **options: object) -> torch.Tensor:
    """A torch function of NumPy arrays."""
    assert callable(function)
    result = function(*(torch.from_numpy(t) for t in tensors), **options)
    assert isinstance(result, torch.Tensor)
    return result


@given(
    batch=st.integers(0, 3),
    groups=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    size=st.tuples(st.integers(3, 7), st.integers(3, 7)),
    kernel=PAIRS,
    stride=PAIRS,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_convolution_agrees_with_torch(
    batch: int,
    groups: int,
    channels: tuple[int, int],
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    bias: bool,
    seed: int,
) -> None:
    """Any groups, kernel, stride and padding, also with an empty batch."""
    rng = np.random.default_rng(seed)
    op = Conv2d(
        in_channels=groups * channels[0],
        out_channels=groups * channels[1],
        kernel=kernel,
        stride=stride,
        padding=padding,
        groups=groups,
        bias=bias,
    )
    x = rng.normal(size=(batch, op.in_channels, *size))
    weights = {"c.weight": rng.normal(size=(op.out_channels, channels[0], *kernel))}
    if bias:
        weights["c.bias"] = rng.normal(size=op.out_channels)
    expected = given_by_torch(
        torch.nn.functional.conv2d, x, *weights.values(), stride=stride, padding=padding, groups=groups
    )
    found = apply("c", op, x, weights)
    assert found.shape == tuple(expected.shape)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("kernel", "stride"), [((2, 2), (2, 2)), ((3, 2), (1, 2)), ((1, 1), (2, 2)), ((2, 3), (3, 1))]
)
def test_pooling_agrees_with_torch(kernel: tuple[int, int], stride: tuple[int, int]) -> None:
    """Means over windows; what does not fill a window is left out."""
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 8))
    expected = given_by_torch(torch.nn.functional.avg_pool2d, x, kernel_size=kernel, stride=stride)
    found = apply("p", AvgPool2d(kernel=kernel, stride=stride), x, {})
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-13, atol=1e-13)


@given(source=PAIRS, size=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_upsampling_reads_whole_number_indices(source: tuple[int, int], size: tuple[int, int]) -> None:
    """Output position i reads input position (i * in) // out in whole numbers, also downwards."""
    x = np.arange(2 * 3 * source[0] * source[1], dtype=np.float32).reshape(2, 3, *source)
    found = apply("u", Upsample(size=size), x, {})
    assert found.shape == (2, 3, *size)
    for row, column in product(range(size[0]), range(size[1])):
        read = x[:, :, row * source[0] // size[0], column * source[1] // size[1]]
        assert (found[:, :, row, column] == read).all()


def test_upsampling_a_vector() -> None:
    """A vector is a map of one pixel."""
    x = np.arange(6.0).reshape(2, 3)
    assert (apply("u", Upsample(size=(2, 4)), x, {}) == x[:, :, None, None] * np.ones((2, 4))).all()


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 5)])
def test_batch_normalisation_agrees_with_torch(shape: tuple[int, ...]) -> None:
    """Running statistics, for maps and vectors."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    own = {n: rng.uniform(0.5, 2, 3) for n in ("running_mean", "running_var", "weight", "bias")}
    expected = given_by_torch(torch.nn.functional.batch_norm, x, *own.values(), eps=1e-3)
    found = apply("n", BatchNorm(channels=3, epsilon=1e-3), x, {f"n.{k}": v for k, v in own.items()})
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-12)


@pytest.mark.parametrize("bias", [False, True])
def test_fully_connected_agrees_with_torch(bias: bool) -> None:
    """Weights are (out, in), the bias is per output."""
    rng = np.random.default_rng(0)
    x, weight, shift = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=5)
    expected = given_by_torch(torch.nn.functional.linear, x, weight, *([shift] if bias else []))
    found = apply(
        "f", Linear(in_features=3, out_features=5, bias=bias), x, {"f.weight": weight, "f.bias": shift}
    )
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-12)


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_flattening_is_channel_major(batch: int) -> None:
    """(channels, height, width) in C order, also for an empty batch."""
    x = np.arange(batch * 24.0).reshape(batch, 2, 3, 4)
    found = apply("f", Flatten(), x, {})
    assert found.shape == (batch, 24)
    assert all((found[b] == x[b].ravel()).all() for b in range(batch))


@pytest.mark.parametrize("op", [Lif(), Dropout(), Output()])
def test_ops_that_pass_values_through(op: Op) -> None:
    """Their state, if any, belongs to the interpreter; dropout acts only while training."""
    x = np.random.default_rng(0).normal(size=(2, 3))
    assert (apply("n", op, x, {}) == x).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_input_decides_the_precision(dtype: type[np.float32] | type[np.float64]) -> None:
    """Weights are taken in the precision of the input, and so is the result."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 4, 4)).astype(dtype)
    weights: dict[str, npt.NDArray[Any]] = {
        "n.weight": rng.normal(size=(3, 3, 1, 1)).astype(np.float32),
        **{f"b.{name}": rng.uniform(1, 2, 3) for name in ("weight", "bias", "running_mean", "running_var")},
    }
    conv = Conv2d(in_channels=3, out_channels=3, kernel=(1, 1))
    assert apply("n", conv, x, weights).dtype == dtype
    assert apply("b", BatchNorm(channels=3), x, weights).dtype == dtype
    assert apply("p", AvgPool2d(kernel=(2, 2), stride=(2, 2)), x, weights).dtype == dtype


def test_nothing_is_changed_in_place() -> None:
    """Inputs and weights stay as they were, whatever op reads them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3))
    weights = {"f.weight": rng.normal(size=(4, 3)), "f.bias": rng.normal(size=4)}
    before = [x.copy(), *(w.copy() for w in weights.values())]
    apply("f", Linear(in_features=3, out_features=4, bias=True), x, weights)
    assert all((a == b).all() for a, b in zip(before, [x, *weights.values()], strict=True))
