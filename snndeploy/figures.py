"""Figures, each drawn by one function from plain numbers into a PNG and an SVG file.

No state of matplotlib is touched, and the same numbers give the same bytes with the same matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snndeploy.ir.files import replacing

FORMATS = ("png", "svg")

# Okabe and Ito's palette, which colour-blind people can tell apart, without its yellow, too faint on white
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
_DASHES = ("-", "--", ":", "-.")
_RUBRIC = {"fontsize": 9, "color": "#555555"}
_NO_DATE = {"png": {"Software": None}, "svg": {"Date": None}}


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

    A second panel shows the upper part larger if the curves fall far below it.

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
    with _own_style():
        figure = Figure(figsize=(9.6 if zoomed else 6.4, 4.4), layout="constrained")
        panels = figure.subplots(1, 2 if zoomed else 1, squeeze=False)[0]
        for panel in panels:
            _draw_lines(panel, lines)
        panels[0].set_ylabel(f"test accuracy, {accuracy} [%]")
        if zoomed:
            panels[0].set_title("all runs", loc="left", **_RUBRIC)
            panels[1].set_title("upper part", loc="left", **_RUBRIC)
            margin = 0.06 * (top - bottom)
            panels[1].set_ylim(100 * (bottom - margin), 100 * (top + margin))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
        figure.supxlabel("energy per inference relative to the baseline [%], ESTIMATED (E_SNN)", fontsize=10)
        return _write(figure, folder, name)


def _upper_part(lines: Sequence[Line]) -> tuple[float, float]:
    """The highest accuracy of a run, and one below which curves have lost what a network is good for."""
    top = max(y for line in lines for _, y in (*line.means, *line.runs))
    return top, top - 0.1


def _draw_lines(panel: Axes, lines: Sequence[Line]) -> None:
    families = list(dict.fromkeys(line.family for line in lines))
    for place, line in enumerate(lines):
        colour = _COLOURS[families.index(line.family) % len(_COLOURS)]
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


@contextmanager
def _own_style() -> Iterator[None]:
    """Matplotlib's defaults, whatever the user's own settings, and the same names within every SVG."""
    with mpl.style.context("default"), mpl.rc_context({"svg.hashsalt": "snndeploy"}):
        yield


def _write(figure: Figure, folder: Path, name: str) -> list[Path]:
    paths = [folder / f"{name}.{form}" for form in FORMATS]
    for path, form in zip(paths, FORMATS, strict=True):
        with replacing(path) as temporary:
            figure.savefig(temporary, format=form, dpi=200, metadata=_NO_DATE[form])
    return paths
