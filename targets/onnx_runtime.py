"""Runs exported ONNX files with ONNX Runtime, on the provider asked for or not at all."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from snndeploy.errors import FileFormatError, SnnDeployError, TargetError
from snndeploy.ir import InputSpec, Shape, Trace
from snndeploy.ir.document import input_from_json
from snndeploy.ir.network import Array

FORMAT_VERSION = 1
CPU = "CPUExecutionProvider"
_MOST_SAMPLES = 32  # at a time: memory for spikes and inner values grows with them
_PREFIX = "snndeploy."
_SOURCE_PLACE = re.compile(r"^/.*[)\]] (?=[A-Z])")
_FATAL = 4  # log severity: what goes wrong becomes an error of ours, and nothing is printed
_WARNING = 2  # ONNX Runtime's default


@dataclass(frozen=True)
class Description:
    """What an exported file says about itself.

    form: "step" or "sequence".
    steps: Logical time steps of one sample.
    readout: The logits are the mean over the last `readout` steps.
    input: How raw data becomes input.
    classes: Names of the classes; may be empty.
    states: Graph output by graph input of each state; empty in the sequence form.
    state_shapes: Shape of each state without batch, by graph input.
    spikes: Names of the values with each Lif's spikes, in the order of time.
    """

    form: str
    steps: int
    readout: int
    input: InputSpec
    classes: tuple[str, ...]
    states: Mapping[str, str]
    state_shapes: Mapping[str, Shape]
    spikes: Mapping[str, tuple[str, ...]]


def available_providers() -> tuple[str, ...]:
    """Execution providers this ONNX Runtime was built with; the libraries some need may still be missing."""
    return tuple(onnxruntime.get_available_providers())


class OnnxNetwork:
    """A network in an exported ONNX file.

    Args:
        model: The file or its bytes; either form.
        providers: Execution providers that must all take part, the preferred one first.
        threads: Threads within an operator.
        where: What messages call the model; by default the file's path.

    Raises:
        FileFormatError: The file is missing or damaged, was not exported by snndeploy, or has another format
            version.
        TargetError: A provider is not there; ONNX Runtime never falls back to another one silently.
    """

    def __init__(
        self,
        model: Path | bytes,
        *,
        providers: Sequence[str] = (CPU,),
        threads: int = 1,
        where: str = "",
    ) -> None:
        self._where = where or (str(model) if isinstance(model, Path) else "ONNX model")
        self.session = _session(_read(model), tuple(providers), threads, self._where)
        try:
            metadata = self.session.get_modelmeta().custom_metadata_map
            inputs = {value.name: tuple(value.shape) for value in self.session.get_inputs()}
            self._outputs = {value.name for value in self.session.get_outputs()}
        except UnicodeDecodeError:
            raise FileFormatError(self._where, "has text that is not UTF-8") from None
        self.description = _described(metadata, self._where)
        _check_interface(self.description, inputs, self._outputs, self._where)
        time_axes = 0 if self.description.form == "step" else 1
        self._batch = inputs["x"][time_axes]
        self._shape = inputs["x"][time_axes + 1 :]

    def run(self, x: npt.NDArray[Any]) -> Trace:
        """Runs the network on prepared input, 32 samples at a time unless the file fixes their number.

        Args:
            x: float32, (batch, *shape) for images or (time, batch, *shape).

        Returns:
            The trace, with spikes where the file has them as outputs (see `export.onnx.expose_spikes`).

        Raises:
            TargetError: The input does not fit, or ONNX Runtime failed.
        """
        frames = self._frames(x)
        count = frames.shape[1]
        most = count if isinstance(self._batch, int) else _MOST_SAMPLES
        traces = [
            self._run(np.ascontiguousarray(frames[:, first : first + most]))
            for first in range(0, count, most)
        ]
        return Trace(
            spikes={
                lif: np.concatenate([trace.spikes[lif] for trace in traces], axis=1)
                for lif in traces[0].spikes
            },
            readout_sum=np.concatenate([trace.readout_sum for trace in traces]),
            logits=np.concatenate([trace.logits for trace in traces]),
        )

    def _run(self, frames: Array) -> Trace:
        description = self.description
        named = {lif: names for lif, names in description.spikes.items() if self._outputs.issuperset(names)}
        if description.form == "step":
            return self._run_steps(frames, named)
        wanted = ["logits", "readout_sum", *(name for names in named.values() for name in names)]
        results = self._call(wanted, {"x": frames})
        return Trace(
            spikes={lif: np.stack([results[n] for n in names]) > 0 for lif, names in named.items()},
            readout_sum=results["readout_sum"],
            logits=results["logits"],
        )

    def _run_steps(self, frames: Array, named: Mapping[str, tuple[str, ...]]) -> Trace:
        """Feeds the states back from step to step, from zeros on."""
        description = self.description
        batch = frames.shape[1]
        states = {
            name: np.zeros((batch, *shape), np.float32) for name, shape in description.state_shapes.items()
        }
        wanted = ["logits", *description.states.values(), *(names[0] for names in named.values())]
        spikes: dict[str, list[Array]] = {lif: [] for lif in named}
        logits: list[Array] = []
        for frame in frames:
            results = self._call(wanted, {"x": frame, **states})
            states = {name: results[after] for name, after in description.states.items()}
            logits.append(results["logits"])
            for lif, names in named.items():
                spikes[lif].append(results[names[0]])
        readout_sum = reduce(np.add, logits[-description.readout :])
        return Trace(
            spikes={lif: np.stack(steps) > 0 for lif, steps in spikes.items()},
            readout_sum=readout_sum,
            logits=readout_sum / np.float32(description.readout),
        )

    def _call(self, wanted: list[str], feed: Mapping[str, Array]) -> dict[str, Array]:
        try:
            results = self.session.run(wanted, dict(feed))
        except Exception as error:  # ONNX Runtime's errors have no base class of their own
            raise TargetError(self._where, "ONNX Runtime failed", got=_line(error)) from None
        return dict(zip(wanted, results, strict=True))

    def _frames(self, x: npt.NDArray[Any]) -> Array:
        """Input as (time, batch, *shape), an image repeated at every step."""
        x = np.asarray(x)
        if x.dtype != np.float32:
            raise TargetError(
                f"input of {self._where}",
                "must be float32",
                got=x.dtype,
                remedy="prepare raw data as the network's input description says",
            )
        image = self.description.input.kind == "image"
        if image and x.shape[1:] == self._shape:
            x = np.broadcast_to(x, (self.description.steps, *x.shape))
        whole = (self.description.steps, "batch", *self._shape)
        if x.shape[:1] + x.shape[2:] != (whole[0], *self._shape):
            one = f"{('batch', *self._shape)} or " if image else ""
            raise TargetError(f"input of {self._where}", f"must have shape {one}{whole}", got=x.shape)
        if x.shape[1] == 0 or (isinstance(self._batch, int) and x.shape[1] != self._batch):
            many = self._batch if isinstance(self._batch, int) else "at least 1"
            raise TargetError(f"input of {self._where}", f"must have {many} samples", got=x.shape[1])
        return x


def _read(model: Path | bytes) -> bytes:
    if isinstance(model, bytes):
        return model
    try:
        return model.read_bytes()
    except FileNotFoundError:
        raise FileFormatError(str(model), "does not exist") from None
    except OSError as error:
        raise FileFormatError(str(model), "cannot be read", got=error.strerror) from None


def _session(model: bytes, providers: tuple[str, ...], threads: int, where: str) -> Any:
    """An inference session that has every provider asked for."""
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise TargetError("threads", "must be a whole number of at least 1", got=repr(threads))
    absent = [p for p in providers if p not in available_providers()]
    if absent or not providers:
        raise TargetError(
            f"ONNX Runtime provider {', '.join(absent) or '(none)'}",
            "is not in this installation",
            remedy=f"choose from {', '.join(available_providers())}",
        )
    try:
        session = _open(model, providers, threads)
    except Exception as error:  # ONNX Runtime's errors have no base class of their own
        if providers != (CPU,) and _loads(model, threads):
            raise _not_started(providers, _line(error)) from None
        raise FileFormatError(where, "cannot be loaded by ONNX Runtime", got=_line(error)) from None
    lost = tuple(p for p in providers if p not in session.get_providers())
    if lost:
        raise _not_started(lost, f"only {', '.join(session.get_providers())}")
    return session


def _open(model: bytes, providers: tuple[str, ...], threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # TF32, which CUDA would use by default, has 10 bits of mantissa where the contract says float32.
    configured = [(p, {"use_tf32": "0"} if p == "CUDAExecutionProvider" else {}) for p in providers]
    if providers == (CPU,):
        return onnxruntime.InferenceSession(model, options, providers=configured, enable_fallback=0)
    # Providers that cannot start log through the library's default logger and print what they miss.
    onnxruntime.set_default_logger_severity(_FATAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()  # CUDA and cuDNN from their Python packages, where PyTorch has them
        return onnxruntime.InferenceSession(model, options, providers=configured, enable_fallback=0)
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)


def _loads(model: bytes, threads: int) -> bool:
    """Whether the model itself is good, so that a failure is the provider's."""
    try:
        _open(model, (CPU,), threads)
    except Exception:  # as above
        return False
    return True


