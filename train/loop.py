"""The training loop: a configuration in, a trained network out, one line of metrics an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snndeploy.errors import FileFormatError
from snndeploy.ir import Network
from snndeploy.ir.files import replacing
from snndeploy.train import checkpoint
from snndeploy.train.checkpoint import CHECKPOINT_FILE, Checkpoint
from snndeploy.train.config import Config
from snndeploy.train.data import Dataset, load
from snndeploy.train.machine import Machine, prepared
from snndeploy.train.metrics import BatchReport, EpochReport, recording
from snndeploy.train.model import build_graph
from snndeploy.train.snapshot import capture, graph_of, restore
from snndeploy.train.start import starting_point
from snndeploy.train.trainer import Trainer


def _silent(*_: Any) -> None: ...


def fit(
    config: Config,
    run_folder: Path,
    report: Callable[[EpochReport], None] = _silent,
    *,
    on_start: Callable[[], None] = _silent,
    on_batch: Callable[[BatchReport], None] = _silent,
    resume: bool = False,
    data: Dataset | None = None,
) -> Network:
    """Trains a network and keeps its last epoch. The test samples are not looked at.

    Leaves the resolved configuration (config.toml), metrics.jsonl and the last checkpoint in the run folder.
    A run that was stopped, even killed, and is resumed ends with the same bits as one that was not, given the
    same versions, the same number of threads and a CPU; on a GPU `config.deterministic` is needed, too.

    Args:
        config: Everything that decides the run.
        run_folder: Made if need be; the files are replaced.
        report: Called after every epoch, once its checkpoint is written.
        on_start: Called when a run starts afresh, once everything asked for is accepted and before anything is
            written.
        on_batch: Called after every batch.
        resume: Go on from the last checkpoint in the run folder, if there is one; metrics recorded after it
            are dropped. If all is done, the trained network is only read.
        data: What to train on; loaded as the configuration says unless given.

    Returns:
        The trained network, BatchNorm still in it unless the run started from a folded network, its
        statistics recalibrated on the training samples.

    Raises:
        ConfigError: The configuration does not fit the data or the checkpoint, or training diverges.
        FileFormatError: The run folder cannot be written, or the checkpoint is damaged.
        GraphError: A backward connection is not possible.
    """
    path = run_folder / CHECKPOINT_FILE
    last = _last(config, path) if resume else None
    source = load(config.data) if data is None else data
    with prepared(config) as machine:
        trainer = _trainer(config, source, machine, last, path)
        if last is None:
            on_start()
        _open(config, run_folder, fresh=last is None)
        with recording(run_folder, trainer.history, tensorboard=config.tensorboard) as record:
            while not trainer.done:
                written = time.monotonic()
                for batch in trainer.train_epoch():
                    if _is_due(config, trainer, time.monotonic() - written):
                        checkpoint.save(capture(trainer), path)
                        written = time.monotonic()
                    on_batch(batch)
                epoch = trainer.finish_epoch()
                record(epoch)
                checkpoint.save(capture(trainer), path)
                report(epoch)
        return trainer.trained()


def _last(config: Config, path: Path) -> Checkpoint | None:
    """The checkpoint to go on from, if there is one."""
    if not path.exists():
        return None
    found = checkpoint.load(path)
    checkpoint.require_same(config, found.config, str(path))
    return found


def _trainer(config: Config, data: Dataset, machine: Machine, last: Checkpoint | None, path: Path) -> Trainer:
    if last is None:
        built = build_graph(config.network, data.shape, len(data.classes))
        graph, weights = starting_point(config.start, built, config.network.connections)
        return Trainer(config, data, machine, graph, weights)
    trainer = Trainer(config, data, machine, graph_of(last, path))
    restore(trainer, last, path)
    return trainer


def _open(config: Config, run_folder: Path, *, fresh: bool) -> None:
    """Makes the run folder and writes config.toml; a fresh run must not find the checkpoint of an older one."""
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        checkpoint.sweep(run_folder)
        if fresh:
            (run_folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise FileFormatError(str(run_folder), "cannot be written", got=error.strerror) from error
    with replacing(run_folder / "config.toml") as temporary:
        temporary.write_text(config.to_toml(), encoding="utf-8")


def _is_due(config: Config, trainer: Trainer, seconds: float) -> bool:
    """Whether there is to be a checkpoint after this batch."""
    every, after = config.checkpoint_batches, config.checkpoint_seconds
    return bool((every and trainer.batch % every == 0) or (after and seconds >= after))
