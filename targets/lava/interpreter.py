"""The Python interpreter that has Lava, whose last release needs Python 3.10 and an old NumPy."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from snndeploy.errors import TargetError

VARIABLE = "SNNDEPLOY_LAVA_PYTHON"
REQUIREMENT = "lava-nc==0.10.0"
PYTHON = "3.10"
_MARKER = "complete"  # written last, so that an interrupted installation is never taken for an environment
_PROBE = "import importlib.metadata as m; print(m.version('lava-nc'))"
_PROBE_SECONDS = 60


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

    The environment variable SNNDEPLOY_LAVA_PYTHON comes first, then the current interpreter if it has Lava,
    then the environment that `make_environment` made.

    Raises:
        TargetError: The variable names no interpreter with Lava, or there is none at all.
    """
    named = os.environ.get(VARIABLE)
    if named:
        path = Path(named)
        return Interpreter(path, _probe(path, f"the environment variable {VARIABLE}"), "variable")
    try:
        return Interpreter(Path(sys.executable), importlib.metadata.version("lava-nc"), "current")
    except importlib.metadata.PackageNotFoundError:
        pass
    folder = environment_folder()
    if (folder / _MARKER).exists():
        path = _python(folder)
        return Interpreter(path, _probe(path, f"the Lava environment {folder}"), "environment")
    raise TargetError(
        "Lava",
        "no Python interpreter with lava-nc was found",
        remedy=f"run `snndeploy doctor --make-lava-env` once, or set {VARIABLE} to one",
    )


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
    """Version of lava-nc in an interpreter."""
    remedy = "name a Python 3.10 that has lava-nc, or run `snndeploy doctor --make-lava-env`"
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter is the user's choice
            [str(path), "-I", "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TargetError(
            where, "must name a Python interpreter that runs", got=path, remedy=remedy
        ) from error
    if done.returncode != 0:
        raise TargetError(where, "must name a Python interpreter that has lava-nc", got=path, remedy=remedy)
    return done.stdout.strip()


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
