"""Batch normalisation per step: what is averaged over what, and when the running statistics move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from snndeploy.errors import NetworkError
from snndeploy.ir import BatchNorm, Edge, Graph, Input, Lif, Linear, Output
from snndeploy.nn import SpikingNetwork
from snndeploy.nn.batchnorm import BatchStatistics, StepwiseNorm, quiet_steps

CHANNELS = 3


def norm(quiet: int, *, batch_statistics: BatchStatistics = True) -> StepwiseNorm:
    """A BatchNorm none of whose numbers is a default."""
    rng = np.random.default_rng(7)
    weight, bias, mean, variance = torch.from_numpy(rng.uniform(0.5, 1.5, (4, CHANNELS)))
    return StepwiseNorm(
        "n", BatchNorm(channels=CHANNELS, epsilon=0.01), weight, bias, mean, variance, quiet, batch_statistics
    )


def maps(steps: int = 4) -> Tensor:
    """Values whose mean and spread differ from step to step, (time, batch 5, channels, 2, 2)."""
    rng = np.random.default_rng(3)
    level, spread = (
        rng.normal(0, 2, (steps, 1, CHANNELS, 1, 1)),
        rng.uniform(0.5, 3, (steps, 1, CHANNELS, 1, 1)),
    )
    return torch.from_numpy(level + spread * rng.normal(size=(steps, 5, CHANNELS, 2, 2)))


def test_each_step_is_normalised_by_itself() -> None:
    """Mean and spread of every step and channel are those of bias and weight, whatever the other steps hold."""
    n, x = norm(0), maps()
    y = n(x, 0)
    torch.testing.assert_close(y.mean((1, 3, 4)), n.bias.expand(4, -1))
    variance = x.var((1, 3, 4), correction=0)
    expected = n.weight * (variance / (variance + 0.01)).sqrt()
    torch.testing.assert_close(y.std((1, 3, 4), correction=0), expected)


def test_statistics_are_the_mean_over_the_steps() -> None:
    """The mean of the steps' means and of their unbiased variances, not the variance of all values together."""
    n, x = norm(0), maps()
    n(x, 0)
    found = n.statistics()
    assert found is not None
    torch.testing.assert_close(found[0], x.mean((1, 3, 4)).mean(0))
    torch.testing.assert_close(found[1], x.var((1, 3, 4), correction=1).mean(0))
    assert (x.transpose(1, 2).transpose(0, 1).flatten(1).var(1) > 1.1 * found[1]).any()


@pytest.mark.parametrize("quiet", [0, 1, 3])
def test_steps_one_by_one_are_the_same(quiet: int) -> None:
    """A loop body, which sees one step at a time, gets the same values and the same statistics."""
    folded, stepped, x = norm(quiet), norm(quiet), maps()
    y = folded(x, 0)
    parts = [stepped(x[t : t + 1], t) for t in range(4)]
    assert torch.equal(torch.cat(parts), y)
    ours, theirs = stepped.statistics(), folded.statistics()
    assert ours is not None
    assert theirs is not None
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])


def test_quiet_steps_use_the_running_statistics_and_count_for_nothing() -> None:
    """Before anything can arrive the output is that of evaluation; the statistics are those of later steps."""
    n, x = norm(2), maps()
    y = n(x, 0)
    assert torch.equal(y[:2], norm(2, batch_statistics=False)(x, 0)[:2])
    torch.testing.assert_close(y[2:].mean((1, 3, 4)), n.bias.expand(2, -1))
    found = n.statistics()
    assert found is not None
    torch.testing.assert_close(found[0], x[2:].mean((1, 3, 4)).mean(0))


def test_no_statistics_without_a_step_that_counts() -> None:
    """In evaluation, and when all steps are quiet, there is nothing to update the running statistics with."""
    for n in (norm(4), norm(0, batch_statistics=False)):
        n(maps(), 0)
        assert n.statistics() is None


def test_one_value_per_channel_has_no_variance() -> None:
    """The message names the op and the remedy."""
    with pytest.raises(NetworkError, match=r"^n: batch statistics need more than one value .* larger batch$"):
        norm(0)(torch.zeros(4, 1, CHANNELS, dtype=torch.float64), 0)


def test_quiet_steps_of_a_graph(topologies: Mapping[str, Callable[[], Graph]]) -> None:
    """An op is quiet until the earliest of its sources arrives; a population restarts the count.

                 .--- delay 2 --- late.conv - late.norm ---.
    input - a.lif - b.conv - b.norm - b.lif - c.conv - c.norm - c.lif
        '------ delay 1 ----^
    """
    quiet = quiet_steps(topologies["delayed_skip"]())
    assert {name: count for name, count in quiet.items() if count} == {"late.conv": 2, "late.norm": 2}
    only_delayed = Graph(
        {
            "input": Input(shape=(2,)),
            "fc": Linear(in_features=2, out_features=2),
            "norm": BatchNorm(channels=2),
            "lif": Lif(),
            "last": Linear(in_features=2, out_features=2),
            "output": Output(),
        },
        (
            Edge("input", "fc", 2),
            Edge("fc", "norm"),
            Edge("norm", "lif"),
            Edge("lif", "last"),
            Edge("last", "output"),
        ),
    )
    expected = {"input": 0, "fc": 2, "norm": 2, "lif": 2, "last": 0, "output": 0}
    assert quiet_steps(only_delayed) == expected


