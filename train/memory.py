"""How the C library hands out memory while training on a CPU."""

from __future__ import annotations

import ctypes

# Of mallopt in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Lets this process keep the memory it frees, for its next batch; returns whether that was possible.

    Every batch needs the same tensors again. By default glibc gives large ones back to the system at once, and
    fetching them anew, a page at a time and zeroed, takes longer than filling them.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))
