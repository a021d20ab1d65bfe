"""An architecture compared with no backward connections, seed by seed, and what that recommends.

All of it is about seeds, for one split of the data: other samples may say something else. Right answers are
whole numbers and are compared as such, so that no rounding error decides which differences are equal.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata, t

from snndeploy.train.search.space import Architecture

FEWEST_SEEDS = 5
"""With fewer seeds nothing but no backward connections is recommended."""

RULE = (
    f"no backward connections, unless at least {FEWEST_SEEDS} seeds were compared, the confidence interval of the "
    "paired difference in validation accuracy (over seeds, for this one split) lies above 0, and the energy limit "
    "is kept"
)
_LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Paired differences in accuracy, an architecture less no backward connections.

    differences: By seed.
    mean: Of them.
    low, high: Interval of Student's t; None with fewer than two seeds.
    confidence: Of the interval, 95 % shared among all comparisons that are made (Bonferroni).
    wilcoxon_p: Two-sided, of the signed-rank test; 1 if nothing differs.
    wins: Seeds with a positive difference.
    """

    differences: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None
    confidence: float
    wilcoxon_p: float
    wins: int

    @property
    def is_better(self) -> bool:
        """Whether there are enough seeds, and the interval lies above 0."""
        return len(self.differences) >= FEWEST_SEEDS and self.low is not None and self.low > 0


def compare(ours: Sequence[int], theirs: Sequence[int], samples: int, comparisons: int = 1) -> Comparison:
    """Compares numbers of right answers that belong together in pairs.

    Args:
        ours: Of an architecture, by seed.
        theirs: Without backward connections, by the same seeds.
        samples: That each network was asked.
        comparisons: How many are made on the same seeds, which all intervals are to hold for.

    Example:
        >>> found = compare([90, 80, 90, 85, 90], [70, 70, 80, 70, 75], 100)
        >>> round(found.mean, 3), round(found.low, 3), found.wins, found.is_better
        (0.14, 0.088, 5, True)
    """
    more = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean, count, level = sum(more) / len(more) / samples, len(more), _LEVEL / comparisons
    low = high = None
    if count > 1:
        reach = float(t.ppf(1 - level / 2, count - 1)) * _standard_error(more, samples)
        low, high = mean - reach, mean + reach
    return Comparison(
        differences=tuple(value / samples for value in more),
        mean=mean,
        low=low,
        high=high,
        confidence=1 - level,
        wilcoxon_p=signed_rank_p(more),
        wins=sum(value > 0 for value in more),
    )


def signed_rank_p(differences: Sequence[int]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, exact also where differences are equal.

    Zeros are left out, equal sizes share the mean of their ranks, and all signs are equally likely.

    Example:
        >>> signed_rank_p([1, 2, 3, 4, 5]), signed_rank_p([3, 3, -3]), signed_rank_p([0, 0])
        (0.0625, 1.0, 1.0)
    """
    nonzero = [value for value in differences if value]
    if not nonzero:
        return 1.0
    ranks = [round(2 * rank) for rank in rankdata(np.abs(nonzero))]  # doubled, so whole numbers
    ways = [1] + [0] * sum(ranks)  # to reach each sum of positive ranks
    for rank in ranks:
        ways = [number + (ways[i - rank] if i >= rank else 0) for i, number in enumerate(ways)]
    positive = sum(rank for rank, value in zip(ranks, nonzero, strict=True) if value > 0)
    fewer = min(sum(ways[: positive + 1]), sum(ways[positive:]))
    return min(1.0, 2 * fewer / sum(ways))


def spearman_interval(value: float, count: int) -> tuple[float, float] | None:
    """Interval of 95 % of a rank correlation, by Fisher's z; None for fewer than 4 pairs or a perfect correlation.

    Source: Bonett and Wright, Psychometrika 65(1), 2000, the standard error sqrt((1 + r^2 / 2) / (n - 3)).

    Example:
        >>> tuple(round(limit, 2) for limit in spearman_interval(0.6, 8))
        (-0.25, 0.93)
    """
    if count < 4 or abs(value) >= 1 - 1e-12:
        return None
    reach = float(norm.ppf(1 - _LEVEL / 2)) * math.sqrt((1 + value**2 / 2) / (count - 3))
    return math.tanh(math.atanh(value) - reach), math.tanh(math.atanh(value) + reach)


def recommend(comparisons: Mapping[Architecture, Comparison]) -> Architecture:
    """The architecture with the largest mean difference among those that are better; none if there is none."""
    better = [one for one, comparison in comparisons.items() if comparison.is_better]
    return max(better, key=lambda one: comparisons[one].mean, default=())


def _standard_error(more: Sequence[int], samples: int) -> float:
    """Of the mean share; not below what the samples alone leave open, however alike the seeds are.

    Two networks that differ by k right answers disagree on k samples at least, so the share of these, taken as
    (k + 1) / (samples + 2), gives the smallest binomial variance of a difference.
    """
    count = len(more)
    shares = [(abs(value) + 1) / (samples + 2) for value in more]
    least = statistics.fmean(share * (1 - share) / samples for share in shares)
    seen = statistics.variance(more) / samples**2
    return math.sqrt(max(seen, least) / count)
