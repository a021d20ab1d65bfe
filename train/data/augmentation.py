"""Random changes of training images. Each sample of a batch is changed in its own way, all its frames alike.

Every function takes raw images (samples, ..., height, width) and a generator, and returns new ones.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from snndeploy.errors import ConfigError
from snndeploy.train.config import DataConfig
from snndeploy.train.data.samples import Augmentation, Images, Samples

_CROP = 8  # an edge is padded by its 8th part: 40 x 40 for 32 x 32 in the source
_ROLL = 5  # pixels either way, of 48

_FEW_LEVELS = ("digits", "recall", "moving_digits")  # their brightest value is not 255


def shifted(samples: Samples, most: int, rng: np.random.Generator) -> Samples:
    """Each image moved by up to `most` pixels each way, with zeros moving in."""
    return Samples(shift(samples.images, rng, most=most), samples.labels, samples.groups)


def shift(images: Images, rng: np.random.Generator, *, most: int) -> Images:
    """Each image moved by up to `most` pixels each way, with zeros moving in."""
    rows, columns = rng.integers(0, 2 * most + 1, (2, len(images)))
    return _window(images, most, most, rows, columns)


def crop(images: Images, rng: np.random.Generator) -> Images:
    """Pads every edge with zeros by an 8th of the side and cuts out the original size at a random place.

    Source: BCNAS-SNN, appendix B, for 32 x 32 images.
    """
    height, width = (side // _CROP for side in images.shape[-2:])
    rows = rng.integers(0, 2 * height + 1, len(images))
    columns = rng.integers(0, 2 * width + 1, len(images))
    return _window(images, height, width, rows, columns)


def flip(images: Images, rng: np.random.Generator) -> Images:
    """Mirrors half of the images, left to right."""
    mirrored = rng.random(len(images)) < 0.5
    flipped = images.copy()
    flipped[mirrored] = images[mirrored][..., ::-1]
    return flipped


def roll(images: Images, rng: np.random.Generator) -> Images:
    """Moves each image by up to 5 pixels each way; what leaves on one side comes in on the other.

    Source: the event data of Deng et al., Temporal Efficient Training (ICLR 2022).
    """
    moves = rng.integers(-_ROLL, _ROLL + 1, (len(images), 2))
    rolled = [np.roll(image, move, axis=(-2, -1)) for image, move in zip(images, moves, strict=True)]
    return np.stack(rolled) if rolled else images.copy()


def randaugment(images: Images, rng: np.random.Generator) -> Images:
    """RandAugment as in torchvision: two random operations of magnitude 9 (of 30) on each image.

    PyTorch's own generator is left as it was.

    Source: Cubuk et al., RandAugment (CVPR Workshops 2020). The penalty paper uses it with unnamed settings.
    """
    import torch  # noqa: PLC0415  (slow to import)
    from torchvision.transforms import RandAugment  # noqa: PLC0415

    change = RandAugment()
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also reseed every GPU, which the fork does not restore.
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        changed = [change(torch.from_numpy(image)).numpy() for image in images]
    return np.stack(changed) if changed else images.copy()


def chosen(config: DataConfig, default: tuple[str, ...], shape: tuple[int, ...]) -> tuple[Augmentation, ...]:
    """The augmentations a configuration names.

    Args:
        config: "auto" among the names stands for the default ones.
        default: Names of those of the data set.
        shape: Of one raw sample.

    Raises:
        ConfigError: One does not suit the data.
    """
    names = [name for asked in config.augment for name in (default if asked == "auto" else (asked,))]
    return tuple(_augmentation(name, config, shape) for name in names)


def _augmentation(name: str, config: DataConfig, shape: tuple[int, ...]) -> Augmentation:
    match name:
        case "shift":
            return partial(shift, most=config.shift)
        case "crop":
            return crop
        case "flip":
            return flip
        case "roll":
            return roll
        case "randaugment":
            if config.name in _FEW_LEVELS or len(shape) != 3 or shape[0] not in (1, 3):
                raise ConfigError(
                    "data.augment",
                    f"randaugment is for images of 1 or 3 channels and 256 levels, not for {config.name}",
                    remedy="use shift, crop or flip",
                )
            return randaugment
        case _:
            raise ConfigError("data.augment", "names an unknown augmentation", got=repr(name))


def _window(
    images: Images,
    pad_rows: int,
    pad_columns: int,
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
) -> Images:
    """For each image the window of its own size that begins at a row and a column of the padded image."""
    height, width = images.shape[-2:]
    outer = [(0, 0)] * (images.ndim - 2)
    padded = np.pad(images, [*outer, (pad_rows, pad_rows), (pad_columns, pad_columns)])
    moved = np.empty_like(images)
    for place, (row, column) in enumerate(zip(rows, columns, strict=True)):
        moved[place] = padded[place, ..., row : row + height, column : column + width]
    return moved
