"""The run folder of a search: what is read back is checked, and what is replaced is gone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from snndeploy.errors import FileFormatError
from snndeploy.train.distributed import World
from snndeploy.train.search import folder
from snndeploy.train.search.evaluations import Evaluations
from snndeploy.train.search.folder import append_lines, open_run, read_lines, read_object, seconds, timed
from snndeploy.train.search.records import record
from snndeploy.train.search.search import Search
from snndeploy.train.search.space import Space, parse
from tests.train.search.searches import tiny


@dataclass(frozen=True)
class Mixed:
    """One field of each kind."""

    count: int
    value: float
    maybe: float | None
    flag: bool
    name: str
    rates: Mapping[str, float]


GOOD = {"count": 3, "value": 2, "maybe": None, "flag": True, "name": "x", "rates": {"lif": 0.5}}


def test_a_record_is_read_back() -> None:
    """What a dataclass was written as is that dataclass again; a whole number is a number, too."""
    assert record(Mixed, json.loads(json.dumps(GOOD)), "here") == Mixed(3, 2, None, True, "x", {"lif": 0.5})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 3.0}, "count must be a whole number, got 3.0"),
        ({"count": True}, "count must be a whole number, got True"),
        ({"value": "2"}, "value must be a finite number, got '2'"),
        ({"value": None}, "value must be a finite number, got None"),
        ({"value": float("inf")}, "value must be a finite number, got inf"),
        ({"value": 10**400}, "value must be a finite number, got 1000"),
        ({"maybe": []}, r"maybe must be a finite number or null, got \[\]"),
        ({"flag": 1}, "flag must be true or false, got 1"),
        ({"name": 1}, "name must be a text, got 1"),
        ({"rates": {"lif": "x"}}, "rates must be finite numbers by name"),
        ({"rates": [1]}, "rates must be finite numbers by name"),
        ({"more": 1}, "must hold count, value, maybe, flag, name, rates"),
    ],
)
def test_a_wrong_value_is_named(change: Mapping[str, object], message: str) -> None:
    """The field, what it must be, and what it is."""
    with pytest.raises(FileFormatError, match=rf"^here: {message}"):
        record(Mixed, {**GOOD, **change}, "here")


@pytest.mark.parametrize("value", [[], {}, 3, None, "x"])
def test_something_else_than_a_record(value: object) -> None:
    """Whatever JSON can hold."""
    with pytest.raises(FileFormatError, match=r"^here: must hold count"):
        record(Mixed, value, "here")


@pytest.mark.parametrize("text", ["[1]", "3", '{"scores": "y"}', '{"scores": NaN}', "{"])
def test_damaged_seconds(tmp_path: Path, text: str) -> None:
    """They name their file, and are not written over."""
    path = tmp_path / folder.SECONDS
    path.write_text(text)
    with pytest.raises(FileFormatError, match=folder.SECONDS), timed(tmp_path, "scores"):
        pass
    assert path.read_text() == text


def test_seconds_add_up(tmp_path: Path) -> None:
    """Over several times that a stage was worked on."""
    (tmp_path / folder.SECONDS).write_text('{"scores": 1000, "supernet": 5}')
    with timed(tmp_path, "scores"):
        pass
    found = seconds(tmp_path)
    assert found["supernet"] == 5
    assert 1000 <= found["scores"] < 1100


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}", '{"found": []}', "["])
def test_damaged_objects(tmp_path: Path, text: str) -> None:
    """A result that is none is an error, not a search without a result."""
    path = tmp_path / folder.SEARCH
    assert read_object(path, "found", "config") is None
    path.write_text(text)
    with pytest.raises(FileFormatError, match=folder.SEARCH):
        read_object(path, "found", "config")
    path.write_text('{"found": 1, "config": 2}')
    assert read_object(path, "found", "config") == {"found": 1, "config": 2}


def test_lines(tmp_path: Path) -> None:
    """They are added and read back; of what a killed process left, the unfinished line is dropped."""
    path = tmp_path / "lines"
    assert read_lines(path) == []
    append_lines(path, [{"a": 1}, {"b": None}])
    append_lines(path, [])
    with path.open("a") as file:
        file.write('{"c": ')
    assert read_lines(path) == [{"a": 1}, {"b": None}]
    assert path.read_text().count("\n") == 2
    with pytest.raises(FileFormatError, match="cannot be written"):
        append_lines(tmp_path / "none" / "lines", [{"a": 1}])


def test_the_page_names_all_files() -> None:
    """What a search leaves is explained to its users."""
    page = (Path(__file__).parents[3] / "docs" / "search.md").read_text()
    names = [folder.CONFIG, folder.CANDIDATES, folder.RELIABILITY, folder.POPULATION, folder.SCORES]
    names += [folder.EVALUATIONS, folder.EVOLUTION, folder.RANDOM, folder.FOUND, folder.FOUND_NETWORK]
    names += [folder.RECOMMENDED, folder.SECONDS, folder.SEARCH]
    names += [
        f"{folder.CONFIRM}/",
        f"{folder.SUPERNET}/",
        *{name.partition(".")[0] for name in folder.FIGURES},
    ]
    assert [name for name in names if f"`{name}`" not in page] == []


def evaluations(run: Path, *settings: str) -> Evaluations:
    """In a folder, for a tiny search."""
    config = tiny(*settings)
    space: Space = Search(config, run, run, 1, World(), lambda *_: None).space
    return Evaluations(config, space, run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": 3}, "must name an architecture, got 3"),
        ({"architecture": "4:2:"}, "must name an architecture, got '4:2:'"),
        ({"accuracy": "x"}, "accuracy must be a finite number, got 'x'"),
        ({"firing_rates": {"lif": None}}, "firing_rates must be finite numbers by name"),
        ({"more": 1}, "must hold accuracy"),
    ],
)
def test_damaged_evaluations(tmp_path: Path, change: Mapping[str, object], message: str) -> None:
    """The line is named, and what is wrong in it."""
    good = {
        "architecture": "4:2",
        "accuracy": 0.5,
        "standard_error": 0.1,
        "firing_rates": {"lif": 0.1},
        "spikes": {"lif": 3.0},
        "synops": 4.0,
        "estimated_energy_pj": 5.0,
    }
    path = tmp_path / folder.EVALUATIONS
    append_lines(path, [good, {**good, "architecture": "none"}])
    known = evaluations(tmp_path).known
    assert {one: found.accuracy for one, found in known.items()} == {parse("4:2"): 0.5, (): 0.5}
    assert asdict(known[()]) == {key: value for key, value in good.items() if key != "architecture"}
    append_lines(path, [{**good, **change}])
    with pytest.raises(FileFormatError, match=rf"{folder.EVALUATIONS}, line 3: {message}"):
        _ = evaluations(tmp_path).known


def test_progress_counts_what_is_known(tmp_path: Path) -> None:
    """With a score for fitness, too: what was known before, then everything."""
    asked = [parse(text) for text in ("none", "4:2", "3:3", "4:2")]
    some = evaluations(tmp_path, "evolution.fitness=n", "score.scores=n", "score.reliability_candidates=0")
    told: list[int] = []
    some(asked[:1], told.append)
    some(asked, told.append)
    assert told == [1, 3]


def test_nothing_of_a_replaced_search_is_left(tmp_path: Path) -> None:
    """Figures and recommendations of the old one would be taken for those of the new one."""
    open_run(tiny(), tmp_path)
    names = ["matrix.svg", "matrix.png", "connections.svg", "pareto.png", "best_so_far.svg"]
    names += ["scores.jsonl", "search.json", "recommended.toml", "found.toml", "seconds.json"]
    for name in (*names, "mine.txt"):
        (tmp_path / name).touch()
    (tmp_path / "confirm" / "4-2").mkdir(parents=True)
    open_run(tiny("seed=2"), tmp_path, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"config.toml", "mine.txt"}
