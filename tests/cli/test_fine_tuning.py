"""`snndeploy train --quantize`: what a run folder gets, resumption, sweeps, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from snndeploy.cli.summary import as_text
from snndeploy.cli.train import as_text as run_as_text
from snndeploy.errors import QuantizeError
from snndeploy.ir import certify, load
from snndeploy.train import finetuning
from snndeploy.train.config import Config
from snndeploy.train.data import load as load_data
from snndeploy.train.evaluation import evaluate

SMALL = [
    "device=cpu",
    "network.steps=2",
    "data.repeat=1",
    "optimizer.epochs=1",
    "optimizer.warmup_epochs=0",
    "quantize.epochs=1",
]
TUNED = {"fine-tuning.safetensors", "fine-tuned.snn.safetensors"}
KEYS = ("posttraining_test_accuracy", "finetuned_test_accuracy", "finetuning")


@pytest.fixture
def command(tmp_path: Path) -> list[str | Path]:
    """A short training run."""
    config = tmp_path / "config.toml"
    config.write_text("")
    options = [part for setting in SMALL for part in ("--set", setting)]
    return ["train", config, "--out", tmp_path / "run", *options]


@pytest.mark.parametrize("form", ["exact", "loihi"])
def test_train_and_fine_tune(
    run_json: Callable[..., Any], command: list[str | Path], tmp_path: Path, form: str
) -> None:
    """The run folder gets the fine-tuned network; its accuracy is measured beside that without fine-tuning."""
    facts = run_json(*command, "--quantize", form, "--set", "quantize.bits=5")
    out = tmp_path / "run"
    assert TUNED <= {p.name for p in out.iterdir()} == set(facts["files"])
    tuned = load(out / "fine-tuned.snn.safetensors")
    assert tuned.format.name == form
    assert certify(tuned).holds
    source = load_data(Config.from_file(out / "config.toml").data)
    assert facts["finetuned_test_accuracy"] == evaluate(tuned, source.test).accuracy
    assert 0 < facts["posttraining_test_accuracy"] <= 1
    found = facts["finetuning"]
    granularity = "channel" if form == "exact" else "layer"
    asked = {"format": form, "bits": 5, "granularity": granularity, "epochs": 1}
    assert asked.items() <= found.items()
    assert found["problem"] is None
    assert found["bits_left"] == min(row.bits_left for row in certify(tuned).rows)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["phase"]) for line in lines] == [(1, "training"), (2, "fine-tuning")]
    assert json.loads((out / "test.json").read_text())["finetuning"] == found
    text = run_as_text(facts)
    assert f"{facts['finetuned_test_accuracy']:.2%} ({form}, 5 bits, a grid for each {granularity}" in text


def test_fine_tuning_a_finished_run(
    run: Callable[..., Result], run_json: Callable[..., Any], command: list[str | Path], tmp_path: Path
) -> None:
    """It is not trained again; another fine-tuning replaces one only if asked to, and none removes it."""
    out = tmp_path / "run"
    plain = run_json(*command)
    assert not set(KEYS) & set(plain)
    kept = {name: (out / name).read_bytes() for name in ("checkpoint.safetensors", "float32.snn.safetensors")}
    tuned = run_json(*command, "--resume", "--quantize", "exact")
    assert all((out / name).read_bytes() == bits for name, bits in kept.items())
    assert {key: tuned[key] for key in plain if key != "files"} == {
        key: value for key, value in plain.items() if key != "files"
    }
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    for other in (["--quantize", "exact", "--set", "quantize.bits=4"], []):
        refused = run(*command, "--resume", *other)
        assert refused.exit_code == 2
        assert "quantize." in refused.output
        assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    again = run_json(*command, "--resume", "--overwrite", "--quantize", "exact", "--set", "quantize.bits=4")
    assert again["finetuning"]["bits"] == 4
    removed = run_json(*command, "--resume", "--overwrite")
    assert removed == plain
    assert not TUNED & {p.name for p in out.iterdir()}


def test_seeds(run_json: Callable[..., Any], command: list[str | Path]) -> None:
    """The summary has mean and deviation of the accuracies with and without fine-tuning, and columns for them."""
    facts = run_json(*command, "--quantize", "exact", "--seeds", "2")
    runs = list(facts["runs"].values())
    for key in KEYS[:2]:
        values = [one[key] for one in runs]
        assert facts["summary"][key]["mean"] == pytest.approx(sum(values) / 2)
        assert facts["summary"][key]["count"] == 2
    text = as_text(facts)
    assert "quantised, not fine-tuned" in text
    assert f"{runs[1]['finetuned_test_accuracy']:.2%}" in text


def test_sweep_over_bits(run_json: Callable[..., Any], command: list[str | Path]) -> None:
    """A column of a sweep's table is there if one of its combinations is fine-tuned."""
    facts = run_json(*command, "--sweep", "quantize.format=none,exact")
    none, exact = (row["summary"] for row in facts["combinations"])
    assert "finetuned_test_accuracy" not in none
    assert exact["finetuned_test_accuracy"]["count"] == 1
    lines = as_text(facts).splitlines()
    assert "fine-tuned" in lines[0]
    assert f"{exact['finetuned_test_accuracy']['mean']:.2%}" in "".join(lines)


def test_a_network_without_grids(
    run_json: Callable[..., Any], command: list[str | Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was trained is kept and tested, and the result says why it was not fine-tuned."""

    def refuse(*_: Any, **__: Any) -> None:
        raise QuantizeError("stem.lif", "cannot be certified exact")

    monkeypatch.setattr(finetuning, "quantized", refuse)
    facts = run_json(*command, "--quantize", "exact")
    assert facts["finetuned_test_accuracy"] is None
    assert "stem.lif" in facts["finetuning"]["problem"]
    assert "not fine-tuned" in run_as_text(facts)
    assert not TUNED & {p.name for p in (tmp_path / "run").iterdir()}
    assert all((tmp_path / "run" / name).is_file() for name in facts["files"])


def test_an_unknown_format(run: Callable[..., Result], command: list[str | Path]) -> None:
    """Is refused before anything is written."""
    assert run(*command, "--quantize", "int8").exit_code == 2
    assert run(*command, "--set", "quantize.format=int8").exit_code == 2
