"""Compiled neurons do what the operations of PyTorch do, and where there are none, those serve."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from snndeploy.ir import Graph, Lif
from snndeploy.nn import ScaledSigmoid, SpikingNetwork, Surrogate, Triangle
from snndeploy.nn.compiled import SWITCH, Addend, Fused, Norm, available, build, calls, fused
from snndeploy.nn.compiled.library import cache_folder
from snndeploy.nn.lif import lif

EPSILON = 1e-5
needs_compiler = pytest.mark.skipif(build().library is None, reason=build().problem)


class Case:
    """Two normalised addends and a direct one, what the neurons held before, and gradients from above.

    Args:
        steps: Time steps.
        shape: (batch, *shape).
        quiet: Steps of the second addend that are normalised with running statistics.
        static: Whether the first addend is the same at every step.
    """

    def __init__(self, steps: int, shape: tuple[int, ...], *, quiet: int = 0, static: bool = False) -> None:
        generator = torch.Generator().manual_seed(steps + 10 * quiet + 100 * len(shape))
        channels = shape[1]

        def normal(*size: int) -> Tensor:
            return torch.randn(*size, generator=generator)

        self.steps, self.quiet = steps, (0, quiet)
        self.xs = [2 * normal(1 if static and not k else steps, *shape) + 0.3 for k in range(3)]
        self.weights = [normal(channels) + 1 for _ in range(2)]
        self.biases = [0.3 * normal(channels) for _ in range(2)]
        self.means = [normal(channels) for _ in range(2)]
        self.variances = [normal(channels).abs() + 0.5 for _ in range(2)]
        self.rest = normal(*shape)
        self.from_spikes, self.from_rest = normal(steps, *shape), normal(*shape)
        self.leaves = [*self.xs, *self.weights, *self.biases, self.rest]
        for leaf in self.leaves:
            leaf.requires_grad_()

    def current(self, k: int) -> Tensor:
        """A normalised addend at every step, by PyTorch."""
        steps = []
        for t, x in enumerate(self.xs[k].expand(self.steps, *self.rest.shape)):
            known = t < self.quiet[k]
            steps.append(
                F.batch_norm(
                    x,
                    self.means[k] if known else None,
                    self.variances[k] if known else None,
                    self.weights[k],
                    self.biases[k],
                    training=not known,
                    eps=EPSILON,
                )
            )
        return torch.stack(steps)

    def by_torch(self, surrogate: Surrogate) -> tuple[Tensor, Tensor, Tensor]:
        """Spikes, rest and potentials, an operation after the other."""
        total = self.current(0) + self.current(1) + self.xs[2]
        return lif(total, Lif(tau=0.5), surrogate, self.rest)

    def compiled(self, surrogate: Surrogate) -> tuple[Tensor, Tensor, Tensor]:
        """The same from compiled neurons."""
        done = self.fused(surrogate)
        return done.spikes, done.rest, done.potentials

    def fused(self, surrogate: Surrogate, count_power: int | None = None) -> Fused:
        """All that compiled neurons give."""
        addends = [
            Addend(
                self.xs[k],
                Norm(
                    self.weights[k], self.biases[k], self.means[k], self.variances[k], EPSILON, self.quiet[k]
                ),
            )
            for k in range(2)
        ]
        return fused(
            [*addends, Addend(self.xs[2], None)],
            Lif(tau=0.5),
            surrogate,
            steps=self.steps,
            rest=self.rest,
            count_power=count_power,
        )

    def gradients(self, spikes: Tensor, rest: Tensor) -> tuple[Tensor, ...]:
        """With respect to all leaves."""
        return torch.autograd.grad(
            (spikes * self.from_spikes).sum() + (rest * self.from_rest).sum(), self.leaves
        )


@needs_compiler
@pytest.mark.parametrize("surrogate", [Triangle(), Triangle(0.7), ScaledSigmoid(0.25)], ids=str)
@pytest.mark.parametrize(
    "case",
    [
        Case(4, (6, 16, 5, 5)),
        Case(3, (5, 40, 3, 2), quiet=1),
        Case(3, (4, 7), quiet=3),
        Case(1, (9, 33)),
        Case(4, (6, 3, 4, 4), static=True),
    ],
    ids=["maps", "quiet step", "running statistics", "one step", "static"],
)
def test_values_and_gradients_are_those_of_pytorch(case: Case, surrogate: Surrogate) -> None:
    """Normalisation, sum, neurons and all gradients agree up to rounding."""
    expected, found = case.by_torch(surrogate), case.compiled(surrogate)
    for name, a, b in zip(("spikes", "rest", "potentials"), expected, found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=2e-5, msg=name)
    assert 0.02 < expected[0].mean() < 0.98
    for a, b in zip(case.gradients(*expected[:2]), case.gradients(*found[:2]), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4)


@needs_compiler
def test_bare_neurons_are_the_same_to_the_bit() -> None:
    """Without normalisation nothing is rounded otherwise: u = tau * v + x is rounded twice."""
    generator = torch.Generator().manual_seed(0)
    xs = [torch.randn(5, 7, 3, 4, 4, generator=generator) for _ in range(2)]
    rest = torch.rand(7, 3, 4, 4, generator=generator)
    op = Lif(tau=0.3, threshold=0.9)
    expected = lif(xs[0] + xs[1], op, Triangle(), rest)
    found = fused([Addend(x, None) for x in xs], op, Triangle(), steps=5, rest=rest)
    for name in ("spikes", "rest", "potentials"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@needs_compiler
def test_threads_share_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three threads give what one gives, up to the order of the sums over rows."""
    case = Case(4, (6, 16, 5, 5), quiet=1)
    alone = case.compiled(Triangle())
    monkeypatch.setattr(calls, "_LEAST_VALUES", 100)
    torch.set_num_threads(3)
    shared = case.compiled(Triangle())
    for a, b in zip(alone, shared, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)
    for a, b in zip(case.gradients(*alone[:2]), case.gradients(*shared[:2]), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("surrogate", [Triangle(), ScaledSigmoid(0.25)], ids=str)
@pytest.mark.parametrize(
    "case",
    [
        Case(4, (6, 16, 5, 5)),
        Case(3, (5, 40, 3, 2), quiet=1),
        Case(4, (90, 3, 7, 5)),
        Case(3, (1, 5, 4, 4)),
        Case(1, (9, 33)),
        Case(2, (3, 20_001)),
        Case(4, (6, 3, 4, 4), static=True),
    ],
    ids=["maps", "quiet step", "many samples", "one sample", "one step", "wide", "static"],
)
def test_counts_have_the_gradient_of_spikes(case: Case, surrogate: Surrogate, power: int) -> None:
    """Their value is the sum of spike**p, and a price for each neuron acts on every one of its spikes."""
    price = torch.randn(case.rest.shape[1:], generator=torch.Generator().manual_seed(0))
    spikes, rest, _ = case.by_torch(surrogate)
    done = case.fused(surrogate, count_power=power)
    assert done.counts is not None
    torch.testing.assert_close(done.counts, (done.spikes**power).sum((0, 1)), rtol=0, atol=0)
    assert torch.equal(done.spikes, spikes)
    for above in (False, True):  # the counts alone, and with gradients from above
        expected, found = (spikes**power * price).sum(), (done.counts * price).sum()
        if above:
            expected = expected + (spikes * case.from_spikes).sum() + (rest * case.from_rest).sum()
            found = found + (done.spikes * case.from_spikes).sum() + (done.rest * case.from_rest).sum()
        gradients = torch.autograd.grad(expected, case.leaves, retain_graph=True)
        for a, b in zip(gradients, torch.autograd.grad(found, case.leaves, retain_graph=True), strict=True):
            largest = a.abs().max().item()
            assert largest > 0
            torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5 * largest)


