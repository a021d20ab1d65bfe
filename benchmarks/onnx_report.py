"""What benchmarks/onnx.py found, and how it stands to what is aimed at, as a page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.measure import Times
from benchmarks.onnx_contenders import BARE, EAGER, FLOOR, INTEGER, INTEGER_FLOORS, SCAN, SEQUENCE, STREAM
from benchmarks.onnx_profile import Share


@dataclass(frozen=True)
class Aim:
    """The time of one contender relative to another is to be at most so large, for one sample at a time."""

    name: str
    base: str
    most: float


AIMS = (
    Aim(SEQUENCE, EAGER, 0.65),
    Aim(INTEGER, SEQUENCE, 0.60),
    Aim(SCAN, SEQUENCE, 1.10),
    Aim(STREAM, BARE, 1.05),
)
DISTANCES = ((SEQUENCE, FLOOR), *((INTEGER, floor) for floor in INTEGER_FLOORS))
_LEAST_SHARE = 0.005  # of all nodes; types of node that take less are added up


@dataclass(frozen=True)
class Section:
    """What was measured of one network on one batch with one number of threads.

    wall: Whether time is that on the clock; otherwise it is the processor's.
    times: By contender.
    differences: By contender, the largest of a logit from the reference interpreter's.
    peaks: Bytes by contender.
    profiles: Of the sequence form, by arithmetic and type of node.
    """

    network: str
    batch: int
    threads: int
    wall: bool
    times: Mapping[str, Times]
    differences: Mapping[str, float] = field(default_factory=dict)
    peaks: Mapping[str, int | None] = field(default_factory=dict)
    profiles: Mapping[str, Mapping[str, Share]] = field(default_factory=dict)

    def seconds(self, name: str) -> list[float]:
        """Of each round."""
        taken = self.times[name]
        return taken.wall if self.wall else taken.cpu

    def ratio(self, name: str, base: str) -> float | None:
        """The shortest time of a contender relative to another's; None unless both were measured."""
        if name not in self.times or base not in self.times:
            return None
        return min(self.seconds(name)) / min(self.seconds(base))


@dataclass(frozen=True)
class Report:
    """Everything measured.

    left_out: Contenders that were not, with the modules that they lack.
    """

    about: Mapping[str, Any]
    left_out: Mapping[str, Sequence[str]]
    sections: Sequence[Section]


def markdown(report: Report) -> str:
    """The report as a page."""
    told = report.about
    versions = ", ".join(f"{name} {number}" for name, number in told["versions"].items())
    load = "load unknown" if told["load"] is None else f"load {told['load']:.1f}"
    lines = [
        "# Inference of exported networks",
        "",
        f"{told['date']}; {told['device']}, {told['cores']} cores, {load} at the end; instruction sets "
        f"{', '.join(told['flags']) or 'unknown'}; {versions}.",
        "",
        f"resnet18, {told['shape']}, T = {told['steps']}, exact format; interleaved rounds; all contenders give "
        "the logits of the reference interpreter, bit for bit."
        if told["exact"]
        else f"resnet18, {told['shape']}, T = {told['steps']}, exact format; interleaved rounds.",
    ]
    if report.left_out:
        absent = "; ".join(f"{name} (needs {', '.join(of)})" for name, of in report.left_out.items())
        lines += ["", f"Not installed, so left out: {absent}."]
    lines += aims(report.sections)
    for section in report.sections:
        lines += ["", *times_table(section), *distances(section), *differing(section)]
        for arithmetic, found in section.profiles.items():
            lines += ["", *profile_table(arithmetic, found)]
    return "\n".join(lines) + "\n"


def aims(sections: Sequence[Section]) -> list[str]:
    """Table of what is aimed at for one sample at a time."""
    lines = ["", "| aim | network | threads | measured | at most | met |", "|---|---|---|---|---|---|"]
    rows = [
        f"| {aim.name} / {aim.base} | {section.network} | {section.threads} "
        f"| {ratio:.3f} | {aim.most:.2f} | {'yes' if ratio <= aim.most else '**no**'} |"
        for aim in AIMS
        for section in sections
        if section.batch == 1 and (ratio := section.ratio(aim.name, aim.base)) is not None
    ]
    return lines + rows if rows else []


def times_table(section: Section) -> list[str]:
    """Table of all contenders."""
    kind = "wall" if section.wall else "CPU"
    lines = [
        f"## {section.network}, batch {section.batch}, {section.threads} thread{'s' * (section.threads > 1)}, "
        f"{len(next(iter(section.times.values())).wall)} rounds",
        "",
        f"| contender | {kind} ms: least | median | of {EAGER} | of {SEQUENCE} | peak MiB | first call s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, taken in section.times.items():
        seconds = section.seconds(name)
        ratios = [section.ratio(name, base) for base in (EAGER, SEQUENCE)]
        shown = " | ".join("" if ratio is None else f"{ratio:.3f}" for ratio in ratios)
        peak = section.peaks.get(name)
        lines.append(
            f"| {name} | {min(seconds) * 1e3:.2f} | {statistics.median(seconds) * 1e3:.2f} | {shown} "
            f"| {'' if peak is None else f'{peak / 2**20:.0f}'} | {taken.first:.2f} |"
        )
    return lines


def distances(section: Section) -> list[str]:
    """How far the forms are from their products alone."""
    found = [(name, floor, section.ratio(name, floor)) for name, floor in DISTANCES]
    told = [f"{name} takes {ratio:.2f} of {floor}" for name, floor, ratio in found if ratio is not None]
    return ["", f"{'; '.join(told)}."] if told else []


def differing(section: Section) -> list[str]:
    """Contenders whose logits are not those of the reference interpreter."""
    found = [f"{name} by {by:.1e}" for name, by in section.differences.items() if by != 0]
    return ["", f"Logits differ from the reference interpreter's: {'; '.join(found)}."] if found else []


def profile_table(arithmetic: str, found: Mapping[str, Share]) -> list[str]:
    """Where the time of the sequence form goes."""
    total = sum(share.milliseconds for share in found.values())
    shown = {name: share for name, share in found.items() if share.milliseconds >= _LEAST_SHARE * total}
    rest = [share for name, share in found.items() if name not in shown]
    if rest:
        shown["others"] = Share(sum(s.nodes for s in rest), sum(s.milliseconds for s in rest))
    lines = [
        f"Sequence form in {arithmetic}, by type of node, {total:.2f} ms in all:",
        "",
        "| type | nodes | wall ms | share |",
        "|---|---|---|---|",
    ]
    return lines + [
        f"| {name} | {share.nodes} | {share.milliseconds:.3f} | {share.milliseconds / total:.1%} |"
        for name, share in shown.items()
    ]
