"""Writes a network as a Lava bundle: a self-contained folder that a Lava process without snndeploy can run.

A bundle holds `manifest.json` (schedule, number format, and for every population the ops that lead into it),
`weights.npz`, `samples.npy` (prepared inputs, batch first) and `expected.npz` (what the reference interpreter
does on them). The manifest names the SHA-256 of every file and carries a checksum of itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_never

import snndeploy
from snndeploy import ir
from snndeploy.errors import FileFormatError, NetworkError, TimingError
from snndeploy.ir import timing
from snndeploy.ir.document import input_to_json

FORMAT = "snndeploy-lava-bundle"
VERSION = 1
MANIFEST = "manifest.json"


def export(
    network: ir.Network,
    path: str | os.PathLike[str],
    samples: npt.NDArray[Any],
    *,
    schedule: timing.Schedule | None = None,
    fingerprint: str = "",
) -> Path:
    """Writes the bundle of a network. A bundle that stands at `path` is replaced.

    The `exact` number format promises equal spikes on Lava if its certificate holds. Any other network is
    written too, marked as not exact: its sums may round differently there.

    Args:
        network: A folded network.
        path: Folder to write.
        samples: Prepared input as `ir.run` takes it: (batch, *shape) for images or (time, batch, *shape).
        schedule: When each population updates; the smallest initiation interval if None.
        fingerprint: Identifies the network file the bundle was made from.

    Returns:
        The folder.

    Raises:
        NetworkError: The network is not folded, or the samples do not fit it.
        TimingError: The schedule is not one of this graph's populations and synapses.
        FileFormatError: Something that is no bundle stands at `path` and stays untouched, or the folder
            cannot be written.
    """
    ir.require_folded(network.graph, "Lava")
    schedule = schedule or timing.schedule(network.graph)
    _check_schedule(network.graph, schedule)
    inputs = _batch_first(network, samples)
    arrays: dict[str, Any] = {
        "weights.npz": dict(network.weights),
        "samples.npy": inputs,
        "expected.npz": _expected(ir.run(network, samples)),
    }
    path = Path(path)
    try:
        with _replacing(path) as folder:
            for name, content in arrays.items():
                _save(folder / name, content)
            manifest = _manifest(network, schedule, len(inputs), fingerprint)
            manifest["files"] = {
                name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in arrays
            }
            manifest["checksum"] = checksum(manifest)
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise FileFormatError(
            str(path),
            "cannot be written",
            got=error.strerror,
            remedy="choose a path in a folder that exists and is writable",
        ) from error
    return path


def checksum(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest without its own `checksum`, as compact JSON with sorted keys."""
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _check_schedule(graph: ir.Graph, schedule: timing.Schedule) -> None:
    if set(schedule.start) != set(ir.populations(graph)):
        raise TimingError("schedule", "must give a start for exactly the graph's populations")
    if not set(schedule.waits) <= set(ir.synapses(graph)):
        raise TimingError("schedule", "waits for a synapse that the graph does not have")
    if schedule.initiation_interval < 1 or min(schedule.start.values()) < 0:
        raise TimingError("schedule", "needs an initiation interval of at least 1 and starts of at least 0")


def _batch_first(network: ir.Network, samples: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Samples as (batch, *shape) if one image stands for all steps, else (batch, time, *shape)."""
    steps = ir.as_steps(network, samples)
    if steps.shape[1] == 0:
        raise NetworkError("samples", "a bundle needs at least one")
    if np.ndim(samples) == steps.ndim - 1:
        return np.ascontiguousarray(steps[0])
    return np.ascontiguousarray(np.moveaxis(steps, 0, 1))


def _expected(trace: ir.Trace) -> dict[str, npt.NDArray[Any]]:
    """Spikes of each Lif as one bit-packed row per sample and step, and the readout sums."""
    packed = {
        f"spikes/{name}": np.packbits(
            np.moveaxis(spikes, 0, 1).reshape(spikes.shape[0] * spikes.shape[1], -1), axis=1
        )
        for name, spikes in trace.spikes.items()
    }
    return {**packed, "readout_sum": trace.readout_sum}


def _save(path: Path, content: Any) -> None:
    if isinstance(content, dict):
        np.savez(path, **content)
    else:
        np.save(path, content, allow_pickle=False)


def _manifest(
    network: ir.Network, schedule: timing.Schedule, samples: int, fingerprint: str
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "writer": f"snndeploy {snndeploy.__version__}",
        "fingerprint": fingerprint,
        "number_format": network.format.name,
        "exact": isinstance(network.format, ir.Exact) and ir.certify(network).holds,
        "steps": network.steps,
        "readout": network.readout,
        "classes": list(network.classes),
        "input": input_to_json(network.input),
        "samples": samples,
        "schedule": {
            "name": schedule.name,
            "initiation_interval": schedule.initiation_interval,
            "gap": schedule.gap,
            "machine_steps": schedule.machine_steps(network.steps),
            "machine_steps_per_sample": schedule.machine_steps_per_sample(network.steps),
        },
        "populations": [_population(network.graph, name, schedule) for name in ir.populations(network.graph)],
    }


def _population(graph: ir.Graph, name: str, schedule: timing.Schedule) -> dict[str, Any]:
    """One population: when it updates, what arrives, and the ops that turn arrivals into its input."""
    op = graph.ops[name]
    constants = {"tau": op.tau, "threshold": op.threshold} if isinstance(op, ir.Lif) else {}
    return {
        "name": name,
        "type": type(op).__name__,
        "shape": list(graph.shapes[name]),
        **constants,
        "start": schedule.start[name],
        "arrivals": [
            {
                "source": source,
                "delay": delay,
                "wait": schedule.waits.get(ir.Synapse(source, name, delay), 0),
                "shape": list(graph.shapes[source]),
            }
            for source, delay in ir.arrivals(graph, name)
        ],
        "program": [
            {
                "name": step,
                "type": type(graph.ops[step]).__name__,
                **_parameters(graph.ops[step]),
                "sources": _sources(graph, step),
            }
            for step in ir.upstream(graph, name)
        ],
        "sources": _sources(graph, name),
    }


def _sources(graph: ir.Graph, name: str) -> list[dict[str, Any]]:
    return [{"source": edge.source, "delay": edge.delay} for edge in graph.incoming[name]]


def _parameters(op: ir.Op) -> dict[str, Any]:
    """Constants of an op that is part of a synapse; its arrays are in `weights.npz`."""
    match op:
        case ir.Conv2d() | ir.Linear() | ir.AvgPool2d() | ir.Upsample() | ir.Flatten():
            return dataclasses.asdict(op)
        case ir.Input() | ir.Lif() | ir.Output() | ir.BatchNorm() | ir.Dropout():
            raise NetworkError(type(op).__name__, "is no part of a synapse")
        case _:
            assert_never(op)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A new folder beside `path` that takes its place if the body succeeds, and otherwise leaves no trace."""
    _require_replaceable(path)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
        fresh, previous = Path(temporary, "fresh"), Path(temporary, "previous")
        fresh.mkdir()
        yield fresh
        if not path.exists():
            fresh.replace(path)
            return
        path.replace(previous)
        try:
            fresh.replace(path)
        except BaseException:
            previous.replace(path)
            raise


def _require_replaceable(path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        return
    try:
        found = json.loads((path / MANIFEST).read_bytes())["format"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found != FORMAT or path.is_symlink():
        raise FileFormatError(
            str(path), "exists and is not a Lava bundle", remedy="choose another path, or remove it yourself"
        )
