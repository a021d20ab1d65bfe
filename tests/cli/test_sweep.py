"""`snndeploy train --sweep`: the product of values and seeds, in parallel, over ranks, interrupted, failing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from snndeploy.cli import main
from snndeploy.cli.sweep import trainer
from snndeploy.train import loop
from snndeploy.train.checkpoint import as_json
from snndeploy.train.config import Config
from tests.train import results

QUICK = """
threads = 1
device = "cpu"
[network]
backbone = "resnet6"
backward = []
steps = 2
[data]
repeat = 1
[optimizer]
epochs = 1
warmup_epochs = 0
batch_size = 256
"""
SWEEP = ("--sweep", "penalty.power=1,2", "--sweep", "penalty.intensity=0,1e-6")
NAMES = [f"penalty.intensity={i},penalty.power={p}" for p in (1, 2) for i in ("0", "1e-06")]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration file of a training run of 5 batches."""
    path = tmp_path / "config.toml"
    path.write_text(QUICK)
    return path


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A sweep of two values and two seeds, trained one by one, and what it came to."""
    folder = tmp_path_factory.mktemp("serial")
    (folder / "config.toml").write_text(QUICK)
    command = ["train", str(folder / "config.toml"), "--out", str(folder / "run"), "--json"]
    result = CliRunner().invoke(main, [*command, *SWEEP[2:], "--seeds", "2"])
    assert result.exit_code == 0, result.output
    return folder / "run", json.loads(result.stdout)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The run folders that something was trained in, in order, as the last two parts of their paths."""
    folders: list[str] = []
    fit = loop.fit

    def noted(config: Config, run_folder: Path, *rest: Any, **options: Any) -> Any:
        assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} & set(os.environ)
        folders.append(str(Path(*run_folder.parts[-2:])))
        return fit(config, run_folder, *rest, **options)

    monkeypatch.setattr(loop, "fit", noted)
    return folders


