"""What a search chooses of everything it has evaluated, no backward connections included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from snndeploy.train.search.ranking import Fitness, Ranking, fronts
from snndeploy.train.search.space import Architecture

_FINALISTS = 3  # of a Pareto front, at most


@dataclass(frozen=True, eq=False)
class Choice:
    """By a ranking.

    ranking: What is looked for.
    fitness: Of everything evaluated.
    evolved: Of these what the evolution went through, at least one with connections.
    drawn: What the random search did.
    has_costs: Whether energies are known, as of a supernet; without them there is no Pareto front.
    """

    ranking: Ranking
    fitness: Mapping[Architecture, Fitness]
    evolved: Sequence[Architecture]
    drawn: Sequence[Architecture]
    has_costs: bool = True

    @cached_property
    def front(self) -> list[Architecture]:
        """Of accuracy, energy and latency, over everything within the limits; the most accurate first."""
        allowed = [one for one, found in self.fitness.items() if self.ranking.allows(found)]
        if not self.has_costs or not allowed:
            return []
        first = fronts([self.fitness[one] for one in allowed])[0]
        return sorted((allowed[i] for i in first), key=lambda one: -self.fitness[one].accuracy)

    @cached_property
    def found(self) -> list[Architecture]:
        """The best of evolution and no backward connections, which win where all else is equal.

        Of a Pareto front the most accurate with connections, and others spread over it; no connections if they
        are all that it holds.
        """
        if self.ranking.pareto and self.front:
            ranked = [one for one in self.front if one] or [()]
            places = np.linspace(0, len(ranked) - 1, min(_FINALISTS, len(ranked))).round().astype(int)
            return [ranked[place] for place in places]
        return [self._best([(), *self._connected])]

    @cached_property
    def finalists(self) -> list[Architecture]:
        """What is confirmed: found with connections; else the best that has some, so that there is a comparison."""
        return [one for one in self.found if one] or [self._best(self._connected)]

    @cached_property
    def rival(self) -> Architecture:
        """The best of the random search, which is confirmed to judge the search by."""
        return self._best(self.drawn)

    @property
    def _connected(self) -> list[Architecture]:
        return [one for one in self.evolved if one]

    def _best(self, architectures: Sequence[Architecture]) -> Architecture:
        (best,) = self.ranking.best([self.fitness[one] for one in architectures], 1)
        return architectures[best]
