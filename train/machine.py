"""Where and how exactly PyTorch computes: device, threads, precision, determinism."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch.amp.grad_scaler import GradScaler

from snndeploy.errors import ConfigError
from snndeploy.train.config import Config


@dataclass(frozen=True)
class Machine:
    """What a training run computes on.

    device: Holds the network and the batches.
    low_precision: Of the products while training; None for float32.
    """

    device: torch.device
    low_precision: torch.dtype | None = None

    @classmethod
    def from_config(cls, config: Config) -> Machine:
        """The machine a configuration asks for.

        Raises:
            ConfigError: It asks for a GPU and PyTorch sees none.
        """
        low = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
        return cls(device_of(config.device), low[config.precision])

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


@contextmanager
def prepared(config: Config) -> Iterator[Machine]:
    """Sets PyTorch up as a configuration says, and back again at the end.

    The global generators of PyTorch are seeded, so that nothing depends on what they held before.

    Raises:
        ConfigError: The configuration asks for a GPU and PyTorch sees none.
    """
    machine = Machine.from_config(config)
    gpus = list(range(torch.cuda.device_count())) if machine.device.type == "cuda" else []
    threads = torch.get_num_threads()
    algorithms = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    with torch.random.fork_rng(gpus):
        try:
            torch.set_num_threads(config.threads)
            if config.deterministic:
                # cuBLAS reads it when it first computes, and without it may choose among several streams.
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
                torch.use_deterministic_algorithms(True)
                torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
            torch.default_generator.manual_seed(config.seed)
            if gpus:
                torch.cuda.manual_seed_all(config.seed)
            yield machine
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
