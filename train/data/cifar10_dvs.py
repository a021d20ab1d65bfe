"""CIFAR10-DVS: 10 000 recordings of moving CIFAR-10 images by a 128x128 event camera, 1 000 of each class.

Read from `CIFAR10DVS/<class>/`, either the original recordings (.aedat, the class archives at `PAGE` unpacked) or
tonic's copy (.aedat4, which needs the extra "events"); `data.download` gets the latter, 11 GB, through tonic.

Ten frames of 48x48 pixels, 9 : 1 for the test by a seeded split of each class, mirrored and rolled in training,
as in BCNAS-SNN (appendix B); a fifth of the training recordings is set aside for validation. An event count is a
mean over the area of a pixel, rounded to eighths. For the exact format choose `data.size = 64`: with 48 a ResNet
ends in a pool of 144 or 36 values, and only powers of two can be certified.

The frames of the last steps and size are kept in a file beside the folder, as reading all recordings takes
minutes.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import zipfile
from functools import partial
from pathlib import Path

import numpy as np

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.ir.files import replacing
from snndeploy.train.config import DataConfig
from snndeploy.train.data.aedat import SENSOR, import_tonic, read_events
from snndeploy.train.data.event_frames import frames, highest, unit
from snndeploy.train.data.normalization import input_spec
from snndeploy.train.data.samples import Images, Samples
from snndeploy.train.data.source import Parts, Source, missing, own
from snndeploy.train.data.split import stratified_split

PAGE = "https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671"
URL = "https://api.figshare.com/v2/file/download/38023437"  # the address in tonic answers only to browsers
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FOLDER = "CIFAR10DVS"
_PER_CLASS = 1_000
_STEPS, _SIZE, _GRID_BITS = 10, 48, 3
_SIZE_STEP = (
    16  # with others the area of a pixel is no small number of parts, and means do not fit into bytes
)
_TEST_SHARE = 10  # one in so many


def source(config: DataConfig) -> Source:
    """The data set as files in the configured folder.

    Raises:
        ConfigError: Frames of that size cannot be made.
    """
    steps, size = own(config.steps, _STEPS), own(config.size, _SIZE)
    if size % _SIZE_STEP or size > SENSOR:
        raise ConfigError(
            "data.size", f"must be a multiple of {_SIZE_STEP} up to {SENSOR}, the sensor's", got=size
        )
    return Source(
        read=partial(read, config),
        shape=(steps, 2, size, size),
        highest=highest(size),
        classes=len(CLASSES),
        input=input_spec(
            kind="frames",
            highest=highest(size),
            divisor=unit(size),
            repeat=own(config.repeat, 1),
            grid_bits=own(config.grid_bits, _GRID_BITS, unset=-1),
        ),
        validation=0.2,
        augment=("flip", "roll"),
        steps=steps,
    )


def read(config: DataConfig, per_class: int = _PER_CLASS) -> Parts:
    """Reads all recordings as frames, after downloading them if they are missing and the configuration says so.

    Args:
        config: Folder, download and address (of tonic's archive), steps, size, and the seed of the split.
        per_class: How many recordings each class must have.

    Raises:
        ConfigError: Files are missing, cannot be downloaded, or need tonic.
        FileFormatError: A file is damaged or their number is not right.
    """
    folder = Path(config.folder) / _FOLDER
    if config.download and not (folder / CLASSES[-1]).is_dir():
        _download(config)
    paths = [path for name in CLASSES for path in _recordings(config, folder / name, per_class)]
    labels = np.arange(len(CLASSES), dtype=np.int64).repeat(per_class)
    images = _frames(folder, paths, own(config.steps, _STEPS), own(config.size, _SIZE))
    train, test = stratified_split(Samples(images, labels), len(labels) // _TEST_SHARE, config.seed)
    return Parts(train=train, test=test, classes=CLASSES)


def _recordings(config: DataConfig, folder: Path, count: int) -> list[Path]:
    if not folder.is_dir():
        layout = f"{folder}/*.aedat, and so for the {len(CLASSES) - 1} other classes"
        raise missing(config, folder, PAGE, layout)
    for pattern in ("*.aedat", "*.aedat4"):
        found = sorted(folder.glob(pattern))
        if len(found) == count:
            return found
        if found:
            raise FileFormatError(str(folder), f"must hold {count} recordings {pattern}", got=len(found))
    raise FileFormatError(str(folder), f"must hold {count} recordings, .aedat or .aedat4", got=0)


def _frames(folder: Path, paths: list[Path], steps: int, size: int) -> Images:
    """The frames of all recordings, from the file beside the folder if it was made of these very files."""
    kept = folder.with_name(f"{folder.name}-{steps}x{size}.npz")
    stamp = _stamp(paths)
    damaged = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
    with contextlib.suppress(*damaged), kept.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        if str(file["stamp"]) == stamp:
            images: Images = file["images"]
            return images
    images = np.empty((len(paths), steps, 2, size, size), np.uint8)
    for place, path in enumerate(paths):
        images[place] = frames(read_events(path), steps, size, str(path))
    with contextlib.suppress(FileFormatError), replacing(kept) as temporary, temporary.open("wb") as file:
        np.savez(file, images=images, stamp=np.array(stamp))
    return images


def _stamp(paths: list[Path]) -> str:
    """Changes when a recording is added, taken away or rewritten."""
    digest = hashlib.sha256()
    for path in paths:
        stat = path.stat()
        digest.update(f"{path.parent.name}/{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _download(config: DataConfig) -> None:
    tonic = import_tonic("to download CIFAR10-DVS")
    # tonic names its folder after the class, and takes the address from it.
    fetcher = type(_FOLDER, (tonic.datasets.CIFAR10DVS,), {"url": config.url or URL})
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it prints, and our standard output may be JSON
            fetcher(save_to=config.folder)
    except (OSError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(
            "data.download",
            f"CIFAR10-DVS cannot be downloaded whole from {config.url or URL}",
            got=error,
            remedy=f"get the class archives from {PAGE} and unpack them into {config.folder}/{_FOLDER}, or name "
            "another address by data.url",
        ) from error
