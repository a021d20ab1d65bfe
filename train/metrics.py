"""What an epoch did, and its records: a line of metrics.jsonl and, if asked for, TensorBoard."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.ir.files import replacing

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True)
class BatchReport:
    """How far training has come within an epoch.

    epoch, batch: Counted from 1; this batch is done.
    epochs, batches: How many there will be, of batches in each epoch.
    loss: Of this batch, without the penalty.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did; a line of metrics.jsonl.

    epoch: Counted from 1.
    epochs: How many there will be.
    loss: Mean over the batches, without the penalty.
    train_accuracy: Share of right answers while training, on augmented images and changing weights.
    validation_accuracy: Share of right answers after the epoch, with recalibrated statistics.
    lr: Learning rate at the last batch.
    gradient_norm: Mean over the batches that changed the weights, before clipping.
    skipped_batches: Those that did not, as their gradient overflowed; float16 only.
    penalty: Omega, mean over the batches; None without a penalty.
    penalty_intensity: Its factor in the loss at the last batch.
    firing_rates: Spikes per neuron and time step of every Lif on the validation samples; empty for an ANN.
    dead_neurons: How many neurons of every Lif never fired on the validation samples.
    dead_rate: Their share of all neurons.
    synops: Synaptic operations of one inference, mean over the validation samples.
    estimated_energy_pj: Of these, at the price of `snndeploy.train.evaluation`.
    seconds: Wall time, validation included; not that between an interruption and a resumption.
    mean_activations: Of every layer of an ANN, in place of firing rates; empty for a spiking network. What
        dead neurons and synaptic operations are then says `snndeploy.train.evaluation`.
    compile_seconds: Of `seconds`, spent on compiling the network.
    phase: "training", or "fine-tuning" on the grids of a number format, whose epochs count on from there.
    """

    epoch: int
    epochs: int
    loss: float
    train_accuracy: float
    validation_accuracy: float
    lr: float
    gradient_norm: float
    skipped_batches: int
    penalty: float | None
    penalty_intensity: float
    firing_rates: Mapping[str, float]
    dead_neurons: Mapping[str, int]
    dead_rate: float
    synops: float
    estimated_energy_pj: float
    seconds: float
    mean_activations: Mapping[str, float] = field(default_factory=dict)
    compile_seconds: float = 0.0
    phase: str = "training"


@dataclass
class EpochSums:
    """Sums over the batches of an epoch so far."""

    loss: float = 0.0
    right: int = 0
    gradient_norm: float = 0.0
    skipped: int = 0
    penalty: float = 0.0
    seconds: float = 0.0
    compile_seconds: float = 0.0

    def add(self, *, loss: float, right: int, gradient_norm: float, penalty: float) -> None:
        """Counts one batch in; a gradient that is not finite was not used."""
        self.loss += loss
        self.right += right
        self.penalty += penalty
        if math.isfinite(gradient_norm):
            self.gradient_norm += gradient_norm
        else:
            self.skipped += 1


@contextmanager
def recording(
    run_folder: Path, history: Sequence[EpochReport], *, tensorboard: bool
) -> Iterator[Callable[[EpochReport], None]]:
    """Hands out a function that records an epoch.

    Args:
        run_folder: Gets metrics.jsonl, and a folder tensorboard/ if asked for.
        history: The epochs before. The file then holds exactly these; a line of any later one is dropped.
        tensorboard: Whether to write for TensorBoard, too.

    Raises:
        ConfigError: TensorBoard is not installed.
        FileFormatError: A file cannot be written.
    """
    path = run_folder / METRICS_FILE
    with _board(run_folder, len(history) + 1) if tensorboard else _no_board() as show:
        with replacing(path) as temporary:
            temporary.write_text("".join(map(_line, history)), encoding="utf-8")

        def record(done: EpochReport) -> None:
            try:
                with path.open("a", encoding="utf-8") as file:
                    file.write(_line(done))
            except OSError as error:
                raise FileFormatError(str(path), "cannot be written", got=error.strerror) from error
            show(done)

        yield record


def _line(done: EpochReport) -> str:
    return json.dumps(dataclasses.asdict(done), allow_nan=False) + "\n"


@contextmanager
def _board(run_folder: Path, first_epoch: int) -> Iterator[Callable[[EpochReport], None]]:
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise ConfigError(
            "tensorboard",
            "is not installed",
            got=error,
            remedy="install snndeploy[tensorboard], or set tensorboard = false",
        ) from error
    # What an earlier run recorded of this epoch and later ones is not shown.
    writer = SummaryWriter(str(run_folder / "tensorboard"), purge_step=first_epoch)

    def show(done: EpochReport) -> None:
        for name, value in dataclasses.asdict(done).items():
            if isinstance(value, dict):
                for part, number in value.items():
                    writer.add_scalar(f"{name}/{part}", number, done.epoch)
            elif value is not None and name not in ("epoch", "epochs", "phase"):
                writer.add_scalar(name, value, done.epoch)
        writer.flush()

    try:
        yield show
    finally:
        writer.close()


@contextmanager
def _no_board() -> Iterator[Callable[[EpochReport], None]]:
    yield lambda _: None
