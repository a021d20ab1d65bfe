"""`snndeploy train` with several seeds, resumed, and from a network file."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from snndeploy.cli.summary import summary
from snndeploy.ir import Exact, fingerprint, load
from snndeploy.train import loop
from snndeploy.train.config import Config
from snndeploy.train.metrics import EpochReport

QUICK = """
threads = 1
device = "cpu"
[network]
steps = 2
[data]
repeat = 1
[optimizer]
epochs = 1
warmup_epochs = 0
batch_size = 256
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration file of a training run of 4 batches."""
    path = tmp_path / "config.toml"
    path.write_text(QUICK)
    return path


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The run folders that something was trained in, in order."""
    folders: list[Path] = []
    fit = loop.fit

    def noted(config: Config, run_folder: Path, report: Callable[[EpochReport], None], **options: Any) -> Any:
        folders.append(run_folder)
        return fit(config, run_folder, report, **options)

    monkeypatch.setattr(loop, "fit", noted)
    return folders


def test_seeds(run_json: Callable[..., Any], config: Path, tmp_path: Path) -> None:
    """A run folder for each, as if trained alone, and mean and standard deviation of what they came to."""
    out = tmp_path / "run"
    facts = run_json("train", config, "--out", out, "--seeds", "2", "--set", "seed=4")
    assert {p.name for p in out.iterdir()} == {"seed4", "seed5", "summary.json"}
    assert facts["seeds"] == [4, 5]
    accuracies = [facts["runs"][name]["test_accuracy"] for name in ("seed4", "seed5")]
    assert facts["summary"]["test_accuracy"] == {
        "count": 2,
        "mean": pytest.approx(sum(accuracies) / 2),
        "std": pytest.approx(statistics.stdev(accuracies)),
    }
    assert {**json.loads((out / "summary.json").read_text()), "run": str(out)} == facts
    alone = run_json("train", config, "--out", tmp_path / "alone", "--set", "seed=5")
    assert {**alone, "run": ""} == {**facts["runs"]["seed5"], "run": ""}
    name = "trained.snn.safetensors"
    assert fingerprint(load(out / "seed5" / name)) == fingerprint(load(tmp_path / "alone" / name))


def test_resuming_skips_what_is_done(
    run_json: Callable[..., Any], config: Path, tmp_path: Path, trained: list[Path]
) -> None:
    """Finished runs are read, the unfinished one goes on, further seeds are trained."""
    out = tmp_path / "run"
    first = run_json("train", config, "--out", out, "--seeds", "2")
    (out / "seed1" / "test.json").unlink()  # as if killed before it was tested
    trained.clear()
    again = run_json("train", config, "--out", out, "--seeds", "3", "--resume")
    assert trained == [out / "seed1", out / "seed2"]
    assert {name: again["runs"][name] for name in first["runs"]} == first["runs"]
    assert again["summary"]["test_accuracy"]["count"] == 3
    trained.clear()
    assert run_json("train", config, "--out", out, "--seeds", "3", "--resume") == again
    assert trained == []


def test_fewer_seeds_than_there_are(
    run: Callable[..., Result],
    run_json: Callable[..., Any],
    config: Path,
    tmp_path: Path,
    trained: list[Path],
) -> None:
    """The summary covers all finished seeds in the folder; none of another configuration, damaged or copied."""
    out = tmp_path / "run"
    three = run_json("train", config, "--out", out, "--seeds", "3")
    trained.clear()
    for options in (["--resume"], []):  # read or redone, it is the same run
        assert run_json("train", config, "--out", out, "--seeds", "1", *options) == three
        assert {**json.loads((out / "summary.json").read_text()), "run": str(out)} == three
    assert trained == [out / "seed0"]
    shutil.copytree(out / "seed1", out / "seed9")
    (out / "seed2" / "test.json").write_text("{")
    two = run_json("train", config, "--out", out, "--seeds", "1", "--resume")
    assert (two["seeds"], list(two["runs"])) == ([0, 1], ["seed0", "seed1"])
    other = ("--overwrite", "--set", "penalty.intensity=1e-6")
    assert run_json("train", config, "--out", out, "--seeds", "1", *other)["seeds"] == [0]
    text = run("train", config, "--out", out, "--seeds", "1", "--resume", *other[1:]).output
    assert "covers 1 run" in text


