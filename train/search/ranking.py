"""Which of the architectures evaluated so far are the best: by accuracy, within limits, or on the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from snndeploy.train.search.config import SearchConfig


@dataclass(frozen=True, kw_only=True)
class Fitness:
    """What an evaluation found.

    accuracy: Or whatever else is to be large, such as a score; -inf for what was rejected.
    standard_error: Of the accuracy; of a share of right answers as `snndeploy.train.search.fitness` takes it.
    energy_pj: Estimated, of one sample.
    machine_steps: Latency of one sample.
    """

    accuracy: float
    standard_error: float = 0.0
    energy_pj: float = 0.0
    machine_steps: int = 0

    def __post_init__(self) -> None:
        if any(math.isnan(v) for v in (self.accuracy, self.standard_error, self.energy_pj)):
            raise ValueError(f"a fitness must be ordered, got {self}")

    @property
    def goals(self) -> tuple[float, float, float]:
        """Accuracy, energy and latency, the latter two negative: the larger, the better."""
        return self.accuracy, -self.energy_pj, -float(self.machine_steps)


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How evaluated architectures are ordered.

    pareto: By non-dominated fronts of accuracy, energy and latency, else by accuracy.
    cheaper: Whether accuracies that are as good as equal are ordered by energy, then latency; without `pareto`.
    tolerance: How many standard errors of the larger accuracy that may be.
    energy_limit_pj: What takes more comes last, the least excess first; 0 for no limit.
    """

    pareto: bool = False
    cheaper: bool = False
    tolerance: float = 0.0
    energy_limit_pj: float = 0.0

    @classmethod
    def of(cls, config: SearchConfig) -> Ranking:
        """The ranking that a search is configured for."""
        return cls(
            pareto=config.objective == "pareto",
            cheaper=config.mode == "deploy",
            tolerance=config.evolution.tolerance,
            energy_limit_pj=config.space.limits.energy_pj,
        )

    def allows(self, fitness: Fitness) -> bool:
        """Whether the energy limit is kept."""
        return not self.energy_limit_pj or fitness.energy_pj <= self.energy_limit_pj

    def best(self, found: Sequence[Fitness], count: int) -> list[int]:
        """Indices of the best, the best first; of equals the one that was found first."""
        within = [i for i, fitness in enumerate(found) if self.allows(fitness)]
        if self.pareto:
            chosen = _by_fronts(found, within, count)
        elif self.cheaper:
            chosen = self._by_near_ties(found, within, count)
        else:
            chosen = sorted(within, key=lambda i: -found[i].accuracy)[:count]
        beyond = [i for i, fitness in enumerate(found) if not self.allows(fitness)]
        beyond.sort(key=lambda i: (found[i].energy_pj, -found[i].accuracy))
        return [*chosen, *beyond[: count - len(chosen)]]

    def _by_near_ties(self, found: Sequence[Fitness], indices: Sequence[int], count: int) -> list[int]:
        """Again and again the cheapest of those as good as the most accurate that is left.

        To be as good as equal is not transitive, so it cannot be a key to sort by.
        """
        left = sorted(indices, key=lambda i: -found[i].accuracy)
        chosen: list[int] = []
        while left and len(chosen) < count:
            top = found[left[0]]
            low = top.accuracy - self.tolerance * top.standard_error
            near = [i for i in left if found[i].accuracy >= low]
            cheapest = min(near, key=lambda i: (found[i].energy_pj, found[i].machine_steps))
            chosen.append(cheapest)
            left.remove(cheapest)
        return chosen


def fronts(found: Sequence[Fitness]) -> list[list[int]]:
    """Indices by non-dominated fronts of accuracy, energy and latency, the Pareto front first.

    Source: Deb et al., NSGA-II, IEEE Trans. Evol. Comput. 6(2), 2002, section III-A.
    """
    beats = [[j for j, other in enumerate(found) if _dominates(one, other)] for one in found]
    above = [0] * len(found)
    for beaten in beats:
        for j in beaten:
            above[j] += 1
    done: list[list[int]] = []
    front = [i for i, number in enumerate(above) if number == 0]
    while front:
        done.append(front)
        following = set()
        for i in front:
            for j in beats[i]:
                above[j] -= 1
                if above[j] == 0:
                    following.add(j)
        front = sorted(following)
    return done


def crowding(found: Sequence[Fitness]) -> list[float]:
    """How far each lies from its neighbours in the same front: inf at the ends of a goal.

    Source: Deb et al., NSGA-II, IEEE Trans. Evol. Comput. 6(2), 2002, section III-B.
    """
    distance = [0.0] * len(found)
    for goal in range(3):
        values = [fitness.goals[goal] for fitness in found]
        order = sorted(range(len(found)), key=values.__getitem__)
        low, high = values[order[0]], values[order[-1]]
        if low == high:
            continue
        distance[order[0]] = distance[order[-1]] = math.inf
        if math.isinf(high - low):
            continue
        for before, here, after in zip(order, order[1:], order[2:], strict=False):
            distance[here] += (values[after] - values[before]) / (high - low)
    return distance


def _by_fronts(found: Sequence[Fitness], indices: Sequence[int], count: int) -> list[int]:
    """Front by front, in each the loneliest first."""
    chosen: list[int] = []
    for front in fronts([found[i] for i in indices]):
        members = [indices[place] for place in front]
        lonely = crowding([found[i] for i in members])
        pairs = sorted(zip(lonely, members, strict=True), key=lambda pair: -pair[0])
        chosen += [member for _, member in pairs]
    return chosen[:count]


def _dominates(one: Fitness, other: Fitness) -> bool:
    """Whether the first is nowhere worse and somewhere better."""
    return one.goals != other.goals and all(a >= b for a, b in zip(one.goals, other.goals, strict=True))
