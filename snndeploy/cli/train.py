"""`snndeploy train`: trains a network from a configuration file, once or with several seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snndeploy.cli.options import json_option

if TYPE_CHECKING:
    from snndeploy.ir import Network
    from snndeploy.train.config import Config
    from snndeploy.train.data import Dataset
    from snndeploy.train.evaluation import Evaluation

TRAINED, FLOAT32, EXACT = "trained.snn.safetensors", "float32.snn.safetensors", "exact.snn.safetensors"
TEST = "test.json"
_CALIBRATION_SAMPLES = 128


@dataclass(frozen=True, eq=False)
class Trained:
    """What training leaves behind.

    exact: None if the network cannot be certified; `problem` then says why.
    test, exact_test: On the test set, which is used for nothing else.
    """

    float32: Network
    exact: Network | None
    problem: str
    test: Evaluation
    exact_test: Evaluation | None
    files: tuple[str, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """What a run came to, as JSON values."""
        return {
            "test_accuracy": self.test.accuracy,
            "exact_test_accuracy": None if self.exact_test is None else self.exact_test.accuracy,
            "exact_problem": self.problem or None,
            "test_group_accuracies": {
                name: {str(value): accuracy for value, accuracy in group.items()}
                for name, group in self.test.group_accuracies.items()
            },
            "firing_rates": dict(self.test.firing_rates),
            "dead_rate": self.test.dead_rate,
            "synops": self.test.synops,
            "estimated_energy_pj": self.test.estimated_energy_pj,
            "files": list(self.files),
        }


@click.command(epilog="Example: snndeploy train digits.toml --out runs/digits --set optimizer.epochs=20")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run folder to write.")
@click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Override a value of the configuration."
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=None,
    help="Train with so many seeds, from the configured one on, into RUN/seed0, RUN/seed1, ...",
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
@click.option("--deterministic", is_flag=True, help="The same bits in every run, on a GPU too; slower there.")
@json_option
def train(
    config: Path,
    out: Path,
    overrides: tuple[str, ...],
    seeds: int | None,
    start: Path | None,
    resume: bool,
    deterministic: bool,
    as_json: bool,
) -> None:
    """Train as CONFIG (a TOML file) says; write networks, metrics and the resolved configuration.

    The run folder gets the trained network with its BatchNorm, the folded float32 network, the network in the
    exact format, and a checkpoint after every epoch. The test set is used once, at the end.
    """
    from snndeploy.cli.output import emit_json
    from snndeploy.cli.seeds import as_text as seeds_as_text
    from snndeploy.cli.seeds import train_seeds
    from snndeploy.train.config import Config

    resolved = Config.from_file(config, overrides)
    resolved = replace(
        resolved,
        start=resolved.start if start is None else str(start),
        deterministic=deterministic or resolved.deterministic,
    )
    if seeds is None:
        facts = {"run": str(out), **train_or_read(resolved, out, resume=resume)}
        text = as_text
    else:
        facts = {"run": str(out), **train_seeds(resolved, out, seeds, resume=resume)}
        text = seeds_as_text
    if as_json:
        emit_json(facts)
    else:
        click.echo(text(facts))


def as_text(facts: Mapping[str, Any]) -> str:
    """A run in a few lines."""
    lines = [f"test accuracy {facts['test_accuracy']:.2%} (float32)"]
    for name, group in facts["test_group_accuracies"].items():
        lines += [f"  {name} {value}: {accuracy:.2%}" for value, accuracy in group.items()]
    if facts["exact_test_accuracy"] is None:
        lines.append(f"not in the exact format: {facts['exact_problem']}")
    else:
        lines.append(f"test accuracy {facts['exact_test_accuracy']:.2%} (exact)")
    lines.append(f"wrote {', '.join(facts['files'])} to {facts['run']}")
    return "\n".join(lines)


def train_or_read(config: Config, folder: Path, *, resume: bool, label: str = "training") -> dict[str, Any]:
    """Trains into a run folder, or reads what it came to if it is to be resumed and is finished.

    Raises:
        FileFormatError: The folder cannot be written, or holds a damaged checkpoint.
        SnnDeployError: The configuration asks for something impossible, or is not that of the checkpoint.
    """
    from snndeploy.train.checkpoint import differing

    found = _read_test(folder / TEST) if resume else None
    if found is not None and not differing(config, found.pop("config")):
        return found
    return train_and_save(config, folder, resume=resume, label=label).facts


def train_and_save(config: Config, folder: Path, *, resume: bool = False, label: str = "training") -> Trained:
    """Trains, folds, quantises, tests, and writes everything into a run folder.

    Raises:
        FileFormatError: The folder cannot be written.
        SnnDeployError: The configuration asks for something impossible.
    """
    from snndeploy.cli.output import progress
    from snndeploy.errors import QuantizeError
    from snndeploy.ir import fold, quantize, save
    from snndeploy.train import data, loop
    from snndeploy.train.checkpoint import CHECKPOINT_FILE, as_json
    from snndeploy.train.evaluation import evaluate
    from snndeploy.train.machine import device_of
    from snndeploy.train.metrics import METRICS_FILE, BatchReport, EpochReport

    make_folder(folder)
    device = device_of(config.device)
    source = data.load(config.data)
    with progress(label, config.optimizer.epochs) as report:
        validation = ""

        def on_batch(done: BatchReport) -> None:
            share = done.batch / (done.batches + 1)  # what is left is for the validation
            report(done.epoch - 1 + share, f"loss {done.loss:.3f}{validation}")

        def on_epoch(done: EpochReport) -> None:
            nonlocal validation
            validation = f", validation accuracy {done.validation_accuracy:.1%}"
            report(done.epoch, f"loss {done.loss:.3f}{validation}")

        trained = loop.fit(config, folder, on_epoch, on_batch=on_batch, resume=resume, data=source)
    save(trained, folder / TRAINED)
    float32 = fold(trained)
    save(float32, folder / FLOAT32)
    files, problem, exact = ["config.toml", METRICS_FILE, CHECKPOINT_FILE, TRAINED, FLOAT32], "", None
    try:
        exact = quantize(float32, _calibration(source, config.seed)).network
    except QuantizeError as error:
        problem = str(error)
    else:
        save(exact, folder / EXACT)
        files.append(EXACT)
    result = Trained(
        float32=float32,
        exact=exact,
        problem=problem,
        test=evaluate(float32, source.test, device=device),
        exact_test=None if exact is None else evaluate(exact, source.test, device=device),
        files=(*files, TEST),
    )
    # Written last: where it is, everything else is, too.
    facts = {**result.facts, "config": as_json(config)}
    write_text(folder / TEST, json.dumps(facts, indent=2, allow_nan=False) + "\n")
    return result


def _calibration(source: Dataset, seed: int) -> Any:
    """A few training samples as prepared input."""
    import numpy as np

    from snndeploy.train.data import network_input

    raw = source.train.take(slice(0, _CALIBRATION_SAMPLES))
    return network_input(source.present(raw, np.random.default_rng(seed), augmented=False), source.input)


def _read_test(path: Path) -> dict[str, Any] | None:
    """What a finished run came to, its configuration among it; None if it is not finished."""
    from snndeploy.errors import FileFormatError

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FileFormatError(
            str(path), "cannot be read", got=error, remedy="delete it and resume again"
        ) from None
    if not isinstance(found, dict) or not isinstance(found.get("config"), dict):
        raise FileFormatError(str(path), "holds no result of a run", remedy="delete it and resume again")
    return found


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
