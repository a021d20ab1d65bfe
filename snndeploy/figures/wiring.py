"""Backward connections (BCs) on the backbone, as a row of ports with arcs."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path as Curve

from snndeploy.errors import ConfigError
from snndeploy.figures.style import COLOURS, GREY, check_backward, own_style, write

# All in inches: the axes cover the whole figure, and one unit of theirs is one inch. The row of ports is at 0.
_MARGIN, _END = 0.15, 0.75  # around everything; at both ends of the row, for "input" and "output"
_ROW, _NARROW, _WIDE = 9.0, 0.64, 1.3  # of the row; least and greatest distance of two ports
_BOX, _BOX_SHARE = 0.3, 0.74  # height of a port; its width as a share of the distance
_LETTER, _LINE = 0.066, 0.14  # size of a letter
_SKIP = 0.14  # between two levels of skips

_BANDS = ("#dfe5ec", "#eef1f5")
_LABEL: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "linespacing": 1, "zorder": 5}

_Layer = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class _Arc:
    """From one port to another, or the same.

    level: 1 for the shortest, 2 for the next longer, and so on.
    """

    start: int
    end: int
    level: int
    text: str

    @property
    def span(self) -> int:
        return abs(self.start - self.end)


@dataclass(frozen=True)
class _Row:
    """Where things are.

    pitch: Distance of two ports.
    step: Height of a level of the arcs above.
    top: Of the highest arc.
    names: Upper end of the ports' names; upright: whether these are turned.
    shapes: Upper end of the shapes.
    bottom: Lower end of all.
    """

    pitch: float
    step: float
    top: float
    names: float
    upright: bool
    shapes: float
    bottom: float

    @property
    def wide(self) -> float:
        """Width of a port."""
        return _BOX_SHARE * self.pitch

    @classmethod
    def of(cls, ports: Sequence[_Layer], back: Sequence[_Arc], skips: Sequence[_Arc]) -> _Row:
        """Leaves as much room as the texts and the arcs need."""
        texts = [arc.text.split("\n") for arc in back]
        widest = max((len(line) for lines in texts for line in lines), default=0) * _LETTER + 0.2
        pitch = min(max(_ROW / len(ports), _NARROW, widest), _WIDE)
        step = 0.1 + _LINE * max(map(len, texts), default=1)
        longest = max(len(layer) for layer, _ in ports) * _LETTER
        names = -_BOX / 2 - 0.12 - _SKIP * (max((arc.level for arc in skips), default=0) + 0.4)
        shapes = names - (longest if longest > pitch else _LINE) - 0.12
        return cls(
            pitch=pitch,
            step=step,
            top=_BOX / 2 + 0.1 + step * (max((arc.level for arc in back), default=1) + 0.6),
            names=names,
            upright=longest > pitch,
            shapes=shapes,
            bottom=shapes - 2 * _LINE - 0.16,
        )


def connections(
    ports: Sequence[_Layer],
    found: Sequence[tuple[int, int, int]],
    folder: Path,
    *,
    forward: Sequence[tuple[int, int]] | None = None,
    title: str = "",
    name: str = "connections",
) -> list[Path]:
    """Draws BCs above a row of ports, from output port back to input port, and the backbone's skips below.

    Args:
        ports: Name and shape, such as (64, 16, 16) or (256,), of every port, numbered from the input
            (`snndeploy.ir.drawing.layers_of`).
        found: (output port, input port, delay in time steps) of every BC; may be empty.
        folder: Where the files go; must exist.
        forward: (from, to) of the connections of the backbone (`snndeploy.ir.drawing.forward_of`); those that
            pass over ports are the arcs below. A plain chain when None.
        title: Above the drawing.
        name: Of the files, without their endings.

    Returns:
        The files.

    Raises:
        ConfigError: No port, a BC that leads forward, a connection of the backbone that does not lead forward, or
            one of a port there is not.
        FileFormatError: A file cannot be written.
    """
    pairs = sorted(set(itertools.pairwise(range(len(ports))) if forward is None else forward))
    _check(ports, found, pairs)
    back = _levels(
        [(source, target, _text(source, target, delay)) for source, target, delay in sorted(found)]
    )
    skips = _levels([(start, end, "") for start, end in pairs if end - start > 1])
    row = _Row.of(ports, back, skips)
    left, right = -row.pitch / 2 - _END, row.pitch * (len(ports) - 0.5) + _END
    heading = textwrap.wrap(title, int((right - left - 2 * _MARGIN) / (1.3 * _LETTER)))
    low, high = row.bottom - _MARGIN, row.top + _MARGIN + 0.2 * len(heading)
    with own_style():
        figure = Figure(figsize=(right - left, high - low))
        panel = figure.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(low, high))
        panel.set_axis_off()
        _draw_groups(panel, ports, row)
        _draw_row(panel, ports, row)
        for start in [start for start, end in pairs if end - start == 1]:
            _draw_link(panel, start * row.pitch + row.wide / 2, (start + 1) * row.pitch - row.wide / 2)
        _draw_arcs(panel, skips, row, -_SKIP, (GREY,), 0.9)
        _draw_arcs(panel, back, row, row.step, COLOURS[:6], 1.5)
        if not back:
            middle = (left + right) / 2
            panel.text(middle, _BOX / 2 + 0.2, "no backward connection", ha="center", color=GREY)
        panel.text(
            left + _MARGIN, high - _MARGIN, "\n".join(heading), va="top", fontsize=11, parse_math=False
        )
        return write(figure, folder, name)


def _check(
    ports: Sequence[_Layer], found: Sequence[tuple[int, int, int]], forward: Sequence[tuple[int, int]]
) -> None:
    if not ports:
        raise ConfigError("figure: ports", "needs at least one")
    for source, target, delay in found:
        check_backward(source, target, len(ports))
        if delay < 1:
            raise ConfigError(
                f"figure: backward connection {source}:{target}", "delay must be at least 1", got=delay
            )
    for start, end in forward:
        if not 0 <= start < end < len(ports):
            raise ConfigError(
                f"figure: connection {start} -> {end}",
                f"must lead from a port to a later one, of those numbered 0 to {len(ports) - 1}",
            )


def _text(source: int, target: int, delay: int) -> str:
    return f"{source}→{target}" + (f"\ndelay {delay}" if delay > 1 else "")


def _levels(arcs: Sequence[tuple[int, int, str]]) -> list[_Arc]:
    """Arcs, the longer the higher, so that what is written on one is never on another's place."""
    place: dict[tuple[int, int], int] = {}
    keys = []
    for start, end, text in dict.fromkeys(arcs):
        again = place[start, end] = place.get((start, end), -1) + 1  # with another delay
        keys.append((abs(start - end), again, start, end, text))
    keys.sort()
    levels = sorted({key[:2] for key in keys})
    return [_Arc(start, end, 1 + levels.index((span, n)), text) for span, n, start, end, text in keys]


