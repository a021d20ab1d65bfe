"""Runs one network on every back end, for `verify` and `demo`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from snndeploy.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

    from snndeploy.ir import Network, Trace

Runner: TypeAlias = "Callable[[Network, npt.NDArray[Any], int], Trace]"
LAVA = "lava"
"""Lava starts a process per population; it is left out where only in-process back ends are wanted."""


def run_torch(network: Network, x: npt.NDArray[Any], threads: int) -> Trace:
    """What PyTorch does."""
    import torch

    from snndeploy import nn

    torch.set_num_threads(threads)
    return nn.run(network, x)


def run_onnx(
    network: Network,
    x: npt.NDArray[Any],
    threads: int,
    *,
    form: Literal["step", "sequence"],
    file: Path | None = None,
) -> Trace:
    """What ONNX Runtime does with a fresh export in one form, or with a file exported before."""
    from snndeploy.export import onnx
    from snndeploy.targets.onnx_runtime import OnnxNetwork

    with TemporaryDirectory(prefix="snndeploy-") as folder:
        where = f"ONNX {form} form" if file is None else str(file)
        if file is None:
            file = Path(folder) / f"{form}.onnx"
            onnx.export(network, file, form)
        return OnnxNetwork(onnx.expose_spikes(file), threads=threads, where=where).run(x)


def run_onnx_step(network: Network, x: npt.NDArray[Any], threads: int) -> Trace:
    """What ONNX Runtime does with the step form."""
    return run_onnx(network, x, threads, form="step")


def run_onnx_sequence(network: Network, x: npt.NDArray[Any], threads: int) -> Trace:
    """What ONNX Runtime does with the sequence form."""
    return run_onnx(network, x, threads, form="sequence")


def run_lava(network: Network, x: npt.NDArray[Any], threads: int) -> Trace:
    """What Lava does with a fresh bundle; it runs one thread per process."""
    from snndeploy.export import lava as lowering
    from snndeploy.targets import lava

    del threads
    with TemporaryDirectory(prefix="snndeploy-") as folder:
        bundle = Path(folder) / "bundle"
        lowering.export(network, bundle, x)
        (simulation,) = lava.simulate([bundle])
    return simulation.trace


BACKENDS: Mapping[str, Runner] = MappingProxyType(
    {
        "torch": run_torch,
        "onnx-step": run_onnx_step,
        "onnx-sequence": run_onnx_sequence,
        LAVA: run_lava,
    }
)


def chosen(text: str) -> tuple[str, ...]:
    """Names of the back ends in a comma-separated list; `onnx` stands for both forms.

    Raises:
        ConfigError: A name is unknown.
    """
    names: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        if name == "onnx":
            names += ["onnx-step", "onnx-sequence"]
        elif name in BACKENDS:
            names.append(name)
        else:
            raise ConfigError(
                f"back end {name!r}", "is not known", remedy=f"choose among onnx, {', '.join(BACKENDS)}"
            )
    return tuple(dict.fromkeys(names))
