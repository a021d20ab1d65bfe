"""Simulates bundles with Lava in a separate Python process and reads back what every neuron did."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy import ir
from snndeploy.errors import TargetError
from snndeploy.targets.lava.bundle import Bundle, read, trace, unpack_spikes
from snndeploy.targets.lava.interpreter import Interpreter, find_interpreter
from snndeploy.targets.lava.process import Ended, run_group

_SCRIPT = Path(__file__).resolve().parent / "child" / "simulate.py"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps it
# There is a process for each population already.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True, eq=False)
class Simulation:
    """What Lava computed for one bundle.

    trace: Spikes, readout sums, logits and, if asked for, membrane potentials, as `ir.run` gives them. Lava's own
        processes do not show a potential before the reset, so that a stock bundle gives none.
    machine_steps: Machine steps from the first input to the logits of the last sample.
    seconds: Wall-clock time on this computer, the start of the Lava processes included.
    rests: Membrane potentials after the reset, (time, batch, *shape), by name, of a stock bundle if asked for.
    """

    trace: ir.Trace
    machine_steps: int
    seconds: float
    rests: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)


def simulate(
    bundles: Sequence[str | os.PathLike[str]],
    *,
    samples: npt.NDArray[Any] | None = None,
    count: int | None = None,
    potentials: bool = False,
    time_limit_seconds: float = 600.0,
    interpreter: Interpreter | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Simulation]:
    """Runs bundles one after the other in one child process, samples back to back.

    No process and no file is left behind, however the call ends.

    Args:
        bundles: Folders that `snndeploy.export.lava` wrote.
        samples: Prepared input for every bundle as `ir.run` takes it: (batch, *shape) for images or
            (time, batch, *shape); each bundle's own samples if None.
        count: Only the first so many samples.
        potentials: Also record membrane potentials (four bytes per neuron, sample and step).
        time_limit_seconds: Wall-clock time for everything.
        interpreter: Python with Lava; `find_interpreter()` if None.
        progress: Called with the number of samples done and to do, over all bundles.

    Returns:
        One simulation for each bundle.

    Raises:
        FileFormatError: A bundle is damaged, of another version, or none.
        NetworkError: Samples lie off the grid or out of the range that the number format relies on.
        TargetError: No interpreter, samples that do not fit, a failed simulation, or the time limit passed.
    """
    checked = [read(path) for path in bundles]
    interpreter = interpreter or find_interpreter()
    with tempfile.TemporaryDirectory(prefix="lava-") as name:
        folder = Path(name)
        jobs = [_job(bundle, folder / str(index), samples, count) for index, bundle in enumerate(checked)]
        _run(interpreter, folder, jobs, potentials, time_limit_seconds, progress)
        return [_simulation(bundle, folder / str(index), potentials) for index, bundle in enumerate(checked)]


def _job(bundle: Bundle, folder: Path, samples: npt.NDArray[Any] | None, count: int | None) -> dict[str, Any]:
    """What the child needs to know of one bundle; `folder` is for its results."""
    folder.mkdir()
    path = bundle.path.resolve() / "samples.npy"
    available = bundle.samples
    if samples is not None:
        path = folder / "samples.npy"
        stored = _batch_first(bundle, samples)
        available = len(stored)
        np.save(path, stored, allow_pickle=False)
    wanted = available if count is None else count
    if not 1 <= wanted <= available:
        raise TargetError(f"bundle {bundle.path}", f"samples to run must be 1 to {available}", got=wanted)
    return {
        "bundle": str(bundle.path.resolve()),
        "samples": str(path),
        "count": wanted,
        "results": str(folder),
    }


def _batch_first(bundle: Bundle, samples: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    x, network, shape = np.asarray(samples, dtype=np.float32), bundle.network, bundle.input_shape
    if not isinstance(network.format, ir.Float32):
        network.input.check(x)
    if network.input.kind == "image" and x.shape[1:] == shape:
        return x
    if x.shape[:1] + x.shape[2:] == (network.steps, *shape):
        return np.moveaxis(x, 1, 0)
    one = f"(batch, {', '.join(map(str, shape))}) or " if network.input.kind == "image" else ""
    raise TargetError(
        f"bundle {bundle.path}",
        f"samples must have shape {one}{(network.steps, 'batch', *shape)}",
        got=x.shape,
    )


def _run(
    interpreter: Interpreter,
    folder: Path,
    jobs: list[dict[str, Any]],
    potentials: bool,
    time_limit_seconds: float,
    progress: Callable[[int, int], None] | None,
) -> None:
    request, done, errors = folder / "request.json", folder / "progress", folder / "error.txt"
    total = sum(job["count"] for job in jobs)
    content = {
        "jobs": jobs,
        "potentials": potentials,
        "progress": str(done),
        "error": str(errors),
        "shared_memory": f"{folder.name}.",
    }
    request.write_text(json.dumps(content), encoding="utf-8")
    done.touch()

    def poll() -> None:
        if progress:
            progress(done.stat().st_size, total)

    environment = {**os.environ, **_ONE_THREAD, "TMPDIR": str(folder)}
    command = [str(interpreter.path), "-I", str(_SCRIPT), str(request)]
    try:
        ended = run_group(
            command,
            environment=environment,
            folder=folder,
            time_limit_seconds=time_limit_seconds,
            poll=poll,
        )
    except OSError as error:
        raise TargetError("Lava", "its interpreter does not start", got=interpreter.path) from error
    finally:
        for left in _SHARED_MEMORY.glob(f"*{folder.name}.*"):  # semaphores have `sem.` before
            left.unlink(missing_ok=True)
    _check(ended, errors, time_limit_seconds)


def _check(ended: Ended, errors: Path, time_limit_seconds: float) -> None:
    """Raises TargetError unless the child did everything."""
    if errors.exists():
        where, *lines = errors.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
        raise TargetError("Lava simulation", "\n".join(["failed:", where, *lines[-20:]]))
    if ended.exit_code is None:
        raise TargetError(
            "Lava simulation",
            f"took longer than the time limit of {time_limit_seconds:g} s",
            got="\n".join(ended.last_lines) or None,
            remedy="allow more time, or run fewer samples",
        )
    if ended.exit_code != 0:
        rule = f"ended with exit code {ended.exit_code}"
        raise TargetError("Lava simulation", "\n".join([rule, *ended.last_lines]))


def _simulation(bundle: Bundle, folder: Path, potentials: bool) -> Simulation:
    """Reads what the child wrote; populations are numbered in the order of execution."""
    network = bundle.network
    numbers = {name: index for index, name in enumerate(ir.populations(network.graph))}

    def load(name: str) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = np.load(folder / name, allow_pickle=False)
        return array

    def by_port(quantity: str) -> dict[str, npt.NDArray[Any]]:
        shapes = network.graph.shapes
        return {
            name: np.moveaxis(
                load(f"{numbers[name]}.{quantity}.npy").reshape(-1, network.steps, *shapes[name]), 0, 1
            )
            for name in network.graph.ports
        }

    try:
        done = json.loads((folder / "done.json").read_bytes())
        spikes = {
            name: unpack_spikes(
                load(f"{numbers[name]}.spikes.npy"), network.steps, network.graph.shapes[name]
            )
            for name in network.graph.ports
        }
        membranes = by_port("potentials") if potentials and bundle.form == "fused" else {}
        rests = by_port("rests") if potentials and bundle.form == "stock" else {}
        results = trace(spikes, load("readout.npy"), network.readout, membranes)
        return Simulation(results, done["machine_steps"], done["seconds"], rests)
    except (OSError, ValueError, KeyError) as error:
        raise TargetError("Lava simulation", "left incomplete results", got=error) from error
