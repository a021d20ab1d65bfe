"""A network as an ONNX model."""

from __future__ import annotations

from typing import get_args

import onnx
import onnx_ir

from snndeploy import __version__
from snndeploy.errors import ConfigError, TargetError
from snndeploy.export.onnx.metadata import Form, describe
from snndeploy.export.onnx.nodes import DOMAIN, OPSET, Dim
from snndeploy.export.onnx.ops import lif_function
from snndeploy.export.onnx.sequence import sequence_body
from snndeploy.export.onnx.step import step_body
from snndeploy.ir import Network, require_folded

IR_VERSION = 10  # the newest that ONNX Runtime 1.23 reads
LONGEST_SEQUENCE = 1024  # steps; unrolled graphs beyond take runtimes minutes to load
_LARGEST_BYTES = 2**31 - 2**20  # a protobuf message must stay below 2 GiB; the rest is for the nodes


def lower(
    network: Network, form: Form, *, batch: int | None = None, fingerprint: str = ""
) -> onnx.ModelProto:
    """A network as an ONNX model, in one of two forms.

    `step`: one time step. Inputs `x` (batch, *shape), `state_in.<lif>.v` and `state_in.<population>.y<k>`
    (its output k steps ago), all zero at first; outputs `logits` (batch, classes), what enters the Output at
    this one step, and `state_out.*` in the order of the inputs.

    `sequence`: all of the network's steps, without control flow. Input `x` (steps, batch, *shape); outputs
    `logits` (batch, classes), the mean over the readout window, and `readout_sum`, the sum over it, added
    step by step.

    Every Lif is a call of the local function `snndeploy::LIF`. Initialisers have the names of the network's
    parameters. `metadata_props` describes form, states, neurons and input under `snndeploy.*`.

    Args:
        network: A folded network.
        form: "step" or "sequence".
        batch: Samples at a time; None for any number.
        fingerprint: SHA-256 of the network file to be named in the metadata; empty for none.

    Raises:
        NetworkError: The network is not folded.
        ConfigError: There is no such form, or no such batch.
        TargetError: The network is too large, or its sequence too long, for this form.
    """
    require_folded(network.graph, "ONNX")
    _check(network, form, batch)
    samples: Dim = "batch" if batch is None else batch
    body = step_body(network, samples) if form == "step" else sequence_body(network, samples)
    graph = onnx_ir.Graph(
        body.inputs,
        body.outputs,
        nodes=body.nodes.nodes,
        initializers=list(body.nodes.initializers.values()),
        opset_imports={"": OPSET, DOMAIN: 1},
        name=form,
    )
    model = onnx_ir.Model(
        graph,
        ir_version=IR_VERSION,
        producer_name="snndeploy",
        producer_version=__version__,
        functions=[lif_function()] if body.spikes else [],
        metadata_props=describe(network, form, body, fingerprint),
    )
    return onnx_ir.to_proto(model)


def _check(network: Network, form: Form, batch: int | None) -> None:
    if form not in get_args(Form):
        raise ConfigError(
            f"ONNX form {form!r}", "is not known", remedy=f"choose one of {', '.join(get_args(Form))}"
        )
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise ConfigError("batch", "must be a whole number of at least 1, or None for any", got=repr(batch))
    if form == "sequence" and network.steps > LONGEST_SEQUENCE:
        raise TargetError(
            "ONNX sequence form",
            f"is unrolled over time and so holds at most {LONGEST_SEQUENCE} steps",
            got=network.steps,
            remedy="export the step form",
        )
    size = sum(array.nbytes for array in network.weights.values())
    if size > _LARGEST_BYTES:
        raise TargetError("weights", f"must fit into {_LARGEST_BYTES} bytes of one ONNX file", got=size)
