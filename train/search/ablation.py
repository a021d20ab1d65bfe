"""The ablation of BCNAS-SNN, its table 4: the search with one part of it replaced at a time.

The rows are searches of one configuration that differ in what the row names and in nothing else. Scores, the
supernet, evaluations and trainings that are the same in several rows are done once. The published figures are
those of ResNet-18 on CIFAR-100, and no measure of what another network on other data should reach.

What a row found is here the best with backward connections, as in the paper, also where none do as well.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.train.distributed import World
from snndeploy.train.search.config import EvolutionConfig, LimitsConfig, ScoreConfig, SearchConfig
from snndeploy.train.search.folder import ABLATION, ABLATION_TABLE, open_run, read_object, write_sealed
from snndeploy.train.search.screening import Tell
from snndeploy.train.search.search import Search, search

_SHARED = "shared"


def _silent(*_: Any, **__: Any) -> None: ...


@dataclass(frozen=True)
class Row:
    """A row of the table, by the names that it has there.

    step1: Scores that choose the first population: "both", "n", "e", or "" for a random one.
    step2: What evolution maximises.
    way: "evolution" or "random".
    share: Candidates, as a share of those of the method itself, which are 2000 in the paper; in a space with
        fewer sets, a share of these.
    published: Accuracy in % at T = 4 and T = 6.
    """

    name: str
    step1: str
    step2: str
    way: str
    share: float
    published: tuple[float, float]

    def config(self, whole: SearchConfig, sets: int) -> SearchConfig:
        """The search of this row, as the paper does it: for accuracy, without quotas, ties and limits.

        Args:
            whole: Of all rows.
            sets: How many candidates the space has.
        """
        first = self.name == METHOD
        score: ScoreConfig = replace(
            whole.score,
            scores=self.step1 or "both",
            candidates=int(min(whole.score.candidates, sets) * self.share),
            reliability_candidates=whole.score.reliability_candidates if first else 0,
        )
        evolution: EvolutionConfig = replace(whole.evolution, method=self.way, fitness=self.step2)
        return replace(
            whole,
            mode="paper",
            objective="accuracy",
            space=replace(whole.space, limits=LimitsConfig()),
            score=score,
            evolution=evolution,
            confirm=replace(whole.confirm, architectures=0),
        )


METHOD = "BCNAS-SNN"
BASELINE = (73.38, 74.71)
ROWS = (
    Row(METHOD, "both", "supernet", "evolution", 1.0, (74.97, 75.72)),
    Row("Exp1", "n", "supernet", "evolution", 1.0, (74.44, 75.57)),
    Row("Exp2", "e", "supernet", "evolution", 1.0, (74.51, 75.54)),
    Row("Exp3", "both", "supernet", "random", 1.0, (74.40, 75.30)),
    Row("Exp4", "both", "n", "evolution", 1.0, (73.56, 74.75)),
    Row("Exp5", "both", "e", "evolution", 1.0, (73.94, 74.98)),
    Row("Exp6", "both", "supernet", "evolution", 0.5, (74.26, 75.27)),
    Row("Exp7", "both", "supernet", "evolution", 0.25, (73.51, 74.97)),
    Row("Exp8", "", "supernet", "evolution", 0.0, (72.58, 74.72)),
)
"""Source: BCNAS-SNN, table 4. All but the method replace one part of it."""


def small(config: SearchConfig) -> SearchConfig:
    """The same search on a small budget, for an ablation that is nine searches.

    At most 200 candidates, 20 of them for the reliability, 10 epochs of the supernet, 5 iterations, 3 seeds.
    """
    score, evolution, supernet = config.score, config.evolution, config.supernet
    return replace(
        config,
        score=replace(
            score,
            candidates=min(score.candidates, 200),
            reliability_candidates=min(score.reliability_candidates, 20),
        ),
        supernet=replace(supernet, epochs=min(supernet.epochs, 10)),
        evolution=replace(evolution, iterations=min(evolution.iterations, 5)),
        confirm=replace(config.confirm, seeds=config.confirm.seeds[:3]),
    )


def ablate(
    config: SearchConfig,
    run: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    tell: Tell = _silent,
) -> dict[str, Any]:
    """Does the searches of all rows, and leaves the table in the run folder as ablation.json.

    Arguments and errors are those of `snndeploy.train.search.search.search`.

    Returns:
        What ablation.json holds: the accuracy, trained from scratch, of what each row found.

    Raises:
        ConfigError: There are no seeds to train with, or no candidates to score.
    """
    if not config.confirm.seeds:
        raise ConfigError("confirm.seeds", "must name at least one for an ablation", got="none")
    if not config.score.candidates or config.score.scores != "both":
        raise ConfigError("score", "must have candidates and both scores for an ablation", got=config.score)
    open_run(config, run, resume=resume, overwrite=overwrite)
    done = read_object(run / ABLATION_TABLE, "published_of", "rows")
    if done is None:
        shared = run / ABLATION / _SHARED
        try:
            shared.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileFormatError(str(shared), "cannot be written", got=error.strerror) from error
        sets = Search(ROWS[0].config(config, 1), run, shared, workers, World(), tell).space.sets(at_least=1)
        rows = {row: row.config(config, sets) for row in ROWS}
        found = {row.name: _search(row, own, run, shared, workers, tell) for row, own in rows.items()}
        done = {"published_of": "ResNet-18 on CIFAR-100", "rows": _table(found)}
        write_sealed(run / ABLATION_TABLE, done)
    return done


def _search(row: Row, own: SearchConfig, run: Path, shared: Path, workers: int, tell: Tell) -> dict[str, Any]:
    def within(stage: str, done: float, total: int, note: str = "") -> None:
        tell(f"{row.name}, {stage}", done, total, note)

    folder = run / ABLATION / row.name
    found = search(own, folder, resume=True, shared=shared, workers=workers, tell=within)
    if found is None:
        raise AssertionError  # of the first rank there is always a result
    return found


def _table(found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    alone = _accuracies(found[METHOD], "none")
    baseline = {"name": "Baseline", "step1": "", "step2": "", "way": "", "candidates": 0}
    rows = [{**baseline, **_row("none", alone, alone, BASELINE)}]
    for row in ROWS:
        one = found[row.name]
        best = one["finalists"][0]
        named = {"name": row.name, "step1": row.step1, "step2": row.step2, "way": row.way}
        rows.append(
            {
                **named,
                "candidates": one["candidates"],
                **_row(best, _accuracies(one, best), alone, row.published),
            }
        )
    return rows


def _row(
    best: str,
    accuracies: Mapping[str, list[float]],
    alone: Mapping[str, list[float]],
    published: tuple[float, float],
) -> dict[str, Any]:
    """What was found, its mean accuracies and what they are above no backward connections."""
    means = {name: statistics.fmean(values) for name, values in accuracies.items()}
    gains = {f"{name}_gain": value - statistics.fmean(alone[name]) for name, value in means.items()}
    return {"found": best, **means, **gains, "published": list(published)}


def _accuracies(one: Mapping[str, Any], best: str) -> dict[str, list[float]]:
    networks = one["confirmation"]["networks"][best]
    return {name: [network["accuracy"] for network in networks[name]] for name in ("validation", "test")}
