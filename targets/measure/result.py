"""What was measured, how sure it is, and what speaks against it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from snndeploy.errors import ConfigError
from snndeploy.targets.measure.meter import DeviceState, MeterName

FlagName: TypeAlias = Literal[
    "other processes",
    "partitioned device",
    "coarse counter",
    "short window",
    "idle drift",
    "unsteady",
    "lost in idle power",
]
_LEAST_REPEATS = 2  # for a spread
_QUANTISATION_TICKS = 2  # a window may be off by one at each end


@dataclass(frozen=True, kw_only=True)
class Procedure:
    """How a measurement is done.

    warm_up_seconds: At least so long, and ...
    warm_up_batches: ... at least so many batches, but ...
    warm_up_most_seconds: ... no further batch after so long.
    settle_seconds: Between work and an idle window.
    idle_seconds: Of the window before and the one after.
    watched_ticks: From which the counter's period is found.
    window_seconds: At least so long, and ...
    window_ticks: ... at least so many ticks of the counter, but ...
    window_most_seconds: ... no further batches after so long.
    repeats: Number of windows.
    gap_most_seconds: Pauses between them have random lengths up to this, so that nothing keeps in step.
    poll_seconds: Between two looks at the counter.
    standstill_seconds: A counter that does not move for so long is broken.
    drift_share: Idle power may change by so much.
    spread_share: The standard deviation of the windows may be so much of their median.
    coarse_share: Two ticks may be so much of the net energy of a window.
    other_cores: CPU cores that others may keep busy on average.
    """

    warm_up_seconds: float = 3
    warm_up_batches: int = 50
    warm_up_most_seconds: float = 30
    settle_seconds: float = 2
    idle_seconds: float = 5
    watched_ticks: int = 20
    window_seconds: float = 10
    window_ticks: int = 100
    window_most_seconds: float = 60
    repeats: int = 5
    gap_most_seconds: float = 1
    poll_seconds: float = 0.001
    standstill_seconds: float = 5
    drift_share: float = 0.05
    spread_share: float = 0.05
    coarse_share: float = 0.05
    other_cores: float = 0.1

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"measuring procedure, {name}", "must be above 0", got=value)
        if self.repeats < _LEAST_REPEATS:
            rule = f"must be at least {_LEAST_REPEATS}"
            raise ConfigError("measuring procedure, repeats", rule, got=self.repeats)


STANDARD = Procedure()


@dataclass(frozen=True)
class Figure:
    """Joules per inference. The value is believed to lie within +- uncertainty; parts are what that is made of."""

    value: float
    uncertainty: float
    parts: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"value": self.value, "uncertainty": self.uncertainty, "parts": dict(self.parts)}


@dataclass(frozen=True)
class Window:
    """One stretch of work, from a tick of the counter to the first tick after the work.

    batches: Inferences over the batch size.
    busy_seconds: From the first tick to the end of the work.
    seconds: From tick to tick.
    joules: Between the ticks.
    """

    batches: int
    busy_seconds: float
    seconds: float
    joules: float


@dataclass(frozen=True)
class Flag:
    """Something that speaks against a measurement."""

    name: FlagName
    detail: str


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Energy of inference as a counter saw it.

    batch: Samples of a batch.
    tick_seconds: Period of the counter.
    idle_before_w, idle_after_w: Power of the device without work.
    states: After the warm-up, after every window, at the end.
    other_cores: CPU cores that other processes kept busy on average; None where that is not known.
    """

    meter: MeterName
    device: str
    scope: str
    resolution_j: float
    sensor_error: float
    batch: int
    tick_seconds: float
    idle_before_w: float
    idle_after_w: float
    windows: tuple[Window, ...]
    states: tuple[DeviceState, ...]
    other_cores: float | None
    procedure: Procedure

    @property
    def idle_w(self) -> float:
        """Idle power, the mean of before and after."""
        return (self.idle_before_w + self.idle_after_w) / 2

    @property
    def latency_seconds(self) -> float:
        """Time of one batch, the median of the windows."""
        return statistics.median(w.busy_seconds / w.batches for w in self.windows)

    @property
    def net_j(self) -> Figure:
        """What an inference takes beyond idle power: (E - P_idle t) / inferences, over the whole window."""
        values = [(w.joules - self.idle_w * w.seconds) / (w.batches * self.batch) for w in self.windows]
        return self._figure(values, drift=1.0)

    @property
    def gross_j(self) -> Figure:
        """All the device uses while it works; what it used idly from the end of the work to the tick is taken off."""
        values = [
            (w.joules - self.idle_w * (w.seconds - w.busy_seconds)) / (w.batches * self.batch)
            for w in self.windows
        ]
        tail = statistics.median((w.seconds - w.busy_seconds) / w.seconds for w in self.windows)
        return self._figure(values, drift=tail)

    def _figure(self, values: list[float], drift: float) -> Figure:
        """The median, with independent errors added in squares.

        The sensor's error is a share of all energy that it saw, for the net energy too: nobody promises that it
        is the same share at idle power and at work, where it would cancel in part.

        Args:
            values: Joules per inference of each window.
            drift: Share of a window for which idle power was subtracted.
        """
        inferences = statistics.median(w.batches for w in self.windows) * self.batch
        seconds = statistics.median(w.seconds for w in self.windows)
        joules = statistics.median(w.joules for w in self.windows)
        parts = {
            "repeats": statistics.stdev(values),
            "sensor": self.sensor_error * joules / inferences,
            "idle_drift": abs(self.idle_after_w - self.idle_before_w) * seconds * drift / inferences,
            "ticks": self._quantisation_j / inferences,
        }
        return Figure(statistics.median(values), math.hypot(*parts.values()), parts)

    @property
    def _quantisation_j(self) -> float:
        # Never less than two units of its resolution: the counter cannot move before it has one to show.
        power = statistics.median(w.joules / w.seconds for w in self.windows)
        return _QUANTISATION_TICKS * power * self.tick_seconds

    @property
    def flags(self) -> tuple[Flag, ...]:
        """All that speaks against the measurement; none is good."""
        return (*self._flags_of_device(), *self._flags_of_windows())

    def _flags_of_device(self) -> list[Flag]:
        found = []
        others = sorted({name for state in self.states for name in state.others})
        if others:
            text = f"{', '.join(others)} computed on the device too, and the counter does not tell them apart"
            found.append(Flag("other processes", text))
        elif self.other_cores is not None and self.other_cores > self.procedure.other_cores:
            text = f"other processes kept {self.other_cores:.2g} cores busy, and the counter does not tell them apart"
            found.append(Flag("other processes", text))
        if any(state.partitioned for state in self.states):
            text = "the device is cut into parts (MIG), and the counter covers them all"
            found.append(Flag("partitioned device", text))
        change = abs(self.idle_after_w - self.idle_before_w)
        if change > self.procedure.drift_share * self.idle_w:
            text = f"idle power went from {self.idle_before_w:.3g} W to {self.idle_after_w:.3g} W"
            found.append(Flag("idle drift", text))
        return found

    def _flags_of_windows(self) -> list[Flag]:
        found, aims, net = [], self.procedure, self.net_j
        shortest = min(w.seconds for w in self.windows)
        ticks = shortest / self.tick_seconds
        if shortest < aims.window_seconds or ticks < aims.window_ticks:
            text = (
                f"{shortest:.3g} s and {ticks:.0f} ticks of the counter, where {aims.window_seconds:g} s and "
                f"{aims.window_ticks} ticks are needed"
            )
            found.append(Flag("short window", text))
        inferences = statistics.median(w.batches for w in self.windows) * self.batch
        share = self._quantisation_j / inferences / abs(net.value) if net.value else math.inf
        if share > aims.coarse_share:
            text = f"two ticks of {self.tick_seconds:.2g} s are {share:.2g} of the net energy of a window"
            found.append(Flag("coarse counter", text))
        gross = self.gross_j
        spread = gross.parts["repeats"] / gross.value if gross.value else math.inf
        if spread > aims.spread_share:
            text = f"the windows scatter by {spread:.1%} of their median"
            found.append(Flag("unsteady", text))
        if net.value <= net.uncertainty:
            found.append(Flag("lost in idle power", "the net energy is no larger than its uncertainty"))
        return found

    def to_json(self) -> dict[str, Any]:
        """The whole measurement as plain values: energies in joules per inference."""
        return {
            "label": "MEASURED",
            "meter": self.meter,
            "device": self.device,
            "scope": self.scope,
            "batch": self.batch,
            "gross_energy_j": self.gross_j.to_json(),
            "net_energy_j": self.net_j.to_json(),
            "latency_seconds": self.latency_seconds,
            "idle_power_w": {"mean": self.idle_w, "before": self.idle_before_w, "after": self.idle_after_w},
            "tick_seconds": self.tick_seconds,
            "resolution_j": self.resolution_j,
            "sensor_error": self.sensor_error,
            "flags": [asdict(flag) for flag in self.flags],
            "windows": [asdict(window) for window in self.windows],
            "states": [asdict(state) for state in self.states],
            "other_cores": self.other_cores,
            "procedure": asdict(self.procedure),
        }
