"""What the manifest of a bundle says of its network, schedule and populations."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any, Literal, TypeAlias

from typing_extensions import assert_never

import snndeploy
from snndeploy import ir
from snndeploy.errors import NetworkError
from snndeploy.ir import timing
from snndeploy.ir.document import input_to_json
from snndeploy.ir.neurons import Registers, registers
from snndeploy.ir.verify import is_certified

FORMAT = "snndeploy-lava-bundle"
VERSION = 2
MANIFEST = "manifest.json"

Form: TypeAlias = Literal["fused", "stock"]


def checksum(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest without its own `checksum`, as compact JSON with sorted keys."""
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def describe(
    network: ir.Network, schedule: timing.Schedule, form: Form, samples: int, fingerprint: str
) -> dict[str, Any]:
    """The manifest as JSON values, without the hashes.

    Args:
        network: A folded network; certified if it is in the loihi format.
        schedule: When its populations update.
        form: Which Lava processes the bundle is for.
        samples: Number of samples in the bundle.
        fingerprint: Identifies the network file.
    """
    programmed = registers(network) if isinstance(network.format, ir.Loihi) else {}
    return {
        "format": FORMAT,
        "version": VERSION,
        "writer": f"snndeploy {snndeploy.__version__}",
        "fingerprint": fingerprint,
        "form": form,
        "number_format": network.format.name,
        "exact": is_certified(network),
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
        "populations": [
            _population(network, name, schedule) | _registers(programmed.get(name))
            for name in ir.populations(network.graph)
        ],
    }


def _population(network: ir.Network, name: str, schedule: timing.Schedule) -> dict[str, Any]:
    """One population: when it updates, what arrives, and the ops that turn arrivals into its input."""
    graph = network.graph
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
                **_exponents(network, step),
                "sources": _sources(graph, step),
            }
            for step in ir.upstream(graph, name)
        ],
        "sources": _sources(graph, name),
    }


def _registers(programmed: Registers | None) -> dict[str, Any]:
    """What the neurons of a Lif in the loihi format are programmed with, one entry per channel."""
    if programmed is None:
        return {}
    values = {
        "grid_bits": programmed.grid_bits.tolist(),
        "threshold": programmed.threshold.tolist(),
        "decay": programmed.decay,
        "bias_mantissa": programmed.bias_mantissa.tolist(),
        "bias_exponent": programmed.bias_exponent.tolist(),
    }
    return {"registers": values}


def _exponents(network: ir.Network, name: str) -> dict[str, Any]:
    """K of each output channel of an op's parameters, whose values are whole multiples of 2**-k."""
    if isinstance(network.format, ir.Float32):
        return {}
    exponents = network.format.exponents
    found = {p: list(exponents[f"{name}.{p}"]) for p in ("weight", "bias") if f"{name}.{p}" in exponents}
    return {"exponents": found} if found else {}


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
