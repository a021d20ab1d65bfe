"""Tasks on several processes: order, failures, threads, and that nobody is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from snndeploy.errors import ConfigError, GraphError
from snndeploy.train.pool import Failure, environment, map_tasks, using_threads

ROOT = Path(__file__).resolve().parents[2]


def powers(exponent: int) -> Callable[[int], tuple[int, int]]:
    """Gives a power, and the process that computed it; negative numbers are refused."""

    def power(number: int) -> tuple[int, int]:
        if number < 0:
            raise GraphError(f"number {number}", "must not be negative", got=ValueError("wrapped"))
        return number**exponent, os.getpid()

    return power


def refusing() -> Callable[[int], int]:
    """Cannot be prepared."""
    raise ConfigError("data", "is not there")


def noting_preparation(folder: Path) -> Callable[[int], int]:
    """Leaves a file for every preparation."""
    (folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()
    return abs


def threads(_: None) -> tuple[int, str | None]:
    """PyTorch's threads, and OpenMP's."""
    return torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")


def how_many_threads() -> Callable[[None], tuple[int, str | None]]:
    """Tells how many threads there are."""
    return threads


def stay_or_go(folder: Path, task: str) -> None:
    """Notes the process and stays for minutes; or, once another has done so, fails or dies."""
    if task == "stay":
        (folder / str(os.getpid())).touch()
        time.sleep(600)
    while not any(folder.iterdir()):
        time.sleep(0.05)
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    raise ZeroDivisionError


def staying(folder: Path) -> Callable[[str], None]:
    """Does what a task says."""
    return partial(stay_or_go, folder)


def gone(process: int) -> bool:
    """Whether a process ends within a while."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        if "\nState:\tZ" in Path(f"/proc/{process}/status").read_text():  # nobody has asked how it ended
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(("workers", "chunk"), [(1, 1), (1, 3), (2, 3)])
def test_results(workers: int, chunk: int) -> None:
    """They come in the order of the tasks, whoever did them; what fails keeps nothing else from being done."""
    numbers = [3, -1, 4, 1, 5, -9, 2, 6]
    told: dict[int, object] = {}
    found = map_tasks(partial(powers, 2), numbers, workers=workers, chunk=chunk, on_result=told.__setitem__)
    assert told == dict(enumerate(found))
    assert [one.message if isinstance(one, Failure) else one[0] for one in found] == [
        n * n if n >= 0 else f"number {n}: must not be negative, got wrapped" for n in numbers
    ]
    processes = {one[1] for one in found if not isinstance(one, Failure)}
    if workers == 1:
        assert processes == {os.getpid()}
    else:
        assert os.getpid() not in processes
        assert len(processes) <= workers


@pytest.mark.parametrize("workers", [1, 2])
def test_preparation(tmp_path: Path, workers: int) -> None:
    """It happens once in every process that does anything, and not at all without tasks."""
    assert map_tasks(partial(noting_preparation, tmp_path), [], workers=workers) == []
    assert list(tmp_path.iterdir()) == []
    tasks = list(range(20))
    assert map_tasks(partial(noting_preparation, tmp_path), tasks, workers=workers) == tasks
    processes = [path.name.split("-")[0] for path in tmp_path.iterdir()]
    assert 1 <= len(processes) <= workers
    assert len(set(processes)) == len(processes)


