"""The comparison of short delays with the pipeline, on runs made up by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.pipelined import EXACT, deployed, main, time_table, work_table
from snndeploy.backbones import resnet6
from snndeploy.ir import Graph, fold, save, schedule, with_backward
from snndeploy.ir.pipeline import pipelined
from snndeploy.targets.chip import load as load_chip
from snndeploy.targets.profile import load as load_profile
from tests.ir.graphs import classifier, random_network
from tests.test_docs import table


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two seeds of no connection and of 1:0 with a delay of 1, one seed of a delay of 2, T = 4."""
    graph = classifier()
    kinds: dict[str, tuple[Graph, list[float]]] = {
        "a": (with_backward(graph, 1, 0, 2), [0.9]),
        "b": (with_backward(graph, 1, 0), [0.7, 0.9]),
        "c": (graph, [0.5, 0.6]),
    }
    for name, (made, accuracies) in kinds.items():
        for seed, accuracy in enumerate(accuracies):
            folder = tmp_path / name / f"seed{seed}"
            folder.mkdir(parents=True)
            save(fold(random_network(made)), folder / EXACT)
            test = {
                "test_accuracy": accuracy,
                "exact_test_accuracy": accuracy / 2,
                "synops": 1000.0 * (seed + 1),
            }
            (folder / "test.json").write_text(json.dumps(test | {"config": {"seed": seed}}))
    return tmp_path


def cells(table: str) -> list[list[str]]:
    """The rows of a table, without its header."""
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()[2:]]


def test_time(sweep: Path) -> None:
    """Of input -> lif1 -> lif2 -> output at T = 4: 7 machine steps, or 10 with 1:0, which is free with a delay of 2."""
    chip = load_chip("loihi2")
    rows = cells(time_table(deployed(sweep), chip))
    assert [[row[0], *row[1:4], row[5]] for row in rows] == [
        ["none", "scheduled", "1", "7", "4"],
        ["1:0", "scheduled", "2", "10", "10"],
        ["1:0:2", "pipelined", "1", "7", "6"],
    ]
    assert rows[1][4].startswith(f"{float(f'{10 * chip.step_time_us.value:.2g}'):g} (")
    assert rows[1][6].startswith(f"{float(f'{1e5 / chip.step_time_us.value:.2g}'):g} (")


def test_work(sweep: Path) -> None:
    """Means and deviations over the seeds; every neuron is updated in every machine step between two samples."""
    rows = cells(work_table(deployed(sweep), load_profile("paper-45nm")))
    neurons = 3 * 4 * 4 + 5
    assert [[*row[:5], row[6].replace(" ", "")] for row in rows] == [
        ["none", "2", "55.0 +- 7.1", "27.5 +- 3.5", "1 500", str(4 * neurons)],
        ["1:0", "2", "80.0 +- 14.1", "40.0 +- 7.1", "1 500", str(10 * neurons)],
        ["1:0:2", "1", "90.0 +- 0.0", "45.0 +- 0.0", "1 000", str(6 * neurons)],
    ]
    assert rows[0][5].startswith("1.4 (")  # 1500 at 0.9 pJ


def test_documented_time() -> None:
    """Machine steps in docs/results/timing.md are those of the schedules of its networks."""
    rows = table("results/timing.md", "machine steps between samples")
    none = resnet6((1, 8, 8), 10)
    graphs = {"none": none, "3:1": with_backward(none, 3, 1), "3:1:3": with_backward(none, 3, 1, 3)}
    assert [row["connections"] for row in rows] == list(graphs)
    for row in rows:
        found = schedule(graphs[row["connections"]])
        assert (row["schedule"], row["II"]) == (found.name, str(found.initiation_interval))
        assert row["machine steps"] == str(found.machine_steps(10))
        assert row["machine steps between samples"] == str(found.machine_steps_per_sample(10))
    assert pipelined(graphs["3:1"], 10) == graphs["3:1:3"]


def test_command(sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Both tables, for a chip and a profile by name."""
    monkeypatch.setattr("sys.argv", ["pipelined", str(sweep), "--target", "loihi1"])
    main()
    first, second = capsys.readouterr().out.strip().split("\n\n")
    assert first == time_table(deployed(sweep), load_chip("loihi1"))
    assert second == work_table(deployed(sweep), load_profile("paper-45nm"))
