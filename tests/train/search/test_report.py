"""What the trainings of a confirmation come to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from snndeploy.train.search.choice import Choice
from snndeploy.train.search.comparison import spearman_interval
from snndeploy.train.search.confirm import Measured, Trial
from snndeploy.train.search.evolution import Evolution
from snndeploy.train.search.ranking import Fitness, Ranking
from snndeploy.train.search.report import Outcome, report
from snndeploy.train.search.space import Architecture, label, parse
from tests.train.search.searches import tiny
from tests.train.search.supernets import random_data, space_of

ONE, RIVAL = parse("1:1"), parse("2:2")
RIGHT = {ONE: [80, 82, 81, 83, 80], RIVAL: [90, 91, 92, 90, 93], (): [60, 60, 61, 62, 60]}
EVALUATED = {ONE: 0.5, RIVAL: 0.4, (): 0.3}


def outcome(energies_pj: Mapping[Architecture, float], *settings: str) -> Outcome:
    """A search that found ONE beside the RIVAL of a random search; networks with these answers of 100.

    As evaluated, all of them keep any limit, and the less accurate ones take less energy.
    """
    config = tiny("confirm.seeds=[0,1,2,3,4]", *settings)
    measured = {
        Trial(one, seed): Measured(right / 100, 100, energies_pj[one] + seed, 0.0)
        for one, rights in RIGHT.items()
        for seed, right in enumerate(rights)
    }
    fitness = {one: Fitness(accuracy=value, energy_pj=value) for one, value in EVALUATED.items()}
    nothing = Evolution((), 0, (), {})
    return Outcome(
        config=config,
        run=Path("nowhere"),
        space=space_of(config, random_data(config)),
        scores={},
        reliability=None,
        candidates=0,
        first=(),
        evolution=nothing,
        random=nothing,
        evaluated={},
        choice=Choice(Ranking.of(config), fitness, [ONE], [RIVAL]),
        correlated=(),
        correlated_seed=0,
        trained=measured,
        tested=measured,
    )


def facts(found: Outcome) -> dict[str, Any]:
    """What search.json would hold, with networks by name."""
    return report(found, {})


LIMIT = ("objective=limits", "space.limits.energy_pj=10")


def test_recommended() -> None:
    """What was found is better; what random search found is compared by itself, and no recommendation."""
    found = facts(outcome({ONE: 5, RIVAL: 5, (): 5}))
    assert found["recommendation"]["architecture"] == label(ONE)
    comparisons = {one["found_by"]: one for one in found["confirmation"]["comparisons"]}
    assert comparisons["search"]["architecture"] == label(ONE)
    assert comparisons["random search"]["architecture"] == label(RIVAL)
    assert comparisons["random search"]["validation"]["mean"] == pytest.approx(0.306)
    assert comparisons["search"]["validation"]["confidence"] == 0.95


def test_trained_networks_keep_the_limit() -> None:
    """Their mean energy counts, not that of the search: 8 to 12 pJ keep 10 pJ, 9 to 13 do not."""
    within, beyond = (facts(outcome({ONE: energy, RIVAL: 5, (): 5}, *LIMIT)) for energy in (8, 9))
    assert within["recommendation"]["architecture"] == label(ONE)
    assert beyond["recommendation"]["architecture"] == "none"
    for found, energy, keeps in ((within, 10, True), (beyond, 11, False)):
        networks = found["confirmation"]["networks"][label(ONE)]
        assert (networks["mean_energy_pj"], networks["within_limits"]) == (energy, keeps)
        assert found["recommendation"]["within_limits"]


def test_the_next_one_keeps_the_limit() -> None:
    """Of two finalists the better one is recommended; the other one, if the first takes too much when trained."""
    settings = ("objective=pareto", "space.limits.energy_pj=10")
    for energies, expected in (((5, 5), RIVAL), ((5, 50), ONE), ((50, 5), RIVAL), ((50, 50), ())):
        found = facts(outcome({ONE: energies[0], RIVAL: energies[1], (): 5}, *settings))
        assert found["finalists"] == [label(ONE), label(RIVAL)]
        assert found["recommendation"]["architecture"] == label(expected)
        assert found["recommendation"]["within_limits"]
        comparisons = {one["architecture"]: one["is_better"] for one in found["confirmation"]["comparisons"]}
        assert comparisons == {label(ONE): True, label(RIVAL): True}


@pytest.mark.parametrize("objective", ["limits", "pareto"])
def test_what_breaks_the_limit_never_wins(objective: str) -> None:
    """Whatever the trained networks take, from less than the limit of 10 pJ to more, by any amount."""
    settings = (f"objective={objective}", "space.limits.energy_pj=10")
    recommended = set()
    for energies in itertools.product((1, 8, 8.1, 1000), repeat=3):
        energies_pj = dict(zip((ONE, RIVAL, ()), energies, strict=True))
        best = outcome(energies_pj, *settings).recommended
        assert not best or energies_pj[best] + 2 <= 10  # seeds take 0 to 4 more, 2 on average
        recommended.add(best)
    assert recommended == ({ONE, ()} if objective == "limits" else {ONE, RIVAL, ()})


def test_nothing_keeps_the_limit() -> None:
    """No connections are what is left, and that they do not keep it either is said."""
    found = facts(outcome({ONE: 50, RIVAL: 5, (): 20}, *LIMIT))
    assert found["recommendation"]["architecture"] == "none"
    assert not found["recommendation"]["within_limits"]


def test_interval_of_a_rank_correlation() -> None:
    """By hand: z = 0.6931 for 0.6, error sqrt(1.18 / 5), so 0.6931 -+ 0.9521; none for few pairs or r = 1."""
    assert spearman_interval(0.6, 8) == pytest.approx((-0.2533, 0.9283), abs=1e-3)
    assert spearman_interval(0.6, 3) is None
    assert spearman_interval(1.0, 8) is None
