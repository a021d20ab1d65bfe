"""The same numbers always give the same files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from snndeploy.figures import Curve, Evaluated, Point, best_so_far, connections, matrix, pareto


def draw_all(folder: Path) -> list[Path]:
    """One of each."""
    points = [Point(0.6, 1e5, 20), Point(0.7, 2e5, 25), Point(0.5, 3e5, 20)]
    places = [Evaluated(((2, 0), (1, 1)), 0.7), Evaluated(((2, 2),), 0.5)]
    return [
        *matrix(places, ["a", "b", "c"], folder, baseline=0.6, accuracy="accuracy", found={(2, 0), (1, 1)}),
        *best_so_far(
            [Curve("one", [1, 2], [0.5, 0.6], [0.1, 0.1])], folder, accuracy="accuracy", baseline=0.4
        ),
        *pareto(points, [0, 1], folder, accuracy="accuracy", baseline=0, found=1),
        *connections([("a", (4, 2, 2)), ("b", (4, 2, 2)), ("c", (9,))], [(2, 0, 1), (1, 1, 2)], folder),
    ]


def test_same_bytes(tmp_path: Path) -> None:
    """Also in another process, with the user's own settings, which are left as they were."""
    program = (
        "import sys; from pathlib import Path; import matplotlib as mpl; mpl.rcParams['lines.linewidth'] = 9; "
        "mpl.rcParams['figure.dpi'] = 50; "
        "settings = lambda: [(k, mpl.rcParams[k]) for k in mpl.rcParams if k != 'backend']; before = settings(); "
        "from tests.figures.test_files import draw_all; draw_all(Path(sys.argv[1])); "
        "assert settings() == before; assert 'matplotlib.pyplot' not in sys.modules"
    )
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path / "there")],
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        check=True,
    )
    files = draw_all(tmp_path / "here")
    assert len(files) == len(set(files)) == 8
    for path in files:
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes(), path.name


def test_formats(tmp_path: Path) -> None:
    """PNGs of a useful size, SVGs that say nothing of when they were drawn."""
    for path in draw_all(tmp_path):
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.format == "PNG"
                assert min(image.size) > 400
        else:
            text = path.read_text()
            assert text.startswith("<?xml")
            assert "<dc:date>" not in text
