"""What the runs of a sweep came to together: mean and standard deviation over the seeds of each combination."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SUMMARY = "summary.json"
_SUMMARISED = ("test_accuracy", "exact_test_accuracy", "dead_rate", "synops", "estimated_energy_pj")
_FINE_TUNED = {
    "posttraining_test_accuracy": "quantised, not fine-tuned",
    "finetuned_test_accuracy": "fine-tuned",
}
"""What runs that were fine-tuned are compared by, too, and the heads of its columns."""
_PJ_PER_NJ = 1000


def summary(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and standard deviation (of a sample, so over n - 1) of the values there are; null where undefined."""
    known = [value for value in values if value is not None]
    return {
        "count": len(known),
        "mean": statistics.fmean(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
    }


def summaries(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same for everything that runs are compared by."""
    groups = [run.get("test_group_accuracies", {}) for run in runs]
    converted: dict[int, list[Mapping[str, Any]]] = {}
    for run in runs:
        for one in run.get("conversions", []):  # of an ANN, which is no spiking network itself
            converted.setdefault(one["steps"], []).append(one)
    return {
        **_summarised(runs),
        "test_group_accuracies": {
            name: {value: summary([group.get(name, {}).get(value) for group in groups]) for value in first}
            for name, first in (groups[0] if groups else {}).items()
        },
        **(
            {"conversions": [{"steps": t, **_summarised(found)} for t, found in converted.items()]}
            if converted
            else {}
        ),
    }


def _summarised(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    keys = [*_SUMMARISED, *_fine_tuned(runs)]
    return {key: summary([run.get(key) for run in runs]) for key in keys}


def _fine_tuned(found: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Which columns there are, besides those that there always are, for runs or summaries of them."""
    return _FINE_TUNED if any(key in one for one in found for key in _FINE_TUNED) else {}


def counted(number: int, noun: str) -> str:
    """A number of things in words: "1 run", "2 runs"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def as_text(facts: Mapping[str, Any]) -> str:
    """A sweep as a table: a row for each combination or, where there is one, for each run."""
    if facts.get("missing"):
        missing = len(facts["missing"])
        lines = [
            f"{missing} of {counted(facts['asked'], 'run')} {'is' if missing == 1 else 'are'} not finished",
            "once no process is at work on them, the same command with --resume goes on and ends with the summary",
        ]
    elif "combinations" in facts:
        lines = [_combinations(facts)]
    else:
        lines = _seeds(facts)
    if "summary" in facts or "combinations" in facts:
        lines.append(f"wrote {SUMMARY}, which covers {counted(len(facts['runs']), 'run')}, to {facts['run']}")
    return "\n".join(lines)


def _combinations(facts: Mapping[str, Any]) -> str:
    from snndeploy.cli.output import table

    rows = []
    more = _fine_tuned([row["summary"] for row in facts["combinations"]])
    for row in facts["combinations"]:
        failed = len(row["failed"])
        values = [_value(row["settings"][key]) for key in facts["sweep"]]
        runs = f"{len(row['runs'])}{f' ({failed} failed)' if failed else ''}"
        conversions = row["summary"].get("conversions")
        if conversions:
            rows += [[*values, f"{runs}, T = {one['steps']}", *_measures(one)] for one in conversions]
        else:
            fine_tuned = [_percent(row["summary"].get(key, summary([]))) for key in more]
            rows.append([*values, runs, *_measures(row["summary"]), *fine_tuned])
    headers = [
        "runs",
        "test accuracy, float32",
        "exact",
        "energy, nJ ESTIMATED",
        "dead neurons",
        *more.values(),
    ]
    return table([*facts["sweep"], *headers], rows)


def _measures(found: Mapping[str, Any]) -> list[str]:
    return [
        _percent(found["test_accuracy"]),
        _percent(found["exact_test_accuracy"]),
        _nanojoules(found["estimated_energy_pj"]),
        _percent(found["dead_rate"]),
    ]


def _seeds(facts: Mapping[str, Any]) -> list[str]:
    from snndeploy.cli.output import table

    columns = {"test_accuracy": "test accuracy, float32", "exact_test_accuracy": "exact"}
    columns |= _fine_tuned(facts["runs"].values())
    rows = [[name, *(_share(run.get(key)) for key in columns)] for name, run in facts["runs"].items()]
    rows += [[name, "failed", *["-"] * (len(columns) - 1)] for name in facts["failed"]]
    lines = [table(["run", *columns.values()], rows)]
    if "summary" not in facts:
        return lines
    found = facts["summary"]
    lines.append("")
    forms = {"test_accuracy": "float32", "exact_test_accuracy": "exact", **_fine_tuned([found])}
    for key, form in forms.items():
        lines.append(f"test accuracy {_percent(found[key])} ({form}, {counted(found[key]['count'], 'seed')})")
    lines += [
        f"converted to T = {one['steps']}: test accuracy {_percent(one['test_accuracy'])}"
        for one in found.get("conversions", [])
    ]
    for name, group in found["test_group_accuracies"].items():
        lines += [f"  {name} {value}: {_share(one['mean'])}" for value, one in group.items()]
    return lines


def _percent(found: Mapping[str, Any]) -> str:
    return _share(found["mean"]) + ("" if found["std"] is None else f" +- {found['std']:.2%}")


def _nanojoules(found: Mapping[str, Any]) -> str:
    mean, std = (None if part is None else part / _PJ_PER_NJ for part in (found["mean"], found["std"]))
    return ("-" if mean is None else f"{mean:.4g}") + ("" if std is None else f" +- {std:.2g}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(str(part) for part in value) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
