"""Runs a graph in PyTorch: time folded into the batch outside loops, step by step inside them.

A loop body is the same computation as everything else, on one step at a time. Both ways sum the edges into
an op in the order of `graph.incoming`, so they agree up to the rounding of batched kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from typing_extensions import assert_never

from snndeploy.ir import (
    AvgPool2d,
    BatchNorm,
    Component,
    Conv2d,
    Dropout,
    Flatten,
    Graph,
    Input,
    Lif,
    Linear,
    Output,
    Upsample,
    components,
)
from snndeploy.ir.network import op_parameters
from snndeploy.nn.batchnorm import Statistics, StepwiseNorm, quiet_steps
from snndeploy.nn.kernels import apply
from snndeploy.nn.lif import lif
from snndeploy.nn.surrogate import Surrogate


@dataclass(frozen=True, eq=False)
class Simulation:
    """What a graph did on a batch.

    logits: (time, batch, classes), what entered the Output at each step.
    spikes: (time, batch, *shape) for every Lif, 0 or 1, if recorded.
    potentials: (time, batch, *shape), u before the reset for every Lif, if recorded; carries no gradient.
    statistics: Mean and variance of the batch for every BatchNorm, if it used them.
    """

    logits: Tensor
    spikes: Mapping[str, Tensor]
    potentials: Mapping[str, Tensor]
    statistics: Mapping[str, Statistics]


def simulate(
    graph: Graph,
    tensors: Mapping[str, Tensor],
    x: Tensor,
    *,
    surrogate: Surrogate,
    batch_statistics: bool = False,
    masks: Mapping[str, Tensor] | None = None,
    stepped: bool = False,
    record_spikes: bool = False,
    record_potentials: bool = False,
) -> Simulation:
    """Runs a graph over all time steps of x. Changes nothing it is given.

    Args:
        graph: Any graph.
        tensors: Every parameter by its name `<op>.<parameter>`.
        x: (time, batch, *shape).
        surrogate: Stand-in for the derivative of a spike.
        batch_statistics: Normalise with the statistics of the batch, as in training, or the running ones.
        masks: (batch, *shape) factors for each Dropout; one that is missing does nothing.
        stepped: Step everything, not only loop bodies.
        record_spikes: Keep the spikes.
        record_potentials: Keep the membrane potentials.
    """
    state = _Pass(graph, tensors, x, surrogate, batch_statistics, masks or {}, record_potentials)
    plan = (Component(graph.order, is_loop=True),) if stepped else components(graph)
    readers = {name: len(graph.outgoing[name]) for name in graph.ops}
    spikes: dict[str, Tensor] = {}
    for component in plan:
        recorded = {n for n in component.ops if record_spikes and isinstance(graph.ops[n], Lif)}
        if component.is_loop:
            state.loop(component.ops, keep=recorded)
        else:
            state.fold(component.ops[0])
        spikes |= {name: state.values[name] for name in recorded}
        for name in component.ops:
            for edge in graph.incoming[name]:
                readers[edge.source] -= 1
                if readers[edge.source] == 0:  # frees memory that autograd does not hold on to
                    state.values.pop(edge.source, None)
    return Simulation(
        logits=state.values[graph.output],
        spikes={name: spikes[name] for name in graph.ports if name in spikes},
        potentials={n: torch.cat(state.potentials[n]) for n in graph.ports if n in state.potentials},
        statistics={n: found for n, norm in state.norms.items() if (found := norm.statistics()) is not None},
    )


@dataclass(eq=False)
class _Pass:
    """One forward pass: what is known so far.

    values: (time, batch, *shape) of every op already computed for all steps and still to be read.
    rest: (batch, *shape), v of every Lif after the last step computed.
    """

    graph: Graph
    tensors: Mapping[str, Tensor]
    x: Tensor
    surrogate: Surrogate
    batch_statistics: bool
    masks: Mapping[str, Tensor]
    record_potentials: bool
    values: dict[str, Tensor] = field(default_factory=dict)
    rest: dict[str, Tensor] = field(default_factory=dict)
    potentials: dict[str, list[Tensor]] = field(default_factory=dict)
    norms: dict[str, StepwiseNorm] = field(default_factory=dict)

    def __post_init__(self) -> None:
        quiet = quiet_steps(self.graph)
        for name, op in self.graph.ops.items():
            if isinstance(op, BatchNorm):
                own = self.own(name)
                self.norms[name] = StepwiseNorm(
                    name, op, **own, quiet=quiet[name], batch_statistics=self.batch_statistics
                )

    def own(self, name: str) -> dict[str, Tensor]:
        return {short: self.tensors[f"{name}.{short}"] for short in op_parameters(self.graph.ops[name])}

    def fold(self, name: str) -> None:
        """Computes one op for all steps at once."""
        arriving = [self._delayed(edge.source, edge.delay) for edge in self.graph.incoming[name]]
        self.values[name] = self.compute(name, _sum(arriving) if arriving else self.x, first=0)

    def loop(self, names: tuple[str, ...], keep: set[str]) -> None:
        """Computes ops that depend on each other's past, one step at a time.

        Afterwards `values` has those in `keep` and those that are read outside the loop.
        """
        outside = {e.source for n in names for e in self.graph.incoming[n]} - set(names)
        history = {name: list(torch.split(self.values[name], 1)) for name in outside}
        history |= {name: [] for name in names}
        for t, x in enumerate(torch.split(self.x, 1)):
            for name in names:
                arriving = [
                    history[e.source][t - e.delay] if t >= e.delay else self._nothing(e.source, steps=1)
                    for e in self.graph.incoming[name]
                ]
                history[name].append(self.compute(name, _sum(arriving) if arriving else x, first=t))
        read = {e.source for e in self.graph.edges if e.target not in names} | {self.graph.output}
        self.values |= {name: torch.cat(history[name]) for name in names if name in read | keep}

    def compute(self, name: str, entering: Tensor, first: int) -> Tensor:
        """Output (time, batch, *shape) of one op for its summed input, from step `first` on."""
        op = self.graph.ops[name]
        match op:
            case Input() | Output():
                return entering
            case Lif():
                result = lif(entering, op, self.surrogate, self.rest.get(name))
                self.rest[name] = result.rest
                if self.record_potentials:
                    self.potentials.setdefault(name, []).append(result.potentials)
                return result.spikes
            case BatchNorm():
                return self.norms[name](entering, first)
            case Dropout():
                return entering * self.masks[name] if name in self.masks else entering
            case Conv2d() | Linear() | AvgPool2d() | Upsample() | Flatten():
                # Autocast lowers the precision of products only: what is summed, normalised or kept over time
                # stays in that of the input.
                folded = apply(op, entering.flatten(0, 1), self.own(name)).to(self.x.dtype)
                return folded.view(*entering.shape[:2], *folded.shape[1:])
            case _:
                assert_never(op)

    def _delayed(self, source: str, delay: int) -> Tensor:
        values = self.values[source]
        return torch.cat([self._nothing(source, steps=delay), values[:-delay]]) if delay else values

    def _nothing(self, source: str, *, steps: int) -> Tensor:
        return self.x.new_zeros(steps, self.x.shape[1], *self.graph.shapes[source])


def _sum(arriving: list[Tensor]) -> Tensor:
    total = arriving[0]
    for value in arriving[1:]:
        total = total + value
    return total
