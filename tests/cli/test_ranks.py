"""`snndeploy train` under torchrun: one run, one voice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from snndeploy.ir import load
from tests.cli.test_train import FILES

CONFIG = """
threads = 1
device = "cpu"
calibration_batches = 2
[network]
steps = 2
[data]
repeat = 1
augment = []
[optimizer]
epochs = 1
batch_size = 128
warmup_epochs = 0
"""


def torchrun(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Two processes that train together into run/; warnings are errors."""
    config = folder / "config.toml"
    config.write_text(CONFIG)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launcher, "-m", "snndeploy", "train", str(config), "--out", str(folder / "run"), *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1"},
    )


def test_one_run(run_json: Callable[..., Any], tmp_path: Path) -> None:
    """One set of files, one result, one line of progress; the loss is that of one process but for rounding."""
    result = torchrun(tmp_path, "--json")
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES == set(facts["files"])
    assert facts["test_accuracy"] > 0.15  # chance is 0.1
    assert result.stderr.count("training: 1/1") == 1
    run_json("train", tmp_path / "config.toml", "--out", tmp_path / "alone")
    ranks, alone = (json.loads((tmp_path / n / "metrics.jsonl").read_text()) for n in ("run", "alone"))
    assert ranks["loss"] == pytest.approx(alone["loss"], rel=0.02)
    assert ranks["validation_accuracy"] == pytest.approx(alone["validation_accuracy"], abs=0.15)
    first, second = (load(tmp_path / n / "trained.snn.safetensors").graph for n in ("run", "alone"))
    assert first == second


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "optimizer.batch_size=5"), "Error: optimizer.batch_size: must be a multiple of 2"),
        (("--set", "optimizer.batch=4"), "Error: optimizer: has no key 'batch'"),
    ],
    ids=lambda value: value[-1],
)
def test_mistakes(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    """Said once, whether found before the processes have met or after; exit code 2, and nothing is written."""
    result = torchrun(tmp_path, *options)
    assert result.returncode == 1  # torchrun's own
    assert "exitcode  : 2" in result.stderr
    assert result.stderr.count(message) == 1
    assert result.stdout == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("rank", "waits"), [("0", []), ("1", [11]), ("7", [17])])
def test_the_first_speaks_first(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str, waits: list[int]
) -> None:
    """An error of another rank, which may be its own, is said as well, unless that rank is ended before."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    for name, value in {"RANK": rank, "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    result = run("train", tmp_path / "missing.toml", "--out", tmp_path / "run")
    assert (result.exit_code, waited) == (2, waits)
    assert "missing.toml: cannot be read" in result.output
