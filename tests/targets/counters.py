"""A device in simulated time, with an energy counter that is as bad as real ones are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from snndeploy.targets.measure import DeviceState, MeterName

Power: TypeAlias = Callable[[float], float]
"""Watts at a moment."""

LOOK_SECONDS = 2e-4  # that a read of the counter takes


def constant(watts: float) -> Power:
    """Power that does not change."""
    return lambda _seconds: watts


@dataclass(kw_only=True)
class Device:
    """A device that works when told, and its meter; nothing sleeps.

    idle_w, other_w: Without work, and what others add at any time.
    work_w: Added by work.
    batch_seconds: Time of a batch.
    tick_seconds, jitter: Mean period of the counter, and by what share its periods vary.
    gain: What the sensor shows of the truth.
    tail_w, tail_seconds: Added for a time after work.
    noise: Standard deviation of the power of a tick, as a share.
    moves: Whether the counter moves at all.
    reset_at: When it starts again at 0.
    told: What is told of the device's state at a moment.
    """

    seed: int = 0
    idle_w: Power = field(default_factory=lambda: constant(60.0))
    other_w: Power = field(default_factory=lambda: constant(0.0))
    work_w: Power = field(default_factory=lambda: constant(240.0))
    tail_w: float = 0.0
    tail_seconds: float = 0.0
    batch_seconds: float = 0.004
    tick_seconds: float = 0.05
    jitter: float = 0.2
    gain: float = 1.0
    noise: float = 0.0
    moves: bool = True
    reset_at: float = math.inf
    told: Callable[[float], DeviceState] = field(default_factory=lambda: lambda _seconds: DeviceState())
    name: MeterName = "nvml"
    device: str = "simulated GPU"
    scope: str = "the whole board"
    resolution_j: float = 1e-3
    sensor_error: float = 0.05
    batches: int = 0
    _seconds: float = 0.0
    _seen_j: float = 1e4
    _shown_j: float = 1e4
    _next: float = 0.0
    _worked: float = -math.inf

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        self._next = self._period()

    def read_joules(self) -> float:
        """What the counter shows, in whole units of its resolution."""
        self._advance(LOOK_SECONDS, working=False)
        return math.floor(self._shown_j / self.resolution_j) * self.resolution_j

    def now(self) -> float:
        """Simulated seconds."""
        return self._seconds

    def wait(self, seconds: float) -> None:
        """Idles."""
        self._advance(seconds, working=False)

    def state(self) -> DeviceState:
        """What the test says."""
        return self.told(self._seconds)

    def work(self, batches: int) -> None:
        """Computes."""
        self.batches += batches
        self._advance(batches * self.batch_seconds, working=True)

    def _period(self) -> float:
        return self._seconds + self.tick_seconds * (1 + self.jitter * self._random.uniform(-1, 1))

    def _advance(self, seconds: float, *, working: bool) -> None:
        """Lets time pass, from tick to tick."""
        end = self._seconds + seconds
        while self._seconds < end:
            until = min(end, self._next)
            middle = (self._seconds + until) / 2
            watts = self.idle_w(middle) + self.other_w(middle)
            if working:
                watts += self.work_w(middle)
                self._worked = until
            elif middle - self._worked < self.tail_seconds:
                watts += self.tail_w
            share = self.gain * (1 + self.noise * self._random.standard_normal())
            self._seen_j += share * watts * (until - self._seconds)
            self._seconds = until
            if until == self._next:
                self._tick()

    def _tick(self) -> None:
        if self._seconds >= self.reset_at:
            self._seen_j, self.reset_at = 0.0, math.inf
        if self.moves:
            self._shown_j = self._seen_j
        self._next = self._period()
