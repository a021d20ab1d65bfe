"""The measuring procedure finds known energies from simulated counters, and says when it cannot be trusted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from snndeploy.errors import ConfigError, TargetError
from snndeploy.targets.measure import (
    STANDARD,
    DeviceState,
    FlagName,
    Measurement,
    Procedure,
    measure,
)
from snndeploy.targets.measure.protocol import stages
from tests.targets.counters import Device, constant

BATCH = 8
NET_J = 240.0 * 0.004 / BATCH
GROSS_J = 300.0 * 0.004 / BATCH


def measured(device: Device, procedure: Procedure = STANDARD, seed: int = 0) -> Measurement:
    """Of the device's own work, in batches of 8."""
    return measure(device, device.work, batch=BATCH, procedure=procedure, seed=seed)


def names(found: Measurement) -> set[FlagName]:
    """Of the flags."""
    return {flag.name for flag in found.flags}


@pytest.mark.parametrize("tick_seconds", [0.001, 0.02, 0.1])
def test_a_good_counter(tick_seconds: float) -> None:
    """Energy, idle power, latency and the counter's period are found to a part in 500, without a flag."""
    device = Device(tick_seconds=tick_seconds)
    found = measured(device)
    assert found.net_j.value == pytest.approx(NET_J, rel=2e-3)
    assert found.gross_j.value == pytest.approx(GROSS_J, rel=2e-3)
    assert found.idle_before_w == pytest.approx(60, rel=1e-2)
    assert found.idle_after_w == pytest.approx(60, rel=1e-2)
    assert found.latency_seconds == pytest.approx(0.004, rel=2e-3)
    assert found.tick_seconds == pytest.approx(tick_seconds, rel=0.3 if tick_seconds > 0.001 else 1)
    assert not found.flags
    assert all(w.seconds >= 10 and w.seconds >= 100 * found.tick_seconds for w in found.windows)
    assert device.batches >= sum(w.batches for w in found.windows) + 50


def test_a_sensor_that_is_off() -> None:
    """Errors of the sensor, noise, ticks and drifting idle power: the truth lies within what is stated."""
    inside = {"net": 0, "gross": 0}
    runs = 60
    for seed in range(runs):
        random = np.random.default_rng(seed)
        slope, period = random.uniform(-0.05, 0.05), random.uniform(0.02, 0.1)
        found = measured(
            Device(
                seed=seed,
                idle_w=lambda seconds, slope=slope: 60 + slope * seconds,  # type: ignore[misc]
                tick_seconds=period,
                gain=1 + random.uniform(-0.05, 0.05),
                noise=0.2,
            ),
            seed=seed,
        )
        middle = 60 + slope * 35
        truth = {"net": NET_J, "gross": (240 + middle) * 0.004 / BATCH}
        inside["net"] += abs(found.net_j.value - truth["net"]) <= found.net_j.uncertainty
        inside["gross"] += abs(found.gross_j.value - truth["gross"]) <= found.gross_j.uncertainty
        assert found.net_j.uncertainty < 0.12 * NET_J
        assert found.gross_j.uncertainty < 0.1 * GROSS_J
    assert min(inside.values()) >= 0.95 * runs


def test_a_sensor_that_is_too_far_off() -> None:
    """What is stated is no blank cheque: a sensor that shows a third too much lies outside it."""
    found = measured(Device(gain=4 / 3))
    assert found.net_j.value - NET_J > 2 * found.net_j.uncertainty
    assert found.gross_j.value - GROSS_J > 2 * found.gross_j.uncertainty


def test_idle_tail() -> None:
    """The idle time between the end of the work and the next tick is not charged to the work."""
    few = Procedure(window_seconds=0.5, window_ticks=1, gap_most_seconds=0.1)
    found = measured(Device(tick_seconds=0.4, jitter=0.0, batch_seconds=0.05), few)
    assert max(w.seconds / w.busy_seconds for w in found.windows) > 1.2
    assert found.gross_j.value == pytest.approx(300 * 0.05 / BATCH, rel=1e-2)
    assert found.net_j.value == pytest.approx(240 * 0.05 / BATCH, rel=1e-2)


def test_slow_batches() -> None:
    """A batch that takes longer than a window makes a window of one batch, and a short warm-up."""
    device = Device(batch_seconds=12.0)
    found = measured(device)
    assert [w.batches for w in found.windows] == [1] * 5
    assert device.batches == 3 + 5
    assert found.net_j.value == pytest.approx(240 * 12 / BATCH, rel=2e-3)


