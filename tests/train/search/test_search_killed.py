"""A search that is killed, again and again, ends as an unbroken one."""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path

from snndeploy.train.search.folder import CONFIRM, SCORES, SUPERNET
from tests.train.search.searches import kill_at, tiny, whole, written

FEW = ("confirm.seeds=[0]", "confirm.architectures=0", "score.reliability_candidates=0")  # to be quick


def test_killed_amid_its_stages(tmp_path: Path) -> None:
    """SIGKILL during the scores, amid an epoch of the supernet, and between trainings of the confirmation."""
    run = tmp_path / "run"
    stages = (("scores", 8, SCORES), ("supernet", 0.5, SUPERNET), ("confirmation", 1, CONFIRM))
    for stage, done, left in stages:
        assert not (run / left).exists()
        process = multiprocessing.get_context("spawn").Process(target=kill_at, args=(stage, done, run, *FEW))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        assert (run / left).exists()
    found = whole(tiny(*FEW), run)
    assert found == whole(tiny(*FEW), tmp_path / "unbroken")
    assert found == written(run)
