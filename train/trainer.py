"""A training run that can be stopped after any batch and gone on with, in another process, to the same bits."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snndeploy.errors import ConfigError
from snndeploy.ir import Graph, Network, parameter_shapes
from snndeploy.nn import SpikingNetwork, recalibrate
from snndeploy.nn.engine import Plan
from snndeploy.nn.whole import WholeNetwork
from snndeploy.train.checkpoint import Arrays
from snndeploy.train.config import Config
from snndeploy.train.conversion import activation_of, require_images
from snndeploy.train.data import Dataset, Samples, network_input
from snndeploy.train.distributed import World
from snndeploy.train.evaluation import Evaluation, evaluate
from snndeploy.train.grids import Grids
from snndeploy.train.losses import loss_of
from snndeploy.train.machine import Machine, neurons_of, require_compiler
from snndeploy.train.metrics import BatchReport, EpochReport, EpochSums
from snndeploy.train.model import build_surrogate
from snndeploy.train.optimizers import optimizer_of
from snndeploy.train.parts import Parts
from snndeploy.train.penalty import Penalty
from snndeploy.train.schedule import learning_rate

_CALIBRATION = 1  # stream of random numbers, beside that of training


class Trainer:
    """A run between two batches; `snndeploy.train.snapshot` can store it and bring it back.

    Args:
        config: Everything that decides the run.
        data: What to train on.
        machine: What to compute on.
        graph: What to train.
        weights: Where to start from, by name; what is missing is drawn from the seed.
        world: The ranks that train together, which have joined. All of them make the same calls.
        parts: Of a larger graph, of which every step trains one; `graph` is then the part that is measured.
        grids: Of a folded graph, that its weights stay on; None to train in float32.

    Raises:
        ConfigError: The configuration does not fit the data.
    """

    def __init__(
        self,
        config: Config,
        data: Dataset,
        machine: Machine,
        graph: Graph,
        weights: Arrays | None = None,
        world: World = World(),  # noqa: B008  (frozen)
        parts: Parts | None = None,
        grids: Grids | None = None,
    ) -> None:
        _check(config, data, world, parts)
        self.config, self.data, self.machine, self.world = config, data, machine, world
        self.graph, self.parts, self.grids = graph, parts, grids
        surrogate = build_surrogate(config.network)
        activation = activation_of(config.network)
        self.network = SpikingNetwork(
            graph if parts is None else parts.whole,
            surrogate=surrogate,
            activation=activation,
            seed=config.seed,
            mask_seed=world.seed(config.seed),
        )
        if weights:
            self.network.load_weights({**self.network.weights(), **weights})
        self.network.to(machine.device, machine.dtype).train()
        if grids is not None:
            grids.confine(self.network)
        self.network.neurons = neurons_of(config)
        if config.compile == "network":
            require_compiler(machine.device)
        self._advance = world.parallel(self.network, in_parts=parts is not None)
        self.scaler = machine.scaler()
        self.penalty: Penalty | None = None
        self._restrict(graph)
        self.readout = config.network.readout or data.readout or config.network.steps
        self.batches = len(data.train) // config.optimizer.batch_size
        self.rng = np.random.default_rng(world.seed(config.seed))
        self.history: list[EpochReport] = []
        self.sums = EpochSums()  # of this epoch
        self.batch = 0  # how many are done in this epoch
        self.order_state: Mapping[str, Any] | None = None  # of the generator before it shuffled this epoch
        self._clock = time.perf_counter()

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """What changes the weights; made when it is first asked for, as the import takes seconds."""
        return optimizer_of(self.network, self.config.optimizer)

    @property
    def done(self) -> bool:
        """Whether all epochs are done."""
        return len(self.history) == self.config.optimizer.epochs

    def train_epoch(self) -> Iterator[BatchReport]:
        """Trains on what is left of this epoch, a batch at a time.

        Raises:
            ConfigError: Training diverged.
        """
        self._clock = time.perf_counter()
        size = self.config.optimizer.batch_size
        order = self._shuffled()
        while self.batch < self.batches:
            places = order[self.batch * size : (self.batch + 1) * size]
            loss = self._step(self.data.train.take(places[self.world.share(size)]))
            self.batch += 1
            self._lap()
            yield BatchReport(
                epoch=len(self.history) + 1,
                epochs=self.config.optimizer.epochs,
                batch=self.batch,
                batches=self.batches,
                loss=loss,
            )

    def finish_epoch(self) -> EpochReport:
        """Recalibrates the running statistics, evaluates the network on the validation samples, and counts on.

        Raises:
            ConfigError: Training diverged.
        """
        if not all(bool(parameter.isfinite().all()) for parameter in self.network.parameters()):
            raise self._diverged()
        if self.grids is not None:
            self.graph = self.grids.settle(self.network, self._shadow())
        validation = self.measure(self.graph)
        self._lap()
        sums, count = self.sums, self.batches
        last = self._progress(self.batches - 1)
        report = EpochReport(
            epoch=len(self.history) + 1,
            epochs=self.config.optimizer.epochs,
            loss=sums.loss / count,
            train_accuracy=sums.right / (count * self.config.optimizer.batch_size),
            validation_accuracy=validation.accuracy,
            lr=learning_rate(self.config.optimizer, last),
            gradient_norm=sums.gradient_norm / max(count - sums.skipped, 1),
            skipped_batches=sums.skipped,
            penalty=None if self.penalty is None else sums.penalty / count,
            penalty_intensity=self._intensity(last),
            firing_rates=validation.firing_rates,
            dead_neurons=validation.dead_neurons,
            dead_rate=validation.dead_rate,
            synops=validation.synops,
            estimated_energy_pj=validation.estimated_energy_pj,
            seconds=sums.seconds,
            mean_activations=validation.mean_activations,
            compile_seconds=sums.compile_seconds,
        )
        self.history.append(report)
        self.sums, self.batch, self.order_state = EpochSums(), 0, None
        return report

    def measure(self, part: Graph) -> Evaluation:
        """Recalibrates the running statistics of a part of the network, and evaluates it on the validation samples.

        Args:
            part: Is what `trained` gives from then on, until the next step.

        Raises:
            NetworkError: It is no part of the network.
        """
        self._restrict(part)
        if self.grids is None:  # a folded network has no running statistics
            recalibrate(self.network, self._calibration())
        return evaluate(
            self.trained(),
            self.data.validation,
            activation=self.network.activation,
            device=self.machine.device,
            neurons=self.network.neurons,
            world=self.world,
        )

    def trained(self) -> Network:
        """The network as it is now, BatchNorm still in it; on its grids, if it has some."""
        if self.grids is None:
            return self._shadow()
        with self.grids.rounding(self.network):
            rounded = self.network.weights()
        return replace(self._shadow(), weights=rounded, format=self.grids.format)

    def _shadow(self) -> Network:
        """The network as it is trained, in float32."""
        weights, part = self.network.weights(), self.network.part
        return Network(
            graph=part,
            weights={name: weights[name] for name in parameter_shapes(part)},
            steps=self.config.network.steps,
            readout=self.readout,
            input=self.data.input,
            classes=self.data.classes,
        )

    def _shuffled(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The order of the training samples in this epoch."""
        if self.order_state is None:
            self.order_state = self.rng.bit_generator.state
            return self.world.first(self.rng.permutation(len(self.data.train)))
        again = np.random.default_rng(0)
        again.bit_generator.state = self.order_state
        return self.world.first(again.permutation(len(self.data.train)))

    def _step(self, raw: Samples) -> float:
        """Changes the weights; returns the loss of the whole batch, of which this is a share, less the penalty."""
        config, progress = self.config, self._progress(self.batch)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config.optimizer, progress)
        if self.parts is not None:
            self._restrict(*self.parts.part(self.network.forward_passes))
        batch = self.data.present(raw, self.rng)
        labels = torch.from_numpy(batch.labels).to(self.machine.device)
        self.optimizer.zero_grad()
        with nullcontext() if self.grids is None else self.grids.rounding(self.network):
            logits, loss, omega = self._find_gradients(batch, labels, progress)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(
            self.network.parameters(), config.optimizer.clip_norm or math.inf
        )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.grids is not None:
            self.grids.confine(self.network)
        answers = logits[len(logits) - self.readout :].mean(0).argmax(1)
        right = float((answers == labels).sum())
        found = np.array([loss.item(), right, 0.0 if omega is None else omega.item()])
        totals = self.world.total(found)
        value, penalty = float(totals[0] / self.world.size), float(totals[2] / self.world.size)
        if not math.isfinite(value):
            raise self._diverged()
        self.sums.add(loss=value, right=int(totals[1]), gradient_norm=norm.item(), penalty=penalty)
        return value

    def _find_gradients(
        self, batch: Samples, labels: Tensor, progress: float
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Adds those of the weights as they are; returns logits, loss and, if there is one, Omega."""
        with self.machine.autocast():
            power = None if self.penalty is None else self.penalty.power
            done = self._advance(self._frames(batch), count_power=power)
        if self.network.whole is not None:
            self.sums.compile_seconds += self.network.whole.take_seconds()
        loss = loss_of(done.logits, labels, self.config.loss, readout=self.readout)
        omega = None if self.penalty is None or done.counts is None else self.penalty(done.counts)
        objective = loss if omega is None else loss + self._intensity(progress) * omega
        torch.autograd.backward(self.scaler.scale(objective))
        return done.logits, loss, omega

    def _restrict(self, part: Graph, plan: Plan | None = None) -> None:
        self.network.restrict(part, plan)
        whole = self.network.whole
        if self.config.compile == "network" and (whole is None or whole.graph != part):
            self.network.whole = WholeNetwork(part, self.network.plan, self.network.surrogate)
        if self.config.penalty.intensity > 0:
            penalty = Penalty.from_config(self.config.penalty, part, self.config.network.steps)
            self.penalty = penalty.to(self.machine.device)

    def _progress(self, batch: int) -> float:
        """Epochs done in the middle of a batch of this epoch, counted from 0."""
        return len(self.history) + (batch + 0.5) / self.batches

    def _intensity(self, progress: float) -> float:
        share = progress / self.config.optimizer.epochs
        return 0.0 if self.penalty is None else self.penalty.intensity(share)

    def _calibration(self) -> Iterator[Tensor]:
        """Training samples as they come, unchanged; sequences are drawn the same way after every epoch."""
        rng = np.random.default_rng([self.config.seed, _CALIBRATION])
        size = self.config.optimizer.batch_size
        for place in range(min(self.config.calibration_batches or self.batches, self.batches)):
            batch = self.data.train.take(slice(place * size, (place + 1) * size))
            shown = self.data.present(batch, rng, augmented=False)
            yield self._frames(shown.take(self.world.share(size)))

    def _frames(self, batch: Samples) -> Tensor:
        """Network input (time, batch, *shape): each image at every step, or one frame a step."""
        x = torch.from_numpy(network_input(batch, self.data.input))
        x = x.to(self.machine.device, self.machine.dtype)
        return x if self.data.input.kind == "frames" else x.expand(self.config.network.steps, *x.shape)

    def _lap(self) -> None:
        now = time.perf_counter()
        self.sums.seconds += now - self._clock
        self._clock = now

    def _diverged(self) -> ConfigError:
        return ConfigError(
            "optimizer.lr", f"training diverged in epoch {len(self.history) + 1}", remedy="lower it"
        )


def _check(config: Config, data: Dataset, world: World, parts: Parts | None) -> None:
    require_images(config.network, data)
    if config.optimizer.batch_size > len(data.train):
        raise ConfigError(
            "optimizer.batch_size",
            f"must be at most {len(data.train)}, the number of training samples",
            got=config.optimizer.batch_size,
        )
    if config.optimizer.batch_size % world.size:
        raise ConfigError(
            "optimizer.batch_size",
            f"must be a multiple of {world.size}, the number of processes that share each batch",
            got=config.optimizer.batch_size,
        )
    if config.compile == "network" and (world.size > 1 or config.network.neuron != "lif"):
        raise ConfigError(
            "compile",
            "a whole network can be compiled for one process and spiking neurons only",
            got=repr(config.compile),
            remedy='set compile = "neurons"',
        )
    if config.compile == "network" and parts is not None:
        raise ConfigError(
            "compile",
            "must not be network where each step trains another part of it",
            remedy='set compile = "neurons"',
        )
    if data.steps is not None and data.steps != config.network.steps:
        raise ConfigError(
            "network.steps",
            f"must be {data.steps}, the number of frames of a sequence",
            got=config.network.steps,
            remedy=f"set network.steps = {data.steps}, or data.steps = {config.network.steps}",
        )
