"""Folders of finished runs, without the training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from snndeploy.train.checkpoint import as_json
from snndeploy.train.config import Config
from snndeploy.train.settings import override

SEEDS, INTENSITIES = (0, 1, 2), (1.0, 2.0, 4.0)


def config(*settings: str) -> Config:
    """The default configuration with single values replaced."""
    return Config.from_mapping(override({}, settings))


def result(folder: Path, accuracy: float, energy_pj: float, *settings: str, **facts: Any) -> Path:
    """Writes the result of a run, and gives its folder."""
    found = {
        "test_accuracy": accuracy,
        "exact_test_accuracy": max(accuracy - 0.125, 0.0),
        "exact_problem": None,
        "dead_rate": 0.25,
        "estimated_energy_pj": energy_pj,
        "files": [],
        "config": as_json(config(*settings)),
        **facts,
    }
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").touch()
    (folder / "test.json").write_text(json.dumps(found))
    return folder


def sweep(folder: Path, *settings: str, penalties: tuple[str, ...] = ("syn", "total", "balance")) -> Path:
    """A sweep over penalties, intensities and seeds, and its baseline, as `train --sweep` lays it out.

    A penalty further on in the list loses more accuracy for the same energy.
    """
    for seed in SEEDS:
        wobble = 0.002 * (seed - 1)
        result(
            folder / "penalty.intensity=0" / f"seed{seed}",
            0.9 + wobble,
            1000.0 + 10 * (seed - 1),
            f"seed={seed}",
            *settings,
        )
        for place, name in enumerate(penalties):
            for intensity in INTENSITIES:
                result(
                    folder / f"{name},{intensity:g}" / f"seed{seed}",
                    0.9 + wobble - 0.02 * intensity * (1 + 2 * place),
                    1000.0 / 2**intensity,
                    f"seed={seed}",
                    f"penalty.name={name}",
                    f"penalty.intensity={intensity}",
                    *settings,
                )
    return folder
