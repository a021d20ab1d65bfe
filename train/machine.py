"""Where and how exactly PyTorch computes: device, threads, precision, determinism."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch.amp.grad_scaler import GradScaler

from snndeploy.errors import ConfigError
from snndeploy.nn.engine import Neurons
from snndeploy.nn.whole import compiler_problem
from snndeploy.train.config import Config
from snndeploy.train.distributed import World
from snndeploy.train.memory import kept_memory


@dataclass(frozen=True)
class Machine:
    """What a training run computes on.

    device: Holds the network and the batches.
    low_precision: Of the products while training; None for that of everything else.
    dtype: Of weights, input and all that is computed of them.
    """

    device: torch.device
    low_precision: torch.dtype | None = None
    dtype: torch.dtype = torch.float32

    @classmethod
    def from_config(cls, config: Config, world: World = World()) -> Machine:  # noqa: B008  (frozen)
        """The machine a configuration asks for; each rank on a machine with GPUs has one to itself.

        Raises:
            ConfigError: It asks for a GPU and PyTorch sees none, or fewer than there are ranks.
        """
        low = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
        device = device_of(config.device)
        if device.type == "cuda" and (world.size > 1 or world.local_rank):
            device = torch.device("cuda", world.local_rank)
            if world.local_rank >= (count := torch.cuda.device_count()):
                raise ConfigError(
                    "device",
                    f"needs a GPU for each rank, and there are {count}",
                    got=str(device),
                    remedy="start fewer processes on this machine, or use cpu",
                )
        return cls(device, low[config.precision])

    def autocast(self) -> AbstractContextManager[object]:
        """Within it convolutions and fully connected layers multiply in the low precision."""
        return torch.autocast(
            self.device.type, dtype=self.low_precision, enabled=self.low_precision is not None
        )

    def scaler(self) -> GradScaler:
        """Scales the loss so that small gradients survive float16; does nothing in other precisions."""
        return GradScaler(self.device.type, enabled=self.low_precision == torch.float16)


def device_of(name: str) -> torch.device:
    """The device of a name, "auto" being a GPU if there is one.

    Raises:
        ConfigError: "cuda" is asked for and PyTorch sees none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("device", "PyTorch sees no CUDA device", got=name, remedy="use auto or cpu")
    return torch.device("cuda" if name != "cpu" and available else "cpu")


def current(device: torch.device) -> AbstractContextManager[object]:
    """Within it a GPU that is named by its number is the one that kernels are launched on."""
    return nullcontext() if device.index is None else torch.cuda.device(device)


def neurons_of(config: Config) -> Neurons:
    """What computes the neurons wherever a network as a whole is not compiled."""
    return "plain" if config.compile == "nothing" else "compiled"


def require_compiler(device: torch.device) -> None:
    """Checks that a whole network can be compiled.

    Raises:
        ConfigError: PyTorch's compiler lacks what it needs.
    """
    if problem := compiler_problem(device):
        raise ConfigError(
            "compile", f"cannot be network: {problem}", remedy='install one, or set compile = "neurons"'
        )


@contextmanager
def prepared(config: Config, world: World = World()) -> Iterator[Machine]:  # noqa: B008  (frozen)
    """Sets PyTorch up as a configuration says, and back again at the end.

    The global generators of PyTorch are seeded, so that nothing depends on what they held before.

    Args:
        config: What is asked for.
        world: Which rank this is.

    Raises:
        ConfigError: As `Machine.from_config`.
    """
    machine = Machine.from_config(config, world)
    gpus = _gpus(machine.device)
    threads = torch.get_num_threads()
    algorithms = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    memory = kept_memory() if machine.device.type == "cpu" else nullcontext()
    with current(machine.device), memory, torch.random.fork_rng(gpus):
        try:
            torch.set_num_threads(config.threads)
            if config.deterministic:
                # cuBLAS reads it when it first computes, and without it may choose among several streams.
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
                torch.use_deterministic_algorithms(True)
                torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
            torch.default_generator.manual_seed(world.seed(config.seed))
            if gpus:
                torch.cuda.manual_seed_all(world.seed(config.seed))
            yield machine
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


def _gpus(device: torch.device) -> list[int]:
    """Numbers of the GPUs that a run may compute on."""
    if device.type != "cuda":
        return []
    return list(range(torch.cuda.device_count())) if device.index is None else [device.index]
