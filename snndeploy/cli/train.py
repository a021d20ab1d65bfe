"""`snndeploy train`: trains a network from a configuration file, once or with several seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snndeploy.cli.options import json_option

if TYPE_CHECKING:
    from snndeploy.cli.output import Report
    from snndeploy.ir import Network, Quantized
    from snndeploy.train.config import Config
    from snndeploy.train.data import Dataset
    from snndeploy.train.evaluation import Evaluation
    from snndeploy.train.metrics import BatchReport, EpochReport

_CALIBRATION_SAMPLES = 128


@dataclass(frozen=True, eq=False)
class Trained:
    """What training leaves behind.

    exact: None if the network cannot be certified; `problem` then says why.
    quantization: What quantising did, in two numbers; None if it did not succeed.
    test, exact_test: On the test set, which is used for nothing else.
    """

    float32: Network
    exact: Network | None
    problem: str
    quantization: Mapping[str, float] | None
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
            "quantization": None if self.quantization is None else dict(self.quantization),
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
@overwrite_option
@click.option("--deterministic", is_flag=True, help="The same bits in every run, on a GPU too; slower there.")
@json_option
def train(
    config: Path,
    out: Path,
    overrides: tuple[str, ...],
    seeds: int | None,
    start: Path | None,
    resume: bool,
    overwrite: bool,
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
        facts = {"run": str(out), **train_or_read(resolved, out, resume=resume, overwrite=overwrite)}
        text = as_text
    else:
        facts = {"run": str(out), **train_seeds(resolved, out, seeds, resume=resume, overwrite=overwrite)}
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
    if facts.get("quantization"):  # missing from the result of an older version
        lines.append(quantization_text(facts["quantization"]))
    lines.append(f"wrote {', '.join(facts['files'])} to {facts['run']}")
    return "\n".join(lines)


def quantization_text(found: Mapping[str, float]) -> str:
    """What quantising did, in a line."""
    return f"quantised: {found['clipped']} values clipped, {found['bits_left']:.1f} bits left in the tightest sum"


def train_or_read(
    config: Config,
    folder: Path,
    *,
    resume: bool,
    overwrite: bool,
    label: str = "training",
    on_start: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Trains into a run folder, or reads what it came to if it is to be resumed and is finished.

    Raises:
        FileFormatError: The folder cannot be written, or holds a damaged checkpoint.
        SnnDeployError: The configuration asks for something impossible, or is not that of the checkpoint.
    """
    from snndeploy.train.checkpoint import differing
    from snndeploy.train.products import TEST, read_test

    found = read_test(folder / TEST) if resume else None
    complete = found is not None and all((folder / str(name)).is_file() for name in found["files"])
    if found is not None and complete and not differing(config, found.pop("config")):
        return found
    return train_and_save(
        config, folder, resume=resume, overwrite=overwrite, label=label, on_start=on_start
    ).facts


def train_and_save(
    config: Config,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    label: str = "training",
    on_start: Callable[[], None] = lambda: None,
) -> Trained:
    """Trains, folds, quantises, tests, and writes everything into a run folder.

    What an earlier run left there is removed once the configuration is accepted and training starts afresh.

    Args:
        config: Everything that decides the run.
        folder: Made if need be.
        resume: Go on from its last checkpoint.
        overwrite: Replace a finished run of another configuration.
        label: Of the progress.
        on_start: Called when what an earlier run left is removed.

    Raises:
        ConfigError: The folder holds a finished run of another configuration, which is not to be replaced.
        FileFormatError: The folder cannot be written.
        SnnDeployError: The configuration asks for something impossible.
    """
    from snndeploy.cli.output import progress
    from snndeploy.errors import QuantizeError
    from snndeploy.ir import fold, quantize, save
    from snndeploy.train import data, loop, products
    from snndeploy.train.checkpoint import CHECKPOINT_FILE, as_json
    from snndeploy.train.evaluation import evaluate
    from snndeploy.train.machine import device_of
    from snndeploy.train.metrics import METRICS_FILE

    if not (resume or overwrite):
        products.require_replaceable(config, folder)
    device = device_of(config.device)
    source = data.load(config.data)

    def start_afresh() -> None:
        if not overwrite:  # a resumed run may have no checkpoint
            products.require_replaceable(config, folder)
        on_start()
        products.clear(folder)

    with progress(label, config.optimizer.epochs) as report:
        on_batch, on_epoch = _reporters(report)
        trained = loop.fit(
            config,
            folder,
            on_epoch,
            on_start=start_afresh,
            on_batch=on_batch,
            resume=resume,
            data=source,
        )
    save(trained, folder / products.TRAINED)
    float32 = fold(trained)
    save(float32, folder / products.FLOAT32)
    files = ["config.toml", METRICS_FILE, CHECKPOINT_FILE, products.TRAINED, products.FLOAT32]
    problem, exact, quantization = "", None, None
    try:
        quantized = quantize(float32, _calibration(source, config.seed))
    except QuantizeError as error:
        problem = str(error)
    else:
        exact, quantization = quantized.network, _quantization(quantized)
        save(exact, folder / products.EXACT)
        write_text(folder / products.QUANTIZE, _quantization_report(quantized))
        files += [products.EXACT, products.QUANTIZE]
    result = Trained(
        float32=float32,
        exact=exact,
        problem=problem,
        quantization=quantization,
        test=evaluate(float32, source.test, device=device),
        exact_test=None if exact is None else evaluate(exact, source.test, device=device),
        files=(*files, products.TEST),
    )
    # Written last: where it is, everything else is, too.
    facts = {**result.facts, "config": as_json(config)}
    write_text(folder / products.TEST, json.dumps(facts, indent=2, allow_nan=False) + "\n")
    return result


def _reporters(report: Report) -> tuple[Callable[[BatchReport], None], Callable[[EpochReport], None]]:
    """What tells a progress display of a batch and of an epoch."""
    validation = ""

    def on_batch(done: BatchReport) -> None:
        share = done.batch / (done.batches + 1)  # what is left is for the validation
        report(done.epoch - 1 + share, f"loss {done.loss:.3f}{validation}")

    def on_epoch(done: EpochReport) -> None:
        nonlocal validation
        validation = f", validation accuracy {done.validation_accuracy:.1%}"
        report(done.epoch, f"loss {done.loss:.3f}{validation}")

    return on_batch, on_epoch


def _calibration(source: Dataset, seed: int) -> Any:
    """A few training samples as prepared input."""
    import numpy as np

    from snndeploy.train.data import network_input

    raw = source.train.take(slice(0, _CALIBRATION_SAMPLES))
    return network_input(source.present(raw, np.random.default_rng(seed), augmented=False), source.input)


def _quantization(quantized: Quantized) -> dict[str, float]:
    """How many values were clipped, and by how many bits the tightest sum stays within float32."""
    return {
        "clipped": sum(rounding.clipped for rounding in quantized.roundings),
        "bits_left": min((row.bits_left for row in quantized.certificate.rows), default=24.0),
    }


def _quantization_report(quantized: Quantized) -> str:
    """All that quantising did, as JSON."""
    report = {
        "parameters": [asdict(rounding) for rounding in quantized.roundings],
        "certificate": [
            {key: getattr(row, key) for key in ("op", "grid_bits", "bound", "bits_left", "reason")}
            for row in quantized.certificate.rows
        ],
    }
    return json.dumps(report, indent=2, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    from snndeploy.ir.files import replacing

    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
