"""The training loop: a configuration in, a trained network out, one line of metrics an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.ir import Network
from snndeploy.ir.files import replacing
from snndeploy.train import checkpoint
from snndeploy.train.checkpoint import CHECKPOINT_FILE, FINE_TUNING_FILE, Checkpoint
from snndeploy.train.config import Config
from snndeploy.train.data import Dataset, load
from snndeploy.train.distributed import World
from snndeploy.train.machine import Machine, prepared
from snndeploy.train.metrics import BatchReport, EpochReport, recording
from snndeploy.train.model import build_graph
from snndeploy.train.parts import Parts
from snndeploy.train.snapshot import capture, changes, graph_of, restore
from snndeploy.train.start import starting_point
from snndeploy.train.trainer import Trainer


def _silent(*_: Any) -> None: ...


def fit(
    config: Config,
    run_folder: Path,
    report: Callable[[EpochReport], None] = _silent,
    *,
    on_start: Callable[[], None] = _silent,
    on_change: Callable[[str], None] = _silent,
    on_batch: Callable[[BatchReport], None] = _silent,
    resume: bool = False,
    data: Dataset | None = None,
    world: World = World(),  # noqa: B008  (frozen)
    parts: Parts | None = None,
) -> Network:
    """Trains a network in float32 and keeps its last epoch. The test samples are not looked at.

    Fine-tuning on the grids of a number format is another matter, see `snndeploy.train.finetuning`.

    Leaves the resolved configuration (config.toml), metrics.jsonl and the last checkpoint in the run folder.
    A run that was stopped, even killed, and is resumed ends with the same bits as one that was not, given the
    same versions, the same number of threads and of ranks, and a CPU of the same kind with or without compiled
    neurons as before; on a GPU `config.deterministic` is needed, too.

    Every rank of a world calls this alike and gets the same network. The first one alone writes files and calls
    `report`, `on_start`, `on_change` and `on_batch`.

    Args:
        config: Everything that decides the run.
        run_folder: Made if need be; the files are replaced.
        report: Called after every epoch, once its checkpoint is written.
        on_start: Called when a run starts afresh, once everything asked for is accepted and before anything is
            written.
        on_change: Called when a run goes on under other conditions than before, such as versions, that may
            change the last bits; with words for them.
        on_batch: Called after every batch.
        resume: Go on from the last checkpoint in the run folder, if there is one; metrics recorded after it
            are dropped. If all is done, the trained network is only read.
        data: What to train on; loaded as the configuration says unless given.
        world: The ranks that train this network together, and which of them this process is.
        parts: Of a larger graph than that of the configuration, which is itself one: every step trains one of
            them, and the checkpoint has the parameters of all.

    Returns:
        The trained network, BatchNorm still in it unless the run started from a folded network, its
        statistics recalibrated on the training samples.

    Raises:
        ConfigError: The configuration does not fit the data or the checkpoint, or training diverges.
        FileFormatError: The run folder cannot be written, or the checkpoint is damaged.
        GraphError: A backward connection is not possible.
        TargetError: The connection to another rank was lost.
    """
    _require_alone(config, world)
    path, own = run_folder / CHECKPOINT_FILE, config.training
    last = last_checkpoint(own, path) if resume else None
    source = load(config.data) if data is None else data
    if not world.is_first:
        report = on_start = on_change = on_batch = _silent
    with prepared(own, world) as machine, world.joined(machine.device):
        _require_shared(last, path, world)
        trainer = _trainer(own, source, machine, last, path, world, parts)
        if last is None:
            on_start()
        elif not trainer.done and (changed := changes(trainer, last)):
            on_change(changed)
        if world.is_first:
            _open(config, run_folder, fresh=last is None)
        with _recording(config, run_folder, trainer) as record:
            to_the_end(trainer, path, record, report, on_batch)
        return trainer.trained()


def to_the_end(
    trainer: Trainer,
    path: Path,
    record: Callable[[EpochReport], None],
    report: Callable[[EpochReport], None],
    on_batch: Callable[[BatchReport], None],
) -> None:
    """Trains for the epochs that are left, with checkpoints as the configuration asks for them.

    Args:
        trainer: Of this rank.
        path: Of the checkpoint.
        record: Called after every epoch, before its checkpoint is written.
        report: Called after that.
        on_batch: Called after every batch.

    Raises:
        ConfigError: Training diverged.
        FileFormatError: The checkpoint cannot be written.
    """
    while not trainer.done:
        written = time.monotonic()
        for batch in trainer.train_epoch():
            if _is_due(trainer.config, trainer, time.monotonic() - written):
                _save(trainer, path)
                written = time.monotonic()
            on_batch(batch)
        epoch = trainer.finish_epoch()
        record(epoch)
        _save(trainer, path)
        report(epoch)


def _require_alone(config: Config, world: World) -> None:
    if config.quantize.format != "none" and world.size > 1:
        raise ConfigError(
            "quantize.format",
            "must be none where several processes train one network",
            got=repr(config.quantize.format),
            remedy="train without it, then resume with it in one process",
        )


def last_checkpoint(config: Config, path: Path) -> Checkpoint | None:
    """The checkpoint to go on from, if there is one.

    Args:
        config: Of the training that is to go on.
        path: Where the checkpoint would be.

    Raises:
        ConfigError: It is of another configuration.
        FileFormatError: It is damaged.
    """
    if not path.exists():
        return None
    found = checkpoint.load(path)
    checkpoint.require_same(config, found.config, str(path))
    return found


def _require_shared(last: Checkpoint | None, path: Path, world: World) -> None:
    """Checks that all ranks have read the same checkpoint."""
    found = world.gathered(None if last is None else last.sha256)
    if any(other != found[0] for other in found):
        raise ConfigError(
            str(path),
            "must be the same file for all processes of a run that is resumed",
            remedy="put the run folder where every machine sees it",
        )


def _trainer(
    config: Config,
    data: Dataset,
    machine: Machine,
    last: Checkpoint | None,
    path: Path,
    world: World,
    parts: Parts | None,
) -> Trainer:
    if last is None:
        built = build_graph(config.network, data.shape, len(data.classes))
        graph, weights = starting_point(config.start, built, config.network.connections)
        return Trainer(config, data, machine, graph, weights, world, parts)
    trainer = Trainer(config, data, machine, graph_of(last, path), world=world, parts=parts)
    restore(trainer, last, path)
    return trainer


def _open(config: Config, run_folder: Path, *, fresh: bool) -> None:
    """Makes the run folder and writes config.toml; a fresh run must not find the checkpoints of an older one."""
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        checkpoint.sweep(run_folder)
        if fresh:
            for name in (CHECKPOINT_FILE, FINE_TUNING_FILE):
                (run_folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise FileFormatError(str(run_folder), "cannot be written", got=error.strerror) from error
    with replacing(run_folder / "config.toml") as temporary:
        temporary.write_text(config.to_toml(), encoding="utf-8")


def _is_due(config: Config, trainer: Trainer, seconds: float) -> bool:
    """Whether there is to be a checkpoint after this batch, by the clock of the first rank."""
    every, after = config.checkpoint_batches, config.checkpoint_seconds
    due = bool((every and trainer.batch % every == 0) or (after and seconds >= after))
    return bool(trainer.world.first(np.array(due, np.int64)))


def _save(trainer: Trainer, path: Path) -> None:
    state = capture(trainer)  # of all ranks
    if trainer.world.is_first:
        checkpoint.save(state, path)


def _recording(
    config: Config, run_folder: Path, trainer: Trainer
) -> AbstractContextManager[Callable[[EpochReport], None]]:
    if trainer.world.is_first:
        return recording(run_folder, trainer.history, tensorboard=config.tensorboard)
    return nullcontext(_silent)
