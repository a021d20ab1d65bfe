"""Figures are drawn as files, always the same bytes."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
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


def test_upper_part(tmp_path: Path) -> None:
    """Curves that fall far get a second panel, others do not."""
    wide, _ = tradeoff([STEEP], tmp_path, accuracy="float32", name="wide")
    narrow, _ = tradeoff([LEVEL], tmp_path, accuracy="float32", name="narrow")
    with Image.open(wide) as one, Image.open(narrow) as other:
        assert one.width > other.width


def test_many_lines(tmp_path: Path) -> None:
    """More than there are colours, markers and dashes."""
    lines = [Line(f"line {i}", f"family {i % 9}", BASE, LEVEL.means, []) for i in range(45)]
    assert len(tradeoff(lines, tmp_path, accuracy="exact")) == 2


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
