"""Estimates of `snndeploy energy` as tables: one for each target, and their ratios."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snndeploy.targets.energy import Energy, Priced
    from snndeploy.targets.profile import Interval
    from snndeploy.targets.uncertainty import Range

UNITS = ((1e12, "J"), (1e9, "mJ"), (1e6, "uJ"), (1e3, "nJ"), (1, "pJ"))  # in picojoules, largest first
_FAR_LOW = 30  # times that operations alone are below the total, from which a warning is due
_CONTRIBUTIONS = 5
_OPS = 12


def as_text(result: Energy) -> str:
    """An estimate as tables; estimates are shown with two significant digits and their range."""
    from snndeploy.cli.output import table

    bound = "at least" if result.bound == "lower bound" else "total"
    total = result.total_pj.value
    parts = [[name, amount(part), f"{part.value / total:.0%}"] for name, part in result.snn.by_term().items()]
    rows = [
        *([] if result.e_snn_pj is None else [["E_SNN (synaptic operations)", amount(result.e_snn_pj), ""]]),
        *parts,
        [bound, amount(result.total_pj), ""],
        ["ANN of the same topology", _ann(result.ann), ""],
        ["this network / ANN", _over_ann(result), ""],
    ]
    lines = [
        f"ESTIMATED energy per inference on {result.profile.name} (evidence: {result.evidence})",
        setting_text(result),
        table(["part", "energy", "share"], rows),
        "",
        _synapses(result),
        "",
        *_ops(result),
        *_counted(result),
        *_doubts(result),
    ]
    return "\n".join(lines)


def setting_text(result: Energy) -> str:
    """How the target runs the network, in one line."""
    from snndeploy.targets.report import FIRST_LAYER

    setting, work = result.setting, result.snn.work
    words = [f"T = {work.steps}", f"analog layers {FIRST_LAYER[setting.first_layer]}"]
    match result.profile.kind:
        case "event-driven":
            words.append(f"{work.machine_steps} machine steps")
            if result.mapping is not None:
                words.append(f"{work.cores} cores, {work.chips} chips")
        case "dense":
            words.append(f"batch {setting.batch}")
        case _:
            pass
    if setting.sample_period_ms is not None:
        words.append(f"a sample every {setting.sample_period_ms:g} ms")
    elif result.time_us is not None and result.profile.scope == "per-term":
        words.append(f"{two(result.time_us)} us a {'batch' if result.profile.kind == 'dense' else 'sample'}")
    return ", ".join(words)


def compared_text(results: Sequence[Energy]) -> str:
    """Every pair of targets as a ratio, by shared draws."""
    from snndeploy.cli.output import table

    rows = []
    for first, second in combinations(results, 2):
        found = between(first.snn, second.snn)
        known = "unknown" if found is None else ratio(found)
        bounds = [one.profile.name for one in (first, second) if one.bound == "lower bound"]
        note = f"{' and '.join(bounds)}: lower bound" if bounds else ""
        rows.append([first.profile.name, second.profile.name, known, note])
    return table(["energy on", "over that on", "ratio", ""], rows)


def spread_text(result: Energy, others: Sequence[Energy]) -> str:
    """The same chip with other sets of numbers: the model's own uncertainty."""
    from snndeploy.cli.output import table

    rows = [[one.profile.name, amount(one.total_pj), one.bound] for one in (result, *others)]
    values = [one.total_pj.value for one in (result, *others)]
    spread = f", a factor of {two(max(values) / min(values))} apart" if min(values) else ""
    return f"model uncertainty: sets of numbers for the same chip{spread}\n{table(['numbers', 'energy', ''], rows)}"


def between(first: Priced, second: Priced) -> Range | None:
    """First over second by shared draws, priced parts alone; None if the second is nothing."""
    import numpy as np

    from snndeploy.targets.uncertainty import range_of

    return range_of(first.draws / second.draws) if np.all(second.draws) else None


def facts(results: Sequence[Energy], spreads: Sequence[Sequence[Energy]]) -> dict[str, Any]:
    """One report, or several with their ratios."""
    from dataclasses import asdict

    found = []
    for one, others in zip(results, spreads, strict=True):
        sets = {other.profile.name: asdict(other.total_pj) for other in others}
        found.append(one.to_json() | {"constant_sets": sets})
    if len(found) == 1:
        return found[0]
    pairs = []
    for first, second in combinations(results, 2):
        known = between(first.snn, second.snn)
        pairs.append(
            {
                "numerator": first.profile.name,
                "denominator": second.profile.name,
                "ratio": None if known is None else asdict(known),
                "bounds": [first.bound, second.bound],
            }
        )
    return {"label": "ESTIMATED", "targets": found, "comparison": pairs}


