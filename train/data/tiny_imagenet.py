"""Tiny-ImageNet: 100 000 images for training and 10 000 for the test, 64x64, of 200 classes.

Read from the unpacked archive, `tiny-imagenet-200/`:

    wnids.txt                            one class id a line; its place is the label
    words.txt                            class id, tab, names
    train/<class id>/images/*.JPEG       500 images each
    val/val_annotations.txt              file, tab, class id, tab, four numbers of a box
    val/images/*.JPEG                    10 000 images

The official validation images are the test set, as the official test images have no labels. A fifth of the
training images is set aside for validation unless the configuration says (BCNAS-SNN, 8 : 2). Grey images become
RGB. All of it is decoded when loaded, which takes about a minute, 1.4 GB of memory, and 1.2 GB more for the split.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from snndeploy.errors import FileFormatError
from snndeploy.train.config import DataConfig
from snndeploy.train.data.normalization import input_spec
from snndeploy.train.data.samples import Images, Samples
from snndeploy.train.data.source import Parts, Source, missing, own, refuse_frames

PAGE = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
_SHAPE = (3, 64, 64)
_CLASSES, _PER_CLASS, _TEST = 200, 500, 10_000
_MEAN, _STD = (0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821)  # of all training pixels, divided by 255


def source(config: DataConfig) -> Source:
    """The data set as files in the configured folder.

    Raises:
        ConfigError: A setting is for other data.
    """
    refuse_frames(config)
    return Source(
        read=partial(read, config),
        shape=_SHAPE,
        highest=255,
        classes=_CLASSES,
        input=input_spec(
            highest=255,
            divisor=255,
            mean=_MEAN if config.normalize else (),
            std=_STD if config.normalize else (),
            repeat=own(config.repeat, 1),
            grid_bits=own(config.grid_bits, 8, unset=-1),
        ),
        validation=0.2,
        augment=("crop", "flip"),
    )


def read(
    config: DataConfig, classes: int = _CLASSES, per_class: int = _PER_CLASS, test: int = _TEST
) -> Parts:
    """Reads and decodes everything.

    Args:
        config: Folder.
        classes: How many there must be.
        per_class: How many training images each must have.
        test: How many test images there must be.

    Raises:
        ConfigError: Files are missing.
        FileFormatError: A file is damaged or their numbers are not those announced.
    """
    folder = Path(config.folder) / "tiny-imagenet-200"
    for name in ("wnids.txt", "words.txt", "train", "val/val_annotations.txt", "val/images"):
        if not (folder / name).exists():
            raise missing(config, folder / name, PAGE, f"{folder}/wnids.txt", download=False)
    ids = _lines(folder / "wnids.txt")
    _check_count(folder / "wnids.txt", "class ids", len(set(ids)), classes)
    words = dict(line.split("\t", 1) for line in _lines(folder / "words.txt") if "\t" in line)
    return Parts(
        train=_train(folder / "train", ids, per_class),
        test=_test(folder / "val", ids, test),
        classes=tuple(words.get(id_, id_).split(",")[0].strip() for id_ in ids),
    )


def _train(folder: Path, ids: list[str], per_class: int) -> Samples:
    paths: list[Path] = []
    for id_ in ids:
        found = sorted((folder / id_ / "images").glob("*.JPEG"))
        _check_count(folder / id_ / "images", "JPEG files", len(found), per_class)
        paths.extend(found)
    return Samples(_decoded(paths), np.arange(len(ids), dtype=np.int64).repeat(per_class))


def _test(folder: Path, ids: list[str], count: int) -> Samples:
    annotations = folder / "val_annotations.txt"
    rows = [line.split("\t") for line in _lines(annotations)]
    _check_count(annotations, "lines", len(rows), count)
    label_of = {id_: label for label, id_ in enumerate(ids)}
    for row in rows:
        if len(row) < 2 or row[1] not in label_of or Path(row[0]).name != row[0]:
            raise FileFormatError(
                str(annotations), "each line must have a file's name, a tab and a class id", got=row
            )
    images = _decoded([folder / "images" / row[0] for row in rows])
    return Samples(images, np.array([label_of[row[1]] for row in rows], dtype=np.int64))


def _decoded(paths: Sequence[Path]) -> Images:
    from PIL import Image  # noqa: PLC0415  (other data need it not)

    images = np.empty((len(paths), *_SHAPE), np.uint8)
    for place, path in enumerate(paths):
        try:
            with Image.open(path, formats=["JPEG"]) as image:
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:  # PIL's, for damaged files
            raise FileFormatError(str(path), "is no whole JPEG image", got=error) from error
        if pixels.shape != (*_SHAPE[1:], 3):
            raise FileFormatError(str(path), f"must be {_SHAPE[1]}x{_SHAPE[2]} pixels", got=pixels.shape[:2])
        images[place] = pixels.transpose(2, 0, 1)
    return images


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(str(path), "cannot be read as text", got=error) from error


def _check_count(path: Path, what: str, got: int, expected: int) -> None:
    if got != expected:
        raise FileFormatError(str(path), f"must hold {expected} {what}", got=got, remedy="unpack it again")
