"""A graph as a PyTorch module, which trains and runs any Graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from snndeploy.errors import NetworkError
from snndeploy.ir import Dropout, Graph, check_steps, parameter_shapes
from snndeploy.nn.batchnorm import MOMENTUM, Statistics
from snndeploy.nn.engine import Neurons, Plan, Simulation, simulate
from snndeploy.nn.initial import initial_weights
from snndeploy.nn.qrelu import QuantizedRelu
from snndeploy.nn.surrogate import Surrogate, Triangle
from snndeploy.nn.whole import WholeNetwork


class SpikingNetwork(nn.Module):
    """A graph with weights that can be trained. Forward: (time, batch, *shape) -> logits of each step.

    PyTorch forbids dots in the names of tensors, so `stem.conv.weight` is held as `stem/conv/weight`; a slash
    cannot occur in the name of an op.

    In training mode BatchNorm normalises with the statistics of the batch and updates the running ones once
    per forward pass, and each Dropout draws one mask per sample, the same at every time step.

    Args:
        graph: Any graph.
        surrogate: Stand-in for the derivative of a spike.
        activation: Takes the place of the spiking neurons: the network is an ANN then. None for a spiking one.
        seed: Decides the initial weights and, unless `mask_seed` does, the masks.
        mask_seed: Of the masks, for processes that train one network on different samples.
        backward_scale: Initial weight of the BatchNorm of every backward connection; see `initial_weights`.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        surrogate: Surrogate = Triangle(),  # noqa: B008  (frozen)
        activation: QuantizedRelu | None = None,
        seed: int = 0,
        mask_seed: int | None = None,
        backward_scale: float = 0.0,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.surrogate, self.activation = surrogate, activation
        self.part, self.plan = graph, Plan.of(graph)  # what a pass computes
        self.neurons: Neurons = "compiled"
        self.whole: WholeNetwork | None = None  # does the training passes if there is one
        self.mask_seed = seed if mask_seed is None else mask_seed
        self.group: ProcessGroup | None = None  # batch statistics are of all its batches, if there is one
        self.forward_passes = 0  # in training mode; each has its own masks
        for name, array in initial_weights(graph, seed, backward_scale=backward_scale).items():
            tensor = torch.from_numpy(array)
            if _is_statistic(name):
                self.register_buffer(_held_as(name), tensor)
            else:
                self.register_parameter(_held_as(name), nn.Parameter(tensor))

    def restrict(self, part: Graph, plan: Plan | None = None) -> None:
        """From now on passes compute a part of the graph; nothing else has a gradient or new statistics.

        Args:
            part: With the same input, and parameters that are among those of the graph.
            plan: Of the part, where it is at hand.

        Raises:
            NetworkError: It has a parameter that the graph has not.
        """
        if differing := sorted(parameter_shapes(part).items() - parameter_shapes(self.graph).items()):
            raise NetworkError("part", "must have parameters of the graph only", got=differing[:5])
        self.part, self.plan = part, Plan.of(part) if plan is None else plan

    def forward(self, x: Tensor, *, stepped: bool = False) -> Tensor:
        """Logits of each step, (time, batch, classes); arguments and errors as `advance`."""
        return self.advance(x, stepped=stepped).logits

    def advance(
        self, x: Tensor, *, stepped: bool = False, record_spikes: bool = False, count_power: int | None = None
    ) -> Simulation:
        """A forward pass as the mode asks for, with all that it gave; gradients flow through the spikes, too.

        Args:
            x: (time, batch, *shape).
            stepped: Step everything, not only loop bodies; the result is the same.
            record_spikes: Keep the spikes of every Lif.
            count_power: p, 1 or 2, to count spike**p; None for no counts.

        Raises:
            NetworkError: The shape does not fit, or a delay is not below the number of steps.
        """
        masks = self.draw_masks(x) if self.training else {}
        if self.training and self.whole is not None and not stepped:
            done = self.whole(
                self._tensors(x), x, masks=masks, record_spikes=record_spikes, count_power=count_power
            )
        else:
            done = self.simulate(
                x,
                batch_statistics=self.training,
                masks=masks,
                stepped=stepped,
                record_spikes=record_spikes,
                count_power=count_power,
            )
        self.assign_statistics(
            {
                name: (
                    self.tensor(f"{name}.running_mean").lerp(mean, MOMENTUM),
                    self.tensor(f"{name}.running_var").lerp(variance, MOMENTUM),
                )
                for name, (mean, variance) in done.statistics.items()
            }
        )
        self.forward_passes += self.training
        return done

    def simulate(self, x: Tensor, *, batch_statistics: bool = False, **options: Any) -> Simulation:
        """Runs the network and changes nothing, whatever its mode.

        Args:
            x: (time, batch, *shape).
            batch_statistics: Normalise with the statistics of the batch or the running ones.
            options: `masks`, `stepped`, `record_spikes`, `record_potentials`, `count_power` and `neurons` of
                `engine.simulate`.

        Raises:
            NetworkError: The shape does not fit, or a delay is not below the number of steps.
        """
        return simulate(
            self.part,
            self._tensors(x),
            x,
            surrogate=self.surrogate,
            activation=self.activation,
            plan=self.plan,
            batch_statistics=(self.group or True) if batch_statistics else False,
            **{"neurons": self.neurons, **options},
        )

    def _tensors(self, x: Tensor) -> dict[str, Tensor]:
        """Everything that a pass over x needs, once it is clear that x fits."""
        shape = self.part.shapes[self.part.input]
        if x.ndim != len(shape) + 2 or x.shape[2:] != shape:
            expected = ", ".join(("time", "batch", *map(str, shape)))
            raise NetworkError("input", f"must have shape ({expected})", got=tuple(x.shape))
        check_steps(self.part, x.shape[0])
        return {name: self.tensor(name) for name in parameter_shapes(self.part)}

    def tensor(self, name: str) -> Tensor:
        """The parameter or running statistic of a name `<op>.<parameter>`."""
        return self.get_buffer(_held_as(name)) if _is_statistic(name) else self.get_parameter(_held_as(name))

    def weights(self) -> dict[str, npt.NDArray[Any]]:
        """Copies of all parameters and running statistics, by name `<op>.<parameter>`."""
        names = parameter_shapes(self.graph)
        return {name: self.tensor(name).detach().cpu().numpy().copy() for name in names}

    def load_weights(self, weights: Mapping[str, npt.NDArray[Any]]) -> None:
        """Takes over all parameters and running statistics.

        Raises:
            NetworkError: A name or shape does not fit the graph; nothing has been changed then.
        """
        shapes = parameter_shapes(self.graph)
        if set(weights) != set(shapes):
            differing = sorted(set(weights) ^ set(shapes))
            raise NetworkError("weights", "must name exactly the graph's parameters", got=differing[:5])
        for name, shape in shapes.items():
            if np.shape(weights[name]) != shape:
                raise NetworkError(name, f"must have shape {shape}", got=np.shape(weights[name]))
        with torch.no_grad():
            for name in shapes:
                self.tensor(name).copy_(torch.tensor(weights[name]))

    def assign_statistics(self, statistics: Mapping[str, Statistics]) -> None:
        """Replaces the running mean and variance of BatchNorms.

        They become new tensors, since a backward pass to come may still need the old ones.
        """
        for name, (mean, variance) in statistics.items():
            setattr(self, _held_as(f"{name}.running_mean"), mean.detach())
            setattr(self, _held_as(f"{name}.running_var"), variance.detach())

    def draw_masks(self, x: Tensor) -> dict[str, Tensor]:
        """Factors (batch, *shape) for each Dropout in the forward pass that is to come, for input like x."""
        masks = {}
        for name, op in self.part.ops.items():
            if isinstance(op, Dropout):
                source = np.random.SeedSequence([self.mask_seed, self.forward_passes, *name.encode()])
                generator = torch.Generator(x.device).manual_seed(int(source.generate_state(1)[0]))
                kept = torch.empty(x.shape[1], *self.part.shapes[name], dtype=x.dtype, device=x.device)
                kept.bernoulli_(1 - op.probability, generator=generator)
                masks[name] = kept / (1 - op.probability)
        return masks


def recalibrate(network: SpikingNetwork, batches: Iterable[Tensor]) -> None:
    """Replaces the running statistics by averages over batches, with the weights as they are.

    During training they lag behind the weights; before an evaluation they should not. Dropout does nothing.

    Args:
        network: Its weights stay as they are.
        batches: Inputs (time, batch, *shape), each counting alike.

    Raises:
        NetworkError: There is no batch.
    """
    averages: dict[str, Statistics] = {}
    count = 0
    for count, x in enumerate(batches, 1):
        with torch.no_grad():
            found = network.simulate(x, batch_statistics=True).statistics
        for name, (mean, variance) in found.items():
            old_mean, old_variance = averages.get(name, (mean, variance))
            averages[name] = (old_mean.lerp(mean, 1 / count), old_variance.lerp(variance, 1 / count))
    if count == 0:
        raise NetworkError("recalibration", "needs at least one batch")
    network.assign_statistics(averages)


def _held_as(name: str) -> str:
    return name.replace(".", "/")


def _is_statistic(name: str) -> bool:
    return name.endswith((".running_mean", ".running_var"))
