"""What `--sweep` takes: values, labels that are safe as names of folders, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from snndeploy.cli.axes import label_of, read_axes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sweep", "penalty.strength=1,2"], ["strength", "intensity"]),
        (["--sweep", "penalty.power"], ["penalty.power", "section.key=value,value"]),
        (["--sweep", "=1,2"], ["section.key=value,value"]),
        (["--sweep", "penalty..power=1,2"], ["section.key=value,value"]),
        (["--sweep", "penalty.power=[]"], ["penalty.power", "at least one value"]),
        (["--sweep", "penalty.power="], ["penalty.power", "at least one value"]),
        (["--sweep", "penalty.name=syn,,total"], ["penalty.name", "empty value"]),
        (["--sweep", "penalty.power=1,3"], ["penalty.power", "must be 1 or 2"]),
        (
            ["--sweep", "penalty.intensity=1,2", "--sweep", " penalty . intensity=4"],
            ["is given by another --sweep, too"],
        ),
        (["--sweep", "seed=1,2", "--set", "seed=1"], ["is given by --set, too"]),
        (["--sweep", "penalty.intensity=1,1.0"], ["penalty.intensity=1", "name each value once"]),
        (["--sweep", "penalty.power=1,2", "--sweep", "seed=1,1"], ["name each value once"]),
        (["--sweep", "start=a,b", "--from", "c"], ["start=c", "no other option"]),
        (
            ["--sweep", "deterministic=true,false", "--deterministic"],
            ["deterministic=true", "no other option"],
        ),
        (["--sweep", "seed=1,2", "--seeds", "2"], ["seed", "--seeds"]),
        (["--sweep", "penalty=1,2"], ["penalty", "table"]),
        (["--sweep", "penalty=[{power=1},{power=2}]"], ["penalty"]),
        (["--sweep", "penalty.power.first=1,2"], ["penalty.power"]),
        (["--sweep", f"penalty.power={'9' * 100_000},1"], ["penalty.power", "cannot be read"]),
        (["--sweep", f"penalty.power={'[' * 100_000}"], ["penalty.power", "cannot be read"]),
        (["--sweep", "network.backward=['4:2']"], ["network.backward", "list"]),
        (["--sweep", "penalty.intensity=0.0,-0.0"], ["penalty.intensity=0", "name each value once"]),
        (["--sweep", "penalty.intensity=1#2"], ["penalty.intensity", "comment", "1#2"]),
        (["--sweep", "penalty.intensity=[1, 2] # both"], ["penalty.intensity", "comment"]),
        (["--sweep", "penalty.power=1,2 # it's"], ["penalty.power", "comment"]),
        (["--seeds", "300000"], ["at most 10000 runs", "300000"]),
        (["--seeds", "101", "--sweep", "penalty.intensity=" + ",".join(map(str, range(100)))], ["got 10100"]),
        (["--workers", "2"], ["--workers", "--sweep or --seeds"]),
        (["--seeds", "2", "--workers", "0"], ["--workers"]),
    ],
)
def test_wrong_sweep(
    run: Callable[..., Result], tmp_path: Path, options: list[str], words: list[str]
) -> None:
    """Exit code 2 before anything is trained or written."""
    config = tmp_path / "config.toml"
    config.write_text("")
    result = run("train", config, "--out", tmp_path / "run", *options)
    assert result.exit_code == 2, result.output
    assert all(word in result.output for word in words), result.output
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


@pytest.mark.parametrize(
    ("option", "settings"),
    [
        ("a.b=1,2.5,true", ["a.b=1", "a.b=2.5", "a.b=true"]),
        ("a.b=[1, 2]", ["a.b=1", "a.b=2"]),
        ("a=x,y", ['a="x"', 'a="y"']),
        ("a=1,y", ["a=1", 'a="y"']),
        ('a=["x,y","z"]', ['a="x,y"', 'a="z"']),
        ('a=[["4:2"],["5:2"],[]]', ['a=["4:2"]', 'a=["5:2"]', "a=[]"]),
        ('a=["4:2"],["5:2","3:1"]', ['a=["4:2"]', 'a=["5:2", "3:1"]']),
        (" a . b = 1 , x ", ["a.b=1", 'a.b="x"']),
        ("a='1','2'", ['a="1"', 'a="2"']),
        ("a='x#y',\"#'\"", ['a="x#y"', 'a="#\'"']),
        ("a=x#y,#z", ['a="x#y"', 'a="#z"']),
    ],
)
def test_values(option: str, settings: list[str]) -> None:
    """Values are read as those of --set; one that holds commas stands in an array."""
    (axis,) = read_axes([option], [])
    assert list(axis.settings) == settings


def test_labels() -> None:
    """They can be read, the order of the keys is always the same, and long ones are shortened apart."""
    config = {"a": {"x": 1.0, "y": "up/down, or ~so~"}, "b": ["4:2", "5:2"], "c": [], "d": True, "e": 1e-6}
    assert label_of(config, ["d", "a.x", "e", "c", "b"]) == "a.x=1,b=4:2+5:2,c=[],d=true,e=1e-06"
    assert label_of(config, ["a.y"]) == "a.y=up%2Fdown%2C%20or%20%7Eso%7E"
    first, second = (label_of({"a": "x" * 300 + last}, ["a"]) for last in "yz")
    assert len(first) == len(second) == 200
    assert first != second


texts = st.text(max_size=80)
numbers = st.one_of(st.just(-0.0), st.just(0.0), st.floats(0, allow_infinity=False))
values = st.one_of(
    st.tuples(texts, texts),
    st.tuples(st.lists(st.text(min_size=1), max_size=3), st.lists(st.text(min_size=1), max_size=3)),
    st.tuples(numbers, numbers),
    st.tuples(st.lists(st.integers(), max_size=3), st.lists(st.integers(), max_size=3)),
)


@given(values, texts)
def test_labels_are_names_of_their_own(pair: tuple[Any, Any], other: str) -> None:
    """Two values never share a folder, and each label is one folder's name."""
    first, second = (label_of({"a": value, "b": other}, ["a", "b"]) for value in pair)
    assert (first == second) == (pair[0] == pair[1])
    for label in (first, second):
        assert len(os.fsencode(label)) <= 200
        assert Path(label).name == label
        assert label.isprintable()
        assert " " not in label
