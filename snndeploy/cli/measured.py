"""`snndeploy energy --measure`: what an inference takes on a device of this machine, beside its estimate."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import click
from typing_extensions import assert_never

from snndeploy.errors import TargetError

if TYPE_CHECKING:
    import numpy.typing as npt

    from snndeploy.ir import Network
    from snndeploy.targets.measure import Figure, Measurement, Meter
    from snndeploy.targets.profile import Interval, TargetProfile

MeterChoice: TypeAlias = Literal["auto", "nvml", "rapl"]

_PROFILES = (  # devices by what they call themselves -> the shipped profile that describes them
    ("*A100*", "gpu-a100"),
    ("*H100*", "gpu-h100"),
    ("*H200*", "gpu-h200"),
)
_UNITS = ((1.0, "J"), (1e-3, "mJ"), (1e-6, "uJ"), (1e-9, "nJ"))  # in joules, largest first


@dataclass(frozen=True)
class Request:
    """What to measure with and how.

    samples: From which the batch is made, over again if they are fewer.
    """

    meter: MeterChoice
    batch: int
    threads: int
    samples: int


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a profile says.

    total_pj: Per inference.
    bound: Whether work without a price makes of the total a lower bound.
    facts: The whole report as plain values.
    """

    target: str
    total_pj: Interval
    bound: Literal["estimate", "lower bound"]
    facts: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Compared:
    """A measurement beside the estimate for the same samples, if a profile describes the device.

    ran: What was measured, in words.
    """

    measured: Measurement
    estimated: Estimate | None
    ran: str

    def ratio(self, figure: Figure) -> dict[str, float | None] | None:
        """Measured over estimated, with its range; None without an estimate above 0, `high` if it may be 0."""
        if self.estimated is None or not self.estimated.total_pj.value:
            return None
        total, pj = self.estimated.total_pj, 1e12
        return {
            "value": figure.value * pj / total.value,
            "low": (figure.value - figure.uncertainty) * pj / total.high,
            "high": (figure.value + figure.uncertainty) * pj / total.low if total.low else None,
        }

    def to_json(self) -> dict[str, Any]:
        """Both as plain values, with their ratios."""
        gross, net = self.measured.gross_j, self.measured.net_j
        return {
            "ran": self.ran,
            "measured": self.measured.to_json(),
            "estimated": None if self.estimated is None else self.estimated.facts,
            "measured_over_estimated": {"gross": self.ratio(gross), "net": self.ratio(net)},
        }


def show_measured(network: Path, target: str | None, data: str, request: Request, *, as_json: bool) -> None:
    """Measures a network file and prints what was found.

    Args:
        network: The file.
        target: The profile to compare with; None for the one that describes the device, if any.
        data: As of the `--data` option.
        request: What to measure with.
        as_json: Whether to print JSON.

    Raises:
        TargetError: There is no meter, or it failed.
    """
    from snndeploy.cli.networks import load_folded, load_samples
    from snndeploy.cli.output import emit_json

    source = load_folded(network)
    picked = load_samples(source, data, min(request.samples, request.batch))
    meter = open_meter(request.meter)
    found = compare(source, picked.x, meter, target, request)
    if as_json:
        emit_json(found.to_json() | {"network": str(network), "data": picked.name})
    else:
        click.echo(as_text(found))
        click.echo(f"\n{picked.count} samples of {picked.name}, format {source.format.name}")


def open_meter(choice: MeterChoice) -> Meter:
    """The meter asked for; `auto` takes the GPU's, and where there is none the CPUs'.

    Raises:
        TargetError: It is not there; the message says what was looked for.
    """
    from snndeploy.cli.output import say
    from snndeploy.targets.measure import open_rapl

    match choice:
        case "nvml":
            return _gpu_meter()
        case "rapl":
            return open_rapl()
        case "auto":
            try:
                return _gpu_meter()
            except TargetError as error:
                missing = error
            try:
                meter = open_rapl()
            except TargetError as error:
                rule = "needs an energy counter, of a GPU or of the CPUs"
                raise TargetError("--measure", rule, got=f"neither: {missing}; {error}") from None
            say(f"{missing}; so the CPUs are measured")
            return meter
        case _:
            assert_never(choice)


def _gpu_meter() -> Meter:
    """That of the GPU that PyTorch uses."""
    import torch

    from snndeploy.targets.measure import open_nvml

    if not torch.cuda.is_available():
        remedy = "see `snndeploy doctor`; --meter rapl measures CPUs"
        raise TargetError("energy meter nvml", "needs a GPU that PyTorch can use", got="none", remedy=remedy)
    return open_nvml(str(torch.cuda.get_device_properties(0).uuid))


