"""`snndeploy tradeoff`: tables, JSON and files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.train.results import result, sweep


def test_text(run: Callable[..., Result], tmp_path: Path) -> None:
    """Scores, energy at equal accuracy, means over the seeds, and the order beside the published one."""
    shown = run("tradeoff", sweep(tmp_path), "--above", "50")
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("30 runs in 3 curves; accuracy is float32 test accuracy; energy is ESTIMATED")
    (equal,) = (
        line.split() for line in lines if line.startswith("syn") and " 90.00 " in line and "75.0" in line
    )
    assert equal == ["syn", "90.00", "+-", "0.20", "100.0", "87.5", "75.0"]
    means = [line.split() for line in lines if line.split()[:2] == ["total", "2"]]
    assert means == [["total", "2", "3", "78.00", "+-", "0.20", "25.00", "+-", "0.00", "25.00", "+-", "0.00"]]
    assert "published order by AUC: syn > total > balance" in lines
    assert lines[-1].startswith("AUC(50): syn ")
    assert lines[-1].endswith(": as claimed")
    assert "\n".join(lines).count("AUC(50)") == 1


def test_json_and_files(run_json: Callable[..., Any], tmp_path: Path) -> None:
    """What is printed is written, too, with every run; beside it are the figures."""
    out = tmp_path / "out" / "here"
    facts = run_json("tradeoff", sweep(tmp_path / "runs"), "--out", out)
    assert {path.name for path in out.iterdir()} == {"tradeoff.json", "tradeoff.png", "tradeoff.svg"}
    assert json.loads((out / "tradeoff.json").read_text()) == facts
    first = facts["curves"][0]
    assert (first["label"], len(first["runs"]), len(first["means"])) == ("syn", 12, 4)
    assert first["baseline"]["estimated_energy_pj"] == pytest.approx(1000.0)
    assert [score["above"] for score in first["scores"]] == [50.0, 70.0]
    assert [row["drop"] for row in first["equal_accuracy"]] == [0.0, 0.5, 1.0]
    assert [order["above"] for order in facts["orders"]] == [50.0, 70.0]
    point = first["runs"][3]
    assert (point["seed"], point["intensity"], point["energy_ratio"]) == (0, 1.0, pytest.approx(0.5))
    assert Path(point["run"]).is_dir()


def test_runs_of_train(run_json: Callable[..., Any], run: Callable[..., Result], tmp_path: Path) -> None:
    """What training leaves is what is read: accuracy, estimated energy and dead rate of both runs."""
    config = tmp_path / "config.toml"
    config.write_text('device = "cpu"\n[data]\nrepeat = 1\n[network]\nsteps = 1\nbackward = []\n')
    short = ("--set", "optimizer.epochs=1", "--set", "optimizer.batch_size=512")
    runs = [
        run_json(
            "train", config, "--out", tmp_path / "runs" / name, *short, "--set", f"penalty.intensity={name}"
        )
        for name in ("0", "1e-5")
    ]
    (curve,) = run_json("tradeoff", tmp_path / "runs", "--above", "0")["curves"]
    ratio = runs[1]["estimated_energy_pj"] / runs[0]["estimated_energy_pj"]
    assert [found["energy_ratio"] for found in curve["runs"]] == [1.0, pytest.approx(ratio)]
    for found, trained in zip(curve["runs"], runs, strict=True):
        assert found["accuracy"] == trained["test_accuracy"]
        assert found["dead_rate"] == trained["dead_rate"]
    again = run("tradeoff", tmp_path / "runs" / "1e-5")
    assert again.exit_code == 2
    made = [
        word.rstrip(",") for word in again.stderr.split("run: snndeploy ")[1].split(", and name")[0].split()
    ]
    assert made[0] == "train"
    assert Path(made[1]).is_file()


def test_unfinished_runs_are_skipped(run: Callable[..., Result], tmp_path: Path) -> None:
    """And counted."""
    sweep(tmp_path)
    (tmp_path / "syn,1" / "seed0" / "test.json").unlink()
    shown = run("tradeoff", tmp_path)
    assert shown.exit_code == 0, shown.output
    assert f"skipped 1 unfinished run, the first {tmp_path / 'syn,1' / 'seed0'}" in shown.stderr


def test_missing_numbers_have_reasons(run: Callable[..., Result], tmp_path: Path) -> None:
    """Below the scores it says why there is a dash."""
    result(tmp_path / "base", 0.9, 100.0)
    result(tmp_path / "run", 0.8, 50.0, "penalty.intensity=1.0")
    shown = run("tradeoff", tmp_path, "--above", "50", "--drop", "-5")
    assert "syn p=1: no Spearman: needs 3 runs above 50 %, has 1" in shown.stdout
    assert "never" in shown.stdout
    assert "+5" in shown.stdout
    assert "published" not in shown.stdout
    lines = run("tradeoff", tmp_path, "--above", "85", "--above", "86").stdout.splitlines()
    assert lines[0].startswith("2 runs in 1 curve; ")
    result(tmp_path / "again", 0.8, 50.0, "penalty.intensity=2.0")
    result(tmp_path / "more", 0.8, 50.0, "penalty.intensity=4.0")
    lines = run("tradeoff", tmp_path, "--above", "50", "--above", "70").stdout.splitlines()
    assert lines.count("syn p=1: no Spearman: all energy ratios are the same") == 1


def test_equal_scores_are_no_order(run: Callable[..., Result], tmp_path: Path) -> None:
    """What is not larger is not said to be; penalties without a common intensity have no order at all."""
    result(tmp_path / "base", 0.9, 100.0)
    for name in ("syn", "total", "balance"):
        result(tmp_path / name, 0.8, 50.0, f"penalty.name={name}", "penalty.intensity=1.0")
    assert "AUC(0): syn 42.50 = total 42.50 = balance 42.50: within" in shown_with(run, tmp_path)
    (tmp_path / "syn" / "test.json").unlink()
    result(tmp_path / "other", 0.8, 50.0, "penalty.intensity=2.0")
    assert "\nAUC(0): not comparable: no intensity in common\n" in shown_with(run, tmp_path)


def shown_with(run: Callable[..., Result], folder: Path) -> str:
    """What is printed for P = 0."""
    shown = run("tradeoff", folder, "--above", "0")
    assert shown.exit_code == 0, shown.output
    return shown.stdout


def test_accuracy_of_the_exact_format(run_json: Callable[..., Any], tmp_path: Path) -> None:
    """Chosen by an option."""
    facts = run_json("tradeoff", sweep(tmp_path), "--accuracy", "exact")
    assert facts["accuracy"] == "exact"
    assert facts["curves"][0]["baseline"]["accuracy"]["mean"] == pytest.approx(0.775)


def test_another_baseline(run_json: Callable[..., Any], tmp_path: Path) -> None:
    """All curves are relative to it, at the accuracy that it has."""
    base = result(tmp_path / "base", 0.8, 500.0, "optimizer.lr=0.5")
    facts = run_json("tradeoff", sweep(tmp_path / "runs"), "--baseline", base, "--out", tmp_path / "out")
    (curve, *_) = facts["curves"]
    assert curve["runs"][0]["energy_ratio"] == pytest.approx(1.98)
    assert curve["equal_accuracy"][0]["accuracy"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument"),
        (("missing",), "missing: is no folder"),
        ((".", "--above", "100"), "Invalid value for '--above'"),
        ((".", "--above", "nan"), "must be a finite number"),
        ((".", "--out", ""), "must name a folder"),
        ((".", "--out", "file"), "--out: must name a folder, got file, a file; name another"),
        ((".", "--out", "file/in/it"), "--out: must name a folder, got file, a file"),
        ((".",), "no finished run there (0 unfinished)"),
    ],
)
def test_mistakes(
    run: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    """Exit code 2 and what is wrong."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    shown = run("tradeoff", *arguments)
    assert shown.exit_code == 2
    assert message in shown.stderr
