"""When each population updates: populations against machine steps."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from snndeploy.errors import ConfigError
from snndeploy.figures.style import COLOURS, GREY, RUBRIC, own_style
from snndeploy.ir.files import replacing

_MOST_MACHINE_STEPS = 240  # that can be told apart; what comes later is cut off
_ROW, _NARROW, _WIDE = 0.24, 0.055, 0.3  # inches: height of a row, least and greatest width of a machine step
_LEAST = 5.0  # inches: of all machine steps together
_LETTER = 0.075  # inches: width of a letter of a name
_WIDEST = 11.0  # inches: of all machine steps together, unless they get too narrow
_NUMBERED = 0.15  # inches: width from which on a machine step shows the number of its logical step
_PALETTE = mpl.colormaps["viridis"]
_SECOND = 0.4  # opacity of the second sample
_BLANK: dict[str, Any] = {"facecolor": "white", "edgecolor": "#b5b5b5", "linestyle": ":", "linewidth": 0.8}
_HELD: dict[str, Any] = {"facecolor": GREY, "linewidth": 0}


@dataclass(frozen=True)
class Arrival:
    """A synapse.

    source: Row of the population it leaves.
    target: Row of the population it enters.
    delay: Logical time steps.
    wait: Machine steps its values are held back.
    """

    source: int
    target: int
    delay: int = 0
    wait: int = 0


@dataclass(frozen=True)
class Timetable:
    """Two samples, one after the other.

    rows: Name and first machine step of every population, in the order of execution.
    arrivals: Synapses.
    steps: Logical time steps T of a sample.
    interval: Machine steps between two logical steps (II).
    gap: Blank logical steps after each sample.
    title: Above the drawing, and the title of an SVG.
    description: What an SVG says to those who cannot see it.
    """

    rows: Sequence[tuple[str, int]]
    arrivals: Sequence[Arrival]
    steps: int
    interval: int
    gap: int
    title: str = ""
    description: str = ""

    def machine_step(self, row: int, step: int, sample: int = 0) -> int:
        """When a population updates for a logical step of a sample."""
        return self.rows[row][1] + (step + sample * (self.steps + self.gap)) * self.interval

    @property
    def length(self) -> int:
        """Machine steps of both samples."""
        return max(self.machine_step(row, self.steps - 1, 1) for row in range(len(self.rows))) + 1

    @property
    def shown(self) -> int:
        """Machine steps that are drawn."""
        return min(self.length, _MOST_MACHINE_STEPS)

    @property
    def steps_shown(self) -> int:
        """Logical steps from the first one on after which no update is drawn."""
        return -(-self.shown // self.interval)


def timetable(table: Timetable, path: Path) -> Path:
    """Draws a schedule: a box for each update, coloured by its logical step, and what arrives late as arrows.

    The first sample is drawn strongly, with the arrival of every backward connection; the second, and the blank
    steps between them, tell what streaming costs. Synapses that wait are drawn for the first logical step only,
    with a bar as long as they are held back.

    Args:
        table: What to draw.
        path: A .svg or .png file to write, whole or not at all.

    Returns:
        The path.

    Raises:
        ConfigError: Another ending, no population, or a synapse of one there is not.
        FileFormatError: The file cannot be written.
    """
    form = path.suffix.lower().removeprefix(".")
    if form not in ("svg", "png"):
        raise ConfigError(f"figure: {path}", "the name must end in .svg or .png")
    _check(table)
    width = min(max(_WIDEST / table.shown, _NARROW), _WIDE)
    wide = max(width * table.shown, _LEAST) + _LETTER * max(len(name) for name, _ in table.rows) + 0.4
    heading = textwrap.wrap(table.title, int(wide / (1.5 * _LETTER)))
    with own_style():
        figure = Figure(
            figsize=(wide, _ROW * len(table.rows) + 1.5 + 0.2 * len(heading)), layout="constrained"
        )
        panel = figure.add_subplot()
        _add_axes(panel, table)
        colours = [to_hex(_PALETTE(0.95 - 0.85 * t / max(table.steps - 1, 1))) for t in range(table.steps)]
        _draw_updates(panel, table, colours)
        if width >= _NUMBERED:
            _print_steps(panel, table, colours)
        _draw_waits(panel, table)
        _draw_backward(panel, table)
        _explain(figure, table, colours)
        figure.suptitle("\n".join(heading), x=0.01, ha="left", fontsize=11, parse_math=False)
        return _write(figure, path, form, table)


def _check(table: Timetable) -> None:
    if not table.rows:
        raise ConfigError("figure: populations", "needs at least one")
    for arrival in table.arrivals:
        if not {arrival.source, arrival.target} <= set(range(len(table.rows))):
            raise ConfigError(
                f"figure: synapse {arrival.source} -> {arrival.target}",
                f"populations are numbered 0 to {len(table.rows) - 1}",
            )


def _add_axes(panel: Axes, table: Timetable) -> None:
    panel.set_xlim(-0.5, table.shown - 0.5)
    panel.set_ylim(len(table.rows) - 0.5, -0.5)
    panel.set_yticks(range(len(table.rows)), [name for name, _ in table.rows], fontsize=8)
    for label in panel.get_yticklabels():
        label.set_parse_math(False)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    cut = f" (the first {table.shown} of {table.length})" if table.shown < table.length else ""
    panel.set_xlabel(f"machine step{cut}")
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.tick_params(axis="y", length=0)
    panel.hlines(range(len(table.rows)), -0.5, table.shown - 0.5, color="#eeeeee", linewidth=0.6, zorder=0)


def _boxes(table: Timetable, step: int, sample: int) -> list[Rectangle]:
    """The updates of all populations for one logical step."""
    starts = [table.machine_step(row, step, sample) for row in range(len(table.rows))]
    return [Rectangle((k - 0.46, row - 0.42), 0.92, 0.84) for row, k in enumerate(starts) if k < table.shown]


def _draw_updates(panel: Axes, table: Timetable, colours: Sequence[str]) -> None:
    for sample in (0, 1):
        for step, colour in enumerate(colours[: table.steps_shown]):
            boxes = PatchCollection(
                _boxes(table, step, sample), facecolor=colour, linewidth=0, alpha=_SECOND if sample else 1
            )
            boxes.set_label(f"sample {sample}, logical step {step}")
            panel.add_collection(boxes, autolim=False)
    for step in range(table.steps, min(table.steps + table.gap, table.steps_shown)):
        blank = PatchCollection(_boxes(table, step, 0), **_BLANK)
        blank.set_label(f"blank step {step - table.steps}")
        panel.add_collection(blank, autolim=False)


def _print_steps(panel: Axes, table: Timetable, colours: Sequence[str]) -> None:
    for sample in (0, 1):
        for step, colour in enumerate(colours[: table.steps_shown]):
            light = sample == 1 or sum(int(colour[i : i + 2], 16) for i in (1, 3, 5)) > 360
            for row in range(len(table.rows)):
                k = table.machine_step(row, step, sample)
                if k < table.shown:
                    panel.text(
                        k,
                        row,
                        str(step),
                        ha="center",
                        va="center",
                        fontsize=6.5,
                        color="black" if light else "white",
                    )


def _draw_waits(panel: Axes, table: Timetable) -> None:
    """A bar at the foot of the target's row from arrival to release, and where its values come from."""
    for a in table.arrivals:
        if not a.wait:
            continue
        leaves = table.machine_step(a.source, 0)
        bar = Rectangle((leaves + 0.5, a.target + 0.26), a.wait, 0.16, label="wait", zorder=2.5, **_HELD)
        panel.add_patch(bar)
        way: dict[str, Any] = {"color": GREY, "linewidth": 0.8, "zorder": 2.4}
        panel.plot([leaves + 0.46, leaves + 0.5], [a.source, a.target + 0.34], **way)


