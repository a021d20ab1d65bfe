"""Stateful ONNX: a folded network as one time step, a sequence of all its steps, or a scan over any number."""

from snndeploy.export.onnx.differences import differing_nodes, differing_weights
from snndeploy.export.onnx.files import export
from snndeploy.export.onnx.metadata import FORMAT_VERSION, Form
from snndeploy.export.onnx.model import lower
from snndeploy.export.onnx.numbers import Arithmetic
from snndeploy.export.onnx.spikes import expose_spikes

__all__ = [
    "FORMAT_VERSION",
    "Arithmetic",
    "Form",
    "differing_nodes",
    "differing_weights",
    "export",
    "expose_spikes",
    "lower",
]
