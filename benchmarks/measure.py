"""Times and memory of calls to be compared, each measurement in a process of its own.

So the number of threads is set before anything runs, code compiled for one number never serves another, and nothing
finds memory that another has left behind.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeAlias, TypeVar

_STATUS, _RESET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")

P = ParamSpec("P")
R = TypeVar("R")
Call: TypeAlias = Callable[[], object]


@dataclass(frozen=True)
class Times:
    """Seconds of each call, in the order of the rounds.

    first: Of the first call, which compiles what is to be compiled.
    """

    first: float
    wall: list[float]
    cpu: list[float]


def alone(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The result of a function that can be imported, in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def in_turns(
    calls: Mapping[str, Call], rounds: int, *, warm_up: int = 1, pause: float = 0.0
) -> dict[str, Times]:
    """Times calls in turns, so that whatever else the machine does meets all alike.

    Every round has an order of its own, the same ones in every run, so that none always comes after the same one.

    Args:
        calls: By name.
        rounds: Times that each is measured.
        warm_up: Rounds before, after the first call of each.
        pause: Seconds before each call, in which threads that the one before left spinning go to sleep.
    """
    found = {name: Times(timed(call)[0], [], []) for name, call in calls.items()}
    for index, order in enumerate(orders(list(calls), warm_up + rounds), -warm_up):
        for name in order:
            if pause:
                time.sleep(pause)
            wall, cpu = timed(calls[name])
            if index >= 0:
                found[name].wall.append(wall)
                found[name].cpu.append(cpu)
    return found


def orders(names: Sequence[str], rounds: int) -> list[list[str]]:
    """A random order of names for each round."""
    draw = random.Random(0)  # noqa: S311  (nothing secret)
    return [draw.sample(names, len(names)) for _ in range(rounds)]


def timed(call: Call) -> tuple[float, float]:
    """Wall and processor seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def resident_bytes() -> int | None:
    """Memory of this process once what is free has gone back to the system; None where that does not tell."""
    gc.collect()
    if not sys.platform.startswith("linux"):
        return None
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return _status_bytes("VmRSS")


def peak_bytes_of(call: Call) -> int | None:
    """The largest memory of this process during a call, all that it held before included."""
    if resident_bytes() is None:
        return None
    _RESET_PEAK.write_text("5")  # see proc(5)
    call()
    return _status_bytes("VmHWM")


def _status_bytes(key: str) -> int:
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024
