"""Paired comparisons, by hand, and what they recommend."""

from __future__ import annotations

import pytest
from scipy.stats import wilcoxon

from snndeploy.train.search.comparison import FEWEST_SEEDS, compare, recommend, signed_rank_p
from snndeploy.train.search.space import parse


def test_interval_and_test_by_hand() -> None:
    """Differences 100, ..., 500 of 1000: mean 0.3, t(4) = 2.776, deviation 0.15811; five signs of 32 are positive."""
    found = compare([100, 200, 300, 400, 500], [0] * 5, 1000)
    reach = 2.7764451 * 0.15811388 / 5**0.5
    assert found.mean == pytest.approx(0.3)
    assert found.low == pytest.approx(0.3 - reach)
    assert found.high == pytest.approx(0.3 + reach)
    assert found.wilcoxon_p == pytest.approx(2 / 32)
    assert (found.wins, found.confidence, found.is_better) == (5, 0.95, True)


def test_equal_differences_leave_the_error_of_the_samples() -> None:
    """Ten more of 100 with every seed: no interval of width 0, but the binomial one of a share of 11 / 102."""
    found = compare([60, 70, 80, 50, 40], [50, 60, 70, 40, 30], 100)
    share = 11 / 102
    reach = 2.7764451 * (share * (1 - share) / 100 / 5) ** 0.5
    assert found.low == pytest.approx(0.1 - reach)
    assert found.is_better
    same = compare([50, 60], [50, 60], 100)
    assert same.low is not None
    assert same.high is not None
    assert (same.mean, same.wilcoxon_p, same.wins) == (0, 1, 0)
    assert same.low < 0 < same.high
    one_more = compare([51] * 5, [50] * 5, 100)
    assert not one_more.is_better


def test_several_comparisons_share_the_error() -> None:
    """With two comparisons each interval is one of 97.5 %, so wider."""
    one, two = (compare([90, 80, 70], [60, 60, 60], 100, count) for count in (1, 2))
    assert one.low is not None
    assert two.low is not None
    assert two.low < one.low
    assert two.confidence == 0.975


def test_few_seeds_prove_nothing() -> None:
    """However large and equal the differences are; with one seed there is no interval at all."""
    assert compare([1000], [0], 1000).low is None
    for count in range(1, FEWEST_SEEDS):
        found = compare([900] * count, [100] * count, 1000)
        assert not found.is_better
    assert compare([900] * FEWEST_SEEDS, [100] * FEWEST_SEEDS, 1000).is_better


def test_signed_ranks_with_ties() -> None:
    """+3, +3, -3 all have rank 2; two or three of three signs are positive in half of the cases, on either side."""
    assert signed_rank_p([3, 3, -3]) == 1
    assert signed_rank_p([3, 3, 3]) == 2 / 8
    # Ranks 1.5, 1.5, 3, 4; only -, +, +, + in two ways, or all positive, reach 8.5 of 10.
    assert signed_rank_p([1, -1, 2, 3]) == 2 * 3 / 16
    assert signed_rank_p([0, 5, 0]) == 1


def test_signed_ranks_are_those_of_scipy() -> None:
    """Where no sizes are equal, whatever the signs."""
    for differences in ([1, -2, 3, 4, -5, 6], [7, 6, 5, -4, 3, 2, 1, 9], [-1, 2]):
        expected = wilcoxon([float(value) for value in differences], method="exact").pvalue
        assert signed_rank_p(differences) == pytest.approx(float(expected))


def test_accuracies_do_not_decide_ties() -> None:
    """0.9 - 0.87 and 0.42 - 0.39 differ in the last bit as accuracies; as right answers they are equal."""
    assert 0.9 - 0.87 != 0.42 - 0.39
    found = compare([90, 42, 39], [87, 39, 42], 100)
    assert found.wilcoxon_p == 1


def test_recommendation() -> None:
    """The best of those whose interval lies above 0; no connections if there is none, also if all are worse."""
    base = [500] * 5
    better, best = (
        compare([600, 610, 600, 610, 600], base, 1000),
        compare([700, 710, 700, 710, 700], base, 1000),
    )
    uncertain, worse = compare([900, 400, 900, 400, 900], base, 1000), compare([400] * 5, base, 1000)
    one, other, third = parse("1:1"), parse("2:2"), parse("3:3")
    assert recommend({one: better, other: best, third: uncertain}) == other
    assert recommend({one: uncertain}) == recommend({one: worse}) == recommend({}) == ()