@needs_compiler
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("normed", [False, True], ids=["bare", "normalised"])
def test_threads_count_the_same(monkeypatch: pytest.MonkeyPatch, normed: bool, power: int) -> None:
    """No thread writes where another one does: counts to the bit, gradients up to the order of sums."""
    case = Case(4, (7, 16, 5, 5))

    def run() -> tuple[Tensor, tuple[Tensor, ...]]:
        if normed:
            done, leaves = case.fused(Triangle(), count_power=power), case.leaves
        else:
            leaves = [case.xs[2]]
            done = fused([Addend(leaves[0], None)], Lif(), Triangle(), steps=4, count_power=power)
        assert done.counts is not None
        assert torch.equal(done.counts, done.spikes.sum((0, 1)))
        return done.counts, torch.autograd.grad(done.counts.square().sum(), leaves)

    alone, slopes = run()
    monkeypatch.setattr(calls, "_LEAST_VALUES", 100)
    torch.set_num_threads(3)
    shared, shared_slopes = run()
    assert torch.equal(shared, alone)
    assert alone.max() > 1
    for a, b in zip(slopes, shared_slopes, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-3)


@needs_compiler
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("static", [False, True], ids=["frames", "image"])
def test_networks_count_alike(graph: Graph, static: bool, power: int) -> None:
    """In loops, too, prices on counts act as prices on the spikes of plain neurons."""
    generator = torch.Generator().manual_seed(3)
    shape = (1 if static else 5, 4, *graph.shapes[graph.input])
    x = torch.randn(shape, generator=generator).expand(5, *shape[1:])
    prices = {name: torch.rand(graph.shapes[name], generator=generator) for name in graph.ports}
    network = SpikingNetwork(graph, backward_scale=1.0).train()
    masks = network.draw_masks(x)
    options: dict[str, Any] = {"batch_statistics": True, "masks": masks}
    spikes = network.simulate(x, record_spikes=True, neurons="plain", **options).spikes
    expected = torch.stack([(spikes[name] ** power * price).sum() for name, price in prices.items()]).sum()
    parameters = list(network.parameters())
    slopes = torch.autograd.grad(expected, parameters, allow_unused=True)
    counts = network.simulate(x, count_power=power, **options).counts
    assert counts is not None
    for name, fired in counts.fired.items():
        assert torch.equal(fired, spikes[name].sum((0, 1))), name
    found = torch.stack([(counts.fired[name] * price).sum() for name, price in prices.items()]).sum()
    found_slopes = torch.autograd.grad(found, parameters, allow_unused=True)
    assert (
        sum(slope is not None for slope in slopes) >= len(parameters) - 2
    )  # the last layer has no part in it
    for a, b in zip(slopes, found_slopes, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-3)


