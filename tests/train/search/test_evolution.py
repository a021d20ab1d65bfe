"""Evolution: children by hand, nothing evaluated twice, interrupted as unbroken."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from snndeploy.backbones import backbone
from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.train.search.config import EvolutionConfig, LimitsConfig, SpaceConfig
from snndeploy.train.search.evolution import (
    Evaluate,
    Evolution,
    children,
    cross,
    evolve,
    mutate,
    random_search,
)
from snndeploy.train.search.ranking import Fitness, Ranking
from snndeploy.train.search.space import Architecture, Space, label, parse

ALWAYS = EvolutionConfig(mutation_probability=1.0, crossover_probability=1.0)
SHORT = EvolutionConfig(iterations=5, population=8, parents=3, mutations=4, crossovers=2)


@pytest.fixture(scope="module")
def space() -> Space:
    """Five ports, 15 connections, at most two at a time: 121 architectures."""
    return space_of(2)


def space_of(most: int) -> Space:
    """Five ports, and any number of connections at a time."""
    return Space.of(backbone("resnet6", (1, 8, 8), 10), SpaceConfig(most=most), 4)


def worth(architectures: Sequence[Architecture]) -> list[float]:
    """A landscape with one summit, 3:2+4:4, from which accuracy falls with the distance of the ports."""
    summit = parse("3:2+4:4")

    def one(architecture: Architecture) -> float:
        far = sum(
            min((abs(a.source - b.source) + abs(a.target - b.target) for a in architecture), default=8)
            for b in summit
        )
        return 1 - far / 16 - abs(len(architecture) - 2) / 50

    return [one(architecture) for architecture in architectures]


def outcomes(
    make: Callable[..., Architecture | None], parent: str, space: Space, config: EvolutionConfig, draws: int
) -> Counter[str]:
    """How often each child comes of a parent; "illegal" for none."""
    rng = np.random.default_rng(0)
    made = (make(parse(parent), space, rng, config) for _ in range(draws))
    return Counter("illegal" if child is None else label(child) for child in made)


def is_distribution(found: Counter[str], expected: dict[str, float]) -> bool:
    """Whether counts fit probabilities, and nothing else turned up."""
    assert sum(expected.values()) == pytest.approx(1)
    draws = sum(found.values())
    test = chisquare([found[name] for name in expected], [draws * p for p in expected.values()])
    return set(found) <= set(expected) and test.pvalue > 0.01


def test_mutation_moves_one_port_by_one_or_two(space: Space) -> None:
    """Either port up or down, by 2 half as often as by 1, never both; beyond the ports or i > j is illegal."""
    expected = {"1:1": 1 / 6, "3:1": 1 / 6, "4:1": 1 / 12, "2:0": 1 / 6, "2:2": 1 / 6}
    found = outcomes(mutate, "2:1", space, ALWAYS, 6_000)
    assert is_distribution(found, {**expected, "illegal": 3 / 12})  # 0:1, 2:3 and 2:-1


def test_mutation_probability(space: Space) -> None:
    """Each of two connections mutates by itself with alpha = 0.2; 4:4 has the legal moves 3, 2 of its target."""
    found = outcomes(mutate, "0:0+4:4", space, EvolutionConfig(), 20_000)
    moved_high = {"4:3": 1 / 6, "4:2": 1 / 12}
    moved_low = {"1:0": 1 / 6, "2:0": 1 / 12}
    stays = 0.8
    expected = {"0:0+4:4": stays**2}
    expected |= {f"0:0+{one}": stays * 0.2 * p for one, p in moved_high.items()}
    expected |= {f"{one}+4:4": 0.2 * stays * p for one, p in moved_low.items()}
    expected |= {f"{a}+{b}": 0.04 * p * q for a, p in moved_low.items() for b, q in moved_high.items()}
    expected["illegal"] = 1 - sum(expected.values())
    assert is_distribution(found, expected)


def test_mutation_into_the_same_connection_is_illegal(space: Space) -> None:
    """A set cannot hold a connection twice, so 1:0+2:0 never becomes 1:0 or 2:0 alone."""
    config = EvolutionConfig(mutation_probability=0.5)
    found = outcomes(mutate, "1:0+2:0", space, config, 2_000)
    assert all("+" in name for name in found if name != "illegal")
    assert found["1:0+2:0"] > 400


def test_mutation_keeps_the_space_delays() -> None:
    """A moved connection has the delay that its new ports ask for."""
    space = Space.of(backbone("resnet6", (1, 8, 8), 10), SpaceConfig(delay="pipelined"), 8)
    found = outcomes(mutate, "3:3", space, ALWAYS, 500)
    assert set(found) == {"4:3:2", "3:2:2", "3:1:3", "illegal"}


@pytest.mark.parametrize("make", [mutate, cross])
def test_a_parent_without_connections_gains_one(
    make: Callable[..., Architecture | None], space: Space
) -> None:
    """Each of all, equally likely."""
    found = outcomes(make, "none", space, ALWAYS, 3_000)
    assert is_distribution(found, {label((c,)): 1 / 15 for c in space.connections})


def test_crossover_of_one_connection_adds_another(space: Space) -> None:
    """A different one, each equally likely; nothing where a set may hold only one."""
    found = outcomes(cross, "2:1", space, ALWAYS, 3_000)
    others = [c for c in space.connections if label((c,)) != "2:1"]
    expected = {label(tuple(sorted((*parse("2:1"), c)))): 1 / 14 for c in others}
    assert is_distribution(found, expected)
    assert set(outcomes(cross, "2:1", space_of(1), ALWAYS, 50)) == {"illegal"}


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ("3:0+4:2", "3:2+4:0"),
        ("1:0+4:2", "illegal"),  # 1:2 is no backward connection
        ("3:1+4:1", "3:1+4:1"),  # the same target: unchanged
        ("4:0+4:2", "4:0+4:2"),
    ],
)
def test_crossover_of_two_connections_swaps_targets(space: Space, parent: str, child: str) -> None:
    """j1 -> i1, j2 -> i2 become j1 -> i2, j2 -> i1."""
    assert set(outcomes(cross, parent, space, ALWAYS, 20)) == {child}


def test_crossover_of_three_connections_swaps_any_two() -> None:
    """Each pair is equally likely, the third connection stays."""
    found = outcomes(cross, "2:0+3:1+4:2", space_of(3), ALWAYS, 3_000)
    pairs = {"2:1+3:0+4:2": 1 / 3, "2:2+3:1+4:0": 1 / 3, "2:0+3:2+4:1": 1 / 3}
    assert is_distribution(found, pairs)


def test_crossover_probability(space: Space) -> None:
    """An attempt is made in half of the cases."""
    found = outcomes(cross, "3:0+4:2", space, EvolutionConfig(), 4_000)
    assert is_distribution(found, {"illegal": 1 / 2, "3:2+4:0": 1 / 2})


def test_children_are_new_and_legal(space: Space) -> None:
    """As many as asked for, all different, none seen, none a parent, none without a connection."""
    seen = space.sample(np.random.default_rng(5), 60)
    parents = seen[:10]
    found = children(parents, space, np.random.default_rng(0), EvolutionConfig(), seen)
    assert len(found) == len(set(found)) == 20
    assert not set(found) & set(seen)
    assert all(one and space.allows(one) for one in found)


def test_children_of_either_kind_are_limited(space: Space) -> None:
    """Only mutants of one parent are asked for: three, each a move away; the rest of five is random."""
    config = EvolutionConfig(population=5, mutations=3, crossovers=0, mutation_probability=1.0)
    found = children([parse("2:1")], space, np.random.default_rng(0), config, [])
    assert {label(one) for one in found[:3]} <= {"1:1", "3:1", "4:1", "2:0", "2:2"}
    assert len(set(found)) == 5


def test_attempts_are_limited(space: Space) -> None:
    """Without a legal child attempts end, after 60 draws, and the population is random."""

    class Counted(np.random.Generator):
        parents = 0

        def integers(self, *_: object, **__: object) -> int:  # type: ignore[override]
            self.parents += 1
            return 0

    config = EvolutionConfig(mutation_probability=0.0, crossover_probability=0.0)
    rng = Counted(np.random.PCG64(0))
    found = children([parse("2:1")], space, rng, config, [])
    assert rng.parents == 2 * 60
    assert len(set(found)) == 20


def test_limits_hold_for_children() -> None:
    """Whatever comes of a parent keeps the limits of the space."""
    config = SpaceConfig(most=3, limits=LimitsConfig(interval=2))
    space = Space.of(backbone("resnet6", (1, 8, 8), 10), config, 4)
    found = evolve([], space, SHORT, np.random.default_rng(0), worth)
    assert all(space.costs(one.architecture).interval <= 2 for one in found.judged)
    assert len(found.judged) == 40


def recording(fitness: Evaluate) -> tuple[Evaluate, list[Architecture]]:
    """A fitness, and everything that it will have been asked for."""
    asked: list[Architecture] = []

    def ask(architectures: Sequence[Architecture]) -> Sequence[Fitness | float]:
        asked.extend(architectures)
        return fitness(architectures)

    return ask, asked


def test_everything_is_evaluated_once(space: Space) -> None:
    """5 populations of 8, whatever the first repeats or lacks."""
    ask, asked = recording(worth)
    first = [parse("1:0"), (), parse("1:0")]
    found = evolve(first, space, SHORT, np.random.default_rng(0), ask)
    assert asked[:2] == [parse("1:0"), ()]
    assert len(asked) == len(set(asked)) == len(found.judged) == 40
    assert [one.architecture for one in found.judged] == asked
    assert [one.iteration for one in found.judged] == [i for i in range(5) for _ in range(8)]
    assert [one.fitness.accuracy for one in found.judged] == worth(asked)
    assert (found.iterations, found.upcoming) == (5, ())


def test_used_up_space_ends_a_search() -> None:
    """All 16 architectures, then there is nothing left to evaluate."""
    searches: tuple[Callable[..., Evolution], ...] = (evolve, random_search)
    for search in searches:
        found = search([()], space_of(1), SHORT, np.random.default_rng(0), worth)
        assert len({one.architecture for one in found.judged}) == len(found.judged) == 16
        assert found.upcoming == ()


def test_evolution_climbs(space: Space) -> None:
    """It finds the summit among 121 in 40 evaluations more often than random search does."""
    summits: dict[Callable[..., Evolution], int] = {evolve: 0, random_search: 0}
    for search in summits:
        for seed in range(30):
            found = search([], space, SHORT, np.random.default_rng(seed), worth)
            summits[search] += label(found.best(Ranking())[0].architecture) == "3:2+4:4"
    assert summits[evolve] > summits[random_search] + 8


def test_random_search_has_the_same_budget(space: Space) -> None:
    """As many evaluations as the evolution, or any number asked for; the first population may be given."""
    evolved = evolve([], space, SHORT, np.random.default_rng(0), worth)
    drawn = random_search([], space, SHORT, np.random.default_rng(1), worth)
    assert len(drawn.judged) == len(evolved.judged) == 40
    first = [parse("4:4"), parse("2:0")]
    some = random_search(first, space, SHORT, np.random.default_rng(1), worth, budget=21)
    assert [one.architecture for one in some.judged[:2]] == first
    assert len({one.architecture for one in some.judged}) == len(some.judged) == 21
    many = random_search([], space, SHORT, np.random.default_rng(1), worth, budget=100)
    assert len(many.judged) == 100


@pytest.mark.parametrize("search", [evolve, random_search])
@pytest.mark.parametrize("stop", [1, 2, 4, 5])
def test_interrupted_is_unbroken(search: Callable[..., Evolution], stop: int, space: Space) -> None:
    """From the JSON of any iteration it goes on to the same end, to the last bit, also of random numbers."""
    states: list[str] = []
    whole = search(
        [parse("4:0")],
        space,
        SHORT,
        np.random.default_rng(3),
        worth,
        on_iteration=lambda state: states.append(json.dumps(state.to_json())),
    )
    assert len(states) == 5
    state = Evolution.from_json(json.loads(states[stop - 1]))
    ask, asked = recording(worth)
    resumed = search([parse("4:0")], space, SHORT, np.random.default_rng(99), ask, state=state)
    assert resumed == whole
    assert json.dumps(resumed.to_json()) == states[-1]
    assert len(asked) == 40 - 8 * stop


def test_state_keeps_rejected_architectures() -> None:
    """-inf, which JSON has not, reads back; nothing is written that is not JSON."""
    found = evolve(
        [()],
        space_of(1),
        replace(SHORT, iterations=1),
        np.random.default_rng(0),
        lambda a: [-math.inf] * len(a),
    )
    text = json.dumps(found.to_json(), allow_nan=False)
    assert Evolution.from_json(json.loads(text)) == found


def test_damaged_state(space: Space) -> None:
    """What is no state is refused, however it is damaged."""
    good = evolve([], space, SHORT, np.random.default_rng(0), worth).to_json()
    one = good["judged"][0]
    for changed in (
        {"judged": 3},
        {"judged": [{**one, "architecture": "2"}]},
        {"judged": [{**one, "accuracy": "high"}]},
        {"judged": [{**one, "energy_pj": math.nan}]},
        {"upcoming": [7]},
        {"iterations": None},
        {"rng_state": {"bit_generator": "PCG64"}},
        {"rng_state": {**good["rng_state"], "bit_generator": "MT19937"}},
    ):
        with pytest.raises(FileFormatError, match="state of a search: is damaged"):
            Evolution.from_json({**good, **changed})
    with pytest.raises(FileFormatError):
        Evolution.from_json({})


def test_best_so_far(space: Space) -> None:
    """It never falls, and what exceeds the energy limit does not count."""
    values = iter([(0.5, 9.0), (0.7, 11.0), (0.6, 9.0), (0.4, 1.0)])

    def ask(architectures: Sequence[Architecture]) -> list[Fitness]:
        pairs = [next(values) for _ in architectures]
        return [Fitness(accuracy=accuracy, energy_pj=energy) for accuracy, energy in pairs]

    config = EvolutionConfig(iterations=1, population=4, mutations=0, crossovers=0)
    found = evolve([], space, config, np.random.default_rng(0), ask)
    assert found.best_so_far(Ranking()) == [0.5, 0.7, 0.7, 0.7]
    assert found.best_so_far(Ranking(energy_limit_pj=10)) == [0.5, 0.5, 0.6, 0.6]
    assert found.best(Ranking(energy_limit_pj=10))[0].fitness.accuracy == 0.6


def test_the_ranking_chooses_parents(space: Space) -> None:
    """With one parent, mutants are neighbours of the most accurate architecture, or of the cheapest."""
    first = [parse("4:4"), parse("0:0")]

    def ask(architectures: Sequence[Architecture]) -> list[Fitness]:
        return [
            Fitness(accuracy=0.9 if one == first[0] else 0.8, energy_pj=5.0 if one == first[0] else 1.0)
            for one in architectures
        ]

    config = EvolutionConfig(
        iterations=2, population=2, parents=1, mutations=2, crossovers=0, mutation_probability=1.0
    )
    for ranking, expected in (
        (Ranking(), {"4:3", "4:2"}),
        (Ranking(energy_limit_pj=2.0), {"1:0", "2:0"}),
    ):
        found = evolve(first, space, config, np.random.default_rng(0), ask, ranking=ranking)
        assert {label(one.architecture) for one in found.judged[2:]} == expected


def test_first_population_must_be_of_the_space() -> None:
    """Two connections where one is allowed."""
    with pytest.raises(ConfigError, match=r"first population: must be of the space, got 1:0\+4:4"):
        evolve([parse("1:0+4:4")], space_of(1), SHORT, np.random.default_rng(0), worth)
