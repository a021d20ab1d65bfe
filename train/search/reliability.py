"""How far the scores without training can be trusted, measured before they are used.

A ranking that changes with the samples or with the initial weights says nothing about the candidates. One that
only repeats a plain property, such as the earliest port that is fed, says little more than that. All figures are
Spearman's rank correlations over a sample of candidates; other candidates would have given others, within an
interval that goes with those that the verdict rests on. The verdict itself is by the correlations alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from statistics import fmean
from typing import Literal, TypeAlias

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from snndeploy.errors import ConfigError
from snndeploy.train.pool import Failure, map_tasks
from snndeploy.train.search.comparison import spearman_interval
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.scoring import Material, Scores
from snndeploy.train.search.space import Architecture

Repeat: TypeAlias = tuple[Literal["batch", "initialisation"], int]
"""Which scorer: one that sees a part of the batch, or one of the whole batch with other initial weights."""

Values: TypeAlias = Sequence["float | None"]

_FEWEST = 3  # candidates for a rank correlation
_INITIALISATION = 12  # stream of random numbers


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Between repeats: Spearman's rank correlation, the mean over all pairs of repeats.

    low, high: Interval of 95 % over candidates, of `snndeploy.train.search.comparison.spearman_interval`, which is
        Fisher's z with the variance of Bonett and Wright (2000). A mean counts as a single correlation, and so
        its interval is rather too wide. None for fewer than 4 candidates or a perfect correlation.
    candidates: That both repeats of a pair have a value for, where they are the fewest.
    """

    value: float
    low: float | None
    high: float | None
    candidates: int

    @classmethod
    def between(cls, repeats: Sequence[Values]) -> Correlation | None:
        """Of the values that each repeat found for the same candidates; None where it is not defined."""
        pairs = combinations(repeats, 2)
        found = [(one, len(_known(*pair))) for pair in pairs if (one := spearman(*pair)) is not None]
        if not found:
            return None
        value, candidates = fmean(one for one, _ in found), min(count for _, count in found)
        low, high = spearman_interval(value, candidates) or (None, None)
        return cls(value=value, low=low, high=high, candidates=candidates)

    def leaves_open(self, bound: float) -> bool:
        """Whether a bound lies inside the interval, so that other candidates might fall on its other side."""
        return self.low is not None and self.high is not None and self.low < bound < self.high


@dataclass(frozen=True, kw_only=True)
class ScoreReliability:
    """Of one score; a correlation is None where too few candidates have both values, or all the same one.

    between_batches: Of disjoint parts of the batch.
    between_initialisations: Of seeds.
    with_input_port: With the earliest port that a connection enters; candidates without one are left out.
    rejected: Candidates for which the score is undefined with the first initialisation.
    reliable: Whether both correlations between repeats reach the bound.
    bound_inside: Whether the bound lies inside an interval of one of both.
    weight: What the score counts for in `deploy` mode, in [0, 1].
    """

    between_batches: Correlation | None
    between_initialisations: Correlation | None
    with_input_port: float | None
    rejected: int
    reliable: bool
    bound_inside: bool
    weight: float


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Of both scores.

    candidates: How many it was measured on.
    repeats: Parts of the batch, and initialisations.
    bound: Below it a score is unreliable.
    n, e: None for a score that is not wanted, or defined for no candidate.
    n_with_e: Between both scores; None where there are not both.
    """

    candidates: int
    repeats: int
    bound: float
    n: ScoreReliability | None
    e: ScoreReliability | None
    n_with_e: float | None

    def to_json(self) -> str:
        """All of it."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def lines(self) -> list[str]:
        """What a report says."""
        found = [
            f"reliability of the scores: Spearman over {self.candidates} candidates, {self.repeats} repeats "
            f"(bound {self.bound:g}), in brackets 95 % intervals"
        ]
        for name, score in (("N-score", self.n), ("E-score", self.e)):
            if score is not None:
                found.append(_line(name, score))
        if self.n is not None and self.e is not None:
            found.append(f"  N-score with E-score: {_shown(self.n_with_e)}")
        return found


def weight(*correlations: float | None, bound: float) -> float:
    """What a score counts for: 1 from the bound on, and from there linearly down to 0 at no correlation.

    Args:
        correlations: Between repeats, of which the smallest decides; None, unknown, counts as none. Their
            intervals have no say.
        bound: Stated by the configuration.
    """
    smallest = min(0.0 if one is None else one for one in correlations)
    if smallest >= bound:
        return 1.0
    return max(0.0, smallest / bound) if bound > 0 else 0.0


