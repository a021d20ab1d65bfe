"""Writes a network as a Lava bundle.

A bundle holds `manifest.json` (schedule, number format, and for every population the ops that lead into it),
`weights.npz`, `samples.npy` (prepared inputs, batch first) and `expected.npz` (what the reference interpreter
does on them). The manifest names the SHA-256 of every file and carries a checksum of itself.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_never

from snndeploy import ir
from snndeploy.errors import FileFormatError, NetworkError, QuantizeError, TimingError
from snndeploy.export.lava.folder import replacing
from snndeploy.export.lava.manifest import MANIFEST, Form, checksum, describe
from snndeploy.export.lava.stock import lower
from snndeploy.ir import timing


def export(
    network: ir.Network,
    path: str | os.PathLike[str],
    samples: npt.NDArray[Any],
    *,
    schedule: timing.Schedule | None = None,
    form: Form = "fused",
    fingerprint: str = "",
) -> Path:
    """Writes the bundle of a network. A bundle that stands at `path` is replaced.

    The `exact` number format promises equal spikes on Lava if its certificate holds; in `loihi` only certified
    networks are written. Any other network is written too, marked as not exact: its sums may round differently.

    Args:
        network: A folded network.
        path: Folder to write.
        samples: Prepared input as `ir.run` takes it: (batch, *shape) for images or (time, batch, *shape).
        schedule: When each population updates; the smallest initiation interval if None.
        form: "fused", a process of ours per population, or "stock", Lava's own processes.
        fingerprint: Identifies the network file the bundle was made from.

    Returns:
        The folder.

    Raises:
        NetworkError: The network is not folded, or the samples do not fit it.
        QuantizeError: The network is in the loihi format, and its certificate does not hold.
        TimingError: The schedule is not one of this graph's populations and synapses.
        TargetError: The network has no stock form.
        FileFormatError: Something that is no bundle stands at `path` and stays untouched, or the folder
            cannot be written.
    """
    ir.require_folded(network.graph, "Lava")
    _require_certified(network)
    schedule = schedule or timing.schedule(network.graph)
    _check_schedule(network.graph, schedule)
    weights: dict[str, npt.NDArray[Any]] = dict(network.weights)
    match form:
        case "fused":
            parts: dict[str, Any] = {}
        case "stock":
            lowered = lower(network, schedule)
            parts = {"stock": lowered.document}
            weights |= lowered.arrays
        case _:
            assert_never(form)
    inputs = _batch_first(network, samples)
    arrays: dict[str, Any] = {
        "weights.npz": weights,
        "samples.npy": inputs,
        "expected.npz": _expected(ir.run(network, samples)),
    }
    path = Path(path)
    try:
        with replacing(path) as folder:
            for name, content in arrays.items():
                _save(folder / name, content)
            document = describe(network, schedule, form, len(inputs), fingerprint) | parts
            document["files"] = {
                name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in arrays
            }
            document["checksum"] = checksum(document)
            (folder / MANIFEST).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise FileFormatError(
            str(path),
            "cannot be written",
            got=error.strerror,
            remedy="choose a path in a folder that exists and is writable",
        ) from error
    return path


def _require_certified(network: ir.Network) -> None:
    """Raises QuantizeError for a network whose neurons Lava's whole numbers could not hold."""
    if not isinstance(network.format, ir.Loihi):
        return
    for row in ir.certify(network).failures:
        raise QuantizeError(
            row.op,
            f"cannot be lowered to Lava in the loihi format, as {row.reason}",
            remedy="quantize the network again, with fewer bits or smaller weights",
        )


def _check_schedule(graph: ir.Graph, schedule: timing.Schedule) -> None:
    if set(schedule.start) != set(ir.populations(graph)):
        raise TimingError("schedule", "must give a start for exactly the graph's populations")
    if not set(schedule.waits) <= set(ir.synapses(graph)):
        raise TimingError("schedule", "waits for a synapse that the graph does not have")
    if schedule.initiation_interval < 1 or min(schedule.start.values()) < 0:
        raise TimingError("schedule", "needs an initiation interval of at least 1 and starts of at least 0")
    if schedule.name == "pipelined" and schedule.initiation_interval != 1:
        raise TimingError("pipelined schedule", "needs an initiation interval of 1")
    if schedule.name == "synchronous" and (
        schedule.initiation_interval != 1 or any(schedule.start.values()) or schedule.waits
    ):
        raise TimingError("synchronous schedule", "needs an interval of 1, starts at 0 and no waits")


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
