"""What BCs are worth, over their ports."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.figures import Evaluated, matrix

Drawn = Callable[[Callable[[Path], list[Path]]], Figure]
PORTS = ["stem.lif", "stage1.1.lif1", "stage1.1.lif2"]
SINGLE = [
    Evaluated((), 0.7),
    Evaluated(((0, 0),), 0.7),
    Evaluated(((2, 0),), 0.75),
    Evaluated(((2, 1),), 0.55),
]
SETS = [*SINGLE, Evaluated(((2, 0), (1, 1)), 0.73)]


def draw(drawn: Drawn, evaluated: list[Evaluated], ports: list[str] = PORTS, **options: Any) -> Figure:
    """With 70 % as the accuracy without BC."""
    drawing = partial(
        _matrix, evaluated, ports, {"baseline": 0.7, "accuracy": "validation accuracy", **options}
    )
    return drawn(drawing)


def _matrix(
    evaluated: list[Evaluated], ports: list[str], options: dict[str, Any], folder: Path
) -> list[Path]:
    return matrix(evaluated, ports, folder, **options)


def texts(figure: Figure) -> dict[tuple[float, float], list[str]]:
    """What is printed in each cell, by (output port, input port)."""
    found: dict[tuple[float, float], list[str]] = {}
    for text in figure.axes[0].texts:
        x, y = text.get_position()
        found.setdefault((round(y), round(x)), []).append(text.get_text())
    return found


def cells(figure: Figure) -> dict[tuple[int, int], Rectangle]:
    """The rectangles but for the frames, by (output port, input port)."""
    patches = [
        patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle) and patch.get_width() == 1
    ]
    return {(round(p.get_y() + 0.5), round(p.get_x() + 0.5)): p for p in patches}


def test_single_connections(drawn: Drawn) -> None:
    """A cell shows its own accuracy minus that without BC; what is not evaluated is hatched, the rest is blank."""
    figure = draw(drawn, SINGLE)
    assert texts(figure) == {(0, 0): ["0.0"], (2, 0): ["+5.0"], (2, 1): ["−15"]}
    assert set(cells(figure)) == {(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)}
    hatched = {pair for pair, patch in cells(figure).items() if patch.get_hatch()}
    assert hatched == {(1, 0), (1, 1), (2, 2)}
    assert figure.get_suptitle() == ""


def test_sets(drawn: Drawn) -> None:
    """A cell shows the mean over the architectures that hold it, their number, and the figure says so."""
    figure = draw(drawn, SETS)
    assert texts(figure)[2, 0] == ["+4.0", "n=2"]
    assert texts(figure)[1, 1] == ["+3.0", "n=1"]
    assert figure.get_suptitle() == "mean over the n evaluated architectures\nthat hold the connection"


def test_a_connection_twice_in_one_set(drawn: Drawn) -> None:
    """With two delays it still counts once."""
    assert texts(draw(drawn, [Evaluated(((2, 0), (2, 0)), 0.73)]))[2, 0] == ["+3.0", "n=1"]


def test_colours(drawn: Drawn) -> None:
    """Blue is better, red is worse, and no difference is the middle; the best is never beyond the scale."""
    figure = draw(drawn, SINGLE)
    shown: dict[tuple[int, int], Any] = {}
    shown |= {pair: patch.get_facecolor() for pair, patch in cells(figure).items() if not patch.get_hatch()}
    assert min(shown[0, 0][:3]) > 0.95
    assert shown[2, 0][2] > shown[2, 0][0]
    assert shown[2, 1][0] > shown[2, 1][2]
    low, high = figure.axes[1].get_ylim()
    assert low == -high
    assert high >= 5
    label = "validation accuracy\nminus 70.0 % without BC [points]"
    assert figure.axes[1].get_ylabel() == label


def test_one_failure_leaves_the_others_their_colours(drawn: Drawn) -> None:
    """What is far worse than nearly all lies beyond the scale, at its end."""
    ports = [f"lif{i}" for i in range(6)]
    evaluated = [Evaluated(((s, t),), 0.7 + 0.002 * t) for s in range(6) for t in range(s + 1)]
    evaluated[0] = Evaluated(((0, 0),), 0.1)
    figure = draw(drawn, evaluated, ports)
    assert figure.axes[1].get_ylim()[0] == pytest.approx(-1)
    assert to_hex(cells(figure)[0, 0].get_facecolor()) == "#67001f"
    assert texts(figure)[0, 0] == ["−60"]


def test_found_and_allowed(drawn: Drawn) -> None:
    """The found are framed; what the space leaves out is blank."""
    figure = draw(drawn, SINGLE, allowed=[(0, 0), (2, 0), (2, 1), (2, 2)], found=[(2, 1)])
    assert set(cells(figure)) == {(0, 0), (2, 0), (2, 1), (2, 2)}
    (frame,) = [p for p in figure.axes[0].patches if isinstance(p, Rectangle) and p.get_width() != 1]
    assert (round(frame.get_y() + 0.47), round(frame.get_x() + 0.47)) == (2, 1)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["not evaluated", "found"]


def test_ports(drawn: Drawn) -> None:
    """Output ports downwards, input ports to the right, by number and name."""
    panel = draw(drawn, SINGLE).axes[0]
    names = ["0  stem.lif", "1  stage1.1.lif1", "2  stage1.1.lif2"]
    assert [label.get_text() for label in panel.get_yticklabels()] == names
    assert [label.get_text() for label in panel.get_xticklabels()] == names
    assert panel.get_ylim() == (2.5, -0.5)
    assert panel.get_ylabel().startswith("output port")
    assert panel.get_xlabel().startswith("input port")


@pytest.mark.parametrize("ports", [1, 17])
def test_numbers_fit_their_cells(drawn: Drawn, ports: int) -> None:
    """Also with the ports of a ResNet-18."""
    pairs = [(s, t) for s in range(ports) for t in range(s + 1)]
    evaluated = [Evaluated(((s, t), (t, t)), 0.7 - 0.01 * s) for s, t in pairs]
    figure = draw(drawn, evaluated, [f"stage{i}.1.lif2" for i in range(ports)])
    patch = cells(figure)[ports - 1, ports - 1]
    for text in figure.axes[0].texts:
        assert text.get_window_extent().width < 0.95 * patch.get_window_extent().width
    assert len(figure.axes[0].texts) == 2 * len(pairs)


def test_many_ports(drawn: Drawn) -> None:
    """Colours only; how many architectures are behind a cell is said for all together."""
    figure = draw(drawn, SETS, [f"lif{i}" for i in range(30)])
    assert len(figure.axes[0].texts) == 0
    assert figure.get_suptitle().endswith("hold the connection, n = 1 to 2")


@pytest.mark.parametrize(
    ("evaluated", "options", "message"),
    [
        ([Evaluated((), 0.7)], {}, "evaluated: needs an architecture with a backward connection"),
        ([Evaluated(((0, 1),), 0.7)], {}, "backward connection 0:1: must lead"),
        ([Evaluated(((3, 1),), 0.7)], {}, "of those numbered 0 to 2"),
        (SINGLE, {"found": [(3, 0)]}, "backward connection 3:0"),
        (SINGLE, {"allowed": [(1, -1)]}, "backward connection 1:-1"),
        (SINGLE, {"baseline": 70.0}, "accuracy: must be a share of 1, got 70.0"),
        ([Evaluated(((1, 0),), float("nan"))], {}, "accuracy: must be a share of 1, got nan"),
    ],
)
def test_refused(tmp_path: Path, evaluated: list[Evaluated], options: dict[str, Any], message: str) -> None:
    """The message says what, and nothing is written."""
    with pytest.raises(ConfigError, match=message):
        matrix(evaluated, PORTS, tmp_path, **{"baseline": 0.7, "accuracy": "accuracy", **options})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(FileFormatError, match=r"matrix\.png"):
        matrix(SINGLE, PORTS, tmp_path / "none", baseline=0.7, accuracy="accuracy")
