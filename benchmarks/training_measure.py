"""Times and memory of the variants of benchmarks/training.py, each measurement in a process of its own.

So the number of threads is set before anything runs, code compiled for one number never serves another, and no
variant finds memory that another has left behind.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import random
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

from benchmarks.training_agreement import Agreement, agreement
from benchmarks.training_variants import VARIANTS, Case, Step

WARM_UP = 1  # steps after the first, which may compile
_STATUS, _RESET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Times:
    """Seconds of each training step of a variant, in the order of the rounds.

    first: Of the first step, which compiles what is to be compiled.
    """

    first: float
    wall: list[float]
    cpu: list[float]


def alone(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The result of a function of this module in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def times(case: Case, names: Sequence[str], threads: int, rounds: int) -> dict[str, Times]:
    """Times variants in turns, so that whatever else the machine does meets all alike.

    Every round has an order of its own, the same ones in every run, so that none always comes after the same one.
    """
    torch.set_num_threads(threads)
    steps = {name: _build(case, name) for name in names}
    found = {name: Times(_timed(step)[0], [], []) for name, step in steps.items()}
    for index, order in enumerate(orders(names, WARM_UP + rounds), -WARM_UP):
        for name in order:
            wall, cpu = _timed(steps[name])
            if index >= 0:
                found[name].wall.append(wall)
                found[name].cpu.append(cpu)
    return found


def orders(names: Sequence[str], rounds: int) -> list[list[str]]:
    """A random order of names for each round."""
    draw = random.Random(0)  # noqa: S311  (nothing secret)
    return [draw.sample(names, len(names)) for _ in range(rounds)]


def peak_bytes(case: Case, name: str, threads: int) -> int | None:
    """Memory that a training step takes at most beyond what there was before: activations and gradients.

    The first step does not count, since it may compile. None where the system does not tell.
    """
    torch.set_num_threads(threads)
    step = _build(case, name)
    step()
    gc.collect()
    if not sys.platform.startswith("linux"):
        return None
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    _RESET_PEAK.write_text("5")  # see proc(5)
    before = _status_bytes("VmRSS")
    step()
    return _status_bytes("VmHWM") - before


def agreement_alone(case: Case, library: str) -> Agreement:
    """`agreement`, on one thread."""
    torch.set_num_threads(1)
    return agreement(case, library)


def _build(case: Case, name: str) -> Step:
    (variant,) = (variant for variant in VARIANTS if variant.name == name)
    return variant.make(case)


def _timed(step: Step) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - wall, time.process_time() - cpu


def _status_bytes(key: str) -> int:
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024
