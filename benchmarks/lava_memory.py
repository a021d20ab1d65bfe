"""Memory of a process and all that it started."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

_PERIOD_SECONDS = 0.1
_PROC = Path("/proc")

R = TypeVar("R")


def peak_bytes(pid: int, call: Callable[[], R]) -> tuple[int, R]:
    """The largest memory of a process and its descendants during a call, and what that returned.

    Pages that several processes share count once: what is summed is the proportional set size, see proc(5).
    """
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, sum(map(_bytes, [pid, *descendants(pid)])))
            done.wait(_PERIOD_SECONDS)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        result = call()
    finally:
        done.set()
        watcher.join()
    return peak, result


def descendants(pid: int) -> list[int]:
    """Process ids of all that a process started, and they in turn."""
    children = defaultdict(list)
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has ended
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
                children[int(after_name[1])].append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        fresh = children[waiting.pop()]
        found += fresh
        waiting += fresh
    return found


def _bytes(pid: int) -> int:
    with suppress(OSError):  # it has ended
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
