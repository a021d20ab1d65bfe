"""Whichever Lava process is killed, stopped or starved, at whatever moment: an error, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snndeploy import ir
from snndeploy.errors import TargetError
from snndeploy.export import lava as lowering
from snndeploy.targets import lava
from tests.export.networks import Case, assert_same, case, chain
from tests.targets.lava_processes import assert_nothing_left, processes, shared_memory

pytestmark = pytest.mark.lava

SAMPLES = 60  # enough for a run to be caught at work on a busy machine


@pytest.fixture(scope="module")
def tested() -> Case:
    """A chain: input -> c1 -> l1 -> c2 -> l2 -> fc -> output."""
    return case(chain(), steps=4, seed=1)


@pytest.fixture
def bundle(tested: Case, tmp_path: Path) -> Path:
    """Its bundle."""
    return lowering.export(tested.network, tmp_path / "bundle", tested.x)


class Killer:
    """Sends a signal to one process, once, when a moment has come.

    memory: Names of all shared memory that was seen.
    """

    def __init__(self, temporary: Path, moment: Callable[[int, int], bool], number: int, victim: int) -> None:
        self._temporary, self._moment = temporary, moment
        self._number, self._victim = number, victim
        self.memory: list[str] = []
        self.sent = False

    def __call__(self, done: int, _: int) -> None:
        """To be called as progress."""
        self.memory = sorted({*self.memory, *shared_memory(self._temporary)})
        running = processes(self._temporary)
        if running and not self.sent and self._moment(done, len(running)):
            self.sent = True
            os.kill(running[min(self._victim, len(running) - 1)], self._number)


MOMENTS: dict[str, Callable[[int, int], bool]] = {
    "importing": lambda _, running: running == 1,
    "starting": lambda _, running: running >= 6,  # Python's own, and some of Lava's
    "running": lambda done, _: done > 0,
    "stopping": lambda done, _: done == SAMPLES,
}


def outcome(bundle: Path, **settings: Any) -> lava.Simulation | TargetError:
    """What a simulation gives, or how it fails."""
    try:
        (found,) = lava.simulate([bundle], time_limit_seconds=25, **settings)
    except TargetError as error:
        return error
    return found


def stand_in(folder: Path, limit: str, interpreter: lava.Interpreter) -> lava.Interpreter:
    """The interpreter under a limit that the shell sets."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nulimit {limit}\nexec "{interpreter.path}" "$@"\n')
    path.chmod(0o755)
    return lava.Interpreter(path, "0", "variable")


@pytest.mark.parametrize(
    ("moment", "victim"),
    [
        (moment, victim)
        for moment in MOMENTS
        for victim in (0, 1, 3, 99)
        if moment != "importing" or not victim
    ],
)
def test_killed(
    moment: str,
    victim: int,
    tested: Case,
    bundle: Path,
    temporary: Path,
    lava_interpreter: lava.Interpreter,
) -> None:
    """The first process, those of multiprocessing or a population, while they start, run and stop."""
    killer = Killer(temporary, MOMENTS[moment], signal.SIGKILL, victim)
    x = tested.x[np.arange(SAMPLES) % len(tested.x)]
    found = outcome(bundle, samples=x, interpreter=lava_interpreter, progress=killer)
    if isinstance(found, TargetError):
        assert re.search(
            r"was ended by signal 9|ended too early|exit code -9|EOFError|ConnectionRe", str(found)
        )
    else:
        # the second process only removes shared memory in the end, which the runner does too; another's end
        # may come too late to matter
        assert_same(found.trace, ir.run(tested.network, x))
    assert killer.sent or moment == "stopping"
    assert_nothing_left(temporary, killer.memory)
    if moment == "running":
        assert killer.memory


@pytest.mark.parametrize("victim", [0, 99])
def test_hanging(
    victim: int, tested: Case, bundle: Path, temporary: Path, lava_interpreter: lava.Interpreter
) -> None:
    """A stopped process, which hears no SIGTERM, lasts until the time limit and no longer."""
    killer = Killer(temporary, MOMENTS["starting"], signal.SIGSTOP, victim)
    x = tested.x[np.arange(SAMPLES) % len(tested.x)]  # enough for it to be seen at work on a busy machine
    settings: dict[str, Any] = {"interpreter": lava_interpreter, "progress": killer, "time_limit_seconds": 8}
    with pytest.raises(TargetError, match="longer than the time limit of 8 s"):
        lava.simulate([bundle], samples=x, **settings)
    assert killer.sent
    assert killer.memory
    assert_nothing_left(temporary, killer.memory)


@pytest.mark.parametrize("moment", ["starting", "running"])
def test_interrupted(moment: str, bundle: Path, temporary: Path, lava_interpreter: lava.Interpreter) -> None:
    """Ctrl-C of the caller, while the processes start too."""
    seen: list[str] = []

    def interrupt(done: int, _: int) -> None:
        seen.extend(shared_memory(temporary))
        if MOMENTS[moment](done, len(processes(temporary))):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lava.simulate([bundle], interpreter=lava_interpreter, progress=interrupt)
    assert seen or moment == "starting"
    assert_nothing_left(temporary, seen)


@pytest.mark.parametrize("megabytes", [60, 200, 450, 700, 1200])
def test_out_of_memory(
    megabytes: int,
    tested: Case,
    bundle: Path,
    temporary: Path,
    tmp_path: Path,
    lava_interpreter: lava.Interpreter,
) -> None:
    """With too little address space it fails somewhere, and says where; with more it may get through."""
    found = outcome(bundle, interpreter=stand_in(tmp_path, f"-v {megabytes * 1024}", lava_interpreter))
    if isinstance(found, TargetError):
        assert "time limit" not in str(found)
        assert len(str(found).splitlines()) > 1
    else:
        assert megabytes > 200
        assert_same(found.trace, ir.run(tested.network, tested.x))
    assert_nothing_left(temporary)


def test_a_population_that_is_too_large(
    bundle: Path, temporary: Path, tmp_path: Path, lava_interpreter: lava.Interpreter
) -> None:
    """If results do not fit, here for a limit on the size of files, the population that fails is named."""
    small = stand_in(tmp_path, "-f 400", lava_interpreter)
    samples = np.zeros((2000, 2, 6, 7), np.float32)
    found = outcome(bundle, samples=samples, interpreter=small, potentials=True)
    assert re.search(r"(?s)population 'l[12]', start:.*File too large", str(found))
    assert_nothing_left(temporary)
