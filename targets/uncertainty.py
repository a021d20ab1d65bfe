"""How far an estimate may be off: draws of its constants and of its samples, shared by all that is compared.

A draw of a constant depends on the seed, its name and its source alone. So two networks on one target, a network
and its artificial counterpart, and two targets that quote the same figure err together, and the ratio of two
estimates is known far better than either (common random numbers).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snndeploy.errors import ConfigError
from snndeploy.targets.counts import PerSample
from snndeploy.targets.quantity import Interval, Quantity
from snndeploy.targets.work import Amount, Average

Draws = npt.NDArray[np.float64]
"""One number for each draw, (draws,)."""

_GROUPS = 1000  # of samples that the bootstrap draws from at most
_MOST_DRAWS = 1_000_000


@dataclass(frozen=True, slots=True)
class Range:
    """Percentiles of draws."""

    p5: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one constant, or the choice of samples, does to a total.

    share: Of the variance of the total's logarithm, the squared correlation with the constant's logarithm.
    """

    name: str
    share: float


def check_draws(draws: int) -> None:
    """Refuses a number of draws without a distribution.

    Raises:
        ConfigError: It is not a whole number from 20 to 1 000 000.
    """
    if not 20 <= draws <= _MOST_DRAWS:
        raise ConfigError("draws", f"must be between 20 and {_MOST_DRAWS}", got=draws)


def values(numbers: Mapping[str, Quantity]) -> dict[str, Amount]:
    """The published values themselves."""
    return {name: number.amount.value for name, number in numbers.items() if number.amount is not None}


def drawn(numbers: Mapping[str, Quantity], draws: int, seed: int) -> dict[str, Amount]:
    """Draws of every published number, (draws,) each; a number without a range stays one number.

    Half of the draws lie log-uniformly between low and value, half between value and high, so the value is the
    median; where it is an end of its range, half of the draws are the value.
    """
    found: dict[str, Amount] = {}
    for name, number in numbers.items():
        if number.amount is None:
            continue
        exact = number.amount.low == number.amount.high
        uniform = None if exact else _uniform(name, number.source, draws, seed)
        found[name] = number.amount.value if uniform is None else _between(number.amount, uniform)
    return found


def _uniform(name: str, source: str, draws: int, seed: int) -> Draws:
    digest = hashlib.sha256(f"{seed}\n{name}\n{source}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big")).random(draws)


def _between(amount: Interval, uniform: Draws) -> Draws:
    low, value, high = (np.log(part) for part in (amount.low, amount.value, amount.high))
    below = low + (value - low) * 2 * uniform
    above = value + (high - value) * (2 * uniform - 1)
    found: Draws = np.exp(np.where(uniform < 0.5, below, above))
    return found


def bootstrap(samples: int, draws: int, seed: int) -> Average:
    """Means over samples drawn with replacement, one for each draw; the same samples for everything averaged.

    More than 1 000 samples are drawn in so many groups of neighbours, which have the same mean and nearly the same
    variance of it, so that memory does not grow.
    """
    groups = min(samples, _GROUPS)
    edges = np.linspace(0, samples, groups + 1).astype(np.int64)
    sizes = np.diff(edges)
    rng = np.random.default_rng(np.random.SeedSequence([seed, samples]))
    often = rng.multinomial(groups, np.full(groups, 1 / groups), size=draws).astype(np.float64)
    total = often @ sizes

    def average(counted: PerSample) -> Amount:
        sums = np.add.reduceat(counted.astype(np.float64), edges[:-1])
        if sums.max() == sums.min() and groups == samples:  # nothing varies: no rounding either
            return float(sums[0])
        means: Draws = (often @ sums) / total
        return means

    return average


def range_of(total: Amount) -> Range:
    """Percentiles; of a single number three times that number."""
    p5, p50, p95 = np.percentile(np.atleast_1d(total), (5, 50, 95))
    return Range(float(p5), float(p50), float(p95))


def contributions(total: Amount, constants: Mapping[str, Amount]) -> tuple[Contribution, ...]:
    """What each constant contributes to the spread of a total, the largest first; those without any left out.

    Args:
        total: (draws,), above 0, or a number, which has no spread.
        constants: The draws that it was computed from.
    """
    logs = np.log(np.maximum(np.atleast_1d(total), np.finfo(float).tiny))
    if logs.std() < 1e-12:
        return ()
    shares = {
        name: float(np.corrcoef(np.log(draws), logs)[0, 1] ** 2)
        for name, draws in constants.items()
        if np.size(draws) > 1 and np.std(draws) > 0
    }
    floor = 20 / logs.size  # what chance alone gives, 1 / draws, many times over
    found = [Contribution(name, share) for name, share in shares.items() if share > floor]
    return tuple(sorted(found, key=lambda one: -one.share))
