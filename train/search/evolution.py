"""Evolution of architectures, and random search of the same budget to compare it with.

Nothing here knows of networks: what an architecture is worth is asked of a function, once for each. After every
iteration the whole state is a value that can be written as JSON, from which a search goes on to the same end.

Source: BCNAS-SNN, section 4.3; what it leaves open is settled here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.ir import BackwardConnection
from snndeploy.train.search.config import EvolutionConfig
from snndeploy.train.search.ranking import Fitness, Ranking
from snndeploy.train.search.space import Architecture, Space, label, parse

Evaluate: TypeAlias = Callable[[Sequence[Architecture]], Sequence[Fitness | float]]
"""What architectures are worth, in their order; a number alone stands for an accuracy without costs."""


@dataclass(frozen=True)
class Judged:
    """An architecture, what it is worth, and the iteration that evaluated it, counted from 0."""

    architecture: Architecture
    fitness: Fitness
    iteration: int


@dataclass(frozen=True)
class Evolution:
    """A search after some iterations: what it found, and all that it needs to go on.

    judged: Everything evaluated, in order.
    iterations: How many are done.
    upcoming: The architectures to be evaluated next; none if the search is over.
    rng_state: Of the random numbers that follow.
    """

    judged: tuple[Judged, ...]
    iterations: int
    upcoming: tuple[Architecture, ...]
    rng_state: Mapping[str, Any]

    def best(self, ranking: Ranking, count: int = 1) -> list[Judged]:
        """The best of everything evaluated, the best first."""
        return [self.judged[i] for i in ranking.best([one.fitness for one in self.judged], count)]

    def best_so_far(self, ranking: Ranking) -> list[float]:
        """The largest accuracy within the energy limit after each evaluation; -inf while there is none."""
        highest, found = -math.inf, []
        for one in self.judged:
            if ranking.allows(one.fitness):
                highest = max(highest, one.fitness.accuracy)
            found.append(highest)
        return found

    def to_json(self) -> dict[str, Any]:
        """As JSON values; an accuracy of -inf, which JSON has not, is null."""
        return {
            "iterations": self.iterations,
            "judged": [_judged_to_json(one) for one in self.judged],
            "upcoming": [label(architecture) for architecture in self.upcoming],
            "rng_state": dict(self.rng_state),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Evolution:
        """Reads what `to_json` gave.

        Raises:
            FileFormatError: The values are something else.
        """
        try:
            np.random.PCG64().state = values["rng_state"]
            return cls(
                judged=tuple(_judged_from_json(one) for one in values["judged"]),
                iterations=int(values["iterations"]),
                upcoming=tuple(parse(text) for text in values["upcoming"]),
                rng_state=dict(values["rng_state"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError("state of a search", "is damaged", got=error) from error


def evolve(
    first: Sequence[Architecture],
    space: Space,
    config: EvolutionConfig,
    rng: np.random.Generator,
    fitness: Evaluate,
    *,
    ranking: Ranking = Ranking(),  # noqa: B008  (frozen)
    on_iteration: Callable[[Evolution], None] = lambda _: None,
    state: Evolution | None = None,
) -> Evolution:
    """Evaluates population after population, each made of the best of all before.

    Args:
        first: The first population; too few are filled up at random.
        space: Where children come from.
        config: Sizes and probabilities.
        rng: Where chance comes from; nothing else may draw from it meanwhile.
        fitness: What architectures are worth. It is asked for each architecture once.
        ranking: Which are the best.
        on_iteration: Called with the state after every iteration.
        state: To go on from, in place of `first`.

    Returns:
        The last state. There are fewer iterations than asked for if the space is used up.

    Raises:
        ConfigError: An architecture of the first population is not in the space, or as `Space.sample`.
    """

    def following(judged: Sequence[Judged]) -> list[Architecture]:
        order = ranking.best([one.fitness for one in judged], config.parents)
        parents = [judged[i].architecture for i in order]
        return children(parents, space, rng, config, [one.architecture for one in judged])

    start = state or _start(first, space, config.population, rng)
    return _search(start, rng, fitness, following, config.iterations, on_iteration)


def random_search(
    first: Sequence[Architecture],
    space: Space,
    config: EvolutionConfig,
    rng: np.random.Generator,
    fitness: Evaluate,
    *,
    budget: int | None = None,
    on_iteration: Callable[[Evolution], None] = lambda _: None,
    state: Evolution | None = None,
) -> Evolution:
    """Evaluates random architectures, as many as an evolution would.

    Args:
        first: To begin with; () for a search that is random from the start.
        space: Where architectures come from, uniformly over sets of at least one backward connection.
        config: Sizes of the populations.
        rng: As of `evolve`.
        fitness: As of `evolve`.
        budget: Evaluations, those of `first` included; None for iterations * population.
        on_iteration: As of `evolve`.
        state: As of `evolve`.

    Returns:
        The last state. There are fewer evaluations than asked for if the space is used up.

    Raises:
        ConfigError: As `evolve`.
    """
    most = config.iterations * config.population if budget is None else budget

    def following(judged: Sequence[Judged]) -> list[Architecture]:
        seen = [one.architecture for one in judged]
        return space.sample(rng, min(config.population, most - len(judged)), exclude=seen, at_least=1)

    start = state or _start(first, space, min(config.population, most), rng)
    return _search(start, rng, fitness, following, max(most, 1), on_iteration)


def children(
    parents: Sequence[Architecture],
    space: Space,
    rng: np.random.Generator,
    config: EvolutionConfig,
    seen: Collection[Architecture],
) -> list[Architecture]:
    """A population made of parents: children by mutation, children by crossover, and random sets to fill up.

    Each attempt takes any parent. A child that is illegal, like its parent, or seen before is discarded.

    Raises:
        ConfigError: As `Space.sample`.
    """
    taken = {*seen, *parents}
    found: list[Architecture] = []
    for make, wanted in ((mutate, config.mutations), (cross, config.crossovers)):
        made = 0
        for _ in range(config.attempts if parents else 0):
            if made == wanted:
                break
            child = make(parents[int(rng.integers(len(parents)))], space, rng, config)
            if child is not None and child not in taken:
                taken.add(child)
                found.append(child)
                made += 1
    missing = config.population - len(found)
    return found + space.sample(rng, missing, exclude=taken, at_least=1)


def mutate(
    parent: Architecture, space: Space, rng: np.random.Generator, config: EvolutionConfig
) -> Architecture | None:
    """A parent with ports moved, maybe none of them; None if that is illegal.

    Each backward connection mutates with the mutation probability: its source or its target, either as likely,
    moves up or down by 1 or by 2, the latter half as likely. A parent without any gains one.
    """
    if not parent:
        return _gained(parent, space, rng)
    probability = config.mutation_probability
    return _together(space, [_moved(c, space, rng) if rng.random() < probability else c for c in parent])


def cross(
    parent: Architecture, space: Space, rng: np.random.Generator, config: EvolutionConfig
) -> Architecture | None:
    """A parent two of whose backward connections swapped targets; None if not tried, or illegal.

    It is tried with the crossover probability only. A parent with fewer than two gains one.
    """
    if rng.random() >= config.crossover_probability:
        return None
    if len(parent) < 2:
        return _gained(parent, space, rng)
    chosen = {int(index) for index in rng.choice(len(parent), size=2, replace=False)}
    one, other = (parent[index] for index in sorted(chosen))
    swapped = [space.connection(one.source, other.target), space.connection(other.source, one.target)]
    return _together(space, [*swapped, *(c for index, c in enumerate(parent) if index not in chosen)])


def _gained(parent: Architecture, space: Space, rng: np.random.Generator) -> Architecture | None:
    others = [connection for connection in space.connections if connection not in parent]
    if not others:
        return None
    return _together(space, [*parent, others[int(rng.integers(len(others)))]])


def _moved(
    connection: BackwardConnection, space: Space, rng: np.random.Generator
) -> BackwardConnection | None:
    moves_source = rng.random() < 1 / 2
    distance = 1 if rng.random() < 2 / 3 else 2  # inversely proportional: 1 is to 1/2 as 2/3 is to 1/3
    move = distance if rng.random() < 1 / 2 else -distance
    if moves_source:
        return space.connection(connection.source + move, connection.target)
    return space.connection(connection.source, connection.target + move)


def _together(space: Space, connections: Sequence[BackwardConnection | None]) -> Architecture | None:
    """The architecture of connections; None if one is missing or twice, or the space does not allow it."""
    legal = {connection for connection in connections if connection is not None}
    if len(legal) < len(connections):
        return None
    architecture = tuple(sorted(legal))
    return architecture if space.allows(architecture) else None


def _start(
    first: Sequence[Architecture], space: Space, population: int, rng: np.random.Generator
) -> Evolution:
    """The state before the first iteration."""
    for architecture in first:
        if not space.allows(architecture):
            raise ConfigError("first population", "must be of the space", got=label(architecture))
    different = list(dict.fromkeys(first))
    missing = max(population - len(different), 0)
    filled = [*different, *space.sample(rng, missing, exclude=different, at_least=1)]
    return Evolution((), 0, tuple(filled), rng.bit_generator.state)


def _search(
    state: Evolution,
    rng: np.random.Generator,
    fitness: Evaluate,
    following: Callable[[Sequence[Judged]], list[Architecture]],
    iterations: int,
    on_iteration: Callable[[Evolution], None],
) -> Evolution:
    """Evaluates what is upcoming, and what follows from it, until the iterations or the ideas are used up."""
    rng.bit_generator.state = state.rng_state
    while state.upcoming and state.iterations < iterations:
        values = [_as_fitness(value) for value in fitness(state.upcoming)]
        pairs = zip(state.upcoming, values, strict=True)
        judged = (*state.judged, *(Judged(one, value, state.iterations) for one, value in pairs))
        done = state.iterations + 1
        upcoming = tuple(following(judged)) if done < iterations else ()
        state = Evolution(judged, done, upcoming, rng.bit_generator.state)
        on_iteration(state)
    return state


def _as_fitness(value: Fitness | float) -> Fitness:
    return value if isinstance(value, Fitness) else Fitness(accuracy=float(value))


def _judged_to_json(one: Judged) -> dict[str, Any]:
    accuracy = one.fitness.accuracy
    return {
        "architecture": label(one.architecture),
        "iteration": one.iteration,
        "accuracy": None if accuracy == -math.inf else accuracy,
        "standard_error": one.fitness.standard_error,
        "energy_pj": one.fitness.energy_pj,
        "machine_steps": one.fitness.machine_steps,
    }


def _judged_from_json(values: Mapping[str, Any]) -> Judged:
    accuracy = values["accuracy"]
    fitness = Fitness(
        accuracy=-math.inf if accuracy is None else float(accuracy),
        standard_error=float(values["standard_error"]),
        energy_pj=float(values["energy_pj"]),
        machine_steps=int(values["machine_steps"]),
    )
    return Judged(parse(values["architecture"]), fitness, int(values["iteration"]))
