"""What stands around Lava's own processes: sources, delays and a recorder. All count whole numbers.

Lava may execute every file beside a process class, so this folder holds nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Source(AbstractProcess):  # type: ignore[misc]  # Lava has no types
    """Sends an array of whole numbers in every machine step.

    Args:
        name: For messages.
        shape: Of what it sends.
        make_values: Makes, in the source's own OS process, the function from a machine step to what is sent.
        guard: Makes a context manager that deals with exceptions; its argument says what was being done.
    """

    def __init__(
        self,
        *,
        name: str,
        shape: tuple[int, ...],
        make_values: Callable[[], Callable[[int], Any]],
        guard: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        super().__init__(name=name, shape=shape, make_values=make_values, guard=guard)
        self.s_out = OutPort(shape=shape)


@implements(proc=Source, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class SourceModel(PyLoihiProcessModel):  # type: ignore[misc]  # Lava has no types
    """Sends, once in every machine step."""

    s_out = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._name: str = proc_params["name"]
        self._guard: Callable[[str], AbstractContextManager[None]] = proc_params["guard"]
        with self._guard(f"{self._name}, start"):
            self._values = proc_params["make_values"]()

    def run_spk(self) -> None:
        """One machine step; Lava counts them from 1."""
        with self._guard(f"{self._name}, machine step {self.time_step - 1}"):
            self.s_out.send(self._values(self.time_step - 1))


class Delay(AbstractProcess):  # type: ignore[misc]  # Lava has no types
    """Sends what it received some machine steps before.

    Args:
        shape: Of what it receives.
        hold: Machine steps, at least 1.
    """

    def __init__(self, *, shape: tuple[int, ...], hold: int) -> None:
        super().__init__(shape=shape, hold=hold)
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)


@implements(proc=Delay, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class DelayModel(PyLoihiProcessModel):  # type: ignore[misc]  # Lava has no types
    """Sends, then receives, so that no loop of processes can block."""

    s_in = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        shape, hold = proc_params["shape"], proc_params["hold"]
        self._held = deque(np.zeros(shape, np.int32) for _ in range(hold))

    def run_spk(self) -> None:
        """One machine step."""
        self.s_out.send(self._held.popleft())
        self._held.append(self.s_in.recv())


class Recorder(AbstractProcess):  # type: ignore[misc]  # Lava has no types
    """Hands what it sees to a writer: an InPort `sees_<i>` for each shape, a RefPort `reads_<i>` for some of them.

    Args:
        shapes: Of what each InPort receives.
        read: For which of them a variable of the same shape is read after every machine step.
        make_writer: Makes, in the recorder's own OS process, what has the methods `see(index, machine step,
            array)` and `read(index, machine step, array)`.
        guard: Makes a context manager that deals with exceptions; its argument says what was being done.
    """

    def __init__(
        self,
        *,
        shapes: Sequence[tuple[int, ...]],
        read: Sequence[int],
        make_writer: Callable[[], Any],
        guard: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        super().__init__(shapes=shapes, read=read, make_writer=make_writer, guard=guard)
        for index, shape in enumerate(shapes):
            setattr(self, f"sees_{index}", InPort(shape=shape))
        for index in read:
            setattr(self, f"reads_{index}", RefPort(shape=shapes[index]))


@implements(proc=Recorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class RecorderModel(PyLoihiProcessModel):  # type: ignore[misc]  # Lava has no types
    """Receives in the phase of spikes, and reads variables in the phase of management that follows it."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._guard: Callable[[str], AbstractContextManager[None]] = proc_params["guard"]
        self._count, self._read = len(proc_params["shapes"]), proc_params["read"]
        with self._guard("recorder, start"):
            self._writer = proc_params["make_writer"]()

    def run_spk(self) -> None:
        """One machine step; Lava counts them from 1."""
        with self._guard(f"recorder, machine step {self.time_step - 1}"):
            for index in range(self._count):
                self._writer.see(index, self.time_step - 1, getattr(self, f"sees_{index}").recv())

    def post_guard(self) -> bool:
        """Whether Lava calls `run_post_mgmt` in this machine step."""
        return bool(self._read)

    def run_post_mgmt(self) -> None:
        """After all neurons have updated."""
        with self._guard(f"recorder, machine step {self.time_step - 1}"):
            for index in self._read:
                self._writer.read(index, self.time_step - 1, getattr(self, f"reads_{index}").read())


def recorder_model(recorder: Recorder) -> type[RecorderModel]:
    """The model of one recorder: Lava reads a model's ports from the attributes of its class."""
    shapes, read = recorder.proc_params["shapes"], recorder.proc_params["read"]
    ports = {f"sees_{index}": LavaPyType(PyInPort.VEC_DENSE, np.int32) for index in range(len(shapes))}
    ports |= {f"reads_{index}": LavaPyType(PyRefPort.VEC_DENSE, np.int32) for index in read}
    return type(RecorderModel.__name__, (RecorderModel,), ports)
