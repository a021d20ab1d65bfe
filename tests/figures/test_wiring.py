"""BCs on the backbone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from snndeploy.backbones import backbone
from snndeploy.errors import ConfigError
from snndeploy.figures import connections
from snndeploy.ir.drawing import forward_of, layers_of

Drawn = Callable[[Callable[[Path], list[Path]]], Figure]
SMALL = backbone("resnet6", (1, 16, 16), 10)
LARGE = backbone("resnet18", (3, 32, 32), 100)
PREACT = backbone("resnet18_preact", (3, 32, 32), 100)
MANY = [(s, t, 1) for s in range(17) for t in range(s + 1) if (s * 7 + t * 3) % 8 == 0 or t == s - 1]
ALL_SMALL = [(s, t, 1) for s in range(5) for t in range(s + 1)]


def draw(drawn: Drawn, found: list[tuple[int, int, int]], graph: Any = SMALL, **options: Any) -> Figure:
    """On a backbone with its own forward connections."""
    layers, forward = layers_of(graph), forward_of(graph)
    return drawn(lambda folder: connections(layers, found, folder, **{"forward": forward, **options}))


def arrows(figure: Figure) -> dict[str, FancyArrowPatch]:
    """Those between ports, by label; links between neighbours aside."""
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]
    return {str(arrow.get_label()): arrow for arrow in found if arrow.get_label() != "link"}


def links(figure: Figure) -> int:
    """How many straight arrows there are."""
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]
    return sum(arrow.get_label() == "link" for arrow in found)


def boxes(figure: Figure) -> list[FancyBboxPatch]:
    """Of the ports, from left to right."""
    return [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]


def port_at(figure: Figure, x: float) -> int:
    """The port whose box reaches over a place."""
    (port,) = [n for n, box in enumerate(boxes(figure)) if box.get_x() <= x <= box.get_x() + box.get_width()]
    return port


def curve(arrow: Any) -> Any:
    """The corners of an arrow as it was asked for; what is drawn is shortened for the arrowhead."""
    return arrow._path_original.vertices


def ends(figure: Figure, arrow: FancyArrowPatch) -> tuple[int, int]:
    """The ports at which an arrow starts and ends, wherever on their boxes."""
    vertices = curve(arrow)
    return port_at(figure, vertices[0][0]), port_at(figure, vertices[-1][0])


def labels(figure: Figure) -> dict[str, tuple[float, float]]:
    """Where the arcs' texts stand."""
    return {t.get_text(): t.get_position() for t in figure.axes[0].texts if "→" in t.get_text()}


@pytest.mark.parametrize(("graph", "found"), [(SMALL, ALL_SMALL), (LARGE, MANY)], ids=["5 ports", "17 ports"])
def test_arcs(drawn: Drawn, graph: Any, found: list[tuple[int, int, int]]) -> None:
    """Each BC is an arrow above the row from output to input port, with its own ends and its label at its top."""
    figure = draw(drawn, found, graph)
    above = {label: arrow for label, arrow in arrows(figure).items() if label in labels(figure)}
    assert set(above) == {f"{s}→{t}" for s, t, _ in found}
    feet = []
    for label, arrow in above.items():
        assert "→".join(map(str, ends(figure, arrow))) == label
        vertices = curve(arrow)
        feet += [vertices[0][0], vertices[-1][0]]
        x, y = labels(figure)[label]
        assert x == pytest.approx((vertices[0][0] + vertices[-1][0]) / 2)
        assert y == pytest.approx(0.25 * vertices[0][1] + 0.75 * vertices[1][1])
        assert y > vertices[0][1] > 0
    assert min(b - a for a, b in itertools.pairwise(sorted(feet))) > 0.01


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        (SMALL, ALL_SMALL),
        (LARGE, MANY),
        (LARGE, [(s, t, s - t + 1) for s, t, _ in MANY]),
        (LARGE, [(s, 0, 1) for s in range(17)]),
        (SMALL, [(4, 1, 1), (4, 1, 2), (4, 1, 13), (4, 4, 1), (4, 4, 3)]),
    ],
    ids=["5 ports", "17 ports", "delays", "all to the first", "several delays"],
)
def test_labels_do_not_overlap(drawn: Drawn, graph: Any, found: list[tuple[int, int, int]]) -> None:
    """However many there are."""
    figure = draw(drawn, found, graph)
    texts: list[Any] = [text for text in figure.axes[0].texts if "→" in text.get_text()]
    assert len(texts) == len(found) >= 5
    for one, other in itertools.combinations(texts, 2):
        a, b = (text.get_bbox_patch().get_window_extent() for text in (one, other))
        assert not a.overlaps(b), f"{one.get_text()} and {other.get_text()}"


