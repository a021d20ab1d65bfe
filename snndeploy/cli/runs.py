"""A training run with its progress on the terminal, from its configuration to its run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snndeploy.cli.conversion import convert_and_save
from snndeploy.cli.trained import Trained, save_trained
from snndeploy.errors import QuantizeError

if TYPE_CHECKING:
    from snndeploy.cli.output import Report
    from snndeploy.ir import Network
    from snndeploy.train.config import Config
    from snndeploy.train.data import Dataset
    from snndeploy.train.distributed import World
    from snndeploy.train.finetuning import FineTuned
    from snndeploy.train.metrics import BatchReport, EpochReport


def train_or_read(
    config: Config,
    folder: Path,
    *,
    resume: bool,
    overwrite: bool,
    label: str = "training",
    world: World | None = None,
) -> dict[str, Any]:
    """Trains into a run folder, or reads what it came to if it is to be resumed and is finished.

    Raises:
        FileFormatError: The folder cannot be written, or holds a damaged checkpoint.
        SnnDeployError: The configuration asks for something impossible, or is not that of the checkpoint.
    """
    from snndeploy.train.pool import using_threads

    found = read_finished(config, folder) if resume else None
    if found is not None:
        return found
    options: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "label": label, "world": world}
    with using_threads(config.threads):  # for testing, too
        if config.network.neuron == "lif":
            return train_and_save(config, folder, **options).facts
        trained, source = fit_into(config, folder, **options)
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
    world: World | None = None,
) -> Trained:
    """Trains, folds, quantises, fine-tunes if asked to, tests, and writes everything into a run folder.

    What an earlier run left there is removed once the configuration is accepted and training starts afresh.

    Args:
        config: Everything that decides the run.
        folder: Made if need be.
        resume: Go on from its last checkpoint.
        overwrite: Replace a finished run of another configuration.
        label: Of the progress.
        world: The ranks that train this network together, of which this is the first; None for one alone.

    Raises:
        ConfigError: The folder holds a finished run of another configuration, which is not to be replaced.
        FileFormatError: The folder cannot be written.
        SnnDeployError: The configuration asks for something impossible.
    """
    from snndeploy.errors import ConfigError

    if config.network.neuron != "lif":
        raise ConfigError("network.neuron", "must be lif here", remedy="use snndeploy train")
    trained, source = fit_into(config, folder, resume=resume, overwrite=overwrite, label=label, world=world)
    fine_tuned = fine_tune_in(config, folder, trained, source, resume=resume, label=label)
    return save_trained(config, folder, trained, source, fine_tuned)


def fit_into(
    config: Config,
    folder: Path,
    *,
    resume: bool,
    overwrite: bool,
    label: str,
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
    if resume:
        _make_way(config, folder, overwrite=overwrite)
    source = data.load(config.data)

    def start_afresh() -> None:
        if not overwrite:  # a resumed run may have no checkpoint
            products.require_replaceable(config, folder)
        products.clear(folder)

    with progress(label, config.optimizer.epochs) as report:
        on_batch, on_epoch = _reporters(report)
        trained = loop.fit(
            config,
            folder,
            on_epoch,
            on_start=start_afresh,
            on_change=_tell_change,
            on_batch=on_batch,
            resume=resume,
            data=source,
            world=world or World(),
        )
    return trained, source


def _make_way(config: Config, folder: Path, *, overwrite: bool) -> None:
    """Refuses, or removes, a fine-tuning of another configuration, which the training before it may not be."""
    from snndeploy.errors import ConfigError
    from snndeploy.train import products
    from snndeploy.train.checkpoint import FINE_TUNING_FILE
    from snndeploy.train.finetuning import require_resumable

    try:
        require_resumable(config, folder)
    except ConfigError:
        if not overwrite:
            raise
        for name in (products.TEST, products.FINE_TUNED, FINE_TUNING_FILE):
            products.remove(folder / name)


def fine_tune_in(
    config: Config, folder: Path, trained: Network, source: Dataset, *, resume: bool, label: str
) -> FineTuned | QuantizeError | None:
    """Fine-tunes what was trained into a run folder, if the configuration asks for it.

    Returns:
        What that led to; why there are no grids for the network; or None if nothing was asked for.

    Raises:
        ConfigError: Fine-tuning diverged.
        FileFormatError: The folder cannot be written.
    """
    from snndeploy.cli.output import progress
    from snndeploy.train.finetuning import fine_tune

    if config.quantize.format == "none":
        return None
    with progress(label and f"{label}, fine-tuning", config.quantize.epochs) as report:
        on_batch, on_epoch = _reporters(report)
        options: dict[str, Any] = {"on_change": _tell_change, "on_batch": on_batch, "resume": resume}
        try:
            return fine_tune(config, folder, trained, source, on_epoch, **options)
        except QuantizeError as error:
            return error


def _tell_change(changed: str) -> None:
    from snndeploy.cli.output import say

    say(f"resumed with {changed}; the result may differ in the last bits")


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