def _arrows(table: Timetable) -> Iterator[tuple[Arrival, tuple[int, int], tuple[int, int]]]:
    """Every arrival of delayed values within the first sample, from and to (machine step, row)."""
    for a in table.arrivals:
        for step in range(table.steps - a.delay if a.delay else 0):
            start = table.machine_step(a.source, step), a.source
            end = table.machine_step(a.target, step + a.delay), a.target
            if end[0] < table.shown:
                yield a, start, end


def _draw_backward(panel: Axes, table: Timetable) -> None:
    kinds = list(dict.fromkeys((a.source, a.target, a.delay) for a, _, _ in _arrows(table)))
    for a, (left, low), (right, high) in _arrows(table):
        colour = COLOURS[(1 + kinds.index((a.source, a.target, a.delay))) % len(COLOURS)]
        arrow = FancyArrowPatch(
            (left + 0.46, low),
            (right - 0.46, high),
            arrowstyle="-|>,head_length=0.4,head_width=0.18",
            connectionstyle="arc3,rad=0.12",
            mutation_scale=9,
            shrinkA=0,
            shrinkB=0,
            color=colour,
            linewidth=1.1,
            zorder=3,
            label=f"{a.source}→{a.target}, delay {a.delay}",
        )
        panel.add_patch(arrow)


def _explain(figure: Figure, table: Timetable, colours: Sequence[str]) -> None:
    entries: list[Any] = [
        Patch(facecolor=colours[0], label="logical step 0"),
        Patch(facecolor=colours[-1], label=f"logical step {table.steps - 1}"),
        Patch(facecolor=colours[-1], alpha=_SECOND, label="of the next sample"),
    ]
    if len(colours) == 1:
        del entries[1]
    if table.gap:
        entries.append(Patch(**_BLANK, label="blank step"))
    if any(a.wait for a in table.arrivals):
        entries.append(Line2D([], [], color=GREY, linewidth=3, label="held back (logical step 0)"))
    if any(True for _ in _arrows(table)):
        entries.append(Line2D([], [], color=COLOURS[1], label="delayed spikes arrive"))
    figure.legend(
        handles=entries,
        loc="outside lower left",
        ncols=3,
        frameon=False,
        fontsize=RUBRIC["fontsize"],
        labelcolor=GREY,
    )


def _write(figure: Figure, path: Path, form: str, table: Timetable) -> Path:
    """The same drawing gives the same bytes; an SVG says in words what it shows."""
    if form == "png":
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=160, metadata={"Software": None})
        return path
    page = io.StringIO()
    title = table.title or "Schedule"
    figure.savefig(page, format="svg", metadata={"Date": None, "Title": title})
    text = re.sub(
        r"</title>",
        lambda _: f"</title>\n <desc>{escape(table.description)}</desc>",
        page.getvalue(),
        count=1,
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
