"""Accuracy against energy, as curves over the intensity of a penalty."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snndeploy.figures.style import COLOURS, RUBRIC, own_style, write

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
_DASHES = ("-", "--", ":", "-.")
_LEGEND = {"frameon": False, "fontsize": 9}
_LEGEND_LINE, _LEGEND_GAP = 0.15, 0.07  # inches
_BESIDE, _NARROW = 16, 24  # most entries, and characters of one, of a legend beside the panels
_WIDE = 36  # most characters of a line of a legend above them


@dataclass(frozen=True)
class Line:
    """A curve of accuracy against energy.

    family: Lines of one family share a colour.
    baseline: Mean energy ratio, which is 1, and mean accuracy of what energy is relative to.
    means: Energy ratio and accuracy for every intensity, in order.
    runs: Of single runs.
    """

    label: str
    family: str
    baseline: tuple[float, float]
    means: Sequence[tuple[float, float]]
    runs: Sequence[tuple[float, float]]


def tradeoff(lines: Sequence[Line], folder: Path, *, accuracy: str, name: str = "tradeoff") -> list[Path]:
    """Draws accuracy against energy relative to the baseline.

    A second panel shows the upper part larger if the curves fall far below it. What lies far beyond the ratios of
    most runs is left out, and counted.

    Args:
        lines: At least one. Ratios and accuracies are shares of 1, and drawn in percent.
        folder: Where the files go; must exist.
        accuracy: What kind it is, such as "float32".
        name: Of the files, without their endings.

    Returns:
        The files.

    Raises:
        FileFormatError: A file cannot be written.
    """
    top, bottom = _upper_part(lines)
    zoomed = min(y for line in lines for _, y in line.means) < bottom - (top - bottom)
    with own_style():
        figure = Figure(figsize=(9.6 if zoomed else 6.4, 4.4), layout="constrained")
        panels = figure.subplots(1, 2 if zoomed else 1, squeeze=False)[0]
        for panel in panels:
            _draw_lines(panel, lines)
        right = _right_end(lines)
        _limit(panels[0], lines, right)
        panels[0].set_ylabel(f"test accuracy, {accuracy} [%]")
        if zoomed:
            panels[0].set_title("all runs", loc="left", **RUBRIC)
            panels[1].set_title("upper part", loc="left", **RUBRIC)
            margin = 0.06 * (top - bottom)
            panels[1].set_ylim(100 * (bottom - margin), 100 * (top + margin))
            inside = [x for x, y in _points(lines) if x <= right and y >= bottom - margin]
            panels[1].set_xlim(0, 105 * max(inside, default=right))
        _add_legend(figure, panels[0], columns=3 if zoomed else 2)
        figure.supxlabel("energy per inference relative to the baseline [%], ESTIMATED (E_SNN)", fontsize=10)
        return write(figure, folder, name)


def _upper_part(lines: Sequence[Line]) -> tuple[float, float]:
    """The highest accuracy of a run, and one below which curves have lost what a network is good for."""
    top = max(y for line in lines for _, y in (*line.means, *line.runs))
    return top, top - 0.1


def _points(lines: Sequence[Line]) -> list[tuple[float, float]]:
    """All that are drawn."""
    return [point for line in lines for point in (line.baseline, *line.means, *line.runs)]


def _right_end(lines: Sequence[Line]) -> float:
    """An energy ratio that single runs may exceed, but no line as a whole."""
    return max(2.0, *(4 * statistics.median(x for x, _ in (*line.means, *line.runs)) for line in lines))


def _limit(panel: Axes, lines: Sequence[Line], right: float) -> None:
    """Ends a panel where a few runs far beyond would press all others together, and says how many these are."""
    beyond = [x for line in lines for x, _ in line.runs or line.means if x > right]
    if beyond:
        panel.set_xlim(0, 105 * max(x for x, _ in _points(lines) if x <= right))
        panel.set_title(f"beyond: {len(beyond)}, at up to {max(beyond):.4g} times", loc="right", **RUBRIC)


def _add_legend(figure: Figure, panel: Axes, *, columns: int) -> None:
    """Beside the panels or, with many or long labels, above them, where the figure grows by what it takes."""
    handles, labels = panel.get_legend_handles_labels()
    if len(labels) <= _BESIDE and max(map(len, labels)) <= _NARROW:
        figure.legend(handles, labels, loc="outside right upper", **_LEGEND)
        return
    wrapped = [textwrap.wrap(label, _WIDE, max_lines=5, placeholder=" ...") for label in labels]
    rows = math.ceil(len(labels) / columns)
    tallest = [max(map(len, wrapped[row::rows])) for row in range(rows)]  # it is filled column by column
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + _LEGEND_LINE * sum(tallest) + _LEGEND_GAP * rows)
    figure.legend(
        handles, ["\n".join(text) for text in wrapped], loc="outside upper left", ncols=columns, **_LEGEND
    )


def _draw_lines(panel: Axes, lines: Sequence[Line]) -> None:
    families = list(dict.fromkeys(line.family for line in lines))
    for place, line in enumerate(lines):
        colour = COLOURS[families.index(line.family) % len(COLOURS)]
        marker = _MARKERS[place % len(_MARKERS)]
        earlier = sum(other.family == line.family for other in lines[:place])
        panel.plot(*_percent(line.runs), marker, color=colour, alpha=0.3, markersize=3.5, markeredgewidth=0)
        panel.plot(
            *_percent(line.means),
            _DASHES[earlier % len(_DASHES)],
            marker=marker,
            markevery=[i for i, mean in enumerate(line.means) if mean != line.baseline],  # which has its own
            color=colour,
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.7,
            linewidth=1.5,
            label=line.label,
        )
    panel.plot(
        [], [], "o", color="#555555", alpha=0.4, markersize=3.5, markeredgewidth=0, label="single runs"
    )
    baselines = list(dict.fromkeys(line.baseline for line in lines))
    panel.plot(
        *_percent(baselines),
        "*",
        color="black",
        markersize=13,
        markeredgecolor="white",
        markeredgewidth=0.8,
        label="baseline (no penalty)",
        zorder=3,
    )
    panel.set_xlim(left=0)
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _percent(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [100 * x for x, _ in points], [100 * y for _, y in points]
