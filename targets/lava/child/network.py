"""A fused bundle as a network of Lava processes, one for each population."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lava.magma.core.run_configs import Loihi2SimCfg

if TYPE_CHECKING:
    from snndeploy.targets.lava.child.execution import execute, machine_steps
    from snndeploy.targets.lava.child.failure import ending_all
    from snndeploy.targets.lava.child.layers import Layer, Neurons, Readout, Source
    from snndeploy.targets.lava.child.membranes import RealMembranes, WholeMembranes
    from snndeploy.targets.lava.child.processes.population import Clock, Messages, Population, model
    from snndeploy.targets.lava.child.synapses import Synapses
else:  # run as a script, this folder is on the path and snndeploy is not
    from execution import execute, machine_steps
    from failure import ending_all
    from layers import Layer, Neurons, Readout, Source
    from membranes import RealMembranes, WholeMembranes
    from processes.population import Clock, Messages, Population, model
    from synapses import Synapses


def run(job: Mapping[str, Any], manifest: Mapping[str, Any], request: Mapping[str, Any]) -> None:
    """Runs the samples of a job through its bundle and writes the results into the job's folder.

    Args:
        job: `bundle` (folder), `samples` (.npy), `count` and `results` (folder).
        manifest: Of the bundle.
        request: `error` and `progress` (files), and whether `potentials` are asked for.
    """
    processes = {
        population["name"]: _process(index, population, manifest, job, request)
        for index, population in enumerate(manifest["populations"])
    }
    for population in manifest["populations"]:
        for index, arrival in enumerate(population["arrivals"]):
            target = getattr(processes[population["name"]], f"arrival_{index}")
            processes[arrival["source"]].out.connect(target)
    # Naming the model of every process keeps Lava from searching, and executing, folders for one.
    configuration = Loihi2SimCfg(exception_proc_model_map={p: model(p) for p in processes.values()})
    first = next(iter(processes.values()))
    execute(first, configuration, machine_steps(manifest, job["count"]), job, request)


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
        arrivals=[_messages(a, kinds[a["source"]], manifest["schedule"]) for a in population["arrivals"]],
        sends=None if kind == "Output" else Messages(tuple(population["shape"]), _dtype(kind)),
        make_layer=partial(_layer, index, population, manifest, job, request),
        guard=partial(ending_all, request["error"]),
    )


def _messages(arrival: Mapping[str, Any], kind: str, schedule: Mapping[str, Any]) -> Messages:
    """What one port receives; where synapses cost no machine step, a delay of d steps is one of d updates."""
    at_once = schedule["name"] == "synchronous" and arrival["delay"] == 0
    held = max(arrival["delay"] - 1, 0) if schedule["name"] == "synchronous" else arrival["wait"]
    return Messages(tuple(arrival["shape"]), _dtype(kind), held, at_once)


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
    whole = "registers" in population  # with all biases of the population
    with np.load(Path(job["bundle"], "weights.npz"), allow_pickle=False) as weights:
        synapses = Synapses(population, weights, biases=not whole)  # loads what is asked for
    results, steps = Path(job["results"]), manifest["steps"]
    if population["type"] == "Lif":
        shape = population["shape"]
        return Neurons(
            synapses,
            WholeMembranes(population["registers"], shape)
            if whole
            else RealMembranes(population["tau"], population["threshold"], shape),
            math.prod(shape),
            rows=job["count"] * steps,
            steps=steps,
            spikes_path=str(results / f"{index}.spikes.npy"),
            potentials_path=str(results / f"{index}.potentials.npy") if request["potentials"] else None,
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
