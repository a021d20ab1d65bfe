"""Fashion-MNIST: 70 000 grey images, 28x28, of 10 kinds of clothes.

Files lie where torchvision puts them: `FashionMNIST/raw/train-images-idx3-ubyte` and so on, with or without .gz.
54 000 images to train on, 6 000 for validation, 10 000 for the test, as in the spiking synaptic penalty paper
(appendix A.2), which also augments by RandAugment.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from snndeploy.errors import FileFormatError
from snndeploy.train.config import DataConfig
from snndeploy.train.data.download import fetch
from snndeploy.train.data.idx import read_idx
from snndeploy.train.data.normalization import input_spec
from snndeploy.train.data.samples import Samples
from snndeploy.train.data.source import Parts, Source, missing, own, refuse_frames

PAGE = "https://github.com/zalandoresearch/fashion-mnist"
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_SHAPE = (1, 28, 28)
_TRAIN, _TEST = 60_000, 10_000
_MEAN, _STD = (0.2860,), (0.3530,)  # of all pixels of the 60 000 training images, divided by 255


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
        classes=len(CLASSES),
        input=input_spec(
            highest=255,
            divisor=255,
            mean=_MEAN if config.normalize else (),
            std=_STD if config.normalize else (),
            repeat=own(config.repeat, 1),
            grid_bits=own(config.grid_bits, 8, unset=-1),
        ),
        validation=6_000,
        augment=("randaugment",),
    )


def read(config: DataConfig, train: int = _TRAIN, test: int = _TEST) -> Parts:
    """Reads the four files, after downloading those that are missing if the configuration says so.

    Args:
        config: Folder, download and address (of the folder that holds the four files).
        train: How many training images there must be.
        test: How many test images there must be.

    Raises:
        ConfigError: Files are missing or cannot be downloaded.
        FileFormatError: A file is damaged.
    """
    folder = Path(config.folder) / "FashionMNIST" / "raw"
    if config.download:
        _download(folder, config.url)
    return Parts(
        train=_part(config, folder, "train", train), test=_part(config, folder, "t10k", test), classes=CLASSES
    )


def _part(config: DataConfig, folder: Path, name: str, count: int) -> Samples:
    images = read_idx(_file(config, folder, f"{name}-images-idx3-ubyte"), axes=3)
    path = _file(config, folder, f"{name}-labels-idx1-ubyte")
    labels = read_idx(path, axes=1)
    if images.shape != (count, *_SHAPE[1:]) or len(labels) != count:
        raise FileFormatError(
            str(path.parent),
            f"the {name} files must hold {count} images of {_SHAPE[1]}x{_SHAPE[2]} and as many labels",
            got=f"images {images.shape}, labels {labels.shape}",
        )
    if labels.size and labels.max() >= len(CLASSES):
        raise FileFormatError(str(path), f"labels must be below {len(CLASSES)}", got=labels.max())
    return Samples(images[:, None], labels.astype(np.int64))


def _file(config: DataConfig, folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    layout = f"{folder}/train-images-idx3-ubyte.gz and the three other files"
    raise missing(config, folder / f"{name}.gz", PAGE, layout)


def _download(folder: Path, url: str) -> None:
    from torchvision.datasets import FashionMNIST  # noqa: PLC0415  (slow to import)

    address = url or FashionMNIST.mirrors[0]
    for name, md5 in FashionMNIST.resources:
        if not (folder / name.removesuffix(".gz")).exists():
            fetch(f"{address.rstrip('/')}/{name}", folder / name, md5)