@pytest.mark.parametrize("workers", [1, 2])
def test_preparation_fails(workers: int) -> None:
    """Then no task can be done, and the error is that of the preparation."""
    with pytest.raises(ConfigError, match="data: is not there"):
        map_tasks(refusing, [1, 2, 3], workers=workers)


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are set in each process, before OpenMP is loaded, and here they stay what they were."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with using_threads(2):
        assert map_tasks(how_many_threads, [None], threads=3) == [(3, "7")]
        assert map_tasks(how_many_threads, [None], workers=2, threads=3) == [(3, "3")]
        assert threads(None) == (2, "7")


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables are set, removed and put back, whatever happens."""
    monkeypatch.setenv("SNNDEPLOY_THERE", "a")
    monkeypatch.delenv("SNNDEPLOY_MISSING", raising=False)

    def look() -> tuple[str | None, str | None]:
        return os.environ.get("SNNDEPLOY_THERE"), os.environ.get("SNNDEPLOY_MISSING")

    with suppress(ZeroDivisionError), environment({"SNNDEPLOY_THERE": None, "SNNDEPLOY_MISSING": "b"}):
        assert look() == (None, "b")
        raise ZeroDivisionError
    assert look() == ("a", None)


@pytest.mark.parametrize(("task", "error"), [("fail", ZeroDivisionError), ("die", ConfigError)])
def test_the_end_of_one_is_the_end_of_all(tmp_path: Path, task: str, error: type[Exception]) -> None:
    """An error that is none of ours ends the other workers; so does one that the kernel kills, with advice."""
    with pytest.raises(error, match="fewer workers" if task == "die" else None):
        map_tasks(partial(staying, tmp_path), ["stay", task], workers=2)
    (process,) = [int(path.name) for path in tmp_path.iterdir()]
    assert gone(process)


@pytest.mark.timeout(120)
def test_a_worker_that_starts_late_is_missed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the last worker takes to be started, its death does not go unnoticed."""
    process = multiprocessing.get_context("spawn").Process
    start = process.start

    def start_late(self: BaseProcess) -> None:
        time.sleep(0.5)
        start(self)

    monkeypatch.setattr(process, "start", start_late)
    with pytest.raises(ConfigError, match="fewer workers"):
        map_tasks(partial(staying, tmp_path), ["stay", "die"], workers=2)


def test_a_broken_reader_ends_the_workers(tmp_path: Path) -> None:
    """Also an error of the caller, while it is told of a result, leaves no process."""

    def stop(index: int, _: object) -> None:
        while not list(tmp_path.iterdir()):
            time.sleep(0.05)
        raise KeyboardInterrupt(index)

    with pytest.raises(KeyboardInterrupt, match="0"):
        map_tasks(partial(noting_or_staying, tmp_path), ["", "stay"], workers=2, on_result=stop)
    (process,) = [int(path.name) for path in tmp_path.iterdir()]
    assert gone(process)


def note_or_stay(folder: Path, task: str) -> None:
    """Returns at once, or stays."""
    if task == "stay":
        stay_or_go(folder, task)


def noting_or_staying(folder: Path) -> Callable[[str], None]:
    """Does what a task says."""
    return partial(note_or_stay, folder)


@pytest.mark.parametrize(
    ("number", "to_all", "code"), [(signal.SIGINT, True, 130), (signal.SIGKILL, False, -signal.SIGKILL)]
)
def test_no_orphans(tmp_path: Path, number: signal.Signals, to_all: bool, code: int) -> None:
    """Ctrl-C reaches all processes and the first one alone answers; when that is killed, all are gone, too."""
    program = (
        "import signal, sys; from functools import partial; from pathlib import Path\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from snndeploy.train.pool import map_tasks; from tests.train.test_pool import staying\n"
        "try: map_tasks(partial(staying, Path(sys.argv[1])), ['stay', 'stay'], workers=2)\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            while len(list(tmp_path.iterdir())) < 2:
                assert process.poll() is None
                time.sleep(0.05)
            (os.killpg if to_all else os.kill)(process.pid, number)
            said = process.communicate(timeout=60)[1]
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code
    assert "Traceback" not in said
    assert all(gone(int(path.name)) for path in tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"threads": 0}, {"chunk": -1}])
def test_bad_numbers(wrong: dict[str, int]) -> None:
    """Each is named."""
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}: must be at least 1"):
        map_tasks(how_many_threads, [None], **wrong)  # type: ignore[arg-type]  # the callback is not among them