def compare(
    source: Network, x: npt.NDArray[Any], meter: Meter, target: str | None, request: Request
) -> Compared:
    """Measures a network on a batch of samples, and estimates it for the same samples.

    Args:
        source: A folded network.
        x: Prepared samples; the batch begins with them and goes on from the first again.
        meter: Of the device that is to run it.
        target: The profile to compare with; None for the one that describes the device, if any.
        request: The batch and the threads.
    """
    import numpy as np

    from snndeploy.cli.output import progress
    from snndeploy.cli.workloads import on_cpus, on_gpu
    from snndeploy.targets.measure import STANDARD, measure
    from snndeploy.targets.measure.protocol import stages
    from snndeploy.targets.profile import load

    name = target or matching(meter.device)
    profile = None if name is None else load(name)  # a mistake in it is to be known before the long work
    axis = 1 if source.input.kind == "frames" else 0
    x = np.take(x, np.arange(min(x.shape[axis], request.batch)), axis)
    batch = np.take(x, np.arange(request.batch) % x.shape[axis], axis)
    match meter.name:
        case "nvml":
            work = on_gpu(source, batch, request.threads)
            ran = "PyTorch on the GPU, float32 (convolutions may use TF32)"
        case "rapl":
            work = on_cpus(source, batch, request.threads)
            ran = "ONNX Runtime on the CPUs, sequence form, float32"
        case _:
            assert_never(meter.name)
    with progress(f"measuring {meter.device}", stages(STANDARD)) as report:
        measured = measure(meter, work, batch=request.batch, procedure=STANDARD, report=report)
    return Compared(measured, None if profile is None else _estimated(source, x, profile, request.batch), ran)


def matching(device: str) -> str | None:
    """Name of the shipped profile that describes a device, by what the device calls itself."""
    from snndeploy.targets.profile import shipped

    found = (name for pattern, name in _PROFILES if fnmatch(device, pattern))
    return next((name for name in found if name in shipped()), None)


def _estimated(source: Network, x: npt.NDArray[Any], profile: TargetProfile, batch: int) -> Estimate:
    """What the profile says about the samples that were measured."""
    from snndeploy.ir import run
    from snndeploy.targets.counts import count
    from snndeploy.targets.energy import estimate
    from snndeploy.targets.work import Setting

    setting = Setting(first_layer=profile.first_layer, batch=batch)
    found = estimate(count(source, run(source, x), x), profile, setting)
    return Estimate(profile.name, found.total_pj, found.bound, found.to_json())


def as_text(found: Compared) -> str:
    """A measurement beside its estimate, and all that speaks against it."""
    from snndeploy.cli.estimated import amount
    from snndeploy.cli.output import table

    measured, estimated = found.measured, found.estimated
    rows = []
    for part, figure in (("gross", measured.gross_j), ("net of idle power", measured.net_j)):
        row = [part, joules(figure)]
        if estimated is not None:
            row += [amount(estimated.total_pj), _range(found.ratio(figure))]
        rows.append(row)
    heads = ["part", "MEASURED"]
    if estimated is not None:
        bound = ", lower bound" if estimated.bound == "lower bound" else ""
        heads += [f"ESTIMATED on {estimated.target}{bound}", "measured / estimated"]
    seconds = sum(w.seconds for w in measured.windows) / len(measured.windows)
    lines = [
        f"MEASURED energy per inference on {measured.device} ({measured.meter}: {measured.scope})",
        table(heads, rows),
        "",
        f"{found.ran}; batch {measured.batch}, {measured.latency_seconds * 1e3:.3g} ms a batch",
        f"{len(measured.windows)} windows of {seconds:.3g} s, idle power {measured.idle_w:.3g} W, "
        f"the counter moves every {measured.tick_seconds * 1e3:.2g} ms",
    ]
    if estimated is None:
        lines.append("no target profile describes this device: --target NAME|FILE compares with one")
    lines += [f"FLAG {flag.name}: {flag.detail}" for flag in measured.flags]
    return "\n".join(lines)


def joules(figure: Figure) -> str:
    """An energy in a readable unit with its uncertainty."""
    size = max(abs(figure.value), figure.uncertainty)
    scale, unit = next((s, u) for s, u in _UNITS if size >= s or s == _UNITS[-1][0])
    return f"{figure.value / scale:.3g} ± {figure.uncertainty / scale:.2g} {unit}"


def _range(ratio: dict[str, float | None] | None) -> str:
    """Two significant digits, as the estimate has no more."""
    if ratio is None:
        return "-"
    value, low, high = ("?" if v is None else f"{float(f'{v:.2g}'):g}" for v in ratio.values())
    return f"{value} ({low} to {high})"
