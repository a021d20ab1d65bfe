"""Accuracy against estimated energy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from snndeploy.errors import ConfigError
from snndeploy.figures import Point, pareto

Drawn = Callable[[Callable[[Path], list[Path]]], Figure]
POINTS = [
    Point(0.68, 200_000.0, 29),  # no BC
    Point(0.80, 260_000.0, 53),
    Point(0.74, 230_000.0, 41),
    Point(0.73, 270_000.0, 29),  # on the front for its machine steps only
    Point(0.66, 250_000.0, 53),
]
FRONT = [3, 0, 1, 2]


def draw(drawn: Drawn, points: list[Point] = POINTS, front: list[int] = FRONT, **options: Any) -> Figure:
    """Of validation accuracy."""
    return drawn(lambda folder: pareto(points, front, folder, accuracy="validation accuracy", **options))


def lines(figure: Figure) -> dict[str, Line2D]:
    """By label."""
    return {str(line.get_label()): line for line in figure.axes[0].lines}


def places(line: Any) -> list[tuple[float, float]]:
    """Rounded."""
    return [
        (round(float(x), 6), round(float(y), 6))
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


def test_points(drawn: Drawn) -> None:
    """A marker and colour for each number of machine steps; energy in a fitting unit and called an estimate."""
    figure = draw(drawn)
    found = lines(figure)
    assert places(found["29 machine steps"]) == [(200, 68), (270, 73)]
    assert places(found["41 machine steps"]) == [(230, 74)]
    assert places(found["53 machine steps"]) == [(260, 80), (250, 66)]
    looks = {
        (found[f"{n} machine steps"].get_marker(), str(found[f"{n} machine steps"].get_color()))
        for n in (29, 41, 53)
    }
    assert len({marker for marker, _ in looks}) == len({colour for _, colour in looks}) == 3
    assert figure.axes[0].get_xlabel() == "energy per inference [nJ], ESTIMATED (E_SNN)"
    assert figure.axes[0].get_ylabel() == "validation accuracy [%]"


def test_front(drawn: Drawn) -> None:
    """All of it is ringed; the line joins, by energy, what none beats in accuracy and energy."""
    found = lines(draw(drawn))
    assert sorted(places(found["on the Pareto front"])) == [(200, 68), (230, 74), (260, 80), (270, 73)]
    assert places(found["front in this plane"]) == [(200, 68), (230, 74), (260, 80)]


def test_stars(drawn: Drawn) -> None:
    """The one without BC and the found one are marked, also when they are the same."""
    found = lines(draw(drawn, baseline=0, found=1))
    assert places(found["no BC"]) == [(200, 68)]
    assert places(found["found"]) == [(260, 80)]
    same = lines(draw(drawn, baseline=0, found=0))
    assert places(same["no BC"]) == places(same["found"])
    assert same["no BC"].get_markersize() < same["found"].get_markersize()
    assert not {"no BC", "found"} & lines(draw(drawn)).keys()


def test_many_machine_steps(drawn: Drawn) -> None:
    """A scale instead of markers."""
    points = [Point(0.5 + 0.01 * i, 10.0 * i, 20 + i) for i in range(12)]
    figure = draw(drawn, points, [])
    assert not any("machine steps" in label for label in lines(figure))
    assert figure.axes[1].get_ylabel() == "machine steps per inference"
    assert figure.axes[1].get_ylim() == (20, 31)
    assert figure.axes[0].get_xlabel().startswith("energy per inference [pJ]")
    assert len({str(line.get_color()) for line in figure.axes[0].lines}) == 12


@pytest.mark.parametrize(("energy", "unit"), [(0.0, "pJ"), (2e6, "µJ"), (3e9, "mJ")])
def test_units(drawn: Drawn, energy: float, unit: str) -> None:
    """The largest that leaves at least 1."""
    figure = draw(drawn, [Point(0.5, energy, 4)], [0], baseline=0)
    assert f"[{unit}]" in figure.axes[0].get_xlabel()


@pytest.mark.parametrize(
    ("points", "front", "options", "message"),
    [
        ([], [], {}, "points: needs at least one"),
        (POINTS, [5], {}, "must be 0 to 4, got 5"),
        (POINTS, FRONT, {"baseline": -1}, "must be 0 to 4, got -1"),
        (POINTS, FRONT, {"found": 9}, "must be 0 to 4, got 9"),
        ([Point(68.0, 1.0, 4)], [], {}, "share of 1, got 68.0"),
        ([Point(0.68, float("inf"), 4)], [], {}, "energy: must be finite"),
        ([Point(0.68, -1.0, 4)], [], {}, "energy: must be finite"),
    ],
)
def test_refused(
    tmp_path: Path, points: list[Point], front: list[int], options: dict[str, Any], message: str
) -> None:
    """The message says what, and nothing is written."""
    with pytest.raises(ConfigError, match=message):
        pareto(points, front, tmp_path, accuracy="accuracy", **options)
    assert list(tmp_path.iterdir()) == []
