"""A search finds the same with one process as with two."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from snndeploy.train.search import evaluations
from tests.train.search.searches import tiny, whole


def test_two_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What evolution, random search and trainings come to does not depend on who does them."""
    config = tiny("evolution.iterations=1", "score.reliability_candidates=0", "confirm.architectures=0")
    alone = whole(config, tmp_path / "one")
    run = Path(shutil.copytree(tmp_path / "one", tmp_path / "two"))  # scores and supernet are tested apart
    for name in ("search.json", "evolution.json", "random.json", "evaluations.jsonl"):
        (run / name).unlink()
    shutil.rmtree(run / "confirm" / "none")
    monkeypatch.setattr(evaluations, "START_SECONDS", 0.0)
    assert whole(config, run, workers=2) == alone
