"""`snndeploy train`: trains a network from a configuration file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snndeploy.cli.options import json_option

if TYPE_CHECKING:
    from snndeploy.ir import Network
    from snndeploy.train.config import Config

TRAINED, FLOAT32, EXACT = "trained.snn.safetensors", "float32.snn.safetensors", "exact.snn.safetensors"
_CALIBRATION_SAMPLES = 128


@dataclass(frozen=True, eq=False)
class Trained:
    """What training leaves behind.

    exact: None if the network cannot be certified; `problem` then says why.
    accuracy, exact_accuracy: On the test set, which is used for nothing else.
    """

    float32: Network
    exact: Network | None
    problem: str
    accuracy: float
    exact_accuracy: float | None
    files: tuple[str, ...]


@click.command(epilog="Example: snndeploy train digits.toml --out runs/digits --set optimizer.epochs=20")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run folder to write.")
@click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Override a value of the configuration."
)
@json_option
def train(config: Path, out: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Train as CONFIG (a TOML file) says; write networks, metrics and the resolved configuration.

    The run folder gets the trained network with its BatchNorm, the folded float32 network, and the network in
    the exact format.
    """
    from snndeploy.cli.output import emit_json
    from snndeploy.train.config import Config

    resolved = Config.from_file(config, overrides)
    result = train_and_save(resolved, out)
    facts: dict[str, Any] = {
        "run": str(out),
        "test_accuracy": result.accuracy,
        "exact_test_accuracy": result.exact_accuracy,
        "exact_problem": result.problem or None,
        "files": list(result.files),
    }
    if as_json:
        emit_json(facts)
    else:
        click.echo(f"test accuracy {result.accuracy:.2%} (float32)")
        if result.exact_accuracy is None:
            click.echo(f"not in the exact format: {result.problem}")
        else:
            click.echo(f"test accuracy {result.exact_accuracy:.2%} (exact)")
        click.echo(f"wrote {', '.join(result.files)} to {out}")


def train_and_save(config: Config, folder: Path) -> Trained:
    """Trains, folds, quantises, tests, and writes everything into a run folder.

    Raises:
        FileFormatError: The folder cannot be written.
        SnnDeployError: The configuration asks for something impossible.
    """
    from snndeploy.cli.output import progress
    from snndeploy.errors import QuantizeError
    from snndeploy.ir import fold, quantize, save
    from snndeploy.train import data, loop

    make_folder(folder)
    source = data.load(config.data)
    with progress("training", config.optimizer.epochs) as report:

        def on_epoch(epoch: loop.EpochReport) -> None:
            report(epoch.epoch, f"loss {epoch.loss:.3f}, validation accuracy {epoch.validation_accuracy:.1%}")

        trained = loop.fit(config, folder, on_epoch)
    save(trained, folder / TRAINED)
    float32 = fold(trained)
    save(float32, folder / FLOAT32)
    files, problem, exact = [TRAINED, FLOAT32], "", None
    try:
        calibration = float32.input.prepare(source.train.images[:_CALIBRATION_SAMPLES])
        exact = quantize(float32, calibration).network
    except QuantizeError as error:
        problem = str(error)
    else:
        save(exact, folder / EXACT)
        files.append(EXACT)
    return Trained(
        float32=float32,
        exact=exact,
        problem=problem,
        accuracy=loop.evaluate(float32, source.test).accuracy,
        exact_accuracy=None if exact is None else loop.evaluate(exact, source.test).accuracy,
        files=("config.toml", "metrics.jsonl", *files),
    )


def make_folder(folder: Path) -> None:
    """Makes a run folder, with its parents.

    Raises:
        FileFormatError: It cannot be made.
    """
    from snndeploy.errors import FileFormatError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileFormatError(
            str(folder), "cannot be made", got=error.strerror, remedy="choose a folder that can be written"
        ) from None


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    from snndeploy.ir.files import replacing

    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
