"""`snndeploy tradeoff`: what penalties on spikes cost in accuracy and save in energy, over sweeps of runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snndeploy.cli.options import json_option
from snndeploy.cli.summary import counted
from snndeploy.errors import ConfigError

if TYPE_CHECKING:
    from snndeploy.train.curves import Curve

REPORT = "tradeoff.json"
_ENERGY = "ESTIMATED: E_SNN, synaptic operations of measured spikes at 0.9 pJ"


def _finite(context: click.Context, option: click.Parameter, values: tuple[float, ...]) -> tuple[float, ...]:
    if not all(map(math.isfinite, values)):
        raise click.BadParameter("must be a finite number", context, option)
    return tuple(dict.fromkeys(values))


def _named(context: click.Context, option: click.Parameter, value: str | None) -> Path | None:
    if value == "":  # as a path it would mean the current folder
        raise click.BadParameter("must name a folder", context, option)
    return None if value is None else Path(value)


@click.command(epilog="Example: snndeploy tradeoff runs/sweep --out runs/sweep/tradeoff")
@click.argument("folders", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--above",
    type=click.FloatRange(0, 100, max_open=True),
    multiple=True,
    default=(50.0, 70.0),
    show_default=True,
    callback=_finite,
    metavar="P",
    help="Accuracy in percent above which AUC, Spearman and mutual information are taken; may be repeated.",
)
@click.option(
    "--drop",
    type=click.FloatRange(-100, 100),
    multiple=True,
    default=(0.0, 0.5, 1.0),
    show_default=True,
    callback=_finite,
    metavar="POINTS",
    help="Percentage points of the baseline's accuracy to give up; the energy it then takes is reported; may be "
    "repeated.",
)
@click.option(
    "--accuracy",
    type=click.Choice(["float32", "exact"]),
    default="float32",
    show_default=True,
    help="Test accuracy of the trained network, or of that in the exact format.",
)
@click.option(
    "--baseline",
    callback=_named,
    default=None,
    metavar="FOLDER",
    help="Runs without a penalty whose mean energy is 100 % for all curves; without it each curve has its own.",
)
@click.option(
    "--out",
    callback=_named,
    default=None,
    metavar="FOLDER",
    help="Write tradeoff.json, tradeoff.png and tradeoff.svg there.",
)
@json_option
def tradeoff(
    folders: tuple[Path, ...],
    above: tuple[float, ...],
    drop: tuple[float, ...],
    accuracy: str,
    baseline: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compare penalties by accuracy and energy over all finished runs at or below the folders RUN.

    Runs that differ in seed and penalty.intensity only make a curve. Those with intensity 0 are its baseline,
    whose mean energy is 100 %. Networks converted from an ANN make a curve for each number of time steps.
    """
    from snndeploy.cli.output import emit_json, say
    from snndeploy.train.comparison import compare
    from snndeploy.train.curves import curves
    from snndeploy.train.runs import find

    if out is not None:
        _require_folder(out)
    found = find(folders, accuracy)
    drawn = curves(found.runs, () if baseline is None else find([baseline], accuracy).runs)
    facts = {
        "accuracy": accuracy,
        "energy": _ENERGY,
        "runs": len(found.runs),
        "unfinished": [str(folder) for folder in found.unfinished],
        **compare(drawn, above, drop),
    }
    if found.unfinished:
        say(f"skipped {counted(len(found.unfinished), 'unfinished run')}, the first {found.unfinished[0]}")
    files = [] if out is None else _write(facts, drawn, out)
    if as_json:
        emit_json(facts)
    else:
        click.echo(as_text(facts))
        if files:
            click.echo(f"wrote {', '.join(path.name for path in files)} to {out}")


def _require_folder(out: Path) -> None:
    """Checks, before the work, that results can be written there."""
    taken = next((place for place in (out, *out.parents) if place.exists() or place.is_symlink()), None)
    if taken is not None and not taken.is_dir():
        raise ConfigError("--out", "must name a folder", got=f"{taken}, a file", remedy="name another")