def _not_started(providers: tuple[str, ...], got: str) -> TargetError:
    return TargetError(
        f"ONNX Runtime provider {', '.join(providers)}",
        "could not be started",
        got=got,
        remedy="install the device's driver and the libraries this ONNX Runtime was built for, "
        f"or ask for {CPU}",
    )


def _line(error: Exception) -> str:
    """What a message says, without the place in ONNX Runtime's source before it and details after it."""
    text = (str(error).strip() or type(error).__name__).split("\n", 1)[0]
    return _SOURCE_PLACE.sub("", text).split(" ; ", 1)[0][:300]


def _described(metadata: Mapping[str, str], where: str) -> Description:
    version = metadata.get(f"{_PREFIX}format_version")
    if version is None:
        raise FileFormatError(where, "was not exported by snndeploy")
    if version != str(FORMAT_VERSION):
        raise FileFormatError(
            where,
            f"must have format version {FORMAT_VERSION}",
            got=repr(version),
            remedy="use the snndeploy that wrote it",
        )
    try:
        found = _parsed({key.removeprefix(_PREFIX): text for key, text in metadata.items()})
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        reason = str(error) if isinstance(error, SnnDeployError) else repr(error)
        raise FileFormatError(where, "has damaged metadata", got=reason[:300]) from None
    if found.form not in ("step", "sequence") or not 1 <= found.readout <= found.steps:
        raise FileFormatError(
            where, "has damaged metadata", got=f"{found.form!r}, {found.readout} of {found.steps}"
        )
    return found


