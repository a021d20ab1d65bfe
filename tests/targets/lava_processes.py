"""The processes and shared memory of simulations whose temporary files lie in one folder."""

from __future__ import annotations

from pathlib import Path


def processes(temporary: Path) -> list[int]:
    """Numbers of the running processes that were given the test's folder for temporary files, the oldest first.

    Their numbers alone do not tell: they start again when the largest has been given.
    """
    found: list[tuple[int, int]] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
            status = (process / "stat").read_text().rpartition(")")[2].split()  # from the third field on
        except OSError:
            continue
        ours = any(v.startswith(f"TMPDIR={temporary}/".encode()) for v in variables)
        if ours and status[0] != "Z":
            found.append((int(status[19]), int(process.name)))
    return [number for _, number in sorted(found)]


def shared_memory(temporary: Path) -> list[str]:
    """Names of the shared memory of simulations whose folders are in the test's, or were when this was called."""
    return [
        path.name
        for folder in temporary.glob("lava-*")
        for path in Path("/dev/shm").glob(f"*{folder.name}.*")  # noqa: S108 - where Linux keeps it
    ]


def assert_nothing_left(temporary: Path, memory: list[str] | None = None) -> None:
    """Fails if a process, a temporary file or any of the shared memory named is left."""
    assert processes(temporary) == []
    assert list(temporary.iterdir()) == []
    assert [name for name in memory or () if Path("/dev/shm", name).exists()] == []  # noqa: S108 - as above
