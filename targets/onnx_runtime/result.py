"""What a network did on some samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.errors import TargetError
from snndeploy.targets.onnx_runtime.description import Neuron
from snndeploy.targets.onnx_runtime.interface import Interface
from snndeploy.targets.onnx_runtime.stream import Array


@dataclass(frozen=True, eq=False)
class Result:
    """What a network did on some samples.

    logits: (batch, classes), the mean over the readout window of what entered the Output.
    readout_sum: (batch, classes), the sum over the window.
    logits_by_step: (time, batch, classes), what entered the Output at each step; None in the sequence form.
    states: (batch, *shape) by name, after the last step, each of its own type; empty in the sequence form.
    spikes: (time, batch, *shape) bool by neuron layer, of those the file gives out.
    potentials: (time, batch, *shape), membrane potential u before the reset, likewise.
    """

    logits: Array
    readout_sum: Array
    logits_by_step: Array | None
    states: Mapping[str, npt.NDArray[Any]]
    spikes: Mapping[str, npt.NDArray[np.bool_]]
    potentials: Mapping[str, Array]


@dataclass(frozen=True)
class Shown:
    """Graph outputs with the spikes and potentials of one layer, in the order of time; empty where none."""

    neuron: Neuron
    spikes: tuple[str, ...]
    potentials: tuple[str, ...]


def shown(neurons: Iterable[Neuron], interface: Interface) -> tuple[Shown, ...]:
    """What a file gives out of each layer: all of it exported for debugging, or spikes exposed later."""
    outputs = interface.outputs.keys()
    found = []
    for neuron in neurons:
        whole, u = f"{neuron.name}.spikes", f"{neuron.name}.u"
        exposed = neuron.spikes if outputs >= set(neuron.spikes) else ()
        found.append(Shown(neuron, (whole,) if whole in outputs else exposed, (u,) if u in outputs else ()))
    return tuple(found)


def traces(
    layers: Iterable[Shown],
    values: Mapping[str, Sequence[npt.NDArray[Any]]],
    front: tuple[int, int],
    where: str,
) -> tuple[dict[str, npt.NDArray[np.bool_]], dict[str, Array]]:
    """Spikes and potentials of every layer, (time, batch, *shape).

    Args:
        layers: Where they stand.
        values: Arrays of each graph output, in the order of time; one may hold several steps.
        front: Steps and samples.
        where: What messages call the model.

    Raises:
        TargetError: The values have other shapes than the file says.
    """
    spikes: dict[str, npt.NDArray[np.bool_]] = {}
    potentials: dict[str, Array] = {}
    for layer in layers:
        name, shape = layer.neuron.name, (*front, *layer.neuron.shape)
        try:
            if layer.spikes:
                spikes[name] = np.stack([v for n in layer.spikes for v in values[n]]).reshape(shape) > 0
            if layer.potentials:
                potentials[name] = np.stack([v for n in layer.potentials for v in values[n]]).reshape(shape)
        except ValueError:
            raise TargetError(where, f"spikes and potentials of {name!r} must have shape {shape}") from None
    return spikes, potentials


def joined(results: Sequence[Result]) -> Result:
    """Results of consecutive samples as one."""

    def by_name(maps: Sequence[Mapping[str, npt.NDArray[Any]]], axis: int) -> dict[str, npt.NDArray[Any]]:
        return {name: np.concatenate([part[name] for part in maps], axis=axis) for name in maps[0]}

    by_step = [r.logits_by_step for r in results if r.logits_by_step is not None]
    return Result(
        logits=np.concatenate([r.logits for r in results]),
        readout_sum=np.concatenate([r.readout_sum for r in results]),
        logits_by_step=np.concatenate(by_step, axis=1) if by_step else None,
        states=by_name([r.states for r in results], 0),
        spikes=by_name([r.spikes for r in results], 1),
        potentials=by_name([r.potentials for r in results], 1),
    )