def networks(folder: Path) -> dict[str, bytes]:
    """All network files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.snn.safetensors")}


def test_product(serial: tuple[Path, dict[str, Any]]) -> None:
    """A folder for each combination and in it one for each seed; a row for each combination."""
    out, facts = serial
    labels = ["penalty.intensity=0", "penalty.intensity=1e-06"]
    names = [f"{label}/seed{seed}" for label in labels for seed in (0, 1)]
    assert list(facts["runs"]) == names
    assert {p.name for p in out.iterdir()} == {*labels, "summary.json"}
    assert {**json.loads((out / "summary.json").read_text()), "run": str(out)} == facts
    assert (facts["seeds"], facts["sweep"], facts["failed"]) == ([0, 1], ["penalty.intensity"], {})
    for row, label, intensity in zip(facts["combinations"], labels, (0, 1e-6), strict=True):
        assert row["label"] == label
        assert row["settings"] == {"penalty.intensity": intensity}
        assert row["runs"] == [f"{label}/seed0", f"{label}/seed1"]
        energies = [facts["runs"][name]["estimated_energy_pj"] for name in row["runs"]]
        assert row["summary"]["estimated_energy_pj"]["mean"] == pytest.approx(sum(energies) / 2)
        assert row["summary"]["test_accuracy"]["count"] == 2
        for seed in (0, 1):
            resolved = Config.from_file(out / label / f"seed{seed}" / "config.toml")
            assert (resolved.penalty.intensity, resolved.seed) == (intensity, seed)


def test_workers(
    run_json: Callable[..., Any], config: Path, tmp_path: Path, serial: tuple[Path, dict[str, Any]]
) -> None:
    """Several processes leave the same bits as one."""
    out = tmp_path / "run"
    facts = run_json("train", config, "--out", out, *SWEEP[2:], "--seeds", "2", "--workers", "2")
    assert {**facts, "run": ""} == {**serial[1], "run": ""}
    assert networks(out) == networks(serial[0])


def test_killed_and_resumed(
    run_json: Callable[..., Any], config: Path, tmp_path: Path, serial: tuple[Path, dict[str, Any]]
) -> None:
    """A sweep whose first process is killed leaves no other at work, and resumed ends as if unbroken."""
    out = tmp_path / "run"
    options = ["train", str(config), "--out", str(out), *SWEEP[2:], "--seeds", "2", "--workers", "2"]
    with subprocess.Popen(
        [sys.executable, "-m", "snndeploy", *options],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            while not list(out.glob("*/*/test.json")):
                assert process.poll() is None
                time.sleep(0.01)
            process.kill()
            process.communicate(timeout=60)  # until the last that holds the pipe is gone
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert not (out / "summary.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/*/test.json")}
    assert 1 <= len(kept) < 4
    facts = run_json(*options[:-2], "--resume")
    assert {**facts, "run": ""} == {**serial[1], "run": ""}
    assert networks(out) == networks(serial[0])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_more_values(
    run: Callable[..., Result], run_json: Callable[..., Any], config: Path, tmp_path: Path, trained: list[str]
) -> None:
    """A second call with further values adds to the first; a key more is another sweep."""
    out = tmp_path / "run"
    run_json("train", config, "--out", out, "--sweep", "penalty.power=2")
    facts = run_json("train", config, "--out", out, "--sweep", "penalty.power=1", "--resume")
    assert trained == ["run/penalty.power=2", "run/penalty.power=1"]
    assert list(facts["runs"]) == ["penalty.power=1", "penalty.power=2"]
    assert [row["settings"] for row in facts["combinations"]] == [{"penalty.power": p} for p in (1, 2)]
    assert {p.name for p in (out / "penalty.power=1").iterdir()} >= {"test.json", "config.toml"}
    other = run_json("train", config, "--out", out, *SWEEP[:3], "penalty.intensity=0")
    assert list(other["runs"]) == [NAMES[0], NAMES[2]]
    result = run("train", config, "--out", out, "--sweep", "penalty.power=1,2", "--resume")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split()[:2] == ["penalty.power", "runs"]
    assert [line.split()[0] for line in result.stdout.splitlines()[1:3]] == ["1", "2"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("test_accuracy", "0.5"),
        ("test_accuracy", None),
        ("dead_rate", float("nan")),
        ("firing_rates", {"lif": float("inf")}),
        ("synops", [1]),
        ("test_group_accuracies", {"delay": 3}),
        ("test_group_accuracies", {"delay": {"0": "high"}}),
        ("conversions", [{"test_accuracy": 0.5, "dead_rate": 0.5, "estimated_energy_pj": 1.0}]),
    ],
)
def test_damaged_results(
    run: Callable[..., Result], config: Path, tmp_path: Path, trained: list[str], key: str, value: object
) -> None:
    """One that is asked for is named before anything is trained; one that nobody asked for is left out."""
    out = tmp_path / "run"
    path = results.result(out / "penalty.power=2", 0.5, 10.0) / "test.json"
    facts = json.loads(path.read_text())
    facts["config"] = as_json(Config.from_file(config, ["penalty.power=2"]))
    path.write_text(json.dumps(facts | {key: value}))
    shown = run("train", config, "--out", out, "--sweep", "penalty.power=1,2", "--resume")
    assert (shown.exit_code, trained) == (2, [])
    assert f"{path}: " in shown.stderr
    shown = run("train", config, "--out", out, "--sweep", "penalty.power=1")
    assert shown.exit_code == 0, shown.output
    assert list(json.loads((out / "summary.json").read_text())["runs"]) == ["penalty.power=1"]
    path.write_text(json.dumps(facts))
    again = run("train", config, "--out", out, "--sweep", "penalty.power=1", "--resume")
    assert again.exit_code == 0, again.output
    assert len(json.loads((out / "summary.json").read_text())["runs"]) == 2, "whole, it counts"


def test_a_result_with_a_damaged_configuration(
    run_json: Callable[..., Any], config: Path, tmp_path: Path, trained: list[str]
) -> None:
    """That nobody asked for: it is left out."""
    out = tmp_path / "run"
    for seed, written in ((0, 0), (1, "1")):
        path = results.result(out / "penalty.power=2" / f"seed{seed}", 0.5, 10.0) / "test.json"
        facts = json.loads(path.read_text())
        facts["config"] = as_json(Config.from_file(config, ["penalty.power=2"])) | {"seed": written}
        path.write_text(json.dumps(facts))
    options = ("--sweep", "penalty.power=2", "--seeds", "1", "--resume")
    assert run_json("train", config, "--out", out, *options)["seeds"] == [0]
    assert trained == []


def test_results_of_an_older_version(
    run_json: Callable[..., Any], config: Path, tmp_path: Path, trained: list[str]
) -> None:
    """Whose configuration lacks a key that was added since: they are finished, asked for or not."""
    out = tmp_path / "run"
    for power in (1, 2):
        path = results.result(out / f"penalty.power={power}", 0.5, 10.0) / "test.json"
        facts = json.loads(path.read_text())
        facts["config"] = as_json(Config.from_file(config, [f"penalty.power={power}"]))
        del facts["config"]["penalty"]["psi"]
        if power == 1:
            del facts["config"]["penalty"]["power"]
        path.write_text(json.dumps(facts))
    found = run_json("train", config, "--out", out, "--sweep", "penalty.power=2", "--resume")
    assert [row["settings"]["penalty.power"] for row in found["combinations"]] == [2, 1]
    assert trained == []


def test_a_failing_run(
    run: Callable[..., Result], run_json: Callable[..., Any], config: Path, tmp_path: Path
) -> None:
    """The others are done; it is named and marked, and the command fails; --resume tries it alone again."""
    out = tmp_path / "run"
    options = ["train", config, "--out", out, "--sweep", "optimizer.lr=1e30,0.01"]
    for resume in ([], ["--resume"]):
        result = run(*options, *resume)
        assert result.exit_code == 2
        assert "1 run failed" in result.stderr
        assert "optimizer.lr=1e+30: " in result.stderr
        assert "diverged" in result.stderr
        assert [line.split()[:4] for line in result.stdout.splitlines()[1:3]] == [
            ["1e+30", "0", "(1", "failed)"],
            ["0.01", "1", *result.stdout.splitlines()[2].split()[2:4]],
        ]
        saved = json.loads((out / "summary.json").read_text())
        assert list(saved["runs"]) == ["optimizer.lr=0.01"]
        assert "diverged" in saved["failed"]["optimizer.lr=1e+30"]
        assert [row["failed"] for row in saved["combinations"]] == [["optimizer.lr=1e+30"], []]
    done = run_json("train", config, "--out", out, "--sweep", "optimizer.lr=0.01", "--resume")
    assert done["failed"] == {}


def test_ranks(
    run: Callable[..., Result],
    run_json: Callable[..., Any],
    config: Path,
    tmp_path: Path,
    trained: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each trains its share; rank 0 says what is missing or writes the summary, the other prints nothing."""
    out = tmp_path / "run"
    options = ["train", config, "--out", out, *SWEEP]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    first = run_json(*options)
    assert trained == [f"run/{NAMES[0]}", f"run/{NAMES[2]}"]
    assert first["missing"] == [NAMES[1], NAMES[3]]
    assert not (out / "summary.json").exists()
    assert "2 of 4 runs are not finished" in run(*options, "--resume").stdout
    monkeypatch.setenv("RANK", "1")
    trained.clear()
    second = run(*options)
    assert trained == [f"run/{NAMES[1]}", f"run/{NAMES[3]}"]
    assert (second.exit_code, second.stdout) == (0, "")
    assert "rank 1 of 2" in second.stderr
    assert not (out / "summary.json").exists()
    trained.clear()
    monkeypatch.setenv("RANK", "0")
    whole = run_json(*options, "--resume")
    assert list(whole["runs"]) == NAMES
    assert (out / "summary.json").exists()
    monkeypatch.delenv("WORLD_SIZE")
    assert run_json(*options, "--resume") == whole
    assert trained == []


