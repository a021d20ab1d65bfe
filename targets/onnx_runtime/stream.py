"""A network that is fed one time step after the other and remembers what it needs in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.errors import TargetError
from snndeploy.targets.onnx_runtime.buffers import Call, buffer, device_of, read, write
from snndeploy.targets.onnx_runtime.description import Element, Shape, State
from snndeploy.targets.onnx_runtime.interface import KIND_OF_STATE, Interface

Array = npt.NDArray[np.float32]


class Stream:
    """Membranes and delayed spikes of `batch` samples, from zeros on; see `OnnxNetwork.stream`.

    States stay on the session's device. One whose input and output may share memory has one buffer; if any
    may not, it has two, and steps take turns between two calls. Streams of one session are independent, but
    each is to be used by one thread at a time.

    Attributes:
        batch: Samples of one step.
        steps_done: Since the start or the last reset.
    """

    def __init__(
        self,
        session: Any,
        interface: Interface,
        states: Sequence[State],
        batch: int,
        where: str,
        *,
        watch: Sequence[str] = (),
        graph_ids: Iterator[int] | None = None,
    ) -> None:
        device = device_of(session)
        self.batch = batch
        self.steps_done = 0
        self._where = where
        self._shape: Shape = (batch, *interface.shape)
        self._turn = 0
        self._x = buffer(device, "tensor(float)", self._shape)
        self._states = {
            s.input: tuple(
                buffer(device, KIND_OF_STATE[s.dtype], (batch, *s.shape))
                for _ in range(1 if s.in_place else 2)
            )
            for s in states
        }
        self._elements = {s.input: s.dtype for s in states}
        self._outputs = {
            name: buffer(device, kind, (batch, *(_fixed(name, size, where) for size in sizes[1:])))
            for name, (kind, sizes) in interface.outputs.items()
            if name == "logits" or name in watch
        }
        self._logits = self._outputs["logits"]
        turns = 1 if all(s.in_place for s in states) else 2
        self._calls = [
            Call(
                session,
                {"x": self._x, **{name: held[turn % len(held)] for name, held in self._states.items()}},
                {
                    **self._outputs,
                    **{s.output: held[(turn + 1) % len(held)] for s, held in self._pairs(states)},
                },
                where,
                next(graph_ids) if graph_ids is not None else None,
            )
            for turn in range(turns)
        ]
        if graph_ids is not None:  # the run that captures computes more than once, with states in place
            for call in self._calls:
                call()
            self.reset()

    def step(self, x: npt.NDArray[Any]) -> Array:
        """Runs one time step.

        Args:
            x: float32, (batch, *shape), prepared.

        Returns:
            What enters the Output at this step, (batch, classes).

        Raises:
            TargetError: The input does not fit, or ONNX Runtime failed; the states are then undefined.
        """
        if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.shape != self._shape:
            raise TargetError(
                f"input of {self._where}",
                f"must be a float32 array of shape {self._shape}",
                got=shown_type(x),
                remedy="prepare raw data with `prepare`",
            )
        write(self._x, x)
        self._calls[self._turn]()
        self._turn = (self._turn + 1) % len(self._calls)
        self.steps_done += 1
        return read(self._logits)

    def reset(self) -> None:
        """Begins anew: all states zero."""
        for name, held in self._states.items():
            for value in held:
                write(value, np.zeros(value.shape(), self._elements[name]))
        self._turn = self.steps_done = 0

    @property
    def state(self) -> dict[str, npt.NDArray[Any]]:
        """A copy of every state, (batch, *shape), by the name of its graph input; settable, any part of it."""
        return {name: read(held[self._turn % len(held)]) for name, held in self._states.items()}

    @state.setter
    def state(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        for name, value in values.items():
            if name not in self._states:
                raise TargetError(
                    f"state {name!r}", "does not exist", remedy=f"there are {', '.join(self._states)}"
                )
            check_state(name, value, self._elements[name], tuple(self._states[name][0].shape()))
        for name, value in values.items():
            held = self._states[name]
            write(held[self._turn % len(held)], value)

    def watched(self) -> dict[str, npt.NDArray[Any]]:
        """A copy of every further output that was asked for, at the last step."""
        return {name: read(value) for name, value in self._outputs.items() if name != "logits"}

    def _pairs(self, states: Sequence[State]) -> Iterator[tuple[State, tuple[Any, ...]]]:
        return ((state, self._states[state.input]) for state in states)


def check_state(name: str, value: object, element: Element, shape: Shape) -> None:
    """Raises TargetError unless a state is an array of that type and shape."""
    if not isinstance(value, np.ndarray) or value.dtype != np.dtype(element) or value.shape != shape:
        article = "an" if element == "int32" else "a"
        rule = f"must be {article} {element} array of shape {shape}"
        raise TargetError(f"state {name!r}", rule, got=shown_type(value))


def shown_type(x: object) -> str:
    """Element type and shape of an array, and the kind of anything else, for messages."""
    return f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__


def _fixed(name: str, size: int | None, where: str) -> int:
    if size is None:
        raise TargetError(where, f"output {name!r} must have a fixed shape beside the batch")
    return size
