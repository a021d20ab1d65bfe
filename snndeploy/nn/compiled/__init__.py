"""Spiking neurons compiled for a CPU: what enters them is normalised and summed on the way.

There are compiled neurons for tensors in single precision on a CPU, where a C compiler is found; everything
else runs without them. Bare neurons give the same bits either way; batch normalisation is rounded otherwise.
"""

from snndeploy.nn.compiled.calls import available
from snndeploy.nn.compiled.library import SWITCH, Build, build
from snndeploy.nn.compiled.neurons import Addend, Fused, Norm, fused

__all__ = ["SWITCH", "Addend", "Build", "Fused", "Norm", "available", "build", "fused"]
