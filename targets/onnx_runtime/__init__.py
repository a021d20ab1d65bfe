"""Runs exported ONNX files; needs ONNX Runtime and NumPy alone, and may be copied beside a file."""

from snndeploy.targets.onnx_runtime.description import FORMAT_VERSION, Description, Neuron, State
from snndeploy.targets.onnx_runtime.network import OnnxNetwork
from snndeploy.targets.onnx_runtime.result import Result
from snndeploy.targets.onnx_runtime.session import CPU, CUDA, available_providers
from snndeploy.targets.onnx_runtime.stream import Stream

__all__ = [
    "CPU",
    "CUDA",
    "FORMAT_VERSION",
    "Description",
    "Neuron",
    "OnnxNetwork",
    "Result",
    "State",
    "Stream",
    "available_providers",
]
