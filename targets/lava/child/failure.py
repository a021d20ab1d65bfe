"""Ends the whole process group when one process of it fails: Lava itself would wait for it for ever."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_SECONDS = 0.2


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


@contextmanager
def watching_children(error_path: str, allowed: Collection[int] = ()) -> Iterator[None]:
    """Writes to a file that a child was ended by a signal, as for its memory, then terminates the group.

    Args:
        error_path: File that the message is appended to.
        allowed: Signals that may end a child.
    """
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_POLL_SECONDS):
            number = _fatal_signal()
            if number and number not in allowed:
                time.sleep(_POLL_SECONDS)  # a signal to the whole group ends this process meanwhile
                with Path(error_path).open("a", encoding="utf-8") as file:
                    file.write(f"a Lava process was ended by signal {number} ({signal.strsignal(number)})\n")
                end_group()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _fatal_signal() -> int:
    """The signal that ended a child, 0 if none did. The child stays for multiprocessing to reap."""
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # there are no children
        return 0
    by_signal = ended and ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
    return ended.si_status if ended and by_signal else 0


def end_group() -> None:
    """Terminates every process of the group, this one included."""
    os.killpg(os.getpgrp(), signal.SIGTERM)


def end_with_parent() -> None:
    """Blocks until the parent closes standard input or dies, then ends the group."""
    while os.read(0, 1):
        pass
    end_group()
