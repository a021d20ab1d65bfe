"""Starts, runs and stops a network of Lava processes, and ends it all if one of them fails."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lava.magma.core.run_conditions import RunSteps

if TYPE_CHECKING:
    from snndeploy.targets.lava.child.failure import watching_children
else:  # run as a script, this folder is on the path and snndeploy is not
    from failure import watching_children

# Messages that a channel can hold. Populations run in step, so that few ever wait; Lava's default of 64 would
# fill the 64 MB of shared memory that a container usually has.
CHANNEL_SIZE = 4


def execute(
    process: Any, configuration: Any, steps: int, job: Mapping[str, Any], request: Mapping[str, Any]
) -> None:
    """Runs a network for some machine steps, stops it and notes in the job's folder that it is done.

    Args:
        process: Any of its connected Lava processes.
        configuration: Lava's run configuration.
        steps: Machine steps.
        job: `results` is the folder for results.
        request: `error` is the file for exceptions.
    """
    begin = time.perf_counter()
    watching = partial(
        watching_children,
        request["error"],
        exit_codes=lambda: _exit_codes(process),
        last_words=lambda: _exceptions(process),
    )
    with watching(stopping=False):
        process.run(RunSteps(num_steps=steps), configuration, {"pypy_channel_size": CHANNEL_SIZE})
    with watching(stopping=True):
        process.stop()
    done = {"machine_steps": steps, "seconds": time.perf_counter() - begin}
    Path(job["results"], "done.json").write_text(json.dumps(done), encoding="utf-8")


def _exceptions(process: Any) -> str:
    """What Lava's processes raised outside of what is ours; they end in silence, and Lava waits for ever."""
    return "".join(actor.exception[1] for actor in _actors(process) if actor.exception)


def _exit_codes(process: Any) -> list[int | None]:
    """Of Lava's processes, None while they run."""
    return [actor.exitcode for actor in _actors(process)]


def _actors(process: Any) -> list[Any]:
    """Lava's operating system processes that were started so far."""
    infrastructure = getattr(process.runtime, "_messaging_infrastructure", None)
    return list(infrastructure.actors) if infrastructure else []


def machine_steps(manifest: Mapping[str, Any], samples: int) -> int:
    """Machine steps from the first input of a stream of samples to the last update of all."""
    interval = manifest["schedule"]["initiation_interval"]
    period = manifest["steps"] + manifest["schedule"]["gap"]
    latest = max(population["start"] for population in manifest["populations"])
    last: int = ((samples - 1) * period + manifest["steps"] - 1) * interval + latest
    return last + 1
