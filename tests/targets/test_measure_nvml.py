"""The meter of NVIDIA GPUs, on a stand-in for pynvml."""

from __future__ import annotations

import builtins
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from snndeploy.errors import TargetError
from snndeploy.targets.measure import measure, open_nvml
from tests.targets.counters import Device


class FakeError(Exception):
    """What the stand-in raises."""


@dataclass
class FakeNvml:
    """A machine with GPUs, with the functions and names of pynvml 12 and 13 that are used.

    refused: Functions that this machine does not support.
    answers: What functions give.
    """

    uuids: Sequence[str] = ("GPU-aa",)
    refused: set[str] = field(default_factory=set)
    pids: list[int] = field(default_factory=list)
    millijoules: int = 5_000
    mig: list[int] = field(default_factory=lambda: [0, 0])
    name: str | bytes = "NVIDIA H200"
    NVMLError = FakeError
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1
    NVML_DEVICE_MIG_ENABLE = 1

    def _check(self, function: str, handle: object = None) -> None:
        if function in self.refused:
            raise FakeError("Not Supported")
        assert handle is None or handle in self.uuids

    def nvmlInit(self) -> None:  # noqa: N802, D102
        self._check("nvmlInit")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802, D102
        self._check("nvmlDeviceGetCount")
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802, D102
        return self.uuids[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802, D102
        if uuid not in self.uuids:
            raise FakeError("Not Found")
        return uuid

    def nvmlDeviceGetName(self, handle: str) -> str | bytes:  # noqa: N802, D102
        self._check("nvmlDeviceGetName", handle)
        return self.name

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802, D102
        self._check("nvmlDeviceGetTotalEnergyConsumption", handle)
        return self.millijoules

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:  # noqa: N802, D102
        self._check("nvmlDeviceGetTemperature", handle)
        return 41 if sensor == self.NVML_TEMPERATURE_GPU else -1

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:  # noqa: N802, D102
        self._check("nvmlDeviceGetClockInfo", handle)
        return 1980 if kind == self.NVML_CLOCK_SM else -1

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:  # noqa: N802, D102
        self._check("nvmlDeviceGetMigMode", handle)
        return self.mig

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:  # noqa: N802, D102
        self._check("nvmlDeviceGetComputeRunningProcesses", handle)
        return [SimpleNamespace(pid=pid, usedGpuMemory=None) for pid in self.pids]


def test_reading() -> None:
    """Millijoules become joules; name, temperature and clock are told."""
    meter = open_nvml("aa", FakeNvml(millijoules=1_234_567))
    assert meter.read_joules() == pytest.approx(1234.567)
    assert (meter.name, meter.device, meter.resolution_j) == ("nvml", "NVIDIA H200", 1e-3)
    state = meter.state()
    assert (state.temperature_celsius, state.clock_mhz) == (41, 1980)
    assert (state.others, state.partitioned) == ((), False)
    assert open_nvml(None, FakeNvml(name=b"Tesla V100")).device == "Tesla V100"


@pytest.mark.parametrize("uuid", ["bb", "GPU-bb"])
def test_the_gpu_that_cuda_uses(uuid: str) -> None:
    """Of several GPUs the one with CUDA's UUID is read, with or without its prefix."""
    assert open_nvml(uuid, FakeNvml(uuids=("GPU-aa", "GPU-bb"))).handle == "GPU-bb"


def test_which_gpu() -> None:
    """A slice's UUID means the only board; among several boards an unknown one is refused."""
    assert open_nvml("slice", FakeNvml()).handle == "GPU-aa"
    for uuid in (None, "cc"):
        with pytest.raises(TargetError, match=r"which GPU is meant, got 2 GPUs.*CUDA_VISIBLE_DEVICES"):
            open_nvml(uuid, FakeNvml(uuids=("GPU-aa", "GPU-bb")))
    with pytest.raises(TargetError, match="must find a GPU"):
        open_nvml(None, FakeNvml(uuids=()))


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("nvmlInit", "NVML must start, got Not Supported; it needs an NVIDIA driver"),
        ("nvmlDeviceGetCount", "must find the GPU"),
        ("nvmlDeviceGetTotalEnergyConsumption", r"needs a total-energy counter.*Volta"),
        ("nvmlDeviceGetName", "must say its name"),
    ],
)
def test_what_must_be_there(function: str, text: str) -> None:
    """Each thing that is missing has a message."""
    with pytest.raises(TargetError, match=text):
        open_nvml(None, FakeNvml(refused={function}))


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nvidia-ml-py the message says how to install it."""
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "pynvml":
            raise ModuleNotFoundError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TargetError, match=r"needs the package nvidia-ml-py; .*snndeploy\[gpu\]"):
        open_nvml()


def test_what_need_not_be_there() -> None:
    """A GPU that tells nothing but its energy can be measured."""
    silent = {
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetComputeRunningProcesses",
    }
    state = open_nvml(None, FakeNvml(refused=silent)).state()
    assert (state.temperature_celsius, state.clock_mhz, state.others) == (None, None, ())
    assert not state.partitioned


def test_mig() -> None:
    """A GPU that is cut into slices says so; one that will be after a reset is not cut yet."""
    assert open_nvml(None, FakeNvml(mig=[1, 1])).state().partitioned
    assert not open_nvml(None, FakeNvml(mig=[0, 1])).state().partitioned


@pytest.mark.parametrize(
    ("before", "during", "others"),
    [
        ([], [os.getpid()], ()),
        ([7], [7, os.getpid()], ("process 7",)),
        ([], [os.getpid(), 7], ("process 7",)),
        ([], [91_000_001], ()),  # this process by the host's number
        ([7], [7, 91_000_001], ("process 7",)),
        ([], [91_000_001, 91_000_002], ("process 91000002",)),
        ([7], [7], ("process 7",)),
    ],
)
def test_other_processes(before: list[int], during: list[int], others: tuple[str, ...]) -> None:
    """Compute processes but this one, also where a container hides its number, are others."""
    nvml = FakeNvml(pids=before)
    meter = open_nvml(None, nvml)
    nvml.pids = during
    assert meter.state().others == others


def test_a_gpu_that_goes_away() -> None:
    """A counter that fails while it is read ends with a message, not with NVML's own error."""
    nvml = FakeNvml()
    meter = open_nvml(None, nvml)
    nvml.refused = {"nvmlDeviceGetTotalEnergyConsumption"}
    with pytest.raises(TargetError, match="must stay readable"):
        meter.read_joules()


def test_a_whole_measurement() -> None:
    """The procedure finds a known energy through NVML's millijoules."""
    device = Device(tick_seconds=0.1)

    class Live(FakeNvml):
        def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: ARG002, N802
            return round(device.read_joules() * 1000)

    opened = open_nvml(None, Live(pids=[os.getpid()]))
    meter = type(opened)(
        module=opened.module,
        handle=opened.handle,
        device=opened.device,
        present=opened.present,
        clock=device.now,
        sleep=device.wait,
    )
    found = measure(meter, device.work)
    assert found.net_j.value == pytest.approx(240 * 0.004, rel=2e-3)
    assert (found.device, found.flags) == ("NVIDIA H200", ())
    assert [state.clock_mhz for state in found.states] == [1980] * 7
