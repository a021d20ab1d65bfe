"""Tiny searches on real digits, and processes that do one and kill themselves.

The backbone is the smallest one, on 8x8 pixels with two time steps; 15 backward connections.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.folder import SEAL, SEARCH
from snndeploy.train.search.search import search
from snndeploy.train.settings import override

TINY: Mapping[str, Any] = {
    "seed": 1,
    "score": {"candidates": 8, "batch": 20, "reliability_candidates": 4},
    "supernet": {"epochs": 1, "calibration_batches": 1},
    "evolution": {"iterations": 2, "population": 4, "parents": 2, "mutations": 2, "crossovers": 2},
    "confirm": {"seeds": [0, 1], "architectures": 3, "epochs": 1},
    "training": {
        "device": "cpu",
        "threads": 1,
        "calibration_batches": 1,
        "checkpoint_batches": 2,
        "network": {"backbone": "resnet6", "steps": 2},
        "data": {"name": "digits", "repeat": 1, "validation": 0},
        "optimizer": {"batch_size": 256, "warmup_epochs": 0},
    },
}


class Stop(Exception):  # noqa: N818
    """Ends a search from within."""


def tiny(*settings: str) -> SearchConfig:
    """The configuration of a tiny search, with single values replaced."""
    return SearchConfig.from_mapping(override(TINY, settings))


def whole(config: SearchConfig, run: Path, **options: Any) -> dict[str, Any]:
    """A search from wherever it stands to its end, without the seconds it took."""
    found = search(config, run, resume=True, **options)
    assert found is not None
    return timeless(found)


def timeless(found: Mapping[str, Any]) -> dict[str, Any]:
    """Everything but the seconds, and the checksum that they are part of."""
    return {key: value for key, value in found.items() if key not in ("seconds", SEAL)}


def written(run: Path) -> dict[str, Any]:
    """What a finished search left, without the seconds."""
    return timeless(json.loads((run / SEARCH).read_text()))


def stop_at(stage: str, done: float, run: Path) -> None:
    """Searches until a stage has come so far."""

    def tell(now: str, so_far: float, *_: object) -> None:
        if now == stage and so_far >= done:
            raise Stop

    search(tiny(), run, resume=True, tell=tell)


def kill_at(stage: str, done: float, run: Path, *settings: str) -> None:
    """The same, and then kills its own process."""

    def tell(now: str, so_far: float, *_: object) -> None:
        if now == stage and so_far >= done:
            os.kill(os.getpid(), signal.SIGKILL)

    search(tiny(*settings), run, resume=True, tell=tell)
