"""What benchmarks/training.py times: a network, and the ways to take a training step of it.

A step runs the network in training mode on one batch of images, each shown at every time step, computes the gradients
of the TET loss, and lets them go. The optimiser takes no part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from typing import TypeAlias
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.floor import bare_products
from snndeploy.backbones import backbone
from snndeploy.ir import Graph, Shape, with_backward
from snndeploy.nn import SpikingNetwork
from snndeploy.nn.compiled import Build, calls
from snndeploy.train.config import PenaltyConfig
from snndeploy.train.losses import tet
from snndeploy.train.penalty import Penalty

STEPS, CLASSES = 4, 10
INTENSITY = 1e-6  # of a penalty; the time does not depend on it


@dataclass(frozen=True)
class Size:
    """A backbone and its input. `loop` is a backward connection (source port, target port) within one block."""

    shape: Shape
    batch: int
    loop: tuple[int, int]
    rounds: int


SIZES = {
    "resnet8": Size(shape=(1, 16, 16), batch=64, loop=(4, 3), rounds=25),
    "resnet18": Size(shape=(3, 32, 32), batch=32, loop=(8, 7), rounds=5),
}


@dataclass(frozen=True)
class Case:
    """One network on one batch.

    name: Of a backbone in `SIZES`.
    """

    name: str
    batch: int

    @cached_property
    def graph(self) -> Graph:
        """The backbone."""
        return backbone(self.name, SIZES[self.name].shape, CLASSES)

    @cached_property
    def looped(self) -> Graph:
        """The backbone with one short backward connection."""
        return with_backward(self.graph, *SIZES[self.name].loop)

    @cached_property
    def images(self) -> Tensor:
        """(batch, *shape)."""
        return torch.rand(self.batch, *SIZES[self.name].shape, generator=torch.Generator().manual_seed(0))

    @cached_property
    def frames(self) -> Tensor:
        """(time, batch, *shape), in memory once, as the trainer has it."""
        return self.images.expand(STEPS, *self.images.shape)

    @cached_property
    def labels(self) -> Tensor:
        """(batch,)."""
        return torch.arange(self.batch) % CLASSES


Step: TypeAlias = Callable[[], object]
Make: TypeAlias = Callable[[Case], Step]


def ours(
    case: Case,
    *,
    stepped: bool = False,
    loop: bool = False,
    eager: bool = False,
    low: bool = False,
    whole: bool = False,
    penalty: PenaltyConfig | None = None,
) -> Step:
    """A training step of this project.

    Args:
        case: The network.
        stepped: Everything step by step.
        loop: With the backward connection.
        eager: No compiled neurons.
        low: Products in bfloat16.
        whole: The forward pass compiled as one.
        penalty: Added to the loss.
    """
    graph = case.looped if loop else case.graph
    network = SpikingNetwork(graph, backward_scale=1.0).train()
    omega = None if penalty is None else Penalty.from_config(penalty, graph, STEPS)
    advance = torch.compile(network.advance, dynamic=False) if whole else network.advance

    def step() -> None:
        with _autocast(low), without_compiled_neurons() if eager else nullcontext():
            power = None if omega is None else omega.power
            done = advance(case.frames, stepped=stepped, count_power=power)
        loss = tet(done.logits.float(), case.labels)
        if penalty is not None and omega is not None and done.counts is not None:
            loss = loss + penalty.intensity * omega(done.counts)
        torch.autograd.backward(loss)
        network.zero_grad(set_to_none=True)

    return step


def peer(
    case: Case, *, library: str, channels_last: bool = False, low: bool = False, whole: bool = False
) -> Step:
    """A training step of another library.

    Args:
        case: The network.
        library: A name that `peer_network` knows.
        channels_last: The kernels with their channels innermost, which most layers then keep to.
        low: Products in bfloat16.
        whole: The forward pass compiled as one.
    """
    network, reset = peer_network(case, library, SpikingNetwork(case.graph))
    network.train()
    if channels_last:
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    forward = torch.compile(network, dynamic=False) if whole else network

    def step() -> None:
        with _autocast(low):
            logits = forward(case.frames)
        torch.autograd.backward(tet(logits.float(), case.labels))
        network.zero_grad(set_to_none=True)
        reset()

    return step


def floor(case: Case, *, layout: torch.memory_format, stepped: bool = False, low: bool = False) -> Step:
    """The bare products of a training step: time folded into the batch, or step by step, which caches may like."""
    dtype = torch.bfloat16 if low else torch.float32
    if not stepped:
        return bare_products(case.graph, STEPS * case.batch, layout=layout, dtype=dtype)
    products = bare_products(case.graph, case.batch, layout=layout, dtype=dtype)

    def step() -> None:
        for _ in range(STEPS):
            products()

    return step


def _autocast(enabled: bool) -> AbstractContextManager[object]:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled)


@contextmanager
def without_compiled_neurons() -> Iterator[None]:
    """Within it a forward pass finds none, and the backward pass follows it."""
    with patch.object(calls, "build", lambda: Build(None, "switched off")):
        yield


@dataclass(frozen=True)
class Variant:
    """Something to time.

    group: What it is compared with, and by what it is chosen.
    """

    name: str
    group: str
    make: Make


_BARE = "convolutions alone"
_JELLY, _JELLY_STEP = "SpikingJelly multi-step", "SpikingJelly single-step"
_TORCH, _TORCH_FULL = "snnTorch", "snnTorch, gradient through resets"
LAST = ", channels last"  # with the kernels laid out so
UNPENALISED = "penalty none"
VARIANTS = (
    Variant("ours", "ours", ours),
    Variant("ours, eager", "ours", partial(ours, eager=True)),
    Variant("ours, stepped", "ours", partial(ours, stepped=True)),
    Variant("ours, stepped, eager", "ours", partial(ours, stepped=True, eager=True)),
    Variant("short loop", "loop", partial(ours, loop=True)),
    Variant("short loop, eager", "loop", partial(ours, loop=True, eager=True)),
    Variant("short loop, stepped", "loop", partial(ours, loop=True, stepped=True)),
    Variant("short loop, stepped, eager", "loop", partial(ours, loop=True, stepped=True, eager=True)),
    *(
        Variant(
            library + (LAST if last else ""),
            "peer",
            partial(peer, library=library, channels_last=last),
        )
        for library in (_JELLY, _JELLY_STEP, _TORCH, _TORCH_FULL)
        for last in (False, True)
    ),
    Variant(f"{_BARE}{LAST}", "floor", partial(floor, layout=torch.channels_last)),
    Variant(f"{_BARE}, channels first", "floor", partial(floor, layout=torch.contiguous_format)),
    Variant(f"{_BARE}{LAST}, stepped", "floor", partial(floor, layout=torch.channels_last, stepped=True)),
    Variant(UNPENALISED, "penalty", ours),
    *(
        Variant(
            f"penalty {name}, p = {power}",
            "penalty",
            partial(ours, penalty=PenaltyConfig(name=name, intensity=INTENSITY, power=power)),
        )
        for name in ("syn", "total", "balance")
        for power in (1, 2)
    ),
    Variant("ours, bfloat16", "bf16", partial(ours, low=True)),
    Variant(
        f"{_JELLY}{LAST}, bfloat16",
        "bf16",
        partial(peer, library=_JELLY, channels_last=True, low=True),
    ),
    Variant(f"{_BARE}{LAST}, bfloat16", "bf16", partial(floor, layout=torch.channels_last, low=True)),
    Variant("ours, eager, compiled whole", "whole", partial(ours, eager=True, whole=True)),
    Variant(
        "ours, stepped, eager, compiled whole", "whole", partial(ours, stepped=True, eager=True, whole=True)
    ),
    Variant(
        f"{_JELLY}{LAST}, compiled whole",
        "whole",
        partial(peer, library=_JELLY, channels_last=True, whole=True),
    ),
)
GROUPS = tuple(dict.fromkeys(variant.group for variant in VARIANTS))
LIBRARIES = {_JELLY: "spikingjelly", _JELLY_STEP: "spikingjelly", _TORCH: "snntorch", _TORCH_FULL: "snntorch"}


def available(variant: Variant) -> bool:
    """Whether the libraries that a variant needs are installed."""
    needed = {module for library, module in LIBRARIES.items() if library in variant.name}
    return all(find_spec(module) for module in needed)


def peer_network(case: Case, library: str, source: SpikingNetwork) -> tuple[nn.Module, Callable[[], None]]:
    """A network of a library, with the weights of one of ours, and what puts its neurons to rest."""
    from benchmarks import training_peers as peers  # noqa: PLC0415  (they may not be installed)

    weights = source.weights()
    made: peers.Peer
    if LIBRARIES[library] == "snntorch":
        made = peers.snntorch_network(case.graph, weights, differentiable_reset=library == _TORCH_FULL)
    else:
        made = peers.spikingjelly_network(case.graph, weights, mode="m" if library == _JELLY else "s")
    return made, made.reset
