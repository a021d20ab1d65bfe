"""What a search recommends rests on: trainings from scratch.

Some evaluated architectures are trained with one seed, for the rank correlation of what the search went by with
what training gives. The architectures found are trained with several seeds and compared, seed by seed, with no
backward connections: with the same seed both start from the same backbone and see the same batches.

Validation samples decide everything. The accuracy on test samples is computed once, at the very end, of the
networks that are compared; nothing depends on it. As the architecture was chosen on the same validation
samples, though with other weights, that of the test samples is the figure to believe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from snndeploy.errors import ConfigError
from snndeploy.ir import Network
from snndeploy.train.config import Config
from snndeploy.train.data import Dataset, load
from snndeploy.train.evaluation import evaluate
from snndeploy.train.loop import fit
from snndeploy.train.machine import device_of
from snndeploy.train.pool import Failure, map_tasks
from snndeploy.train.search.comparison import Comparison, compare
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.folder import CONFIRM, read_json, write_sealed
from snndeploy.train.search.records import record
from snndeploy.train.search.space import Architecture, label

NOTE = (
    "what is compared was chosen on the same validation samples that it is compared on, though with other weights; "
    "samples that nothing was chosen on are the test samples"
)
"""That goes with every comparison."""

Part: TypeAlias = Literal["validation", "test"]

_LONGEST, _SHOWN = 120, 60  # characters of a folder's name; file systems take 255 bytes, some of them fewer


@dataclass(frozen=True)
class Trial:
    """An architecture to be trained from scratch with a seed."""

    architecture: Architecture
    seed: int

    def folder(self, run: Path) -> Path:
        """Where its training goes, within the folder of a search."""
        return run / CONFIRM / folder_name(self.architecture) / f"seed{self.seed}"


@dataclass(frozen=True)
class Measured:
    """A trained network on validation or test samples; energy is that of a sample, estimated."""

    accuracy: float
    samples: int
    estimated_energy_pj: float
    dead_rate: float

    @property
    def right(self) -> int:
        """How many answers are right."""
        return round(self.accuracy * self.samples)


def folder_name(architecture: Architecture) -> str:
    """The label as a name that every file system takes; of a long one the beginning, with a hash of all of it.

    Example:
        >>> from snndeploy.ir import BackwardConnection
        >>> folder_name((BackwardConnection(4, 2), BackwardConnection(6, 6, 3)))
        '4-2+6-6-3'
        >>> folder_name(tuple(BackwardConnection(source, 0) for source in range(40)))
        '0-0+1-0+2-0+3-0+4-0+5-0+6-0+7-0+8-0+9-0+10-0+11-0+12-0+13-0+26-more-8680155ad9686902'
    """
    name = label(architecture)
    if len(name) > _LONGEST:
        shown = name[:_SHOWN].rpartition("+")[0]
        hidden = len(architecture) - shown.count("+") - 1
        name = f"{shown}+{hidden}-more-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return name.replace(":", "-")  # a colon is no part of a name everywhere


def trial_config(config: SearchConfig, trial: Trial) -> Config:
    """How an architecture is trained from scratch: as the training part says, for the epochs of a confirmation."""
    optimizer, epochs = config.training.optimizer, config.confirm.epochs
    if epochs:
        optimizer = optimizer.lasting(epochs)
    network = replace(config.training.network, backward=as_settings(trial.architecture))
    return replace(config.training, seed=trial.seed, network=network, optimizer=optimizer)


def as_settings(architecture: Architecture) -> tuple[str, ...]:
    """An architecture as network.backward has it."""
    return tuple(label((connection,)) for connection in architecture)


def measure_all(
    config: SearchConfig,
    trials: Sequence[Trial],
    run: Path,
    part: Part = "validation",
    *,
    workers: int = 1,
    on_trial: Callable[[Trial], None] = lambda _: None,
) -> dict[Trial, Measured]:
    """Trains architectures from scratch, each in a folder of its own, and measures the networks.

    What is trained or measured already is not done again, and what was stopped goes on.

    Args:
        config: Of the search.
        trials: What to train.
        run: Of the search.
        part: The samples to measure on.
        workers: Processes; what is found does not depend on them.
        on_trial: Called after each one that was not there.

    Raises:
        ConfigError: A training fails.
        FileFormatError: A file is damaged or cannot be written.
    """
    different = list(dict.fromkeys(trials))
    found = {trial: _read(trial.folder(run) / f"{part}.json") for trial in different}
    left = [trial for trial in different if found[trial] is None]

    def store(index: int, result: Measured | Failure) -> None:
        trial = left[index]
        if isinstance(result, Failure):
            raise ConfigError(f"architecture {label(trial.architecture)}, seed {trial.seed}", result.message)
        write_sealed(trial.folder(run) / f"{part}.json", asdict(result))
        found[trial] = result
        on_trial(trial)

    prepare = partial(load_trial, config, run, part)
    map_tasks(prepare, left, workers=workers, threads=config.training.threads, on_result=store)
    return {trial: measured for trial, measured in found.items() if measured is not None}


def load_trial(
    config: SearchConfig, run: Path, part: Part, data: Dataset | None = None
) -> Callable[[Trial], Measured]:
    """What trains and measures an architecture, for `snndeploy.train.pool.map_tasks`; loads the data once."""
    source = load(config.training.data) if data is None else data

    def measure(trial: Trial) -> Measured:
        own = trial_config(config, trial)
        network: Network = fit(own, trial.folder(run), resume=True, data=source)
        samples = source.validation if part == "validation" else source.test
        found = evaluate(network, samples, device=device_of(own.device))
        return Measured(found.accuracy, len(samples), found.estimated_energy_pj, found.dead_rate)

    return measure


def compare_trained(
    one: Architecture, seeds: Sequence[int], measured: Mapping[Trial, Measured], comparisons: int = 1
) -> Comparison:
    """An architecture with no backward connections, where both were trained with the seeds.

    Args:
        one: The architecture.
        seeds: To compare with.
        measured: Both with each of them, on the same samples.
        comparisons: As of `snndeploy.train.search.comparison.compare`.
    """
    ours, alone = ([measured[Trial(each, seed)] for seed in seeds] for each in (one, ()))
    rights = [found.right for found in ours], [found.right for found in alone]
    return compare(*rights, alone[0].samples, comparisons)


def spread(ranked: Sequence[Architecture], count: int) -> list[Architecture]:
    """So many of ranked architectures: the first, the last, and evenly between; without backward connections always.

    Args:
        ranked: From best to worst.
        count: How many; all there are, if fewer.

    Example:
        >>> from snndeploy.ir import BackwardConnection
        >>> [label(a) for a in spread([(BackwardConnection(i, i),) for i in range(7)], 4)]
        ['0:0', '3:3', '6:6', 'none']
    """
    others = [one for one in ranked if one]
    places = np.linspace(0, len(others) - 1, min(count - 1, len(others))).round().astype(int)
    return [*(others[place] for place in places), ()]


def _read(path: Path) -> Measured | None:
    values = read_json(path)
    return None if values is None else record(Measured, values, str(path))
