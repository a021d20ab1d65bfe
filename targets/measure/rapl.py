"""The energy counters of CPUs (RAPL) as Linux shows them in /sys/class/powercap.

Every package has a zone `intel-rapl:N`, also on AMD's CPUs, with parts `intel-rapl:N:M`. The part `dram` is
not in its package's counter and is added; cores and graphics are in it; `psys` would count packages again.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from snndeploy.errors import TargetError
from snndeploy.targets.measure.meter import SENSOR_ERROR, DeviceState, MeterName

_POWERCAP, _PROC = Path("/sys/class/powercap"), Path("/proc")
_WHERE = "energy meter rapl"
_ZONE = re.compile(r"intel-rapl:\d+(:\d+)?")
_UJ = 1e-6


@dataclass(eq=False)
class Zone:
    """One counter, which starts again at 0 after its range.

    Attributes:
        name: As Linux calls it.
        total_uj: Energy since it was opened, in microjoules. Right as long as it is read once a round, which
            takes minutes at the least.
    """

    name: str
    file: Path
    range_uj: int
    last_uj: int
    total_uj: int = 0

    def read_uj(self) -> int:
        """Reads the counter and gives the energy since it was opened."""
        now = _number(self.file)
        # It shows 0 to range_uj, and the 0 that follows range_uj is one more.
        self.total_uj += now - self.last_uj + (self.range_uj + 1 if now < self.last_uj else 0)
        self.last_uj = now
        return self.total_uj


@dataclass(frozen=True, kw_only=True)
class RaplMeter:
    """The counters of all packages of a machine; see `snndeploy.targets.measure.meter.Meter`."""

    zones: tuple[Zone, ...]
    device: str
    proc: Path = _PROC
    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep
    name: MeterName = field(default="rapl", init=False)
    resolution_j: float = field(default=_UJ, init=False)
    sensor_error: float = field(default=SENSOR_ERROR, init=False)

    @property
    def scope(self) -> str:
        """The zones that are summed."""
        return f"all processes on {', '.join(zone.name for zone in self.zones)}"

    def read_joules(self) -> float:
        """Energy of all zones since the meter was opened.

        Raises:
            TargetError: A counter cannot be read any more.
        """
        return sum(zone.read_uj() for zone in self.zones) * _UJ

    def now(self) -> float:
        """Seconds of the clock."""
        return self.clock()

    def wait(self, seconds: float) -> None:
        """Sleeps."""
        self.sleep(seconds)

    def state(self) -> DeviceState:
        """How much CPU time other processes have had."""
        busy = _busy_seconds(self.proc)
        return DeviceState(other_cpu_seconds=None if busy is None else busy - time.process_time())


def open_rapl(
    powercap: Path = _POWERCAP,
    proc: Path = _PROC,
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> RaplMeter:
    """The meter of this machine's CPUs.

    Raises:
        TargetError: There is no counter, or this user may not read one.
    """
    folders = sorted(path for path in powercap.glob("intel-rapl:*") if _ZONE.fullmatch(path.name))
    zones = tuple(zone for path in folders if (zone := _zone(path)) is not None)
    if not zones:
        remedy = (
            "it needs Linux on an x86 CPU with RAPL (AMD: from Linux 5.8 on) and the module intel_rapl_msr; "
            "virtual machines and containers seldom show it"
        )
        raise TargetError(_WHERE, f"needs {powercap}/intel-rapl:*/energy_uj", got="none", remedy=remedy)
    return RaplMeter(zones=zones, device=_processor(proc), proc=proc, clock=clock, sleep=sleep)


def _zone(folder: Path) -> Zone | None:
    """The counter of a folder, or None if another zone counts its energy or its name says nothing."""
    part = folder.name.count(":") > 1
    name = _text(folder / "name")
    if not (name == "dram" if part else name.startswith("package")):
        return None
    if part:
        name = f"{name} of {_text(folder.with_name(folder.name.rpartition(':')[0]) / 'name')}"
    file = folder / "energy_uj"
    return Zone(name, file, _number(folder / "max_energy_range_uj"), _number(file))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except PermissionError:
        remedy = (
            "only root may read it unless allowed, since it can leak secrets (CVE-2020-8694): run as root, or for "
            f"the time being `sudo chmod a+r {file.parent.parent}/intel-rapl:*/energy_uj`"
        )
        raise TargetError(_WHERE, f"{file} must be readable", remedy=remedy) from None
    except OSError as error:
        raise TargetError(_WHERE, f"{file} must be readable", got=error.strerror) from None


def _number(file: Path) -> int:
    text = _text(file)
    if not (text.isascii() and text.isdigit()):
        raise TargetError(_WHERE, f"{file} must hold a whole number", got=repr(text))
    return int(text)


def _processor(proc: Path) -> str:
    """Name of the CPU; empty lines and machines without one are called CPU."""
    try:
        text = (proc / "cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "CPU"
    found = re.search(r"^model name\s*:\s*(\S.*)$", text, re.MULTILINE)
    return found[1].strip() if found else "CPU"


def _busy_seconds(proc: Path) -> float | None:
    """Time that the machine's cores were busy since it started, all added; None where it is not told.

    The first line of /proc/stat has user, nice, system, idle, iowait, irq, softirq and steal in clock ticks.
    """
    try:
        line = (proc / "stat").read_text(encoding="utf-8").partition("\n")[0].split()
        user, nice, system, _idle, _iowait, irq, softirq = map(int, line[1:8])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
