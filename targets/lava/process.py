"""Runs a program in a process group of its own, which never outlives the call."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 3.0  # to clean up after SIGTERM, or after the first process of the group has gone
_LAST_LINES = 20


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    exit_code: Negative for the number of a signal; None if it was ended for exceeding the time limit.
    last_lines: Of what the group wrote to standard output and error.
    """

    exit_code: int | None
    last_lines: tuple[str, ...]


def run_group(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    time_limit_seconds: float,
    poll: Callable[[], None],
) -> Ended:
    """Runs a command and waits until its whole process group has ended.

    The group is terminated, and killed if that does not help, when the time limit has passed, when its first
    process has ended without the others, and when an exception (as from Ctrl-C) leaves this function. The
    command's standard input stays open as long as this process lives.

    Args:
        command: The program and its arguments.
        environment: Its environment variables.
        folder: Its working folder.
        time_limit_seconds: Wall-clock time.
        poll: Called a few times per second.

    Raises:
        OSError: The command cannot be started.
    """
    process = subprocess.Popen(  # noqa: S603 - the command is ours
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        cwd=folder,
        start_new_session=True,
    )
    lines: deque[bytes] = deque(maxlen=_LAST_LINES)
    # Every process of the group holds the pipe, so the reader ends when the last of them has.
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
    reader.start()
    try:
        in_time = _wait(process.pid, reader, time.monotonic() + time_limit_seconds, poll)
        said = tuple(lines)  # before the group is told to end, and perhaps complains
    finally:
        _end(process, reader)
    text = tuple(line.decode(errors="replace").rstrip() for line in said)
    return Ended(process.returncode if in_time else None, text)


def _wait(leader: int, reader: threading.Thread, deadline: float, poll: Callable[[], None]) -> bool:
    """Waits for the group, or at least its leader, to end; returns whether it did before the deadline."""
    while True:
        reader.join(_POLL_SECONDS)
        poll()
        if not reader.is_alive():
            return True
        # WNOWAIT: as long as the leader is not reaped, no other process can get the group's number
        if os.waitid(os.P_PID, leader, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            reader.join(_GRACE_SECONDS)
            return True
        if time.monotonic() > deadline:
            return False


def _end(process: subprocess.Popen[bytes], reader: threading.Thread) -> None:
    """Ends what is left of the group: SIGTERM lets Python remove its shared memory, SIGKILL is certain."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        reader.join(_GRACE_SECONDS)
        if not reader.is_alive():
            break
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
