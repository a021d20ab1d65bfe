"""docs/measuring.md says what the code does."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from snndeploy.targets.measure import STANDARD, FlagName, MeterName
from snndeploy.targets.measure.meter import SENSOR_ERROR

PAGE = (Path(__file__).resolve().parents[2] / "docs/measuring.md").read_text(encoding="utf-8")


def rows() -> dict[str, str]:
    """The second cell of every row of every table, by each name in the first."""
    found = re.findall(r"^\| ([^|]*`[^|]*) \| ([^|]*) \|", PAGE, re.MULTILINE)
    return {name: cell for first, cell in found for name in re.findall("`([^`]+)`", first)}


def test_procedure() -> None:
    """The standard procedure's durations and numbers are those of the page."""
    limits = {"drift_share", "spread_share", "coarse_share", "other_cores"}
    for name, value in asdict(STANDARD).items():
        if name not in limits:
            assert f"{value:g}" in re.findall(r"[\d.]*\d", rows()[name]), name


def test_limits() -> None:
    """The limits of the flags are those of the page."""
    for name, value in {
        "idle drift": f"{STANDARD.drift_share:.0%}",
        "unsteady": f"{STANDARD.spread_share:.0%}",
        "coarse counter": f"{STANDARD.coarse_share:.0%}",
        "other processes": f"{STANDARD.other_cores:g} CPU cores",
    }.items():
        assert value.replace("%", " %") in rows()[name]
    assert f"- {SENSOR_ERROR:.0%} of all energy".replace("%", " %") in PAGE


def test_names() -> None:
    """Every flag and meter is explained, and no other."""
    names = {*get_args(FlagName), *get_args(MeterName), "auto", "--meter"}
    assert names <= {*rows(), "--meter"}
    assert set(rows()) - names <= set(asdict(STANDARD)) | {"--meter"}