def test_other_seeds_are_refused_as_a_whole(
    run: Callable[..., Result],
    run_json: Callable[..., Any],
    config: Path,
    tmp_path: Path,
    trained: list[Path],
) -> None:
    """A finished run of another configuration keeps all from being trained; failed runs take the summary."""
    out = tmp_path / "run"
    run_json("train", config, "--out", out, "--seeds", "2")
    (out / "seed0" / "test.json").unlink()
    trained.clear()
    diverging = ("--set", "optimizer.lr=1e30")
    refused = run("train", config, "--out", out, "--seeds", "2", *diverging)
    assert refused.exit_code == 2
    assert "seed1: holds a finished run of another configuration" in refused.output
    assert trained == []
    assert (out / "summary.json").exists()
    failed = run("train", config, "--out", out, "--seeds", "2", "--overwrite", *diverging)
    assert failed.exit_code == 2
    assert "2 runs failed" in failed.output
    assert trained == [out / "seed0", out / "seed1"]
    assert not (out / "summary.json").exists()


def test_resuming_one_run(
    run: Callable[..., Result],
    run_json: Callable[..., Any],
    config: Path,
    tmp_path: Path,
    trained: list[Path],
) -> None:
    """A finished run is only read; under another configuration it is refused; without --resume it is redone."""
    out = tmp_path / "run"
    first = run_json("train", config, "--out", out, "--resume")
    assert run_json("train", config, "--out", out, "--resume") == first
    assert trained == [out]
    result = run("train", config, "--out", out, "--resume", "--set", "optimizer.lr=0.5")
    assert result.exit_code == 2
    assert "optimizer.lr: cannot be changed in a run that is resumed" in result.output
    assert run_json("train", config, "--out", out) == first
    assert trained == [out, out, out]


def test_a_damaged_result(run: Callable[..., Result], config: Path, tmp_path: Path) -> None:
    """It is named with what to do."""
    out = tmp_path / "run"
    out.mkdir()
    for text in ("{", "[]", "{}"):
        (out / "test.json").write_text(text)
        result = run("train", config, "--out", out, "--resume")
        assert result.exit_code == 2
        assert "delete it and resume again" in result.output


def test_from_a_network(run_json: Callable[..., Any], config: Path, tmp_path: Path) -> None:
    """Training goes on from an exact network, as it is, with a further connection."""
    run_json("train", config, "--out", tmp_path / "first", "--deterministic")
    start = tmp_path / "first" / "exact.snn.safetensors"
    assert isinstance(load(start).format, Exact)
    backward = "network.backward=['4:2', '6:6']"
    out = tmp_path / "second"
    run_json("train", config, "--out", out, "--from", start, "--set", backward, "--set", "optimizer.lr=1e-4")
    resolved = Config.from_file(out / "config.toml")
    assert (resolved.start, resolved.deterministic) == (str(start), False)
    assert Config.from_file(tmp_path / "first" / "config.toml").deterministic
    further, before = load(out / "trained.snn.safetensors"), load(start)
    assert further.graph.training_only == ("back6_6.norm",)
    assert 0 < np.abs(further.weights["fc.weight"] - before.weights["fc.weight"]).max() < 0.01


def test_text(run: Callable[..., Result], config: Path, tmp_path: Path) -> None:
    """Recall shows the accuracy at each delay; several seeds a table with mean and spread."""
    settings = [
        *("--set", "data.name=recall", "--set", "data.steps=3", "--set", "network.steps=3"),
        *("--seeds", "2"),
    ]
    result = run("train", config, "--out", tmp_path / "run", *settings)
    assert result.exit_code == 0, result.output
    assert "seed1" in result.output
    assert "(float32, 2 seeds)" in result.output
    assert "  delay 0: " in result.output
    assert "  delay 1: " in result.output
    saved = json.loads((tmp_path / "run" / "summary.json").read_text())["summary"]["test_group_accuracies"]
    assert set(saved["delay"]) == {"0", "1"}
    again = run("train", config, "--out", tmp_path / "run" / "seed0", *settings[:-2], "--resume")
    assert "  delay 1: " in again.output
    assert "test.json" in again.output


def test_summary() -> None:
    """One value has no spread, none no mean; a run that is not in the exact format does not count."""
    assert summary([0.5, None, 0.7]) == {
        "count": 2,
        "mean": pytest.approx(0.6),
        "std": pytest.approx(0.2 / 2**0.5),
    }
    assert summary([0.5]) == {"count": 1, "mean": 0.5, "std": None}
    assert summary([None]) == {"count": 0, "mean": None, "std": None}
