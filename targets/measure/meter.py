"""What a measurement needs of an energy counter and of the device that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

MeterName: TypeAlias = Literal["nvml", "rapl"]

SENSOR_ERROR = 0.05
"""Share by which a reading of either counter may be off. Assumed: the class of such sensors. Of power sensors of
A100 and H100 boards only a quarter of the time is sampled (arXiv 2312.02741), so less would be a false promise."""


@dataclass(frozen=True, kw_only=True)
class DeviceState:
    """What a device is doing; None where it cannot be known.

    temperature_celsius: Of the device.
    clock_mhz: Of its arithmetic.
    others: Processes that compute on it and are not this one.
    partitioned: Whether the counter belongs to more than the part that computes.
    other_cpu_seconds: CPU time of all other processes since some moment, summed over the cores.
    """

    temperature_celsius: float | None = None
    clock_mhz: float | None = None
    others: tuple[str, ...] = ()
    partitioned: bool = False
    other_cpu_seconds: float | None = None


class Meter(Protocol):
    """An energy counter with a clock.

    name: Which interface it is read through.
    device: The device, as it calls itself.
    scope: What the counter covers.
    resolution_j: The smallest difference that it can show, in joules.
    sensor_error: Share by which its readings may be off.
    """

    @property
    def name(self) -> MeterName: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def scope(self) -> str: ...  # noqa: D102
    @property
    def resolution_j(self) -> float: ...  # noqa: D102
    @property
    def sensor_error(self) -> float: ...  # noqa: D102

    def read_joules(self) -> float:
        """Energy used since some moment, in joules; never less than before."""

    def now(self) -> float:
        """Seconds since some moment."""

    def wait(self, seconds: float) -> None:
        """Does nothing for a time."""

    def state(self) -> DeviceState:
        """What the device is doing now."""
