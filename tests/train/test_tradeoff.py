"""Numbers of trade-off curves, against cases computed by hand."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import digamma

from snndeploy.train.tradeoff import (
    Point,
    Score,
    association,
    auc,
    ratio_at,
    rising,
    score,
    verdict,
    within_spread,
)

POINTS = st.lists(st.tuples(st.floats(0, 1.5), st.floats(0, 1)), min_size=1, max_size=12)


def test_a_curve_that_crosses_the_cutoff() -> None:
    """It is at 0.5 at ratio 0.3: a triangle 0.3 x 0.3 / 2, then 0.4 x 0.3, of the 0.5 there can be."""
    assert auc([(0.2, 0.4), (0.6, 0.8)], 50) == pytest.approx((0.045 + 0.12) / 0.5, rel=1e-14)


def test_a_single_point() -> None:
    """Level to ratio 1, and nothing to its left: 0.6 x 0.4 of 0.5."""
    assert rising([(0.4, 0.9)]) == [(0.4, 0.0), (0.4, 0.9), (1.0, 0.9)]
    assert auc([(0.4, 0.9)], 50) == pytest.approx(0.48, rel=1e-14)


def test_a_curve_that_falls() -> None:
    """Points below one to their left are left out: 0.4 x (0.1 + 0.3) / 2, then 0.4 x 0.3, of 0.5."""
    points = [(0.2, 0.6), (0.4, 0.5), (0.6, 0.8), (0.8, 0.7)]
    assert rising(points) == [(0.2, 0.0), (0.2, 0.6), (0.6, 0.8), (1.0, 0.8)]
    assert auc(points, 50) == pytest.approx(0.4, rel=1e-14)


def test_points_beyond_the_baseline_do_not_count() -> None:
    """Not even for the accuracy at ratio 1: 0.5 x 0.2 of 0.5."""
    assert auc([(0.5, 0.7), (1.2, 0.9)], 50) == pytest.approx(0.2, rel=1e-14)
    assert rising([(1.2, 0.9)]) == []
    assert auc([(1.2, 0.9)], 50) == 0


def test_points_below_the_cutoff() -> None:
    """No area; one at the cutoff has none, either."""
    assert auc([(0.1, 0.4), (0.5, 0.5)], 50) == 0


def test_points_of_one_ratio() -> None:
    """They rise, in whatever order they come: 0.25 x 0.1, then 0.5 x 0.4, of 0.5."""
    points = [(0.5, 0.9), (0.5, 0.6), (0.25, 0.6)]
    assert auc(points, 50) == auc(points[::-1], 50) == pytest.approx(0.45, rel=1e-14)


def test_the_whole_square() -> None:
    """Full accuracy for no energy is 1; with P = 0 the area is that under the curve."""
    assert auc([(0.0, 1.0)], 70) == pytest.approx(1.0, rel=1e-14)
    assert auc([(0.0, 0.0), (1.0, 1.0)], 0) == pytest.approx(0.5, rel=1e-14)


@given(points=POINTS, above=st.sampled_from([0.0, 50.0, 70.0, 99.0]))
def test_against_a_sum_over_thin_strips(points: list[Point], above: float) -> None:
    """The area is that under the curve, cut off and sampled."""
    curve = np.array([p for p in rising(points) if p[1] > 0] or [(2.0, 0.0)])
    x = (np.arange(20_000) + 0.5) / 20_000
    height = np.where(x < curve[0, 0], 0, np.interp(x, *curve.T))
    strips = float(np.maximum(height - above / 100, 0).mean()) / (1 - above / 100)
    assert auc(points, above) == pytest.approx(strips, abs=2e-3 / (1 - above / 100))
    assert 0 <= auc(points, above) <= 1


def test_ratio_at() -> None:
    """From (0.2, 0.4) to (0.6, 0.8) accuracy 0.7 takes 0.5; the first point reaches what is below it."""
    points = [(0.2, 0.4), (0.6, 0.8), (1.0, 0.6)]
    assert ratio_at(points, 0.7) == pytest.approx(0.5)
    assert ratio_at(points, 0.8) == pytest.approx(0.6)
    assert ratio_at(points, 0.1) == 0.2
    assert ratio_at(points, 0.81) is None
    assert ratio_at([], 0.1) is None


def test_ratio_at_the_start_of_a_level_part() -> None:
    """The least ratio, not the last."""
    assert ratio_at([(0.2, 0.6), (0.5, 0.6), (0.8, 0.6)], 0.6) == 0.2


def test_rank_correlation() -> None:
    """Ranks 1 2 3 4 against 1 3 2 4: 1 - 6 (1 + 1) / (4 (16 - 1)) = 0.8."""
    found = association([(0.1, 0.6), (0.2, 0.8), (0.4, 0.7), (1.1, 0.9)], 50)
    assert found.spearman == pytest.approx(0.8)
    assert (found.points, found.reasons) == (4, {})


def test_mutual_information_of_labels() -> None:
    """Ln n where all values differ; two pairs of equal points are two labels, ln 2."""
    assert association([(0.1 * i, 0.5 + 0.01 * i) for i in range(1, 8)], 50).mi_paper == pytest.approx(
        math.log(7)
    )
    pairs = [(0.1, 0.6), (0.1, 0.6), (0.3, 0.8), (0.3, 0.8)]
    assert association(pairs, 50).mi_paper == pytest.approx(math.log(2))


def test_many_points_are_no_warning() -> None:
    """Of more than 20 labels scikit-learn guesses that they are measurements; warnings are errors here."""
    points = [(0.02 * i, 0.5 + 0.01 * i) for i in range(1, 31)]
    assert association(points, 50).mi_paper == pytest.approx(math.log(30))


def test_mutual_information_of_neighbours() -> None:
    """psi(n) + psi(k) - mean of psi(nx + 1) + psi(ny + 1), with nx and ny neighbours nearer than the third."""
    random = np.random.default_rng(4)
    x = random.uniform(0.1, 1, 14)
    y = np.clip(0.5 + 0.4 * x + 0.02 * random.standard_normal(14), 0.51, 1)
    found = association(list(zip(x.tolist(), y.tolist(), strict=True)), 50)
    dx, dy = (np.abs(v[:, None] - v) / v.std() for v in (x, y))
    third = np.sort(np.maximum(dx, dy), axis=1)[:, 3:4]  # the first is the point itself
    nx, ny = ((d < third).sum(1) - 1 for d in (dx, dy))
    expected = digamma(14) + digamma(3) - np.mean(digamma(nx + 1) + digamma(ny + 1))
    assert expected > 0.2
    assert found.mi == pytest.approx(expected, abs=1e-6)


def test_points_at_or_below_the_cutoff_are_left_out() -> None:
    """A point must lie above it."""
    assert association([(0.1, 0.5), (0.2, 0.4), (0.3, 0.6)], 50).points == 1


def test_too_few_points() -> None:
    """What cannot be computed is None, and why is said."""
    three = association([(0.1, 0.6), (0.2, 0.7), (0.3, 0.8)], 50)
    assert three.spearman == pytest.approx(1.0)
    assert three.mi is None
    assert three.reasons == {"mi": "needs 4 runs above 50 %, has 3"}
    none = association([(0.1, 0.6)], 70)
    assert (none.points, none.spearman, none.mi_paper, none.mi) == (0, None, None, None)
    assert set(none.reasons) == {"spearman", "mi_paper", "mi"}


def test_constant_values() -> None:
    """A rank correlation with a constant is undefined, and a label that is always the same tells nothing."""
    found = association([(0.1 * i, 0.8) for i in range(1, 6)], 50)
    assert (found.spearman, found.mi) == (None, None)
    assert found.mi_paper == pytest.approx(0.0, abs=1e-12)
    assert found.reasons == dict.fromkeys(("spearman", "mi"), "all accuracies are the same")
    assert "energy ratios" in association([(0.5, 0.6 + 0.1 * i) for i in range(4)], 50).reasons["mi"]


def test_the_spread_is_the_larger_deviation() -> None:
    """Means 0.1 apart lie within a deviation of 0.1; with one seed nothing is known."""
    one, other = Score("a", 0.5, 0.01), Score("b", 0.625, 0.125)
    assert within_spread(one, other)
    assert not within_spread(one, Score("b", 0.625, 0.12))
    assert within_spread(one, Score("b", 0.625, None)) is None
    two = score("a", [0.5, 0.75])
    assert (two.name, two.mean) == ("a", 0.625)
    assert two.std == pytest.approx(0.25 / math.sqrt(2))
    assert score("a", [0.5]) == Score("a", 0.5, None)


def test_the_example_of_the_page() -> None:
    """What docs/tradeoff.md works out by hand is what comes out."""
    text = (Path(__file__).parents[2] / "docs" / "tradeoff.md").read_text(encoding="utf-8")
    rows = [[float(cell) for cell in row] for row in re.findall(r"^\| (\d) \| (.*) \| (.*) \|$", text, re.M)]
    points = [(ratio, accuracy) for _, ratio, accuracy in rows]
    assert len(points) == 5
    curve = re.search(r"curve goes through (.*): two", text)
    assert curve is not None
    assert curve[1] == ", ".join(f"({x:g}, {y:g})" for x, y in rising(points))
    assert f"AUC(50) = {auc(points, 50):.2%}".replace("%", " %") in text
    found = association(points[1:], 50)
    assert f"**Spearman = {found.spearman:g}**, MI by labels = ln 3 = {found.mi_paper:.3f}" in " ".join(
        text.split()
    )
    assert found.mi is None
    for drop in (0, 0.01):
        ratio = ratio_at(points, points[0][1] - drop)
        assert ratio is not None
        assert f"**{100 * ratio:.1f} %**" in text


@pytest.mark.parametrize(
    ("means", "std", "expected"),
    [
        ((0.8, 0.7, 0.6), 0.01, "as claimed"),
        ((0.8, 0.7, 0.6), None, "as claimed; the spread is unknown with fewer than two whole seeds"),
        ((0.8, 0.7, 0.695), 0.01, "as claimed; within the spread: b > c"),
        ((0.8, 0.7, 0.705), 0.01, "as claimed; within the spread: c > b"),
        ((0.7, 0.8, 0.6), 0.01, "contradicted: b > a"),
        ((0.7, 0.8, 0.705), 0.01, "contradicted: b > a; within the spread: c > a"),
        ((0.7, 0.7, 0.7), 0.01, "within the spread: a = b, a = c, b = c"),
    ],
)
def test_verdict(means: tuple[float, ...], std: float | None, expected: str) -> None:
    """Every pair holds, is contradicted, or lies within the spread."""
    assert verdict([Score(name, mean, std) for name, mean in zip("abc", means, strict=True)]) == expected
