"""`snndeploy energy`: several targets at once, settings, CSV and calibration."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

DATA = ("--data", "random", "--samples", 4)


def test_several_targets_are_compared(
    run: Callable[..., Result], run_json: Callable[..., Any], network: Path, tmp_path: Path
) -> None:
    """A report for each, the ratio of each pair by shared draws, and a row for each op in the CSV file."""
    targets = ("--target", "loihi1-davies", "--target", "loihi1-nahuku", "--target", "gpu-h200")
    facts = run_json("energy", network, *DATA, *targets, "--csv", tmp_path / "e.csv")
    assert [one["target"] for one in facts["targets"]] == ["loihi1-davies", "loihi1-nahuku", "gpu-h200"]
    assert len(facts["comparison"]) == 3
    first, second = facts["targets"][:2]
    pair = facts["comparison"][0]["ratio"]
    assert pair["p5"] <= pair["p50"] <= pair["p95"]
    apart = second["range_pj"]["p95"] / first["range_pj"]["p5"]
    assert pair["p95"] / pair["p5"] < apart / 2  # they share power and time
    assert first["constant_sets"]["loihi1-nahuku"] == second["total_pj"]
    with (tmp_path / "e.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["target"] == "loihi1-davies"]
    assert sum(float(row["energy_pj"]) for row in rows) == pytest.approx(first["total_pj"]["value"])
    text = run("energy", network, *DATA, *targets).output
    for words in ("energy on", "model uncertainty", "ANN of the same topology", "not checked at the source"):
        assert words in text


def test_settings(run_json: Callable[..., Any], network: Path) -> None:
    """Period, step time, batch and first layer decide; draws and seed decide the range alone."""
    loihi = ("energy", network, *DATA, "--target", "loihi1-davies")
    fast, slow = (run_json(*loihi, "--sample-period", ms) for ms in (1, 10))
    assert slow["terms"]["power.fixed"]["value"] == pytest.approx(10 * fast["terms"]["power.fixed"]["value"])
    assert run_json(*loihi, "--step-time", 50)["time_us"] == 50 * fast["machine_steps_per_sample"]
    gpu = ("energy", network, *DATA, "--target", "gpu-a100")
    one, many = (run_json(*gpu, "--batch", b)["total_pj"]["value"] for b in (1, 64))
    assert one > 30 * many
    paper = ("energy", network, *DATA, "--first-layer")
    assert (
        run_json(*paper, "cached")["total_pj"]["value"] < run_json(*paper, "recompute")["total_pj"]["value"]
    )
    assert run_json(*paper, "host")["hosted"]
    seeds = [run_json("energy", network, *DATA, "--draws", 100, "--seed", s) for s in (0, 0, 1)]
    assert seeds[0] == seeds[1]
    assert seeds[0]["total_pj"]["value"] == seeds[2]["total_pj"]["value"]
    assert seeds[0]["range_pj"] != seeds[2]["range_pj"]


def test_calibrate(
    run: Callable[..., Result], run_json: Callable[..., Any], network: Path, tmp_path: Path
) -> None:
    """Measurements become a profile that prices a network without anything missing."""
    rng = np.random.default_rng(0)
    rows = 10 ** rng.uniform(6, 8, (8, 2))
    lines = [f"{1e-12 * (7 * a + 3 * b)!s},{a!s},{b!s}" for a, b in rows]
    table, out = tmp_path / "m.csv", tmp_path / "mine.toml"
    table.write_text("\n".join(["joules,energy.synop,energy.neuron", *lines]))
    options = ("energy", "--calibrate", table, "--target", "loihi2-style", "-o", out)
    facts = run_json(*options)
    assert facts["prices"]["energy.synop"]["value"] == pytest.approx(7)
    assert max(map(abs, facts["held_out"])) < 1e-6
    assert "FITTED to 8 measurements" in run(*options).output
    priced = run_json("energy", network, *DATA, "--target", out, "--first-layer", "host")
    expected = 7 * priced["work"]["energy.synop"] + 3 * priced["work"]["energy.neuron"]
    assert priced["total_pj"]["value"] == pytest.approx(expected)
    assert (priced["bound"], priced["evidence"]) == ("estimate", "fitted")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--step-time", "5", "--sample-period", "5"), "a step time or a sample period, not both"),
        (("-o", "x.toml"), "-o: belongs to --calibrate"),
        (("--calibrate", "m.csv"), "takes no network"),
        (("--measure", "--target", "gpu-a100", "--target", "gpu-h100"), "takes one --target"),
    ],
)
def test_options_that_do_not_go_together(
    run: Callable[..., Result], network: Path, options: tuple[str, ...], message: str
) -> None:
    """Exit code 2 and a sentence that says what is wrong."""
    result = run("energy", network, *options)
    assert result.exit_code == 2
    assert message in result.output
