"""How well a curve of accuracy against energy trades one for the other, in numbers.

A point is (energy ratio, accuracy): energy relative to that without a penalty, accuracy in [0, 1].

Source: Spiking Synaptic Penalty, algorithm 1 and appendix A.4.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr
from sklearn.feature_selection import mutual_info_regression
from sklearn.metrics import mutual_info_score

Point = tuple[float, float]
Values = npt.NDArray[np.float64]
NEIGHBOURS = 3
"""Of a point, for the nearest-neighbour estimate of mutual information; scikit-learn's default."""
_FEWEST = {"spearman": 3, "mi_paper": 2, "mi": NEIGHBOURS + 1}


@dataclass(frozen=True)
class Association:
    """How closely energy ratio and accuracy go together.

    points: Number of points counted.
    spearman: Rank correlation in [-1, 1].
    mi_paper: Mutual information in nats with every distinct value taken for a label of its own: ln n for n
        points that all differ. Published values are such logarithms, so it counts points more than it measures.
    mi: Mutual information in nats, estimated from nearest neighbours.
    reasons: By the name of each of the three that is None, why.
    """

    points: int
    spearman: float | None = None
    mi_paper: float | None = None
    mi: float | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """What one of several curves came to.

    mean, std: Over the seeds; the deviation is that of a sample, None with fewer than two.
    """

    name: str
    mean: float
    std: float | None


def rising(points: Iterable[Point]) -> list[Point]:
    """The curve of algorithm 1: a polygon that never falls, from energy ratio x1, the least there is, to 1.

    Points above ratio 1 are left out, and so are those with a lower accuracy than one to their left. In front
    stands (x1, 0), at the end (1, the highest accuracy). Points of the same ratio rise.

    Example:
        >>> rising([(0.5, 0.8), (0.25, 0.6), (0.75, 0.7), (1.5, 0.9)])
        [(0.25, 0.0), (0.25, 0.6), (0.5, 0.8), (1.0, 0.8)]
    """
    kept = sorted(point for point in points if point[0] <= 1)
    if not kept:
        return []
    curve = [(kept[0][0], 0.0)]
    for ratio, accuracy in [*kept, (1.0, max(accuracy for _, accuracy in kept))]:
        if accuracy >= curve[-1][1]:
            curve.append((ratio, accuracy))
    return curve


def auc(points: Iterable[Point], above: float) -> float:
    """AUC(P) of algorithm 1: the area under the rising curve and over accuracy P', as a share of the most.

    Nothing is counted left of the first point. The area is exact where the curve crosses P', too.

    Args:
        points: Of individual runs.
        above: P in percent, in [0, 100); P' = P / 100.

    Example:
        >>> auc([(0.25, 0.6), (0.5, 0.8)], 0)  # 0.25 * 0.7 + 0.5 * 0.8
        0.575
    """
    cutoff = above / 100
    area = math.fsum(_area(start, end, cutoff) for start, end in pairwise(rising(points)))
    return area / (1 - cutoff)


def _area(start: Point, end: Point, cutoff: float) -> float:
    """Between a segment that does not fall and a height, where the segment is higher."""
    (left, low), (right, high) = start, end
    if high <= cutoff:
        return 0.0
    if low >= cutoff:
        return (right - left) * ((low - cutoff) + (high - cutoff)) / 2
    return (right - left) * (high - cutoff) ** 2 / (high - low) / 2  # a triangle


def ratio_at(points: Iterable[Point], accuracy: float) -> float | None:
    """The least energy ratio at which the rising curve reaches an accuracy; None if it never does.

    Example:
        >>> ratio_at([(0.25, 0.5), (0.5, 1.0)], 0.75), ratio_at([(0.25, 0.5)], 0.75)
        (0.375, None)
    """
    for (left, low), (right, high) in pairwise(rising(points)):
        if high >= accuracy:
            share = (accuracy - low) / (high - low) if high > low else 0.0
            return min(left + (right - left) * max(share, 0.0), right)
    return None


