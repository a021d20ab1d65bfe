"""`snndeploy train` and `snndeploy demo`: run folders, wrong configurations, interruption."""

from __future__ import annotations

import dataclasses
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
from click.testing import Result

from snndeploy.cli import runs
from snndeploy.ir import Exact, Float32, certify, load
from snndeploy.train.config import Config
from snndeploy.train.products import clear

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["threads=1", "device=cpu", "optimizer.epochs=1", "optimizer.warmup_epochs=0"]
FILES = {
    "config.toml",
    "metrics.jsonl",
    "checkpoint.safetensors",
    "test.json",
    "trained.snn.safetensors",
    "float32.snn.safetensors",
    "exact.snn.safetensors",
    "quantize.json",
}


def settings() -> list[str]:
    """A short training run, as command-line arguments."""
    return [part for setting in SMALL for part in ("--set", setting)]


def test_example_configuration_is_the_default() -> None:
    """The documented example says what the demonstration does."""
    assert Config.from_file(ROOT / "configs" / "digits.toml") == Config()


def test_train(run_json: Callable[..., Any], tmp_path: Path) -> None:
    """A run folder holds the resolved configuration, metrics, and the network in three stages."""
    config = tmp_path / "config.toml"
    config.write_text('[network]\nbackward = ["2:1"]\n')
    out = tmp_path / "runs" / "first"
    facts = run_json("train", config, "--out", out, *settings())
    assert {p.name for p in out.iterdir()} == FILES
    resolved = Config.from_file(out / "config.toml")
    assert (resolved.optimizer.epochs, resolved.network.backward) == (1, ("2:1",))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1]
    trained, float32, exact = (load(out / f"{n}.snn.safetensors") for n in ("trained", "float32", "exact"))
    assert trained.graph.training_only
    assert not float32.graph.training_only
    assert isinstance(float32.format, Float32)
    assert isinstance(exact.format, Exact)
    assert certify(exact).holds
    assert 0.1 < facts["test_accuracy"] <= 1
    assert facts["exact_problem"] is None
    assert set(facts["files"]) == FILES
    report = json.loads((out / "quantize.json").read_text())
    assert {one["parameter"] for one in report["parameters"]} == set(exact.weights)
    assert sum(one["size"] for one in report["parameters"]) == sum(w.size for w in exact.weights.values())
    rows = [dataclasses.asdict(row) | {"bits_left": row.bits_left} for row in certify(exact).rows]
    assert report["certificate"] == rows
    assert facts["quantization"] == {
        "clipped": sum(one["clipped"] for one in report["parameters"]),
        "bits_left": min(row["bits_left"] for row in rows),
    }
    assert facts["synops"] > 0
    assert facts["estimated_energy_pj"] == pytest.approx(0.9 * facts["synops"])
    saved = json.loads((out / "test.json").read_text())
    assert {**facts, "config": json.loads(json.dumps(dataclasses.asdict(resolved)))} == {
        **saved,
        "run": str(out),
    }


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("[optimizer]\nlearning_rate = 1\n", [], ["learning_rate", "lr"]),
        ("speed = 1\n", [], ["speed", "threads"]),
        ("[optimizer]\nlr = 'fast'\n", [], ["optimizer.lr"]),
        ("[optimizer\n", [], ["TOML"]),
        ("", ["--set", "optimizer.epochs"], ["optimizer.epochs"]),
        ("", ["--set", "network.backbone=resnet99"], ["resnet99", "resnet8"]),
        ("", ["--set", "network.backward=['1:3']"], ["1:3", "3:1"]),
        ("", ["--set", "network.backward=['3:1:4']"], ["delay"]),
        ("", ["--set", f"seed={'9' * 100_000}"], ["seed", "cannot be read"]),
        ("", ["--set", f"network.backward={'[' * 100_000}"], ["network.backward", "cannot be read"]),
        ("", ["--set", "data.shift=100000000"], ["data.shift", "[0, 64]"]),
        (f"seed = {'9' * 100_000}", [], ["config.toml", "TOML"]),
        (f"seed = {'[' * 100_000}", [], ["config.toml", "TOML"]),
    ],
)
def test_wrong_configuration(
    run: Callable[..., Result], tmp_path: Path, text: str, options: list[str], words: list[str]
) -> None:
    """Exit code 2 before anything is trained, with the key and the known ones; no run folder is made."""
    config = tmp_path / "config.toml"
    config.write_text(text)
    result = run("train", config, "--out", tmp_path / "run", *options)
    assert result.exit_code == 2, result.output
    assert all(word in result.output for word in words), result.output
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


PRODUCTS = ("step.onnx", "sequence.onnx", "verify.json", "energy.json")


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _as_if_deployed(run: Path) -> None:
    """Products of a demonstration, a folder that is no bundle, and a file of the user's."""
    for name in PRODUCTS:
        (run / name).write_text("of the earlier run")
    (run / "lava").mkdir()
    (run / "lava" / "manifest.json").write_text('{"format": "snndeploy-lava-bundle"}')
    (run / "notes.txt").write_text("precious")


