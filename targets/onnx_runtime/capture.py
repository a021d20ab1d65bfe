"""CUDA graphs: a call recorded once with fixed buffers, then replayed without launching each kernel anew.

https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html#using-cuda-graphs-preview
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from snndeploy.errors import TargetError
from snndeploy.targets.onnx_runtime.buffers import Call, buffer, device_of, read, write
from snndeploy.targets.onnx_runtime.contents import Contents
from snndeploy.targets.onnx_runtime.interface import Interface
from snndeploy.targets.onnx_runtime.session import CUDA


def check_file(contents: Contents, providers: Sequence[str], where: str) -> None:
    """Raises TargetError unless a file can be captured and a provider can do it."""
    if contents.control_flow:
        raise TargetError(
            "cuda_graph",
            "cannot capture control flow",
            got=where,
            remedy="export the step or sequence form with --batch",
        )
    if CUDA not in providers[:1]:
        raise TargetError("cuda_graph", f"needs {CUDA} as the first provider", got=", ".join(providers))


def check_interface(interface: Interface, where: str) -> None:
    """Raises TargetError unless all shapes are fixed."""
    if interface.batch is None:
        raise TargetError("cuda_graph", "needs a fixed batch", got=where, remedy="export with --batch")
    for name, (_, sizes) in interface.outputs.items():
        if None in sizes:
            raise TargetError("cuda_graph", f"needs a fixed shape of output {name!r}", got=where)


class Captured:
    """A call of a session with buffers of its own for all inputs and outputs."""

    def __init__(
        self, session: Any, shape: tuple[int, ...], interface: Interface, where: str, graph_id: int
    ) -> None:
        device = device_of(session)
        self._x = buffer(device, "tensor(float)", shape)
        self._outputs = {
            name: buffer(device, kind, tuple(size or 0 for size in sizes))
            for name, (kind, sizes) in interface.outputs.items()
        }
        self._run = Call(session, {"x": self._x}, self._outputs, where, graph_id)

    def __call__(self, feed: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Runs once; every output by name."""
        write(self._x, feed["x"])
        self._run()
        return {name: read(value) for name, value in self._outputs.items()}
