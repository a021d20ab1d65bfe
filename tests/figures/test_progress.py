"""Best accuracy so far."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from snndeploy.errors import ConfigError
from snndeploy.figures import Curve, best_so_far

Drawn = Callable[[Callable[[Path], list[Path]]], Figure]
EVOLUTION = Curve("evolution", [20, 40, 60], [0.7, 0.74, 0.75], [0.01, 0.008, 0.006])
RANDOM = Curve("random search", [20, 40, 60], [0.7, 0.71, 0.71])


def entries(figure: Figure) -> list[str]:
    """What the legend says."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_curves(drawn: Drawn) -> None:
    """In percent, as steps that stay until a better one is found; no BC is a level line."""
    figure = drawn(
        lambda folder: best_so_far([EVOLUTION, RANDOM], folder, accuracy="validation accuracy", baseline=0.68)
    )
    panel = figure.axes[0]
    lines: dict[str, Any] = {str(line.get_label()): line for line in panel.lines}
    assert list(lines) == ["evolution", "random search", "no BC"]
    assert list(lines["evolution"].get_xdata()) == [20, 40, 60]
    assert list(lines["evolution"].get_ydata()) == pytest.approx([70, 74, 75])
    assert lines["evolution"].get_drawstyle() == "steps-post"
    assert list(lines["no BC"].get_ydata()) == pytest.approx([68, 68])
    assert lines["evolution"].get_color() != lines["random search"].get_color()
    assert lines["evolution"].get_linestyle() != lines["random search"].get_linestyle()
    assert entries(figure) == ["evolution", "random search", "no BC", "± standard error"]
    assert panel.get_ylabel() == "best so far [%]\nvalidation accuracy"


def test_band(drawn: Drawn) -> None:
    """One standard error to either side of each point, only where there is one."""
    figure = drawn(lambda folder: best_so_far([EVOLUTION, RANDOM], folder, accuracy="accuracy"))
    corners: list[Any] = [
        path.vertices
        for band in figure.axes[0].collections
        for path in band.get_paths()
        if isinstance(band, PolyCollection) and len(path)
    ]
    assert len(corners) == 1
    y = [round(float(corner[1]), 6) for corner in corners[0]]
    assert set(y) == {69.0, 71.0, 73.2, 74.8, 74.4, 75.6}


def test_neither_band_nor_baseline(drawn: Drawn) -> None:
    """The legend speaks of what there is."""
    figure = drawn(lambda folder: best_so_far([RANDOM], folder, accuracy="accuracy"))
    assert entries(figure) == ["random search"]


def test_long_labels(drawn: Drawn) -> None:
    """They are wrapped, so that none is cut off."""
    curves = [
        Curve(f"search {i}, the mean of five seeds in deploy mode", [1], [0.5], [0.1]) for i in range(9)
    ]
    figure = drawn(lambda folder: best_so_far(curves, folder, accuracy="accuracy", baseline=0.4))
    assert entries(figure)[0] == "search 0, the mean of five seeds\nin deploy mode"


@pytest.mark.parametrize(
    ("curves", "baseline", "message"),
    [
        ([], None, "curves: needs at least one"),
        ([Curve("a", [], [])], None, "curve 'a': needs as many"),
        ([Curve("a", [1, 2], [0.5])], None, "needs as many"),
        ([Curve("a", [1], [0.5], [])], None, "needs as many"),
        ([Curve("a", [2, 2], [0.5, 0.6])], None, "must rise"),
        ([Curve("a", [1], [50.0])], None, "share of 1, got 50.0"),
        ([Curve("a", [1], [0.5], [-0.1])], None, "standard errors must be"),
        ([Curve("a", [1], [0.5], [float("nan")])], None, "standard errors must be"),
        ([RANDOM], 68.0, "baseline: must be a share of 1"),
    ],
)
def test_refused(tmp_path: Path, curves: list[Curve], baseline: float | None, message: str) -> None:
    """The message says what, and nothing is written."""
    with pytest.raises(ConfigError, match=message):
        best_so_far(curves, tmp_path, accuracy="accuracy", baseline=baseline)
    assert list(tmp_path.iterdir()) == []
