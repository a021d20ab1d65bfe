"""The configuration of a search: frozen values, read from TOML like that of a training run.

Every default is the published one of BCNAS-SNN (sections 4 and 5) where there is one. The training part is a
complete `snndeploy.train.config.Config`: backbone, data, optimiser and loss of the supernet and of the
trainings that confirm what was found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from snndeploy.errors import ConfigError
from snndeploy.train.config import Config, NetworkConfig, OptimizerConfig
from snndeploy.train.settings import override, read_toml, require, require_one_of, typed

MODES = ("paper", "deploy")
OBJECTIVES = ("accuracy", "limits", "pareto")
DELAYS = ("one", "pipelined")
VARIANTS = ("code", "normalised")
SCORES = ("both", "n", "e")
METHODS = ("evolution", "random")
FITNESSES = ("supernet", "n", "e")


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """What an architecture may take; 0 for no limit.

    interval: Smallest initiation interval II, in machine steps.
    machine_steps: From the first input of a sample to its logits.
    parameters: Trained values, the backbone's included.
    energy_pj: Estimated energy of the synaptic operations of a sample. It is known only once an architecture
        was evaluated, so it does not narrow the space; what exceeds it comes last.
    """

    interval: int = 0
    machine_steps: int = 0
    parameters: int = 0
    energy_pj: float = 0.0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            require(value >= 0, f"space.limits.{name}", "must be at least 0", value)

    @property
    def are_set(self) -> bool:
        """Whether there is any limit."""
        return any(dataclasses.astuple(self))


@dataclass(frozen=True, kw_only=True)
class SpaceConfig:
    """Which architectures there are.

    most: Largest number of backward connections (b).
    delay: Of every backward connection: "one" logical step, or "pipelined", as many as an initiation interval
        of 1 needs.
    forbidden_outputs: Ports that may feed nothing back.
    forbidden_inputs: Ports that may be fed nothing back.
    limits: What an architecture may take.
    """

    most: int = 2
    delay: str = "one"
    forbidden_outputs: tuple[int, ...] = ()
    forbidden_inputs: tuple[int, ...] = ()
    limits: LimitsConfig = field(default_factory=LimitsConfig)

    def __post_init__(self) -> None:
        require(1 <= self.most <= 1000, "space.most", "must lie in [1, 1000]", self.most)
        require_one_of(DELAYS, "space.delay", self.delay)
        for name in ("forbidden_outputs", "forbidden_inputs"):
            ports = getattr(self, name)
            require(all(port >= 0 for port in ports), f"space.{name}", "must be numbers of ports", ports)


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """The scores without training.

    scores: "both", "n" or "e".
    candidates: Architectures drawn at random and scored (the size of P_init); 0 leaves the scores out, and the
        first population is random.
    batch: Samples of the one class-balanced batch that all candidates see, at least 10 of a class: with fewer
        than 10 for each of them, it has some of the classes only.
    variant: Of the N-score: "code", as its authors computed it, or "normalised".
    reliability_candidates: How many candidates the reliability of the scores is measured on.
    reliability_repeats: Batches and initialisations it is measured between.
    bound: Rank correlation below which a score is called unreliable, and with mode = deploy counts for less.
    """

    scores: str = "both"
    candidates: int = 2000
    batch: int = 100
    variant: str = "code"
    reliability_candidates: int = 50
    reliability_repeats: int = 2
    bound: float = 0.5

    def __post_init__(self) -> None:
        require_one_of(SCORES, "score.scores", self.scores)
        require(
            0 <= self.candidates <= 10**7, "score.candidates", "must lie in [0, 10000000]", self.candidates
        )
        require(10 <= self.batch <= 10**5, "score.batch", "must lie in [10, 100000]", self.batch)
        require_one_of(VARIANTS, "score.variant", self.variant)
        few = self.reliability_candidates
        require(
            few == 0 or 3 <= few <= 10**6,
            "score.reliability_candidates",
            "must be 0, for no report, or lie in [3, 1000000]",
            few,
        )
        repeats = self.reliability_repeats
        require(2 <= repeats <= 1000, "score.reliability_repeats", "must lie in [2, 1000]", repeats)
        require(-1 <= self.bound <= 1, "score.bound", "must lie in [-1, 1]", self.bound)


@dataclass(frozen=True, kw_only=True)
class SupernetConfig:
    """The supernet; everything else about its training is that of the training part.

    epochs: Of its training.
    calibration_batches: Of the training samples, for the running statistics of each architecture before it is
        validated; 0 for all.
    """

    epochs: int = 100
    calibration_batches: int = 0

    def __post_init__(self) -> None:
        require(1 <= self.epochs <= 10**6, "supernet.epochs", "must lie in [1, 1000000]", self.epochs)
        batches = self.calibration_batches
        require(batches >= 0, "supernet.calibration_batches", "must be at least 0", batches)


@dataclass(frozen=True, kw_only=True)
class EvolutionConfig:
    """The evolution; see `snndeploy.train.search.evolution`.

    method: "evolution", or "random" for a random search with as many evaluations in its place.
    fitness: What is maximised: the accuracy on validation samples with the weights of the "supernet", or,
        without one, the score "n" or "e".
    iterations: How many populations are evaluated, the first included (I).
    population: Architectures of each (the size of P_temp).
    parents: How many of the best the next population is made of (k).
    mutations, crossovers: Children of either kind, at most.
    mutation_probability: That a backward connection of a parent mutates (alpha).
    crossover_probability: That an attempt at a crossover is made at all (beta).
    attempts: At children of either kind, at most.
    tolerance: Accuracies that differ by no more count as equal, and the cheaper architecture comes first; in
        standard errors of an accuracy. Only with mode = deploy.
    """

    method: str = "evolution"
    fitness: str = "supernet"
    iterations: int = 20
    population: int = 20
    parents: int = 10
    mutations: int = 10
    crossovers: int = 10
    mutation_probability: float = 0.2
    crossover_probability: float = 0.5
    attempts: int = 60
    tolerance: float = 1.0

    def __post_init__(self) -> None:
        require_one_of(METHODS, "evolution.method", self.method)
        require_one_of(FITNESSES, "evolution.fitness", self.fitness)
        for name, low in (("iterations", 1), ("population", 1), ("parents", 1), ("mutations", 0)):
            value = getattr(self, name)
            require(low <= value <= 10**6, f"evolution.{name}", f"must lie in [{low}, 1000000]", value)
        for name in ("crossovers", "attempts"):
            value = getattr(self, name)
            require(0 <= value <= 10**6, f"evolution.{name}", "must lie in [0, 1000000]", value)
        require(
            self.mutations + self.crossovers <= self.population,
            "evolution.population",
            f"must be at least {self.mutations + self.crossovers}, the mutations and crossovers together",
            self.population,
        )
        for name in ("mutation_probability", "crossover_probability"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"evolution.{name}", "must lie in [0, 1]", value)
        require(0 <= self.tolerance <= 100, "evolution.tolerance", "must lie in [0, 100]", self.tolerance)


@dataclass(frozen=True, kw_only=True)
class ConfirmConfig:
    """Trainings from scratch, which what the search recommends rests on.

    seeds: Of the paired comparison of the architecture found with no backward connections; none for no comparison.
    architectures: How many evaluated architectures are trained from scratch, for the rank correlation of both
        accuracies (k); 0 leaves that out.
    epochs: Of each training; 0 for those of the training part.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    architectures: int = 8
    epochs: int = 0

    def __post_init__(self) -> None:
        seeds = self.seeds
        whole = len(set(seeds)) == len(seeds) and all(seed >= 0 for seed in seeds)
        require(whole, "confirm.seeds", "must be different whole numbers of at least 0", seeds)
        some = self.architectures
        require(
            some == 0 or 3 <= some <= 10**6,
            "confirm.architectures",
            "must be 0, for none, or lie in [3, 1000000]",
            some,
        )
        require(0 <= self.epochs <= 10**6, "confirm.epochs", "must lie in [0, 1000000]", self.epochs)


