"""Compiles `neurons.c` for this machine, once, and loads it.

It takes about a second and the result is kept, so that it costs nothing even in a short run or in a test,
where a general compiler of PyTorch code would take longer than the whole training. Where there is no C
compiler, everything runs without; only slower.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SWITCH = "SNNDEPLOY_COMPILE"  # in the environment; 0 for no compiled neurons
_SOURCE = Path(__file__).with_name("neurons.c")
# Contraction would round u = tau * v + x once instead of twice, and so change spikes.
_FLAGS = ("-O3", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared")
_NATIVE = "-march=native"  # which not every compiler knows
_SECONDS = 120  # a compiler that takes longer hangs
_OWNER_ONLY = 0o700


@dataclass(frozen=True)
class Build:
    """What became of compiling.

    library: The compiled functions; None if there are none.
    problem: Why; empty if there are.
    """

    library: ctypes.CDLL | None
    problem: str = ""


@functools.cache
def build() -> Build:
    """The compiled functions, from the cache folder if they were compiled before."""
    if os.environ.get(SWITCH) == "0":
        return Build(None, f"{SWITCH} is 0")
    compiler = _compiler()
    if not compiler:
        return Build(None, "there is no C compiler (cc, gcc, clang, or the one that CC names)")
    try:
        with _compiled(compiler) as path:
            return Build(_typed(ctypes.CDLL(str(path))))
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        return Build(None, f"{shlex.join(compiler)}: {lines[0]}")
    except (OSError, AttributeError, subprocess.TimeoutExpired) as error:
        return Build(None, str(error))


def cache_folder() -> Path:
    """Where compiled functions are kept: `$XDG_CACHE_HOME/snndeploy`, by default `~/.cache/snndeploy`."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "snndeploy"


def _compiler() -> list[str]:
    """The command; empty if there is none. CC may hold options, or a launcher before the compiler."""
    for command in (
        [named] if (named := shlex.split(os.environ.get("CC", ""))) else [["cc"], ["gcc"], ["clang"]]
    ):
        if (found := shutil.which(command[0])) is not None:
            return [found, *command[1:]]
    return []


@contextmanager
def _compiled(compiler: Sequence[str]) -> Iterator[Path]:
    """The path of the compiled library, of this source, compiler and processor.

    A folder that somebody else can write to is not trusted with code; it is compiled for this process then.
    """
    name = f"neurons-{_key(compiler)}"
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=_OWNER_ONLY)
        trusted = _is_private(folder) and os.access(folder, os.W_OK)
    except (OSError, RuntimeError):  # no home folder, or one that cannot be written
        trusted = False
    if trusted:
        yield _kept(folder, name) or _compile(compiler, folder, name)
        return
    with tempfile.TemporaryDirectory(prefix="snndeploy-") as own:  # once loaded, the file may go
        yield _compile(compiler, Path(own), name)


def _kept(folder: Path, name: str) -> Path | None:
    """What was compiled before, if it is still whole: a damaged library would kill the process."""
    for path in sorted(folder.glob(f"{name}-*.so")):
        if path.is_file() and _is_private(path) and path.stem == f"{name}-{_digest(path)}":
            return path
    return None


def _is_private(path: Path) -> bool:
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _key(compiler: Sequence[str]) -> str:
    """Differs where the compiled code may: a home folder can be shared by unlike machines."""
    parts = [_SOURCE.read_text(encoding="utf-8"), *_FLAGS, *compiler, _run([*compiler, "--version"])]
    return hashlib.sha256("\0".join([*parts, platform.machine(), _processor()]).encode()).hexdigest()[:16]


def _processor() -> str:
    """Names what instructions the processor has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return "".join(
        dict.fromkeys(line for line in lines if line.startswith(("model name", "flags", "Features")))
    )


def _compile(compiler: Sequence[str], folder: Path, name: str) -> Path:
    """Compiles under a temporary name and renames, since several processes may do so at once."""
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=folder) as own:
        temporary = Path(own) / "neurons.so"
        command = [*compiler, *_FLAGS, str(_SOURCE), "-o", str(temporary)]
        try:
            _run([*command, _NATIVE])
        except subprocess.CalledProcessError:
            _run(command)
        temporary.chmod(_OWNER_ONLY)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        return temporary.replace(folder / f"{name}-{_digest(temporary)}.so")


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=True,
        timeout=_SECONDS,
    )
    return done.stdout


def _typed(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declares the arguments of `neurons.c`, so that ctypes checks and converts them."""
    pointer, whole, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    size = [whole] * 5  # steps, all rows, channels, first row, row after the last
    counting = whole, pointer  # how many neurons, and a number for each
    library.lif_forward.argtypes = [pointer, whole, *size, real, real, *[pointer] * 4, *counting]
    library.lif_backward.argtypes = [
        pointer,
        whole,
        *size,
        *[real] * 3,
        *[pointer] * 6,
        *counting,
        real,
        real,
    ]
    library.moments.argtypes = [pointer, *size, pointer, pointer]
    library.combine.argtypes = [*[pointer] * 6, *size, pointer]
    for function in (library.lif_forward, library.lif_backward, library.moments, library.combine):
        function.restype = None
    return library
