"""Options that several commands share, and the types that check their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of a table."
)
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Override a value of the configuration."
)
data_option = click.option(
    "--data",
    default="auto",
    show_default=True,
    metavar="NAME|FILE",
    help="Samples to run: 'digits' (test images of the split with seed 0), 'random' (seeded noise), 'auto' (digits "
    "if they fit the network, else random), or a .npy file of raw samples: (samples, *shape), for frames "
    "(samples, time, *shape).",
)
samples_option = click.option(
    "--samples", type=click.IntRange(min=1), default=100, show_default=True, help="Number of samples at most."
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="CPU threads of a back end."
)
network_argument = click.argument("network", type=click.Path(path_type=Path))
backward_option = click.option(
    "--backward",
    multiple=True,
    metavar="J:I[:DELAY]",
    help="Add a backward connection from port J to port I; may be given several times.",
)


class Seeds(click.ParamType[range]):
    """FIRST:END, without the END."""

    name = "FIRST:END"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> range:
        """The seeds a text stands for."""
        if isinstance(value, range):
            return value
        parts = str(value).split(":")
        if len(parts) != 2 or not all(p.isascii() and p.isdigit() and len(p) < 10 for p in parts):
            self.fail(f"{value!r} is not of the form 10:20", param, ctx)
        seeds = range(int(parts[0]), int(parts[1]))
        if not 0 < len(seeds) <= 1000:
            self.fail(f"{value!r} are not 1 to 1000 seeds", param, ctx)
        return seeds


class Shape(click.ParamType[tuple[int, ...]]):
    """CxHxW, or a number of features."""

    name = "CxHxW"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The shape a text stands for."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split("x")
        if len(parts) not in (1, 3) or not all(p.isascii() and p.isdigit() and int(p) > 0 for p in parts):
            self.fail(f"{value!r} is not of the form 3x32x32", param, ctx)
        return tuple(int(p) for p in parts)
