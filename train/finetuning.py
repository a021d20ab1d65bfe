"""Fine-tuning: a trained network, folded, goes on being trained on the grids of a number format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from snndeploy.ir import Network, Quantized, fold
from snndeploy.train import checkpoint
from snndeploy.train.checkpoint import CHECKPOINT_FILE, FINE_TUNING_FILE
from snndeploy.train.config import Config
from snndeploy.train.data import Dataset
from snndeploy.train.grids import Grids, calibration, quantized, shadow_weights
from snndeploy.train.loop import last_checkpoint, to_the_end
from snndeploy.train.machine import prepared
from snndeploy.train.metrics import BatchReport, EpochReport, recording
from snndeploy.train.snapshot import changes, graph_of, restore
from snndeploy.train.trainer import Trainer

PHASE = "fine-tuning"
"""What epochs of it are marked with in metrics.jsonl."""


@dataclass(frozen=True, eq=False)
class FineTuned:
    """What fine-tuning led to.

    before: The network quantised without it: where it started.
    network: On grids, certified. Its exponents are those of `before` unless grids had to be replaced.
    replaced: How often they were, as the weights had outgrown their certificate.
    """

    before: Quantized
    network: Network
    replaced: int


def _silent(*_: Any) -> None: ...


def fine_tune(
    config: Config,
    run_folder: Path,
    trained: Network,
    data: Dataset,
    report: Callable[[EpochReport], None] = _silent,
    *,
    on_change: Callable[[str], None] = _silent,
    on_batch: Callable[[BatchReport], None] = _silent,
    resume: bool = False,
) -> FineTuned:
    """Goes on training what `snndeploy.train.loop.fit` left in a run folder, as `config.quantize` says.

    Adds its epochs to metrics.jsonl and a checkpoint of its own to the run folder. A run that was stopped and is
    resumed ends with the same bits as one that was not, under the conditions of `fit`.

    Args:
        config: Of the whole run.
        run_folder: Of the run.
        trained: What `fit` returned.
        data: What to train on.
        report: Called after every epoch, counted from 1, once its checkpoint is written.
        on_change: Called when fine-tuning goes on under other conditions than before; with words for them.
        on_batch: Called after every batch.
        resume: Go on from the last checkpoint of the fine-tuning, if there is one.

    Raises:
        ConfigError: The checkpoint is of another configuration, or training diverges.
        FileFormatError: The run folder cannot be written, or a checkpoint is damaged.
        QuantizeError: No grids allow a certificate.
    """
    path, own = run_folder / FINE_TUNING_FILE, config.fine_tuning
    last = last_checkpoint(own, path) if resume else None
    shown = calibration(data, config.seed)
    float32 = fold(trained)
    before = quantized(float32, config.quantize, shown)
    with prepared(own) as machine:
        grids = Grids(config.quantize, before.network, shown)
        graph = before.network.graph if last is None else graph_of(last, path)
        weights = shadow_weights(float32, before.network)
        trainer = Trainer(own, data, machine, graph, weights, grids=grids)
        if last is not None:
            restore(trainer, last, path)
            if not trainer.done and (changed := changes(trainer, last)):
                on_change(changed)
        earlier = _training_epochs(run_folder)

        def counted_on(done: EpochReport) -> EpochReport:
            by = len(earlier)
            return replace(done, epoch=by + done.epoch, epochs=by + done.epochs, phase=PHASE)

        known = [*earlier, *map(counted_on, trainer.history)]
        with recording(run_folder, known, tensorboard=config.tensorboard) as record:
            to_the_end(trainer, path, lambda done: record(counted_on(done)), report, on_batch)
        return FineTuned(before, trainer.trained(), grids.replaced)


def require_resumable(config: Config, run_folder: Path) -> None:
    """Checks that what a run folder has of a fine-tuning, if anything, is of this configuration.

    Raises:
        ConfigError: It is not.
        FileFormatError: Its checkpoint is damaged.
    """
    last_checkpoint(config.fine_tuning, run_folder / FINE_TUNING_FILE)


def _training_epochs(run_folder: Path) -> list[EpochReport]:
    """The epochs of the training before."""
    state = checkpoint.load(run_folder / CHECKPOINT_FILE).state
    return [EpochReport(**report) for report in state["history"]]
