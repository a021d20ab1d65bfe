"""What a search chooses, by hand; no backward connections are a legal answer."""

from __future__ import annotations

from snndeploy.train.search.choice import Choice
from snndeploy.train.search.ranking import Fitness, Ranking
from snndeploy.train.search.space import Architecture, parse

ONE, OTHER, DRAWN = parse("1:1"), parse("2:2"), parse("3:3")


def choice(ranking: Ranking, *values: tuple[Architecture, float, float]) -> Choice:
    """Of architectures with accuracy and energy; what was drawn is the last one."""
    fitness = {
        one: Fitness(accuracy=accuracy, energy_pj=energy, standard_error=0.05)
        for one, accuracy, energy in values
    }
    return Choice(ranking, fitness, [ONE, OTHER], [DRAWN])


def test_the_most_accurate() -> None:
    """By accuracy alone; the best of the random search is its own."""
    found = choice(Ranking(), ((), 0.7, 1), (ONE, 0.8, 2), (OTHER, 0.75, 2), (DRAWN, 0.9, 9))
    assert (found.found, found.finalists, found.rival) == ([ONE], [ONE], DRAWN)


def test_none_is_found() -> None:
    """Where it is as accurate as the best; the best with connections is confirmed all the same."""
    found = choice(Ranking(), ((), 0.8, 1), (ONE, 0.8, 2), (OTHER, 0.75, 2), (DRAWN, 0.9, 9))
    assert (found.found, found.finalists) == ([()], [ONE])


def test_near_ties_go_to_none() -> None:
    """It is the cheapest of what is as good as equal; not if what is found is better by more."""
    ranking = Ranking(cheaper=True, tolerance=1)
    near = choice(ranking, ((), 0.76, 1), (ONE, 0.8, 3), (OTHER, 0.77, 2), (DRAWN, 0.1, 9))
    assert (near.found, near.finalists) == ([()], [OTHER])
    far = choice(ranking, ((), 0.6, 1), (ONE, 0.8, 3), (OTHER, 0.77, 2), (DRAWN, 0.1, 9))
    assert far.found == [OTHER]


def test_pareto() -> None:
    """Only what nothing beats, whichever search has found it and no connections included."""
    ranking = Ranking(pareto=True)
    some = choice(ranking, ((), 0.6, 1), (ONE, 0.8, 3), (OTHER, 0.7, 4), (DRAWN, 0.9, 9))
    assert some.front == [DRAWN, ONE, ()]
    assert some.found == some.finalists == [DRAWN, ONE]
    beaten = choice(ranking, ((), 0.9, 1), (ONE, 0.8, 3), (OTHER, 0.7, 2), (DRAWN, 0.8, 9))
    assert (beaten.front, beaten.found) == ([()], [()])
    assert beaten.finalists[0] in (ONE, OTHER)


def test_nothing_keeps_the_limit() -> None:
    """The least excess is found, and there is no front."""
    for ranking in (Ranking(energy_limit_pj=1), Ranking(energy_limit_pj=1, pareto=True)):
        found = choice(ranking, ((), 0.6, 4), (ONE, 0.8, 3), (OTHER, 0.7, 2), (DRAWN, 0.9, 9))
        assert (found.front, found.found) == ([], [OTHER])
