"""The rows of table 4, as small searches that share what is the same."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from snndeploy.errors import ConfigError
from snndeploy.train.search.ablation import METHOD, ROWS, ablate, small
from snndeploy.train.search.config import SearchConfig
from tests.train.search.searches import tiny

SETTINGS = ("evolution.iterations=1", "confirm.seeds=[0]", "mode=deploy", "score.reliability_candidates=0")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Counter[str]]:
    """The run folder, the table, and how often each stage was at work."""
    run, told = tmp_path_factory.mktemp("ablation") / "run", Counter[str]()
    found = ablate(tiny(*SETTINGS), run, tell=lambda stage, *_: told.update([stage]))
    return run, found, told


def test_rows_replace_one_part() -> None:
    """Each differs from the method in one thing: scores, fitness, way of search or candidates."""
    whole = ROWS[0].config(tiny("score.candidates=2000", *SETTINGS), 10**6)
    assert (whole.mode, whole.score.scores, whole.score.candidates) == ("paper", "both", 2000)
    assert (whole.evolution.fitness, whole.evolution.method) == ("supernet", "evolution")
    changed = {}
    for row in ROWS[1:]:
        config = row.config(tiny("score.candidates=2000", *SETTINGS), 10**6)
        score, evolution = config.score, config.evolution
        now = (score.scores, score.candidates, evolution.fitness, evolution.method)
        then = ("both", 2000, "supernet", "evolution")
        ((_, changed[row.name]),) = [pair for pair in zip(then, now, strict=True) if pair[0] != pair[1]]
    expected = {"Exp1": "n", "Exp2": "e", "Exp3": "random", "Exp4": "n", "Exp5": "e"}
    assert changed == {**expected, "Exp6": 1000, "Exp7": 500, "Exp8": 0}


def test_small_spaces() -> None:
    """Shares are of what there is: with 120 sets, 120, 60, 30 and no candidates."""
    rows = {row.name: row.config(tiny("score.candidates=2000"), 120).score.candidates for row in ROWS}
    assert [rows[name] for name in (METHOD, "Exp6", "Exp7", "Exp8")] == [120, 60, 30, 0]


def test_small_budget() -> None:
    """Large values are capped, small ones and everything else stay."""
    found = small(SearchConfig())
    assert (found.score.candidates, found.score.reliability_candidates) == (200, 20)
    assert (found.supernet.epochs, found.evolution.iterations, found.confirm.seeds) == (10, 5, (0, 1, 2))
    assert found.evolution.population == SearchConfig().evolution.population
    assert small(tiny()) == tiny()


def test_table(done: tuple[Path, dict[str, Any], Counter[str]]) -> None:
    """Baseline and all rows, each with what it found, its accuracies, and the published ones."""
    run, found, _ = done
    stored = json.loads((run / "ablation.json").read_text())
    assert {key: stored[key] for key in found} == found
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["Baseline", *(row.name for row in ROWS)]
    assert (rows["Baseline"]["found"], rows["Baseline"]["validation_gain"]) == ("none", 0)
    assert [row["published"] for row in found["rows"]][:3] == [[73.38, 74.71], [74.97, 75.72], [74.44, 75.57]]
    assert [row["candidates"] for row in found["rows"]] == [0, 8, 8, 8, 8, 8, 8, 4, 2, 0]
    for row in found["rows"]:
        gain = row["validation"] - rows["Baseline"]["validation"]
        assert row["validation_gain"] == pytest.approx(gain)
        assert re.fullmatch(r"\d:\d(\+\d:\d)?" if row["name"] != "Baseline" else "none", row["found"])
    result = json.loads((run / "ablation" / METHOD / "search.json").read_text())
    assert result["finalists"] == [rows[METHOD]["found"]]


def test_what_is_the_same_is_done_once(done: tuple[Path, dict[str, Any], Counter[str]]) -> None:
    """One supernet, one training of the baseline, and no candidate of the method scored again."""
    run, _, told = done
    assert [path.parent.name for path in run.rglob("supernet")] == ["shared"]
    assert [stage for stage in told if stage.endswith("supernet")] == [f"{METHOD}, supernet"]
    assert [stage for stage in told if stage.endswith(", scores")] == [f"{METHOD}, scores"]
    shared = run / "ablation" / "shared"
    assert len(list(shared.glob("confirm/none/seed*"))) == 1
    lines = [json.loads(line) for line in (shared / "evaluations.jsonl").read_text().splitlines()]
    assert len({line["architecture"] for line in lines}) == len(lines)


def test_read_again(done: tuple[Path, dict[str, Any], Counter[str]]) -> None:
    """A finished ablation is read."""
    run, found, _ = done
    told: list[str] = []
    assert ablate(tiny(*SETTINGS), run, resume=True, tell=lambda stage, *_: told.append(stage)) == found
    assert told == []


def test_what_it_needs(tmp_path: Path) -> None:
    """Seeds to train with, and candidates with both scores."""
    for settings in (["confirm.seeds=[]"], ["score.candidates=0"], ["score.scores=n"]):
        with pytest.raises(ConfigError, match="for an ablation"):
            ablate(tiny(*settings), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
