"""Step one of a search: candidates drawn at random, scored without training, the best of them chosen.

Source: BCNAS-SNN, section 4.2. The reliability of the scores is measured before they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.train.distributed import World
from snndeploy.train.search import folder
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.folder import read_json, timed, write_sealed
from snndeploy.train.search.records import REMEDY, record
from snndeploy.train.search.reliability import Reliability, ScoreReliability, measure
from snndeploy.train.search.scoring import Scores, read_scores, score_all
from snndeploy.train.search.selection import select
from snndeploy.train.search.space import Architecture, Space, label, parse

_CANDIDATES, _RELIABILITY = 21, 22  # streams of random numbers


class Tell(Protocol):
    """Hears how far a stage has come."""

    def __call__(self, stage: str, done: float, total: int, note: str = "", /) -> None:
        """Called with what is done of the total, and a word about it."""


@dataclass(frozen=True, eq=False)
class Screening:
    """Step one in the folder of a search; each property is a stage, done when it is first asked for.

    config: Of the search.
    space: Where candidates come from.
    run: The folder of the search.
    shared: Where scores are kept.
    workers: Processes on this machine.
    world: The ranks, which share the scores.
    tell: Called now and then.
    """

    config: SearchConfig
    space: Space
    run: Path
    shared: Path
    workers: int
    world: World
    tell: Tell

    @cached_property
    def candidates(self) -> list[Architecture]:
        """Drawn at random, each with at least one backward connection."""
        return self._listed(
            folder.CANDIDATES,
            lambda: self.space.sample(self._rng(_CANDIDATES), self.config.score.candidates, at_least=1),
        )

    @cached_property
    def scores(self) -> dict[Architecture, Scores]:
        """Of all candidates."""
        return self.scores_of(self.candidates, "scores")

    @cached_property
    def reliability(self) -> Reliability | None:
        """Of the scores; None where it is not to be measured."""
        count, path = self.config.score.reliability_candidates, self.run / folder.RELIABILITY
        if not count or not self.candidates:
            return None
        if (stored := read_json(path)) is not None:
            return record(Reliability, stored, str(path))
        order = self._rng(_RELIABILITY).permutation(len(self.candidates))[:count]
        with timed(self.run, "reliability"):
            self.tell("reliability", 0, 1)
            found = measure(self.config, [self.candidates[i] for i in order], workers=self.workers)
            self.tell("reliability", 1, 1)
        write_sealed(path, asdict(found))
        return found

    @cached_property
    def first(self) -> list[Architecture]:
        """The first population; none where it is to be random."""
        return self._listed(folder.POPULATION, self._select)

    def _select(self) -> list[Architecture]:
        if not self.candidates:
            return []
        found, wanted = [self.scores[one] for one in self.candidates], self.config.score.scores
        deploy = self.config.mode == "deploy"
        weights = (1.0, 1.0)
        if deploy and self.reliability is not None:
            weights = _weight(self.reliability.n), _weight(self.reliability.e)
        _ = self.reliability  # is reported in any mode
        return select(
            self.candidates,
            self.config.evolution.population,
            n=None if wanted == "e" else [one.n for one in found],
            e=None if wanted == "n" else [one.e for one in found],
            weights=weights,
            quota=deploy,
        )

    def scores_of(self, architectures: Sequence[Architecture], stage: str) -> dict[Architecture, Scores]:
        """Scores of any architectures; those that are there are not computed again."""
        total = len(architectures)
        known = read_scores(self.shared, self.config)
        done = sum(one in known for one in architectures)
        if done == total:  # the configuration need not be built again
            return {one: known[one] for one in architectures}

        def on_chunk(count: int) -> None:
            nonlocal done
            done += count
            self.tell(stage, done, total)

        with timed(self.run, "scores"):
            return score_all(self.config, architectures, self.shared, workers=self.workers, on_chunk=on_chunk)

    def score_together(self) -> None:
        """Scores this rank's share of the candidates; nobody goes on before all are scored."""
        with self.world.joined(torch.device("cpu")):
            # Another rank might draw others, with another NumPy, and the first one may hold those of an earlier.
            candidates = self.world.gathered(self.candidates if self.world.is_first else [])[0]
            total = len(candidates)
            done = len(read_scores(self.shared).keys() & set(candidates)) if self.world.is_first else 0

            def on_chunk(count: int) -> None:
                nonlocal done
                done += count
                self.tell("scores", done, total)

            with timed(self.run, "scores") if self.world.is_first else nullcontext():
                score_all(
                    self.config,
                    candidates,
                    self.shared,
                    workers=self.workers,
                    world=self.world,
                    on_chunk=on_chunk,
                )

    def _listed(self, name: str, make: Callable[[], list[Architecture]]) -> list[Architecture]:
        """Architectures that are kept in a file of the first rank, the only one to ask for them."""
        path = self.run / name
        stored = read_json(path)
        if stored is None:
            found = make()
            write_sealed(path, {"architectures": [label(one) for one in found]})
            return found
        labels = stored.get("architectures") if isinstance(stored, dict) else stored  # as earlier versions do
        missing = not labels and self.config.score.candidates > 0
        if not isinstance(labels, list) or missing or not all(isinstance(text, str) for text in labels):
            raise FileFormatError(str(path), "must list architectures", remedy=REMEDY)
        try:
            found = [parse(text) for text in labels]
        except ConfigError as error:
            raise FileFormatError(
                str(path), "must list architectures", got=error.got, remedy=REMEDY
            ) from None
        for one in found:
            if not one or not self.space.allows(one):
                raise FileFormatError(
                    str(path), "lists what is not in the space", got=label(one), remedy=REMEDY
                )
        if len(set(found)) < len(found):
            raise FileFormatError(str(path), "must list different architectures", remedy=REMEDY)
        return found

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, stream])


def _weight(score: ScoreReliability | None) -> float:
    """What a score counts for in deploy mode; nothing, if it is defined for no candidate."""
    return 0.0 if score is None else score.weight
