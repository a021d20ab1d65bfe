"""What all figures share: colours, matplotlib's own settings, and how a figure becomes files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snndeploy.errors import ConfigError
from snndeploy.ir.files import replacing

FORMATS = ("png", "svg")

# Okabe and Ito's palette, which colour-blind people can tell apart, without its yellow, too faint on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#555555"
RUBRIC: dict[str, Any] = {"fontsize": 9, "color": GREY}
_NO_DATE = {"png": {"Software": None}, "svg": {"Date": None}}


@contextmanager
def own_style() -> Iterator[None]:
    """Matplotlib's defaults, whatever the user's own settings, and the same names within every SVG."""
    with mpl.style.context("default"), mpl.rc_context({"svg.hashsalt": "snndeploy"}):
        yield


def plain_axes(panel: Axes) -> None:
    """A faint grid behind what is drawn, and no frame but the two axes."""
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def check_backward(source: int, target: int, ports: int) -> None:
    """Raises ConfigError unless a backward connection leads from a port to the same or an earlier one."""
    if not 0 <= target <= source < ports:
        raise ConfigError(
            f"figure: backward connection {source}:{target}",
            f"must lead from a port to the same or an earlier one, of those numbered 0 to {ports - 1}",
        )


def check_shares(where: str, values: Iterable[float]) -> None:
    """Raises ConfigError unless all are shares of 1."""
    for value in values:
        if not 0 <= value <= 1:  # neither is nan
            raise ConfigError(f"figure: {where}", "must be a share of 1", got=value)


def write(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Saves a figure in every format, each file whole or not at all.

    Raises:
        FileFormatError: A file cannot be written.
    """
    paths = [folder / f"{name}.{form}" for form in FORMATS]
    for path, form in zip(paths, FORMATS, strict=True):
        with replacing(path) as temporary:
            figure.savefig(temporary, format=form, dpi=200, metadata=_NO_DATE[form])
    return paths
