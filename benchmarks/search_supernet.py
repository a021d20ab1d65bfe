"""Training steps of a supernet against those of the backbone, and evaluations with its weights.

Time is that of the processor (the machine may be shared) for steps, and wall time for evaluations, which several
processes may share. The data are noise of the shape of the configured data set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from snndeploy.train.data import fake
from snndeploy.train.machine import prepared
from snndeploy.train.model import build_graph
from snndeploy.train.pool import map_tasks
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.fitness import load_evaluator
from snndeploy.train.search.space import Architecture, Space
from snndeploy.train.search.supernet import Supernet, supernet_config
from snndeploy.train.trainer import Trainer

WARM_UP = 2
_SPARE = 2  # of the noise, as some is set aside for validation


@dataclass(frozen=True)
class StepTimes:
    """Mean processor seconds of a training step, over the same number of steps each.

    backbone: Plain training of the backbone.
    supernet: Of the supernet, another architecture each time.
    alone: Plain training of the very architectures that the supernet computed, each a network of its own.
    """

    backbone: float
    supernet: float
    alone: float


def step_times(config: SearchConfig, steps: int) -> StepTimes:
    """Times three kinds of steps in turns, so that whatever else the machine does meets all alike.

    Args:
        config: Of a search.
        steps: Of each kind, after some to warm up.
    """
    own = supernet_config(config)
    data = fake(own.data, _SPARE * (steps + WARM_UP) * own.optimizer.batch_size)
    backbone = build_graph(own.network, data.shape, len(data.classes))
    space = Space.of(backbone, config.space, own.network.steps)
    supernet = Supernet(space, config.seed)
    seconds = {"backbone": 0.0, "supernet": 0.0, "alone": 0.0}
    with prepared(own) as machine:
        plain = Trainer(own, data, machine, backbone).train_epoch()
        sampled = Trainer(own, data, machine, backbone, parts=supernet).train_epoch()
        networks: dict[Architecture, Iterator[object]] = {}
        for step in range(-WARM_UP, steps):
            architecture = supernet.architecture(step + WARM_UP)
            if architecture not in networks:
                graph = space.graph(architecture)
                networks[architecture] = Trainer(own, data, machine, graph).train_epoch()
                next(networks[architecture])
            kinds = {"backbone": plain, "supernet": sampled, "alone": networks[architecture]}
            for name, batches in kinds.items():
                taken = _processor_seconds(partial(next, batches))
                seconds[name] += taken if step >= 0 else 0.0
    return StepTimes(**{name: total / steps for name, total in seconds.items()})


def evaluation_seconds(
    config: SearchConfig, space: Space, folder: Path, architectures: Sequence[Architecture], *, workers: int
) -> float:
    """Wall seconds of an evaluation with the weights of a trained supernet, once all processes are at work.

    Args:
        config: Of the search.
        space: That the supernet was trained for.
        folder: Where `train_supernet` has left it.
        architectures: To be evaluated; more than there are processes.
        workers: Processes.
    """
    ends: list[float] = []
    map_tasks(
        partial(load_evaluator, config, space, folder),
        architectures,
        workers=workers,
        on_result=lambda *_: ends.append(time.perf_counter()),
    )
    return (ends[-1] - ends[workers - 1]) / (len(ends) - workers)


def _processor_seconds(function: Callable[[], object]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began
