"""What runs under a meter: a network on one batch, again and again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    from snndeploy.ir import Network
    from snndeploy.targets.measure.protocol import Work


def on_gpu(source: Network, batch: npt.NDArray[Any], threads: int) -> Work:
    """PyTorch with everything resident; the CPU only starts kernels and waits at the end."""
    import torch

    torch.set_num_threads(threads)
    work = torch_work(source, batch, "cuda")

    def synchronised(batches: int) -> None:
        work(batches)
        torch.cuda.synchronize()

    return synchronised


def torch_work(source: Network, batch: npt.NDArray[Any], device: str) -> Work:
    """PyTorch on a device, with weights and inputs resident; does not wait for the device."""
    import torch

    from snndeploy.ir import as_steps
    from snndeploy.nn import Triangle, membrane_units
    from snndeploy.nn.engine import Plan, simulate

    weights = {
        name: torch.tensor(w, dtype=torch.float32, device=device) for name, w in source.weights.items()
    }
    units = membrane_units(source, device=device, dtype=torch.float32)
    x = torch.tensor(as_steps(source, batch), dtype=torch.float32, device=device)
    plan = Plan.of(source.graph)

    def work(batches: int) -> None:
        with torch.no_grad():
            for _ in range(batches):
                simulate(source.graph, weights, x, surrogate=Triangle(), units=units, plan=plan)

    return work


def on_cpus(source: Network, batch: npt.NDArray[Any], threads: int) -> Work:
    """ONNX Runtime on a fresh export for this batch, which is what one would deploy on CPUs."""
    from tempfile import TemporaryDirectory

    import numpy as np

    from snndeploy.export import onnx
    from snndeploy.targets.onnx_runtime import OnnxNetwork

    count = batch.shape[1 if source.input.kind == "frames" else 0]
    with TemporaryDirectory(prefix="snndeploy-") as folder:
        file = Path(folder) / "sequence.onnx"
        onnx.export(source, file, "sequence", batch=count)
        opened = OnnxNetwork(file.read_bytes(), threads=threads, where="the exported sequence form")
    x = np.ascontiguousarray(batch, dtype=np.float32)

    def work(batches: int) -> None:
        for _ in range(batches):
            opened.run(x)

    return work
