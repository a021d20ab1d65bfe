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
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SWITCH = "SNNDEPLOY_COMPILE"  # in the environment; 0 for no compiled neurons
_SOURCE = Path(__file__).with_name("neurons.c")
# Contraction would round u = tau * v + x once instead of twice, and so change spikes.
_FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared")
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
    if compiler is None:
        return Build(None, "there is no C compiler (cc, gcc, clang, or the one that CC names)")
    try:
        with _compiled(compiler) as path:
            return Build(_typed(ctypes.CDLL(str(path))))
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        return Build(None, f"{compiler}: {lines[0]}")
    except (OSError, AttributeError, subprocess.TimeoutExpired) as error:
        return Build(None, str(error))


def cache_folder() -> Path:
    """Where compiled functions are kept: `$XDG_CACHE_HOME/snndeploy`, by default `~/.cache/snndeploy`."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "snndeploy"


def _compiler() -> str | None:
    named = os.environ.get("CC", "").split()
    candidates = named[:1] or ["cc", "gcc", "clang"]
    return next((found for name in candidates if (found := shutil.which(name)) is not None), None)


@contextmanager
def _compiled(compiler: str) -> Iterator[Path]:
    """The path of the compiled library, of this source, compiler and processor.

    A folder that somebody else can write to is not trusted with code; it is compiled for this process then.
    """
    name = f"neurons-{_key(compiler)}.so"
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=_OWNER_ONLY)
        trusted = _is_private(folder) and os.access(folder, os.W_OK)
    except (OSError, RuntimeError):  # no home folder, or one that cannot be written
        trusted = False
    if trusted:
        path = folder / name
        if not (path.is_file() and _is_private(path)):
            _compile(compiler, path)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="snndeploy-") as own:  # once loaded, the file may go
        path = Path(own) / name
        _compile(compiler, path)
        yield path


def _is_private(path: Path) -> bool:
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def _key(compiler: str) -> str:
    """Differs where the compiled code may: a home folder can be shared by unlike machines."""
    command = [compiler, "--version"]
    version = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS)  # noqa: S603
    parts = [
        _SOURCE.read_text(encoding="utf-8"),
        " ".join(_FLAGS),
        compiler,
        version.stdout,
        platform.machine(),
    ]
    return hashlib.sha256("\0".join([*parts, _processor()]).encode()).hexdigest()[:16]


def _processor() -> str:
    """Names what instructions the processor has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return "".join(
        dict.fromkeys(line for line in lines if line.startswith(("model name", "flags", "Features")))
    )


def _compile(compiler: str, path: Path) -> None:
    """Compiles under a temporary name and renames, since several processes may do so at once."""
    handle, name = tempfile.mkstemp(prefix=path.stem, suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        command = [compiler, *_FLAGS, str(_SOURCE), "-o", str(temporary)]
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS)  # noqa: S603
        temporary.chmod(_OWNER_ONLY)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _typed(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declares the arguments of `neurons.c`, so that ctypes checks and converts them."""
    pointer, whole, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    size = [whole] * 5  # steps, all rows, channels, first row, row after the last
    library.lif_forward.argtypes = [pointer, whole, *size, real, real, *[pointer] * 4]
    library.lif_backward.argtypes = [pointer, whole, *size, real, real, real, *[pointer] * 6]
    library.moments.argtypes = [pointer, *size, pointer, pointer]
    library.combine.argtypes = [*[pointer] * 5, *size, pointer]
    for function in (library.lif_forward, library.lif_backward, library.moments, library.combine):
        function.restype = None
    return library
