"""Ends the whole process group when one process of it fails: Lava itself would wait for it for ever."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import current_process, shared_memory
from pathlib import Path

_POLL_SECONDS = 0.2
_RANDOM_CHARACTERS = 8
_LIKELY = {
    signal.SIGKILL: ", perhaps for lack of memory",
    signal.SIGBUS: ", perhaps as shared memory is full",
}


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
        try:
            _append(error_path, f"{where}:\n{traceback.format_exc()}")
        finally:
            end_group()


@contextmanager
def watching_children(
    error_path: str, *, stopping: bool, last_words: Callable[[], str] = lambda: ""
) -> Iterator[None]:
    """Writes to a file that a child of this process ended when it should not, then terminates the group.

    Args:
        error_path: File that the message is appended to.
        stopping: Whether children may end by themselves or by SIGTERM, with which multiprocessing ends its
            manager of shared memory if that is slow; otherwise none may end.
        last_words: What is known of the reason, asked for once.
    """
    done = threading.Event()

    def watch() -> None:
        before = None
        while not done.wait(_POLL_SECONDS):
            ended = _ended_child()
            # Seen twice: one that this process waits for, such as a program that looks for a library, is gone
            # by then, and so is this process if the signal went to the whole group.
            if ended and before and ended.si_pid == before.si_pid and not (stopping and _ended_well(ended)):
                try:
                    _append(error_path, f"a Lava process {_how(ended)}\n{last_words()}")
                finally:
                    end_group()
            before = ended

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _ended_child() -> os.waitid_result | None:
    """How a child ended, None if none did. The child stays for multiprocessing to reap."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # there are no children
        return None


def _ended_well(ended: os.waitid_result) -> bool:
    return ended.si_status == (0 if ended.si_code == os.CLD_EXITED else signal.SIGTERM)


def _how(ended: os.waitid_result) -> str:
    if ended.si_code == os.CLD_EXITED:
        return f"ended too early, with exit code {ended.si_status}"
    number = signal.Signals(ended.si_status)
    return f"was ended by signal {int(number)} ({signal.strsignal(number)}){_LIKELY.get(number, '')}"


def _append(path: str, text: str) -> None:
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(text)


def end_group() -> None:
    """Terminates every process of the group, this one included."""
    os.killpg(os.getpgrp(), signal.SIGTERM)


def end_with_parent() -> None:
    """Blocks until the parent closes standard input or dies, then ends the group."""
    while os.read(0, 1):
        pass
    end_group()


def name_shared_memory(prefix: str) -> None:
    """Begins the names of all shared memory and semaphores made from now on, here and in processes forked from here.

    Python removes them when the last process of the group has gone, unless that was killed too; by their names
    the runner finds what is left.
    """
    names = {"_SHM_NAME_PREFIX": f"/{prefix}", "_SHM_SAFE_NAME_LENGTH": 1 + len(prefix) + _RANDOM_CHARACTERS}
    for name, value in names.items():
        if not hasattr(shared_memory, name):
            raise RuntimeError(f"this Python's shared memory has no {name}")
        setattr(shared_memory, name, value)
    current_process()._config["semprefix"] = f"/{prefix}"  # type: ignore[attr-defined]
