"""One bundle as a network of Lava processes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg

if TYPE_CHECKING:
    from snndeploy.targets.lava.child.failure import ending_all, watching_children
    from snndeploy.targets.lava.child.layers import Layer, Neurons, Readout, Source
    from snndeploy.targets.lava.child.processes.population import Clock, Messages, Population, model
    from snndeploy.targets.lava.child.synapses import Synapses
else:  # run as a script, this folder is on the path and snndeploy is not
    from failure import ending_all, watching_children
    from layers import Layer, Neurons, Readout, Source
    from processes.population import Clock, Messages, Population, model
    from synapses import Synapses

# Messages that a channel can hold. Populations run in step, so that few ever wait; Lava's default of 64 would
# fill the 64 MB of shared memory that a container usually has.
CHANNEL_SIZE = 4


def run_bundle(job: Mapping[str, Any], request: Mapping[str, Any]) -> None:
    """Runs the samples of a job through its bundle and writes the results into the job's folder.

    Args:
        job: `bundle` (folder), `samples` (.npy), `count` and `results` (folder).
        request: `error` and `progress` (files), and whether `potentials` are asked for.
    """
    begin = time.perf_counter()
    manifest = json.loads(Path(job["bundle"], "manifest.json").read_text(encoding="utf-8"))
    processes = {
        population["name"]: _process(index, population, manifest, job, request)
        for index, population in enumerate(manifest["populations"])
    }
    for population in manifest["populations"]:
        for index, arrival in enumerate(population["arrivals"]):
            target = getattr(processes[population["name"]], f"arrival_{index}")
            processes[arrival["source"]].out.connect(target)
    steps = _machine_steps(manifest, job["count"])
    # Naming the model of every process keeps Lava from searching, and executing, folders for one.
    configuration = Loihi2SimCfg(exception_proc_model_map={p: model(p) for p in processes.values()})
    first = next(iter(processes.values()))
    with watching_children(request["error"]):
        first.run(RunSteps(num_steps=steps), configuration, {"pypy_channel_size": CHANNEL_SIZE})
    # multiprocessing terminates its manager of shared memory if it is slow to end
    with watching_children(request["error"], allowed={signal.SIGTERM}):
        first.stop()
    done = {"machine_steps": steps, "seconds": time.perf_counter() - begin}
    Path(job["results"], "done.json").write_text(json.dumps(done), encoding="utf-8")


def _machine_steps(manifest: Mapping[str, Any], samples: int) -> int:
    """Machine steps from the first input of a stream of samples to the logits of the last."""
    interval = manifest["schedule"]["initiation_interval"]
    period = manifest["steps"] + manifest["schedule"]["gap"]
    latest = max(population["start"] for population in manifest["populations"])
    last: int = ((samples - 1) * period + manifest["steps"] - 1) * interval + latest
    return last + 1


def _process(
    index: int,
    population: Mapping[str, Any],
    manifest: Mapping[str, Any],
    job: Mapping[str, Any],
    request: Mapping[str, Any],
) -> Population:
    kinds = {p["name"]: p["type"] for p in manifest["populations"]}
    kind = population["type"]
    return Population(
        name=population["name"],
        clock=Clock(
            start=population["start"],
            interval=manifest["schedule"]["initiation_interval"],
            steps=manifest["steps"],
            period=manifest["steps"] + manifest["schedule"]["gap"],
            samples=job["count"],
        ),
        arrivals=[
            Messages(tuple(a["shape"]), _dtype(kinds[a["source"]]), a["wait"]) for a in population["arrivals"]
        ],
        sends=None if kind == "Output" else Messages(tuple(population["shape"]), _dtype(kind)),
        make_layer=partial(_layer, index, population, manifest, job, request),
        guard=partial(ending_all, request["error"]),
    )


def _dtype(kind: str) -> type:
    return np.float32 if kind == "Input" else np.bool_


def _layer(
    index: int,
    population: Mapping[str, Any],
    manifest: Mapping[str, Any],
    job: Mapping[str, Any],
    request: Mapping[str, Any],
) -> Layer:
    """The computation of one population; its files are numbered, as names are the user's."""
    if population["type"] == "Input":
        return Source(job["samples"], population["shape"])
    with np.load(
        Path(job["bundle"], "weights.npz"), allow_pickle=False
    ) as weights:  # loads what is asked for
        synapses = Synapses(population, weights)
    results, steps = Path(job["results"]), manifest["steps"]
    if population["type"] == "Lif":
        potentials = str(results / f"{index}.potentials.npy") if request["potentials"] else None
        return Neurons(
            synapses,
            population["shape"],
            population["tau"],
            population["threshold"],
            rows=job["count"] * steps,
            steps=steps,
            spikes_path=str(results / f"{index}.spikes.npy"),
            potentials_path=potentials,
        )
    return Readout(
        synapses,
        population["shape"][0],
        samples=job["count"],
        readout=manifest["readout"],
        steps=steps,
        sums_path=str(results / "readout.npy"),
        progress_path=request["progress"],
    )
