"""What a search came to: search.json, and what a training can go on with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from snndeploy.errors import FileFormatError
from snndeploy.ir import Network, save
from snndeploy.ir.drawing import forward_of, layers_of
from snndeploy.ir.files import write_text
from snndeploy.train import checkpoint
from snndeploy.train.checkpoint import CHECKPOINT_FILE
from snndeploy.train.data import load
from snndeploy.train.machine import Machine
from snndeploy.train.search import folder
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.confirm import (
    RULE,
    Comparison,
    Measured,
    Trial,
    as_settings,
    compare,
    recommend,
)
from snndeploy.train.search.evolution import Evolution
from snndeploy.train.search.fitness import Fitness as SupernetFitness
from snndeploy.train.search.ranking import Fitness, Ranking, fronts
from snndeploy.train.search.reliability import Reliability, ScoreReliability, spearman
from snndeploy.train.search.scoring import Scores
from snndeploy.train.search.space import Architecture, Space, label
from snndeploy.train.search.supernet import Supernet, supernet_config
from snndeploy.train.snapshot import restore_network
from snndeploy.train.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the stages of a search found.

    first: The first population; empty if it was random.
    fitness: Of everything evaluated, the backbone alone included.
    evaluated: The same in detail, where the supernet was asked.
    found: The best, the best first.
    correlated: Trained once from scratch, with `correlated_seed`.
    trained, tested: Networks trained from scratch, on validation and on test samples.
    """

    config: SearchConfig
    run: Path
    space: Space
    scores: Mapping[Architecture, Scores]
    reliability: Reliability | None
    first: Sequence[Architecture]
    evolution: Evolution
    random: Evolution
    fitness: Mapping[Architecture, Fitness]
    evaluated: Mapping[Architecture, SupernetFitness]
    found: Sequence[Architecture]
    correlated: Sequence[Architecture]
    correlated_seed: int
    trained: Mapping[Trial, Measured]
    tested: Mapping[Trial, Measured]

    @property
    def ranking(self) -> Ranking:
        """What was looked for."""
        return Ranking.of(self.config)

    @property
    def comparisons(self) -> dict[Architecture, Comparison]:
        """What was found, each with no backward connections, on validation samples."""
        seeds = self.config.confirm.seeds
        alone = [self.trained[Trial((), seed)].accuracy for seed in seeds]
        return {
            one: compare([self.trained[Trial(one, seed)].accuracy for seed in seeds], alone, len(self.found))
            for one in (self.found if seeds else ())
        }


def report(outcome: Outcome, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Everything that search.json holds.

    Args:
        outcome: Of the search.
        seconds: That each stage took.
    """
    config, space = outcome.config, outcome.space
    random_best = [one.architecture for one in outcome.random.best(outcome.ranking)]
    return {
        "config": asdict(config),
        "space": _space(space),
        "reliability": None if outcome.reliability is None else asdict(outcome.reliability),
        "scored": len(outcome.scores),
        "first_population": [label(one) for one in outcome.first],
        "evaluated": [_evaluated(outcome, one) for one in outcome.fitness],
        "best_so_far": {
            name: [None if value == -math.inf else value for value in found.best_so_far(outcome.ranking)]
            for name, found in (("evolution", outcome.evolution), ("random", outcome.random))
        },
        "pareto_front": [label(one) for one in _front(outcome)],
        "found": [label(one) for one in outcome.found],
        "random_found": [label(one) for one in random_best],
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
        "files": [name for name in (folder.FOUND, folder.FOUND_NETWORK) if (outcome.run / name).exists()],
    }


def write_found(outcome: Outcome, shared: Path) -> None:
    """Writes how to train what was found, and the network that it is to start from, if there is a supernet.

    The training takes in the validation samples, as nothing is left to be chosen.

    Raises:
        FileFormatError: A file cannot be written, or the supernet is damaged.
    """
    best, training = outcome.found[0], outcome.config.training
    own = replace(
        training,
        network=replace(training.network, backward=as_settings(best)),
        data=replace(training.data, merge_validation=True),
    )
    write_text(outcome.run / folder.FOUND, own.to_toml())
    if outcome.config.evolution.fitness == "supernet":
        network = network_of(outcome.config, outcome.space, shared / folder.SUPERNET, best)
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


def reliability_of(values: Any, where: str) -> Reliability:
    """The reliability that a file holds.

    Raises:
        FileFormatError: It holds something else.
    """
    try:
        scores = {
            name: None if values[name] is None else ScoreReliability(**values[name]) for name in ("n", "e")
        }
        return Reliability(**{**values, **scores})
    except (KeyError, TypeError) as error:
        raise FileFormatError(
            where, "must hold the reliability of scores", got=error, remedy="delete it"
        ) from None


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
    value = outcome.fitness[one].accuracy
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


def _front(outcome: Outcome) -> list[Architecture]:
    """Of accuracy, energy and latency, over everything evaluated; the most accurate first."""
    allowed = [one for one, found in outcome.fitness.items() if outcome.ranking.allows(found)]
    if outcome.config.evolution.fitness != "supernet" or not allowed:
        return []
    first = fronts([outcome.fitness[one] for one in allowed])[0]
    return sorted((allowed[i] for i in first), key=lambda one: -outcome.fitness[one].accuracy)


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
        "spearman": {name: spearman(values, trained) for name, values in columns.items()},
    }


def _confirmation(outcome: Outcome) -> dict[str, Any] | None:
    seeds = outcome.config.confirm.seeds
    if not seeds:
        return None
    return {
        "networks": {
            label(one): {
                name: [asdict(found[Trial(one, seed)]) for seed in seeds]
                for name, found in (("validation", outcome.trained), ("test", outcome.tested))
            }
            for one in (*outcome.found, ())
        },
        "comparisons": [
            {
                "architecture": label(one),
                "is_better": comparison.is_better,
                "validation": asdict(comparison),
                "test": asdict(_on_test(outcome, one)),
            }
            for one, comparison in outcome.comparisons.items()
        ],
    }


def _on_test(outcome: Outcome, one: Architecture) -> Comparison:
    ours, alone = (
        [outcome.tested[Trial(architecture, seed)].accuracy for seed in outcome.config.confirm.seeds]
        for architecture in (one, ())
    )
    return compare(ours, alone, len(outcome.found))


def _recommendation(outcome: Outcome) -> dict[str, Any]:
    """By the rule, and nothing that breaks the energy limit."""
    allowed = {
        one: comparison
        for one, comparison in outcome.comparisons.items()
        if outcome.ranking.allows(outcome.fitness[one])
    }
    best = recommend(allowed)
    return {"architecture": label(best), "backward": list(as_settings(best)), "rule": RULE}
