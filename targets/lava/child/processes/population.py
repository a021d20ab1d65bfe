"""A population as a Lava process: when it updates, and how long what arrives is held back.

Lava may execute every file beside a process class, so this folder holds nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


@dataclass(frozen=True)
class Messages:
    """What one port carries in every machine step.

    wait: Machine steps they are held back after they arrived.
    at_once: Whether they are received before the update of the machine step in which they are sent, which no
        chip can do; otherwise they are there for the next one.
    """

    shape: tuple[int, ...]
    dtype: type
    wait: int = 0
    at_once: bool = False


@dataclass(frozen=True)
class Clock:
    """When a population updates: for step t of sample s at machine step `(s * period + t) * interval + start`.

    period: Logical steps from one sample to the next; those from `steps` on are blank.
    """

    start: int
    interval: int
    steps: int
    period: int
    samples: int


class Population(AbstractProcess):  # type: ignore[misc]  # Lava has no types
    """A process with an InPort `arrival_<i>` for each arrival and, unless it sends nothing, an OutPort `out`.

    Args:
        name: For messages.
        clock: When it updates.
        arrivals: What each InPort receives.
        sends: What the OutPort sends, or None.
        make_layer: Makes the `Layer` that computes an update, called in the population's own OS process.
        guard: Makes a context manager that deals with exceptions; its argument says what was being done.
    """

    def __init__(
        self,
        *,
        name: str,
        clock: Clock,
        arrivals: Sequence[Messages],
        sends: Messages | None,
        make_layer: Callable[[], Any],
        guard: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        super().__init__(
            name=name, clock=clock, arrivals=arrivals, sends=sends, make_layer=make_layer, guard=guard
        )
        for index, messages in enumerate(arrivals):
            setattr(self, f"arrival_{index}", InPort(shape=messages.shape))
        if sends:
            self.out = OutPort(shape=sends.shape)


@implements(proc=Population, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PopulationModel(PyLoihiProcessModel):  # type: ignore[misc]  # Lava has no types
    """Receives what acts at once, updates, sends, then receives the rest, once in every machine step."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._name: str = proc_params["name"]
        self._clock: Clock = proc_params["clock"]
        self._guard: Callable[[str], AbstractContextManager[None]] = proc_params["guard"]
        arrivals: Sequence[Messages] = proc_params["arrivals"]
        sends: Messages | None = proc_params["sends"]
        self._before = [i for i, m in enumerate(arrivals) if m.at_once]
        self._after = [i for i, m in enumerate(arrivals) if not m.at_once]
        self._registers = [np.zeros(m.shape, np.float32) for m in arrivals]
        self._held: list[deque[Any]] = [
            deque(np.zeros(m.shape, m.dtype) for _ in range(m.wait)) for m in arrivals
        ]
        self._silence: Any = np.zeros(sends.shape, sends.dtype) if sends else None
        with self._guard(f"population {self._name!r}, start"):
            self._layer = proc_params["make_layer"]()

    def run_spk(self) -> None:
        """One machine step; Lava counts them from 1."""
        with self._guard(f"population {self._name!r}, machine step {self.time_step - 1}"):
            self._machine_step(self.time_step - 1)

    def _machine_step(self, k: int) -> None:
        self._receive(self._before)
        sent = self._update(k)
        if self._silence is not None:
            self.out.send(self._silence if sent is None else sent)
        # After having sent: every loop of populations has an arrival that is received here, so none can block.
        self._receive(self._after)

    def _receive(self, arrivals: Sequence[int]) -> None:
        for index in arrivals:
            held = self._held[index]
            held.append(getattr(self, f"arrival_{index}").recv())
            self._registers[index] += held.popleft()

    def _update(self, k: int) -> Any:
        """What is sent in machine step k, None for silence; an update empties the registers."""
        clock = self._clock
        update, remainder = divmod(k - clock.start, clock.interval)
        if remainder:
            return None
        sample, t = divmod(update, clock.period)
        sent = None
        if 0 <= sample < clock.samples and t < clock.steps:
            sent = self._layer.update(sample, t, self._registers)
        for register in self._registers:
            register.fill(0)
        return sent


def model(process: Population) -> type[PopulationModel]:
    """The model of one process: Lava reads a model's ports from the attributes of its class."""
    arrivals, sends = process.proc_params["arrivals"], process.proc_params["sends"]
    ports = {f"arrival_{i}": LavaPyType(PyInPort.VEC_DENSE, m.dtype) for i, m in enumerate(arrivals)}
    if sends:
        ports["out"] = LavaPyType(PyOutPort.VEC_DENSE, sends.dtype)
    return type(PopulationModel.__name__, (PopulationModel,), ports)
