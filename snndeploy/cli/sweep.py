"""Trains the runs of a sweep, a run folder each, and says what they came to together.

Runs need nothing of each other. So they may be done one by one, by several processes of this machine, or,
started by torchrun, by several ranks that each take their share.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snndeploy.cli.axes import Run, Sweep, label_of, run_name, value_at
from snndeploy.cli.runs import read_finished, train_or_read
from snndeploy.cli.summary import SUMMARY, as_text, counted, summaries
from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.ir.files import write_text

if TYPE_CHECKING:
    from snndeploy.train.pool import Failure

_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_MOST_SHOWN = 20  # failures in a message


def train_sweep(
    sweep: Sweep, folder: Path, *, workers: int = 1, resume: bool, overwrite: bool
) -> dict[str, Any]:
    """Trains the runs, or this rank's share of them, and writes summary.json once all are done.

    The summary covers every finished run of this sweep that is in the folder, also those of earlier calls with
    other values or seeds. A run that fails keeps no other from being done, and is named in the summary. With
    several ranks, rank 0 writes the summary if, once its own share is done, nothing is missing.

    Args:
        sweep: What to train.
        folder: Holds the run folders.
        workers: Processes to train with; with 1 this one does it.
        resume: Skip what is done, and go on with what is not.
        overwrite: Replace finished runs of another configuration.

    Returns:
        What the runs came to, by their names; "failed", the messages of those that failed; and what the runs
        came to together: "summary" if only the seed differs, else "combinations"; instead "missing", the names
        of those that are not finished, if other ranks have something left to do.

    Raises:
        ConfigError: A folder holds a finished run of another configuration, or a worker was killed.
        FileFormatError: A folder cannot be written, or holds a damaged result.
    """
    from snndeploy.train.products import remove, require_replaceable

    rank, ranks = _share()
    if not overwrite:  # all of them before the first is touched
        for run in sweep.runs:
            require_replaceable(run.config, folder / run.name)
    mine = sweep.runs[rank::ranks]
    runs = _finished(mine, folder) if resume else {}
    left = [run for run in mine if run.name not in runs]
    failed: dict[str, str] = {}
    if left:
        remove(folder / SUMMARY)  # which is of other runs from now on
        trained, failed = _train_all(left, folder, workers=workers, resume=resume, overwrite=overwrite)
        runs |= trained
    if ranks > 1:
        runs |= _finished(sweep.runs, folder)
        missing = [run.name for run in sweep.runs if run.name not in runs]
        if missing or rank > 0:
            place = {"rank": rank, "ranks": ranks, "asked": len(sweep.runs)}
            return {**place, "runs": runs, "failed": failed, "missing": missing}
    ordered = {run.name: runs[run.name] for run in sweep.runs if run.name in runs}
    return _summarised(sweep, folder, ordered, failed)


def show_sweep(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """Prints what a sweep came to; of several ranks only the first does.

    Raises:
        ConfigError: Runs failed; names them. Not with several ranks, where it is only said: torchrun ends all
            ranks when one of them fails.
    """
    from snndeploy.cli.output import emit_json, say

    ranks = facts.get("ranks", 1)
    if facts.get("rank", 0) > 0:
        say(f"rank {facts['rank']} of {ranks}: its share is done")
    elif as_json:
        emit_json(facts)
    else:
        click.echo(as_text(facts))
    if facts["failed"]:
        error = _failures(facts)
        if ranks == 1:
            raise error
        say(str(error))


def _failures(facts: Mapping[str, Any]) -> ConfigError:
    failed: Mapping[str, str] = facts["failed"]
    lines = [f"\n  {name}: {message}" for name, message in list(failed.items())[:_MOST_SHOWN]]
    more = "" if len(failed) <= _MOST_SHOWN else f"\n  and {len(failed) - _MOST_SHOWN} more"
    return ConfigError(
        facts["run"],
        f"{counted(len(failed), 'run')} failed; the same command with --resume keeps what is done and tries these "
        f"again:{''.join(lines)}{more}",
    )


def _share() -> tuple[int, int]:
    """The rank of this process and how many there are, by what torchrun leaves in the environment."""
    try:
        rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError as error:
        raise ConfigError(
            "RANK and WORLD_SIZE in the environment", "must be whole numbers", got=error
        ) from None
    if not 0 <= rank < ranks:
        raise ConfigError("RANK in the environment", f"must lie in [0, {ranks - 1}]", got=rank)
    return rank, ranks


def _finished(runs: Sequence[Run], folder: Path) -> dict[str, dict[str, Any]]:
    found = {run.name: read_finished(run.config, folder / run.name) for run in runs}
    return {name: facts for name, facts in found.items() if facts is not None}


def _train_all(
    runs: Sequence[Run], folder: Path, *, workers: int, resume: bool, overwrite: bool
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """What the runs came to, and the messages of those that failed."""
    from snndeploy.cli.output import progress, say
    from snndeploy.train.data import load
    from snndeploy.train.pool import Failure, environment, map_tasks

    alone = workers == 1
    if not alone:
        for data in {run.config.data for run in runs if run.config.data.download}:
            load(data)  # rather than each worker downloading it
    done = 0

    def on_result(index: int, result: dict[str, Any] | Failure) -> None:
        nonlocal done
        done += 1
        name = runs[index].name
        if alone and isinstance(result, Failure):
            say(f"{name} failed")
        report(done, f"{name} {'failed' if isinstance(result, Failure) else 'done'}")

    prepare = partial(
        trainer, folder, resume=resume, overwrite=overwrite, shown=alone, gpu=os.environ.get("LOCAL_RANK")
    )
    # Each run is on its own: it must not take the ranks that share the sweep for its own.
    with environment(dict.fromkeys(_RANKS)), progress("" if alone else "training", len(runs)) as report:
        results = map_tasks(prepare, runs, workers=workers, on_result=on_result)
    trained, failed = {}, {}
    for run, result in zip(runs, results, strict=True):
        if isinstance(result, Failure):
            failed[run.name] = result.message
        else:
            trained[run.name] = result
    return trained, failed


def trainer(
    folder: Path, *, resume: bool, overwrite: bool, shown: bool, gpu: str | None
) -> Callable[[Run], dict[str, Any]]:
    """Gives what trains a run in this process, with arguments as those of `train_sweep`.

    Args:
        folder: Holds the run folders.
        resume: Go on with what is not finished.
        overwrite: Replace a finished run of another configuration.
        shown: Whether the progress of each run is shown.
        gpu: Number of this rank among those of this machine, if there are ranks: it takes that GPU.
    """
    import torch

    if gpu is not None and gpu.isdecimal() and torch.cuda.is_available():
        torch.cuda.set_device(int(gpu) % torch.cuda.device_count())
    return partial(_train, folder=folder, resume=resume, overwrite=overwrite, shown=shown)


def _train(run: Run, *, folder: Path, resume: bool, overwrite: bool, shown: bool) -> dict[str, Any]:
    return train_or_read(
        run.config,
        folder / run.name,
        resume=resume,
        overwrite=overwrite,
        label=f"training {run.name}" if shown else "",
    )


def _summarised(
    sweep: Sweep, folder: Path, runs: Mapping[str, dict[str, Any]], failed: Mapping[str, str]
) -> dict[str, Any]:
    """What a sweep came to, written to summary.json; with no run finished there is nothing to write."""
    from snndeploy.train.checkpoint import as_json

    configs: dict[str, Mapping[str, Any]] = {run.name: as_json(run.config) for run in sweep.runs}
    runs = dict(runs)
    for name, facts in _others(sweep, folder):
        configs[name] = facts.pop("config")
        runs[name] = facts
    facts = {
        "seeds": sorted({configs[name]["seed"] for name in runs}),
        "runs": runs,
        "failed": dict(failed),
    }
    if not runs:
        return facts
    if sweep.keys:
        facts["sweep"] = list(sweep.keys)
        facts["combinations"] = _combinations(sweep, configs, runs, failed)
    else:
        facts["summary"] = summaries(list(runs.values()))
    write_text(folder / SUMMARY, json.dumps(facts, indent=2, allow_nan=False) + "\n")
    return facts


def _others(sweep: Sweep, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Finished runs of earlier calls that differ from those asked for in the swept keys and the seed only."""
    from snndeploy.train.checkpoint import as_json, differing
    from snndeploy.train.config import Config
    from snndeploy.train.products import TEST, read_test

    asked = {run.name for run in sweep.runs}
    free = {*sweep.keys, *(["seed"] if sweep.seeded else [])}
    depth = len(sweep.runs[0].name.split("/"))
    for path in sorted(folder.glob("/".join(["*"] * depth + [TEST])), key=_natural):
        name = str(path.parent.relative_to(folder))
        if name in asked:
            continue
        with suppress(FileFormatError, ConfigError):  # nobody asked for it, so it may be damaged
            found = read_test(path)
            if found is None:
                continue
            config = as_json(Config.from_mapping(found["config"]))
            if (
                set(differing(sweep.runs[0].config, config)) <= free
                and run_name(config, sweep.keys, seeded=sweep.seeded) == name
            ):
                yield name, {**found, "config": config}


def _natural(path: Path) -> list[tuple[int, str]]:
    """Numbers in order of size."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _combinations(
    sweep: Sweep,
    configs: Mapping[str, Mapping[str, Any]],
    runs: Mapping[str, Mapping[str, Any]],
    failed: Mapping[str, str],
) -> list[dict[str, Any]]:
    """A row for each combination of values: what its finished runs came to, and which failed."""
    members: dict[str, list[str]] = {}
    for name in configs:
        members.setdefault(label_of(configs[name], sweep.keys), []).append(name)
    rows = []
    for label, names in members.items():
        finished = [name for name in names if name in runs]
        rows.append(
            {
                "label": label,
                "settings": {key: value_at(configs[names[0]], key) for key in sweep.keys},
                "runs": finished,
                "failed": [name for name in names if name in failed],
                "summary": summaries([runs[name] for name in finished]),
            }
        )
    return rows