def test_delays(drawn: Drawn) -> None:
    """One of more than 1 is written."""
    figure = draw(drawn, [(4, 1, 1), (4, 1, 4)])
    assert set(labels(figure)) == {"4→1", "4→1\ndelay 4"}


def test_row(drawn: Drawn) -> None:
    """A numbered box for each port with its name, on a band for each shape, with arrows between neighbours."""
    figure = draw(drawn, [(4, 1, 1)], title="resnet6 on $recall")
    assert len(boxes(figure)) == 5
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:2] == ["C = 16\n16 × 16", "C = 32\n8 × 8"]
    assert {"0", "4", "stem.lif", "stage2.1.lif2", "input", "output", "resnet6 on $recall"} <= set(texts)
    first, second = [p for p in figure.axes[0].patches if isinstance(p, Rectangle) and p.get_zorder() == 0]
    third, fourth = (boxes(figure)[port].get_x() for port in (2, 3))
    assert third < first.get_x() + first.get_width() <= second.get_x() < fourth
    assert links(figure) == 4 + 2


def test_skips(drawn: Drawn) -> None:
    """Arcs below the row, forwards."""
    figure = draw(drawn, [])
    assert set(arrows(figure)) == {"0→2", "2→4"}
    for label, arrow in arrows(figure).items():
        assert "→".join(map(str, ends(figure, arrow))) == label
        assert curve(arrow)[1][1] < curve(arrow)[0][1] < 0


def test_a_backbone_that_is_no_row(drawn: Drawn) -> None:
    """Neighbours that are not connected have no arrow between them."""
    figure = draw(drawn, [(19, 0, 1)], PREACT)
    pairs = forward_of(PREACT)
    assert (5, 6) not in pairs
    assert links(figure) == 2 + sum(end - start == 1 for start, end in pairs)
    assert set(arrows(figure)) - {"19→0"} == {f"{a}→{b}" for a, b in pairs if b - a > 1}


def test_no_connection(drawn: Drawn) -> None:
    """It is said."""
    texts = [text.get_text() for text in draw(drawn, []).axes[0].texts]
    assert "no backward connection" in texts
    assert "no backward connection" not in [t.get_text() for t in draw(drawn, [(1, 0, 1)]).axes[0].texts]


def test_one_port(drawn: Drawn) -> None:
    """With a shape of one number, and a chain by default."""
    figure = drawn(lambda folder: connections([("lif", (3,))], [(0, 0, 1)], folder))
    assert "C = 3" in [text.get_text() for text in figure.axes[0].texts]
    assert ends(figure, arrows(figure)["0→0"]) == (0, 0)
    assert links(figure) == 2


@pytest.mark.parametrize(
    ("ports", "found", "forward", "message"),
    [
        (0, [], None, "ports: needs at least one"),
        (3, [(1, 2, 1)], None, "backward connection 1:2: must lead"),
        (3, [(3, 0, 1)], None, "of those numbered 0 to 2"),
        (3, [(2, 0, 0)], None, "delay must be at least 1, got 0"),
        (3, [], [(2, 0)], "connection 2 -> 0: must lead"),
        (3, [], [(0, 3)], "connection 0 -> 3"),
    ],
)
def test_refused(
    tmp_path: Path,
    ports: int,
    found: list[tuple[int, int, int]],
    forward: list[tuple[int, int]] | None,
    message: str,
) -> None:
    """The message says what, and nothing is written."""
    with pytest.raises(ConfigError, match=message):
        connections([(f"lif{i}", (4,)) for i in range(ports)], found, tmp_path, forward=forward)
    assert list(tmp_path.iterdir()) == []