def _training() -> Config:
    """What a search trains with unless told otherwise: lr 0.01.

    The published 8 : 2 of training and validation samples is for the data set to allow: `data.validation = 0.2`.
    """
    return Config(
        network=NetworkConfig(backward=()),
        optimizer=OptimizerConfig(lr=0.01),
    )


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Everything that decides a search.

    seed: Of every random choice of the search itself, and of the supernet.
    mode: "paper", as published; or "deploy": the first population has a quota by input port, an unreliable
        score counts for less, and of accuracies that are as good as equal the cheaper architecture wins.
    objective: What is looked for: "accuracy"; accuracy under "limits", which are those of the space; or the
        "pareto" front of accuracy, energy and machine steps.
    training: The training part. The values that it leaves out are those of a training run, but for the
        learning rate (0.01) and backward connections (none).

    Example:
        >>> config = SearchConfig.from_mapping({"space": {"most": 3}, "training": {"network": {"steps": 6}}})
        >>> config.space.most, config.training.network.steps, config.training.network.backward
        (3, 6, ())
    """

    seed: int = 0
    mode: str = "paper"
    objective: str = "accuracy"
    space: SpaceConfig = field(default_factory=SpaceConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    supernet: SupernetConfig = field(default_factory=SupernetConfig)
    evolution: EvolutionConfig = field(default_factory=EvolutionConfig)
    confirm: ConfirmConfig = field(default_factory=ConfirmConfig)
    training: Config = field(default_factory=_training)

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", "must be at least 0", self.seed)
        require_one_of(MODES, "mode", self.mode)
        require_one_of(OBJECTIVES, "objective", self.objective)
        limits = self.space.limits
        require(
            self.objective != "limits" or limits.are_set, "space.limits", "must be set for limits", limits
        )
        require(
            self.objective != "accuracy" or not limits.are_set,
            "objective",
            "must be limits or pareto where limits are set",
            self.objective,
        )
        require(
            self.evolution.fitness == "supernet" or self.objective == "accuracy",
            "evolution.fitness",
            "must be supernet unless accuracy alone is looked for: a score says nothing of energy",
            self.evolution.fitness,
        )
        self._check_training()

    def _check_training(self) -> None:
        network, data = self.training.network, self.training.data
        require(
            not network.backward,
            "training.network.backward",
            "must be empty: backward connections are what is searched for",
            network.backward,
        )
        require(network.neuron == "lif", "training.network.neuron", "must be lif", network.neuron)
        require(
            not data.merge_validation,
            "training.data.merge_validation",
            "must be false: a search needs validation samples that nothing was trained on",
            data.merge_validation,
        )
        start = self.training.start
        require(not start, "training.start", "must be empty: a search starts from random weights", start)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> SearchConfig:
        """Reads a configuration; what is left out keeps its default.

        Raises:
            ConfigError: A key is unknown, or a value has the wrong type or is out of range.
        """
        training = _merged(dataclasses.asdict(_training()), mapping.get("training", {}))
        if isinstance(training, Mapping):
            _check_part("training", training)
        return typed(cls, {**mapping, "training": training})

    @classmethod
    def from_file(cls, path: Path, settings: Sequence[str] = ()) -> SearchConfig:
        """Reads a TOML file, with `settings` such as "training.optimizer.lr=0.02" put on top.

        Raises:
            ConfigError: The file cannot be read, is no TOML, or holds no valid configuration.
        """
        return cls.from_mapping(override(read_toml(path), settings))

    def to_toml(self) -> str:
        """The configuration as TOML, complete."""
        return tomli_w.dumps(dataclasses.asdict(self))


def _merged(default: Any, given: Any) -> Any:
    """Tables put on top of default ones, key by key; any other value in place of the default."""
    if not isinstance(default, Mapping) or not isinstance(given, Mapping):
        return given
    return {**default, **{key: _merged(default.get(key), value) for key, value in given.items()}}


def _check_part(name: str, mapping: Mapping[str, Any]) -> None:
    """Raises what is wrong with a training configuration, by the place it has in this one."""
    try:
        Config.from_mapping(mapping)
    except ConfigError as error:
        where = name if error.where == "configuration" else f"{name}.{error.where}"
        raise ConfigError(where, error.rule, got=error.got, remedy=error.remedy) from None
