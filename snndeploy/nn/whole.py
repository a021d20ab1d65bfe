"""A whole training pass as one function that PyTorch's compiler makes, for one shape of input.

Compiling takes from half a minute to several minutes, so it is for one long training, not for many short ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from snndeploy.ir import Graph, parameter_shapes
from snndeploy.nn.counts import Counts
from snndeploy.nn.engine import Plan, Simulation, simulate
from snndeploy.nn.surrogate import Surrogate

Compiler = Callable[[torch.fx.GraphModule], Callable[..., Sequence[Tensor]]]


def compiler_problem(device: torch.device) -> str:
    """Why PyTorch's compiler can make nothing for a device, as it lacks a compiler itself; empty if it can."""
    if device.type != "cpu":
        return "" if find_spec("triton") else "there is no Triton"
    from torch._inductor.cpp_builder import get_cpp_compiler  # noqa: PLC0415  (takes a second)
    from torch._inductor.exc import InvalidCxxCompiler  # noqa: PLC0415

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "there is no C++ compiler (g++, or the one that CXX names)"
    return ""


class _Kind(NamedTuple):
    """Passes that are alike, and share a compiled function."""

    shape: tuple[int, ...]
    image: bool
    dtype: torch.dtype
    device: torch.device
    precision: torch.dtype | None
    gradients: bool
    masks: tuple[str, ...]
    record_spikes: bool
    count_power: int | None


@dataclass(eq=False)
class WholeNetwork:
    """Training passes of a graph, compiled when the first of a kind is asked for.

    graph: Any graph.
    plan: Of the graph.
    surrogate: Stand-in for the derivative of a spike.
    compiler: Makes a function of a traced pass; by default that of PyTorch.
    seconds: Spent on compiling, since last asked.
    """

    graph: Graph
    plan: Plan
    surrogate: Surrogate
    compiler: Compiler = torch.compile
    seconds: float = field(default=0.0, init=False)
    _made: dict[_Kind, _Made] = field(default_factory=dict, init=False)

    def __call__(
        self,
        tensors: Mapping[str, Tensor],
        x: Tensor,
        *,
        masks: Mapping[str, Tensor] | None = None,
        record_spikes: bool = False,
        count_power: int | None = None,
    ) -> Simulation:
        """A pass with batch statistics; arguments as those of `snndeploy.nn.engine.simulate`."""
        masks = masks or {}
        image = len(x) > 1 and x.stride(0) == 0
        low = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else None
        kind = _Kind(
            tuple(x.shape),
            image,
            x.dtype,
            x.device,
            low,
            torch.is_grad_enabled(),
            tuple(masks),
            record_spikes,
            count_power,
        )
        given = [x[0] if image else x, *masks.values(), *(tensors[n] for n in parameter_shapes(self.graph))]
        began = time.perf_counter()
        fresh = kind not in self._made
        if fresh:
            self._made[kind] = self._traced(kind, given)
        found = self._made[kind].run(*given)
        if fresh:  # the compiler starts when it is first called
            self.seconds += time.perf_counter() - began
        return self._made[kind].simulation(found)

    def take_seconds(self) -> float:
        """How long compiling took since this was last asked."""
        taken, self.seconds = self.seconds, 0.0
        return taken

    def _traced(self, kind: _Kind, given: Sequence[Tensor]) -> _Made:
        """Every operation on tensors of one pass, in order, without the Python around them."""
        from torch.fx.experimental.proxy_tensor import make_fx  # noqa: PLC0415  (takes a second)

        names = list(parameter_shapes(self.graph))
        norms: list[str] = []

        def run(x: Tensor, *others: Tensor) -> list[Tensor]:
            masks = dict(zip(kind.masks, others, strict=False))
            done = simulate(
                self.graph,
                dict(zip(names, others[len(masks) :], strict=True)),
                x.expand(kind.shape) if kind.image else x,
                surrogate=self.surrogate,
                batch_statistics=True,
                masks=masks,
                record_spikes=kind.record_spikes,
                count_power=kind.count_power,
                neurons="traceable",
                plan=self.plan,
            )
            norms.extend(done.statistics)
            moments = (moment for pair in done.statistics.values() for moment in pair)
            counts = () if done.counts is None else done.counts.fired.values()
            return [done.logits, *moments, *done.spikes.values(), *counts]

        # Before autograd and autocast have their say, who then have it whenever the trace runs.
        traced = make_fx(run, tracing_mode="fake", pre_dispatch=True)(*(tensor.detach() for tensor in given))
        return _Made(self.compiler(traced), kind, tuple(norms), self.graph.ports)


class _Made(NamedTuple):
    """A compiled pass: logits, moments of the norms in pairs, and of the ports spikes and counts, if wanted."""

    run: Callable[..., Sequence[Tensor]]
    kind: _Kind
    norms: tuple[str, ...]
    ports: tuple[str, ...]

    def simulation(self, found: Sequence[Tensor]) -> Simulation:
        values = iter(found)
        logits = next(values)
        statistics = {name: (next(values), next(values)) for name in self.norms}
        spikes = {name: next(values) for name in self.ports if self.kind.record_spikes}
        counts, (steps, samples, *_) = None, self.kind.shape
        if self.kind.count_power is not None:
            fired = dict(zip(self.ports, values, strict=True))
            counts = Counts(self.kind.count_power, steps, samples, fired)
        return Simulation(logits=logits, spikes=spikes, potentials={}, statistics=statistics, counts=counts)
