"""However a simulation fails, it says why, and leaves neither a process nor a file behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snndeploy.errors import TargetError
from snndeploy.export import lava as lowering
from snndeploy.targets import lava
from snndeploy.targets.lava import runner
from tests.export.networks import case, chain
from tests.targets.lava_processes import assert_nothing_left, processes, shared_memory
from tests.targets.test_lava_bundle import rewrite

LONG = 20_000  # samples; far more than a test can simulate


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A chain: input -> c1 -> l1 -> c2 -> l2 -> fc -> output."""
    tested = case(chain(), steps=4, seed=1)
    return lowering.export(tested.network, tmp_path / "bundle", tested.x)


def spoil(monkeypatch: pytest.MonkeyPatch, edit: Callable[[dict[str, Any]], object]) -> None:
    """Lets the entry of population l1 in a manifest change between the check of a bundle and its run."""

    def read_then_spoil(path: Path) -> lava.Bundle:
        bundle = lava.read(path)
        rewrite(path, lambda manifest: edit(manifest["populations"][1]))
        return bundle

    monkeypatch.setattr(runner, "read", read_then_spoil)


def script(folder: Path, text: str) -> lava.Interpreter:
    """A program that takes the place of the interpreter."""
    path = folder / "python"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return lava.Interpreter(path, "0", "variable")


def many(count: int = LONG) -> np.ndarray[Any, np.dtype[np.float32]]:
    """So many samples for the bundle."""
    return np.zeros((count, 2, 6, 7), np.float32)


