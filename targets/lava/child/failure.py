"""Ends the whole process group when one process of it fails: Lava itself would wait for it for ever."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import current_process, shared_memory
from pathlib import Path

_POLL_SECONDS = 0.2
_RANDOM_CHARACTERS = 8
_ENDED_WELL = (0, -signal.SIGTERM)  # exit codes of children that were asked to end
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
    error_path: str,
    *,
    stopping: bool,
    exit_codes: Callable[[], list[int | None]] = list,
    last_words: Callable[[], str] = lambda: "",
) -> Iterator[None]:
    """Writes to a file that a child of this process ended when it should not, then terminates the group.

    Args:
        error_path: File that the message is appended to.
        stopping: Whether children may end by themselves or by SIGTERM, with which multiprocessing ends its
            manager of shared memory if that is slow; otherwise none may end.
        exit_codes: Those of multiprocessing's own children, None while they run. It may reap one that ended when
            it starts the next, so that the system no longer tells of it.
        last_words: What is known of the reason, asked for once.
    """
    done = threading.Event()

    def watch() -> None:
        before: set[int] = set()
        while not done.wait(_POLL_SECONDS):
            ended = {e.si_pid: e for e in _ended_children() if not (stopping and _ended_well(e))}
            # Seen twice: one that this process waits for, such as a program that looks for a library, is gone
            # by then, and so is this process if the signal went to the whole group.
            found = [_how(ended[child]) for child in sorted(before & ended.keys())]
            codes = [code for code in exit_codes() if code is not None]
            found += [_of_code(code) for code in codes if not (stopping and code in _ENDED_WELL)]
            if found:
                try:
                    _append(error_path, f"a Lava process {found[0]}\n{last_words()}")
                finally:
                    end_group()
            before = set(ended)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _ended_children() -> list[os.waitid_result]:
    """How children ended, of those that have. They stay for multiprocessing to reap.

    Each is asked for by its number: asked for any child, the system might name one that ended well for ever.
    """
    children: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # the thread has gone
            children.update(map(int, (thread / "children").read_text().split()))
    found = []
    for child in children:
        with suppress(ChildProcessError):  # reaped meanwhile
            ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            found += [ended] if ended else []
    return found


def _ended_well(ended: os.waitid_result) -> bool:
    return _code(ended) in _ENDED_WELL


def _how(ended: os.waitid_result) -> str:
    return _of_code(_code(ended))


def _code(ended: os.waitid_result) -> int:
    """Exit code as multiprocessing has it: negative for the number of a signal."""
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _of_code(code: int) -> str:
    if code >= 0:
        return f"ended too early, with exit code {code}"
    number = signal.Signals(-code)
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
