"""Files of a finished search that were damaged or edited: an error that names the file, or the same result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from snndeploy.errors import FileFormatError
from snndeploy.train.search.confirm import Trial
from snndeploy.train.search.folder import SEAL
from tests.train.search.searches import tiny, whole, written

SETTINGS = ("confirm.seeds=[0]", "confirm.architectures=0", "evolution.iterations=2")
TRAINED = str(Trial((), 0).folder(Path()) / "validation.json")
# A file, and what to look for in it: a value to be replaced.
VALUES: Mapping[str, tuple[str | int, ...]] = {
    "search.json": ("evaluated", 0, "accuracy"),
    "candidates.json": ("architectures", 0),
    "population.json": ("architectures", 1),
    "reliability.json": ("n", "between_batches", "value"),
    "evolution.json": ("judged", 0, "accuracy"),
    "random.json": ("iterations",),
    TRAINED: ("accuracy",),
}
LINES = {"scores.jsonl": "n", "evaluations.jsonl": "estimated_energy_pj"}
WRONG: tuple[Any, ...] = (None, True, "x", [], {"a": 1}, -1, 1e300, 10**400, float("nan"), float("inf"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that nothing happened to."""
    run = tmp_path_factory.mktemp("search") / "run"
    whole(tiny(*SETTINGS), run)
    return run


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """Its folder, to be damaged; what its search.json says is worked out again from the rest."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def changed(value: Any, place: tuple[str | int, ...], *to: Any) -> str:
    """A value as JSON, with what lies at a place in it replaced, or left out."""
    at = value
    for key in place[:-1]:
        at = at[key]
    if to:
        (at[place[-1]],) = to
    else:
        del at[place[-1]]
    return json.dumps(value)


def refused(run: Path, name: str, text: str) -> None:
    """Asserts that a file with this text is named, with what to do."""
    (run / name).write_text(text)
    with pytest.raises(FileFormatError, match=rf"{name}.*; delete it and resume again") as found:
        whole(tiny(*SETTINGS), run)
    assert found.value.where.startswith(str(run / name))


@pytest.mark.parametrize("name", VALUES)
def test_damaged_values(copy: Path, finished: Path, name: str) -> None:
    """Half a file, other values and missing ones are never taken for results; deleted, the file comes again."""
    if name != "search.json":
        (copy / "search.json").unlink()
    whole_text, place = (copy / name).read_text(), VALUES[name]

    def value() -> Any:
        return json.loads(whole_text)

    for text in ("", "[", "[3]", "3", whole_text[: len(whole_text) // 2]):
        refused(copy, name, text)
    for wrong in WRONG:
        refused(copy, name, changed(value(), place, wrong))
    refused(copy, name, changed(value(), place))
    (copy / name).write_text(changed(value(), (SEAL,)))
    assert whole(tiny(*SETTINGS), copy) == written(finished)  # as of an earlier version
    (copy / name).unlink()
    assert whole(tiny(*SETTINGS), copy) == written(finished)


@pytest.mark.parametrize("name", LINES)
def test_damaged_lines(copy: Path, finished: Path, name: str) -> None:
    """The line is named; without it, what it said is worked out again."""
    (copy / "search.json").unlink()
    lines = (copy / name).read_text().splitlines()

    def replaced(text: str) -> str:
        return "\n".join([*lines[:2], text, *lines[3:]]) + "\n"

    for wrong in (*WRONG, 0.25):
        refused(copy, name, replaced(changed(json.loads(lines[2]), (LINES[name],), wrong)))
    for text in ("[]", "{}", "", lines[2][:-9]):
        refused(copy, name, replaced(text))
    (copy / name).write_text("\n".join([*lines[:2], *lines[3:], lines[2][:-9]]))
    assert whole(tiny(*SETTINGS), copy) == written(finished)
    for gone in ("search.json", name):
        (copy / gone).unlink()
    assert whole(tiny(*SETTINGS), copy) == written(finished)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("candidates.json", ["4:4", "9:0"], "lists what is not in the space, got 9:0"),
        ("candidates.json", ["4:4", "4:4"], "must list different architectures"),
        ("population.json", ["none"], "lists what is not in the space, got none"),
        ("population.json", ["4"], "must list architectures"),
        ("population.json", [], "must list architectures"),
        ("evolution.json", {"iterations": float("inf")}, "is damaged"),
        ("evolution.json", {"rng_state": {"state": {"state": 10**60}}}, "is damaged"),
        ("random.json", {"upcoming": ["9:9"]}, "is of another space, got 9:9"),
        ("reliability.json", {"n": {"between_batches": 0.5}}, "n: must hold between_batches, "),
    ],
)
def test_without_a_checksum(copy: Path, name: str, change: Any, message: str) -> None:
    """As earlier versions left them: what cannot be is found out all the same."""
    (copy / "search.json").unlink()
    value = json.loads((copy / name).read_text())
    del value[SEAL]
    changed_value = change if isinstance(change, list) else {**value, **change}
    (copy / name).write_text(json.dumps(changed_value))
    with pytest.raises(FileFormatError, match=rf"{name}.*{message}.*; delete it and resume again"):
        whole(tiny(*SETTINGS), copy)


def test_lists_of_earlier_versions(copy: Path, finished: Path) -> None:
    """Architectures without anything around them are read."""
    (copy / "search.json").unlink()
    for name in ("candidates.json", "population.json"):
        value = json.loads((copy / name).read_text())
        (copy / name).write_text(json.dumps(value["architectures"]))
    assert whole(tiny(*SETTINGS), copy) == written(finished)