def test_a_run_folder_never_mixes_two_runs(
    run: Callable[..., Result], run_json: Callable[..., Any], tmp_path: Path
) -> None:
    """Another configuration is refused unless asked for; a run that then fails leaves nothing of the older."""
    config, out = tmp_path / "config.toml", tmp_path / "run"
    config.write_text("[network]\nsteps = 2\n[data]\nrepeat = 1\n")
    run_json("train", config, "--out", out, *settings())
    _as_if_deployed(out)
    before = _snapshot(out)
    diverging = ["--set", "optimizer.lr=1e30"]
    refused = run("train", config, "--out", out, *settings(), *diverging)
    assert refused.exit_code == 2
    assert "optimizer.lr" in refused.output
    assert "--overwrite" in refused.output
    impossible = run(
        "train", config, "--out", out, *settings(), "--overwrite", "--set", "network.backward=['9:1']"
    )
    assert impossible.exit_code == 2
    assert _snapshot(out) == before
    failed = run("train", config, "--out", out, *settings(), "--overwrite", *diverging)
    assert failed.exit_code == 2
    assert "diverged" in failed.output
    assert set(_snapshot(out)) == {"config.toml", "metrics.jsonl", "notes.txt"}
    assert Config.from_file(out / "config.toml").optimizer.lr == 1e30
    run_json("train", config, "--out", out, *settings())  # over an unfinished run nothing need be asked
    again = run_json("train", config, "--out", out, *settings())
    assert {p.name for p in out.iterdir()} == FILES | {"notes.txt"}
    assert set(again["files"]) == FILES


@pytest.mark.parametrize("command", [["train", "config.toml"], ["demo"]])
def test_a_run_folder_has_a_name(run: Callable[..., Result], command: list[str]) -> None:
    """An empty one does not mean the current folder."""
    result = run(*command, "--out", "")
    assert result.exit_code == 2
    assert "must name a folder" in result.output


def test_demo_without_lava(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails before anything is trained."""
    monkeypatch.setenv("SNNDEPLOY_LAVA_PYTHON", str(tmp_path / "nowhere"))
    result = run("demo", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "SNNDEPLOY_LAVA_PYTHON" in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seeds", [[], ["--seeds", "2"]], ids=["one run", "seeds"])
def test_unwritable_run_folder(run: Callable[..., Result], tmp_path: Path, seeds: list[str]) -> None:
    """A run folder below a file cannot be made."""
    (tmp_path / "file").write_text("precious")
    (tmp_path / "config.toml").write_text("")
    result = run("train", tmp_path / "config.toml", "--out", tmp_path / "file" / "run", *settings(), *seeds)
    assert result.exit_code == 2
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.lava
@pytest.mark.usefixtures("lava_interpreter")
def test_demo(run_json: Callable[..., Any], tmp_path: Path) -> None:
    """The demonstration goes the whole way, and every back end gives the same bits."""
    out = tmp_path / "demo"
    facts = run_json("demo", "--out", out, "--samples", "10", *settings(), "--set", "seed=5")
    assert facts["seed"] == 5
    assert {p.name for p in out.iterdir()} == FILES | {
        "step.onnx",
        "sequence.onnx",
        "lava",
        "verify.json",
        "energy.json",
    }
    exact = json.loads((out / "verify.json").read_text())["exact"]
    assert {c["backend"] for c in exact} == {"torch", "onnx-step", "onnx-sequence", "lava"}
    assert all(c["passed"] and c["differing"] == 0 and c["compared"] > 100_000 for c in exact)
    assert json.loads((out / "energy.json").read_text())["label"] == "ESTIMATED"
    assert facts["initiation_interval"] > 1
    assert facts["machine_steps"] == 3 * facts["initiation_interval"] + 8 + 1
    clear(out)  # it knows every product
    assert {p.name for p in out.iterdir()} == {"config.toml", "metrics.jsonl", "checkpoint.safetensors"}


def test_interrupted_demo_leaves_nothing_half_written(tmp_path: Path) -> None:
    """Ctrl-C while training ends the command; every file left is whole, and no process stays."""
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "snndeploy", "demo", "--out", str(out), "--set", "threads=1"]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=tmp_path,
        preexec_fn=_heed_interrupts,  # noqa: PLW1509 - no threads here
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("training: 1/15 loss")
            os.killpg(process.pid, signal.SIGINT)
            process.wait(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert {p.name for p in out.iterdir()} == {"config.toml", "metrics.jsonl", "checkpoint.safetensors"}
    assert Config.from_file(out / "config.toml").threads == 1
    assert all(json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines())
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _group_lives(process.pid):
        time.sleep(0.1)
    assert not _group_lives(process.pid)


def _heed_interrupts() -> None:
    """A shell starts what it runs in the background with Ctrl-C ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_result_without_its_files_is_no_result(run_json: Callable[..., Any], tmp_path: Path) -> None:
    """Where a network file of a finished run is gone, --resume writes it again."""
    config = tmp_path / "config.toml"
    config.write_text("")
    out = tmp_path / "run"
    first = run_json("train", config, "--out", out, *settings())
    (out / "exact.snn.safetensors").unlink()
    again = run_json("train", config, "--out", out, "--resume", *settings())
    assert (out / "exact.snn.safetensors").is_file()
    assert again["test_accuracy"] == first["test_accuracy"]


def test_nothing_compiled(
    run_json: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Then there are no compiled neurons in the test of the networks, either."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("snndeploy.nn.engine.fused", refuse)
    config = tmp_path / "config.toml"
    config.write_text('compile = "nothing"\n')
    facts = run_json("train", config, "--out", tmp_path / "run", *settings())
    assert facts["exact_test_accuracy"] is not None


def test_other_conditions_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """In a line beside the results."""
    runs._tell_change("torch 2.0 instead of 1.0")
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "resumed with torch 2.0 instead of 1.0; the result may differ in the last bits\n",
    )