def test_a_slow_counter() -> None:
    """A counter that moves every 0.2 seconds gets longer windows, which need no flag."""
    found = measured(Device(tick_seconds=0.2))
    assert min(w.seconds for w in found.windows) > 16
    assert not found.flags
    assert found.net_j.value == pytest.approx(NET_J, rel=2e-3)


def test_power_that_lingers() -> None:
    """A device that stays up for a second after work does not spoil idle power."""
    found = measured(Device(tail_w=100.0, tail_seconds=1.0))
    assert found.idle_before_w == pytest.approx(60, rel=1e-2)
    assert found.idle_after_w == pytest.approx(60, rel=1e-2)
    assert found.net_j.value == pytest.approx(NET_J, rel=1e-2)


def test_a_coarse_counter() -> None:
    """A counter that moves every 2 seconds cannot be seen often enough in the longest window."""
    found = measured(Device(tick_seconds=2.0))
    assert {"coarse counter", "short window"} <= names(found)
    assert max(w.seconds for w in found.windows) < STANDARD.window_most_seconds + 10


def test_a_counter_of_large_steps() -> None:
    """A counter in steps of 200 J is coarse although it moves often enough."""
    found = measured(Device(resolution_j=200.0))
    assert "coarse counter" in names(found)
    assert abs(found.net_j.value - NET_J) <= found.net_j.uncertainty


def test_short_windows() -> None:
    """Windows with fewer ticks than demanded are flagged with what they had."""
    few = replace(STANDARD, window_seconds=1, window_most_seconds=1)
    (flag,) = (f for f in measured(Device(), few).flags if f.name == "short window")
    assert "100 ticks" in flag.detail
    brief = replace(STANDARD, window_seconds=10, window_most_seconds=6)
    assert names(measured(Device(), brief)) == {"short window"}


@pytest.mark.parametrize("after_w", [50.0, 75.0])
def test_idle_power_that_changes(after_w: float) -> None:
    """Another idle power afterwards is flagged, and makes the net energy, not the gross one, less certain."""
    before = measured(Device())
    found = measured(Device(idle_w=lambda seconds: 60.0 if seconds < 45 else after_w))
    assert "idle drift" in names(found)
    assert "idle drift" not in names(before)
    assert found.idle_w == pytest.approx((60 + after_w) / 2, rel=0.01)
    assert found.net_j.parts["idle_drift"] == pytest.approx(abs(after_w - 60) * 0.004 / BATCH, rel=0.05)
    assert found.gross_j.parts["idle_drift"] < 0.02 * found.net_j.parts["idle_drift"]
    assert abs(found.net_j.value - NET_J) <= found.net_j.uncertainty


def test_a_device_that_heats_up() -> None:
    """Power that rises from window to window is flagged as unsteady."""
    found = measured(Device(work_w=lambda seconds: 200.0 + 2 * seconds))
    assert "unsteady" in names(found)
    assert "unsteady" not in names(measured(Device(work_w=lambda seconds: 200.0 + 0.1 * seconds)))


def test_bursts_of_another_load() -> None:
    """Others who work now and then are seen in the scatter of the windows."""
    found = measured(Device(other_w=lambda seconds: 200.0 if int(seconds / 9) % 3 == 1 else 0.0))
    assert {"unsteady", "idle drift"} & names(found)


def test_a_steady_load_of_others() -> None:
    """Others who work all the time leave no trace in the counter but are told of; the net energy stays right."""
    told = DeviceState(others=("process 7",))
    found = measured(Device(other_w=constant(100.0), told=lambda s: told if s > 30 else DeviceState()))
    assert names(found) == {"other processes"}
    assert "process 7" in found.flags[0].detail
    assert found.net_j.value == pytest.approx(NET_J, rel=2e-3)
    assert found.gross_j.value == pytest.approx(400 * 0.004 / BATCH, rel=2e-3)


@pytest.mark.parametrize(("cores", "flagged"), [(0.02, False), (1.5, True)])
def test_cpu_time_of_others(cores: float, flagged: bool) -> None:
    """Cores that others keep busy are counted, and flagged from a tenth of a core on."""
    found = measured(Device(told=lambda seconds: DeviceState(other_cpu_seconds=1000 + cores * seconds)))
    assert found.other_cores == pytest.approx(cores)
    assert ("other processes" in names(found)) is flagged


