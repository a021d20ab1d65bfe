"""Stateful ONNX: a folded network as one time step, or as a sequence of all its steps."""

from snndeploy.export.onnx.files import differing_nodes, differing_weights, export, expose_spikes
from snndeploy.export.onnx.metadata import FORMAT_VERSION, Form
from snndeploy.export.onnx.model import lower

__all__ = [
    "FORMAT_VERSION",
    "Form",
    "differing_nodes",
    "differing_weights",
    "export",
    "expose_spikes",
    "lower",
]
