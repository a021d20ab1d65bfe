"""How the C library hands out memory while training on a CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Of mallopt in glibc's malloc.h, and glibc's own values.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = -1
_DEFAULTS = ((_TRIM_THRESHOLD, 128 * 1024), (_MMAP_MAX, 65536))


def keep_freed_memory() -> bool:
    """Lets this process keep the memory it frees, for its next batch; returns whether that was possible.

    Every batch needs the same tensors again. By default glibc gives large ones back to the system at once, and
    fetching them anew, a page at a time and zeroed, takes longer than filling them. What is kept is more than is
    needed at a time, as tensors of unlike size leave gaps.
    """
    mallopt = _function("mallopt")
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))


@contextmanager
def kept_memory() -> Iterator[None]:
    """Within it this process keeps the memory it frees; afterwards it gives back all that is free."""
    kept = keep_freed_memory()
    try:
        yield
    finally:
        mallopt, trim = _function("mallopt"), _function("malloc_trim")
        if kept and mallopt is not None and trim is not None:
            for name, value in _DEFAULTS:
                mallopt(name, value)
            trim(0)


def _function(name: str) -> Callable[..., int] | None:
    """A function of the C library; None in one that does not have it."""
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
    return found
