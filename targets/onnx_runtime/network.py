"""A network in an exported ONNX file, run by ONNX Runtime."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.errors import TargetError
from snndeploy.targets.onnx_runtime.capture import Captured, check_file, check_interface
from snndeploy.targets.onnx_runtime.description import describe
from snndeploy.targets.onnx_runtime.files import read_model
from snndeploy.targets.onnx_runtime.interface import interface
from snndeploy.targets.onnx_runtime.result import Result, joined, shown, traces
from snndeploy.targets.onnx_runtime.session import CPU, one_line, open_session
from snndeploy.targets.onnx_runtime.stream import Array, Stream, check_state, shown_type

_MOST_STEPS = 2**31 - 1
_MOST_SAMPLES = 32  # at a time: memory for spikes and inner values grows with them


class OnnxNetwork:
    """A network in an exported ONNX file, in any form.

    Args:
        model: The file or its bytes.
        providers: Execution provider, or providers that must all take part, the preferred one first.
        threads: Threads within an operator.
        cuda_graph: Capture each kind of call as a CUDA graph and replay it. Needs the CUDA provider, a file
            exported for a fixed batch, and the step or sequence form.
        where: What messages call the model; by default the file's path.

    Attributes:
        metadata: All that the file says about itself, as text by key.
        description: What of it a runner needs, checked.
        session: ONNX Runtime's.

    Raises:
        FileFormatError: The file is missing or damaged, was not exported by snndeploy, or has another format
            version.
        TargetError: A provider is not there, or calls cannot be captured.
    """

    def __init__(
        self,
        model: Path | str | bytes,
        providers: Sequence[str] | str = (CPU,),
        threads: int = 1,
        *,
        cuda_graph: bool = False,
        where: str = "",
    ) -> None:
        file = read_model(model, where)
        chosen = (providers,) if isinstance(providers, str) else tuple(providers)
        self._where = file.where
        self.metadata = file.contents.metadata
        self.description = describe(self.metadata, file.where)
        if cuda_graph:
            check_file(file.contents, chosen, file.where)
        self.session = open_session(file, chosen, threads, cuda_graph=cuda_graph)
        self._interface = interface(self.session, self.description, file.where)
        self._shown = shown(self.description.neurons, self._interface)
        self._graph_ids: Iterator[int] | None = None
        self._captured: Stream | Captured | None = None
        if cuda_graph:
            check_interface(self._interface, file.where)
            self._graph_ids = itertools.count(1)  # 0 is ONNX Runtime's own

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample at one step."""
        return self._interface.shape

    @property
    def batch(self) -> int | None:
        """The number of samples the file is fixed to, or None."""
        return self._interface.batch

    def prepare(self, raw: npt.NDArray[Any]) -> Array:
        """Turns raw samples into input, as the file says: division, normalisation, rounding, enlargement.

        Args:
            raw: (batch, channels, height, width) or (batch, features), with time before them for frames, of
                any real type; before enlargement.

        Raises:
            NetworkError: The values fall outside the range the network was made for, or do not fit.
        """
        return self.description.input.prepare(raw, axes=len(self.shape))

    def run(
        self,
        x: npt.NDArray[Any],
        *,
        steps: int | None = None,
        states: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> Result:
        """Runs the network on prepared input, 32 samples at a time unless the file fixes their number.

        Args:
            x: float32, (batch, *shape) for images, (time, batch, *shape) for frames.
            steps: Time steps for which images are shown, by default the network's own. Only the step and
                scan forms can take others, and frames of another number.
            states: Where to begin, by name, (batch, *shape) each; zero by default. A result's states
                continue where it ended. Not in the sequence form.

        Raises:
            TargetError: The input does not fit, or ONNX Runtime failed.
        """
        count, steps = self._checked(x, steps)
        given = self._given(states or {}, count)
        most = self.batch or _MOST_SAMPLES
        axis = 1 if self._has_frames else 0
        results = []
        for first in range(0, count, most):
            part = np.ascontiguousarray(x[(slice(None),) * axis + (slice(first, first + most),)])
            held = {name: np.ascontiguousarray(v[first : first + most]) for name, v in given.items()}
            run = self._run_steps if self.description.form == "step" else self._run_whole
            results.append(run(part, steps, held))
        return results[0] if len(results) == 1 else joined(results)

    def stream(self, batch: int = 1) -> Stream:
        """Begins a stream of single time steps; each has states of its own. Step form only.

        Args:
            batch: Samples of each step.

        Raises:
            TargetError: The file has another form or another fixed batch, or there is no room.
        """
        if self.description.form != "step":
            raise TargetError(
                self._where,
                "must have the step form for a stream",
                got=f"form {self.description.form!r}",
                remedy="export it with --form step",
            )
        if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch < 2**31:
            raise TargetError("batch", "must be a whole number of at least 1", got=repr(batch))
        if self.batch not in (None, batch):
            raise TargetError(f"stream of {self._where}", f"must have batch {self.batch}", got=batch)
        return self._stream(batch, ())

    def _stream(self, batch: int, watch: Sequence[str]) -> Stream:
        return Stream(
            self.session,
            self._interface,
            self.description.states,
            batch,
            self._where,
            watch=watch,
            graph_ids=self._graph_ids,
        )

    @property
    def _has_frames(self) -> bool:
        return self.description.input.kind == "frames"

    def _run_steps(self, x: Array, steps: int, states: Mapping[str, npt.NDArray[Any]]) -> Result:
        """Step by step, from the states given."""
        frames = x if self._has_frames else np.broadcast_to(x, (steps, *x.shape))
        batch = frames.shape[1]
        stream = self._captured if isinstance(self._captured, Stream) else self._watching(batch)
        if self._graph_ids is not None:
            self._captured = stream
        stream.reset()
        stream.state = states
        logits: list[Array] = []
        watched: list[dict[str, npt.NDArray[Any]]] = []
        for frame in frames:
            logits.append(stream.step(frame))
            watched.append(stream.watched())
        window = logits[-self.description.readout :]
        readout_sum = reduce(np.add, window)
        values = {name: [step[name] for step in watched] for name in watched[0]}
        spikes, potentials = traces(self._shown, values, (steps, batch), self._where)
        return Result(
            logits=readout_sum / np.float32(len(window)),
            readout_sum=readout_sum,
            logits_by_step=np.stack(logits),
            states=stream.state,
            spikes=spikes,
            potentials=potentials,
        )

    def _watching(self, batch: int) -> Stream:
        return self._stream(batch, [name for part in self._shown for name in part.spikes + part.potentials])

    def _run_whole(self, x: Array, steps: int, states: Mapping[str, npt.NDArray[Any]]) -> Result:
        """All steps in one call."""
        scan = self.description.form == "scan"
        counted = {"steps": np.array(steps, np.int64)} if scan and not self._has_frames else {}
        found = self._call({"x": x, **counted, **states})
        batch = x.shape[1 if self._has_frames else 0]
        values = {name: [value] for name, value in found.items()}
        spikes, potentials = traces(self._shown, values, (steps, batch), self._where)
        return Result(
            logits=found["logits"],
            readout_sum=found["readout_sum"],
            logits_by_step=found["logits_by_step"] if scan else None,
            states={state.input: found[state.output] for state in self.description.states},
            spikes=spikes,
            potentials=potentials,
        )

    def _call(self, feed: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        if self._graph_ids is not None:
            if not isinstance(self._captured, Captured):
                self._captured = Captured(
                    self.session, feed["x"].shape, self._interface, self._where, next(self._graph_ids)
                )
            return self._captured(feed)
        wanted = list(self._interface.outputs)
        try:
            results = self.session.run(wanted, dict(feed))
        except Exception as error:  # ONNX Runtime's errors have no base class of their own
            raise TargetError(self._where, "ONNX Runtime failed", got=one_line(error)) from None
        return dict(zip(wanted, results, strict=True))

    def _checked(self, x: npt.NDArray[Any], steps: int | None) -> tuple[int, int]:
        """Number of samples and of steps of an input that fits."""
        where, own = f"input of {self._where}", self.description.steps
        if not isinstance(x, np.ndarray) or x.dtype != np.float32:
            remedy = "prepare raw data with `prepare`"
            raise TargetError(where, "must be a float32 array", got=shown_type(x), remedy=remedy)
        front = 2 if self._has_frames else 1
        if x.ndim != front + len(self.shape) or x.shape[front:] != self.shape:
            named = ("time", "batch")[2 - front :]
            raise TargetError(where, f"must have shape {(*named, *self.shape)}", got=x.shape)
        count, fixed = x.shape[front - 1], self.batch
        if count == 0 or fixed not in (None, count):
            raise TargetError(where, f"must have {fixed or 'at least 1'} samples", got=count)
        if self._has_frames and steps not in (None, x.shape[0]):
            raise TargetError(where, f"must have {steps} steps", got=x.shape[0])
        wanted = x.shape[0] if self._has_frames else own if steps is None else steps
        whole = isinstance(wanted, (int, np.integer)) and not isinstance(wanted, bool)
        if not whole or not 1 <= wanted <= _MOST_STEPS:
            raise TargetError(where, f"must have 1 to {_MOST_STEPS} steps", got=repr(wanted))
        if self.description.form == "sequence" and wanted != own:
            raise TargetError(where, f"must have {own} steps", got=wanted, remedy="export the scan form")
        return count, int(wanted)

    def _given(self, states: Mapping[str, npt.NDArray[Any]], count: int) -> dict[str, npt.NDArray[Any]]:
        """States to begin with, each checked."""
        known = {state.input: state for state in self.description.states}
        for name, value in states.items():
            if name not in known:
                names = ", ".join(known) or f"none in the {self.description.form} form"
                raise TargetError(f"state {name!r}", "does not exist", remedy=f"there are {names}")
            check_state(name, value, known[name].dtype, (count, *known[name].shape))
        return dict(states)
