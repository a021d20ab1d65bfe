"""Figures are drawn as files, always the same bytes."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from snndeploy.errors import FileFormatError
from snndeploy.figures import Line, tradeoff

BASE = (1.0, 0.9)
STEEP = Line("syn p=1", "syn", BASE, [BASE, (0.5, 0.89), (0.1, 0.4)], [(0.51, 0.9), (0.49, 0.88)])
LEVEL = Line("total p=1", "total", BASE, [BASE, (0.5, 0.85)], [(0.5, 0.85)])


def test_files(tmp_path: Path) -> None:
    """A PNG of a useful size, and an SVG that says nothing of when it was drawn."""
    png, svg = tradeoff([STEEP, LEVEL], tmp_path, accuracy="float32")
    assert sorted(tmp_path.iterdir()) == [png, svg]
    with Image.open(png) as image:
        assert image.format == "PNG"
        assert min(image.size) > 600
    text = svg.read_text()
    assert text.startswith("<?xml")
    assert "date" not in text


def colours(svg: Path) -> set[str]:
    """What an SVG's lines are drawn with."""
    return set(re.findall(r"stroke: (#[0-9a-f]{6})", svg.read_text()))


def test_families_share_a_colour(tmp_path: Path) -> None:
    """Two lines of one family have one colour, two families have two."""
    blue, red = "#0072b2", "#d55e00"
    _, svg = tradeoff([STEEP, LEVEL], tmp_path, accuracy="float32")
    assert {blue, red} <= colours(svg)
    other = Line("syn p=2", "syn", BASE, LEVEL.means, LEVEL.runs)
    _, svg = tradeoff([STEEP, other], tmp_path, accuracy="float32")
    assert blue in colours(svg)
    assert red not in colours(svg)
    assert "stroke-dasharray" in svg.read_text()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[list[Line]], Figure]:
    """Draws lines and gives the figure itself; matplotlib may not warn."""
    figures: list[Figure] = []
    savefig = Figure.savefig

    def noted(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        savefig(figure, *arguments, **options)

    def draw(lines: list[Line]) -> Figure:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tradeoff(lines, tmp_path, accuracy="float32")
            figures[-1].draw_without_rendering()  # at its own resolution, which saving changes
        return figures[-1]

    monkeypatch.setattr(Figure, "savefig", noted)
    return draw


def test_upper_part(drawn: Callable[[list[Line]], Figure]) -> None:
    """Curves that fall far get a second panel, from 10 points below the best on; others do not."""
    whole, upper = drawn([STEEP, LEVEL]).axes
    assert [panel.get_title("left") for panel in (whole, upper)] == ["all runs", "upper part"]
    assert whole.get_ylim()[0] < 40
    assert upper.get_ylim() == pytest.approx((79.4, 90.6))
    assert upper.get_xlim() == pytest.approx((0, 105))
    (only,) = drawn([LEVEL]).axes
    assert only.get_title("left") == ""


def test_the_upper_part_is_as_wide_as_what_is_in_it(drawn: Callable[[list[Line]], Figure]) -> None:
    """Not as what lies below."""
    far = Line("far", "far", BASE, [BASE, (1.2, 0.88), (1.9, 0.3)], [(1.9, 0.3)])
    whole, upper = drawn([far]).axes
    assert upper.get_xlim() == pytest.approx((0, 126))
    assert whole.get_xlim()[1] > 190


@pytest.mark.parametrize("ratio", [500.0, 1e42])
def test_a_run_far_beyond(drawn: Callable[[list[Line]], Figure], ratio: float) -> None:
    """It does not press the others together, and what is left out is said."""
    means = [BASE, (0.5, 0.89), (ratio / 3, 0.4)]
    line = Line("syn", "syn", BASE, means, [(0.5, 0.88), (0.4, 0.88), (0.1, 0.7), (ratio, 0.2)])
    for panel in drawn([line, LEVEL]).axes:
        assert panel.get_xlim() == pytest.approx((0, 105))
    whole = drawn([line, LEVEL]).axes[0]
    assert whole.get_title("right") == f"beyond: 1, at up to {ratio:g} times"
    assert drawn([STEEP, LEVEL]).axes[0].get_title("right") == ""


def test_a_line_far_beyond(drawn: Callable[[list[Line]], Figure]) -> None:
    """As a whole it is not left out."""
    far = Line("converted T=10", "converted", BASE, [(15.0, 0.9), (12.0, 0.88)], [])
    (panel,) = drawn([far, LEVEL]).axes
    assert panel.get_xlim()[1] > 1500
    assert panel.get_title("right") == ""


def test_many_lines(drawn: Callable[[list[Line]], Figure]) -> None:
    """As long as there are enough colours, markers and dashes no two lines look alike; beyond, all are drawn."""
    lines = [Line(f"line {i}", f"family {i % 7}", BASE, LEVEL.means, []) for i in range(28)]
    shown = looks(drawn(lines))
    assert len(shown) == len(set(shown)) == 28
    assert len({colour for colour, _, _ in shown}) == 7
    more = [Line(f"line {i}", f"family {i % 9}", BASE, LEVEL.means, []) for i in range(45)]
    assert len(looks(drawn(more))) == 45


def looks(figure: Figure) -> list[tuple[object, object, object]]:
    """Colour, marker and dash of each line of a figure."""
    panel = figure.axes[0]
    lines = [line for line in panel.lines if str(line.get_label()).startswith("line ")]
    return [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines]


@pytest.mark.parametrize("means", [STEEP.means, LEVEL.means], ids=["two panels", "one panel"])
def test_long_labels(drawn: Callable[[list[Line]], Figure], means: list[tuple[float, float]]) -> None:
    """They are wrapped into a legend above, for which the figure grows: the panels stay as large."""
    long = "network.backward=4:2+5:2+6:4+6:5 optimizer.lr=0.02 optimizer.weight_decay=0.0001"
    lines = [Line(f"converted T={i} {long} {'x' * 300}", "converted", BASE, means, []) for i in range(12)]
    short = drawn([Line("syn p=1", "syn", BASE, means, [])])
    figure = drawn(lines)
    heights = [one.axes[0].get_window_extent().height / one.dpi for one in (short, figure)]
    assert heights[1] == pytest.approx(heights[0], rel=0.25)
    (legend,) = figure.legends
    inside, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= inside.x0 < inside.x1 <= whole.x1
    assert inside.y1 <= whole.y1
    assert inside.y0 > figure.axes[0].get_window_extent().y1
    assert len(legend.get_texts()) == 14


def test_same_bytes(tmp_path: Path) -> None:
    """Also in another process with the user's own settings, which are left as they were."""
    program = (
        "import sys; from pathlib import Path; import matplotlib as mpl; mpl.rcParams['lines.linewidth'] = 9; "
        "mpl.rcParams['axes.grid'] = True; "
        "settings = lambda: [(k, mpl.rcParams[k]) for k in mpl.rcParams if k != 'backend']; before = settings(); "
        "from tests.test_figures import LEVEL, STEEP, tradeoff; "
        "tradeoff([STEEP, LEVEL], Path(sys.argv[1]), accuracy='float32'); "
        "assert settings() == before; assert 'matplotlib.pyplot' not in sys.modules"
    )
    (tmp_path / "again").mkdir()
    subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path / "again")],
        cwd=Path(__file__).parent.parent,
        check=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = tradeoff([STEEP, LEVEL], tmp_path, accuracy="float32")
    for path in files:
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """The message names it, and nothing half-drawn is left."""
    (tmp_path / "tradeoff.svg").mkdir()
    with pytest.raises(FileFormatError, match=r"tradeoff\.svg: cannot be written"):
        tradeoff([LEVEL], tmp_path, accuracy="float32")
    assert {path.name for path in tmp_path.iterdir()} == {"tradeoff.png", "tradeoff.svg"}
