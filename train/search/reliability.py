"""How far the scores without training can be trusted, measured before they are used.

A ranking that changes with the samples or with the initial weights says nothing about the candidates. One that
only repeats a plain property, such as the earliest port that is fed, says little more than that. All figures are
Spearman's rank correlations over a sample of candidates.
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
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.scoring import Material, Scores
from snndeploy.train.search.space import Architecture

Repeat: TypeAlias = tuple[Literal["batch", "initialisation"], int]
"""Which scorer: one that sees a part of the batch, or one of the whole batch with other initial weights."""

Values: TypeAlias = Sequence["float | None"]

_FEWEST = 3  # candidates for a rank correlation
_INITIALISATION = 12  # stream of random numbers


@dataclass(frozen=True, kw_only=True)
class ScoreReliability:
    """Of one score; a correlation is None where too few candidates have both values, or all the same one.

    between_batches: Mean over pairs of disjoint parts of the batch.
    between_initialisations: Mean over pairs of seeds.
    with_input_port: With the earliest port that a connection enters; candidates without one are left out.
    rejected: Candidates for which the score is undefined with the first initialisation.
    reliable: Whether both correlations between repeats reach the bound.
    weight: What the score counts for in `deploy` mode, in [0, 1].
    """

    between_batches: float | None
    between_initialisations: float | None
    with_input_port: float | None
    rejected: int
    reliable: bool
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
            f"(bound {self.bound:g})"
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
        correlations: Between repeats, of which the smallest decides; None, unknown, counts as none.
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
        between_batches, between_seeds = _mean(parts), _mean(seeds)
        share = weight(between_batches, between_seeds, bound=bound)
        return ScoreReliability(
            between_batches=between_batches,
            between_initialisations=between_seeds,
            with_input_port=spearman(seeds[0], ports),
            rejected=sum(value is None for value in seeds[0]),
            reliable=share == 1,
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
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if len(pairs) < _FEWEST or any(len(set(values)) == 1 for values in zip(*pairs, strict=True)):
        return None
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def _mean(repeats: Sequence[Values]) -> float | None:
    found = [spearman(first, second) for first, second in combinations(repeats, 2)]
    known = [value for value in found if value is not None]
    return fmean(known) if known else None


def _seed(seed: int, index: int) -> int:
    """Of an initialisation; the first is the one given."""
    if index == 0:
        return seed
    return int(np.random.SeedSequence([seed, _INITIALISATION, index]).generate_state(1)[0])


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.2f}"


def _line(name: str, score: ScoreReliability) -> str:
    undefined = f", undefined for {score.rejected}" if score.rejected else ""
    return (
        f"  {name}: between batches {_shown(score.between_batches)}, between initialisations "
        f"{_shown(score.between_initialisations)}, with the earliest input port {_shown(score.with_input_port)}"
        f"{undefined}: {'reliable' if score.reliable else 'UNRELIABLE'}, weight {score.weight:.2f} in deploy mode"
    )
