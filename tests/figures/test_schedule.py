"""Populations against machine steps."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.figures import Arrival, Timetable, timetable

Drawn = Callable[[Callable[[Path], list[Path]]], Figure]
LOOP = Timetable(
    rows=(("input", 0), ("a", 1), ("b", 2), ("c", 3), ("output", 4)),
    arrivals=(
        Arrival(0, 1),
        Arrival(1, 2),
        Arrival(2, 3),
        Arrival(1, 3, wait=1),
        Arrival(2, 1, delay=1),
        Arrival(3, 4),
    ),
    steps=4,
    interval=2,
    gap=1,
    title="$x$ & <loop>",
    description="a & b < c",
)


def draw(drawn: Drawn, table: Timetable) -> Figure:
    """Both files; the figure is that of the SVG."""
    return drawn(lambda folder: [timetable(table, folder / f"s.{form}") for form in ("png", "svg")])


def boxes(figure: Figure) -> dict[str, int]:
    """Number of boxes by label."""
    found = [c for c in figure.axes[0].collections if isinstance(c, PatchCollection)]
    return {str(c.get_label()): len(c.get_paths()) for c in found}


def test_marks(drawn: Drawn) -> None:
    """A box for every update of two samples and every blank step, an arrow for every delayed arrival, a wait."""
    figure = draw(drawn, LOOP)
    panel = figure.axes[0]
    updates = {f"sample {s}, logical step {t}": 5 for s in (0, 1) for t in range(4)}
    assert boxes(figure) == updates | {"blank step 0": 5}
    arrows = [p for p in panel.patches if isinstance(p, FancyArrowPatch)]
    assert [p.get_label() for p in arrows] == 3 * ["2→1, delay 1"]
    (wait,) = [p for p in panel.patches if isinstance(p, Rectangle)]
    assert (wait.get_x(), wait.get_width()) == (1.5, 1)
    assert 2.5 < wait.get_y() < 3.5
    assert [label.get_text() for label in panel.get_yticklabels()] == [name for name, _ in LOOP.rows]
    assert panel.get_ylim() == (4.5, -0.5)
    assert panel.get_xlim() == (-0.5, LOOP.length - 0.5)
    assert LOOP.length == (4 + 1) * 2 + 3 * 2 + 4 + 1
    numbers = [text.get_text() for text in panel.texts]
    assert numbers == [str(t) for _ in (0, 1) for t in range(4) for _ in range(5)]


def test_boxes_stand_where_populations_update(drawn: Drawn) -> None:
    """Logical step t of sample s of population n at start + (t + s (T + gap)) II, in colours of its own."""
    figure = draw(drawn, LOOP)
    shades = set()
    for c in figure.axes[0].collections:
        if not isinstance(c, PatchCollection) or not (label := str(c.get_label())).startswith("sample"):
            continue
        sample, step = (int(n) for n in re.findall(r"[0-9]+", label))
        shades.add((sample, step, str(np.asarray(c.get_facecolor()))))
        for row, path in enumerate(c.get_paths()):
            middle = path.get_extents().x0 + path.get_extents().width / 2
            assert middle == pytest.approx(LOOP.rows[row][1] + (step + sample * 5) * 2)
    assert len({colour for _, _, colour in shades}) == len(shades) == 8


def test_arrows_lead_from_update_to_update(drawn: Drawn) -> None:
    """From the step in which spikes leave to the one that takes them, a logical step later."""
    panel = draw(drawn, LOOP).axes[0]
    ends = [
        (a._posA_posB[0], a._posA_posB[1])  # type: ignore[attr-defined]  # no public way to them
        for a in panel.patches
        if isinstance(a, FancyArrowPatch)
    ]
    assert ends == [((2 + 2 * t + 0.46, 2), (1 + 2 * (t + 1) - 0.46, 1)) for t in range(3)]


def test_words(drawn: Drawn, tmp_path: Path) -> None:
    """The SVG has title and description, escaped; nothing is read as mathematics."""
    figure = draw(drawn, LOOP)
    assert figure.get_suptitle() == LOOP.title
    text = (tmp_path / "s.svg").read_text()
    assert "<title>$x$ &amp; &lt;loop&gt;</title>\n <desc>a &amp; b &lt; c</desc>" in text


def test_names_are_shown_as_they_are(drawn: Drawn) -> None:
    """Whatever is in them."""
    table = Timetable((("$a_1$ <&>", 0), ("b" * 60, 1)), (), 1, 1, 0)
    assert [t.get_text() for t in draw(drawn, table).axes[0].get_yticklabels()] == ["$a_1$ <&>", "b" * 60]


def test_same_bytes(tmp_path: Path) -> None:
    """The same table gives the same file."""
    first, second = (timetable(LOOP, tmp_path / f"{n}.svg").read_bytes() for n in "ab")
    assert first == second


def test_long_schedules_are_cut_off(drawn: Drawn) -> None:
    """What lies beyond is not drawn, and the axis says so; boxes get narrow and lose their numbers."""
    rows = tuple((f"l{i}", i) for i in range(20))
    table = Timetable(rows, (Arrival(19, 0, delay=1),), steps=16, interval=20, gap=1)
    figure = draw(drawn, table)
    panel = figure.axes[0]
    assert panel.get_xlabel() == f"machine step (the first 240 of {table.length})"
    assert panel.get_xlim() == (-0.5, 239.5)
    assert sum(boxes(figure).values()) == 12 * 20
    assert len(panel.texts) == 0
    assert len([p for p in panel.patches if isinstance(p, FancyArrowPatch)]) == 11
    assert figure.get_size_inches()[0] < 17


def test_steps_beyond_the_drawing_cost_nothing(drawn: Drawn) -> None:
    """Of a very long sample only the logical steps that can be seen have marks, blank steps included."""
    figure = draw(drawn, Timetable((("a", 0), ("b", 1)), (Arrival(1, 0, delay=2),), 10_000, 2, 10_000))
    assert len(boxes(figure)) == 2 * 120
    assert sum(boxes(figure).values()) == 240


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 20), st.integers(1, 6), st.integers(1, 9), st.integers(0, 3))
def test_anything_fits(
    tmp_path_factory: pytest.TempPathFactory, rows: int, steps: int, interval: int, gap: int
) -> None:
    """Of any size; the number of boxes is that of the updates."""
    table = Timetable(tuple((f"l{i}", i) for i in range(rows)), (), steps, interval, gap)
    path = timetable(table, tmp_path_factory.mktemp("s") / "s.svg")
    assert path.read_text().count("</svg>") == 1


@pytest.mark.parametrize(
    ("table", "name", "message"),
    [
        (Timetable((), (), 1, 1, 0), "s.svg", "populations: needs at least one"),
        (Timetable((("a", 0),), (Arrival(0, 1),), 1, 1, 0), "s.svg", "synapse 0 -> 1: populations are"),
        (LOOP, "s.pdf", "must end in .svg or .png"),
        (LOOP, "s", "must end in .svg or .png"),
    ],
)
def test_refused(tmp_path: Path, table: Timetable, name: str, message: str) -> None:
    """The message says what, and nothing is written."""
    with pytest.raises(ConfigError, match=message):
        timetable(table, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(FileFormatError, match=r"s\.svg"):
        timetable(LOOP, tmp_path / "none" / "s.svg")
