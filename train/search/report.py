"""What a search came to: search.json, and what a training can go on with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from snndeploy.ir import Network, save
from snndeploy.ir.drawing import forward_of, layers_of
from snndeploy.ir.files import write_text
from snndeploy.train import checkpoint
from snndeploy.train.checkpoint import CHECKPOINT_FILE
from snndeploy.train.data import load
from snndeploy.train.machine import Machine
from snndeploy.train.search import folder
from snndeploy.train.search.choice import Choice
from snndeploy.train.search.comparison import RULE, Comparison, recommend, spearman_interval
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.confirm import NOTE, Measured, Trial, as_settings, compare_trained, trial_config
from snndeploy.train.search.evolution import Evolution
from snndeploy.train.search.fitness import Fitness
from snndeploy.train.search.reliability import Reliability, spearman
from snndeploy.train.search.scoring import Scores
from snndeploy.train.search.space import Architecture, Space, label
from snndeploy.train.search.supernet import Supernet, supernet_config
from snndeploy.train.snapshot import restore_network
from snndeploy.train.trainer import Trainer

KEYS = (
    "config",
    "space",
    "evaluated",
    "found",
    "finalists",
    "confirmation",
    "recommendation",
    "seconds",
    "files",
)
"""Without which a file is no search.json."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the stages of a search found.

    candidates: How many were drawn to be scored; a small space has fewer than asked for.
    first: The first population; empty if it was random.
    evaluated: Everything that the supernet was asked for.
    choice: Of everything evaluated.
    correlated: Trained once from scratch, with `correlated_seed`.
    trained, tested: Networks trained from scratch, on validation and on test samples.
    """

    config: SearchConfig
    run: Path
    space: Space
    scores: Mapping[Architecture, Scores]
    reliability: Reliability | None
    candidates: int
    first: Sequence[Architecture]
    evolution: Evolution
    random: Evolution
    evaluated: Mapping[Architecture, Fitness]
    choice: Choice
    correlated: Sequence[Architecture]
    correlated_seed: int
    trained: Mapping[Trial, Measured]
    tested: Mapping[Trial, Measured]

    @property
    def comparisons(self) -> dict[Architecture, Comparison]:
        """Of all finalists, on validation samples."""
        seeds = self.config.confirm.seeds
        return {one: self.compared(one, self.trained) for one in (self.choice.finalists if seeds else ())}

    @property
    def recommended(self) -> Architecture:
        """By the rule."""
        allowed = {one: found for one, found in self.comparisons.items() if self.is_within_limits(one)}
        return recommend(allowed)

    def compared(self, one: Architecture, measured: Mapping[Trial, Measured]) -> Comparison:
        """An architecture with no backward connections; the finalists share the error of their comparisons."""
        comparisons = len(self.choice.finalists) if one in self.choice.finalists else 1
        return compare_trained(one, self.config.confirm.seeds, measured, comparisons)

    def energy_pj(self, one: Architecture) -> float:
        """Estimated, mean over the networks of the confirmation; as the search took it where there are none."""
        found = [self.trained[Trial(one, seed)] for seed in self.config.confirm.seeds]
        if not found:
            return self.choice.fitness[one].energy_pj
        return fmean(network.estimated_energy_pj for network in found)

    def is_within_limits(self, one: Architecture) -> bool:
        """Whether the trained networks keep the energy limit; all others narrow the space."""
        limit = self.choice.ranking.energy_limit_pj
        return not limit or self.energy_pj(one) <= limit


def report(outcome: Outcome, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Everything that search.json holds.

    Args:
        outcome: Of the search.
        seconds: That each stage took.
    """
    config, space = outcome.config, outcome.space
    return {
        "config": asdict(config),
        "space": _space(space),
        "reliability": None if outcome.reliability is None else asdict(outcome.reliability),
        "candidates": outcome.candidates,
        "scored": len(outcome.scores),
        "first_population": [label(one) for one in outcome.first],
        "evaluated": [_evaluated(outcome, one) for one in outcome.choice.fitness],
        "best_so_far": {
            name: [
                None if value == -math.inf else value for value in found.best_so_far(outcome.choice.ranking)
            ]
            for name, found in (("evolution", outcome.evolution), ("random", outcome.random))
        },
        "pareto_front": [label(one) for one in outcome.choice.front],
        "found": [label(one) for one in outcome.choice.found],
        "finalists": [label(one) for one in outcome.choice.finalists],
        "random_found": [label(outcome.choice.rival)],
        "correlation": _correlation(outcome),
        "confirmation": _confirmation(outcome),
        "recommendation": _recommendation(outcome),
        "seeds": {
            "search": config.seed,
            "data": config.training.data.seed,
            "correlation": outcome.correlated_seed if outcome.correlated else None,
            "confirmation": list(config.confirm.seeds),
        },
        "seconds": dict(seconds),
        "files": [
            name
            for name in (folder.RECOMMENDED, folder.FOUND, folder.FOUND_NETWORK)
            if (outcome.run / name).exists()
        ],
    }


def write_found(outcome: Outcome, shared: Path) -> None:
    """Writes how to train what is recommended, and the same for the first finalist.

    Both are trained as they were confirmed: from scratch, for as many epochs. The validation samples are taken
    in, as nothing is left to be chosen. If there is a supernet, a network with its weights is written for the
    finalist, too; nothing here says whether a training that starts from it does any better.

    Raises:
        FileFormatError: A file cannot be written, or the supernet is damaged.
    """
    best, config = outcome.choice.finalists[0], outcome.config
    for name, one in ((folder.RECOMMENDED, outcome.recommended), (folder.FOUND, best)):
        own = trial_config(config, Trial(one, config.training.seed))
        merged = replace(own, data=replace(own.data, merge_validation=True))
        write_text(outcome.run / name, merged.to_toml())
    if config.evolution.fitness == "supernet":
        network = network_of(config, outcome.space, shared / folder.SUPERNET, best)
        save(network, outcome.run / folder.FOUND_NETWORK)


