"""Stateful ONNX: a folded network as one time step, a sequence of all its steps, or a scan over any number."""

from snndeploy.export.onnx.differences import Differences, differences
from snndeploy.export.onnx.files import export
from snndeploy.export.onnx.metadata import FORMAT_VERSION, Form
from snndeploy.export.onnx.model import lower
from snndeploy.export.onnx.numbers import Arithmetic
from snndeploy.export.onnx.spikes import expose_spikes

__all__ = [
    "FORMAT_VERSION",
    "Arithmetic",
    "Differences",
    "Form",
    "differences",
    "export",
    "expose_spikes",
    "lower",
]
