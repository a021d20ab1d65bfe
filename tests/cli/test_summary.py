"""The summary of a sweep counts what there is, converted networks among it."""

from __future__ import annotations

from typing import Any

import pytest

from snndeploy.cli.summary import as_text, summaries, summary


def converted(accuracies: dict[int, float]) -> dict[str, Any]:
    """The result of an ANN: nothing of its own, and a spiking network for each number of steps."""
    entries = [
        {
            "steps": steps,
            "test_accuracy": accuracy,
            "exact_test_accuracy": None,
            "dead_rate": 0.1,
            "synops": 10.0 * steps,
            "estimated_energy_pj": 9000.0 * steps,
        }
        for steps, accuracy in accuracies.items()
    ]
    return {"test_accuracy": None, "estimated_energy_pj": None, "conversions": entries}


def test_mean_and_deviation_of_what_is_known() -> None:
    """Missing values do not count; one value has no deviation: (2 + 4) / 2 = 3, sqrt(2) over n - 1."""
    assert summary([2.0, None, 4.0]) == {"count": 2, "mean": 3.0, "std": pytest.approx(2**0.5)}
    assert summary([2.0]) == {"count": 1, "mean": 2.0, "std": None}
    assert summary([None]) == {"count": 0, "mean": None, "std": None}


def test_converted_networks_are_summed_up_for_each_number_of_steps() -> None:
    """The table has a row for each T, and none for the ANN, which does not spike."""
    runs = [converted({1: 0.5, 5: 0.9}), converted({1: 0.7, 5: 0.9})]
    found = summaries(runs)
    assert [one["steps"] for one in found["conversions"]] == [1, 5]
    assert found["conversions"][0]["test_accuracy"]["mean"] == pytest.approx(0.6)
    assert found["test_accuracy"]["count"] == 0
    row = {"settings": {"seed": 1}, "runs": ["a", "b"], "failed": [], "summary": found}
    text = as_text({"run": "RUN", "runs": {"a": 1, "b": 1}, "sweep": ["seed"], "combinations": [row]})
    lines = [line for line in text.splitlines() if "T = " in line]
    assert len(lines) == 2
    assert "2, T = 1" in lines[0]
    assert "60.00% +- 14.14%" in lines[0]
    assert "45 +- 0" in lines[1]
    assert "conversions" not in summaries([{"test_accuracy": 0.5}])