def write_csv(path: Path, results: Sequence[Energy]) -> None:
    """One row for each target and op."""
    from snndeploy.ir.files import write_text
    from snndeploy.targets.report import rows

    table = [row for one in results for row in rows(one)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_text(path, text.getvalue())


def amount(interval: Interval | None) -> str:
    """An energy in a readable unit with its range."""
    if interval is None:
        return "unpriced"
    scale, unit = next((s, u) for s, u in UNITS if interval.value >= s or s == 1)
    value, low, high = (two(part / scale) for part in (interval.value, interval.low, interval.high))
    return f"{value} {unit} ({low} to {high})"


def ratio(found: Range) -> str:
    """Median and range."""
    return f"{two(found.p50)} ({two(found.p5)} to {two(found.p95)})"


def two(value: float) -> str:
    """Two significant digits."""
    return f"{float(f'{value:.2g}'):g}"


def _ann(ann: Priced) -> str:
    if not ann.unpriced:
        return amount(ann.interval)
    missing = ", ".join(ann.unpriced)
    return f"at least {amount(ann.interval)}, unpriced: {missing}" if ann.total else f"unpriced: {missing}"


def _over_ann(result: Energy) -> str:
    if result.ratio is None:
        return "unknown"
    return ratio(result.ratio) + (", of what is priced" if result.unpriced else "")


def _synapses(result: Energy) -> str:
    from snndeploy.cli.output import table
    from snndeploy.targets.profile import Interval

    rows = [
        [
            row["source"],
            row["target"],
            row["delay"],
            row["synapses"],
            round(row["synaptic_operations"]),
            amount(None if row["energy_pj"] is None else Interval(**row["energy_pj"])),
        ]
        for row in result.to_json()["synapses"]
    ]
    return table(["from", "to", "delay", "synapses", "synaptic operations", "energy"], rows)


def _ops(result: Energy) -> list[str]:
    """The ops that take the most."""
    from snndeploy.cli.output import table

    found = result.snn.by_op()
    largest = sorted(found, key=lambda name: -found[name].value)[:_OPS]
    if not largest:
        return []
    total = result.total_pj.value
    rows = [[name or "(device)", amount(found[name]), f"{found[name].value / total:.0%}"] for name in largest]
    left = len(found) - len(largest)
    lines = [table(["op", "energy", "share"], rows)]
    if left:
        lines.append(f"and {left} ops that take less")
    return [*lines, ""]


def _counted(result: Energy) -> list[str]:
    spread = result.to_json()
    operations = spread["synaptic_operations"]
    lines = [
        f"synaptic operations per inference: mean {operations['mean']:.0f}, p95 {operations['p95']:.0f} (counted)",
        f"firing rate {spread['firing_rate']['mean']:.1%} a step, {spread['dead_rate']:.1%} of neurons never fired",
    ]
    if result.counts.driven is None:
        lines.append("spikes were given as counts over time, so which neuron updates are driven is not known")
    return lines


def _doubts(result: Energy) -> list[str]:
    """All that speaks against the number."""
    lines = []
    if result.contributions:
        shares = ", ".join(f"{one.name} {one.share:.0%}" for one in result.contributions[:_CONTRIBUTIONS])
        lines.append(f"the range comes from: {shares}")
    operations = result.operations_pj
    if operations and result.total_pj.value > _FAR_LOW * operations:
        times = two(result.total_pj.value / operations)
        lines.append(f"counting operations alone would be {times} times low: power times time decides here")
    if result.unverified:
        lines.append(f"not checked at the source: {', '.join(result.unverified)}")
    if result.hosted:
        lines.append(f"on the host, so not counted: {', '.join(result.hosted)}")
    if result.unpriced:
        lines.append(f"unpriced, so the total is a lower bound: {', '.join(result.unpriced)}")
    if result.counts.uncounted:
        lines.append(f"uncounted: {', '.join(result.counts.uncounted)}")
    return lines
