"""What benchmarks/lava.py prints."""

from __future__ import annotations

import datetime as dt
import platform
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from benchmarks.machine import cores, cpu_name, load

_FORMS = ("stock", "fused", "native", "bare")
_PACKAGES = ("torch", "numpy", "lava-nc")


@dataclass(frozen=True)
class Cost:
    """Of one form in one round.

    step_seconds: Per step of one sample.
    start_seconds: Without any sample.
    step_processor_seconds: Of the processor, per step of one sample, where all of it runs in this process.
    """

    step_seconds: float
    start_seconds: float
    step_processor_seconds: float | None = None


@dataclass(frozen=True)
class Chain:
    """What was measured of a chain.

    costs: For each form, one for every round.
    peaks: Bytes of all processes during a run of the fewest samples, by form.
    """

    populations: int
    costs: dict[str, list[Cost]]
    peaks: dict[str, int]

    def ratio(self, over: str, under: str) -> tuple[float, float, float]:
        """Median, smallest and largest of how many times as long a step takes in one form as in another.

        Forms that run in this process, on one thread, are compared by processor time, which is steadier.
        """
        found = [
            a.step_processor_seconds / b.step_processor_seconds
            if a.step_processor_seconds and b.step_processor_seconds
            else a.step_seconds / b.step_seconds
            for a, b in zip(self.costs[over], self.costs[under], strict=True)
        ]
        return statistics.median(found), min(found), max(found)


@dataclass(frozen=True)
class ResNet:
    """Seconds that resnet18 took: to be lowered, in Lava with its start, and in the native engine with its own.

    differing: Spikes and readout sums that are not the promised ones.
    """

    export_seconds: float
    lava_seconds: float
    native_seconds: float
    lava_samples: int
    native_samples: int
    native_threads: int
    differing: int


def markdown(chains: Sequence[Chain], resnet: ResNet | None) -> str:
    """Everything as a page."""
    lines = ["# Lava bundles: stock, fused, native", "", "    python -m benchmarks.lava", "", about(), ""]
    lines += [
        "Chains of 3x3 convolutions, 64 to 64 channels on 16x16 maps, in the loihi format, II = 1, T = 4. All forms "
        "gave the same spikes and sums. Milliseconds per step of one sample, which is one machine step of all "
        "populations: medians over the rounds. Lava runs a process per population; native and bare run one thread, in "
        "batches, and are compared by processor time.",
        "",
        "| populations | stock | fused | native | bare convolutions | stock / fused | fused / native | native / bare |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for chain in chains:
        steps = [_milliseconds([cost.step_seconds for cost in chain.costs.get(form, [])]) for form in _FORMS]
        ratios = [
            _ratio(chain, *pair) for pair in (("stock", "fused"), ("fused", "native"), ("native", "bare"))
        ]
        lines.append(f"| {' | '.join([str(chain.populations), *steps, *ratios])} |")
    lines += [
        "",
        "Start in seconds, which in Lava is its processes and channels and in native reading, checking and preparing, "
        "and peak memory in MB of all processes, shared pages once, Python and its libraries included; the native "
        "engine's with a batch of samples.",
        "",
        "| populations | start: stock | fused | native | memory: stock | fused | native |",
        "|---|---|---|---|---|---|---|",
    ]
    for chain in chains:
        starts = [_start(chain.costs.get(form, [])) for form in _FORMS[:3]]
        peaks = [f"{chain.peaks[form] / 1e6:.0f}" if form in chain.peaks else "-" for form in _FORMS[:3]]
        lines.append(f"| {' | '.join([str(chain.populations), *starts, *peaks])} |")
    return "\n".join(lines + (_resnet(resnet) if resnet else []))


def about() -> str:
    """When, on what and with which versions."""
    found = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    busy = load()
    told = "" if busy is None else f", load {busy:.1f}"
    return f"{dt.datetime.now(dt.timezone.utc):%Y-%m-%d}, {cpu_name()}, {cores()} cores{told}; {', '.join(found)}."


def _resnet(found: ResNet) -> list[str]:
    whole = found.export_seconds + found.lava_seconds
    return [
        "",
        f"resnet18, 3x32x32, T = 4, exact, random weights: lowered with {found.lava_samples} samples in "
        f"{found.export_seconds:.1f} s, simulated in Lava, fused, in {found.lava_seconds:.1f} s with its start: "
        f"{whole:.0f} s. {found.native_samples} samples in the native engine on {found.native_threads} threads: "
        f"{found.native_seconds:.1f} s. {found.differing} spikes or sums differ from what the bundle promises.",
    ]


def _milliseconds(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:.2f}" if seconds else "-"


def _ratio(chain: Chain, over: str, under: str) -> str:
    if over not in chain.costs:
        return "-"
    middle, low, high = chain.ratio(over, under)
    return f"**{middle:.2f}** ({low:.2f} to {high:.2f})"


def _start(costs: Sequence[Cost]) -> str:
    if not costs:
        return "-"
    return (
        f"{max(statistics.median(cost.start_seconds for cost in costs), 0.0):.2f}"  # a difference of two runs
    )
