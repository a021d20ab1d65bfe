"""The Python interpreter that has Lava, whose last release needs Python 3.10 and an old NumPy."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from snndeploy.errors import TargetError

VARIABLE = "SNNDEPLOY_LAVA_PYTHON"
LAVA = "0.10.0"
REQUIREMENT = f"lava-nc=={LAVA}"
PYTHON = "3.10"
_MARKER = "complete"  # written last, so that an interrupted installation is never taken for an environment
_PROBE = "import sys, importlib.metadata as m; print(m.version('lava-nc'), '%d.%d' % sys.version_info[:2])"
_PROBE_SECONDS = 20.0
_PROBE_BYTES = 200  # more than the answer has


@dataclass(frozen=True)
class Interpreter:
    """A Python that can import Lava.

    path: Its executable.
    lava_version: Version of the lava-nc package it has.
    origin: How it was found: "variable", "current" or "environment".
    """

    path: Path
    lava_version: str
    origin: Literal["variable", "current", "environment"]

    def __str__(self) -> str:
        return f"{self.path} (lava-nc {self.lava_version})"


def find_interpreter() -> Interpreter:
    """The interpreter to simulate with.

    The environment variable SNNDEPLOY_LAVA_PYTHON comes first, then the current interpreter if it is Python
    3.10 with lava-nc 0.10.0, then the environment that `make_environment` made.

    Raises:
        TargetError: The variable names no such interpreter, or there is none at all.
    """
    named = os.environ.get(VARIABLE)
    if named:
        path = Path(named)
        return Interpreter(path, _probe(path, f"the environment variable {VARIABLE}"), "variable")
    if _has_lava():
        return Interpreter(Path(sys.executable), LAVA, "current")
    folder = environment_folder()
    if (folder / _MARKER).exists():
        path = _python(folder)
        return Interpreter(path, _probe(path, f"the Lava environment {folder}"), "environment")
    raise TargetError(
        "Lava",
        "no Python interpreter with lava-nc was found",
        remedy=f"run `snndeploy doctor --make-lava-env` once, or set {VARIABLE} to one",
    )


def _has_lava() -> bool:
    """Whether the current interpreter is one that bundles can be run with."""
    try:
        lava = importlib.metadata.version("lava-nc")
    except importlib.metadata.PackageNotFoundError:
        return False
    return (lava, "{}.{}".format(*sys.version_info)) == (LAVA, PYTHON)


def environment_folder() -> Path:
    """Where `make_environment` puts its environment: in the user's data folder."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base, "snndeploy", "lava-env")


def make_environment() -> Interpreter:
    """Makes a Python 3.10 environment with Lava with uv, unless there is one already. Needs the network.

    Raises:
        TargetError: uv is missing or fails; the message ends with what it said.
    """
    folder = environment_folder()
    if not (folder / _MARKER).exists():
        uv = _uv()
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TargetError(str(folder), "cannot be written", got=error.strerror) from error
        _run(uv, "venv", "--python", PYTHON, str(folder))
        _run(uv, "pip", "install", "--python", str(_python(folder)), REQUIREMENT)
        (folder / _MARKER).write_text(REQUIREMENT + "\n", encoding="utf-8")
    path = _python(folder)
    return Interpreter(path, _probe(path, f"the Lava environment {folder}"), "environment")


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _probe(path: Path, where: str) -> str:
    """Version of lava-nc in an interpreter, which must be the one that bundles are run with."""
    rule = "must name a Python interpreter that"
    remedy = (
        f"set {VARIABLE} to a Python {PYTHON} with {REQUIREMENT}, or run `snndeploy doctor --make-lava-env`"
    )
    try:
        answer = _ask([str(path), "-I", "-c", _PROBE])
    except OSError as error:
        raise TargetError(where, f"{rule} runs", got=path, remedy=remedy) from error
    if answer == f"{LAVA} {PYTHON}":
        return LAVA
    if re.fullmatch(r"[\w.+!-]+ \d+\.\d+", answer):
        lava, python = answer.split()
        got = f"{path} with Python {python} and lava-nc {lava}"
    else:
        got = str(path)
    raise TargetError(where, f"{rule} is Python {PYTHON} and has {REQUIREMENT}", got=got, remedy=remedy)


def _ask(command: Sequence[str]) -> str:
    """What a program says, empty unless it succeeds, soon and in few words; its process group ends with it.

    Raises:
        OSError: It cannot be started.
    """
    with subprocess.Popen(  # noqa: S603 - the interpreter is the user's choice
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        timer = threading.Timer(_PROBE_SECONDS, _kill_group, [process.pid])
        timer.start()
        try:
            said = process.stdout.read(_PROBE_BYTES) if process.stdout else b""
            if len(said) < _PROBE_BYTES:
                # WNOWAIT: until it is reaped, no other process can get the group's number
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        finally:
            timer.cancel()
            timer.join()
            _kill_group(process.pid)
    succeeded = process.returncode == 0 and len(said) < _PROBE_BYTES
    return said.decode(errors="replace").strip() if succeeded else ""


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _uv() -> list[str]:
    """The command for uv: of the uv that started this program, on the search path, or of this Python."""
    candidates = [[found] for found in (os.environ.get("UV"), shutil.which("uv")) if found]
    for command in (*candidates, [sys.executable, "-m", "uv"]):
        try:
            done = subprocess.run([*command, "--version"], capture_output=True, check=False)  # noqa: S603 - it is uv
        except OSError:
            continue
        if done.returncode == 0:
            return command
    raise TargetError(
        "uv",
        "is needed to make the Lava environment and was not found",
        remedy="run `python3 -m pip install uv`",
    )


def _run(uv: list[str], *arguments: str) -> None:
    """Runs a command of uv."""
    done = subprocess.run([*uv, *arguments], capture_output=True, text=True, check=False)  # noqa: S603 - it is uv
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise TargetError(
            "Lava environment",
            f"`uv {' '.join(arguments)}` failed",
            got=said or f"exit code {done.returncode}",
        )
