"""Data sets: raw samples with labels, split once and for all by a seed, and the batches drawn from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snndeploy.errors import ConfigError
from snndeploy.ir import InputSpec, Shape
from snndeploy.train.config import DataConfig

DIGITS_SPLIT = (1097, 300, 400)  # train, validation, test; 1797 images in all


@dataclass(frozen=True, eq=False)
class Samples:
    """Raw images with their labels.

    images: (samples, channels, height, width), as stored.
    labels: (samples,), whole numbers from 0.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: npt.NDArray[np.int64] | slice) -> Samples:
        """Some of the samples, in the order given."""
        return Samples(self.images[places], self.labels[places])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Disjoint samples for training, for choices made while training, and for the final figure.

    input: How raw images become the network's input.
    classes: Names of the classes.
    """

    train: Samples
    validation: Samples
    test: Samples
    input: InputSpec
    classes: tuple[str, ...]

    @property
    def shape(self) -> Shape:
        """(channels, height, width) of the network's input."""
        channels, height, width = self.train.images.shape[1:]
        return (channels, height * self.input.repeat, width * self.input.repeat)


def load(config: DataConfig) -> Dataset:
    """The data set a configuration names.

    Raises:
        ConfigError: There is none of that name.
    """
    if config.name != "digits":
        raise ConfigError("data.name", "must be digits", got=repr(config.name))
    return digits(seed=config.seed, repeat=config.repeat)


def digits(*, seed: int = 0, repeat: int = 2) -> Dataset:
    """Scikit-learn's handwritten digits: 1797 real 8x8 images of 17 grey levels, nothing to download.

    Every part holds all classes in the proportions of the whole.

    Args:
        seed: Of the split.
        repeat: How many times rows and columns are repeated; 2 makes 16x16.

    Source: UCI Optical Recognition of Handwritten Digits, as packaged by scikit-learn.
    """
    from sklearn.datasets import load_digits  # noqa: PLC0415  (slow to import)

    images, labels = load_digits(return_X_y=True)
    samples = Samples(images.reshape(-1, 1, 8, 8).astype(np.uint8), labels.astype(np.int64))
    order = stratified_order(samples.labels, seed)
    train, validation, _ = DIGITS_SPLIT
    return Dataset(
        train=samples.take(order[:train]),
        validation=samples.take(order[train : train + validation]),
        test=samples.take(order[train + validation :]),
        input=InputSpec(kind="image", divisor=16, repeat=repeat, grid_bits=4, low=0.0, high=1.0),
        classes=tuple("0123456789"),
    )


def stratified_order(labels: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """A random order of which every stretch holds the classes in nearly the proportions of the whole.

    Each class is shuffled and spread evenly over [0, 1), from a random start; all are then read from 0 to 1.
    """
    rng = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(place, kind="stable")


def batches(
    samples: Samples, size: int, *, rng: np.random.Generator | None = None, drop_last: bool = False
) -> Iterator[Samples]:
    """Batches of a data set, shuffled if a generator is given.

    Args:
        samples: What to draw from, each sample once.
        size: Samples in a batch.
        rng: Decides the order; None keeps it.
        drop_last: Leave out a last batch that is smaller than the others.
    """
    order = np.arange(len(samples)) if rng is None else rng.permutation(len(samples))
    end = len(samples) // size * size if drop_last else len(samples)
    for start in range(0, end, size):
        yield samples.take(order[start : min(start + size, end)])


def shifted(samples: Samples, most: int, rng: np.random.Generator) -> Samples:
    """Each image moved by up to `most` pixels each way, with zeros moving in."""
    height, width = samples.images.shape[2:]
    padded = np.pad(samples.images, ((0, 0), (0, 0), (most, most), (most, most)))
    rows, columns = rng.integers(0, 2 * most + 1, (2, len(samples)))
    moved = [
        image[:, row : row + height, column : column + width]
        for image, row, column in zip(padded, rows, columns, strict=True)
    ]
    return Samples(np.stack(moved), samples.labels)
