"""The first population out of two lists of scores: by hand."""

from __future__ import annotations

import pytest

from snndeploy.errors import ConfigError
from snndeploy.train.search.selection import select
from snndeploy.train.search.space import Architecture, label, parse


def candidates(count: int) -> list[Architecture]:
    """Different ones, all fed back to port 0."""
    return [parse(f"{port}:0") for port in range(count)]


def places(chosen: list[Architecture]) -> list[int]:
    """Which of these candidates they are."""
    return [one[0].source for one in chosen]


def test_the_best_of_both_lists() -> None:
    """Two places each, where the lists disagree: the best two of N, then the best two of E."""
    n = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    assert places(select(candidates(6), 4, n=n, e=n[::-1])) == [0, 1, 5, 4]


def test_duplicates_are_filled_alternately() -> None:
    """Both lists begin with 0 and 1; 2 (N), 5 (E) follow, then 3 (N), 4 (E)."""
    n = [9, 8, 7, 6, 5, 4]
    e = [8, 9, 2, 3, 4, 5]
    assert places(select(candidates(6), 4, n=n, e=e)) == [0, 1, 2, 5]
    assert places(select(candidates(6), 6, n=n, e=e)) == [0, 1, 2, 5, 3, 4]


def test_all_there_are() -> None:
    """Fewer candidates than places: each once."""
    assert sorted(places(select(candidates(3), 20, n=[1, 2, 3], e=[3, 1, 2]))) == [0, 1, 2]
    assert select([], 20, n=[], e=[]) == []


def test_equal_scores_in_the_order_drawn() -> None:
    """Nothing else decides."""
    assert places(select(candidates(5), 3, n=[1, 1, 1, 1, 1])) == [0, 1, 2]


def test_one_score_alone() -> None:
    """It fills all places."""
    assert places(select(candidates(5), 3, e=[1, 5, 2, 4, 3])) == [1, 3, 4]


def test_rejected_candidates_are_left_out() -> None:
    """By either score that counts; one of weight 0 rejects nothing, and chooses nothing."""
    n: list[float | None] = [3, None, 2, 1]
    e: list[float | None] = [1, 9, None, 2]
    assert sorted(places(select(candidates(4), 4, n=n, e=e))) == [0, 3]
    assert places(select(candidates(4), 4, n=n, e=e, weights=(1, 0))) == [0, 2, 3]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((1.0, 1.0), [3, 5, 2, 7]),
        ((1.0, 0.3), [3, 5, 2, 0]),
        ((0.2, 0.6), [2, 7, 0, 1]),
        ((1.0, 0.0), [3, 5, 0, 1]),
        ((0.0, 0.5), [2, 0, 1, 3]),
        ((0.1, 0.1), [0, 1, 2, 3]),
    ],
)
def test_weights_share_the_places(weights: tuple[float, float], expected: list[int]) -> None:
    """Two places for a list of weight 1, fewer for less; what nobody has earned goes to the first ones drawn."""
    n = [5.0, 4.0, 1.0, 8.0, 3.0, 7.0, 6.0, 2.0]
    e = [-one for one in n]
    assert places(select(candidates(8), 4, n=n, e=e, weights=weights)) == expected


def test_unreliable_scores_choose_little() -> None:
    """Of 20 places two lists of weight 0.2 name two each, although both agree; one list alone names four."""
    n = [float(place) for place in range(40)]
    both = places(select(candidates(40), 20, n=n, e=n, weights=(0.2, 0.2)))
    assert both == [39, 38, 37, 36, *range(16)]
    assert places(select(candidates(40), 20, n=n, weights=(0.2, 1.0))) == both


def test_the_quota_holds_for_what_is_drawn() -> None:
    """Of 4 places for 2 ports, the second one drawn for port 0 is passed over once N has named two."""
    drawn = [parse(t) for t in ("1:0", "2:0", "3:0", "2:1", "3:1")]
    chosen = select(drawn, 4, n=[1, 3, 2, 0, 0], weights=(0.5, 1), quota=True)
    assert [label(one) for one in chosen] == ["2:0", "3:0", "2:1", "3:1"]


def test_without_scores_that_count() -> None:
    """The candidates in the order drawn, rejected or not."""
    assert places(select(candidates(4), 2)) == [0, 1]
    assert places(select(candidates(4), 2, n=[None, 1, 2, 3], weights=(0, 1))) == [0, 1]


def test_quota_by_input_port() -> None:
    """N would take the earliest ports only; an equal share of 6 places for 3 ports is 2."""
    drawn = [parse(t) for t in ("2:0", "3:0", "4:0", "1:0", "2:1", "3:1", "4:1", "2:2", "3:2", "4:2")]
    n = [10.0 - place for place in range(10)]
    assert [label(one) for one in select(drawn, 6, n=n)] == [label(one) for one in drawn[:6]]
    chosen = [label(one) for one in select(drawn, 6, n=n, quota=True)]
    assert chosen == ["2:0", "3:0", "2:1", "3:1", "2:2", "3:2"]


def test_quota_counts_the_earliest_port() -> None:
    """4:0+4:4 feeds port 0 first, so it counts with 2:0; no connection at all is a kind of its own."""
    drawn = [parse(t) for t in ("2:0", "4:0+4:4", "4:4", "none")]
    assert [label(one) for one in select(drawn, 3, n=[4, 3, 2, 1], quota=True)] == ["2:0", "4:4", "none"]


def test_quota_keeps_the_shares() -> None:
    """N's share is 2 places although its quota for port 0 passes over candidates."""
    drawn = [parse(t) for t in ("1:0", "2:0", "3:0", "2:1", "3:1", "4:1")]
    n = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    e = [0.0, 0.0, 1.0, 0.0, 2.0, 3.0]
    chosen = select(drawn, 4, n=n, e=e, quota=True)
    assert [label(one) for one in chosen] == ["1:0", "2:0", "4:1", "3:1"]


def test_quota_is_lifted_at_last() -> None:
    """With one candidate of port 1, port 0 fills what is left."""
    drawn = [parse(t) for t in ("1:0", "2:0", "3:0", "4:1")]
    assert [label(one) for one in select(drawn, 4, n=[4, 3, 2, 1], quota=True)] == [
        "1:0",
        "2:0",
        "4:1",
        "3:0",
    ]


@pytest.mark.parametrize(
    ("n", "weights", "message"),
    [
        ([1.0, None], (2.0, 1.0), r"weight of a score: must lie in \[0, 1\], got 2"),
        ([1.0], (1.0, 1.0), "scores: must be one for each of 2 candidates, got 1"),
        ([None, None], (1.0, 1.0), "scores: rejected every candidate; a silent layer"),
    ],
)
def test_mistakes_are_named(n: list[float | None], weights: tuple[float, float], message: str) -> None:
    """A weight out of range, scores of something else, nothing left."""
    with pytest.raises(ConfigError, match=message):
        select(candidates(2), 1, n=n, weights=weights)
