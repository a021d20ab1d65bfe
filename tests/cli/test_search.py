"""`snndeploy search`: text, JSON, files, figures, mistakes, and ranks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from snndeploy.cli import main
from snndeploy.ir import load
from tests.train.search.searches import timeless, tiny, written

FIGURES = {
    f"{name}.{end}" for name in ("best_so_far", "connections", "matrix", "pareto") for end in ("png", "svg")
}
SHORT = ("--set", "confirm.seeds=[0]", "--set", "confirm.architectures=0", "--set", "evolution.iterations=1")


def configured(folder: Path, *settings: str) -> Path:
    """A file that configures a tiny search."""
    path = folder / "search.toml"
    path.write_text(tiny(*settings).to_toml())
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Result]:
    """A configuration, the run folder of its search, and what was printed."""
    folder = tmp_path_factory.mktemp("search")
    config, out = configured(folder), folder / "run"
    return config, out, CliRunner().invoke(main, ["search", str(config), "--out", str(out)])


def test_text(finished: tuple[Path, Path, Result]) -> None:
    """Space, reliability, what was found beside random search and no connections, and what to do."""
    _, out, shown = finished
    assert shown.exit_code == 0, shown.output
    text, found = shown.stdout, written(out)
    assert text.startswith("space: 15 backward connections over 5 ports, 121 architectures with at most 2\n")
    assert "mode paper, objective accuracy; " in text
    assert "N-score: between batches" in text
    assert "in deploy mode" in text
    lines = text.splitlines()
    for kind, one in (
        ("found*" if found["found"] != ["none"] else "best with BC*", found["finalists"][0]),
        ("random search*", found["random_found"][0]),
        ("no BC", "none"),
    ):
        (line,) = [line for line in lines if line.startswith(kind) and line.split()[len(kind.split())] == one]
        (row,) = [row for row in found["evaluated"] if row["architecture"] == one]
        assert f"{100 * row['accuracy']:.2f} +- " in line
        assert line.split()[-4:-2] == [str(row["interval"]), str(row["machine_steps"])]
    assert "energy, nJ ESTIMATED" in text
    assert "Spearman with the validation accuracy of 3 architectures trained from scratch (seed 0)" in text
    assert f"{100 * len(found['evaluated']) / 121:.3g} % of the space" in text
    assert "more than it is worth, as chance chose, too" in text
    assert f"note: {found['confirmation']['note']}" in text
    assert f"snndeploy train {out}/recommended.toml" in text
    assert "an unconfirmed warm start of" in text
    compared = found["confirmation"]["comparisons"][0]["validation"]
    assert f"  validation: {100 * compared['mean']:+.2f} points, 95 % interval" in text
    assert "seeds: search 1, data 0, confirmation 0, 1" in text
    assert "supernet " in next(line for line in lines if line.startswith("seconds: "))


def test_nothing_better(finished: tuple[Path, Path, Result]) -> None:
    """After an epoch no connection helps, and the answer is to have none."""
    _, out, shown = finished
    compared = written(out)["confirmation"]["comparisons"][0]["validation"]
    assert compared["low"] <= 0
    assert "recommended: no backward connections\n  rule: no backward connections, unless" in shown.stdout


def test_progress(finished: tuple[Path, Path, Result]) -> None:
    """Every stage says on standard error when it is done."""
    lines = finished[2].stderr.splitlines()
    for stage in ("scores", "reliability", "supernet", "evolution", "random search", "confirmation", "test"):
        first = [line for line in lines if line.startswith(f"{stage}: ")][-1].split()[len(stage.split())]
        done, total = first.split("/")
        assert done == total


def test_figures(finished: tuple[Path, Path, Result]) -> None:
    """All four, in both formats, and named."""
    _, out, shown = finished
    assert {path.name for path in out.iterdir()} >= FIGURES
    assert all(name in shown.stdout.splitlines()[-1] for name in FIGURES)


def test_json_of_a_finished_search(finished: tuple[Path, Path, Result], run_json: Callable[..., Any]) -> None:
    """Read, not done again: what search.json holds, with the folder and the figures."""
    config, out, _ = finished
    before = (out / "search.json").stat().st_mtime_ns
    facts = run_json("search", config, "--out", out, "--resume")
    assert facts.pop("run") == str(out)
    assert set(facts["files"]) == FIGURES | {"recommended.toml", "found.toml", "found.snn.safetensors"}
    expected = written(out)
    facts["files"] = expected["files"]
    assert timeless(facts) == expected
    assert (out / "search.json").stat().st_mtime_ns == before


def test_fresh_seeds(
    finished: tuple[Path, Path, Result],
    run: Callable[..., Result],
    run_json: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """Two more pairs of trainings, compared by themselves; the search stays as it is, and nothing is done twice."""
    config, done, _ = finished
    out = Path(shutil.copytree(done, tmp_path / "run"))
    found = run_json("search", config, "--out", out, "--resume", "--confirm-seeds", "7:9")["fresh_seeds"]
    assert found["architecture"] == written(out)["finalists"][0]
    for part in ("validation", "test"):
        ours, alone = (
            [one["accuracy"] for one in found["networks"][name][part]]
            for name in (found["architecture"], "none")
        )
        differences = [a - b for a, b in zip(ours, alone, strict=True)]
        assert found["comparison"][part]["differences"] == pytest.approx(differences, abs=1e-12)
        assert found["comparison"][part]["confidence"] == 0.95
    assert json.loads((out / "confirm" / "seeds7-8.json").read_text()) == found
    for name in ("search.json", "evolution.json", "evaluations.jsonl", "seconds.json"):
        assert (out / name).read_bytes() == (done / name).read_bytes()
    again = run("search", config, "--out", out, "--resume", "--confirm-seeds", "7:9")
    assert again.exit_code == 0
    assert "fresh seeds, " not in again.stderr
    compared = found["comparison"]["validation"]
    assert f"fresh seeds 7 to 8: {found['architecture']} less no BC" in again.stdout
    assert f"  validation: {100 * compared['mean']:+.2f} points, 95 % interval" in again.stdout


def test_what_is_found_trains(
    finished: tuple[Path, Path, Result], run_json: Callable[..., Any], tmp_path: Path
) -> None:
    """The two files are what `train` takes."""
    out = finished[1]
    start = ("--from", out / "found.snn.safetensors", "--set", "optimizer.epochs=1")
    run_json("train", out / "found.toml", "--out", tmp_path / "trained", *start)
    trained = load(tmp_path / "trained" / "trained.snn.safetensors")
    assert trained.graph == load(out / "found.snn.safetensors").graph


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "space.mots=3"), "no key 'mots'"),
        (("--set", "training.network.backward=[[]]"), "training.network.backward"),
        (("--set", "training.data.validation=0.2"), "data.validation"),
        (("--set", "space.forbidden_inputs=[9]"), "space.forbidden_inputs"),
        (("--set", "space.limits.parameters=5", "--set", "objective=limits"), "space.limits.parameters"),
        (("--ablation", "--set", "confirm.seeds=[]"), "confirm.seeds"),
        (("--workers", "0"), "--workers"),
        (("--confirm-seeds", "1:3"), "others than those of the search"),
        (("--confirm-seeds", "9:9"), "--confirm-seeds"),
        (("--confirm-seeds", "ten"), "--confirm-seeds"),
        (("--confirm-seeds", "8:9", "--ablation"), "--ablation"),
        (("--full-budget",), "--ablation"),
    ],
)
def test_mistakes(run: Callable[..., Result], tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    """One line that names what is wrong, exit code 2, and nothing is written."""
    shown = run("search", configured(tmp_path), "--out", tmp_path / "run", *options)
    assert shown.exit_code == 2
    assert message in shown.stderr
    assert "Traceback" not in shown.output
    assert not (tmp_path / "run").exists()


def test_folder_in_use(
    finished: tuple[Path, Path, Result], run: Callable[..., Result], tmp_path: Path
) -> None:
    """A search is resumed or replaced on demand only, and only by the same one resumed."""
    config, done, _ = finished
    out = Path(shutil.copytree(done, tmp_path / "run"))
    again = run("search", config, "--out", out)
    assert (again.exit_code, "--resume" in again.stderr, "--overwrite" in again.stderr) == (2, True, True)
    other = run("search", config, "--out", out, "--resume", "--set", "seed=2")
    assert other.exit_code == 2
    assert "differs in seed" in other.stderr
    assert written(out) == written(done)


def test_ablation(run: Callable[..., Result], run_json: Callable[..., Any], tmp_path: Path) -> None:
    """The table of the paper, with the published figures beside ours."""
    config, out = configured(tmp_path), tmp_path / "run"
    facts = run_json("search", config, "--out", out, "--ablation", *SHORT)
    shown = run("search", config, "--out", out, "--ablation", "--resume", *SHORT)
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    for row, line in zip(facts["rows"], lines[1:], strict=False):
        assert line.split()[0] == row["name"]
        assert line.split()[-2:] == [f"{value:.2f}" for value in row["published"]]
        assert f"{100 * row['validation']:.2f} ({100 * row['validation_gain']:+.2f})" in line
    assert "published: ResNet-18 on CIFAR-100" in lines[-2]


def test_ranks(run: Callable[..., Result], tmp_path: Path) -> None:
    """Under torchrun two ranks score, one does the rest and speaks; the result is that of one process."""
    config = configured(tmp_path, "score.candidates=40", "score.reliability_candidates=0")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = ["-m", "snndeploy", "search", str(config), "--out", str(tmp_path / "two"), "--json", *SHORT]
    result = subprocess.run(
        [*launcher, *command],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert "rank 1 of 2: its share of the scores is done" in result.stderr
    assert json.loads(result.stdout)["scored"] >= 40
    assert run("search", config, "--out", tmp_path / "one", *SHORT).exit_code == 0
    assert written(tmp_path / "one") == written(tmp_path / "two")