@pytest.mark.lava
def test_a_raising_population_is_named(
    bundle: Path, temporary: Path, lava_interpreter: lava.Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in a Lava process, which Lava waits for for ever, ends the run with its traceback."""
    spoil(monkeypatch, lambda l1: l1["sources"].append({"source": "nowhere", "delay": 0}))
    with pytest.raises(TargetError, match=r"(?s)population 'l1', machine step 1:.*KeyError.*nowhere"):
        lava.simulate([bundle], interpreter=lava_interpreter)
    assert_nothing_left(temporary)


@pytest.mark.lava
def test_a_population_that_cannot_start_is_named(
    bundle: Path, temporary: Path, lava_interpreter: lava.Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does one while the processes are made."""
    spoil(monkeypatch, lambda l1: l1["program"][0].update(name="unheard"))
    with pytest.raises(TargetError, match=r"(?s)population 'l1', start:.*unheard\.bias"):
        lava.simulate([bundle], interpreter=lava_interpreter)
    assert_nothing_left(temporary)


@pytest.mark.lava
def test_the_time_limit_ends_a_run(bundle: Path, temporary: Path, lava_interpreter: lava.Interpreter) -> None:
    """A simulation that is under way is ended when its time is over."""
    begin = time.monotonic()
    told = []
    with pytest.raises(TargetError, match=r"longer than the time limit of 4 s; allow more time"):
        lava.simulate(
            [bundle],
            samples=many(),
            time_limit_seconds=4,
            interpreter=lava_interpreter,
            progress=lambda done, _: told.append(done),
        )
    assert time.monotonic() - begin < 30
    assert 0 < told[-1] < LONG
    assert_nothing_left(temporary)


@pytest.mark.lava
def test_control_c_ends_a_run(bundle: Path, temporary: Path, lava_interpreter: lava.Interpreter) -> None:
    """KeyboardInterrupt passes through, and the Lava processes end."""
    seen = []

    def interrupt(done: int, _: int) -> None:
        if done:
            seen.extend(processes(temporary))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lava.simulate([bundle], samples=many(), interpreter=lava_interpreter, progress=interrupt)
    assert len(seen) > 4  # one for each population, and Lava's own
    assert_nothing_left(temporary)


@pytest.mark.lava
def test_a_killed_child_is_noticed(bundle: Path, temporary: Path, lava_interpreter: lava.Interpreter) -> None:
    """If the first process of the group is killed, as for its memory, the others end soon."""
    killed: list[int] = []

    def kill(done: int, _: int) -> None:
        if done and not killed:
            killed.append(processes(temporary)[0])  # the first to be started
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(TargetError, match="ended with exit code -9"):
        lava.simulate([bundle], samples=many(), interpreter=lava_interpreter, progress=kill)
    assert_nothing_left(temporary)


@pytest.mark.lava
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_population_is_noticed(
    number: signal.Signals, bundle: Path, temporary: Path, lava_interpreter: lava.Interpreter
) -> None:
    """If any other process of the group is killed, for which Lava waits for ever, the run ends and says so."""
    killed: list[int] = []

    def kill(done: int, _: int) -> None:
        if done and not killed:
            killed.append(processes(temporary)[-1])  # the last to be started
            os.kill(killed[0], number)

    with pytest.raises(TargetError, match=rf"a Lava process was ended by signal {int(number)} "):
        lava.simulate(
            [bundle],
            samples=many(),
            time_limit_seconds=60,
            interpreter=lava_interpreter,
            progress=kill,
        )
    assert_nothing_left(temporary)


@pytest.mark.lava
def test_no_process_outlives_a_killed_parent(
    bundle: Path, temporary: Path, tmp_path: Path, lava_interpreter: lava.Interpreter
) -> None:
    """Even SIGKILL of the Python that simulates, which can clean up nothing, leaves no process and no shared memory."""
    samples = tmp_path / "samples.npy"
    np.save(samples, many())
    program = (
        "import sys, numpy; from snndeploy.targets import lava; "
        "lava.simulate([sys.argv[1]], samples=numpy.load(sys.argv[2]), "
        "progress=lambda done, _: done and print(done, flush=True))"
    )
    environment = {
        **os.environ,
        "TMPDIR": str(temporary),
        "SNNDEPLOY_LAVA_PYTHON": str(lava_interpreter.path),
    }
    command = [sys.executable, "-c", program, str(bundle), str(samples)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout
        assert parent.stdout.readline()
        assert len(processes(temporary)) > 4
        assert shared_memory(temporary)
        parent.kill()
    deadline = time.monotonic() + 20
    while (processes(temporary) or shared_memory(temporary)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes(temporary) == []
    assert shared_memory(temporary) == []


def test_a_deaf_child_is_killed(bundle: Path, temporary: Path, tmp_path: Path) -> None:
    """A child and a grandchild that ignore SIGTERM do not outlive the time limit."""
    deaf = script(tmp_path, "trap '' TERM\nsleep 300 &\necho listening to nobody\nwait\nsleep 300\n")
    with pytest.raises(TargetError, match=r"(?s)time limit of 0\.5 s, got listening to nobody"):
        lava.simulate([bundle], time_limit_seconds=0.5, interpreter=deaf)
    assert_nothing_left(temporary)


def test_a_failing_child_is_quoted(bundle: Path, temporary: Path, tmp_path: Path) -> None:
    """What a child said before it failed is in the message."""
    failing = script(tmp_path, "echo 'no module named lava' >&2\nexit 3\n")
    with pytest.raises(TargetError, match=r"ended with exit code 3\nno module named lava"):
        lava.simulate([bundle], interpreter=failing)
    assert_nothing_left(temporary)


def test_a_child_that_does_nothing_is_noticed(bundle: Path, temporary: Path, tmp_path: Path) -> None:
    """Success without results is no success."""
    with pytest.raises(TargetError, match="left incomplete results"):
        lava.simulate([bundle], interpreter=script(tmp_path, "exit 0\n"))
    assert_nothing_left(temporary)


def test_a_missing_interpreter_is_named(bundle: Path, temporary: Path) -> None:
    """A program that does not exist cannot be started."""
    nowhere = lava.Interpreter(Path("/nowhere/python"), "0", "variable")
    with pytest.raises(TargetError, match=r"its interpreter does not start, got /nowhere/python"):
        lava.simulate([bundle], interpreter=nowhere)
    assert_nothing_left(temporary)