def _draw_groups(panel: Axes, ports: Sequence[_Layer], row: _Row) -> None:
    """A band behind neighbouring ports of one shape, with that shape at its foot."""
    groups = [list(group) for _, group in itertools.groupby(enumerate(ports), key=lambda port: port[1][1])]
    for place, group in enumerate(groups):
        first, (_, shape) = group[0]
        left, wide = (first - 0.5) * row.pitch, len(group) * row.pitch
        size = (wide - 0.04, _BOX / 2 + 0.08 - row.bottom)
        shade = _BANDS[place % 2]
        panel.add_patch(Rectangle((left + 0.02, row.bottom), *size, facecolor=shade, linewidth=0, zorder=0))
        text = "\n".join([f"C = {shape[0]}", *([" × ".join(map(str, shape[1:]))] if shape[1:] else [])])
        panel.text(left + wide / 2, row.shapes, text, ha="center", va="top", fontsize=8, linespacing=1.25)


def _draw_row(panel: Axes, ports: Sequence[_Layer], row: _Row) -> None:
    """A box with its number for each port, its name, and where the row begins and ends."""
    pitch, wide = row.pitch, row.wide
    name: dict[str, Any] = {"fontsize": 8, "rotation": 90 if row.upright else 0, "color": GREY}
    for port, (layer, _) in enumerate(ports):
        box = FancyBboxPatch(
            (port * pitch - wide / 2, -_BOX / 2),
            wide,
            _BOX,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor="white",
            edgecolor="#333333",
            linewidth=1.1,
            zorder=2,
        )
        panel.add_patch(box)
        panel.text(port * pitch, 0, str(port), ha="center", va="center", fontsize=10, zorder=3)
        panel.text(port * pitch, row.names, layer, ha="center", va="top", **name)
    before, after = -pitch / 2 - 0.12, (len(ports) - 0.5) * pitch + 0.12
    panel.text(before, 0, "input", ha="right", va="center", fontsize=9, color=GREY)
    panel.text(after, 0, "output", ha="left", va="center", fontsize=9, color=GREY)
    _draw_link(panel, before + 0.04, -wide / 2)
    _draw_link(panel, (len(ports) - 1) * pitch + wide / 2, after - 0.04)


