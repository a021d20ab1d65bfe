"""How architectures do with the weights of the supernet, on validation samples.

An architecture is evaluated by itself, whatever was evaluated before it or by another process: its running
statistics are replaced by averages over fixed training batches first. The weights stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from snndeploy.errors import FileFormatError
from snndeploy.ir import BatchNorm, Graph
from snndeploy.nn import SpikingNetwork
from snndeploy.nn.batchnorm import Statistics
from snndeploy.train import checkpoint
from snndeploy.train.checkpoint import CHECKPOINT_FILE
from snndeploy.train.data import Dataset, load
from snndeploy.train.evaluation import Evaluation
from snndeploy.train.machine import Machine
from snndeploy.train.memory import keep_freed_memory
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.space import Architecture, Space
from snndeploy.train.search.supernet import Supernet, supernet_config
from snndeploy.train.snapshot import restore_network
from snndeploy.train.trainer import Trainer


@dataclass(frozen=True)
class Fitness:
    """Of one architecture.

    accuracy: Share of right answers on the validation samples.
    standard_error: Of that share, with the samples taken as independent: sqrt(p * (1 - p) / samples), where p is
        (right + 1) / (samples + 2), so that it is not 0 where all answers are right, or none.
    firing_rates: Spikes per neuron and time step of every Lif.
    spikes: Of every Lif, per sample: over all its neurons and time steps.
    synops: Synaptic operations that these spikes cause, per sample, each spike counting exactly the synapses
        that its neuron drives.
    estimated_energy_pj: Of these operations, E_SNN of Spiking Synaptic Penalty, eq. 10: an estimate.
    """

    accuracy: float
    standard_error: float
    firing_rates: Mapping[str, float]
    spikes: Mapping[str, float]
    synops: float
    estimated_energy_pj: float

    @classmethod
    def of(cls, evaluation: Evaluation, graph: Graph, *, steps: int, samples: int) -> Fitness:
        """What an evaluation says of a graph.

        Args:
            evaluation: Of the graph.
            graph: Any graph.
            steps: Logical time steps T.
            samples: How many were evaluated.
        """
        share = (evaluation.accuracy * samples + 1) / (samples + 2)
        return cls(
            accuracy=evaluation.accuracy,
            standard_error=math.sqrt(share * (1 - share) / samples),
            firing_rates=evaluation.firing_rates,
            spikes={
                name: rate * math.prod(graph.shapes[name]) * steps
                for name, rate in evaluation.firing_rates.items()
            },
            synops=evaluation.synops,
            estimated_energy_pj=evaluation.estimated_energy_pj,
        )


def load_evaluator(
    config: SearchConfig, space: Space, folder: Path, data: Dataset | None = None
) -> Callable[[Architecture], Fitness]:
    """Reads a trained supernet and the data, once, and gives what evaluates an architecture of the space.

    `functools.partial(load_evaluator, config, space, folder)` is what `snndeploy.train.pool.map_tasks` prepares
    its processes with; what they find does not depend on how many there are.

    Args:
        config: Of the search.
        space: That the supernet was trained for.
        folder: Where `train_supernet` has left it.
        data: Loaded as the configuration says unless given.

    Raises:
        ConfigError: The supernet was trained with another configuration, or its data are missing.
        FileFormatError: There is no supernet, or it is damaged, of another space or not trained to its end.
    """
    own, path = supernet_config(config), folder / CHECKPOINT_FILE
    found = checkpoint.load(path)
    checkpoint.require_same(own, found.config, str(path))
    source = load(own.data) if data is None else data
    machine = Machine.from_config(own)
    if machine.device.type == "cpu":
        keep_freed_memory()
    trainer = Trainer(own, source, machine, space.backbone, parts=Supernet(space, config.seed))
    restore_network(trainer, found, path)
    if len(found.state.get("history", ())) < own.optimizer.epochs:
        raise FileFormatError(
            str(path), "holds a supernet that is not trained to its end", remedy="resume it"
        )

    trained = _statistics(trainer.network)

    def evaluate(architecture: Architecture) -> Fitness:
        graph = space.graph(architecture)
        # Before anything can enter a connection, calibration uses the statistics that are there.
        trainer.network.assign_statistics(trained)
        evaluation = trainer.measure(graph)
        return Fitness.of(evaluation, graph, steps=own.network.steps, samples=len(trainer.data.validation))

    return evaluate


def _statistics(network: SpikingNetwork) -> dict[str, Statistics]:
    """The running mean and variance of every BatchNorm."""
    return {
        name: (network.tensor(f"{name}.running_mean"), network.tensor(f"{name}.running_var"))
        for name, op in network.graph.ops.items()
        if isinstance(op, BatchNorm)
    }
