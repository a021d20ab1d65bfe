"""Scikit-learn's handwritten digits: real images that need no download."""

from __future__ import annotations

from functools import partial

import numpy as np

from snndeploy.train.config import DataConfig
from snndeploy.train.data.normalization import input_spec
from snndeploy.train.data.samples import Dataset, Labels, Samples
from snndeploy.train.data.source import Parts, Source, assemble, own, refuse_frames
from snndeploy.train.data.split import stratified_order

DIGITS_SPLIT = (1097, 300, 400)  # train, validation, test; 1797 images in all
DIGITS_SHAPE = (1, 8, 8)
DIGITS_HIGHEST = 16  # 17 grey levels
DIGITS_CLASSES = tuple("0123456789")


def digits(*, seed: int = 0, repeat: int = 2) -> Dataset:
    """Scikit-learn's handwritten digits: 1797 real 8x8 images of 17 grey levels, nothing to download.

    Every part holds all classes in the proportions of the whole.

    Args:
        seed: Of the split.
        repeat: How many times rows and columns are repeated; 2 makes 16x16.

    Source: UCI Optical Recognition of Handwritten Digits, as packaged by scikit-learn.
    """
    config = DataConfig(name="digits", seed=seed, repeat=repeat)
    return assemble(source(config), _read(seed), config)


def source(config: DataConfig) -> Source:
    """The digits as images: grey levels divided by 16, enlarged twice unless the configuration says.

    Raises:
        ConfigError: A setting is for other data.
    """
    refuse_frames(config)
    return Source(
        read=partial(_read, config.seed),
        shape=DIGITS_SHAPE,
        highest=DIGITS_HIGHEST,
        classes=len(DIGITS_CLASSES),
        input=input_spec(
            highest=DIGITS_HIGHEST,
            divisor=DIGITS_HIGHEST,
            repeat=own(config.repeat, 2),
            grid_bits=own(config.grid_bits, 4, unset=-1),
        ),
        augment=("shift",),
    )


def all_digits() -> Samples:
    """The 1797 digits in scikit-learn's order: (samples, 1, 8, 8), values 0 to 16."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  (slow to import)

    images, labels = load_digits(return_X_y=True)
    return Samples(images.reshape(-1, *DIGITS_SHAPE).astype(np.uint8), labels.astype(np.int64))


def cut(order: Labels) -> Parts:
    """The digits in an order, cut into the sizes of `DIGITS_SPLIT`."""
    samples = all_digits()
    train, validation, _ = DIGITS_SPLIT
    return Parts(
        train=samples.take(order[:train]),
        validation=samples.take(order[train : train + validation]),
        test=samples.take(order[train + validation :]),
        classes=DIGITS_CLASSES,
    )


def _read(seed: int) -> Parts:
    return cut(stratified_order(all_digits().labels, seed))
