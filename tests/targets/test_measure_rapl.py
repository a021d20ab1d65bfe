"""The meter of CPUs, on trees of files like those of Linux."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from snndeploy.errors import TargetError
from snndeploy.targets.measure import measure, open_rapl
from tests.targets.counters import Device

RANGE_UJ = 262_143_328_850
TICKS = os.sysconf("SC_CLK_TCK")


def zone(root: Path, folder: str, name: str, energy_uj: int, range_uj: int = RANGE_UJ) -> Path:
    """A zone of powercap; Linux shows all of them, parts too, side by side."""
    path = root / folder
    path.mkdir(parents=True)
    for file, value in (("name", name), ("max_energy_range_uj", range_uj), ("energy_uj", energy_uj)):
        (path / file).write_text(f"{value}\n")
    return path / "energy_uj"


def proc(root: Path, busy_seconds: float, model: str = "model name\t: AMD EPYC 9B14\n") -> Path:
    """A /proc whose cores were busy for so long, a half in user mode; waiting and stolen time do not count."""
    path = root / "proc"
    path.mkdir(exist_ok=True)
    half = int(busy_seconds * TICKS / 2)
    cores = f"cpu  {half} 0 {half - 3} {5 * half} {7 * half} 1 2 {9 * half} 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
    (path / "stat").write_text(cores)
    (path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: AuthenticAMD\n{model}")
    return path


def test_what_is_added(tmp_path: Path) -> None:
    """Packages and memory are added; cores, graphics and the platform would count twice."""
    files = [
        zone(tmp_path, "intel-rapl:0", "package-0", 1_000),
        zone(tmp_path, "intel-rapl:0:0", "core", 10),
        zone(tmp_path, "intel-rapl:0:1", "dram", 5_000),
        zone(tmp_path, "intel-rapl:0:2", "uncore", 10),
        zone(tmp_path, "intel-rapl:1", "package-1", 7_000),
        zone(tmp_path, "intel-rapl:2", "psys", 10),
    ]
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 10)
    meter = open_rapl(tmp_path, proc(tmp_path, 1))
    assert [z.name for z in meter.zones] == ["package-0", "dram of package-0", "package-1"]
    assert (meter.name, meter.device) == ("rapl", "AMD EPYC 9B14")
    assert meter.read_joules() == 0
    for file, more in zip(files, (1_000_000, 3, 500_000, 5, 250_000, 9), strict=True):
        file.write_text(f"{int(file.read_text()) + more}\n")
    assert meter.read_joules() == pytest.approx(1.75)
    assert meter.read_joules() == pytest.approx(1.75)


def test_wrap_around(tmp_path: Path) -> None:
    """After its range a counter starts again, and the energy goes on; every zone has a range of its own."""
    first = zone(tmp_path, "intel-rapl:0", "package-0", 999_990, range_uj=999_999)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 0, range_uj=10**9)
    meter = open_rapl(tmp_path, proc(tmp_path, 1))
    first.write_text("999999")
    assert meter.read_joules() == pytest.approx(9e-6)
    first.write_text("0")
    assert meter.read_joules() == pytest.approx(10e-6)
    first.write_text("999989")
    second.write_text("500000")
    assert meter.read_joules() == pytest.approx(0.999999 + 0.5)
    first.write_text("3")
    assert meter.read_joules() == pytest.approx(1.000013 + 0.5)


def test_a_measurement_across_wrap_arounds(tmp_path: Path) -> None:
    """The procedure finds a known energy with a counter that starts again several times."""
    device, range_uj = Device(tick_seconds=0.02), 4_000_000_000
    file = zone(tmp_path, "intel-rapl:0", "package-0", 0, range_uj=range_uj)

    def show() -> None:
        file.write_text(f"{round(device.read_joules() * 1e6) % (range_uj + 1)}\n")

    def wait(seconds: float) -> None:
        device.wait(seconds)
        show()

    def now() -> float:
        show()
        return device.now()

    def work(batches: int) -> None:
        device.work(batches)
        show()

    show()
    meter = open_rapl(tmp_path, proc(tmp_path, 1), clock=now, sleep=wait)
    found = measure(meter, work)
    assert sum(w.joules for w in found.windows) > 3 * range_uj * 1e-6
    assert found.net_j.value == pytest.approx(240 * 0.004, rel=5e-3)
    assert found.gross_j.value == pytest.approx(300 * 0.004, rel=5e-3)


def test_other_processes(tmp_path: Path) -> None:
    """CPU time that is not this process's is that of others."""
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = open_rapl(tmp_path, proc(tmp_path, 100))
    before = meter.state().other_cpu_seconds
    proc(tmp_path, 130)
    spent = time.process_time()
    while time.process_time() - spent < 0.05:
        pass
    after = meter.state().other_cpu_seconds
    assert before is not None
    assert after is not None
    assert 29 < after - before <= 29.95 + 0.02


def test_machines_that_tell_less(tmp_path: Path) -> None:
    """Without a name or without times in /proc the counters still work."""
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    silent = open_rapl(tmp_path, tmp_path / "none")
    assert (silent.device, silent.state().other_cpu_seconds) == ("CPU", None)
    assert open_rapl(tmp_path, proc(tmp_path, 1, model="")).device == "CPU"


def test_no_counter(tmp_path: Path) -> None:
    """Where there is none, or only zones that say nothing, the message says what was looked for."""
    with pytest.raises(TargetError, match=r"intel-rapl:\*/energy_uj, got none; .*virtual machines"):
        open_rapl(tmp_path / "none", tmp_path)
    zone(tmp_path, "intel-rapl:0", "psys", 0)
    with pytest.raises(TargetError, match="got none"):
        open_rapl(tmp_path, tmp_path)


def test_a_counter_of_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only root may read, the message says how to allow it."""
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    real = Path.read_text

    def guarded(self: Path, encoding: str | None = None, errors: str | None = None) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, encoding, errors)

    monkeypatch.setattr(Path, "read_text", guarded)
    with pytest.raises(TargetError, match=r"energy_uj must be readable; .*as root.*chmod a\+r"):
        open_rapl(tmp_path, tmp_path)


@pytest.mark.parametrize("text", ["", "-5", "full"])
def test_a_damaged_counter(tmp_path: Path, text: str) -> None:
    """What is no number is refused."""
    zone(tmp_path, "intel-rapl:0", "package-0", 0).write_text(text)
    with pytest.raises(TargetError, match="must hold a whole number"):
        open_rapl(tmp_path, tmp_path)


def test_a_counter_that_goes_away(tmp_path: Path) -> None:
    """A file that vanishes while it is read ends with a message."""
    file = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = open_rapl(tmp_path, tmp_path)
    file.unlink()
    with pytest.raises(TargetError, match="must be readable, got No such file"):
        meter.read_joules()