@needs_compiler
@pytest.mark.parametrize("static", [False, True], ids=["frames", "image"])
def test_networks_train_alike(graph: Graph, static: bool) -> None:
    """Logits, statistics and gradients of whole networks agree with and without compiled neurons."""
    generator = torch.Generator().manual_seed(3)
    shape = (1 if static else 5, 4, *graph.shapes[graph.input])
    x = torch.randn(shape, generator=generator).expand(5, *shape[1:])
    network = SpikingNetwork(graph, backward_scale=1.0).train()
    masks = network.draw_masks(x)
    found = []
    for neurons in ("plain", "compiled"):
        done = network.simulate(x, batch_statistics=True, masks=masks, record_spikes=True, neurons=neurons)
        objective = done.logits.square().mean() + sum(s.mean() for s in done.spikes.values())
        gradients = torch.autograd.grad(objective, list(network.parameters()))
        found.append((done, gradients))
    (plain, slopes), (fast, fast_slopes) = found
    torch.testing.assert_close(fast.logits, plain.logits, rtol=1e-4, atol=1e-5)
    for name, spikes in plain.spikes.items():
        assert torch.equal(spikes, fast.spikes[name]), name
    assert set(plain.statistics) == set(fast.statistics)
    for name, pair in plain.statistics.items():
        torch.testing.assert_close(fast.statistics[name], pair, rtol=1e-4, atol=1e-5, msg=name)
    for a, b in zip(slopes, fast_slopes, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-5)


