"""The same training with several seeds: one run folder each, and what they came to together."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snndeploy.cli.train import train_or_read, write_text

if TYPE_CHECKING:
    from snndeploy.train.config import Config

SUMMARY = "summary.json"
_SUMMARISED = ("test_accuracy", "exact_test_accuracy", "dead_rate", "synops", "estimated_energy_pj")


def train_seeds(config: Config, folder: Path, count: int, *, resume: bool, overwrite: bool) -> dict[str, Any]:
    """Trains with `count` seeds from the configured one on, into seed<seed>/, and writes summary.json.

    Args:
        config: Of all runs, apart from the seed.
        folder: Holds the run folders.
        count: Number of seeds.
        resume: Go on with the run that is unfinished, and skip those that are done.
        overwrite: Replace finished runs of another configuration.

    Returns:
        What the runs came to: each by its folder, and mean and standard deviation over them.

    Raises:
        FileFormatError: A folder cannot be written, or holds a damaged checkpoint.
        SnnDeployError: The configuration asks for something impossible, or is not that of a checkpoint.
    """
    from snndeploy.train.products import remove, require_replaceable

    configs = {f"seed{seed}": replace(config, seed=seed) for seed in range(config.seed, config.seed + count)}
    if not (resume or overwrite):  # all of them before the first is touched
        for name, one in configs.items():
            require_replaceable(one, folder / name)
    runs = {
        name: train_or_read(
            one,
            folder / name,
            resume=resume,
            overwrite=overwrite,
            label=f"training with seed {one.seed}",
            on_start=lambda: remove(folder / SUMMARY),  # which is of other runs from now on
        )
        for name, one in configs.items()
    }
    facts = {
        "seeds": list(range(config.seed, config.seed + count)),
        "runs": runs,
        "summary": {
            **{key: summary([run[key] for run in runs.values()]) for key in _SUMMARISED},
            "test_group_accuracies": _group_summaries(list(runs.values())),
        },
    }
    write_text(folder / SUMMARY, json.dumps(facts, indent=2, allow_nan=False) + "\n")
    return facts


def summary(values: list[float | None]) -> dict[str, Any]:
    """Mean and standard deviation (of a sample, so over n - 1) of the values there are; null where undefined."""
    known = [value for value in values if value is not None]
    return {
        "count": len(known),
        "mean": statistics.fmean(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
    }


def as_text(facts: Mapping[str, Any]) -> str:
    """The runs as a table, and what they came to together."""
    from snndeploy.cli.output import table

    rows = [
        [name, _percent(run["test_accuracy"]), _percent(run["exact_test_accuracy"])]
        for name, run in facts["runs"].items()
    ]
    lines = [table(["run", "test accuracy, float32", "exact"], rows), ""]
    for key, form in (("test_accuracy", "float32"), ("exact_test_accuracy", "exact")):
        found = facts["summary"][key]
        spread = "" if found["std"] is None else f" +- {_percent(found['std'])}"
        lines.append(f"test accuracy {_percent(found['mean'])}{spread} ({form}, {found['count']} seeds)")
    for name, group in facts["summary"]["test_group_accuracies"].items():
        lines += [f"  {name} {value}: {_percent(found['mean'])}" for value, found in group.items()]
    lines.append(f"wrote {SUMMARY} and {', '.join(facts['runs'])} to {facts['run']}")
    return "\n".join(lines)


def _group_summaries(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: {value: summary([run["test_group_accuracies"][name][value] for run in runs]) for value in group}
        for name, group in runs[0]["test_group_accuracies"].items()
    }


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