def _write(facts: Mapping[str, Any], curves: Sequence[Curve], folder: Path) -> list[Path]:
    """Writes the report and the figure."""
    from snndeploy import figures
    from snndeploy.ir.files import write_text

    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / REPORT, json.dumps(facts, indent=2, allow_nan=False) + "\n")
    families = ["converted" if curve.is_converted else curve.penalty for curve in curves]
    lines = [
        figures.Line(
            label=curve.label,
            family=family if len(set(families)) > 1 else curve.label,
            baseline=curve.mean(curve.baseline).point,
            means=[mean.point for mean in curve.means()],
            runs=curve.points(curve.runs),
        )
        for curve, family in zip(curves, families, strict=True)
    ]
    return [folder / REPORT, *figures.tradeoff(lines, folder, accuracy=facts["accuracy"])]


def as_text(facts: Mapping[str, Any]) -> str:
    """The comparison as tables; shares in percent."""
    from snndeploy.cli.output import table

    curves = facts["curves"]
    count = f"{counted(facts['runs'], 'run')} in {counted(len(curves), 'curve')}"
    scores = ["curve", "P", "AUC(P)", "over seeds", "n", "Spearman", "MI", "MI, by labels"]
    drops = [f"{-row['drop']:+g}" if row["drop"] else "equal" for row in curves[0]["equal_accuracy"]]
    return "\n".join(
        [
            f"{count}; accuracy is {facts['accuracy']} test accuracy; energy is {facts['energy']}; shares in percent",
            "",
            table(scores, [_score_row(curve["label"], row) for curve in curves for row in curve["scores"]]),
            *_reasons(curves),
            "",
            "energy where the mean curve has the baseline's accuracy, or so many points less",
            table(["curve", "baseline", *drops], [_equal_row(curve) for curve in curves]),
            "",
            table(
                ["curve", "intensity", "runs", "accuracy", "energy", "dead neurons"],
                [_mean_row(curve["label"], mean) for curve in curves for mean in curve["means"]],
            ),
            *(["", f"published order by AUC: {' > '.join(facts['claim'])}"] if facts["orders"] else []),
            *(_order_line(order) for order in facts["orders"]),
        ]
    )


def _score_row(label: str, row: Mapping[str, Any]) -> list[object]:
    return [
        label,
        f"{row['above']:g}",
        f"{100 * row['auc']:.2f}",
        "-" if row["auc_over_seeds"] is None else _spread(row["auc_over_seeds"]),
        row["points"],
        *("-" if row[name] is None else f"{row[name]:.3f}" for name in ("spearman", "mi", "mi_paper")),
    ]


def _reasons(curves: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why numbers are missing, each reason once."""
    names = {"spearman": "Spearman", "mi": "MI", "mi_paper": "MI, by labels"}
    reasons = [
        f"{curve['label']}: no {names[name]}: {reason}"
        for curve in curves
        for row in curve["scores"]
        for name, reason in row["reasons"].items()
    ]
    return list(dict.fromkeys(reasons))


def _equal_row(curve: Mapping[str, Any]) -> list[object]:
    ratios = [row["energy_ratio"] for row in curve["equal_accuracy"]]
    return [
        curve["label"],
        _spread(curve["baseline"]["accuracy"]),
        *("never" if ratio is None else f"{100 * ratio:.1f}" for ratio in ratios),
    ]


def _mean_row(label: str, mean: Mapping[str, Any]) -> list[object]:
    shares = [_spread(mean[name]) for name in ("accuracy", "energy_ratio", "dead_rate")]
    return [label, f"{mean['intensity']:g}", mean["count"], *shares]


def _order_line(order: Mapping[str, Any]) -> str:
    found, before = "", None
    for score in order["order"]:
        sign = "" if before is None else " = " if score["mean"] == before else " > "
        found += f"{sign}{score['name']} {_spread(score)}"
        before = score["mean"]
    setting = f", {order['setting']}" if order["setting"] else ""
    return ": ".join(part for part in (f"AUC({order['above']:g}){setting}", found, order["verdict"]) if part)


def _spread(found: Mapping[str, Any]) -> str:
    """Mean in percent, and the deviation if there is one."""
    spread = "" if found["std"] is None else f" +- {100 * found['std']:.2f}"
    return f"{100 * found['mean']:.2f}{spread}"