def _check_interface(
    description: Description,
    inputs: Mapping[str, tuple[int | str | None, ...]],
    outputs: set[str],
    where: str,
) -> None:
    """Refuses a graph whose inputs and outputs are not those of its metadata."""
    sequence = description.form == "sequence"
    needed = {"logits", *description.states.values(), *(["readout_sum"] if sequence else [])}
    amiss = sorted(({"x", *description.states} ^ set(inputs)) | (needed - outputs))
    x = inputs.get("x", ())
    if len(x) < 2 + sequence or (sequence and x[0] != description.steps):
        amiss.append("x")
    if not sequence and "readout_sum" in outputs:
        amiss.append("readout_sum")
    if amiss:
        raise FileFormatError(where, "inputs and outputs must be those of its metadata", got=repr(amiss[0]))


def _parsed(metadata: Mapping[str, str]) -> Description:
    states = json.loads(metadata["states"])
    neurons = json.loads(metadata["neurons"])
    return Description(
        form=metadata["form"],
        steps=int(metadata["steps"]),
        readout=int(metadata["readout"]),
        input=input_from_json(json.loads(metadata["input"])),
        classes=tuple(str(c) for c in json.loads(metadata["classes"])),
        states={str(s["in"]): str(s["out"]) for s in states},
        state_shapes={str(s["in"]): tuple(int(d) for d in s["shape"][1:]) for s in states},
        spikes={str(n["name"]): tuple(str(s) for s in n["spikes"]) for n in neurons},
    )
