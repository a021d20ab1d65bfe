"""Ends the whole process group when one process of it fails: Lava itself would wait for it for ever."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def ending_all(error_path: str, where: str) -> Iterator[None]:
    """Writes an exception of the body to a file, then terminates every process of the group.

    Args:
        error_path: File that the exception is appended to.
        where: What the body was doing.
    """
    try:
        yield
    except Exception:
        with Path(error_path).open("a", encoding="utf-8") as file:
            file.write(f"{where}:\n{traceback.format_exc()}")
        end_group()


def end_group() -> None:
    """Terminates every process of the group, this one included."""
    os.killpg(os.getpgrp(), signal.SIGTERM)


def end_with_parent() -> None:
    """Blocks until the parent closes standard input or dies, then ends the group."""
    while os.read(0, 1):
        pass
    end_group()
