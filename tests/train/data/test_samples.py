"""Samples, what is presented of them, and the axes networks take."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from snndeploy.errors import NetworkError
from snndeploy.ir import InputSpec
from snndeploy.train.data import Dataset, Samples, network_input
from snndeploy.train.data.samples import Augmentation, Draw, Images, joined

IMAGES = np.arange(6 * 2 * 4 * 4, dtype=np.uint8).reshape(6, 2, 4, 4)
LABELS = np.arange(6, dtype=np.int64)
SAMPLES = Samples(IMAGES, LABELS, {"delay": LABELS * 10})


def dataset(augment: tuple[Augmentation, ...] = (), draw: Draw | None = None) -> Dataset:
    """A data set with the same samples everywhere."""
    return Dataset(
        train=SAMPLES,
        validation=SAMPLES,
        test=SAMPLES,
        input=InputSpec(divisor=255, repeat=2),
        classes=("a", "b"),
        augment=augment,
        draw=draw,
    )


def plus(images: Images, rng: np.random.Generator, *, most: int) -> Images:
    """Adds one random number to each image."""
    return images + rng.integers(1, most, (len(images), 1, 1, 1), np.uint8)


def doubled(images: Images, rng: np.random.Generator) -> Images:
    """No change is random."""
    assert isinstance(rng, np.random.Generator)
    return images * np.uint8(2)


def twice_in_time(samples: Samples, rng: np.random.Generator) -> Samples:
    """Two frames: the image and noise."""
    noise = rng.integers(0, 255, samples.images.shape, np.uint8)
    return Samples(np.stack([samples.images, noise], axis=1), samples.labels, {"onset": samples.labels * 0})


def test_taking_keeps_what_belongs_together() -> None:
    """Images, labels and groups are taken in the same order."""
    some = SAMPLES.take(np.array([4, 1]))
    np.testing.assert_array_equal(some.images, IMAGES[[4, 1]])
    assert some.labels.tolist() == [4, 1]
    assert some.groups["delay"].tolist() == [40, 10]
    assert SAMPLES.take(slice(1, 3)).groups["delay"].tolist() == [10, 20]


def test_joining_appends_and_keeps_common_groups() -> None:
    """The second follows the first; a group only one of them has would be incomplete, so it is dropped."""
    other = Samples(IMAGES[:2] + np.uint8(1), LABELS[:2], {"delay": LABELS[:2], "speed": LABELS[:2]})
    both = joined(SAMPLES, other)
    np.testing.assert_array_equal(both.images, np.concatenate([IMAGES, IMAGES[:2] + np.uint8(1)]))
    assert both.labels.tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    assert set(both.groups) == {"delay"}
    assert both.groups["delay"].tolist() == [0, 10, 20, 30, 40, 50, 0, 1]


def test_presented_as_it_is_without_augmentation() -> None:
    """Images of a data set that changes and draws nothing are presented unchanged, with their groups."""
    presented = dataset().present(SAMPLES, np.random.default_rng(0))
    np.testing.assert_array_equal(presented.images, IMAGES)
    assert presented.groups["delay"].tolist() == SAMPLES.groups["delay"].tolist()


def test_augmentations_come_in_order_and_before_sequences_are_drawn() -> None:
    """(image + r) * 2, not image * 2 + r; the first frame drawn is the augmented image."""
    data = dataset((partial(plus, most=9), doubled), twice_in_time)
    presented = data.present(SAMPLES, np.random.default_rng(3))
    added = np.random.default_rng(3).integers(1, 9, (6, 1, 1, 1), np.uint8)
    np.testing.assert_array_equal(presented.images[:, 0], (IMAGES + added) * np.uint8(2))
    assert presented.images.shape == (6, 2, 2, 4, 4)
    assert presented.groups.keys() == {"onset"}


def test_without_augmentation_sequences_are_drawn_all_the_same() -> None:
    """As for recalibrating statistics: no image is changed, but the network gets sequences."""
    data = dataset((doubled,), twice_in_time)
    presented = data.present(SAMPLES, np.random.default_rng(3), augmented=False)
    np.testing.assert_array_equal(presented.images[:, 0], IMAGES)


def test_a_generator_in_the_same_state_presents_the_same() -> None:
    """Which is what resuming a run relies on: the generator's state is enough to go on."""
    data = dataset((partial(plus, most=9),), twice_in_time)
    rng = np.random.default_rng(5)
    data.present(SAMPLES, rng)
    state = rng.bit_generator.state
    second, third = data.present(SAMPLES, rng), data.present(SAMPLES, rng)
    resumed = np.random.default_rng(99)
    resumed.bit_generator.state = state
    for expected in (second, third):
        np.testing.assert_array_equal(data.present(SAMPLES, resumed).images, expected.images)
    assert not np.array_equal(second.images, third.images)


def test_the_shape_is_that_of_the_networks_input() -> None:
    """(channels, height, width), enlarged, whether samples are images or sequences."""
    assert dataset().shape == (2, 8, 8)
    frames = Samples(IMAGES.reshape(3, 2, 2, 4, 4), LABELS[:3])
    data = Dataset(frames, frames, frames, InputSpec(kind="frames", divisor=255), ("a", "b"))
    assert data.shape == (2, 4, 4)


def test_images_become_a_batch() -> None:
    """(batch, *shape), prepared: divided and enlarged."""
    x = network_input(SAMPLES, InputSpec(divisor=255, repeat=2))
    assert x.shape == (6, 2, 8, 8)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[:, :, 1::2, ::2] * 255, IMAGES, rtol=1e-6)


def test_frames_become_time_first() -> None:
    """(time, batch, *shape): step t of sample n is frame t as stored, normalised for each channel."""
    frames = Samples(IMAGES.reshape(2, 3, 2, 4, 4), LABELS[:2])
    spec = InputSpec(kind="frames", divisor=255, mean=(0.5, 0.25), std=(0.5, 0.5), low=-1, high=2)
    x = network_input(frames, spec)
    assert x.shape == (3, 2, 2, 4, 4)
    assert x.flags.c_contiguous
    for step in range(3):
        for sample in range(2):
            np.testing.assert_array_equal(x[step, sample], spec.prepare(frames.images[sample, step]))


def test_raw_values_out_of_range_are_refused() -> None:
    """Raw data of another range than described is not fed to a network."""
    with pytest.raises(NetworkError, match="must lie in"):
        network_input(SAMPLES, InputSpec(divisor=16))


def test_importing_the_package_is_light() -> None:
    """Neither torch nor torchvision nor scikit-learn nor tonic nor Pillow is imported until data are loaded."""
    program = (
        "import sys, snndeploy.train.data; "
        "print({'torch', 'torchvision', 'sklearn', 'tonic', 'PIL'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
