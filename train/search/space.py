"""Which architectures there are: a backbone with at most so many backward connections (BCs).

An architecture is a set of BCs, so the same BCs in another order are the same architecture, and to draw one
uniformly means that every set is as likely as any other, not every number of BCs.

Source: BCNAS-SNN, section 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, pairwise
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from snndeploy.errors import ConfigError
from snndeploy.ir import BackwardConnection, Graph, schedule, with_backward
from snndeploy.train.search.config import LimitsConfig, SpaceConfig
from snndeploy.train.search.costs import CostModel, Costs

Architecture: TypeAlias = tuple[BackwardConnection, ...]
"""Backward connections, sorted, none twice; () is the backbone without any."""

_ENUMERABLE = 200_000  # sets that are gone through one by one where there is no other way
_PATIENCE = 10_000  # draws in vain, one after the other, before another way is looked for
_KEPT_GRAPHS = 4096


@dataclass(frozen=True, eq=False)
class Space:
    """All allowed architectures over a backbone.

    An architecture is allowed if it has at most `most` connections, each of them one of `connections`, and all
    together keep the limits.

    backbone: Without BCs.
    most: Largest number of BCs (b).
    connections: Every BC that is allowed alone, sorted.
    limits: Of which the estimated energy plays no part here.
    steps: Logical time steps T.
    left_out: How many BCs are not allowed, by the reason: "ports" for a forbidden port, "delay" for one so long
        that the BC never acts, "limits" for one that breaks a limit alone.
    """

    backbone: Graph
    most: int
    connections: tuple[BackwardConnection, ...]
    limits: LimitsConfig
    steps: int
    left_out: Mapping[str, int]
    _within: dict[Architecture, bool] = field(default_factory=dict, init=False, repr=False)
    _graphs: dict[Architecture, Graph] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, backbone: Graph, config: SpaceConfig, steps: int) -> Space:
        """The space over a backbone, for samples of `steps` logical time steps.

        Raises:
            ConfigError: A forbidden port does not exist, the backbone alone breaks a limit, or no BC is left.
            TimingError: Delays are to be pipelined, and the backbone alone needs a longer interval than 1.
        """
        _check_ports(config, len(backbone.ports))
        delay = _delays(backbone, config)
        ports = range(len(backbone.ports))
        pairs = [(source, target) for source in ports for target in range(source + 1)]
        permitted = [
            BackwardConnection(source, target, delay(source, target))
            for source, target in pairs
            if source not in config.forbidden_outputs and target not in config.forbidden_inputs
        ]
        acting = [connection for connection in permitted if connection.delay < steps]
        model = CostModel(backbone, steps)
        _check_backbone(model, config.limits)
        allowed = [c for c in acting if _broken(model, config.limits, (c,)) is None]
        left_out = {
            "ports": len(pairs) - len(permitted),
            "delay": len(permitted) - len(acting),
            "limits": len(acting) - len(allowed),
        }
        if not allowed:
            why = ", ".join(f"{number} for {reason}" for reason, number in left_out.items() if number)
            raise ConfigError(
                "space",
                "must hold at least one backward connection",
                got=f"none, {why} left out",
                remedy="allow more ports, more time steps or wider limits",
            )
        return cls(
            backbone, config.most, tuple(sorted(allowed)), config.limits, steps, MappingProxyType(left_out)
        )

    def __reduce__(self) -> tuple[Any, ...]:  # what was kept for speed does not travel to other processes
        fields = (self.backbone, self.most, self.connections, self.limits, self.steps, dict(self.left_out))
        return Space, fields

    def count(self) -> int:
        """How many architectures are allowed, the one without BCs included.

        Raises:
            ConfigError: There are limits and too many sets to try them on.
        """
        if not _narrows(self.limits):
            return self.sets()
        if self.sets() > _ENUMERABLE:
            raise ConfigError(
                "space",
                f"with limits, architectures can be counted in at most {_ENUMERABLE} sets",
                got=self.sets(),
            )
        return sum(1 for _ in self.enumerate())

    def sets(self, at_least: int = 0) -> int:
        """How many sets of at least so many BCs there are, whether they keep the limits together or not."""
        return sum(self._sizes[at_least:])

    def enumerate(self) -> Iterator[Architecture]:
        """Yields every allowed architecture, the one without BCs first, then by the number of BCs."""
        for size in range(self.most + 1):
            for architecture in combinations(self.connections, size):
                if self._keeps_limits(architecture):
                    yield architecture

    def sample(
        self,
        rng: np.random.Generator,
        count: int,
        *,
        exclude: Collection[Architecture] = (),
        at_least: int = 0,
    ) -> list[Architecture]:
        """Draws different allowed architectures, each set as likely as any other.

        Args:
            rng: Where chance comes from.
            count: How many; if there are fewer, all there are, in random order.
            exclude: What not to draw.
            at_least: Number of BCs that each is to have.

        Raises:
            ConfigError: The limits leave almost nothing of a space too large to be gone through.
        """
        taken = set(exclude)
        found: list[Architecture] = []
        # Each draw is uniform over what is not taken yet, so it may go on either way at any moment.
        if self.sets(at_least) > 2 * (count + len(taken)):
            in_vain = 0
            while len(found) < count and in_vain < _PATIENCE:
                architecture = self._draw(rng, at_least)
                in_vain += 1
                if architecture not in taken and self._keeps_limits(architecture):
                    taken.add(architecture)
                    found.append(architecture)
                    in_vain = 0
        if len(found) < count:
            found += self._rest(rng, count - len(found), taken, at_least)
        return found

    def allows(self, architecture: Architecture) -> bool:
        """Whether an architecture belongs to the space; one that is not sorted or repeats a BC does not."""
        return (
            len(architecture) <= self.most
            and all(self.connection(c.source, c.target) == c for c in architecture)
            and all(a < b for a, b in pairwise(architecture))
            and self._keeps_limits(architecture)
        )

    def connection(self, source: int, target: int) -> BackwardConnection | None:
        """The BC between two ports, with the delay it has in this space; None if it is not allowed."""
        return self._by_ports.get((source, target))

    def graph(self, architecture: Architecture) -> Graph:
        """The graph of an architecture.

        Raises:
            GraphError: As `snndeploy.ir.with_backward`.
        """
        if not architecture:
            return self.backbone
        if architecture not in self._graphs:
            graph = self.backbone
            for connection in architecture:
                graph = with_backward(graph, connection.source, connection.target, connection.delay)
            if len(self._graphs) >= _KEPT_GRAPHS:
                del self._graphs[next(iter(self._graphs))]
            self._graphs[architecture] = graph
        return self._graphs[architecture]

    def costs(self, architecture: Architecture) -> Costs:
        """What an architecture costs."""
        return self._model.costs(architecture)

    @property
    def supergraph(self) -> Graph:
        """The backbone with every connection there is."""
        return self.graph(self.connections)

    @cached_property
    def _model(self) -> CostModel:
        return CostModel(self.backbone, self.steps)

    @cached_property
    def _by_ports(self) -> dict[tuple[int, int], BackwardConnection]:
        return {(c.source, c.target): c for c in self.connections}

    @cached_property
    def _sizes(self) -> tuple[int, ...]:
        """Number of sets by their size."""
        return tuple(math.comb(len(self.connections), size) for size in range(self.most + 1))

    def _keeps_limits(self, architecture: Architecture) -> bool:
        if not _narrows(self.limits):
            return True
        if architecture not in self._within:
            if len(self._within) >= _ENUMERABLE:
                self._within.clear()
            self._within[architecture] = _broken(self._model, self.limits, architecture) is None
        return self._within[architecture]

    def _draw(self, rng: np.random.Generator, at_least: int) -> Architecture:
        """One set, allowed or not."""
        total = self.sets(at_least)
        share = [sets / total for sets in self._sizes[at_least:]]
        size = at_least + int(rng.choice(len(share), p=share))
        chosen = rng.choice(len(self.connections), size=size, replace=False)
        return tuple(self.connections[index] for index in sorted(chosen.tolist()))

    def _rest(
        self, rng: np.random.Generator, count: int, taken: set[Architecture], at_least: int
    ) -> list[Architecture]:
        """Draws from a list of all that is left."""
        if _narrows(self.limits) and self.sets() > _ENUMERABLE:
            raise ConfigError(
                "space",
                f"the limits must leave more than about one in {_PATIENCE} of its {self.sets()} sets",
                got="almost nothing",
                remedy="widen the limits, forbid ports or allow fewer backward connections",
            )
        left = [a for a in self.enumerate() if len(a) >= at_least and a not in taken]
        return [left[index] for index in rng.permutation(len(left))[:count].tolist()]


def label(architecture: Architecture) -> str:
    """An architecture in short, as "4:2+6:6" (source port:target port), with ":delay" unless it is 1.

    Example:
        >>> label((BackwardConnection(4, 2), BackwardConnection(6, 6, 3))), label(())
        ('4:2+6:6:3', 'none')
    """
    if not architecture:
        return "none"
    return "+".join(f"{c.source}:{c.target}" + (f":{c.delay}" if c.delay != 1 else "") for c in architecture)


def parse(text: str) -> Architecture:
    """The architecture that a label stands for, in whatever order it names the BCs.

    Raises:
        ConfigError: The text is no label, or names a BC twice.
    """
    if text == "none":
        return ()
    found = []
    for part in text.split("+"):
        numbers = part.split(":")
        if len(numbers) not in (2, 3) or not all(n.isdecimal() and n.isascii() for n in numbers):
            raise ConfigError("architecture", 'must look like "4:2+6:6" or be "none"', got=repr(text))
        found.append(BackwardConnection(*(int(number) for number in numbers)))
    if len(set(found)) < len(found):
        raise ConfigError("architecture", "must name each backward connection once", got=repr(text))
    return tuple(sorted(found))


def _check_ports(config: SpaceConfig, ports: int) -> None:
    for name in ("forbidden_outputs", "forbidden_inputs"):
        for port in getattr(config, name):
            if not 0 <= port < ports:
                raise ConfigError(f"space.{name}", f"ports are numbered 0 to {ports - 1}", got=port)


def _delays(backbone: Graph, config: SpaceConfig) -> Callable[[int, int], int]:
    """The delay of the BC between two ports.

    Pipelined, each port updates as early as it does in the backbone at an interval of 1. A BC whose delay makes
    up for the difference never holds that back, together with whatever others: neither interval nor latency
    grows.
    """
    if config.delay == "one":
        return lambda _source, _target: 1
    start, ports = schedule(backbone, 1).start, backbone.ports
    return lambda source, target: max(1, start[ports[source]] + 1 - start[ports[target]])


def _check_backbone(model: CostModel, limits: LimitsConfig) -> None:
    broken = _broken(model, limits, ())
    if broken is not None:
        name, value = broken
        raise ConfigError(
            f"space.limits.{name}",
            f"must be at least {value}, which the backbone takes without a backward connection",
            got=getattr(limits, name),
        )


def _narrows(limits: LimitsConfig) -> bool:
    return any((limits.interval, limits.machine_steps, limits.parameters))


def _broken(model: CostModel, limits: LimitsConfig, architecture: Architecture) -> tuple[str, int] | None:
    """The first limit that an architecture breaks, with what it takes; None if it keeps them all."""
    if limits.parameters and (parameters := model.parameters(architecture)) > limits.parameters:
        return "parameters", parameters
    if limits.interval or limits.machine_steps:
        interval, machine_steps = model.timing(architecture)
        if limits.interval and interval > limits.interval:
            return "interval", interval
        if limits.machine_steps and machine_steps > limits.machine_steps:
            return "machine_steps", machine_steps
    return None
