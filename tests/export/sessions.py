"""Exported models in ONNX Runtime alone, as somebody without snndeploy would run them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from typing_extensions import assert_never

from snndeploy.export.onnx import Form
from snndeploy.ir import Network, Trace, as_steps

Arrays = dict[str, npt.NDArray[Any]]
_FATAL = 4  # log severity


def session(
    model: onnx.ModelProto | bytes | str,
    level: onnxruntime.GraphOptimizationLevel = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
) -> Any:
    """A session of one thread on the CPU; warnings of inputs with defaults are not printed."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = 1
    options.graph_optimization_level = level
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def table(opened: Any, key: str) -> Any:
    """A JSON table of the model's metadata."""
    return json.loads(opened.get_modelmeta().custom_metadata_map[f"snndeploy.{key}"])


def call(opened: Any, feed: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """All outputs by name."""
    names = [output.name for output in opened.get_outputs()]
    return dict(zip(names, opened.run(names, dict(feed)), strict=True))


def run(
    form: Form,
    model: onnx.ModelProto | bytes,
    network: Network,
    x: npt.NDArray[Any],
    chunks: Sequence[int] = (),
) -> Trace:
    """What a model made with debug outputs does with prepared input of the network; chunks are the scan's."""
    opened = session(model)
    match form:
        case "step":
            return run_step(opened, network, x)
        case "sequence":
            return _trace(network, call(opened, {"x": x}))
        case "scan":
            return run_scan(opened, network, x, chunks)
        case _:
            assert_never(form)


def run_step(opened: Any, network: Network, x: npt.NDArray[Any]) -> Trace:
    """A step model made with debug outputs, step by step from zeros."""
    frames = as_steps(network, x)
    states = {
        s["in"]: np.zeros((frames.shape[1], *s["shape"][1:]), s["dtype"]) for s in table(opened, "states")
    }
    found: list[Arrays] = []
    for frame in frames:
        found.append(call(opened, {"x": frame, **states}))
        states = {s["in"]: found[-1][s["out"]] for s in table(opened, "states")}
    readout_sum = reduce(np.add, [f["logits"] for f in found[-network.readout :]])
    return Trace(
        spikes={lif: np.stack([f[f"{lif}.spikes"] for f in found]) > 0 for lif in network.graph.ports},
        readout_sum=readout_sum,
        logits=readout_sum / np.float32(network.readout),
        potentials={lif: np.stack([f[f"{lif}.u"] for f in found]) for lif in network.graph.ports},
    )


def run_scan(opened: Any, network: Network, x: npt.NDArray[Any], chunks: Sequence[int] = ()) -> Trace:
    """A scan model made with debug outputs, in chunks of so many steps, each from the last one's states."""
    image = network.input.kind == "image"
    states: Arrays = {}
    found: list[Arrays] = []
    start = 0
    for steps in chunks or (network.steps,):
        feed = {"x": x, "steps": np.array(steps)} if image else {"x": x[start : start + steps]}
        found.append(call(opened, feed | states))
        states = {s["in"]: found[-1][s["out"]] for s in table(opened, "states")}
        start += steps
    if len(found) == 1:
        return _trace(network, found[0])
    by_step = np.concatenate([f["logits_by_step"] for f in found])
    readout_sum = reduce(np.add, list(by_step[-network.readout :]))
    whole: Arrays = {"readout_sum": readout_sum, "logits": readout_sum / np.float32(network.readout)}
    for name in (f"{lif}.{part}" for lif in network.graph.ports for part in ("spikes", "u")):
        whole[name] = np.concatenate([f[name] for f in found])
    return _trace(network, whole)


def _trace(network: Network, found: Arrays) -> Trace:
    return Trace(
        spikes={lif: found[f"{lif}.spikes"] > 0 for lif in network.graph.ports},
        readout_sum=found["readout_sum"],
        logits=found["logits"],
        potentials={lif: found[f"{lif}.u"] for lif in network.graph.ports},
    )
