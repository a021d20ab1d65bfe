"""PyTorch: trains any Graph, and runs it as one of the back ends that are compared."""

from snndeploy.nn.engine import Simulation
from snndeploy.nn.initial import initial_weights
from snndeploy.nn.network import SpikingNetwork, recalibrate
from snndeploy.nn.run import run
from snndeploy.nn.surrogate import Surrogate, Triangle

__all__ = [
    "Simulation",
    "SpikingNetwork",
    "Surrogate",
    "Triangle",
    "initial_weights",
    "recalibrate",
    "run",
]