@needs_compiler
def test_a_static_value_is_normalised_once(
    topologies: Mapping[str, Callable[[], Graph]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not anew at each step by neurons in a loop that it enters; its statistics are recorded all the same."""
    graph = topologies["overlapping"]()  # all neurons in loops, the norm of the first one outside
    normed: list[bool] = []

    def record(addends: list[Addend], *arguments: Any, **options: Any) -> Fused:
        normed.extend(addend.norm is not None for addend in addends)
        return fused(addends, *arguments, **options)

    monkeypatch.setattr("snndeploy.nn.engine.fused", record)
    network = SpikingNetwork(graph).train()
    x = torch.randn(1, 4, *graph.shapes[graph.input], generator=torch.Generator().manual_seed(3))
    done = network.simulate(x.expand(5, *x.shape[1:]), batch_statistics=True)
    assert "a.norm" in done.statistics
    image, normed[:] = sum(normed), []
    network.simulate(x.repeat(5, *[1] * (x.ndim - 1)), batch_statistics=True)
    assert sum(normed) == image + 5


@needs_compiler
@pytest.mark.parametrize("channels", [1, 4, 33])
@pytest.mark.parametrize("kind", ["first pixel is far off", "one active pixel", "large mean", "constant"])
def test_moments_lose_nothing(kind: str, channels: int) -> None:
    """Mean and variance are those of double precision, whatever the first pixel or the mean."""
    generator = torch.Generator().manual_seed(channels)
    x = torch.randn(2, 40, channels, 12, 12, generator=generator)
    if kind == "first pixel is far off":
        x[:, 0, :, 0, 0] = 1e4
    elif kind == "one active pixel":
        x = torch.zeros_like(x)
        x[:, 0, :, 0, 0] = 0.3
    elif kind == "large mean":
        x += 1e4
    else:
        x = torch.full_like(x, 0.1)
    rows = x.double().movedim(2, -1).reshape(2, -1, channels)
    mean, variance = calls.moments(calls.channels_innermost(x))
    torch.testing.assert_close(mean, rows.mean(1), rtol=5e-6, atol=1e-12)
    torch.testing.assert_close(variance, rows.var(1, correction=0), rtol=1e-5, atol=1e-12)


@needs_compiler
def test_wide_rows_are_taken_in_parts() -> None:
    """A row need not fit a block: three rows of 20 001 channels, normalised."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 20_001, generator=generator).requires_grad_()
    weight, bias = torch.ones(20_001, requires_grad=True), torch.zeros(20_001, requires_grad=True)
    means, variances = torch.zeros(20_001), torch.ones(20_001)
    norm = Norm(weight, bias, means, variances, EPSILON, quiet=0)
    found = fused([Addend(x, norm)], Lif(), Triangle(), steps=2)
    plain = [F.batch_norm(step, None, None, weight, bias, training=True, eps=EPSILON) for step in x]
    expected = lif(torch.stack(plain), Lif(), Triangle())
    torch.testing.assert_close(found.potentials, expected.potentials, rtol=1e-4, atol=1e-5)
    slope = torch.randn(2, 3, 20_001, generator=generator)
    for a, b in zip(
        torch.autograd.grad((expected.spikes * slope).sum(), [x, weight, bias]),
        torch.autograd.grad((found.spikes * slope).sum(), [x, weight, bias]),
        strict=True,
    ):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4)


@needs_compiler
def test_infinite_potentials_reset_alike() -> None:
    """A neuron that diverged upwards fires and starts again from 0, compiled or not."""
    x = torch.tensor([float("inf"), 0.0, 0.0]).view(3, 1, 1)
    for done in (lif(x, Lif(), Triangle()), fused([Addend(x, None)], Lif(), Triangle(), steps=3)):
        assert done.potentials.flatten().tolist() == [float("inf"), 0.0, 0.0]


@needs_compiler
def test_an_interrupt_waits_for_the_threads() -> None:
    """Tensors must not be freed while another thread still writes to them."""
    torch.set_num_threads(2)
    finished = []

    def run(part: int, first: int, last: int) -> None:
        if part == 0:
            raise KeyboardInterrupt
        time.sleep(0.2)
        finished.append((first, last))

    with pytest.raises(KeyboardInterrupt):
        calls._share(run, [(0, 1), (1, 2)])
    assert finished == [(1, 2)]


@needs_compiler
def test_an_interrupt_between_threads_waits_for_those_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may also come before all threads have their share."""
    finished = []

    class Pool(ThreadPoolExecutor):
        def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Any:
            if arguments[0] == 1:
                raise KeyboardInterrupt
            return super().submit(function, *arguments, **named)

    def run(part: int, *_: int) -> None:
        time.sleep(0.2)
        finished.append(part)

    with Pool(2) as pool:
        monkeypatch.setattr(calls, "_threads", lambda _: pool)
        with pytest.raises(KeyboardInterrupt):
            calls._share(run, [(0, 1), (1, 2)])
        assert finished == [0]


def test_only_single_precision_on_a_cpu() -> None:
    """Double precision, and tensors without values, are left to PyTorch."""
    x = torch.zeros(2, 3, 4)
    assert available(x) == (build().library is not None)
    assert not available(x.double())
    assert not available(x[:, :0])


def _in_a_process(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=True,
        timeout=120,
    )
    return done.stdout.strip()


_REPORT = (
    "from snndeploy.nn.compiled import build; b = build(); print(b.library is not None, b.problem, sep='|')"
)


def test_switched_off_or_without_compiler_says_why(tmp_path: Path) -> None:
    """Without a compiler, or with one that fails, nothing is raised: the reason is there to be shown."""
    assert _in_a_process(_REPORT, **{SWITCH: "0"}) == f"False|{SWITCH} is 0"
    assert _in_a_process(_REPORT, CC="no-such-compiler").startswith("False|there is no C compiler")
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\n[ $1 = --version ] && exit 0\necho 'it is broken' >&2\nexit 3\n")
    broken.chmod(0o755)
    found = _in_a_process(_REPORT, CC=str(broken), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert found == f"False|{broken}: it is broken"
    assert list((tmp_path / "cache" / "snndeploy").iterdir()) == []
    broken.write_text("#!/bin/sh\n[ $1 = --version ] && exit 0\nprintf 'caf\\351' >&2\nexit 3\n")
    found = _in_a_process(_REPORT, CC=f"{broken} -m64", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert found.startswith(f"False|{broken} -m64: caf")


@needs_compiler
def test_compiled_once_and_kept(tmp_path: Path) -> None:
    """The second process finds what the first compiled; a folder that others can write to is not trusted."""
    cache = tmp_path / "cache" / "snndeploy"
    assert _in_a_process(_REPORT, XDG_CACHE_HOME=str(tmp_path / "cache")) == "True|"
    (kept,) = cache.iterdir()
    first = kept.stat().st_mtime_ns
    assert _in_a_process(_REPORT, XDG_CACHE_HOME=str(tmp_path / "cache")) == "True|"
    assert kept.stat().st_mtime_ns == first
    os.truncate(kept, 6000)  # loaded, it would kill the process
    assert _in_a_process(_REPORT, XDG_CACHE_HOME=str(tmp_path / "cache")) == "True|"
    assert kept.stat().st_size > 6000
    kept.unlink()
    cache.chmod(0o777)
    assert _in_a_process(_REPORT, XDG_CACHE_HOME=str(tmp_path / "cache")) == "True|"
    assert list(cache.iterdir()) == []


def test_cache_folder_is_that_of_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """$XDG_CACHE_HOME/snndeploy, or ~/.cache/snndeploy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "snndeploy"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "snndeploy"
