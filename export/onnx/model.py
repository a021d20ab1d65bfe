"""A network as an ONNX model."""

from __future__ import annotations

import math
from typing import get_args

import onnx
import onnx_ir
from onnx_ir.passes.common import InlinePass
from typing_extensions import assert_never

from snndeploy import __version__
from snndeploy.errors import ConfigError, TargetError
from snndeploy.export.onnx.external import initializers
from snndeploy.export.onnx.metadata import Body, Form, describe
from snndeploy.export.onnx.neurons import functions
from snndeploy.export.onnx.nodes import DOMAIN, OPSET, Dim
from snndeploy.export.onnx.numbers import Arithmetic, numbers
from snndeploy.export.onnx.scan import scan_body
from snndeploy.export.onnx.sequence import sequence_body
from snndeploy.export.onnx.states import states
from snndeploy.export.onnx.step import step_body
from snndeploy.ir import Network, require_folded

IR_VERSION = 10  # the newest that ONNX Runtime 1.23 reads
LONGEST_SEQUENCE = 1024  # steps; unrolled graphs beyond take runtimes minutes to load
LARGEST_BATCH = 2**31 - 1
LARGEST_BYTES = 2**31 - 2**20  # a protobuf message must stay below 2 GiB; the rest is for the nodes


def lower(
    network: Network,
    form: Form,
    *,
    arithmetic: Arithmetic = "float32",
    batch: int | None = None,
    debug: bool = False,
    inline_functions: bool = False,
    fingerprint: str = "",
    bounded: bool = True,
) -> onnx.ModelProto:
    """A network as an ONNX model, in one of three forms.

    `step`: one time step. Inputs `x` (batch, *shape), `state_in.<lif>.v` and `state_in.<population>.y<k>`
    (its output k steps ago), all zero at first; outputs `logits` (batch, classes), what enters the Output at
    this one step, and `state_out.*` in the order of the inputs.

    `sequence`: all of the network's steps, without control flow. Input `x`, (batch, *shape) for images and
    (steps, batch, *shape) for frames; outputs `logits` (batch, classes), the mean over the readout window,
    and `readout_sum`, the sum over it.

    `scan`: any number of steps, given by `x` (time, batch, *shape) for frames and for images by the int64
    `steps`, which is the network's own unless given. `state_in.*` are zero unless given. Outputs `logits` and
    `readout_sum` over the last steps of the readout window (all steps if they are fewer), `logits_by_step`
    (time, batch, classes) and `state_out.*`. Chunks that hand on their states give what one run gives.

    Initialisers have the names of the network's parameters. `metadata_props` describes form, states, neurons
    and input under `snndeploy.*`.

    Args:
        network: A folded network.
        form: "step", "sequence" or "scan".
        arithmetic: "float32"; "integer", equal to it bit by bit, for networks whose certificate of exactness
            holds; or "float16" weights and spikes, which promises no equality. Interfaces are float32 in all,
            but for membranes of the loihi format, which are int32.
        batch: Samples at a time; None for any number.
        debug: Further outputs `<lif>.spikes` and `<lif>.u`, the membrane potential before the reset, of every
            Lif: (batch, *shape) in the step form, else (time, batch, *shape).
        inline_functions: Every Lif as plain nodes, for runtimes without functions; otherwise it is a call of
            the local function `snndeploy::LIF`, in the loihi format `snndeploy::LoihiLIF`.
        fingerprint: SHA-256 of the network file to be named in the metadata; empty for none.
        bounded: Refuse a model that can only be stored with its weights in another file.

    Raises:
        NetworkError: The network is not folded.
        ConfigError: There is no such form, arithmetic or batch.
        TargetError: The network is too large, its sequence too long, or its numbers do not suit the
            arithmetic.
    """
    require_folded(network.graph, "ONNX")
    _check(network, form, batch)
    body = _body(network, form, arithmetic, "batch" if batch is None else batch, debug=debug)
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
        functions=functions(network.graph, body.nodes.numbers),
        metadata_props=describe(network, form, body, fingerprint),
    )
    if inline_functions:
        InlinePass()(model)
        graph.opset_imports.pop(DOMAIN)
    proto = onnx_ir.to_proto(model)
    size = sum(len(tensor.raw_data) for tensor in initializers(proto.graph))
    if bounded and size > LARGEST_BYTES:
        raise TargetError(
            "weights and states",
            f"must fit into {LARGEST_BYTES} bytes of one ONNX file",
            got=size,
            remedy="export with external data",
        )
    return proto


def _body(network: Network, form: Form, arithmetic: Arithmetic, batch: Dim, *, debug: bool) -> Body:
    chosen = numbers(network, arithmetic)
    match form:
        case "step":
            return step_body(network, chosen, batch, debug=debug)
        case "sequence":
            return sequence_body(network, chosen, batch, debug=debug)
        case "scan":
            return scan_body(network, chosen, batch, debug=debug)
        case _:
            assert_never(form)


def _check(network: Network, form: Form, batch: int | None) -> None:
    if form not in get_args(Form):
        raise ConfigError(
            f"ONNX form {form!r}", "is not known", remedy=f"choose one of {', '.join(get_args(Form))}"
        )
    whole = isinstance(batch, int) and not isinstance(batch, bool)
    if batch is not None and not (whole and 1 <= batch <= LARGEST_BATCH):
        raise ConfigError(
            "batch", f"must be a whole number in [1, {LARGEST_BATCH}], or None for any", got=repr(batch)
        )
    size = (batch or 1) * sum(4 * math.prod(state.shape) for state in states(network.graph))
    if form == "scan" and size > LARGEST_BYTES:
        raise TargetError(
            "ONNX scan form",
            f"holds initial states of at most {LARGEST_BYTES} bytes",
            got=size,
            remedy="fix a smaller batch, or none",
        )
    if form == "sequence" and network.steps > LONGEST_SEQUENCE:
        raise TargetError(
            "ONNX sequence form",
            f"is unrolled over time and so holds at most {LONGEST_SEQUENCE} steps",
            got=network.steps,
            remedy="export the scan or the step form",
        )
