"""How the energy of inference is measured: warm up, idle, windows between ticks of the counter, idle."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from snndeploy.errors import ConfigError, TargetError
from snndeploy.targets.measure.meter import Meter
from snndeploy.targets.measure.result import STANDARD, Measurement, Procedure, Window

Work: TypeAlias = Callable[[int], None]
"""Runs a number of batches and returns when the device has finished them all."""

Report: TypeAlias = Callable[[int, str], None]
"""Is told how many of `stages(...)` are done, and what is next."""

_CHUNKS = 20  # in which a window's batches are run: the device rests a moment between two of them


def stages(procedure: Procedure = STANDARD) -> int:
    """Number of stages of a measurement: the warm-up, two idle windows, and the windows of work."""
    return procedure.repeats + 3


def measure(
    meter: Meter,
    work: Work,
    *,
    batch: int = 1,
    procedure: Procedure = STANDARD,
    seed: int = 0,
    report: Report = lambda _done, _note: None,
) -> Measurement:
    """Measures the energy of inference; takes a minute or more.

    Weights and inputs must be on the device already, and the device must keep what it needs between batches.

    Args:
        meter: Of the device that works.
        work: What is measured.
        batch: Samples of a batch.
        procedure: Durations, numbers and limits.
        seed: Of the lengths of the pauses.
        report: Is told of the progress.

    Raises:
        ConfigError: The batch is not positive.
        TargetError: The counter stands still, goes backwards or cannot be read.
    """
    if batch < 1:
        raise ConfigError("batch", "must be at least 1", got=batch)
    counter, pauses = _Counter(meter, procedure), np.random.default_rng(seed)
    report(0, "warming up")
    batch_seconds = _warm_up(meter, work, procedure)
    states, began = [meter.state()], meter.now()
    report(1, "idle")
    meter.wait(procedure.settle_seconds)
    tick_seconds = counter.period()
    idle_before_w = counter.idle_power()
    windows = []
    for done in range(procedure.repeats):
        report(2 + done, f"window {done + 1} of {procedure.repeats}")
        meter.wait(float(pauses.uniform(0.0, procedure.gap_most_seconds)))
        windows.append(_window(counter, work, batch_seconds, tick_seconds))
        states.append(meter.state())
    report(2 + procedure.repeats, "idle")
    meter.wait(procedure.settle_seconds)
    idle_after_w = counter.idle_power()
    states.append(meter.state())
    first, last, elapsed = states[0].other_cpu_seconds, states[-1].other_cpu_seconds, meter.now() - began
    report(stages(procedure), "")
    return Measurement(
        meter=meter.name,
        device=meter.device,
        scope=meter.scope,
        resolution_j=meter.resolution_j,
        sensor_error=meter.sensor_error,
        batch=batch,
        tick_seconds=tick_seconds,
        idle_before_w=idle_before_w,
        idle_after_w=idle_after_w,
        windows=tuple(windows),
        states=tuple(states),
        other_cores=None if first is None or last is None else (last - first) / elapsed,
        procedure=procedure,
    )


@dataclass(frozen=True)
class _Reading:
    joules: float
    seconds: float


class _Counter:
    """Reads a meter at the moments when its counter moves.

    Such a moment is seen late by up to one look, at the start of a window as at its end.
    """

    def __init__(self, meter: Meter, procedure: Procedure) -> None:
        self.meter = meter
        self.procedure = procedure
        self._highest = -math.inf

    def tick(self) -> _Reading:
        """Waits until the counter moves.

        Raises:
            TargetError: It does not.
        """
        first = self.read()
        while (found := self.read()).joules == first.joules:
            if found.seconds - first.seconds > self.procedure.standstill_seconds:
                rule = f"its counter must move within {self.procedure.standstill_seconds:g} s"
                remedy = "the device may be asleep, or a virtual machine shows a counter that nothing drives"
                raise TargetError(self._where, rule, got=f"{first.joules:g} J all the time", remedy=remedy)
            self.meter.wait(self.procedure.poll_seconds)
        return found

    def period(self) -> float:
        """Seconds from tick to tick, the median."""
        seen = [self.tick().seconds for _ in range(self.procedure.watched_ticks + 1)]
        return statistics.median(later - earlier for earlier, later in pairwise(seen))

    def idle_power(self) -> float:
        """Watts while nothing is asked of the device."""
        start = self.tick()
        self.meter.wait(self.procedure.idle_seconds)
        end = self.tick()
        return (end.joules - start.joules) / (end.seconds - start.seconds)

    @property
    def _where(self) -> str:
        return f"energy meter {self.meter.name}"

    def read(self) -> _Reading:
        """What the counter shows now.

        Raises:
            TargetError: Less than before.
        """
        joules = self.meter.read_joules()
        if joules < self._highest:
            rule, got = "its counter must never go backwards", f"{joules:g} J after {self._highest:g} J"
            remedy = "measure again; the driver may have been reset"
            raise TargetError(self._where, rule, got=got, remedy=remedy)
        self._highest = joules
        return _Reading(joules, self.meter.now())


def _warm_up(meter: Meter, work: Work, procedure: Procedure) -> float:
    """Runs batches one by one until the device has its working state; gives the seconds of a batch."""
    began, taken = meter.now(), list[float]()
    while True:
        start = meter.now()
        work(1)
        end = meter.now()
        taken.append(end - start)
        enough = end - began >= procedure.warm_up_seconds and len(taken) >= procedure.warm_up_batches
        if enough or end - began >= procedure.warm_up_most_seconds:
            return statistics.median(taken[len(taken) // 2 :])


def _window(counter: _Counter, work: Work, batch_seconds: float, tick_seconds: float) -> Window:
    """Works from one tick of the counter on, for as long as the procedure demands, and on to the next tick."""
    procedure, meter = counter.procedure, counter.meter
    wanted = max(procedure.window_seconds, procedure.window_ticks * tick_seconds)
    wanted = min(wanted, procedure.window_most_seconds)
    chunk = max(1, int(wanted / _CHUNKS / batch_seconds)) if batch_seconds > 0 else 1
    batches, start = 0, counter.tick()
    while True:
        work(chunk)
        batches += chunk
        finished = meter.now()
        if finished - start.seconds >= wanted:
            break
        counter.read()  # so that a counter of small range is not missed starting again
    end = counter.tick()
    return Window(
        batches=batches,
        busy_seconds=finished - start.seconds,
        seconds=end.seconds - start.seconds,
        joules=end.joules - start.joules,
    )
