"""`snndeploy train`: trains a network from a configuration file, once, with several seeds, or as a sweep."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snndeploy.cli.conversion import as_text as conversion_as_text
from snndeploy.cli.conversion import convert_and_save
from snndeploy.cli.options import json_option

if TYPE_CHECKING:
    from snndeploy.cli.output import Report
    from snndeploy.ir import Network, Quantized
    from snndeploy.train.config import Config
    from snndeploy.train.data import Dataset
    from snndeploy.train.distributed import World
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
    start: Path | None,
    resume: bool,
    overwrite: bool,
    deterministic: bool,
    as_json: bool,
) -> None:
    """Train as CONFIG (a TOML file) says; write networks, metrics and the resolved configuration.

    The run folder gets the trained network with its BatchNorm, the folded float32 network, the network in the
    exact format, and a checkpoint after every epoch. The test set is used once, at the end. An ANN
    (network.neuron = "qrelu") is converted, and every spiking network that it becomes is written.
    """
    from snndeploy.cli.axes import plan, read_axes
    from snndeploy.cli.output import emit_json
    from snndeploy.cli.ranks import follow
    from snndeploy.cli.sweep import show_sweep, train_sweep
    from snndeploy.errors import ConfigError
    from snndeploy.train.config import Config
    from snndeploy.train.distributed import World

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
    world: World | None = None,
) -> dict[str, Any]:
    """Trains into a run folder, or reads what it came to if it is to be resumed and is finished.

    Raises:
        FileFormatError: The folder cannot be written, or holds a damaged checkpoint.
        SnnDeployError: The configuration asks for something impossible, or is not that of the checkpoint.
    """
    found = read_finished(config, folder) if resume else None
    if found is not None:
        return found
    if config.network.neuron == "lif":
        return train_and_save(
            config, folder, resume=resume, overwrite=overwrite, label=label, on_start=on_start, world=world
        ).facts
    trained, source = fit_into(
        config, folder, resume=resume, overwrite=overwrite, label=label, on_start=on_start, world=world
    )
    return convert_and_save(config, folder, trained, source)


def read_finished(config: Config, folder: Path) -> dict[str, Any] | None:
    """What a run came to; None if its folder does not hold all of a finished run of this configuration.

    Raises:
        FileFormatError: It holds a result that cannot be read.
    """
    from snndeploy.train.checkpoint import differing
    from snndeploy.train.products import TEST, read_test

    found = read_test(folder / TEST)
    complete = found is not None and all((folder / str(name)).is_file() for name in found["files"])
    if found is not None and complete and not differing(config, found.pop("config")):
        return found
    return None


def train_and_save(
    config: Config,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    label: str = "training",
    on_start: Callable[[], None] = lambda: None,
    world: World | None = None,
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
        world: The ranks that train this network together, of which this is the first; None for one alone.

    Raises:
        ConfigError: The folder holds a finished run of another configuration, which is not to be replaced.
        FileFormatError: The folder cannot be written.
        SnnDeployError: The configuration asks for something impossible.
    """
    from snndeploy.errors import ConfigError, QuantizeError
    from snndeploy.ir import fold, quantize, save
    from snndeploy.train import products
    from snndeploy.train.checkpoint import CHECKPOINT_FILE, as_json
    from snndeploy.train.evaluation import evaluate
    from snndeploy.train.machine import device_of
    from snndeploy.train.metrics import METRICS_FILE

    if config.network.neuron != "lif":
        raise ConfigError("network.neuron", "must be lif here", remedy="use snndeploy train")
    trained, source = fit_into(
        config, folder, resume=resume, overwrite=overwrite, label=label, on_start=on_start, world=world
    )
    device = device_of(config.device)
    save(trained, folder / products.TRAINED)
    float32 = fold(trained)
    save(float32, folder / products.FLOAT32)
    files = ["config.toml", METRICS_FILE, CHECKPOINT_FILE, products.TRAINED, products.FLOAT32]
    problem, exact, quantization = "", None, None
    try:
        quantized = quantize(float32, calibration(source, config.seed))
    except QuantizeError as error:
        problem = str(error)
    else:
        exact, quantization = quantized.network, quantization_facts(quantized)
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


def fit_into(
    config: Config,
    folder: Path,
    *,
    resume: bool,
    overwrite: bool,
    label: str,
    on_start: Callable[[], None],
    world: World | None,
) -> tuple[Network, Dataset]:
    """Trains, or goes on training, and writes what training alone leaves in a run folder.

    Arguments and errors are those of `train_and_save`.

    Returns:
        The trained network and the data.
    """
    from snndeploy.cli.output import progress
    from snndeploy.train import data, loop, products
    from snndeploy.train.distributed import World

    if not (resume or overwrite):
        products.require_replaceable(config, folder)
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
            world=world or World(),
        )
    return trained, source


def _reporters(report: Report) -> tuple[Callable[[BatchReport], None], Callable[[EpochReport], None]]:
    """What tells a progress display of a batch and of an epoch."""
    from snndeploy.cli.output import say

    validation = ""

    def on_batch(done: BatchReport) -> None:
        share = done.batch / (done.batches + 1)  # what is left is for the validation
        report(done.epoch - 1 + share, f"loss {done.loss:.3f}{validation}")

    def on_epoch(done: EpochReport) -> None:
        nonlocal validation
        if done.compile_seconds:
            say(f"compiled the network in {done.compile_seconds:.0f} s")
        validation = f", validation accuracy {done.validation_accuracy:.1%}"
        report(done.epoch, f"loss {done.loss:.3f}{validation}")

    return on_batch, on_epoch


def calibration(source: Dataset, seed: int) -> Any:
    """A few training samples as prepared input."""
    import numpy as np

    from snndeploy.train.data import network_input

    raw = source.train.take(slice(0, _CALIBRATION_SAMPLES))
    return network_input(source.present(raw, np.random.default_rng(seed), augmented=False), source.input)


def quantization_facts(quantized: Quantized) -> dict[str, float]:
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
