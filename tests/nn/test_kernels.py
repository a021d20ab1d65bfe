"""Stateless ops in PyTorch against the interpreter's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snndeploy import ir
from snndeploy.ir import AvgPool2d, Conv2d, Flatten, Linear, Shape, Upsample
from snndeploy.ir.kernels import apply as expected
from snndeploy.ir.network import op_parameters
from snndeploy.nn.kernels import Stateless, apply

CASES: list[tuple[Stateless, Shape]] = [
    (
        Conv2d(in_channels=4, out_channels=6, kernel=(3, 2), stride=(2, 1), padding=(1, 0), groups=2),
        (4, 7, 5),
    ),
    (Conv2d(in_channels=3, out_channels=2, kernel=(1, 1), bias=True), (3, 4, 4)),
    (Linear(in_features=6, out_features=3, bias=True), (6,)),
    (Linear(in_features=6, out_features=3), (6,)),
    (AvgPool2d(kernel=(2, 3), stride=(2, 2)), (3, 7, 8)),
    (Upsample(size=(8, 4)), (3, 4, 2)),
    (Upsample(size=(7, 3)), (3, 3, 7)),
    (Upsample(size=(2, 2)), (3, 4, 4)),
    (Upsample(size=(4, 4)), (3, 4, 4)),
    (Upsample(size=(3, 2)), (5,)),
    (Flatten(), (3, 2, 4)),
]


@pytest.mark.parametrize(("op", "shape"), CASES, ids=str)
def test_is_the_interpreter(op: Stateless, shape: Shape) -> None:
    """Every op, in odd sizes too, gives what the interpreter gives."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, *shape))
    own = {name: rng.normal(size=size) for name, size in op_parameters(op).items()}
    found = apply(op, torch.from_numpy(x), {name: torch.from_numpy(a) for name, a in own.items()})
    reference = expected("op", op, x, {f"op.{name}": a for name, a in own.items()})
    assert found.shape[1:] == ir.shapes.output_shape("op", op, shape)
    np.testing.assert_allclose(found.numpy(), reference, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("size", "shape"), [((8, 4), (3, 4, 2)), ((7, 3), (3, 3, 7)), ((3, 2), (5,))])
def test_upsample_passes_the_gradient_to_what_was_read(size: tuple[int, int], shape: Shape) -> None:
    """Each input gets the sum of the gradients of the places that read it."""
    x = torch.zeros(2, *shape, dtype=torch.float64, requires_grad=True)
    weights = torch.from_numpy(np.random.default_rng(1).normal(size=(2, shape[0], *size)))
    (apply(Upsample(size=size), x, {}) * weights).sum().backward()  # type: ignore[no-untyped-call]
    height, width = shape[1:] or (1, 1)
    gradient = np.zeros((2, shape[0], height, width))
    for row in range(size[0]):
        for column in range(size[1]):
            gradient[:, :, row * height // size[0], column * width // size[1]] += weights[
                :, :, row, column
            ].numpy()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), gradient.reshape(x.shape), rtol=1e-12)
