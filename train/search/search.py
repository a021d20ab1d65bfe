"""The whole search for backward connections, stage by stage.

Candidates are drawn and scored without training, the reliability of the scores is measured, the best candidates
become the first population, a supernet is trained, and evolution goes through architectures with its weights.
Random search with as many evaluations, and the backbone without connections, are always evaluated, too. In the
end what was found is trained from scratch and compared with no connections.

Every stage leaves its result in the run folder. A search that was stopped, even killed, goes on with what is
there, and ends with the same search.json but for the seconds.

Source: BCNAS-SNN, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.train.data import Dataset, load
from snndeploy.train.distributed import World
from snndeploy.train.model import build_graph
from snndeploy.train.pool import using_threads
from snndeploy.train.search import folder
from snndeploy.train.search.choice import Choice
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.confirm import Measured, Part, Trial, measure_all, spread
from snndeploy.train.search.evaluations import Evaluations
from snndeploy.train.search.evolution import Evaluate, Evolution, evolve, random_search
from snndeploy.train.search.folder import read_json, read_object, timed, write_sealed
from snndeploy.train.search.ranking import Fitness, Ranking
from snndeploy.train.search.records import REMEDY
from snndeploy.train.search.report import KEYS, Outcome, report, write_found
from snndeploy.train.search.scoring import read_scores
from snndeploy.train.search.screening import Screening, Tell
from snndeploy.train.search.space import Architecture, Space, label
from snndeploy.train.search.supernet import train_supernet

_EVOLUTION, _RANDOM = 23, 24  # streams of random numbers


def _silent(*_: Any, **__: Any) -> None: ...


def search(
    config: SearchConfig,
    run: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    shared: Path | None = None,
    workers: int = 1,
    world: World = World(),  # noqa: B008  (frozen)
    tell: Tell = _silent,
) -> dict[str, Any] | None:
    """Searches, and leaves everything in a run folder.

    Several ranks share the scores; each of them calls this alike. All that follows is done by the first one.

    Args:
        config: Everything that decides the search.
        run: The run folder; made if need be.
        resume: Go on with the search that is there, if there is one.
        overwrite: Replace it.
        shared: A folder with scores, supernet, evaluations and trainings, for searches that differ in other
            things only; the run folder unless given.
        workers: Processes on this machine; the result does not depend on them.
        world: The ranks, and which of them this process is.
        tell: Called now and then.

    Returns:
        What search.json holds; None on all ranks but the first.

    Raises:
        ConfigError: The configuration does not fit data or backbone, the folder holds another search, or a
            training fails.
        FileFormatError: The folder cannot be written, or a file in it is damaged.
        TargetError: The connection to another rank was lost.
    """
    _check(config)
    one = Search(config, run, run if shared is None else shared, workers, world, tell)
    _ = one.space  # wants to be possible before anything is written
    if world.is_first:
        folder.open_run(config, run, resume=resume, overwrite=overwrite)
    with using_threads(config.training.threads):
        return one.result()


@dataclass(frozen=True, eq=False)
class Search:
    """A search in its folder; each property is a stage, done when it is first asked for."""

    config: SearchConfig
    run: Path
    shared: Path
    workers: int
    world: World
    tell: Tell

    def result(self) -> dict[str, Any] | None:
        """What search.json holds; None on all ranks but the first, which only score."""
        path = self.run / folder.SEARCH
        done = read_object(path, *KEYS) if self.world.is_first else None
        if self.world.size > 1:
            self.screening.score_together()
        if not self.world.is_first:
            return None
        if done is None:
            outcome = self._outcome()
            write_found(outcome, self.shared)
            write_sealed(path, report(outcome, folder.seconds(self.run)))
            done = read_object(path, *KEYS)
        return done

    @cached_property
    def data(self) -> Dataset:
        """Of all trainings; the test samples wait for the end."""
        return load(self.config.training.data)

    @cached_property
    def space(self) -> Space:
        """What is searched."""
        network = self.config.training.network
        backbone = build_graph(network, self.data.shape, len(self.data.classes))
        return Space.of(backbone, self.config.space, network.steps)

    @cached_property
    def screening(self) -> Screening:
        """Step one."""
        return Screening(self.config, self.space, self.run, self.shared, self.workers, self.world, self.tell)

    @cached_property
    def evaluations(self) -> Evaluations:
        """What architectures are worth, once the supernet is trained."""
        if self.config.evolution.fitness == "supernet":
            self._train_supernet()
        return Evaluations(self.config, self.space, self.shared, self.workers)

    @cached_property
    def evolution(self) -> Evolution:
        """From the first population on; or, if so configured, a random search from there."""
        config, rng = self.config.evolution, self._rng(_EVOLUTION)

        def explore(**options: Any) -> Evolution:
            where = self.screening.first, self.space, config, rng, self.evaluations
            if config.method == "random":
                return random_search(*where, **options)
            return evolve(*where, ranking=self.ranking, **options)

        return self._explored("evolution", folder.EVOLUTION, explore)

    @cached_property
    def random(self) -> Evolution:
        """A random search with as many evaluations."""
        budget, config = len(self.evolution.judged), self.config.evolution

        def explore(fitness: Evaluate = self.evaluations, **options: Any) -> Evolution:
            rng = self._rng(_RANDOM)
            return random_search((), self.space, config, rng, fitness, budget=budget, **options)

        # What it draws does not depend on what that is worth, so all of it can be evaluated at a time.
        drawn = [one.architecture for one in explore(lambda some: [0.0] * len(some)).judged]
        with timed(self.run, "random search"):
            self.evaluations(drawn, lambda done: self.tell("random search", done, len(drawn)))
        return self._explored("", folder.RANDOM, explore)

    @cached_property
    def ranking(self) -> Ranking:
        """What is looked for."""
        return Ranking.of(self.config)

    @cached_property
    def fitness(self) -> dict[Architecture, Fitness]:
        """Of everything evaluated: no backward connections first, then both searches."""
        judged = (*self.evolution.judged, *self.random.judged)
        with timed(self.run, "backbone alone"):
            (alone,) = self.evaluations([()])
            self.evaluations([one.architecture for one in judged])  # where their file was deleted
        return {(): alone, **{one.architecture: one.fitness for one in judged}}

    @cached_property
    def choice(self) -> Choice:
        """What all that comes to."""
        evolved, drawn = (
            [one.architecture for one in search.judged] for search in (self.evolution, self.random)
        )
        has_costs = self.config.evolution.fitness == "supernet"
        return Choice(self.ranking, self.fitness, evolved, drawn, has_costs)

    def _outcome(self) -> Outcome:
        """All stages, in their order."""
        first, fitness = self.screening.first, self.fitness
        correlated = self._correlated(fitness)
        _ = self.screening.scores, self.screening.scores_of(correlated, "scores of trained architectures")
        known = read_scores(self.shared, self.config)
        scores = {one: known[one] for one in (*self.screening.candidates, *fitness) if one in known}
        compared = dict.fromkeys([*self.choice.finalists, self.choice.rival, ()])
        pairs = [Trial(one, seed) for seed in self.config.confirm.seeds for one in compared]
        trials = [*(Trial(one, self._seeds[0]) for one in correlated), *pairs]
        trained = self._measure(trials, "validation", "confirmation")
        tested = self._measure(pairs, "test", "test")
        return Outcome(
            config=self.config,
            run=self.run,
            space=self.space,
            scores=scores,
            reliability=self.screening.reliability,
            candidates=len(self.screening.candidates),
            first=first,
            evolution=self.evolution,
            random=self.random,
            evaluated=self.evaluations.known,
            choice=self.choice,
            correlated=correlated,
            correlated_seed=self._seeds[0],
            trained=trained,
            tested=tested,
        )

    def _correlated(self, fitness: Mapping[Architecture, Fitness]) -> list[Architecture]:
        """Evaluated architectures to be trained from scratch, spread over their order by accuracy."""
        count = self.config.confirm.architectures
        ranked = sorted(fitness, key=lambda one: (-fitness[one].accuracy, len(one), one))
        return spread(ranked, count) if count else []

    @property
    def _seeds(self) -> tuple[int, ...]:
        return self.config.confirm.seeds or (self.config.seed,)

    def _train_supernet(self) -> None:
        epochs = self.config.supernet.epochs
        with timed(self.run, "supernet"):
            train_supernet(
                self.config,
                self.space,
                self.shared / folder.SUPERNET,
                on_batch=lambda done: self.tell(
                    "supernet",
                    done.epoch - 1 + done.batch / (done.batches + 1),
                    epochs,
                    f"loss {done.loss:.3f}",
                ),
                report=lambda done: self.tell("supernet", done.epoch, epochs, f"loss {done.loss:.3f}"),
                resume=True,
                data=self.data,
            )

    def _explored(self, stage: str, name: str, explore: Callable[..., Evolution]) -> Evolution:
        """A search through architectures, kept after each of its iterations."""
        path, config = self.run / name, self.config.evolution
        state = self._state(path)

        def on_iteration(found: Evolution) -> None:
            write_sealed(path, found.to_json())
            if stage:
                best = found.best_so_far(self.ranking)[-1]
                self.tell(stage, found.iterations, config.iterations, f"best {best:.4g}")

        _ = self.evaluations, self.screening.first  # have a time of their own
        with timed(self.run, stage) if stage else nullcontext():
            return explore(on_iteration=on_iteration, state=state)

    def _state(self, path: Path) -> Evolution | None:
        """Where a search through architectures stands."""
        stored = read_json(path)
        if stored is None:
            return None
        try:
            state = Evolution.from_json(stored)
        except (ConfigError, FileFormatError, OverflowError) as error:
            raise FileFormatError(str(path), "is damaged", got=error, remedy=REMEDY) from None
        for one in (*(judged.architecture for judged in state.judged), *state.upcoming):
            if not self.space.allows(one):
                raise FileFormatError(str(path), "is of another space", got=label(one), remedy=REMEDY)
        return state

    def _measure(self, trials: Sequence[Trial], part: Part, stage: str) -> dict[Trial, Measured]:
        done, total = 0, len(set(trials))

        def on_trial(trial: Trial) -> None:
            nonlocal done
            done += 1
            self.tell(stage, done, total, f"{label(trial.architecture)}, seed {trial.seed}")

        with timed(self.run, stage):
            return measure_all(
                self.config, trials, self.shared, part, workers=self.workers, on_trial=on_trial
            )

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, stream])


def _check(config: SearchConfig) -> None:
    fitness, scores = config.evolution.fitness, config.score.scores
    if fitness != "supernet" and scores not in ("both", fitness):
        raise ConfigError(
            "score.scores", f"must be both or {fitness}, the fitness of the evolution", got=scores
        )
