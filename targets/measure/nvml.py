"""The total-energy counter of an NVIDIA GPU, through NVML (package nvidia-ml-py, module pynvml).

The counter counts millijoules of the whole board, of all processes, since the driver was loaded, on Volta
GPUs and newer ones.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from snndeploy.errors import TargetError
from snndeploy.targets.measure.meter import SENSOR_ERROR, DeviceState, MeterName

_WHERE = "energy meter nvml"


@dataclass(frozen=True, kw_only=True)
class NvmlMeter:
    """The counter of one board; see `snndeploy.targets.measure.meter.Meter`.

    module: pynvml, initialised.
    handle: NVML's, of the board.
    present: Processes that computed on it when the meter was opened.
    """

    module: Any
    handle: Any
    device: str
    present: frozenset[int]
    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep
    name: MeterName = field(default="nvml", init=False)
    scope: str = field(default="the whole GPU board, without the CPU", init=False)
    resolution_j: float = field(default=1e-3, init=False)
    sensor_error: float = field(default=SENSOR_ERROR, init=False)

    def read_joules(self) -> float:
        """Energy of the board since the driver was loaded.

        Raises:
            TargetError: NVML cannot read it any more.
        """
        try:
            return float(self.module.nvmlDeviceGetTotalEnergyConsumption(self.handle)) * self.resolution_j
        except self.module.NVMLError as error:
            raise TargetError(_WHERE, "must stay readable", got=str(error)) from None

    def now(self) -> float:
        """Seconds of the clock."""
        return self.clock()

    def wait(self, seconds: float) -> None:
        """Sleeps."""
        self.sleep(seconds)

    def state(self) -> DeviceState:
        """Temperature, clock of the multiprocessors, other compute processes, and whether MIG is on."""
        nvml = self.module
        mode = self._asked(nvml.nvmlDeviceGetMigMode)  # current and pending
        return DeviceState(
            temperature_celsius=self._asked(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            clock_mhz=self._asked(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            others=tuple(f"process {pid}" for pid in self._others()),
            partitioned=mode is not None and mode[0] == nvml.NVML_DEVICE_MIG_ENABLE,
        )

    def _others(self) -> list[int]:
        """Numbers of the other compute processes.

        In a container NVML may know this process by the host's number, not by its own. Then one process that
        was not there before the work began is taken for this one.
        """
        found = _processes(self.module, self.handle)
        own = os.getpid()
        if own in found:
            return sorted(found - {own})
        return sorted(found - {next(iter(sorted(found - self.present)), own)})

    def _asked(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """An answer, or None where the device has none."""
        with suppress(self.module.NVMLError):
            return question(self.handle, *arguments)
        return None


def open_nvml(uuid: str | None = None, module: Any = None) -> NvmlMeter:
    """The meter of a GPU; to be opened before the work that is to be measured takes hold of the GPU.

    Args:
        uuid: Of the GPU, as CUDA or NVML give it; None for the only one.
        module: Stands in for pynvml.

    Raises:
        TargetError: nvidia-ml-py, the driver, the GPU or its counter is missing, or several could be meant.
    """
    nvml = _pynvml() if module is None else module
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        remedy = "it needs an NVIDIA driver, and in a container access to it (docker: --gpus all)"
        raise TargetError(_WHERE, "NVML must start", got=str(error), remedy=remedy) from None
    handle = _handle(nvml, uuid)
    try:
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError as error:
        remedy = "GPUs from Volta on have one; virtual GPUs and Jetson modules have none"
        raise TargetError(_WHERE, "needs a total-energy counter", got=str(error), remedy=remedy) from None
    try:
        name = nvml.nvmlDeviceGetName(handle)
    except nvml.NVMLError as error:
        raise TargetError(_WHERE, "the GPU must say its name", got=str(error)) from None
    return NvmlMeter(
        module=nvml,
        handle=handle,
        device=name.decode() if isinstance(name, bytes) else str(name),
        present=frozenset(_processes(nvml, handle)),
    )


def _pynvml() -> Any:
    try:
        import pynvml  # noqa: PLC0415 - an optional extra
    except ImportError:
        remedy = "install it with `pip install 'snndeploy[gpu]'`"
        raise TargetError(_WHERE, "needs the package nvidia-ml-py", remedy=remedy) from None
    return pynvml


def _handle(nvml: Any, uuid: str | None) -> Any:
    """The board with that UUID, or the only board. A slice of a GPU has a UUID of its own that CUDA gives."""
    try:
        if uuid is not None:
            with suppress(nvml.NVMLError):
                full = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
                return nvml.nvmlDeviceGetHandleByUUID(full)
        count = nvml.nvmlDeviceGetCount()
        if count == 1:
            return nvml.nvmlDeviceGetHandleByIndex(0)
    except nvml.NVMLError as error:
        raise TargetError(_WHERE, "must find the GPU", got=str(error)) from None
    rule = "must know which GPU is meant" if count else "must find a GPU"
    remedy = "let CUDA_VISIBLE_DEVICES name one GPU" if count else ""
    raise TargetError(_WHERE, rule, got=f"{count} GPUs, UUID {uuid}", remedy=remedy)


def _processes(nvml: Any, handle: Any) -> set[int]:
    with suppress(nvml.NVMLError):
        return {int(process.pid) for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)}
    return set()