def association(points: Iterable[Point], above: float) -> Association:
    """Rank correlation and mutual information of the points whose accuracy lies above a percentage.

    Args:
        points: Of individual runs.
        above: P in percent.
    """
    kept = np.array([point for point in points if point[1] > above / 100], np.float64).reshape(-1, 2)
    ratios, accuracies = kept.T
    reasons = {
        name: f"needs {least} runs above {above:g} %, has {len(kept)}"
        for name, least in _FEWEST.items()
        if len(kept) < least
    }
    for what, values in (("energy ratios", ratios), ("accuracies", accuracies)):
        if len(values) > 0 and np.all(values == values[0]):
            reasons = dict.fromkeys(("spearman", "mi"), f"all {what} are the same") | reasons
    return Association(
        points=len(kept),
        spearman=None if "spearman" in reasons else float(spearmanr(ratios, accuracies).statistic),
        mi_paper=None if "mi_paper" in reasons else _by_labels(ratios, accuracies),
        mi=None if "mi" in reasons else _mutual_information(ratios, accuracies),
        reasons=reasons,
    )


def _by_labels(x: Values, y: Values) -> float:
    """Mutual information of values that are taken for labels."""
    with warnings.catch_warnings():
        # It guesses that so many labels are measurements, which they are.
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
        return float(mutual_info_score(_labels(x), _labels(y)))


def _labels(values: Values) -> npt.NDArray[np.int64]:
    """A whole number for each distinct value."""
    labels: npt.NDArray[np.int64] = np.unique(values, return_inverse=True)[1]
    return labels


def _mutual_information(x: Values, y: Values) -> float:
    """Estimate of Kraskov et al. (2004); the seed is of the tiny noise that separates equal values."""
    return float(mutual_info_regression(x[:, None], y, n_neighbors=NEIGHBOURS, random_state=0)[0])


def score(name: str, values: Sequence[float]) -> Score:
    """Mean and deviation of a curve's value over the seeds."""
    return Score(name, statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def within_spread(one: Score, other: Score) -> bool | None:
    """Whether two means differ by no more than the larger of their deviations; None if one is not known."""
    if one.mean == other.mean:
        return True
    if one.std is None or other.std is None:
        return None
    return abs(one.mean - other.mean) <= max(one.std, other.std)


def verdict(claim: Sequence[Score]) -> str:
    """What scores say about the claim that they fall from the first to the last.

    Every pair is looked at: a claim may hold, be contradicted, or lie within the spread over seeds.

    Example:
        >>> verdict([Score("syn", 0.8, 0.01), Score("total", 0.7, 0.01), Score("balance", 0.695, 0.02)])
        'as claimed; within the spread: total > balance'
        >>> verdict([Score("syn", 0.7, 0.01), Score("total", 0.8, 0.01)])
        'contradicted: total > syn'
    """
    pairs = [(one, other) for place, one in enumerate(claim) for other in claim[place + 1 :]]
    wrong = [f"{b.name} > {a.name}" for a, b in pairs if b.mean > a.mean and not within_spread(a, b)]
    close = [_in_order(a, b) for a, b in pairs if within_spread(a, b)]
    parts = []
    if wrong:
        parts.append(f"contradicted: {', '.join(wrong)}")
    elif len(close) < len(pairs):
        parts.append("as claimed")
    if close:
        parts.append(f"within the spread: {', '.join(close)}")
    if any(within_spread(a, b) is None for a, b in pairs):
        parts.append("the spread is unknown with fewer than two whole seeds")
    return "; ".join(parts)


def _in_order(one: Score, other: Score) -> str:
    if one.mean == other.mean:
        return f"{one.name} = {other.name}"
    first, second = (one, other) if one.mean > other.mean else (other, one)
    return f"{first.name} > {second.name}"
