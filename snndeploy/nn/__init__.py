"""PyTorch: trains any Graph, and runs it as one of the back ends that are compared."""

from snndeploy.nn.engine import Simulation
from snndeploy.nn.initial import initial_weights
from snndeploy.nn.loihi import membrane_units
from snndeploy.nn.network import SpikingNetwork, recalibrate
from snndeploy.nn.qrelu import QuantizedRelu
from snndeploy.nn.run import run
from snndeploy.nn.surrogate import (
    ScaledSigmoid,
    SigmoidReciprocal,
    Surrogate,
    Triangle,
    surrogate_of,
)

__all__ = [
    "QuantizedRelu",
    "ScaledSigmoid",
    "SigmoidReciprocal",
    "Simulation",
    "SpikingNetwork",
    "Surrogate",
    "Triangle",
    "initial_weights",
    "membrane_units",
    "recalibrate",
    "run",
    "surrogate_of",
]
