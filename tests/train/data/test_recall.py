"""The recall task: what is shown when, the noise, the delays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from snndeploy.errors import ConfigError
from snndeploy.train.config import DataConfig
from snndeploy.train.data import Dataset, Samples, load, network_input
from snndeploy.train.data.recall import draw, draw_every_delay

CONFIG = DataConfig(name="recall")


@pytest.fixture(scope="module")
def data() -> Dataset:
    """The default task."""
    return load(CONFIG)


@pytest.fixture(scope="module")
def drawn(data: Dataset) -> Samples:
    """Several thousand training sequences."""
    images = data.train.take(np.arange(4000) % len(data.train))
    return data.present(images, np.random.default_rng(0))


def as_set(samples: Samples) -> set[bytes]:
    """The images, comparable."""
    return {image.tobytes() for image in samples.images}


def shown(samples: Samples) -> npt.NDArray[np.bool_]:
    """(samples, time): whether a step is one of the two that end `delay` steps before the last."""
    last = samples.images.shape[1] - 1 - samples.groups["delay"]
    step = np.arange(samples.images.shape[1])
    steps: npt.NDArray[np.bool_] = (step == last[:, None]) | (step == last[:, None] - 1)
    return steps


def test_digit_is_shown_unchanged_for_two_steps(data: Dataset, drawn: Samples) -> None:
    """At the two steps its delay says, a sequence shows exactly its own digit."""
    digits = data.train.take(np.arange(4000) % len(data.train))
    frames = drawn.images[shown(drawn)].reshape(4000, 2, 1, 8, 8)
    np.testing.assert_array_equal(frames, np.repeat(digits.images[:, None], 2, axis=1) * 4)
    np.testing.assert_array_equal(drawn.labels, digits.labels)


def test_onset_is_uniform(drawn: Samples) -> None:
    """The nine delays, 0 to 8, are equally frequent: chi-square below its 99.9 % point."""
    counts = np.bincount(drawn.groups["delay"], minlength=9)
    assert len(counts) == 9
    expected = 4000 / 9
    assert ((counts - expected) ** 2 / expected).sum() < 26.1


def test_noise_has_its_distribution(drawn: Samples) -> None:
    """Present with probability 0.3 and uniform when present: rate, mean, deviation, and all levels."""
    noise = drawn.images[~shown(drawn)].ravel()  # about two million pixels
    present = noise[noise > 0] / 64
    # A uniform value below 1/128 is rounded to 0.
    assert abs(np.mean(noise > 0) - 0.3 * (1 - 1 / 128)) < 0.002
    assert abs(present.mean() - 0.5 / (1 - 1 / 128)) < 0.003
    assert abs(noise.mean() / 64 - 0.15) < 0.001
    assert abs(present.std() - np.sqrt(1 / 12)) < 0.005
    assert set(np.unique(noise)) == set(range(65))
    counts = np.bincount(noise, minlength=65)
    assert abs(counts[64] / counts[1:64].mean() - 0.5) < 0.03  # half of a step is rounded up to 1


def test_noise_is_fresh_everywhere(drawn: Samples) -> None:
    """No two noise frames are alike, within a sequence or between sequences."""
    noise = drawn.images[~shown(drawn)]
    assert len({frame.tobytes() for frame in noise}) == len(noise)


def test_split_is_disjoint_and_fixed_by_its_seed(data: Dataset) -> None:
    """1097 digits to train on, 300 and 400 others behind the validation and test sequences."""
    parts = [data.train, first_shown(data.validation, 9), first_shown(data.test, 9)]
    assert [len(part) for part in parts] == [1097, 300, 400]
    assert len(set().union(*(as_set(part) for part in parts))) == 1797
    again, other = load(CONFIG), load(DataConfig(name="recall", seed=1))
    assert np.array_equal(again.train.images, data.train.images)
    assert np.array_equal(again.test.images, data.test.images)
    assert as_set(other.train) != as_set(data.train)


def first_shown(samples: Samples, delays: int) -> Samples:
    """The digit of each sequence of delay 0, which is its last frame."""
    first = samples.take(np.arange(0, len(samples), delays))
    return Samples(first.images[:, -1] // np.uint8(4), first.labels)


def test_test_set_has_every_digit_once_at_every_delay(data: Dataset) -> None:
    """3600 sequences, 400 of each delay, nine of each digit; validation likewise."""
    for part, count in ((data.test, 400), (data.validation, 300)):
        assert part.images.shape == (9 * count, 10, 1, 8, 8)
        assert np.bincount(part.groups["delay"]).tolist() == [count] * 9
        frames = part.images[shown(part)].reshape(count, 18, 64)
        assert (frames == frames[:, :1]).all()
        assert (part.labels.reshape(count, 9) == part.labels[::9, None]).all()


def test_training_sequences_are_drawn_afresh(data: Dataset) -> None:
    """The same digits come at other delays in other noise the next time, and the same way for the same seed."""
    rng = np.random.default_rng(7)
    batch = data.train.take(slice(0, 64))
    first, second = data.present(batch, rng), data.present(batch, rng)
    assert not np.array_equal(first.groups["delay"], second.groups["delay"])
    assert not as_set(first) & as_set(second)
    again = data.present(batch, np.random.default_rng(7))
    assert np.array_equal(again.images, first.images)


def test_what_the_network_gets(data: Dataset) -> None:
    """(time, batch, 1, 8, 8) of multiples of 1/64 in [0, 1], digits as pixel / 16; the last step answers."""
    x = network_input(data.test.take(slice(0, 9)), data.input)
    assert x.shape == (10, 9, *data.shape) == (10, 9, 1, 8, 8)
    data.input.check(x)
    np.testing.assert_array_equal(x[-1, 0], first_shown(data.test, 9).images[0] / 16)
    assert (data.steps, data.readout, data.input.kind) == (10, 1, "frames")
    assert data.augment == ()


def test_merged_for_the_final_training(data: Dataset) -> None:
    """Training on 1397 digits, those of validation among them; the test sequences stay the same."""
    merged = load(DataConfig(name="recall", merge_validation=True))
    assert (merged.merged, data.merged) == (True, False)
    assert as_set(merged.train) == as_set(data.train) | as_set(first_shown(data.validation, 9))
    assert len(merged.train) == 1397
    assert np.array_equal(merged.test.images, data.test.images)


def test_other_lengths(data: Dataset) -> None:
    """With T steps delays go up to T - 2; with two steps nothing is noise."""
    one = data.train.take(slice(0, 1))
    longer = draw_every_delay(one, np.random.default_rng(0), steps=15)
    assert longer.groups["delay"].tolist() == list(range(14))
    shortest = draw(one, np.random.default_rng(0), steps=2)
    assert (shortest.images == one.images[:, None] * 4).all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DataConfig(name="recall", steps=1), r"data\.steps: must be at least 2"),
        (DataConfig(name="recall", size=16), r"data\.size: cannot be chosen"),
        (DataConfig(name="recall", validation=100), r"data\.validation: cannot be chosen for recall"),
        (DataConfig(name="recall", augment=("shift",)), None),
    ],
)
def test_settings_that_do_not_suit(config: DataConfig, message: str | None) -> None:
    """They are named; augmentations of the digits before they are shown are allowed."""
    if message is None:
        assert len(load(config).augment) == 1
        return
    with pytest.raises(ConfigError, match=message):
        load(config)
