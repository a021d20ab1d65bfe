"""Runs a graph in PyTorch: time folded into the batch outside loops, step by step inside them.

A loop body is the same computation as everything else, on one step at a time. Both ways sum the edges into
an op in the order of `graph.incoming`, so they agree up to the rounding of batched kernels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

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
from snndeploy.nn.batchnorm import BatchStatistics, Statistics, StepwiseNorm, quiet_steps
from snndeploy.nn.compiled import Addend, available, fused
from snndeploy.nn.counts import Counts, counted
from snndeploy.nn.kernels import apply
from snndeploy.nn.lif import LifResult, lif, traceable_lif
from snndeploy.nn.loihi import loihi_lif
from snndeploy.nn.qrelu import QuantizedRelu
from snndeploy.nn.surrogate import Surrogate

Neurons: TypeAlias = Literal["compiled", "plain", "traceable"]
"""What computes the neurons: functions compiled for a CPU where there are any (`snndeploy.nn.compiled` says
where), PyTorch, or nothing but operations of PyTorch that it can differentiate, so that they can be traced."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """What a graph did on a batch.

    logits: (time, batch, classes), what entered the Output at each step.
    spikes: (time, batch, *shape) for every Lif, 0 or 1, if recorded. Of an ANN its activations, in [0, 1].
    potentials: (time, batch, *shape), u before the reset for every Lif, if recorded; carries no gradient.
        An ANN has none.
    statistics: Mean and variance of the batch for every BatchNorm, if it used them.
    values: (time, batch, *shape), the outputs of the ops that were asked for.
    counts: Of the spikes of every Lif, or of the activations of an ANN, if asked for.
    """

    logits: Tensor
    spikes: Mapping[str, Tensor]
    potentials: Mapping[str, Tensor]
    statistics: Mapping[str, Statistics]
    values: Mapping[str, Tensor] = field(default_factory=dict)
    counts: Counts | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """What of every pass follows from the graph alone.

    components: What is computed for all steps at once, and what step by step, in order.
    quiet: Number of first time steps in which nothing can enter each op.
    deferrable: BatchNorms that a Lif may apply itself, as it alone reads them.
    entering: Those of them that lie outside loops while the Lif is in one.
    """

    components: tuple[Component, ...]
    quiet: Mapping[str, int]
    deferrable: frozenset[str]
    entering: frozenset[str]

    @classmethod
    def of(cls, graph: Graph) -> Plan:
        """That of a graph."""
        norms = (name for name, op in graph.ops.items() if isinstance(op, BatchNorm))
        alone = frozenset(name for name in norms if _drives_neurons_alone(graph, name))
        parts = tuple(components(graph))
        looping = {name for part in parts if part.is_loop for name in part.ops}
        outside = alone - looping
        entering = frozenset(name for name in outside if graph.outgoing[name][0].target in looping)
        return cls(parts, quiet_steps(graph), alone, entering)


def simulate(
    graph: Graph,
    tensors: Mapping[str, Tensor],
    x: Tensor,
    *,
    surrogate: Surrogate,
    activation: QuantizedRelu | None = None,
    units: Mapping[str, Tensor] | None = None,
    batch_statistics: BatchStatistics = False,
    masks: Mapping[str, Tensor] | None = None,
    stepped: bool = False,
    record_spikes: bool = False,
    record_potentials: bool = False,
    count_power: int | None = None,
    neurons: Neurons = "compiled",
    plan: Plan | None = None,
    given: Mapping[str, Tensor] | None = None,
    keep: Collection[str] = (),
) -> Simulation:
    """Runs a graph over all time steps of x. Changes nothing it is given.

    Args:
        graph: Any graph.
        tensors: Every parameter by its name `<op>.<parameter>`.
        x: (time, batch, *shape).
        surrogate: Stand-in for the derivative of a spike.
        activation: Takes the place of every Lif, which makes an ANN of the graph; None for spiking neurons.
        units: Of the membranes of each Lif, from `snndeploy.nn.loihi`, which makes the neurons those of the
            loihi format, without gradient; None or empty for real numbers.
        batch_statistics: Normalise with the statistics of the batch, as in training, or the running ones.
        masks: (batch, *shape) factors for each Dropout; one that is missing does nothing.
        stepped: Step everything, not only loop bodies.
        record_spikes: Keep the spikes.
        record_potentials: Keep the membrane potentials.
        count_power: p, 1 or 2, to count spike**p; None for no counts.
        neurons: What computes them.
        plan: Of the graph, where it is at hand.
        given: (time, batch, *shape), outputs of ops that are known already, with or without a history for
            autograd. Neither they nor what only leads to them is computed; nothing of it is recorded.
        keep: Ops whose outputs are wanted; one that is not computed is left out.
    """
    compiled = neurons == "compiled" and available(x)
    if activation is not None or units or not isinstance(batch_statistics, bool):
        compiled = False
    plan = Plan.of(graph) if plan is None else plan
    state = _Pass(
        graph,
        plan,
        tensors,
        x,
        surrogate,
        activation,
        units or {},
        batch_statistics,
        masks or {},
        record_potentials,
        count_power,
        compiled,
        traceable=neurons == "traceable",
        values=dict(given or {}),
    )
    state.deferred -= state.values.keys() | set(keep)  # the values of these are their own
    todo = _todo(graph, state.values)
    readers = Counter(edge.source for name in todo for edge in graph.incoming[name])
    spikes: dict[str, Tensor] = {}
    kept = {name: state.values[name] for name in keep if name in state.values}
    for component in (Component(graph.order, is_loop=True),) if stepped else plan.components:
        names = tuple(name for name in component.ops if name in todo)
        recorded = {n for n in names if record_spikes and isinstance(graph.ops[n], Lif)}
        wanted = {n for n in names if n in keep}
        if component.is_loop and names:
            state.loop(names, keep=recorded | wanted)
        elif names:
            state.fold(names[0])
        spikes |= {name: state.values[name] for name in recorded}
        kept |= {name: state.values[name] for name in wanted}
        for name in names:
            for edge in graph.incoming[name]:
                readers[edge.source] -= 1
                if readers[edge.source] == 0:  # frees memory that autograd does not hold on to
                    state.values.pop(edge.source, None)
    return Simulation(
        logits=state.values[graph.output],
        spikes={name: spikes[name] for name in graph.ports if name in spikes},
        potentials={n: torch.cat(state.potentials[n]) for n in graph.ports if n in state.potentials},
        statistics={n: found for n, norm in state.norms.items() if (found := norm.statistics()) is not None},
        values=kept,
        counts=state.all_counts(),
    )


@dataclass(eq=False)
class _Pass:
    """One forward pass: what is known so far.

    values: (time, batch, *shape) of every op already computed for all steps and still to be read.
    rest: (batch, *shape), v of every Lif after the last step computed.
    counts: (*shape), the sum of spike**p of every Lif over samples and the steps computed, if wanted.
    deferred: BatchNorms that the compiled neurons which they enter apply; their value is what enters them.
    """

    graph: Graph
    plan: Plan
    tensors: Mapping[str, Tensor]
    x: Tensor
    surrogate: Surrogate
    activation: QuantizedRelu | None
    units: Mapping[str, Tensor]
    batch_statistics: BatchStatistics
    masks: Mapping[str, Tensor]
    record_potentials: bool
    count_power: int | None
    compiled: bool
    traceable: bool
    values: dict[str, Tensor] = field(default_factory=dict)
    rest: dict[str, Tensor] = field(default_factory=dict)
    potentials: dict[str, list[Tensor]] = field(default_factory=dict)
    counts: dict[str, Tensor] = field(default_factory=dict)
    norms: dict[str, StepwiseNorm] = field(default_factory=dict)
    deferred: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name, op in self.graph.ops.items():
            if isinstance(op, BatchNorm):
                own = self.own(name)
                self.norms[name] = StepwiseNorm(
                    name, op, **own, quiet=self.plan.quiet[name], batch_statistics=self.batch_statistics
                )
        if self.compiled:
            self.deferred = self.plan.deferrable

    def own(self, name: str) -> dict[str, Tensor]:
        return {short: self.tensors[f"{name}.{short}"] for short in op_parameters(self.graph.ops[name])}

    def fold(self, name: str) -> None:
        """Computes one op for all steps at once, or for one if all are alike, as those of a static image."""
        arriving = [self._delayed(edge.source, edge.delay) for edge in self.graph.incoming[name]] or [self.x]
        steps = len(self.x)
        static = all(_is_static(value) for value in arriving)
        if static and not isinstance(self.graph.ops[name], Lif):
            if name in self.plan.entering:  # or its Lif would normalise the same value at every step
                self.deferred -= {name}
            value = self.compute(name, [value[:1] for value in arriving], first=0)
            self.values[name] = value.expand(steps, *value.shape[1:])
        else:
            self.values[name] = self.compute(name, arriving, first=0)

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
                history[name].append(self.compute(name, arriving or [x], first=t))
        read = {e.source for e in self.graph.edges if e.target not in names} | {self.graph.output}
        self.values |= {name: _joined(history[name]) for name in names if name in read | keep}

    def compute(self, name: str, arriving: list[Tensor], first: int) -> Tensor:
        """Output (time, batch, *shape) of one op for what its edges bring, from step `first` on."""
        op = self.graph.ops[name]
        if self.compiled and isinstance(op, Lif):
            return self._neurons(name, op, arriving, first)
        entering = _sum(arriving)
        match op:
            case Input() | Output():
                return entering
            case Lif() if self.activation is not None:
                return self._counted(name, self.activation(entering, op))
            case Lif():
                result = self._neurons_of_torch(name, op, entering)
                self.rest[name] = result.rest
                if self.record_potentials:
                    self.potentials.setdefault(name, []).append(result.potentials)
                return self._counted(name, result.spikes)
            case BatchNorm():
                return entering if name in self.deferred else self.norms[name](entering, first)
            case Dropout():
                return entering * self.masks[name] if name in self.masks else entering
            case Conv2d() | Linear() | AvgPool2d() | Upsample() | Flatten():
                # Autocast lowers the precision of products only: what is summed, normalised or kept over time
                # stays in that of the input.
                folded = apply(op, entering.flatten(0, 1), self.own(name)).to(self.x.dtype)
                return folded.view(*entering.shape[:2], *folded.shape[1:])
            case _:
                assert_never(op)

    def _neurons_of_torch(self, name: str, op: Lif, entering: Tensor) -> LifResult:
        rest = self.rest.get(name)
        if name in self.units:
            return loihi_lif(entering, op, self.units[name], rest)
        neurons = traceable_lif if self.traceable else lif
        return neurons(entering, op, self.surrogate, rest)

    def _neurons(self, name: str, op: Lif, arriving: list[Tensor], first: int) -> Tensor:
        """Spikes of one Lif, by the compiled functions."""
        norms = [self._deferred_norm(edge.source) for edge in self.graph.incoming[name]]
        addends = [
            Addend(
                x=value[:1] if _is_static(value) else value,
                norm=None if norm is None else norm.for_steps(value, first),
            )
            for value, norm in zip(arriving, norms, strict=True)
        ]
        done = fused(
            addends,
            op,
            self.surrogate,
            steps=len(arriving[0]),
            rest=self.rest.get(name),
            count_power=self.count_power,
        )
        for norm, (means, variances) in zip(filter(None, norms), done.moments, strict=True):
            norm.record(means, variances)
        self.rest[name] = done.rest
        if self.record_potentials:
            self.potentials.setdefault(name, []).append(done.potentials)
        if done.counts is not None:
            self._count(name, done.counts)
        return done.spikes

    def _counted(self, name: str, spikes: Tensor) -> Tensor:
        """The spikes, once PyTorch has counted them."""
        if self.count_power is not None:
            self._count(name, counted(spikes, self.count_power, traceable=self.traceable))
        return spikes

    def _count(self, name: str, fresh: Tensor) -> None:
        self.counts[name] = self.counts[name] + fresh if name in self.counts else fresh

    def all_counts(self) -> Counts | None:
        """The counts of all steps, if wanted."""
        if self.count_power is None:
            return None
        fired = {name: self.counts[name] for name in self.graph.ports if name in self.counts}
        steps, samples = self.x.shape[:2]
        return Counts(self.count_power, steps, samples, fired)

    def _deferred_norm(self, name: str) -> StepwiseNorm | None:
        return self.norms[name] if name in self.deferred else None

    def _delayed(self, source: str, delay: int) -> Tensor:
        values = self.values[source]
        return torch.cat([self._nothing(source, steps=delay), values[:-delay]]) if delay else values

    def _nothing(self, source: str, *, steps: int) -> Tensor:
        return self.x.new_zeros(steps, self.x.shape[1], *self.graph.shapes[source])


def _todo(graph: Graph, given: Collection[str]) -> set[str]:
    """The ops that must be computed: those that lead to the output on a path around what is given."""
    found, waiting = {graph.output}, [graph.output]
    while waiting:
        fresh = {edge.source for edge in graph.incoming[waiting.pop()]} - found - set(given)
        found |= fresh
        waiting.extend(fresh)
    return found


def _sum(arriving: list[Tensor]) -> Tensor:
    total = arriving[0]
    for value in arriving[1:]:
        total = total + value
    return total


def _joined(steps: list[Tensor]) -> Tensor:
    """Values (1, batch, *shape) as one, with channels innermost in memory, as convolutions want them."""
    return torch.cat([value.movedim(2, -1) for value in steps]).movedim(-1, 2)


def _is_static(value: Tensor) -> bool:
    """Whether a value (time, batch, *shape) is one step repeated, as `expand` makes it."""
    return len(value) > 1 and value.stride(0) == 0


def _drives_neurons_alone(graph: Graph, name: str) -> bool:
    """Whether what leaves an op enters one Lif, without delay, and nothing else."""
    edges = graph.outgoing[name]
    return len(edges) == 1 and edges[0].delay == 0 and isinstance(graph.ops[edges[0].target], Lif)
