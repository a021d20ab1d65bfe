"""What a data set is before a file of it is read, and how what was read becomes a Dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from snndeploy.errors import ConfigError
from snndeploy.ir import InputSpec
from snndeploy.train.config import DataConfig
from snndeploy.train.data.augmentation import chosen
from snndeploy.train.data.samples import Dataset, Draw, Samples, joined
from snndeploy.train.data.split import stratified_split, validation_count

_VALIDATION, _TEST = 1, 2  # streams of random numbers for what is drawn once


@dataclass(frozen=True, eq=False)
class Parts:
    """What was read from files.

    train: Training samples, with those for validation still among them if `validation` is None.
    classes: Names of the classes.
    """

    train: Samples
    test: Samples
    classes: tuple[str, ...]
    validation: Samples | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """A data set that has not been read yet.

    read: Reads it.
    shape: Of one raw sample as `read` gives it.
    highest: Its largest raw value.
    classes: Number of classes.
    input: How raw values become input; of the drawn sequences, where `draw` makes such.
    validation: How many training samples are set aside, or which share, unless the configuration says; 0 if
        `read` does it.
    augment: Names of the augmentations that "auto" stands for.
    steps, readout, draw: As in Dataset.
    draw_once: Makes the fixed validation and test sequences; None where `draw` does.
    """

    read: Callable[[], Parts]
    shape: tuple[int, ...]
    highest: int
    classes: int
    input: InputSpec
    validation: float = 0.0
    augment: tuple[str, ...] = ()
    steps: int | None = None
    readout: int = 0
    draw: Draw | None = None
    draw_once: Draw | None = None


def assemble(source: Source, parts: Parts, config: DataConfig) -> Dataset:
    """Splits, merges and draws as the configuration says.

    Raises:
        ConfigError: The configuration does not suit the data.
    """
    train, validation = _split(source, parts, config)
    once = source.draw_once or source.draw
    return Dataset(
        train=joined(train, validation) if config.merge_validation else train,
        validation=_drawn(once, validation, config.seed, _VALIDATION),
        test=_drawn(once, parts.test, config.seed, _TEST),
        input=source.input,
        classes=parts.classes,
        steps=source.steps,
        readout=source.readout,
        augment=chosen(config, source.augment, source.shape),
        draw=source.draw,
        merged=config.merge_validation,
    )


def fake_parts(source: Source, count: int, seed: int) -> Parts:
    """Random noise in place of a data set: `count` samples to train on and as many to test with."""
    rng = np.random.default_rng(seed)

    def part(size: int) -> Samples:
        images = rng.integers(0, source.highest, (size, *source.shape), np.uint8, endpoint=True)
        return Samples(images, np.arange(size, dtype=np.int64) % source.classes)

    validation = None if source.validation else part(count)
    names = tuple(str(label) for label in range(source.classes))
    return Parts(train=part(count), validation=validation, test=part(count), classes=names)


def with_spare_share(source: Source) -> Source:
    """The same data set, of which a share is set aside for validation whatever its size."""
    return replace(source, validation=min(source.validation, 0.2))


def own(asked: int, default: int, unset: int = 0) -> int:
    """What was asked for, or the data set's own value if nothing was."""
    return default if asked == unset else asked


def refuse_frames(config: DataConfig) -> None:
    """Raises ConfigError if settings of sequences are given for images."""
    for name in ("steps", "size"):
        if getattr(config, name):
            raise ConfigError(
                f"data.{name}",
                f"is for sequences of frames, which {config.name} are not",
                remedy="leave it out",
            )


def missing(config: DataConfig, path: Path, page: str, layout: str, *, download: bool = True) -> ConfigError:
    """The error for files that are not there: the exact steps to get them.

    Args:
        config: Names the data set and its folder.
        path: What was looked for first.
        page: Where it can be had.
        layout: What must then stand where.
        download: Whether we can fetch it ourselves.
    """
    ourselves = "let it be downloaded with --set data.download=true, or " if download else ""
    return ConfigError(
        "data.folder",
        f"holds no {config.name}: {path} is missing",
        got=config.folder,
        remedy=f"{ourselves}get it from {page} and unpack it so that there is {layout}; or set data.folder to "
        "where it already is",
    )


def _split(source: Source, parts: Parts, config: DataConfig) -> tuple[Samples, Samples]:
    if parts.validation is None:
        count = validation_count(config.validation, source.validation, len(parts.train))
        return stratified_split(parts.train, count, config.seed)
    if config.validation:
        raise ConfigError(
            "data.validation",
            f"cannot be chosen for {config.name}, whose split is fixed",
            got=f"{config.validation:g}",
            remedy="leave it out",
        )
    return parts.train, parts.validation


def _drawn(draw: Draw | None, samples: Samples, seed: int, stream: int) -> Samples:
    return samples if draw is None else draw(samples, np.random.default_rng([seed, stream]))