def _draw_link(panel: Axes, start: float, end: float) -> None:
    """A connection of the backbone between neighbours."""
    panel.add_patch(_arrow(Curve([(start, 0), (end, 0)]), GREY, 1.0, "link"))


def _draw_arcs(
    panel: Axes, arcs: Sequence[_Arc], row: _Row, step: float, colours: Sequence[str], linewidth: float
) -> None:
    """Arcs above the row or, with a negative step, below it."""
    side = _BOX / 2 if step > 0 else -_BOX / 2
    slots = _slots(arcs, row.wide)
    for place, arc in enumerate(arcs):
        start, end = arc.start * row.pitch + slots[place, 0], arc.end * row.pitch + slots[place, 1]
        height = side + arc.level * step
        reach = (
            side + arc.level * step * 4 / 3
        )  # a cubic Bezier curve goes 3/4 of the way to its inner points
        bulge = 0 if arc.span else 0.12
        inner = [(start + bulge, reach), (end - bulge, reach)]
        curve = Curve([(start, side), *inner, (end, side)], [Curve.MOVETO] + 3 * [Curve.CURVE4])
        colour = colours[place % len(colours)]
        panel.add_patch(_arrow(curve, colour, linewidth, f"{arc.start}→{arc.end}"))
        if arc.text:
            frame = {
                "boxstyle": "round,pad=0.18",
                "facecolor": "white",
                "edgecolor": colour,
                "linewidth": 0.8,
            }
            panel.text((start + end) / 2, height, arc.text, bbox=frame, **_LABEL)


def _slots(arcs: Sequence[_Arc], wide: float) -> dict[tuple[int, int], float]:
    """Where each arc's start (0) and end (1) stand on their boxes, from the middle, so that few arcs cross.

    From left to right: arcs to the left, the longest last; loops; arcs to the right, the longest first.
    """
    ends: dict[int, list[tuple[int, int, int, int]]] = {}
    for place, arc in enumerate(arcs):
        for which, (here, there) in enumerate(((arc.start, arc.end), (arc.end, arc.start))):
            if here == there:
                side, order = (
                    0,
                    (-arc.level if which else arc.level),
                )  # leaves on the right, returns on the left
            else:
                side, order = (-1, arc.level) if there < here else (1, -arc.level)
            ends.setdefault(here, []).append((side, order, place, which))
    slots = {}
    for found in ends.values():
        gap = min(0.13, 0.84 * wide / max(len(found) - 1, 1))
        for index, (_, _, place, which) in enumerate(sorted(found)):
            slots[place, which] = (index - (len(found) - 1) / 2) * gap
    return slots


def _arrow(curve: Curve, colour: str, linewidth: float, label: str) -> FancyArrowPatch:
    return FancyArrowPatch(
        path=curve,
        arrowstyle="-|>,head_length=0.45,head_width=0.2",
        mutation_scale=10,
        color=colour,
        linewidth=linewidth,
        label=label,
        zorder=2.5,
    )
