"""How results reach the user: a table or JSON on standard output, progress on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import click


def emit_json(value: Any) -> None:
    """Prints one JSON object."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as aligned text; numbers stand right, everything else left.

    Example:
        >>> print(table(["op", "spikes"], [["stem.lif", 7], ["a", 1234]]))
        op        spikes
        stem.lif       7
        a          1 234
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        max(len(h), *(len(row[i]) for row in cells)) if cells else len(h) for i, h in enumerate(headers)
    ]
    right = [
        bool(rows) and all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(headers))
    ]

    def line(parts: Sequence[str]) -> str:
        joined = (p.rjust(w) if r else p.ljust(w) for p, w, r in zip(parts, widths, right, strict=True))
        return "  ".join(joined).rstrip()

    return "\n".join([line(headers), *(line(row) for row in cells)])


def _cell(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


class Report(Protocol):
    """Tells how far a piece of long work has come."""

    def __call__(self, done: float, note: str = "") -> None:
        """Reports that `done` of the total is done; parts of one move a bar and print no line."""


@contextmanager
def progress(label: str, total: int) -> Iterator[Report]:
    """Shows the progress of long work: a bar on a terminal, now and then a line elsewhere.

    Without a label it shows nothing.
    """
    if not label:
        yield _nothing
    elif sys.stderr.isatty():
        with _bar(label, total) as report:
            yield report
    else:
        yield _lines(label, total)


def _nothing(done: float, note: str = "") -> None: ...


def _lines(label: str, total: int) -> Report:
    shown = 0

    def report(done: float, note: str = "") -> None:
        nonlocal shown
        done = int(done)
        if done > shown and (done >= total or done >= shown + max(total // 20, 1)):
            shown = done
            click.echo(f"{label}: {done}/{total} {note}".rstrip(), err=True)

    return report


@contextmanager
def _bar(label: str, total: int) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, TextColumn("{task.fields[note]}", markup=False), console=Console(stderr=True)
    ) as bar:
        task = bar.add_task(label, total=total, note="")

        def report(done: float, note: str = "") -> None:
            bar.update(task, completed=done, note=note)

        yield report


def say(text: str) -> None:
    """Prints a line about what is going on to standard error."""
    click.echo(text, err=True)
