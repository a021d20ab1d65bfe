"""The training loop: a configuration in, a trained network out, one line of metrics an epoch."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.ir import InputSpec, Network
from snndeploy.ir.files import replacing
from snndeploy.nn import SpikingNetwork, Triangle, recalibrate, run
from snndeploy.train.config import Config, OptimizerConfig
from snndeploy.train.data import Dataset, Samples, batches, load, shifted
from snndeploy.train.losses import tet
from snndeploy.train.model import build_graph

_EVALUATION_BATCH = 256


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did; a line of metrics.jsonl.

    epoch: Counted from 1.
    epochs: How many there will be.
    loss: Mean over the batches.
    train_accuracy: Share of right answers while training, on augmented images and changing weights.
    validation_accuracy: Share of right answers after the epoch, with recalibrated statistics.
    lr: Learning rate at the last batch.
    gradient_norm: Mean over the batches, before clipping.
    firing_rates: Spikes per neuron and time step of every Lif on the validation images.
    seconds: Wall time, validation included.
    """

    epoch: int
    epochs: int
    loss: float
    train_accuracy: float
    validation_accuracy: float
    lr: float
    gradient_norm: float
    firing_rates: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """How a network does on some samples.

    accuracy: Share of right answers.
    firing_rates: Spikes per neuron and time step of every Lif.
    """

    accuracy: float
    firing_rates: Mapping[str, float]


def fit(config: Config, run_folder: Path, report: Callable[[EpochReport], None] = lambda _: None) -> Network:
    """Trains a network and keeps its last epoch. The test samples are not looked at.

    Leaves the resolved configuration (config.toml) and metrics.jsonl in the run folder.

    Args:
        config: Everything that decides the run.
        run_folder: Made if need be; the two files are replaced.
        report: Called after every epoch.

    Returns:
        The trained network, BatchNorm still in it, its statistics recalibrated on the training samples.

    Raises:
        ConfigError: The configuration does not fit the data, or training diverges.
        FileFormatError: The run folder cannot be written.
        GraphError: A backward connection is not possible.
    """
    data = load(config.data)
    _check_batch_size(config.optimizer, data)
    graph = build_graph(config.network, data.shape, len(data.classes))
    network = SpikingNetwork(graph, surrogate=Triangle(config.network.surrogate_width), seed=config.seed)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.optimizer.lr, weight_decay=config.optimizer.weight_decay
    )
    rng = np.random.default_rng(config.seed)
    with _threads(config.threads), _metrics(config, run_folder) as write:
        for epoch in range(1, config.optimizer.epochs + 1):
            started = time.perf_counter()
            loss, accuracy, norm = _train_epoch(network, optimizer, config, data, rng, epoch)
            _check_finite(network, loss, epoch)
            recalibrate(network, _calibration(config, data))
            trained = Network(
                graph=graph,
                weights=network.weights(),
                steps=config.network.steps,
                input=data.input,
                classes=data.classes,
            )
            validation = evaluate(trained, data.validation)
            done = EpochReport(
                epoch=epoch,
                epochs=config.optimizer.epochs,
                loss=loss,
                train_accuracy=accuracy,
                validation_accuracy=validation.accuracy,
                lr=optimizer.param_groups[0]["lr"],
                gradient_norm=norm,
                firing_rates=validation.firing_rates,
                seconds=time.perf_counter() - started,
            )
            write(done)
            report(done)
    return trained


def evaluate(network: Network, samples: Samples) -> Evaluation:
    """Runs a network, folded or not, on raw samples.

    Raises:
        ConfigError: There are no samples.
    """
    if len(samples) == 0:
        raise ConfigError("samples", "there must be at least one to evaluate")
    right = 0
    fired = dict.fromkeys(network.graph.ports, 0.0)
    for batch in batches(samples, _EVALUATION_BATCH):
        trace = run(network, network.input.prepare(batch.images))
        right += int((trace.logits.argmax(axis=1) == batch.labels).sum())
        for name, spikes in trace.spikes.items():
            fired[name] += float(spikes.mean()) * len(batch)
    return Evaluation(right / len(samples), {name: total / len(samples) for name, total in fired.items()})


def learning_rate(config: OptimizerConfig, progress: float) -> float:
    """Learning rate after `progress` epochs: a linear rise, then half a cosine down to 0."""
    warmup = config.warmup_epochs
    if progress < warmup:
        return config.lr * progress / warmup
    return config.lr * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (config.epochs - warmup)))


def _train_epoch(
    network: SpikingNetwork,
    optimizer: torch.optim.Optimizer,
    config: Config,
    data: Dataset,
    rng: np.random.Generator,
    epoch: int,
) -> tuple[float, float, float]:
    """Changes the weights; returns the loss, the accuracy and the norm of the gradient."""
    network.train()
    size = config.optimizer.batch_size
    count = len(data.train) // size
    loss_sum = norm_sum = 0.0
    right = 0
    for place, raw in enumerate(batches(data.train, size, rng=rng, drop_last=True)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config.optimizer, epoch - 1 + (place + 0.5) / count)
        batch = shifted(raw, config.data.shift, rng)
        labels = torch.from_numpy(batch.labels)
        logits = network(_frames(batch, data.input, config.network.steps))
        loss = tet(logits, labels, mse_weight=config.loss.mse_weight)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.optimizer.clip_norm or math.inf)
        optimizer.step()
        loss_sum += loss.item()
        norm_sum += norm.item()
        right += int((logits.mean(0).argmax(1) == labels).sum())
    return loss_sum / count, right / (count * size), norm_sum / count


def _calibration(config: Config, data: Dataset) -> Iterator[Tensor]:
    for batch in batches(data.train, config.optimizer.batch_size, drop_last=True):
        yield _frames(batch, data.input, config.network.steps)


def _frames(samples: Samples, spec: InputSpec, steps: int) -> Tensor:
    """Network input (time, batch, *shape): each image at every step."""
    image = torch.from_numpy(spec.prepare(samples.images))
    return image.expand(steps, *image.shape)


def _check_finite(network: SpikingNetwork, loss: float, epoch: int) -> None:
    if not math.isfinite(loss) or not all(bool(p.isfinite().all()) for p in network.parameters()):
        raise ConfigError("optimizer.lr", f"training diverged in epoch {epoch}", remedy="lower it")


def _check_batch_size(config: OptimizerConfig, data: Dataset) -> None:
    if config.batch_size > len(data.train):
        raise ConfigError(
            "optimizer.batch_size",
            f"must be at most {len(data.train)}, the number of training samples",
            got=config.batch_size,
        )


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _metrics(config: Config, run_folder: Path) -> Iterator[Callable[[EpochReport], None]]:
    """Writes config.toml, then hands out a function that appends a line to metrics.jsonl."""
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        with replacing(run_folder / "config.toml") as path:
            path.write_text(config.to_toml(), encoding="utf-8")
        file = (run_folder / "metrics.jsonl").open("w", encoding="utf-8")
    except OSError as error:
        raise FileFormatError(str(run_folder), "cannot be written", got=error.strerror) from error

    def write(done: EpochReport) -> None:
        file.write(json.dumps(dataclasses.asdict(done)) + "\n")
        file.flush()

    with file:
        yield write
