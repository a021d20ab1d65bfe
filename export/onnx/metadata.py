"""What an ONNX file says about itself: its form, its states, its neurons, how raw data becomes input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import onnx_ir

from snndeploy.export.onnx.nodes import Nodes
from snndeploy.export.onnx.numbers import Numbers
from snndeploy.export.onnx.states import State, in_place
from snndeploy.ir import Float32, Lif, Network, backward_connections, certify
from snndeploy.ir.document import input_to_json

FORMAT_VERSION = 2
PREFIX = "snndeploy."

Form: TypeAlias = Literal["step", "sequence", "scan"]


@dataclass(frozen=True, eq=False)
class Body:
    """A network in one of the forms, before it is made a model.

    spikes: For each Lif the names of the values (batch, *shape) that hold its spikes, in the order of time,
        or the name of the one value (time, batch, *shape) that does.
    """

    nodes: Nodes
    inputs: tuple[onnx_ir.Value, ...]
    outputs: tuple[onnx_ir.Value, ...]
    spikes: Mapping[str, tuple[str, ...] | str]
    states: tuple[State, ...] = field(default=())


def describe(network: Network, form: Form, body: Body, fingerprint: str) -> dict[str, str]:
    """The model's `metadata_props`; everything but plain numbers and names is JSON.

    Shapes have -1 for the batch.
    """
    states = [
        {
            "in": state.input,
            "out": state.output,
            "op": state.op,
            "kind": "delayed" if state.delay else "membrane",
            "delay": state.delay,
            "shape": [-1, *state.shape],
            "dtype": body.nodes.numbers.state(state.delay).numpy().name,
            "init": 0.0,
            "in_place": in_place(body.nodes.nodes, state),
            **_unit(body.nodes.numbers, state),
        }
        for state in body.states
    ]
    entries = {
        "format_version": str(FORMAT_VERSION),
        "form": form,
        "arithmetic": body.nodes.numbers.arithmetic,
        "steps": str(network.steps),
        "readout": str(network.readout),
        "states": _json(states),
        "neurons": _json([_neuron(network, name, spikes) for name, spikes in body.spikes.items()]),
        "backward": _json(
            [
                {"source": c.source, "target": c.target, "delay": c.delay}
                for c in backward_connections(network.graph)
            ]
        ),
        "input": _json(input_to_json(network.input)),
        "classes": _json(list(network.classes)),
        "number_format": network.format.name,
        "certificate": _json(_certificate(network)),
    }
    if fingerprint:
        entries["network_sha256"] = fingerprint
    return {PREFIX + key: text for key, text in entries.items()}


def _unit(numbers: Numbers, state: State) -> dict[str, object]:
    """What 1 stands for in a membrane of whole numbers, for each channel or for all."""
    if state.delay or state.op not in numbers.units:
        return {}
    units = numbers.units[state.op].ravel().tolist()
    return {"unit": units[0] if len(set(units)) == 1 else units}


def _certificate(network: Network) -> dict[str, object] | None:
    """Whether exactness is proven, and the op that leaves the fewest binary digits; None in float32."""
    if isinstance(network.format, Float32):
        return None
    certificate = certify(network)
    tightest = min(certificate.rows, key=lambda row: (row.certified, row.bits_left), default=None)
    return {
        "holds": certificate.holds,
        "op": tightest and tightest.op,
        "bits_left": tightest and round(tightest.bits_left, 3),
        "reason": tightest.reason if tightest else "",
    }


def _neuron(network: Network, name: str, spikes: tuple[str, ...] | str) -> dict[str, object]:
    op = network.graph.ops[name]
    if not isinstance(op, Lif):
        raise TypeError(name)
    return {
        "name": name,
        "tau": op.tau,
        "threshold": op.threshold,
        "shape": [-1, *network.graph.shapes[name]],
        "spikes": spikes if isinstance(spikes, str) else list(spikes),
    }


def _json(document: object) -> str:
    return json.dumps(document, separators=(",", ":"), allow_nan=False)
