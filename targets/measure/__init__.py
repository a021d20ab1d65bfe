"""Measures the energy of inference with the counters that devices have."""

from snndeploy.targets.measure.meter import DeviceState, Meter, MeterName
from snndeploy.targets.measure.nvml import open_nvml
from snndeploy.targets.measure.protocol import measure
from snndeploy.targets.measure.rapl import open_rapl
from snndeploy.targets.measure.result import (
    STANDARD,
    Figure,
    Flag,
    FlagName,
    Measurement,
    Procedure,
    Window,
)

__all__ = [
    "STANDARD",
    "DeviceState",
    "Figure",
    "Flag",
    "FlagName",
    "Measurement",
    "Meter",
    "MeterName",
    "Procedure",
    "Window",
    "measure",
    "open_nvml",
    "open_rapl",
]
