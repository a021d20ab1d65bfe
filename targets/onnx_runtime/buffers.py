"""Calls of a session with buffers that stay where they are: on its device, at the same addresses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from snndeploy.errors import TargetError
from snndeploy.targets.onnx_runtime.session import CUDA, one_line

_TENSORRT = "TensorrtExecutionProvider"
_KINDS: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


def device_of(session: Any) -> str:
    """Where a session's own values lie."""
    return "cuda" if session.get_providers()[0] in (CUDA, _TENSORRT) else "cpu"


def buffer(device: str, kind: str, shape: tuple[int, ...]) -> Any:
    """An OrtValue of zeros on a device.

    Raises:
        TargetError: There is no room, or no such type.
    """
    if kind not in _KINDS:
        raise TargetError("buffer", "must be of a type that NumPy has", got=kind)
    try:
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, _KINDS[kind]), device, 0)
    except Exception as error:  # NumPy's and ONNX Runtime's, which have no base class of their own
        raise TargetError(
            "buffer", f"of shape {shape} finds no room on the {device}", got=one_line(error)
        ) from None


class Call:
    """One way to call a session: which buffers it reads and which it writes.

    Args:
        session: An inference session.
        inputs: Buffer of each input.
        outputs: Buffer of each output wanted.
        where: What messages call the model.
        graph_id: Number of the CUDA graph that is captured for these buffers, of no other call of the
            session; None without capture.

    Raises:
        TargetError: The buffers do not fit.
    """

    def __init__(
        self,
        session: Any,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        where: str,
        graph_id: int | None = None,
    ) -> None:
        self._session, self._where = session, where
        self._binding = session.io_binding()
        self._options: Any = None
        if graph_id is not None:
            self._options = onnxruntime.RunOptions()
            self._options.add_run_config_entry("gpu_graph_id", str(graph_id))
        try:
            for name, value in inputs.items():
                self._binding.bind_ortvalue_input(name, value)
            for name, value in outputs.items():
                self._binding.bind_ortvalue_output(name, value)
        except Exception as error:  # as above
            raise TargetError(where, "ONNX Runtime failed", got=one_line(error)) from None

    def __call__(self) -> None:
        """Runs the session once; raises TargetError if it fails."""
        try:
            self._session.run_with_iobinding(self._binding, self._options)
        except Exception as error:  # as above
            raise TargetError(self._where, "ONNX Runtime failed", got=one_line(error)) from None


def write(value: Any, array: npt.NDArray[Any]) -> None:
    """Copies an array of the same shape and type into a buffer."""
    value.update_inplace(np.ascontiguousarray(array))


def read(value: Any) -> npt.NDArray[Any]:
    """A copy of a buffer in host memory."""
    return np.array(value.numpy())
