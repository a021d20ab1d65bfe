"""What a benchmark says about the machine it ran on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

# Instruction sets that decide how fast float32 and int8 products are.
_TELLING = (
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
)


def cpu_name() -> str:
    """The processor's name, from Linux where it tells."""
    return _field("model name") or platform.processor() or platform.machine()


def cpu_flags() -> tuple[str, ...]:
    """Which of the instruction sets for vectors and int8 products the processor has; empty where unknown."""
    known = set((_field("flags") or _field("Features")).split())
    return tuple(flag for flag in _TELLING if flag in known)


def cores() -> int:
    """How many this process may use, as far as the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float | None:
    """Processes that ran or waited for a core in the last minute, where the system tells."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _field(name: str) -> str:
    """Of the first processor in /proc/cpuinfo; empty if there is none."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == name), "")
