"""Times training steps (forward and backward) of ours, SpikingJelly and snnTorch, and their peak memory, in one run.

    UV_PROJECT_ENVIRONMENT=.venv-bench uv sync --group bench
    .venv-bench/bin/python -m benchmarks.training

prints Markdown, with `--json` everything measured. Without the peers' libraries it measures the rest. All variants
take turns in every round; ratios are medians of those within each round, with their range. With one thread time is
that of the processor, the steadier number on a machine that others use too; with several it is what a user waits.

Peers train the same network with the same neuron, which is checked in double precision; see training_peers.py for
what differs. The floor is the convolutions and fully connected layers alone, in the best of three orders. Memory is
the largest resident set during a step less that before it, in a process of its own, on one thread.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import platform
import re
import statistics
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.arguments import positive
from benchmarks.machine import cores, cpu_name, load
from benchmarks.measure import Times, alone
from benchmarks.training_agreement import Agreement
from benchmarks.training_measure import agreement_alone, peak_bytes, times
from benchmarks.training_variants import (
    CLASSES,
    GROUPS,
    LAST,
    LIBRARIES,
    SIZES,
    STEPS,
    UNPENALISED,
    VARIANTS,
    Case,
    available,
)

DEFAULT_GROUPS = ("ours", "loop", "peer", "floor", "penalty")


@dataclass(frozen=True)
class Section:
    """What was measured of one network with one number of threads.

    times: By variant.
    """

    case: Case
    threads: int
    times: Mapping[str, Times]

    def seconds(self, name: str) -> list[float]:
        """Of each round."""
        taken = self.times[name]
        return taken.cpu if self.threads == 1 else taken.wall

    def ratio(self, name: str, base: str) -> tuple[float, float, float]:
        """Time of a variant relative to another: median, smallest and largest over the rounds."""
        ratios = [a / b for a, b in zip(self.seconds(name), self.seconds(base), strict=True)]
        return statistics.median(ratios), min(ratios), max(ratios)

    def fastest(self, group: str, without: Collection[str] = ()) -> str | None:
        """The variant of a group with the smallest median, if any was measured.

        Args:
            group: Of variants.
            without: Names, perhaps with ", channels last" left off, of those that do not count.
        """
        names = [
            variant.name
            for variant in VARIANTS
            if variant.group == group
            and variant.name in self.times
            and variant.name.removesuffix(LAST) not in without
        ]
        return min(names, key=lambda name: statistics.median(self.seconds(name)), default=None)


@dataclass(frozen=True)
class Report:
    """Everything measured.

    agreements: By network and library.
    peaks: Bytes by network and variant.
    """

    about: Mapping[str, Any]
    sections: list[Section]
    agreements: Mapping[str, Mapping[str, Agreement]]
    peaks: Mapping[str, Mapping[str, int | None]]


def measure(options: argparse.Namespace) -> Report:
    """Runs everything that was asked for."""
    wanted = [
        variant
        for variant in VARIANTS
        if variant.group in options.groups and re.search(options.only, variant.name)
    ]
    names = [variant.name for variant in wanted if available(variant)]
    for variant in wanted:
        if variant.name not in names:
            print(f"not installed: {variant.name}", file=sys.stderr)
    cases = [Case(name, options.batch or SIZES[name].batch) for name in options.networks]
    libraries = [library for library in LIBRARIES if any(name.startswith(library) for name in names)]
    agreements = {
        case.name: {library: alone(agreement_alone, case, library) for library in libraries} for case in cases
    }
    sections = []
    for threads in options.threads:
        for case in cases:
            print(f"timing {case.name}, {threads} threads", file=sys.stderr)
            rounds = options.rounds or SIZES[case.name].rounds
            sections.append(Section(case, threads, alone(times, case, names, threads, rounds)))
    peaks: dict[str, dict[str, int | None]] = {}
    for case in cases if options.memory else []:
        print(f"memory of {case.name}", file=sys.stderr)
        peaks[case.name] = {name: alone(peak_bytes, case, name, 1) for name in names}
    return Report(about(), sections, agreements, peaks)


def about() -> dict[str, Any]:
    """Where and with what it was measured."""
    packages = [package for package in ("torch", "spikingjelly", "snntorch") if find_spec(package)]
    versions = {"Python": platform.python_version()} | {package: version(package) for package in packages}
    return {
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "device": cpu_name(),
        "cores": cores(),
        "load": load(),
        "versions": versions,
        "steps": STEPS,
        "classes": CLASSES,
    }


def markdown(report: Report) -> str:
    """The report as a page."""
    told = report.about
    versions = ", ".join(f"{name} {number}" for name, number in told["versions"].items())
    load = "load unknown" if told["load"] is None else f"load {told['load']:.1f}"
    lines = [
        "# Training steps: forward and backward",
        "",
        f"{told['date']}; {told['device']}, {told['cores']} cores, {load} at the end; {versions}; "
        f"interleaved rounds; T = {STEPS}, TET loss, float32 unless named.",
    ]
    if any(report.agreements.values()):
        lines += ["", "Largest relative deviation from ours in float64, with the same weights:", ""]
        lines += ["| network | peer | logits | gradients |", "|---|---|---|---|"]
    for name, found in report.agreements.items():
        for library, agreed in found.items():
            lines.append(f"| {name} | {library} | {agreed.logits:.0e} | {agreed.gradients:.0e} |")
    for section in report.sections:
        name = section.case.name
        lines += ["", *comparison(section, report.peaks.get(name, {}), report.agreements[name])]
        lines += penalties(section)
    return "\n".join(lines) + "\n"


def comparison(
    section: Section, peaks: Mapping[str, int | None], agreements: Mapping[str, Agreement]
) -> list[str]:
    """Table of all variants but the penalties."""
    case = section.case
    shape = "x".join(map(str, SIZES[case.name].shape))
    peer, floor = section.fastest("peer"), section.fastest("floor")
    unlike = [library for library, found in agreements.items() if not found.has_our_gradient]
    alike = section.fastest("peer", without=unlike)
    lines = [
        f"## {case.name}, {shape}, batch {case.batch}, {section.threads} thread{'s' * (section.threads > 1)}, "
        f"{len(next(iter(section.times.values())).wall)} rounds",
        "",
        f"Fastest peer: {peer or 'none measured'}; with our gradient: {alike or 'none measured'}. "
        f"Floor: {floor or 'not measured'}.",
        "",
        "| variant | images/s | ms: median (range) | speed, of the fastest peer's "
        "| of the fastest with our gradient | time, of the floor | peak MiB | first step s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for variant in VARIANTS:
        if variant.name in section.times and variant.group != "penalty":
            name = variant.name
            seconds = section.seconds(name)
            median = statistics.median(seconds)
            speeds = [interval(*section.ratio(base, name)) if base else "" for base in (peer, alike)]
            distance = interval(*section.ratio(name, floor)) if floor else ""
            peak = peaks.get(name)
            lines.append(
                f"| {name} | {case.batch / median:.1f} "
                f"| {median * 1e3:.0f} ({min(seconds) * 1e3:.0f} to {max(seconds) * 1e3:.0f}) "
                f"| {' | '.join(speeds)} | {distance} "
                f"| {'' if peak is None else f'{peak / 2**20:.0f}'} | {section.times[name].first:.1f} |"
            )
    return lines


def penalties(section: Section) -> list[str]:
    """Table of the time that penalties take, relative to none; table 7 of Spiking Synaptic Penalty."""
    names = [v.name for v in VARIANTS if v.group == "penalty" and v.name in section.times]
    if UNPENALISED not in names:
        return []
    lines = ["", "| penalty | time, of that without (range) |", "|---|---|"]
    return lines + [
        f"| {name.removeprefix('penalty ')} | {interval(*section.ratio(name, UNPENALISED), digits=3)} |"
        for name in names
    ]


def interval(median: float, low: float, high: float, digits: int = 2) -> str:
    """A median and its range."""
    return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--networks", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(DEFAULT_GROUPS))
    parser.add_argument(
        "--whole", action="store_true", help="also whole networks compiled, which takes minutes each"
    )
    parser.add_argument("--bf16", action="store_true", help="also products in bfloat16")
    parser.add_argument("--only", default="", help="a regular expression that names of variants must contain")
    parser.add_argument("--threads", nargs="+", type=positive, default=sorted({1, cores()}))
    parser.add_argument("--rounds", type=positive, help="by default each network has its own")
    parser.add_argument("--batch", type=positive, help="of all networks; by default each has its own")
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="write there instead of printing")
    options = parser.parse_args(arguments)
    options.groups += ["whole"] * options.whole + ["bf16"] * options.bf16
    return options


def main() -> None:
    """Measures and prints the report."""
    options = parsed()
    report = measure(options)
    text = json.dumps(asdict(report), indent=1) + "\n" if options.json else markdown(report)
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