def network_of(config: SearchConfig, space: Space, supernet: Path, architecture: Architecture) -> Network:
    """An architecture with the weights of the supernet, its running statistics recalibrated.

    Raises:
        FileFormatError: The supernet is damaged or of another space.
    """
    own, path = supernet_config(config), supernet / CHECKPOINT_FILE
    machine = Machine.from_config(own)
    trainer = Trainer(own, load(own.data), machine, space.backbone, parts=Supernet(space, config.seed))
    restore_network(trainer, checkpoint.load(path), path)
    trainer.measure(space.graph(architecture))
    return trainer.trained()


def _space(space: Space) -> dict[str, Any]:
    sets = space.sets()
    enumerable = sets <= 10**5 or not any(dataclasses.astuple(space.limits)[:3])
    return {
        "ports": [[name, list(shape)] for name, shape in layers_of(space.backbone)],
        "forward": [list(pair) for pair in forward_of(space.backbone)],
        "connections": [[c.source, c.target, c.delay] for c in space.connections],
        "most": space.most,
        "sets": sets,
        "architectures": space.count() if enumerable else None,
        "left_out": dict(space.left_out),
    }


def _evaluated(outcome: Outcome, one: Architecture) -> dict[str, Any]:
    """An architecture with its scores, its fitness, its costs, and when it was evaluated."""
    scores, found = outcome.scores.get(one), outcome.evaluated.get(one)
    value = outcome.choice.fitness[one].accuracy
    return {
        "architecture": label(one),
        "backward": list(as_settings(one)),
        "connections": [[c.source, c.target, c.delay] for c in one],
        "n_score": None if scores is None else scores.n,
        "e_score": None if scores is None else scores.e,
        "fitness": None if value == -math.inf else value,
        "accuracy": None if found is None else found.accuracy,
        "standard_error": None if found is None else found.standard_error,
        "estimated_energy_pj": None if found is None else found.estimated_energy_pj,
        **asdict(outcome.space.costs(one)),
        "evolution_iteration": _iteration(outcome.evolution, one),
        "random_iteration": _iteration(outcome.random, one),
    }


def _iteration(search: Evolution, one: Architecture) -> int | None:
    return next((judged.iteration for judged in search.judged if judged.architecture == one), None)


def _correlation(outcome: Outcome) -> dict[str, Any] | None:
    """What the search went by, beside the accuracy after a training from scratch."""
    if not outcome.correlated:
        return None
    seed = outcome.correlated_seed
    trained = [outcome.trained[Trial(one, seed)].accuracy for one in outcome.correlated]
    scores = [outcome.scores.get(one) for one in outcome.correlated]
    found = [outcome.evaluated.get(one) for one in outcome.correlated]
    columns: dict[str, list[float | None]] = {
        "supernet": [None if one is None else one.accuracy for one in found],
        "n_score": [None if one is None else one.n for one in scores],
        "e_score": [None if one is None else one.e for one in scores],
    }
    return {
        "seed": seed,
        "architectures": [
            {
                "architecture": label(one),
                "trained": trained[place],
                **{name: values[place] for name, values in columns.items()},
            }
            for place, one in enumerate(outcome.correlated)
        ],
        "spearman": {name: _rank_correlation(values, trained) for name, values in columns.items()},
    }


def _rank_correlation(values: Sequence[float | None], trained: Sequence[float]) -> dict[str, Any] | None:
    """With its interval of 95 %; None if it is not defined."""
    value = spearman(values, trained)
    if value is None:
        return None
    count = sum(one is not None for one in values)
    low, high = spearman_interval(value, count) or (None, None)
    return {"value": value, "low": low, "high": high, "architectures": count}


def _confirmation(outcome: Outcome) -> dict[str, Any] | None:
    seeds = outcome.config.confirm.seeds
    if not seeds:
        return None
    compared = list(dict.fromkeys([*outcome.choice.finalists, outcome.choice.rival]))
    return {
        "note": NOTE,
        "networks": {
            label(one): {
                **{
                    name: [asdict(found[Trial(one, seed)]) for seed in seeds]
                    for name, found in (("validation", outcome.trained), ("test", outcome.tested))
                },
                "mean_energy_pj": outcome.energy_pj(one),
                "within_limits": outcome.is_within_limits(one),
            }
            for one in (*compared, ())
        },
        "comparisons": [_comparison(outcome, one) for one in compared],
    }


def _comparison(outcome: Outcome, one: Architecture) -> dict[str, Any]:
    validation = outcome.compared(one, outcome.trained)
    return {
        "architecture": label(one),
        "found_by": "search" if one in outcome.choice.finalists else "random search",
        "is_better": validation.is_better,
        "validation": asdict(validation),
        "test": asdict(outcome.compared(one, outcome.tested)),
    }


def _recommendation(outcome: Outcome) -> dict[str, Any]:
    best = outcome.recommended
    return {
        "architecture": label(best),
        "backward": list(as_settings(best)),
        "within_limits": outcome.is_within_limits(best),
        "rule": RULE,
    }
