"""One network trained by several processes, the ranks: on several GPUs, machines or cores.

Every rank holds the whole network and trains it on its own share of each batch. What they have found is put
together after every backward pass, and inside every BatchNorm, so that all of them take the very step that one
process would have taken on the whole batch.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from snndeploy.errors import ConfigError, TargetError
from snndeploy.nn import Simulation, SpikingNetwork

_RANKS = 2  # stream of random numbers, beside those of training and calibration
_PATIENCE = timedelta(minutes=10)  # of a rank that waits for another one
Number = TypeVar("Number", np.int64, np.float64)
Stamped = TypeVar("Stamped")


@dataclass(frozen=True)
class World:
    """The ranks that train one network, and which of them this process is; alone unless said otherwise.

    rank: From 0 on. The first one alone writes files.
    size: How many there are, on all machines.
    local_rank: Among those on this machine; the number of the GPU to use.
    rendezvous: Where they find each other, as torch.distributed names it; as torchrun says by default.

    Raises:
        ConfigError: There is no such rank.

    Example:
        >>> [World(rank=rank, size=4).share(64) for rank in range(2)]
        [slice(0, 16, None), slice(16, 32, None)]
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    rendezvous: str = "env://"

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ConfigError(
                f"rank {self.rank} of {self.size}",
                "ranks count from 0 and lie below their number",
                remedy="let torchrun set RANK and WORLD_SIZE",
            )

    @classmethod
    def from_environment(cls) -> World:
        """As torchrun has set it up; alone if this process was not started by it or a like launcher.

        Raises:
            ConfigError: A variable is no number, or RANK is not below WORLD_SIZE.
        """
        if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
            return cls()
        rank, size, local_rank = (_number(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        return cls(rank=rank, size=size, local_rank=local_rank)

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes and reports."""
        return self.rank == 0

    @property
    def group(self) -> dist.ProcessGroup | None:
        """The group of all ranks, once they have joined; None for one alone."""
        return None if self.size == 1 else dist.group.WORLD

    def seed(self, seed: int, *position: int) -> int:
        """A seed for what shall differ between the ranks; that of the first rank is the one given.

        Args:
            seed: Of the run.
            position: Whole numbers that tell this draw from others with the same seed.
        """
        if self.is_first:
            return seed
        drawn = np.random.SeedSequence([seed, _RANKS, self.rank, *position]).generate_state(1, np.uint64)
        return int(drawn[0] >> np.uint64(1))

    def share(self, count: int) -> slice:
        """Which of `count` samples, a multiple of the number of ranks, are for this rank."""
        own = count // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Within it all ranks are connected; nobody enters before everybody has come.

        Signals end a process that still waits for the others, as no handler in Python would be called then.
        Nobody waits for another rank for more than ten minutes, neither to join nor later.

        If something fails, the connections stay open until the process ends, which is what tells the others:
        closed any earlier, they would report a lost connection while the reason is not yet printed.

        Raises:
            TargetError: The other ranks cannot be reached, or the connection to one was lost.
        """
        if self.size == 1:
            yield
            return
        self._join("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        try:
            yield
            self.total(np.zeros(1, np.int64))  # nobody leaves while another may still be listening
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or "gloo" in str(error):
                raise TargetError(
                    f"rank {self.rank}", "lost the connection to another one; see what that one says"
                ) from error
            raise
        dist.destroy_process_group()

    def _join(self, backend: str) -> None:
        try:
            with _no_output(), _default_signals():
                dist.init_process_group(
                    backend,
                    init_method=self.rendezvous,
                    timeout=_PATIENCE,
                    rank=self.rank,
                    world_size=self.size,
                )
        except (RuntimeError, ValueError) as error:
            raise TargetError(
                f"rank {self.rank}",
                f"could not join the other {self.size - 1}",
                got=str(error).partition("\n")[0],
                remedy="see that all are started, with the same MASTER_ADDR and MASTER_PORT",
            ) from error

    def parallel(self, network: SpikingNetwork, *, in_parts: bool = False) -> Callable[..., Simulation]:
        """`network.advance`, such that gradients become the mean over the ranks after the backward pass.

        Batch statistics are then those of the batches of all ranks, too. The ranks must have joined; all start
        from the weights of the first one.

        Args:
            network: To be trained.
            in_parts: Whether a pass may leave parameters unused, the same on all ranks; these get no gradient.
        """
        if self.size == 1:
            return network.advance
        network.group = self.group
        for parameter in network.parameters():
            hook = partial(_laid_out, parameter.stride())
            parameter.register_hook(hook)  # type: ignore[no-untyped-call]  # PyTorch's has no types
        parallel = DistributedDataParallel(_Advance(network), find_unused_parameters=in_parts)
        # The last to let go of the group waits for its thread, which may wait for Python's lock. Of all owners
        # only a Python object, deleted after those before it, gives that lock away meanwhile.
        vars(parallel)["last_owner"] = network.group
        return parallel

    def first(self, values: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """The values that the first rank has."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values)
        dist.broadcast(tensor, 0)
        return tensor.numpy()

    def total(self, values: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """The sum over all ranks, the same bits on each."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values)
        dist.all_reduce(tensor)
        return tensor.numpy()

    def gathered(self, value: Stamped) -> list[Stamped]:
        """The value of every rank, in their order."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found


class _Advance(nn.Module):
    """`advance` of a network as the forward pass of a module, which is what DistributedDataParallel wraps.

    It has the parameters alone: running statistics are the same on all ranks without being sent.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        super().__init__()
        self.advance = network.advance
        for place, parameter in enumerate(network.parameters()):
            self.register_parameter(str(place), parameter)

    def forward(self, x: Tensor, **options: Any) -> Simulation:
        return self.advance(x, **options)


def _laid_out(strides: tuple[int, ...], gradient: Tensor) -> Tensor:
    """The gradient as its parameter lies in memory, which DistributedDataParallel warns about otherwise.

    Convolutions may give that of a 1x1 kernel with its channels innermost.
    """
    if gradient.stride() == strides:
        return gradient
    return gradient.new_empty_strided(gradient.shape, strides).copy_(gradient)


@contextmanager
def _no_output() -> Iterator[None]:
    """Keeps gloo's word that it is connected off the standard output, which is for results."""
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # closed: nobody reads it
        kept = None
    if kept is None:
        yield
        return
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  (no path of ours)
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def _default_signals() -> Iterator[None]:
    """Lets signals that are handled in Python end the process at once."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    if threading.current_thread() is not threading.main_thread():
        handlers = {}  # Python handles and lets handle them in the main thread alone
    for number in handlers:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _number(name: str) -> int:
    value = os.environ.get(name, "")
    if not (value.isascii() and value.isdecimal()):
        raise ConfigError(f"environment variable {name}", "must be a whole number", got=repr(value))
    return int(value)
