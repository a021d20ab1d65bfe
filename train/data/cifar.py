"""CIFAR-10 and CIFAR-100: 60 000 colour images, 32x32, of 10 or 100 classes.

Read from the "binary version", whose files are plain records: one or two label bytes (CIFAR-100 has a coarse
label first, which is not used), then 3072 bytes, red before green before blue, row by row. The "python version"
is pickled, and reading it would run whatever is in it.

50 000 images are for training, of which 5 000 are set aside for validation unless the configuration says, as in
the spiking synaptic penalty paper (appendix A.2); a search of connections uses data.validation = 0.2. Images are
padded, cropped and mirrored as in BCNAS-SNN (appendix B); the penalty paper uses data.augment = ["randaugment"].

Source of the format, the checksums and the addresses: https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from snndeploy.errors import FileFormatError
from snndeploy.train.config import DataConfig
from snndeploy.train.data.download import fetch, unpack
from snndeploy.train.data.normalization import input_spec
from snndeploy.train.data.samples import Samples
from snndeploy.train.data.source import Parts, Source, missing, own, refuse_frames

PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One of the two data sets.

    folder: Of the unpacked files.
    train, test: Their names.
    names: The text file with one class name a line.
    labels: Label bytes of a record; the last one counts.
    records: Images in each file for training; a file for testing has 10 000.
    mean, std: Of all pixels of the training images, divided by 255, for each channel.
    """

    folder: str
    url: str
    md5: str
    train: tuple[str, ...]
    test: str
    names: str
    classes: int
    labels: int
    records: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


CIFAR10 = Variant(
    folder="cifar-10-batches-bin",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test="test_batch.bin",
    names="batches.meta.txt",
    classes=10,
    labels=1,
    records=10_000,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
CIFAR100 = Variant(
    folder="cifar-100-binary",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    train=("train.bin",),
    test="test.bin",
    names="fine_label_names.txt",
    classes=100,
    labels=2,
    records=50_000,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
)
_TEST = 10_000


def source(config: DataConfig, variant: Variant) -> Source:
    """The data set as files in the configured folder.

    Raises:
        ConfigError: A setting is for other data.
    """
    refuse_frames(config)
    return Source(
        read=partial(read, config, variant),
        shape=_SHAPE,
        highest=255,
        classes=variant.classes,
        input=input_spec(
            highest=255,
            divisor=255,
            mean=variant.mean if config.normalize else (),
            std=variant.std if config.normalize else (),
            repeat=own(config.repeat, 1),
            grid_bits=own(config.grid_bits, 8, unset=-1),
        ),
        validation=5_000,
        augment=("crop", "flip"),
    )


def read(config: DataConfig, variant: Variant, test: int = _TEST) -> Parts:
    """Reads the files, after downloading them if they are missing and the configuration says so.

    Args:
        config: Folder, download and address (of the archive).
        variant: Which of the two.
        test: How many test images there must be.

    Raises:
        ConfigError: Files are missing or cannot be downloaded.
        FileFormatError: A file is damaged.
    """
    folder = Path(config.folder) / variant.folder
    files = (*variant.train, variant.test, variant.names)
    absent = [name for name in files if not (folder / name).exists()]
    if absent and config.download:
        archive = Path(config.folder) / Path(variant.url).name
        fetch(config.url or variant.url, archive, variant.md5)
        unpack(archive, {f"{variant.folder}/{name}": folder / name for name in absent})
    elif absent:
        layout = f"{folder}/{variant.train[0]} ({variant.url}: the binary version, not the python one)"
        raise missing(config, folder / absent[0], PAGE, layout)
    parts = [_records(folder / name, variant, variant.records) for name in variant.train]
    train = Samples(np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts]))
    return Parts(
        train=train,
        test=_records(folder / variant.test, variant, test),
        classes=_names(folder / variant.names, variant.classes),
    )


def _records(path: Path, variant: Variant, count: int) -> Samples:
    size = variant.labels + _PIXELS
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileFormatError(str(path), "cannot be read", got=error.strerror) from error
    if len(data) != count * size:
        raise FileFormatError(
            str(path),
            f"must hold {count} records of {size} bytes, {count * size} in all",
            got=len(data),
            remedy="it is damaged or cut off: get it again",
        )
    records = np.frombuffer(data, np.uint8).reshape(count, size)
    labels = records[:, variant.labels - 1].astype(np.int64)
    if count and labels.max() >= variant.classes:
        raise FileFormatError(str(path), f"labels must be below {variant.classes}", got=labels.max())
    return Samples(records[:, variant.labels :].reshape(count, *_SHAPE).copy(), labels)


def _names(path: Path, count: int) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(str(path), "cannot be read as text", got=error) from error
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) != count:
        raise FileFormatError(str(path), f"must name {count} classes, one a line", got=len(names))
    return names
