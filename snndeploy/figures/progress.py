"""How a search went: the best accuracy so far."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from snndeploy.errors import ConfigError
from snndeploy.figures.style import COLOURS, GREY, check_shares, own_style, plain_axes, write

_DASHES = ("-", "--", "-.", ":")
_ROW, _SAMPLE = 80, 7  # characters: of a row of the legend, and that an entry takes besides its label
_LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 9}


@dataclass(frozen=True)
class Curve:
    """Best accuracy so far of a search.

    evaluations: Architectures evaluated up to each point, rising.
    best: Best accuracy among them, share of 1; a mean if there were several runs.
    standard_error: Of each point; no band when None.
    """

    label: str
    evaluations: Sequence[int]
    best: Sequence[float]
    standard_error: Sequence[float] | None = None


def best_so_far(
    curves: Sequence[Curve],
    folder: Path,
    *,
    accuracy: str,
    baseline: float | None = None,
    name: str = "best_so_far",
) -> list[Path]:
    """Draws the best accuracy so far against evaluations, with the standard error as a band.

    Args:
        curves: At least one, such as those of evolution and of random search.
        folder: Where the files go; must exist.
        accuracy: What kind it is, such as "validation accuracy".
        baseline: Accuracy without BCs, as a share of 1: a line.
        name: Of the files, without their endings.

    Returns:
        The files.

    Raises:
        ConfigError: No curve, an empty one, one whose numbers are not of one length, evaluations that do not rise,
            an accuracy that is no share of 1, or a standard error that is none.
        FileFormatError: A file cannot be written.
    """
    if not curves:
        raise ConfigError("figure: curves", "needs at least one")
    for curve in curves:
        _check_curve(curve)
    check_shares("baseline", [] if baseline is None else [baseline])
    with own_style():
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        panel = figure.add_subplot()
        for place, curve in enumerate(curves):
            _draw_curve(panel, curve, COLOURS[place % len(COLOURS)], _DASHES[place % len(_DASHES)])
        if baseline is not None:
            panel.axhline(100 * baseline, color="black", linewidth=1.2, dashes=(2, 2), label="no BC")
        plain_axes(panel)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.margins(x=0.02)
        panel.set_xlabel("evaluated architectures")
        panel.set_ylabel(f"best so far [%]\n{accuracy}")
        if any(curve.standard_error is not None for curve in curves):
            panel.fill_between([], [], [], color=GREY, alpha=0.2, linewidth=0, label="± standard error")
        _add_legend(figure, panel)
        return write(figure, folder, name)


def _add_legend(figure: Figure, panel: Axes) -> None:
    """Above the panel, in one row or, if the labels are long, in two columns."""
    handles, labels = panel.get_legend_handles_labels()
    columns = len(labels)
    if sum(map(len, labels)) + _SAMPLE * columns > _ROW:
        columns = 2
        labels = [textwrap.fill(label, _ROW // columns - _SAMPLE) for label in labels]
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, **_LEGEND)


def _check_curve(curve: Curve) -> None:
    where = f"curve {curve.label!r}"
    error = [0.0] * len(curve.best) if curve.standard_error is None else curve.standard_error
    if not len(curve.evaluations) == len(curve.best) == len(error) > 0:
        raise ConfigError(
            f"figure: {where}",
            "needs as many accuracies and standard errors as evaluations, and at least one",
            got=(len(curve.evaluations), len(curve.best), len(error)),
        )
    check_shares(where, curve.best)
    if any(not later > earlier for earlier, later in itertools.pairwise(curve.evaluations)):
        raise ConfigError(f"figure: {where}", "its evaluations must rise", got=list(curve.evaluations))
    if any(not 0 <= value < math.inf for value in error):
        raise ConfigError(
            f"figure: {where}", "standard errors must be finite and at least 0", got=list(error)
        )


def _draw_curve(panel: Axes, curve: Curve, colour: str, dash: str) -> None:
    """Steps, since the best so far stays until a better one is evaluated."""
    best = [100 * value for value in curve.best]
    panel.step(
        curve.evaluations,
        best,
        dash,
        where="post",
        marker="o",
        markersize=4,
        markevery=[len(best) - 1],
        color=colour,
        linewidth=1.7,
        label=curve.label,
        zorder=3,
    )
    if curve.standard_error is not None:
        errors = [100 * value for value in curve.standard_error]
        low = [value - error for value, error in zip(best, errors, strict=True)]
        high = [value + error for value, error in zip(best, errors, strict=True)]
        panel.fill_between(curve.evaluations, low, high, step="post", color=colour, alpha=0.18, linewidth=0)
