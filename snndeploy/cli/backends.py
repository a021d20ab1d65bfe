"""Runs one network on every back end, for `verify` and `demo`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from snndeploy.errors import ConfigError, QuantizeError, TargetError

if TYPE_CHECKING:
    import numpy.typing as npt

    from snndeploy.export.onnx import Arithmetic, Form
    from snndeploy.ir import Network, Trace

LAVA, LAVA_STOCK = "lava", "lava-stock"
"""Lava starts a process per population; it is left out where only in-process back ends are wanted."""

Provider: TypeAlias = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Machine:
    """What back ends may use.

    threads: Of the CPU, within an operator.
    provider: Where ONNX Runtime computes.
    """

    threads: int = 1
    provider: Provider = "cpu"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a back end did.

    trace: On all samples.
    half: Whether weights and what meets them were float16.
    repeats: What it did on the first samples run in other ways that must not matter, by what was different.
    """

    trace: Trace
    half: bool = False
    repeats: Mapping[str, Trace] = field(default_factory=dict)


@dataclass(frozen=True)
class Inapplicable:
    """A back end that cannot take a network, and why; that is no failure."""

    reason: str


Runner: TypeAlias = "Callable[[Network, npt.NDArray[Any], Machine], Outcome | Inapplicable]"


def run_torch(network: Network, x: npt.NDArray[Any], machine: Machine) -> Outcome:
    """What PyTorch does."""
    import torch

    from snndeploy import nn

    torch.set_num_threads(machine.threads)
    return Outcome(nn.run(network, x))


def try_torch(network: Network, x: npt.NDArray[Any], machine: Machine) -> Outcome | Inapplicable:
    """The same, unless PyTorch's sums could round where the format does not."""
    try:
        return run_torch(network, x, machine)
    except QuantizeError as error:
        return Inapplicable(str(error))


def run_onnx(
    network: Network,
    x: npt.NDArray[Any],
    machine: Machine,
    *,
    form: Form,
    arithmetic: Arithmetic = "float32",
) -> Outcome | Inapplicable:
    """What ONNX Runtime does with a fresh export."""
    from snndeploy.export import onnx

    if arithmetic == "integer" and machine.provider != "cpu":
        return Inapplicable("ONNX Runtime convolves integers on CPUs only")
    with TemporaryDirectory(prefix="snndeploy-") as folder:
        file = Path(folder) / f"{form}.onnx"
        try:
            onnx.export(network, file, form, arithmetic=arithmetic)
        except TargetError as error:
            return Inapplicable(str(error))
        return run_file(x, machine, file, where=f"ONNX {form} form in {arithmetic}")


def run_file(x: npt.NDArray[Any], machine: Machine, file: Path, *, where: str = "") -> Outcome:
    """What ONNX Runtime does with a file exported before."""
    from snndeploy.cli.onnx_runs import in_batches, repeats
    from snndeploy.export import onnx
    from snndeploy.targets.onnx_runtime import CPU, CUDA, OnnxNetwork

    provider = CUDA if machine.provider == "cuda" else CPU
    opened = OnnxNetwork(onnx.expose_spikes(file), (provider,), machine.threads, where=where or str(file))
    return Outcome(
        trace=in_batches(opened, x),
        half=opened.description.arithmetic == "float16",
        repeats=repeats(opened, x),
    )


def run_lava(network: Network, x: npt.NDArray[Any], machine: Machine) -> Outcome | Inapplicable:
    """What Lava does with a fresh bundle, unless its whole numbers cannot hold the network's; one thread a process."""
    from snndeploy.export import lava as lowering
    from snndeploy.targets import lava

    del machine
    with TemporaryDirectory(prefix="snndeploy-") as folder:
        bundle = Path(folder) / "bundle"
        try:
            lowering.export(network, bundle, x)
        except QuantizeError as error:
            return Inapplicable(str(error))
        (simulation,) = lava.simulate([bundle])
    return Outcome(simulation.trace)


def run_lava_stock(network: Network, x: npt.NDArray[Any], machine: Machine) -> Outcome | Inapplicable:
    """What Lava's own processes do with a fresh bundle, if the network has a stock form."""
    from snndeploy.export import lava as lowering
    from snndeploy.targets import lava

    del machine
    with TemporaryDirectory(prefix="snndeploy-") as folder:
        bundle = Path(folder) / "bundle"
        try:
            lowering.export(network, bundle, x, form="stock")
        except (QuantizeError, TargetError) as error:
            return Inapplicable(str(error))
        (simulation,) = lava.simulate([bundle])
    return Outcome(simulation.trace)


def run_native(network: Network, x: npt.NDArray[Any], machine: Machine) -> Outcome:
    """What our own engine does with a fresh bundle, in the machine steps of its schedule."""
    from snndeploy.export import lava as lowering
    from snndeploy.targets import native

    with TemporaryDirectory(prefix="snndeploy-") as folder:
        bundle = lowering.export(network, Path(folder) / "bundle", x)
        return Outcome(native.simulate(bundle, threads=machine.threads).trace)


ONNX: Mapping[str, Runner] = MappingProxyType(
    {
        "onnx-step": partial(run_onnx, form="step"),
        "onnx-sequence": partial(run_onnx, form="sequence"),
        "onnx-scan": partial(run_onnx, form="scan"),
        "onnx-integer": partial(run_onnx, form="sequence", arithmetic="integer"),
        "onnx-float16": partial(run_onnx, form="sequence", arithmetic="float16"),
    }
)
BACKENDS: Mapping[str, Runner] = MappingProxyType(
    {"torch": try_torch, **ONNX, LAVA: run_lava, LAVA_STOCK: run_lava_stock, "native": run_native}
)


def chosen(text: str) -> tuple[str, ...]:
    """Names of the back ends in a comma-separated list; `onnx` stands for all of ONNX Runtime.

    Raises:
        ConfigError: A name is unknown.
    """
    names: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        if name == "onnx":
            names += ONNX
        elif name in BACKENDS:
            names.append(name)
        else:
            raise ConfigError(
                f"back end {name!r}", "is not known", remedy=f"choose among onnx, {', '.join(BACKENDS)}"
            )
    return tuple(dict.fromkeys(names))
