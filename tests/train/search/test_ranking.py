"""Which architectures are the best: by hand."""

from __future__ import annotations

import math

import pytest

from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.ranking import Fitness, Ranking, crowding, fronts


def fit(accuracy: float, energy: float = 0.0, steps: int = 0, error: float = 0.0) -> Fitness:
    """In short."""
    return Fitness(accuracy=accuracy, energy_pj=energy, machine_steps=steps, standard_error=error)


def test_by_accuracy() -> None:
    """The most accurate first, of equals the first found, costs play no part, rejected ones come last."""
    found = [fit(0.5, 1), fit(0.9, 9), fit(-math.inf), fit(0.9, 2), fit(0.7)]
    assert Ranking().best(found, 4) == [1, 3, 4, 0]
    assert Ranking().best(found, 9) == [1, 3, 4, 0, 2]
    assert Ranking().best([], 3) == []


def test_near_ties_go_to_the_cheaper() -> None:
    """0.89 is as good as 0.90 at an error of 0.02, and cheaper; 0.87 is not; then the rest by the same rule."""
    found = [fit(0.90, 9, error=0.02), fit(0.89, 5, error=0.02), fit(0.87, 1, error=0.02)]
    assert Ranking(cheaper=True, tolerance=1).best(found, 3) == [1, 0, 2]
    # Two errors reach to 0.86.
    assert Ranking(cheaper=True, tolerance=2).best(found, 3) == [2, 1, 0]
    assert Ranking(cheaper=True, tolerance=0).best(found, 3) == [0, 1, 2]
    assert Ranking(tolerance=2).best(found, 3) == [0, 1, 2]


def test_near_ties_do_not_chain() -> None:
    """Each is compared with the best that is left, not with its neighbour: 0.8 cannot lead by way of 0.85."""
    found = [fit(0.9, 3, error=0.06), fit(0.85, 2, error=0.06), fit(0.8, 1, error=0.06)]
    assert Ranking(cheaper=True, tolerance=1).best(found, 2) == [1, 0]


def test_equal_accuracy_and_energy_goes_to_the_faster() -> None:
    """Exact ties are ties at any tolerance."""
    found = [fit(0.9, 3, 20), fit(0.9, 3, 10), fit(0.9, 3, 10)]
    assert Ranking(cheaper=True).best(found, 3) == [1, 2, 0]


def test_energy_limit() -> None:
    """What exceeds it comes last, the least excess first, however accurate."""
    found = [fit(0.99, 30), fit(0.6, 10), fit(0.7, 9), fit(0.9, 20)]
    assert Ranking(energy_limit_pj=10).best(found, 4) == [2, 1, 3, 0]
    assert Ranking(energy_limit_pj=10).best(found, 1) == [2]
    assert Ranking(energy_limit_pj=10, pareto=True).best(found, 4)[2:] == [3, 0]


def test_fronts() -> None:
    """Accuracy up, energy and latency down; what is equal does not dominate.

    0 and 1 trade accuracy for energy, 2 has the latency; 3 is worse than 0, 4 than 1 and 3, 5 equals 0.
    """
    found = [
        fit(0.9, 9, 20),
        fit(0.8, 5, 20),
        fit(0.7, 9, 10),
        fit(0.85, 9, 20),
        fit(0.75, 9, 21),
        fit(0.9, 9, 20),
    ]
    assert fronts(found) == [[0, 1, 2, 5], [3], [4]]
    assert fronts([]) == []


def test_crowding() -> None:
    """Ends of a goal are infinitely far; between them the gaps around each, relative to the range."""
    # Accuracy 0, 1, 4; energy 0, 2, 4; all as fast.
    assert crowding([fit(0, 0), fit(1, 2), fit(4, 4)]) == [math.inf, 2.0, math.inf]
    assert crowding([fit(0.5, 1)]) == [0.0]
    # 1 has gaps of 2 of 8 on both axes, 2 has 7 of 8.
    four = [fit(0, 0), fit(1, 1), fit(2, 2), fit(8, 8)]
    assert crowding(four) == [math.inf, 0.5, 1.75, math.inf]
    assert crowding([fit(-math.inf, 3), fit(0, 3), fit(1, 3)])[0] == math.inf


def test_pareto_front_by_front() -> None:
    """The first front whole, its loneliest first, before anything dominated."""
    found = [fit(1, 1), fit(0, 0), fit(2, 2), fit(8, 8), fit(7.9, 9)]
    ranking = Ranking(pareto=True)
    assert ranking.best(found, 5) == [1, 3, 2, 0, 4]
    assert ranking.best(found, 3) == [1, 3, 2]


def test_of_a_configuration() -> None:
    """Paper: no ties by cost; deploy: with the tolerance; Pareto and the energy limit as asked for."""
    assert Ranking.of(SearchConfig()) == Ranking(tolerance=1.0)
    values = {
        "mode": "deploy",
        "objective": "limits",
        "space": {"limits": {"energy_pj": 5}},
        "evolution": {"tolerance": 0.5},
    }
    assert Ranking.of(SearchConfig.from_mapping(values)) == Ranking(
        cheaper=True, tolerance=0.5, energy_limit_pj=5.0
    )
    assert Ranking.of(SearchConfig(objective="pareto")).pareto


def test_no_order_without_numbers() -> None:
    """NaN has no place in an order."""
    with pytest.raises(ValueError, match="must be ordered"):
        fit(math.nan)