def measure(config: SearchConfig, candidates: Sequence[Architecture], *, workers: int = 1) -> Reliability:
    """Scores candidates with parts of the batch and with several initialisations, and compares.

    The first initialisation is that of the search, and the parts are scored with it.

    Args:
        config: Of the search.
        candidates: A random sample of them.
        workers: Processes on this machine; the result does not depend on them.

    Raises:
        SnnDeployError: The configuration cannot be scored.
    """
    repeats = range(config.score.reliability_repeats)
    tasks: list[Repeat] = [("batch", index) for index in repeats]
    tasks += [("initialisation", index) for index in repeats]
    prepare = partial(load_repeats, config, tuple(candidates))
    found: list[list[Scores]] = []
    for result in map_tasks(prepare, tasks, workers=workers, threads=config.training.threads):
        if isinstance(result, Failure):
            raise ConfigError("scores", result.message, remedy="use a larger score.batch")
        found.append(result)
    return compare(candidates, found[: len(repeats)], found[len(repeats) :], config.score.bound)


def load_repeats(
    config: SearchConfig, candidates: Sequence[Architecture]
) -> Callable[[Repeat], list[Scores]]:
    """What scores the candidates once more, for `snndeploy.train.pool.map_tasks`."""
    material = Material.load(config)

    def score(repeat: Repeat) -> list[Scores]:
        kind, index = repeat
        if kind == "batch":
            places = part(material.labels, index, config.score.reliability_repeats)
            return material.scorer(seed=config.seed, places=places).score(candidates)
        return material.scorer(seed=_seed(config.seed, index)).score(candidates)

    return score


def part(labels: Tensor, index: int, count: int) -> Tensor:
    """Which samples make up one of `count` disjoint parts of a batch, with every class in the same proportion.

    Each class has as many samples in each part; what is left over is in none.
    """
    members = [torch.nonzero(labels == label).flatten() for label in torch.unique(labels)]
    chosen = [own[: len(own) // count * count][index::count] for own in members]
    return torch.cat(chosen).sort().values


def compare(
    candidates: Sequence[Architecture],
    batches: Sequence[Sequence[Scores]],
    initialisations: Sequence[Sequence[Scores]],
    bound: float,
) -> Reliability:
    """The correlations between scores of the same candidates.

    Args:
        candidates: In the order of their scores.
        batches: Scores with each part of the batch.
        initialisations: Scores with each initialisation; the first is that of the search.
        bound: Of `weight`.
    """
    ports = [float(min(c.target for c in a)) if a else None for a in candidates]

    def of(name: Literal["n", "e"]) -> ScoreReliability | None:
        parts, seeds = (
            [[getattr(one, name) for one in scores] for scores in repeats]
            for repeats in (batches, initialisations)
        )
        if all(value is None for value in seeds[0]):
            return None
        between_batches, between_seeds = both = Correlation.between(parts), Correlation.between(seeds)
        share = weight(*(None if one is None else one.value for one in both), bound=bound)
        return ScoreReliability(
            between_batches=between_batches,
            between_initialisations=between_seeds,
            with_input_port=spearman(seeds[0], ports),
            rejected=sum(value is None for value in seeds[0]),
            reliable=share == 1,
            bound_inside=any(one is not None and one.leaves_open(bound) for one in both),
            weight=share,
        )

    first = initialisations[0]
    return Reliability(
        candidates=len(candidates),
        repeats=len(initialisations),
        bound=bound,
        n=of("n"),
        e=of("e"),
        n_with_e=spearman([one.n for one in first], [one.e for one in first]),
    )


def spearman(first: Values, second: Values) -> float | None:
    """Rank correlation over the places where both have a value; None if there are too few or all are the same."""
    pairs = _known(first, second)
    if len(pairs) < _FEWEST or any(len(set(values)) == 1 for values in zip(*pairs, strict=True)):
        return None
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def _known(first: Values, second: Values) -> list[tuple[float, float]]:
    """The places where both have a value."""
    return [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]


def _seed(seed: int, index: int) -> int:
    """Of an initialisation; the first is the one given."""
    if index == 0:
        return seed
    return int(np.random.SeedSequence([seed, _INITIALISATION, index]).generate_state(1)[0])


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.2f}"


def _with_interval(found: Correlation | None) -> str:
    if found is None:
        return "unknown"
    interval = "no interval" if found.low is None else f"{found.low:+.2f} to {found.high:+.2f}"
    return f"{_shown(found.value)} ({interval})"


def _line(name: str, score: ScoreReliability) -> str:
    undefined = f", undefined for {score.rejected}" if score.rejected else ""
    verdict = "reliable" if score.reliable else "UNRELIABLE"
    if score.bound_inside:
        verdict += " (though the bound lies inside an interval)"
    return (
        f"  {name}: between batches {_with_interval(score.between_batches)}, between initialisations "
        f"{_with_interval(score.between_initialisations)}, with the earliest input port "
        f"{_shown(score.with_input_port)}{undefined}: {verdict}, weight {score.weight:.2f} in deploy mode"
    )
