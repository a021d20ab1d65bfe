"""The supernet: one network with the backbone and every backward connection (BC) that is allowed.

Each training step draws one architecture, every set of BCs of the space as likely as any other, and computes
that architecture alone. The BCs that were not drawn get no gradient, so their weights, their weight decay and
what the optimiser remembers of them stay as they are. Every BC starts without an effect (see
`snndeploy.nn.initial`), so the supernet starts as the backbone.

Source: BCNAS-SNN, section 4.3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from snndeploy.ir import Graph, Network
from snndeploy.nn.engine import Plan
from snndeploy.train.config import Config
from snndeploy.train.data import Dataset
from snndeploy.train.distributed import World
from snndeploy.train.loop import fit
from snndeploy.train.metrics import BatchReport, EpochReport
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.space import Architecture, Space

_ARCHITECTURES = 3  # stream of random numbers, beside those of training, calibration and ranks
_KEPT_PLANS = 4096


def _silent(*_: Any) -> None: ...


@dataclass(frozen=True, eq=False)
class Supernet:
    """The architectures that the steps of a training compute; the parts of `snndeploy.train.parts`.

    space: The architectures there are.
    seed: Decides, with the number of the step, which one it computes: the same on all ranks, and in a run that
        was stopped and resumed.
    """

    space: Space
    seed: int
    _plans: dict[Architecture, Plan] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def whole(self) -> Graph:
        """The backbone with every BC there is."""
        return self.space.supergraph

    def architecture(self, step: int) -> Architecture:
        """What a step computes; steps are counted from 0."""
        rng = np.random.default_rng([self.seed, _ARCHITECTURES, step])
        return self.space.sample(rng, 1)[0]

    def part(self, step: int) -> tuple[Graph, Plan]:
        """The same as a graph."""
        architecture = self.architecture(step)
        graph = self.space.graph(architecture)
        if architecture not in self._plans:
            if len(self._plans) >= _KEPT_PLANS:
                del self._plans[next(iter(self._plans))]
            self._plans[architecture] = Plan.of(graph)
        return graph, self._plans[architecture]

    def document(self) -> Mapping[str, Any]:
        """What decides the architecture of every step, as JSON values."""
        return {
            "seed": self.seed,
            "most": self.space.most,
            "connections": [[c.source, c.target, c.delay] for c in self.space.connections],
            "limits": dataclasses.asdict(self.space.limits),
        }


def supernet_config(config: SearchConfig) -> Config:
    """How the supernet is trained: as the training part says, with the search's seed and its own epochs."""
    return replace(
        config.training,
        seed=config.seed,
        calibration_batches=config.supernet.calibration_batches,
        optimizer=config.training.optimizer.lasting(config.supernet.epochs),
    )


def train_supernet(
    config: SearchConfig,
    space: Space,
    folder: Path,
    report: Callable[[EpochReport], None] = _silent,
    *,
    on_start: Callable[[], None] = _silent,
    on_batch: Callable[[BatchReport], None] = _silent,
    resume: bool = False,
    data: Dataset | None = None,
    world: World = World(),  # noqa: B008  (frozen)
) -> Network:
    """Trains the supernet and leaves it in a folder, as `snndeploy.train.loop.fit` leaves a training run.

    It can be stopped and resumed like one. What is reported after every epoch is the backbone with the weights
    of the supernet.

    Args:
        config: Of the search.
        space: Over the backbone that the training part names.
        folder: Made if need be; the files are replaced. The last checkpoint holds the supernet.
        report: Called after every epoch, once its checkpoint is written.
        on_start: Called when a training starts afresh, before anything is written.
        on_batch: Called after every step.
        resume: Go on from the last checkpoint in the folder, if there is one.
        data: What to train on; loaded as the configuration says unless given.
        world: The ranks that train together, and which of them this process is.

    Returns:
        The backbone with the weights of the supernet, its statistics recalibrated.

    Raises:
        ConfigError: The configuration does not fit the data or the checkpoint, or training diverges.
        FileFormatError: The folder cannot be written, or the checkpoint is damaged or of another space.
        TargetError: The connection to another rank was lost.
    """
    return fit(
        supernet_config(config),
        folder,
        report,
        on_start=on_start,
        on_batch=on_batch,
        resume=resume,
        data=data,
        world=world,
        parts=Supernet(space, config.seed),
    )
