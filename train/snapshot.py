"""A training run between two batches as a checkpoint, and a checkpoint as a training run."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import snndeploy
from snndeploy.errors import FileFormatError, SnnDeployError
from snndeploy.ir import Graph
from snndeploy.ir.document import graph_from_json, graph_to_json
from snndeploy.nn.compiled import available
from snndeploy.train.checkpoint import Arrays, Checkpoint, as_json
from snndeploy.train.metrics import EpochReport, EpochSums
from snndeploy.train.trainer import Trainer

_AGAIN = "train again without resuming"


def capture(trainer: Trainer) -> Checkpoint:
    """Everything that is needed to go on from here.

    That is the weights and running statistics, what the optimiser remembers, the scale of the loss, the
    generators of random numbers, how far the epoch has come, its sums, and what the epochs before did. The
    learning rate and the intensity of the penalty follow from the position.

    All ranks must call it, as each has generators of its own; what it returns is the same on all of them.
    """
    arrays = {f"network/{name}": array for name, array in trainer.network.weights().items()}
    for name, values in _remembered(trainer).items():
        for key, tensor in values.items():
            arrays[f"optimizer/{key}/{name}"] = tensor.detach().cpu().numpy()
    streams = trainer.world.gathered(_stream(trainer))
    for rank, (_, states) in enumerate(streams):
        arrays |= {_label(kind, rank): array for kind, array in states.items()}
    state = {
        "graph": graph_to_json(trainer.graph),
        "parts": _parts(trainer),
        "grids": None if trainer.grids is None else trainer.grids.document(),
        "batch": trainer.batch,
        "order": trainer.order_state,
        "generator": streams[0][0],
        "other_generators": [generator for generator, _ in streams[1:]],
        "forward_passes": trainer.network.forward_passes,
        "scaler": trainer.scaler.state_dict(),
        "sums": dataclasses.asdict(trainer.sums),
        "history": [dataclasses.asdict(report) for report in trainer.history],
        "device": str(trainer.machine.device),
        "versions": _versions(trainer),
    }
    return Checkpoint(config=as_json(trainer.config), state=state, arrays=arrays)


def changes(trainer: Trainer, checkpoint: Checkpoint) -> str:
    """What is another than when a checkpoint was made, and may change the last bits of what is to come.

    Args:
        trainer: That goes on from it.
        checkpoint: What `capture` gave.

    Returns:
        Such as "torch 2.11.0 instead of 2.10.0"; empty if all is the same, or unknown.
    """
    now = {"device": str(trainer.machine.device), **_versions(trainer)}
    before = {"device": checkpoint.state.get("device"), **checkpoint.state.get("versions", {})}
    return ", ".join(
        f"{name} {value} instead of {before[name]}"
        for name, value in now.items()
        if name in before and before[name] != value
    )


def _versions(trainer: Trainer) -> dict[str, str]:
    """What the last bits depend on, besides the configuration and the device."""
    network = trainer.network
    compiled = network.neurons == "compiled" and network.activation is None and trainer.world.size == 1
    weight = next(network.parameters())
    return {
        "snndeploy": snndeploy.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "neurons": "compiled" if compiled and available(weight) else "plain",
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    }


def graph_of(checkpoint: Checkpoint, path: Path) -> Graph:
    """The graph that a checkpoint is of.

    Args:
        checkpoint: What `capture` gave.
        path: Where it was read from, for the message.

    Raises:
        FileFormatError: It holds none.
    """
    try:
        return graph_from_json(checkpoint.state.get("graph"))
    except SnnDeployError as error:
        raise FileFormatError(str(path), "holds no graph", got=error, remedy=_AGAIN) from error


def restore(trainer: Trainer, checkpoint: Checkpoint, path: Path) -> None:
    """Brings a run to where a checkpoint was made.

    With another number of ranks than then the first one goes on with its generators, and the others with
    freshly seeded ones.

    Args:
        trainer: Of the same configuration and graph, perhaps on another kind of device.
        checkpoint: What `capture` gave.
        path: Where it was read from, for the message.

    Raises:
        FileFormatError: It does not hold what a checkpoint must.
    """
    with _refused(path):
        _restore(trainer, checkpoint.state, checkpoint.arrays)


def restore_network(trainer: Trainer, checkpoint: Checkpoint, path: Path) -> None:
    """Takes over the weights and running statistics alone, which is enough to measure what was trained.

    Arguments and errors as those of `restore`.
    """
    with _refused(path):
        _restore_network(trainer, checkpoint.state, checkpoint.arrays)


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise FileFormatError(
            str(path), "holds no state of this training run", got=repr(error), remedy=_AGAIN
        ) from error


def _restore_network(trainer: Trainer, state: Mapping[str, Any], arrays: Arrays) -> None:
    if state.get("parts") != _parts(trainer):
        raise ValueError("it was trained in other parts")
    if trainer.grids is not None:
        trainer.grids.restore(state["grids"])
    trainer.network.load_weights(_under("network/", arrays))


def _restore(trainer: Trainer, state: Mapping[str, Any], arrays: Arrays) -> None:
    _restore_network(trainer, state, arrays)
    slots: dict[str, dict[str, Tensor]] = {}
    for label, array in _under("optimizer/", arrays).items():
        key, _, name = label.partition("/")
        slots.setdefault(name, {})[key] = torch.tensor(array)
    _remember(trainer, slots)
    trainer.scaler.load_state_dict(state["scaler"])
    trainer.network.forward_passes = int(state["forward_passes"])
    generators = [state["generator"], *state.get("other_generators", [])]
    if trainer.world.is_first or trainer.world.size == len(generators):
        _go_on(trainer, generators[trainer.world.rank], arrays)
    else:
        _start_stream(trainer)
    trainer.batch, trainer.order_state = int(state["batch"]), state["order"]
    trainer.sums = EpochSums(**state["sums"])
    trainer.history = [EpochReport(**report) for report in state["history"]]


def _parts(trainer: Trainer) -> Mapping[str, Any] | None:
    return None if trainer.parts is None else trainer.parts.document()


def _stream(trainer: Trainer) -> tuple[Mapping[str, Any], dict[str, npt.NDArray[Any]]]:
    """The generators of this rank: NumPy's, and PyTorch's by kind of device."""
    states = {"cpu": torch.default_generator.get_state().numpy()}
    if trainer.machine.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(trainer.machine.device).numpy()
    return trainer.rng.bit_generator.state, states


def _label(kind: str, rank: int) -> str:
    return f"generator/{kind}/{rank}" if rank else f"generator/{kind}"


def _go_on(trainer: Trainer, generator: Mapping[str, Any], arrays: Arrays) -> None:
    """Brings the generators of this rank back."""
    rank, device = trainer.world.rank, trainer.machine.device
    trainer.rng.bit_generator.state = generator
    torch.default_generator.set_state(torch.tensor(arrays[_label("cpu", rank)]))
    if device.type == "cuda" and _label("cuda", rank) in arrays:
        torch.cuda.set_rng_state(torch.tensor(arrays[_label("cuda", rank)]), device)


def _start_stream(trainer: Trainer) -> None:
    """Seeds the generators of this rank anew; never as they were when the run began, or it would repeat itself."""
    seed = trainer.world.seed(trainer.config.seed, trainer.network.forward_passes)
    trainer.rng = np.random.default_rng(seed)
    torch.default_generator.manual_seed(seed)
    if trainer.machine.device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _under(prefix: str, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _remembered(trainer: Trainer) -> dict[str, dict[str, Tensor]]:
    """What the optimiser remembers of each parameter that it has changed, by the names of the module."""
    states: Mapping[Tensor, dict[str, Tensor]] = trainer.optimizer.state
    return {name: states[p] for name, p in trainer.network.named_parameters() if p in states}


def _remember(trainer: Trainer, slots: Mapping[str, dict[str, Tensor]]) -> None:
    names = {parameter: name for name, parameter in trainer.network.named_parameters()}
    ordered = [names[p] for group in trainer.optimizer.param_groups for p in group["params"]]
    if unknown := sorted(set(slots) - set(ordered)):
        raise KeyError(unknown[0])
    states = {index: slots[name] for index, name in enumerate(ordered) if name in slots}
    groups = trainer.optimizer.state_dict()["param_groups"]
    trainer.optimizer.load_state_dict({"state": states, "param_groups": groups})