def test_a_failing_run_of_a_rank(
    run: Callable[..., Result], config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told and counts as missing, but the rank does not fail: torchrun would end the others."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    result = run("train", config, "--out", tmp_path / "run", "--sweep", "optimizer.lr=1e30,0.01")
    assert result.exit_code == 0
    assert "2 of 2 runs are not finished" in result.stdout
    assert "diverged" in result.stderr


@pytest.mark.parametrize(("gpu", "expected"), [("0", [0]), ("3", [1]), (None, [])])
def test_each_rank_has_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: str | None, expected: list[int]
) -> None:
    """Its own, as long as there are enough; without ranks nothing is chosen."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    trainer(tmp_path, resume=False, overwrite=False, shown=False, gpu=gpu)
    assert chosen == expected


@pytest.mark.parametrize("ranks", [{"WORLD_SIZE": "two"}, {"WORLD_SIZE": "0"}, {"RANK": "-1"}])
def test_wrong_ranks(
    run: Callable[..., Result],
    config: Path,
    tmp_path: Path,
    ranks: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are named before anything is trained."""
    for name, value in ranks.items():
        monkeypatch.setenv(name, value)
    result = run("train", config, "--out", tmp_path / "run", "--seeds", "2")
    assert result.exit_code == 2
    assert "RANK" in result.output
    assert not (tmp_path / "run").exists()
