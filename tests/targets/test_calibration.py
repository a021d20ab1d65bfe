"""Calibration: known prices come back, what cannot be known is refused, and the profile prices as measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tomli_w

from snndeploy.errors import FileFormatError, TargetError
from snndeploy.targets import profile
from snndeploy.targets.calibration import Calibration, calibrate, profile_document, read

TRUE = {"energy.synop": 20.0, "energy.neuron": 50.0, "power.fixed": 0.07}


def table(path: Path, *, rows: int = 12, noise: float = 0.0, alike: bool = False) -> Path:
    """Measurements of networks of random size at the prices of `TRUE`, with relative errors."""
    rng = np.random.default_rng(0)
    synops, neurons = 10 ** rng.uniform(6, 9, (2, rows))
    neurons = 2 * synops if alike else neurons
    seconds = 10 ** rng.uniform(-2, 0, rows)
    joules = 1e-12 * (20 * synops + 50 * neurons) + 0.07 * seconds
    joules *= 1 + noise * rng.standard_normal(rows)
    lines = ["name,joules,seconds,energy.synop,energy.neuron"]
    lines += [f"n{i},{joules[i]!s},{seconds[i]!s},{synops[i]!s},{neurons[i]!s}" for i in range(rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def prices(found: Calibration) -> dict[str, float]:
    """By term."""
    return {one.term: one.value for one in found.prices}


def test_known_prices_come_back(tmp_path: Path) -> None:
    """Without errors exactly; with errors of 3 % within the intervals, and rows left out are predicted as well."""
    exact = calibrate(read(table(tmp_path / "m.csv")), resamples=50)
    assert prices(exact) == pytest.approx(TRUE, rel=1e-6)
    assert exact.held_out_error < 1e-6
    noisy = calibrate(read(table(tmp_path / "m.csv", rows=40, noise=0.03)), resamples=300)
    assert prices(noisy) == pytest.approx(TRUE, rel=0.2)
    for one in noisy.prices:
        assert one.low <= one.value <= one.high
        assert one.low < 1.1 * TRUE[one.term]
        assert one.high > 0.9 * TRUE[one.term]
    assert 0.01 < noisy.held_out_error < 0.06
    assert 1 < noisy.condition < 100


def test_prices_are_never_negative(tmp_path: Path) -> None:
    """A term that measured energy does not grow with is priced at 0, and the profile with it loads."""
    path = tmp_path / "m.csv"
    rows = [f"{1e-6 * a},{1e6 * a},{1e6 * b}" for a, b in ((1, 9), (2, 5), (3, 8), (4, 1), (5, 3))]
    path.write_text("\n".join(["joules,energy.synop,energy.spike", *rows]))
    found = calibrate(read(path), resamples=50)
    assert prices(found) == pytest.approx({"energy.synop": 1.0, "energy.spike": 0.0}, abs=1e-9)


def test_the_profile_says_where_its_prices_come_from(tmp_path: Path) -> None:
    """Fitted, with the file's hash; what was not fitted is 0, and times are the target's."""
    measurements = read(table(tmp_path / "m.csv", rows=20, noise=0.02))
    document = profile_document(
        calibrate(measurements, resamples=50), profile.load("loihi2-style"), "my-chip"
    )
    (tmp_path / "my-chip.toml").write_text(tomli_w.dumps(document))
    made = profile.load(tmp_path / "my-chip.toml")
    assert (made.name, made.kind, made.unpublished) == ("my-chip", "event-driven", ())
    assert made.chip is not None
    synop = made.prices["energy.synop"]
    assert synop.amount is not None
    assert synop.amount.value == pytest.approx(20, rel=0.1)
    assert (synop.evidence, measurements.digest in synop.source) == ("fitted", True)
    message = made.prices["energy.message"].amount
    assert message is not None
    assert message.value == 0


@pytest.mark.parametrize(("rows", "alike", "message"), [
    (4, False, "must have at least 5 rows for 3 prices, got 4"),
    (12, True, "energy.synop, energy.neuron: grow alike in all rows"),
])  # fmt: skip
def test_what_cannot_be_known_is_refused(tmp_path: Path, rows: int, alike: bool, message: str) -> None:
    """Too few rows, or columns that only ever grow together."""
    with pytest.raises(TargetError, match=message):
        calibrate(read(table(tmp_path / "m.csv", rows=rows, alike=alike)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("joules\n", "at least one row"),
        ("joules,watts\n1,2\n", "column 'watts': is not known"),
        ("joules,joules\n1,2\n", "two columns of one name"),
        ("seconds\n1\n", "must have a column joules"),
        ("joules,cores\n1,2\n", "must have a column seconds"),
        ("joules,seconds\n0,2\n", "joules: must be above 0"),
        ("joules,seconds\n1\n", "line 2: must have 2 values, got 1"),
        ("joules,seconds\n1,-2\n", "line 2, seconds: must be a finite number"),
        ("joules,seconds\n1,nan\n", "line 2, seconds: must be a finite number"),
        ("joules\n1\n", "a column of work or time"),
        ("joules,energy.neuron,energy.neuron.access\n1,2,3\n", "energy.neuron or its parts"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    """Every mistake says where it is."""
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(FileFormatError, match=message):
        read(tmp_path / "m.csv")


def test_a_missing_table_and_a_gpu_are_refused(tmp_path: Path) -> None:
    """A file that is not there; a target whose energy is no sum of events."""
    with pytest.raises(FileFormatError, match="must be a CSV file"):
        read(tmp_path / "none.csv")
    found = calibrate(read(table(tmp_path / "m.csv")), resamples=10)
    with pytest.raises(TargetError, match="event-driven targets"):
        profile_document(found, profile.load("gpu-h200"), "x")
