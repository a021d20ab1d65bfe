"""What an ONNX file says about itself: its form, its states, its neurons, how raw data becomes input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import onnx_ir

from snndeploy.export.onnx.nodes import Nodes
from snndeploy.ir import Lif, Network, Shape, backward_connections
from snndeploy.ir.document import input_to_json

FORMAT_VERSION = 1
PREFIX = "snndeploy."

Form: TypeAlias = Literal["step", "sequence"]


@dataclass(frozen=True, slots=True)
class State:
    """What the step form hands from one call to the next: zero before the first.

    op: The op it belongs to.
    shape: Without batch.
    delay: The op's output that many steps ago; 0 for its membrane potential after the reset.
    """

    op: str
    shape: Shape
    delay: int = 0

    @property
    def input(self) -> str:
        """Name of the graph input."""
        return f"state_in.{self._name}"

    @property
    def output(self) -> str:
        """Name of the graph output."""
        return f"state_out.{self._name}"

    @property
    def _name(self) -> str:
        return f"{self.op}.y{self.delay}" if self.delay else f"{self.op}.v"


@dataclass(frozen=True, eq=False)
class Body:
    """A network in one of the forms, before it is made a model.

    spikes: For each Lif the names of the values that hold its spikes, in the order of time; one in the step
        form.
    """

    nodes: Nodes
    inputs: tuple[onnx_ir.Value, ...]
    outputs: tuple[onnx_ir.Value, ...]
    spikes: Mapping[str, tuple[str, ...]]
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
            "shape": [-1, *state.shape],
            "dtype": "float32",
            "init": 0.0,
        }
        for state in body.states
    ]
    entries = {
        "format_version": str(FORMAT_VERSION),
        "form": form,
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
    }
    if fingerprint:
        entries["network_sha256"] = fingerprint
    return {PREFIX + key: text for key, text in entries.items()}


def _neuron(network: Network, name: str, spikes: tuple[str, ...]) -> dict[str, object]:
    op = network.graph.ops[name]
    if not isinstance(op, Lif):
        raise TypeError(name)
    return {
        "name": name,
        "tau": op.tau,
        "threshold": op.threshold,
        "shape": [-1, *network.graph.shapes[name]],
        "spikes": list(spikes),
    }


def _json(document: object) -> str:
    return json.dumps(document, separators=(",", ":"), allow_nan=False)