def test_running_statistics_move_once_per_forward_pass(graph: Graph) -> None:
    """By a tenth of the way to the batch's, in training only, and never in place."""
    network = SpikingNetwork(graph, seed=1).train()
    x = torch.from_numpy(
        np.random.default_rng(0).normal(size=(5, 4, *graph.shapes["input"])).astype(np.float32)
    )
    norms = [name for name, op in graph.ops.items() if isinstance(op, BatchNorm)]
    before = {n: (network.tensor(f"{n}.running_mean"), network.tensor(f"{n}.running_var")) for n in norms}
    copies = {n: (mean.clone(), variance.clone()) for n, (mean, variance) in before.items()}
    batch = network.simulate(x, batch_statistics=True).statistics if "drop" not in graph.ops else None
    logits = network(x)
    for name in norms:
        for kind, place in (("running_mean", 0), ("running_var", 1)):
            assert torch.equal(before[name][place], copies[name][place])
            assert not torch.equal(network.tensor(f"{name}.{kind}"), copies[name][place])
            if batch is not None:
                expected = 0.9 * copies[name][place] + 0.1 * batch[name][place]
                torch.testing.assert_close(network.tensor(f"{name}.{kind}"), expected)
    logits.sum().backward()  # fails if a tensor that autograd needs was changed in place

    network.eval()
    moved = {name: tensor.clone() for name, tensor in network.named_buffers()}
    network(x)
    assert all(torch.equal(tensor, moved[name]) for name, tensor in network.named_buffers())


@pytest.fixture
def group(tmp_path: Path) -> Iterator[dist.ProcessGroup]:
    """This process as a group of its own; two are at work in tests/train/test_distributed.py."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    assert dist.group.WORLD is not None
    yield dist.group.WORLD
    dist.destroy_process_group()


@pytest.mark.parametrize("quiet", [0, 1, 4])
def test_a_group_is_like_one_process(group: dist.ProcessGroup, quiet: int) -> None:
    """Values, statistics and gradients, for all steps at once and one by one."""
    alone, folded, stepped = (
        norm(quiet),
        norm(quiet, batch_statistics=group),
        norm(quiet, batch_statistics=group),
    )
    found = []
    for n in (alone, folded, stepped):
        x = maps().requires_grad_()
        leaves = [x, n.weight.requires_grad_(), n.bias.requires_grad_()]
        y = torch.cat([n(x[t : t + 1], t) for t in range(4)]) if n is stepped else n(x, 0)
        gradients = torch.autograd.grad((y * maps().cos()).sum(), leaves)
        found.append((y, *gradients, *(n.statistics() or ())))
    assert len(found[0]) == (4 if quiet == 4 else 6)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(two, one, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_a_group(group: dist.ProcessGroup) -> None:
    """It is that of finite differences, for maps and for vectors."""
    for x in (maps(2), maps(2)[..., 0, 0]):
        n = norm(0, batch_statistics=group)

        def normalised(x: Tensor, weight: Tensor, bias: Tensor, n: StepwiseNorm = n) -> Tensor:
            n.weight, n.bias = weight, bias
            return n(x, 0)

        leaves = [leaf.clone().requires_grad_() for leaf in (x, n.weight, n.bias)]
        assert torch.autograd.gradcheck(normalised, leaves)


def test_large_means_lose_nothing(group: dist.ProcessGroup) -> None:
    """In single precision the variance of values around 10 000 is right, as no squares of them are subtracted."""
    spread = maps() / maps().std()
    n = norm(0, batch_statistics=group)
    n(spread.float() + 1e4, 0)
    statistics = n.statistics()
    assert statistics is not None
    expected = (spread.float() + 1e4).double().var((1, 3, 4), correction=1).mean(0)
    torch.testing.assert_close(statistics[1], expected.float(), rtol=1e-4, atol=0)


def test_the_gradient_of_a_single_sample() -> None:
    """It does not depend on how the sample lies in memory, here as a convolution may leave it."""
    n = norm(0, batch_statistics=False)
    x = maps(1)[:, :1]
    odd = torch.empty_like(x).flatten().as_strided(x.shape, (4, 3, 1, 6, 3)).copy_(x)
    found = []
    for values in (x, odd):
        leaf = values.detach().requires_grad_()
        y = n(leaf, 0)
        found.append((y, *torch.autograd.grad((y * x.cos()).sum(), leaf)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)
    scale = n.weight / (n.running_var + 0.01).sqrt()
    torch.testing.assert_close(found[1][1], x.cos() * scale.view(-1, 1, 1), rtol=1e-12, atol=1e-12)
