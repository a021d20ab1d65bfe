"""What architectures are worth, each asked for once: by evolution, random search and the backbone alone.

Everything found is kept in a file, a line for each architecture, so that a search that was killed goes on with
it.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from snndeploy.errors import ConfigError
from snndeploy.train.pool import Failure, map_tasks
from snndeploy.train.search import ranking
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.fitness import Fitness, load_evaluator
from snndeploy.train.search.folder import EVALUATIONS, SUPERNET, append_lines, by_architecture, read_lines
from snndeploy.train.search.scoring import read_scores, score_all
from snndeploy.train.search.space import Architecture, Space, label

START_SECONDS = 20.0
"""Evaluations that take no longer, by the time of the first, are done without starting processes for them."""


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluations:
    """With the weights of the supernet, or by a score where the configuration says so.

    config: Of the search.
    space: That is searched.
    folder: Where scores, the supernet and what is found are.
    workers: Processes; what is found does not depend on them.
    """

    config: SearchConfig
    space: Space
    folder: Path
    workers: int = 1

    def __call__(
        self, architectures: Sequence[Architecture], on_done: Callable[[int], None] = lambda _: None
    ) -> list[ranking.Fitness]:
        """What architectures are worth, in their order.

        Args:
            architectures: None of them need be new.
            on_done: Called with how many are known, whenever they are more.

        Raises:
            ConfigError: One cannot be evaluated.
            FileFormatError: What was found before is damaged.
        """
        if self.config.evolution.fitness != "supernet":
            return self._by_score(architectures, on_done)
        left = [one for one in dict.fromkeys(architectures) if one not in self.known]
        done = len(architectures) - len(left)

        def store(start: int, place: int, found: Fitness | Failure) -> None:
            nonlocal done
            index = start + place
            if isinstance(found, Failure):
                raise ConfigError(f"architecture {label(left[index])}", found.message)
            line = {"architecture": label(left[index]), **dataclasses.asdict(found)}
            append_lines(self.folder / EVALUATIONS, [line])
            self.known[left[index]] = found
            done += 1
            on_done(done)

        threads = self.config.training.threads
        here = left if self.workers == 1 else left[:1]
        start = time.monotonic()
        map_tasks(self._prepare, here, threads=threads, on_result=partial(store, 0))
        elsewhere = left[len(here) :]
        pays = (time.monotonic() - start) * len(elsewhere) > START_SECONDS
        map_tasks(
            self._load if pays else self._prepare,
            elsewhere,
            workers=self.workers if pays else 1,
            threads=threads,
            on_result=partial(store, len(here)),
        )
        return [self._with_costs(one, self.known[one]) for one in architectures]

    @cached_property
    def known(self) -> dict[Architecture, Fitness]:
        """Everything evaluated with the weights of the supernet."""
        path = self.folder / EVALUATIONS
        return by_architecture(Fitness, read_lines(path), path)

    def _by_score(
        self, architectures: Sequence[Architecture], on_done: Callable[[int], None]
    ) -> list[ranking.Fitness]:
        different = set(architectures)
        done = len(different & read_scores(self.folder).keys())

        def on_chunk(count: int) -> None:
            nonlocal done
            done += count
            on_done(done)

        found = score_all(self.config, architectures, self.folder, workers=self.workers, on_chunk=on_chunk)
        name = self.config.evolution.fitness
        values = [found[one].n if name == "n" else found[one].e for one in architectures]
        return [ranking.Fitness(accuracy=-math.inf if value is None else value) for value in values]

    def _with_costs(self, one: Architecture, found: Fitness) -> ranking.Fitness:
        return ranking.Fitness(
            accuracy=found.accuracy,
            standard_error=found.standard_error,
            energy_pj=found.estimated_energy_pj,
            machine_steps=self.space.costs(one).machine_steps,
        )

    @cached_property
    def _load(self) -> partial[Callable[[Architecture], Fitness]]:
        return partial(load_evaluator, self.config, self.space, self.folder / SUPERNET)

    @cached_property
    def _prepare(self) -> Callable[[], Any]:
        """Loads once for all calls, which only this process can."""
        return cache(self._load)