def test_a_partitioned_device() -> None:
    """A counter of more than the part that works is flagged."""
    found = measured(Device(told=lambda seconds: DeviceState(partitioned=seconds > 30)))
    assert names(found) == {"partitioned device"}


def test_work_that_is_lost_in_idle_power() -> None:
    """Work that adds 1 W to 60 W is not passed off as measured."""
    found = measured(Device(work_w=constant(1.0), noise=0.05))
    assert "lost in idle power" in names(found)
    assert abs(found.net_j.value - 1.0 * 0.004 / BATCH) <= found.net_j.uncertainty


def test_a_device_that_does_nothing() -> None:
    """Without any energy of its own the work has finite figures and flags, not a division by zero."""
    found = measured(Device(work_w=constant(0.0), idle_w=constant(60.0), jitter=0.0))
    assert {"lost in idle power", "coarse counter"} <= names(found)
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("device", "rule"),
    [
        (Device(moves=False), "must move within 5 s, got 10000 J all the time"),
        (Device(reset_at=20.0), "must never go backwards"),
        (Device(reset_at=66.0), "must never go backwards"),
    ],
)
def test_a_broken_counter(device: Device, rule: str) -> None:
    """A counter that stands still or goes backwards ends the measurement with a message."""
    with pytest.raises(TargetError, match=rule):
        measured(device)
    assert device.moves or device.now() < 3 + 2 + 5 + 0.1  # warm-up, settling, and the wait for it


def test_a_counter_that_stops() -> None:
    """One that stops in the middle does not make the procedure wait for ever."""
    device = Device()

    def work(batches: int) -> None:
        device.work(batches)
        device.moves = device.now() < 30

    with pytest.raises(TargetError, match="must move within"):
        measure(device, work)


def test_uncertainty_has_its_parts() -> None:
    """Scatter, sensor, drift and ticks are added in squares; the scatter is that of the windows."""
    found = measured(Device(noise=0.2, idle_w=lambda seconds: 60 + 0.02 * seconds))
    figure = found.net_j
    assert set(figure.parts) == {"repeats", "sensor", "idle_drift", "ticks"}
    assert figure.uncertainty == pytest.approx(math.sqrt(sum(p**2 for p in figure.parts.values())))
    each = [(w.joules - found.idle_w * w.seconds) / w.batches / BATCH for w in found.windows]
    assert figure.parts["repeats"] == pytest.approx(np.std(each, ddof=1))
    assert figure.value == pytest.approx(np.median(each))
    assert figure.parts["sensor"] == pytest.approx(0.05 * GROSS_J, rel=0.05)
    assert figure.parts["ticks"] == pytest.approx(2 * 0.05 * 300 / (10 / 0.004 * BATCH), rel=0.4)


def test_json_and_progress() -> None:
    """The result says MEASURED, both energies with their batch, and all windows; every stage is reported."""
    seen: list[tuple[int, str]] = []
    device = Device()
    found = measure(device, device.work, batch=2, report=lambda done, note: seen.append((done, note)))
    facts = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (facts["label"], facts["batch"], facts["meter"], facts["flags"]) == ("MEASURED", 2, "nvml", [])
    assert facts["net_energy_j"]["value"] == pytest.approx(240 * 0.004 / 2, rel=2e-3)
    assert facts["gross_energy_j"]["value"] > facts["net_energy_j"]["value"]
    assert (len(facts["windows"]), facts["procedure"]["repeats"]) == (5, 5)
    assert [done for done, _ in seen] == list(range(stages() + 1))
    assert seen[2] == (2, "window 1 of 5")


def test_pauses_follow_the_seed() -> None:
    """The same seed gives the same measurement, another one another."""
    first, again, other = (measured(Device(), seed=seed).windows for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Procedure(repeats=1),
        lambda: Procedure(window_seconds=0),
        lambda: Procedure(poll_seconds=math.nan),
        lambda: measure(Device(), Device().work, batch=0),
    ],
)
def test_values_that_make_no_sense(wrong: Callable[[], object]) -> None:
    """Procedures without windows, spread or time, and empty batches, are refused."""
    with pytest.raises(ConfigError, match="must be"):
        wrong()
