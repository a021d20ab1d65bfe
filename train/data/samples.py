"""Raw samples with their labels, the three parts of a data set, and the batches drawn from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from snndeploy.ir import InputSpec, Shape

Images: TypeAlias = npt.NDArray[np.uint8]
Labels: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Samples:
    """Raw images, or sequences of frames, with their labels.

    images: (samples, channels, height, width), or (samples, time, channels, height, width) for frames.
    labels: (samples,), whole numbers from 0.
    groups: More whole numbers for each sample, by what they mean, such as its "delay": accuracy may be
        reported for each value apart.
    """

    images: Images
    labels: Labels
    groups: Mapping[str, Labels] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: npt.NDArray[np.int64] | slice) -> Samples:
        """Some of the samples, in the order given."""
        groups = {name: values[places] for name, values in self.groups.items()}
        return Samples(self.images[places], self.labels[places], groups)


Augmentation: TypeAlias = Callable[[Images, np.random.Generator], Images]
Draw: TypeAlias = Callable[[Samples, np.random.Generator], Samples]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Disjoint samples for training, for choices made while training, and for the final figure.

    What is trained on is `present(batch, rng)` of batches of `train`. Validation and test samples are fixed
    and complete.

    train: May be images of which sequences are made afresh whenever they are presented.
    input: How raw images become the network's input.
    classes: Names of the classes.
    steps: Time steps of a sequence; None for images, which suit any number.
    readout: How many of the last steps the answer is to be read from; 0 stands for all of them.
    augment: Random changes made to training images, in this order.
    draw: Makes sequences of images; None where images are presented as they are.
    merged: The validation samples are among those for training, so they say nothing about new ones.
    """

    train: Samples
    validation: Samples
    test: Samples
    input: InputSpec
    classes: tuple[str, ...]
    steps: int | None = None
    readout: int = 0
    augment: tuple[Augmentation, ...] = ()
    draw: Draw | None = None
    merged: bool = False

    @property
    def shape(self) -> Shape:
        """(channels, height, width) of the network's input."""
        channels, height, width = self.test.images.shape[-3:]
        return (channels, height * self.input.repeat, width * self.input.repeat)

    def present(self, samples: Samples, rng: np.random.Generator, *, augmented: bool = True) -> Samples:
        """Raw input made of training samples: augmented, then drawn as sequences if that is how it is done.

        All that is random comes from `rng`, so that a generator in the same state presents the same.

        Args:
            samples: Part of `train`.
            rng: Is moved on.
            augmented: Whether images are changed at random; sequences are drawn all the same.
        """
        images = samples.images
        for change in self.augment if augmented else ():
            images = change(images, rng)
        changed = Samples(images, samples.labels, samples.groups)
        return changed if self.draw is None else self.draw(changed, rng)


def network_input(samples: Samples, spec: InputSpec) -> npt.NDArray[np.float32]:
    """Prepared input in the axes that networks take: this is the only place that knows both.

    Returns:
        (batch, *shape) for images, (time, batch, *shape) for frames.

    Raises:
        NetworkError: The raw values are not those the specification describes.
    """
    raw = np.moveaxis(samples.images, 1, 0) if spec.kind == "frames" else samples.images
    return np.ascontiguousarray(spec.prepare(raw))


def joined(first: Samples, second: Samples) -> Samples:
    """The samples of both, with the groups that both have."""
    shared = first.groups.keys() & second.groups.keys()
    return Samples(
        np.concatenate([first.images, second.images]),
        np.concatenate([first.labels, second.labels]),
        {name: np.concatenate([first.groups[name], second.groups[name]]) for name in sorted(shared)},
    )


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
