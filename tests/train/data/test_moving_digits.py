"""Moving digits: the camera against scenes made by hand, paths, and the data set."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from snndeploy.errors import ConfigError
from snndeploy.train.config import DataConfig
from snndeploy.train.data import Dataset, load, network_input
from snndeploy.train.data.event_camera import OFF, ON, record
from snndeploy.train.data.moving_digits import drawn_at, paths
from snndeploy.train.data.samples import Images


def quiet(intensity: npt.ArrayLike, contrast: float = 0.3) -> Images:
    """Films one scene without noise: (time, 2, height, width)."""
    scene = np.asarray(intensity, np.float64)[None]
    frames: Images = record(scene, np.random.default_rng(0), contrast=contrast, noise=0)[0]
    return frames


def test_moving_spot() -> None:
    """A bright pixel that steps to the right: ON where it arrives, OFF where it left, nothing elsewhere."""
    scene = np.zeros((4, 1, 5))
    for step in range(4):
        scene[step, 0, step] = 1
    frames = quiet(scene)
    assert frames.shape == (3, 2, 1, 5)
    assert (ON, OFF) == (0, 1)
    assert frames[:, ON, 0].tolist() == [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]]
    assert frames[:, OFF, 0].tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0]]


def test_what_stands_still_is_not_seen() -> None:
    """A constant scene causes no event, however bright."""
    assert not quiet(np.full((5, 3, 3), 0.8)).any()


def test_small_changes_add_up() -> None:
    """Steps of 0.4 thresholds cause an event at every crossing: after 3 steps (1.2) and 5 (2.0), then 8 (3.2)."""
    contrast = 0.3
    level = np.log(0.1) + contrast * 0.4001 * np.arange(9)
    intensity = (np.exp(level) - 0.1).reshape(9, 1, 1)
    frames = quiet(intensity, contrast)
    assert frames[:, ON, 0, 0].tolist() == [0, 0, 1, 0, 1, 0, 0, 1]
    assert not frames[:, OFF].any()


def test_large_changes_are_one_event() -> None:
    """Black to white crosses eight thresholds at once; the memory follows, so the next step is silent."""
    frames = quiet(np.array([0, 1, 1, 0.0]).reshape(4, 1, 1))
    assert frames[:, ON, 0, 0].tolist() == [1, 0, 0]
    assert frames[:, OFF, 0, 0].tolist() == [0, 0, 1]


def test_background_noise_has_its_rate() -> None:
    """A constant scene shows noise only: each of 400 000 outputs fires with probability 1 %."""
    frames = record(np.zeros((10, 11, 45, 45)), np.random.default_rng(0), contrast=0.3, noise=0.01)
    assert abs(frames.mean() - 0.01) < 0.001
    assert abs(frames[:, :, ON].mean() - frames[:, :, OFF].mean()) < 0.002
    assert set(np.unique(frames)) == {0, 1}


def test_noise_does_not_hide_events() -> None:
    """Noise is added to the events of the scene, from which it differs in few places."""
    scene = np.random.default_rng(1).random((1, 6, 20, 20))
    clean = record(scene, np.random.default_rng(0), contrast=0.3, noise=0)
    noisy = record(scene, np.random.default_rng(0), contrast=0.3, noise=0.05)
    assert (noisy >= clean).all()
    assert 0 < (noisy != clean).mean() < 0.05


def test_digit_is_drawn_at_whole_and_half_places() -> None:
    """A whole place copies it; half a column to the right is the mean of both neighbours; nothing is lost."""
    digit = np.random.default_rng(0).random((1, 8, 8))
    field = drawn_at(digit, np.array([[2.0, 2.0]]), np.array([[3.0, 3.5]]), 16)
    expected = np.zeros((16, 16))
    expected[2:10, 3:11] = digit[0]
    np.testing.assert_allclose(field[0, 0], expected, atol=1e-12)
    np.testing.assert_allclose(field[0, 1], (expected + np.roll(expected, 1, axis=1)) / 2, atol=1e-12)
    assert field.max() <= 1


def test_paths_are_straight_within_the_field_and_reflected() -> None:
    """Steps have length 1 between borders; no corner leaves [0, 8]; all of the field is visited."""
    rows, columns = paths(2000, np.random.default_rng(0), steps=11, size=16)
    assert rows.shape == columns.shape == (2000, 11)
    for place in (rows, columns):
        assert place.min() >= 0
        assert place.max() <= 8
        assert np.histogram(place[:, 0], bins=8, range=(0, 8))[0].min() > 180
    length = np.hypot(np.diff(rows), np.diff(columns))
    assert length.max() < 1 + 1e-9
    assert np.mean(np.isclose(length, 1)) > 0.7
    bend = np.abs(np.diff(rows, n=2))
    away = (rows[:, 1:-1] > 1) & (rows[:, 1:-1] < 7)
    assert bend[away].max() < 1e-9
    assert bend.max() > 0.5


@pytest.fixture(scope="module")
def data() -> Dataset:
    """The default task."""
    return load(DataConfig(name="moving_digits"))


def test_data_set(data: Dataset) -> None:
    """Frames of 0 and 1, time first for the network; test and validation fixed, training afresh."""
    assert data.test.images.shape == (400, 10, 2, 16, 16)
    assert data.validation.images.shape == (300, 10, 2, 16, 16)
    assert (len(data.train), data.steps, data.readout, data.shape) == (1097, 10, 0, (2, 16, 16))
    assert np.array_equal(load(DataConfig(name="moving_digits")).test.images, data.test.images)
    other = load(DataConfig(name="moving_digits", seed=1))
    assert not np.array_equal(other.test.images, data.test.images)
    batch, rng = data.train.take(slice(0, 50)), np.random.default_rng(0)
    first, second = data.present(batch, rng), data.present(batch, rng)
    assert not np.array_equal(first.images, second.images)
    assert np.array_equal(data.present(batch, np.random.default_rng(0)).images, first.images)
    x = network_input(first, data.input)
    assert x.shape == (10, 50, 2, 16, 16)
    data.input.check(x)


def test_events_are_neither_rare_nor_everywhere(data: Dataset) -> None:
    """Between 3 and 20 % of the outputs fire at every step, ON and OFF about equally often."""
    rates = data.test.images.mean(axis=(0, 3, 4))
    assert ((rates > 0.03) & (rates < 0.2)).all()
    assert abs(rates[:, ON].mean() / rates[:, OFF].mean() - 1) < 0.25


def test_other_sizes() -> None:
    """Field and length are settings; a field on which a digit cannot move is refused."""
    data = load(DataConfig(name="moving_digits", size=24, steps=4, repeat=2))
    assert data.test.images.shape == (400, 4, 2, 24, 24)
    assert data.shape == (2, 48, 48)
    with pytest.raises(ConfigError, match=r"data\.size: must be above 8"):
        load(DataConfig(name="moving_digits", size=8))
