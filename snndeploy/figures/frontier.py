"""Accuracy against what it costs: estimated energy and machine steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from snndeploy.errors import ConfigError
from snndeploy.figures.style import COLOURS, GREY, check_shares, own_style, plain_axes, write

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_UNITS = ((1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))  # in pJ
_LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 9}


@dataclass(frozen=True)
class Point:
    """An architecture by what it is worth and costs.

    accuracy: Share of 1.
    energy_pj: Estimated energy per inference.
    machine_steps: Of an inference.
    """

    accuracy: float
    energy_pj: float
    machine_steps: int


def pareto(
    points: Sequence[Point],
    front: Sequence[int],
    folder: Path,
    *,
    accuracy: str,
    baseline: int | None = None,
    found: int | None = None,
    name: str = "pareto",
) -> list[Path]:
    """Draws accuracy against estimated energy, coloured by machine steps, with the front marked.

    A line joins those of the front that no other beats in both accuracy and energy, machine steps left aside.

    Args:
        points: At least one.
        front: Places in `points` of those on the front, in any order.
        folder: Where the files go; must exist.
        accuracy: What kind it is, such as "validation accuracy".
        baseline: Place in `points` of the architecture without BCs.
        found: Place in `points` of the architecture that the search recommends.
        name: Of the files, without their endings.

    Returns:
        The files.

    Raises:
        ConfigError: No point, a place that is none, an accuracy that is no share of 1, or an energy that is none.
        FileFormatError: A file cannot be written.
    """
    if not points:
        raise ConfigError("figure: points", "needs at least one")
    for place in (*front, *(place for place in (baseline, found) if place is not None)):
        if not 0 <= place < len(points):
            raise ConfigError("figure: place of a point", f"must be 0 to {len(points) - 1}", got=place)
    check_shares("accuracy", [point.accuracy for point in points])
    if wrong := [point.energy_pj for point in points if not 0 <= point.energy_pj < math.inf]:
        raise ConfigError("figure: energy", "must be finite and at least 0", got=wrong[0])
    scale, unit = next((u for u in _UNITS if max(p.energy_pj for p in points) >= u[0]), _UNITS[-1])
    where = [(point.energy_pj / scale, 100 * point.accuracy) for point in points]
    with own_style():
        figure = Figure(figsize=(7.2, 4.6), layout="constrained")
        panel = figure.add_subplot()
        _draw_points(figure, panel, points, where)
        _draw_front(panel, [where[place] for place in dict.fromkeys(front)])
        if found is not None:
            _draw_star(panel, where[found], "found", COLOURS[1], 19)
        if baseline is not None:
            _draw_star(panel, where[baseline], "no BC", "black", 12)
        plain_axes(panel)
        panel.set_xlabel(f"energy per inference [{unit}], ESTIMATED (E_SNN)")
        panel.set_ylabel(f"{accuracy} [%]")
        figure.legend(handles=_entries(panel), loc="outside right upper", **_LEGEND)
        return write(figure, folder, name)


def _draw_points(
    figure: Figure, panel: Axes, points: Sequence[Point], where: Sequence[tuple[float, float]]
) -> None:
    """Coloured by machine steps, with a marker for each number of them or, if these are many, a scale."""
    steps = sorted({point.machine_steps for point in points})
    palette = mpl.colormaps["viridis"]
    span = Normalize(steps[0], max(steps[-1], steps[0] + 1))
    few = len(steps) <= len(_MARKERS)
    for place, number in enumerate(steps):
        chosen = [xy for point, xy in zip(points, where, strict=True) if point.machine_steps == number]
        panel.plot(
            [x for x, _ in chosen],
            [y for _, y in chosen],
            _MARKERS[place] if few else "o",
            color=palette(0.92 * (place / max(len(steps) - 1, 1)) if few else float(span(number))),
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.5,
            label=f"{number} machine steps" if few else "_",
        )
    if not few:
        bar = figure.colorbar(ScalarMappable(span, palette), ax=panel, pad=0.02, aspect=30)
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        bar.set_label("machine steps per inference", labelpad=8)
        bar.ax.spines["outline"].set_visible(False)


def _draw_front(panel: Axes, front: Sequence[tuple[float, float]]) -> None:
    """All of the front are ringed; a line joins those that are also on that of accuracy and energy alone."""
    if not front:
        return
    joined: list[tuple[float, float]] = []
    for x, y in sorted(front, key=lambda point: (point[0], -point[1])):
        if not joined or y > joined[-1][1]:
            joined.append((x, y))
    panel.plot(
        [x for x, _ in front],
        [y for _, y in front],
        "o",
        markerfacecolor="none",
        markeredgecolor="black",
        markersize=10,
        markeredgewidth=1.1,
        label="on the Pareto front",
    )
    panel.plot(
        [x for x, _ in joined],
        [y for _, y in joined],
        "-",
        color=GREY,
        linewidth=1.2,
        zorder=1.5,
        label="front in this plane",
    )


def _draw_star(panel: Axes, where: tuple[float, float], label: str, colour: str, size: float) -> None:
    panel.plot(
        [where[0]],
        [where[1]],
        "*",
        color=colour,
        markersize=size,
        markeredgecolor="white",
        markeredgewidth=0.8,
        label=label,
        zorder=4,
        linestyle="none",
    )


def _entries(panel: Axes) -> list[Line2D]:
    """What the legend names, in the order drawn."""
    return [line for line in panel.lines if not str(line.get_label()).startswith("_")]
