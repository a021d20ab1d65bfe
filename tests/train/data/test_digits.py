"""The digits, their split, batches, and shifts."""

from __future__ import annotations

import numpy as np
import pytest

from snndeploy.ir import InputSpec
from snndeploy.train.config import DataConfig
from snndeploy.train.data import Dataset, Samples, batches, digits, load, shifted


@pytest.fixture(scope="module")
def data() -> Dataset:
    """The default data set."""
    return load(DataConfig())


def as_set(samples: Samples) -> set[bytes]:
    """The images, comparable."""
    return {image.tobytes() for image in samples.images}


def test_split_is_disjoint_and_complete(data: Dataset) -> None:
    """Every image is in exactly one part; the digits hold no image twice, so their bytes tell them apart."""
    parts = (data.train, data.validation, data.test)
    assert [len(part) for part in parts] == [1097, 300, 400]
    assert [len(as_set(part)) for part in parts] == [1097, 300, 400]
    assert len(set().union(*(as_set(part) for part in parts))) == 1797


def test_split_is_fixed_by_its_seed(data: Dataset) -> None:
    """The same seed gives the same samples in the same order, another seed other ones."""
    again, other = digits(seed=0), digits(seed=1)
    for part in ("train", "validation", "test"):
        assert np.array_equal(getattr(data, part).images, getattr(again, part).images)
        assert np.array_equal(getattr(data, part).labels, getattr(again, part).labels)
        assert as_set(getattr(data, part)) != as_set(getattr(other, part))


def test_split_is_stratified(data: Dataset) -> None:
    """Each part holds every digit in the proportion of the whole, to one or two samples."""
    labels = np.concatenate([part.labels for part in (data.train, data.validation, data.test)])
    for part in (data.train, data.validation, data.test):
        expected = np.bincount(labels) * len(part) / len(labels)
        assert np.abs(np.bincount(part.labels, minlength=10) - expected).max() < 2


def test_raw_values_and_what_becomes_of_them(data: Dataset) -> None:
    """Stored grey levels 0 to 16 become multiples of 1/16 in [0, 1] on 16x16 pixels."""
    assert data.train.images.dtype == np.uint8
    assert data.train.images.shape[1:] == (1, 8, 8)
    assert (data.train.images.min(), data.train.images.max()) == (0, 16)
    assert data.input == InputSpec(kind="image", divisor=16, repeat=2, grid_bits=4, low=0, high=1)
    x = data.input.prepare(data.train.images[:5])
    assert x.shape == (5, *data.shape) == (5, 1, 16, 16)
    np.testing.assert_array_equal(x[:, :, ::2, 1::2] * 16, data.train.images[:5])


def test_batches_visit_every_sample_once(data: Dataset) -> None:
    """In order without a generator, shuffled with one, and the same way for the same seed."""
    labels = np.concatenate([batch.labels for batch in batches(data.test, 64)])
    np.testing.assert_array_equal(labels, data.test.labels)
    first = list(batches(data.test, 64, rng=np.random.default_rng(5)))
    again = list(batches(data.test, 64, rng=np.random.default_rng(5)))
    assert [len(batch) for batch in first] == [64] * 6 + [16]
    assert set().union(*(as_set(batch) for batch in first)) == as_set(data.test)
    assert not np.array_equal(first[0].images, data.test.images[:64])
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.images, other.images)
    assert [len(batch) for batch in batches(data.test, 64, drop_last=True)] == [64] * 6


def test_labels_stay_with_their_images(data: Dataset) -> None:
    """Shuffling and shifting move images and labels together."""
    label_of = {
        image.tobytes(): label for image, label in zip(data.test.images, data.test.labels, strict=True)
    }
    rng = np.random.default_rng(0)
    for batch in batches(data.test, 100, rng=rng):
        assert [label_of[image.tobytes()] for image in batch.images] == batch.labels.tolist()
        assert np.array_equal(shifted(batch, 1, rng).labels, batch.labels)


def test_shifts_are_by_whole_pixels_with_zeros_moving_in() -> None:
    """All nine moves of one pixel occur, each an exact translation; nothing wraps around."""
    image = np.arange(1, 26, dtype=np.uint8).reshape(1, 1, 5, 5)
    samples = Samples(image.repeat(200, axis=0), np.zeros(200, np.int64))
    moved = shifted(samples, 1, np.random.default_rng(0))
    assert moved.images.shape == samples.images.shape
    framed = np.pad(image[0, 0], 1)
    expected = {framed[r : r + 5, c : c + 5].tobytes() for r in range(3) for c in range(3)}
    assert as_set(moved) == expected
    assert as_set(shifted(samples, 0, np.random.default_rng(0))) == as_set(samples)


@pytest.mark.parametrize("most", [0, 1, 3])
def test_presented_shifted_as_configured(most: int) -> None:
    """Nothing but the shift happens to training digits."""
    data = load(DataConfig(shift=most))
    batch = data.train.take(slice(0, 64))
    presented = data.present(batch, np.random.default_rng(3))
    np.testing.assert_array_equal(presented.images, shifted(batch, most, np.random.default_rng(3)).images)
    np.testing.assert_array_equal(presented.labels, batch.labels)
    plain = load(DataConfig(augment=())).present(batch, np.random.default_rng(3))
    np.testing.assert_array_equal(plain.images, batch.images)


def test_merged_for_a_final_training(data: Dataset) -> None:
    """The validation samples join those for training; validation and test samples stay what they were."""
    merged = load(DataConfig(merge_validation=True))
    assert merged.merged
    assert as_set(merged.train) == as_set(data.train) | as_set(data.validation)
    for part in ("validation", "test"):
        assert np.array_equal(getattr(merged, part).images, getattr(data, part).images)
