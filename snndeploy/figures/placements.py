"""What was evaluated, over the places of backward connections (BCs)."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter

from snndeploy.errors import ConfigError
from snndeploy.figures.style import GREY, RUBRIC, check_backward, check_shares, own_style, write

_CELL, _SMALLEST, _LARGEST = 0.72, 3.2, 7.6  # inches: side of a cell, least and greatest side of the matrix
_MOST_WITH_NUMBERS = 20  # ports
_PALETTE = mpl.colormaps["RdBu"]  # red for worse to blue for better, which colour-blind people can tell apart
_UNKNOWN: dict[str, Any] = {"facecolor": "white", "edgecolor": "#b5b5b5", "hatch": "////", "linewidth": 0}
_FOUND: dict[str, Any] = {"facecolor": "none", "edgecolor": "black", "linewidth": 2.2}


@dataclass(frozen=True)
class Evaluated:
    """An architecture and how well it did.

    connections: (output port, input port) of each of its BCs.
    accuracy: Share of 1.
    """

    connections: tuple[tuple[int, int], ...]
    accuracy: float


def matrix(
    evaluated: Sequence[Evaluated],
    ports: Sequence[str],
    folder: Path,
    *,
    baseline: float,
    accuracy: str,
    allowed: Collection[tuple[int, int]] | None = None,
    found: Collection[tuple[int, int]] = (),
    name: str = "matrix",
) -> list[Path]:
    """Draws what every BC is worth: accuracy minus that of no BC over (output port, input port).

    The cell of a BC shows the mean over all evaluated architectures that hold it, with their count where some
    hold several BCs. Cells nobody evaluated are hatched, cells outside the space are blank.

    Args:
        evaluated: Any architectures, in any order; that without BCs is left out.
        ports: Their names, numbered from the input.
        folder: Where the files go; must exist.
        baseline: Accuracy without BCs, as a share of 1.
        accuracy: What kind it is, such as "validation accuracy".
        allowed: (output port, input port) of all BCs of the space; any that is not forward when None.
        found: (output port, input port) of BCs to mark.
        name: Of the files, without their endings.

    Returns:
        The files.

    Raises:
        ConfigError: A BC that leads forward, or one of a port there is not; nothing with a BC was evaluated; an
            accuracy that is no share of 1.
        FileFormatError: A file cannot be written.
    """
    everywhere = [(source, target) for source in range(len(ports)) for target in range(source + 1)]
    space = everywhere if allowed is None else allowed
    for source, target in (*space, *found, *(pair for each in evaluated for pair in each.connections)):
        check_backward(source, target, len(ports))
    check_shares("accuracy", [baseline, *(each.accuracy for each in evaluated)])
    values = _values(evaluated)
    gains = {pair: 100 * (statistics.fmean(values[pair]) - baseline) for pair in sorted(values)}
    unknown = sorted(set(space) - gains.keys())
    counts = (
        {pair: len(values[pair]) for pair in gains} if any(len(e.connections) > 1 for e in evaluated) else {}
    )
    side = min(max(_CELL * len(ports), _SMALLEST), _LARGEST)
    with own_style():
        figure = Figure(figsize=(side + 2.9, side + 1.9), layout="constrained")
        panel = figure.add_subplot()
        scale = _add_scale(
            figure,
            panel,
            list(gains.values()),
            f"{accuracy}\nminus {100 * baseline:.1f} % without BC [points]",
        )
        for pair in unknown:
            panel.add_patch(_cell(pair, **_UNKNOWN))
        for pair, gain in gains.items():
            panel.add_patch(_cell(pair, facecolor=_PALETTE(scale(gain)), edgecolor="white", linewidth=0.8))
        for pair in sorted(set(found)):
            panel.add_patch(_cell(pair, inset=0.03, **_FOUND, zorder=3))
        if len(ports) <= _MOST_WITH_NUMBERS:
            _print_numbers(panel, gains, counts, scale, 72 * side / len(ports))
        _name_ports(panel, ports)
        _explain(figure, panel, unknown=bool(unknown), found=bool(found), counts=counts)
        return write(figure, folder, name)


def _values(evaluated: Sequence[Evaluated]) -> dict[tuple[int, int], list[float]]:
    """Accuracies of the architectures that hold each BC."""
    values: dict[tuple[int, int], list[float]] = {}
    for each in evaluated:
        for pair in set(each.connections):
            values.setdefault(pair, []).append(each.accuracy)
    if not values:
        raise ConfigError("figure: evaluated", "needs an architecture with a backward connection")
    return values


def _cell(pair: tuple[int, int], *, inset: float = 0, **options: Any) -> Rectangle:
    source, target = pair
    side = 1 - 2 * inset
    return Rectangle((target - side / 2, source - side / 2), side, side, **options)


def _signed(value: float, form: str) -> str:
    """With a sign, unless it rounds to 0."""
    text = format(value, form)
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def _add_scale(figure: Figure, panel: Axes, gains: Sequence[float], label: str) -> Normalize:
    """The colours, centred at 0; the few worst may lie beyond, lest one failure make all others look alike."""
    sizes = sorted(map(abs, gains))
    limit = max(sizes[(len(sizes) - 1) * 9 // 10], *gains, 0.1)
    scale = Normalize(-limit, limit, clip=True)
    colours = ScalarMappable(scale, _PALETTE)
    bar = figure.colorbar(
        colours,
        ax=panel,
        shrink=0.8,
        aspect=28,
        pad=0.03,
        extend="min" if min(gains) < -limit else "neither",
        format=FuncFormatter(lambda value, _: _signed(value, "+.3g")),
    )
    bar.set_label(label, labelpad=8)
    bar.ax.spines["outline"].set_visible(False)
    return scale


def _print_numbers(
    panel: Axes,
    gains: Mapping[tuple[int, int], float],
    counts: Mapping[tuple[int, int], int],
    scale: Normalize,
    points: float,
) -> None:
    """Gain and, below it, count in each cell, which has a side of so many points."""
    size = min(points / 3.6, 10)
    for (source, target), gain in gains.items():
        colour = "white" if abs(scale(gain) - 0.5) > 0.34 else "black"
        text = _signed(gain, "+.1f" if abs(gain) < 9.95 else "+.0f")
        centred: dict[str, Any] = {"ha": "center", "color": colour}
        if not counts:
            panel.text(target, source, text, fontsize=size, va="center", **centred)
            continue
        panel.text(target, source + 0.04, text, fontsize=size, va="bottom", **centred)
        panel.text(
            target, source + 0.1, f"n={counts[source, target]}", fontsize=0.75 * size, va="top", **centred
        )


def _name_ports(panel: Axes, ports: Sequence[str]) -> None:
    labels = [f"{port}  {name}" for port, name in enumerate(ports)]
    size = 9 if len(ports) <= _MOST_WITH_NUMBERS else max(9 * _MOST_WITH_NUMBERS / len(ports), 4)
    panel.set_xticks(
        range(len(ports)), labels, rotation=45, ha="right", rotation_mode="anchor", fontsize=size
    )
    panel.set_yticks(range(len(ports)), labels, fontsize=size)
    panel.set_xlim(-0.5, len(ports) - 0.5)
    panel.set_ylim(len(ports) - 0.5, -0.5)
    panel.set_aspect("equal")
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set_xlabel("input port (spikes arrive)")
    panel.set_ylabel("output port (spikes leave)")


def _explain(
    figure: Figure, panel: Axes, *, unknown: bool, found: bool, counts: Mapping[tuple[int, int], int]
) -> None:
    if counts:
        note = "mean over the n evaluated architectures\nthat hold the connection"
        if not panel.texts:
            note += f", n = {min(counts.values())} to {max(counts.values())}"
        figure.suptitle(note, x=0.02, ha="left", **RUBRIC)
    entries = [Patch(**_UNKNOWN, label="not evaluated")] if unknown else []
    entries += [Patch(**_FOUND, label="found")] if found else []
    if entries:
        figure.legend(
            handles=entries, loc="outside lower right", ncols=2, frameon=False, fontsize=9, labelcolor=GREY
        )
