"""`snndeploy train`: trains a network from a configuration file, once, with several seeds, or as a sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snndeploy.cli.conversion import as_text as conversion_as_text
from snndeploy.cli.options import json_option, set_option
from snndeploy.cli.runs import train_or_read
from snndeploy.cli.trained import finetuning_lines, quantization_text

if TYPE_CHECKING:
    from snndeploy.train.config import Config


def _named_folder(context: click.Context, option: click.Parameter, value: str) -> Path:
    if not value:  # as a path it would mean the current folder
        raise click.BadParameter("must name a folder", context, option)
    return Path(value)


def out_option(**options: Any) -> Callable[[Any], Any]:
    """The option that names the run folder, required or with a default."""
    return click.option(
        "--out", metavar="FOLDER", callback=_named_folder, help="The run folder to write.", **options
    )


overwrite_option = click.option(
    "--overwrite",
    is_flag=True,
    help="Replace a finished run of another configuration in the run folder.",
)


@click.command(
    epilog="Example: snndeploy train configs/digits.toml --out runs/digits --set optimizer.epochs=20"
)
@click.argument("config", type=click.Path(path_type=Path))
@out_option(required=True)
@set_option
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=None,
    help="Train with so many seeds, from the configured one on, into RUN/seed0, RUN/seed1, ...",
)
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="A.B=C,D",
    help="Train with each of several values, into RUN/a.b=c, ...; given several times, with all combinations. "
    "Values that hold commas or are lists stand in an array: 'network.backward=[[\"4:2\"], []]'.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes among which the runs of --seeds and --sweep are shared out.",
)
@click.option(
    "--quantize",
    type=click.Choice(["exact", "loihi"]),
    default=None,
    help="Then fine-tune on the grids of a number format; as --set quantize.format=... Section [quantize] says how.",
)
@click.option(
    "--from",
    "start",
    type=click.Path(path_type=Path),
    default=None,
    metavar="NETWORK",
    help="Start from the weights of a network file, trained, folded or exact, of the same graph; it may lack "
    "backward connections.",
)
@click.option("--resume", is_flag=True, help="Go on with what is unfinished in the run folder.")
@overwrite_option
@click.option("--deterministic", is_flag=True, help="The same bits in every run, on a GPU too; slower there.")
@json_option
def train(
    config: Path,
    out: Path,
    overrides: tuple[str, ...],
    seeds: int | None,
    sweeps: tuple[str, ...],
    workers: int,
    quantize: str | None,
    start: Path | None,
    resume: bool,
    overwrite: bool,
    deterministic: bool,
    as_json: bool,
) -> None:
    """Train as CONFIG (a TOML file) says; write networks, metrics and the resolved configuration.

    The run folder gets the trained network with its BatchNorm, the folded float32 network, the network in the
    exact format, the fine-tuned one if asked for, and a checkpoint after every epoch. The test set is used once,
    at the end. An ANN (network.neuron = "qrelu") is converted, and every spiking network that it becomes is
    written.
    """
    from snndeploy.cli.axes import plan, read_axes
    from snndeploy.cli.output import emit_json
    from snndeploy.cli.ranks import follow
    from snndeploy.cli.sweep import show_sweep, train_sweep
    from snndeploy.errors import ConfigError
    from snndeploy.train.config import Config
    from snndeploy.train.distributed import World

    if quantize is not None:
        overrides = (*overrides, f"quantize.format={quantize}")

    def resolve(settings: Sequence[str] = ()) -> Config:
        resolved = Config.from_file(config, (*overrides, *settings))
        return replace(
            resolved,
            start=resolved.start if start is None else str(start),
            deterministic=deterministic or resolved.deterministic,
        )

    if sweeps or seeds is not None:
        sweep = plan(resolve, read_axes(sweeps, overrides), seeds)
        done = train_sweep(sweep, out, workers=workers, resume=resume, overwrite=overwrite)
        show_sweep({"run": str(out), **done}, as_json=as_json)
        return
    if workers > 1:
        raise ConfigError("--workers", "has one run only to share out", remedy="give --sweep or --seeds")
    world = World.from_environment()
    if not world.is_first:
        follow(resolve(), out, world, resume=resume)
        return
    found = train_or_read(resolve(), out, resume=resume, overwrite=overwrite, world=world)
    facts = {"run": str(out), **found}
    if as_json:
        emit_json(facts)
    else:
        click.echo(as_text(facts))


def as_text(facts: Mapping[str, Any]) -> str:
    """A run in a few lines."""
    if facts.get("conversions"):
        return conversion_as_text(facts)
    lines = [f"test accuracy {facts['test_accuracy']:.2%} (float32)"]
    for name, group in facts["test_group_accuracies"].items():
        lines += [f"  {name} {value}: {accuracy:.2%}" for value, accuracy in group.items()]
    if facts["exact_test_accuracy"] is None:
        lines.append(f"not in the exact format: {facts['exact_problem']}")
    else:
        lines.append(f"test accuracy {facts['exact_test_accuracy']:.2%} (exact)")
    if facts.get("quantization"):  # missing from the result of an older version
        lines.append(quantization_text(facts["quantization"]))
    if facts.get("finetuning"):
        lines += finetuning_lines(facts)
    lines.append(f"wrote {', '.join(facts['files'])} to {facts['run']}")
    return "\n".join(lines)
