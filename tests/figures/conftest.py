"""Figures as objects, before they become files."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

Drawing = Callable[[Path], list[Path]]
Drawn = Callable[[Drawing], Figure]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Drawn:
    """Draws files and gives the figure itself; matplotlib does not warn, and nothing is cut off."""
    figures: list[Figure] = []
    savefig = Figure.savefig

    def noted(figure: Figure, path: Path, **options: Any) -> None:
        figures.append(figure)
        savefig(figure, path, **options)

    def draw(drawing: Drawing) -> Figure:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            files = drawing(tmp_path)
        assert [path.suffix for path in files] == [".png", ".svg"]
        assert set(tmp_path.iterdir()) >= set(files)
        figure = figures[-1]
        needed, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        margins = (needed.x0, needed.y0, width - needed.x1, height - needed.y1)
        assert min(margins) > -0.01, f"cut off: {margins} inches left, below, right, above"
        return figure

    monkeypatch.setattr(Figure, "savefig", noted)
    return draw
