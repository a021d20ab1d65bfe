"""Augmentations against cases made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snndeploy.errors import ConfigError
from snndeploy.train.config import DataConfig
from snndeploy.train.data.augmentation import chosen, crop, flip, randaugment, roll, shift
from snndeploy.train.data.samples import Augmentation, Images

STILL = np.random.default_rng(2).integers(1, 256, (1, 2, 16, 24)).astype(np.uint8)
MANY = STILL.repeat(400, axis=0)
FRAMES = np.random.default_rng(0).integers(1, 255, (30, 3, 2, 8, 8), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (12, 3, 32, 32)).astype(np.uint8)
ALL: list[Augmentation] = [crop, flip, roll]


def distinct(images: Images) -> set[bytes]:
    """The images, comparable."""
    return {image.tobytes() for image in images}


def test_crop_cuts_from_the_padded_image() -> None:
    """An edge of 16 is padded by 2, one of 24 by 3: all 5 x 7 windows occur, with zeros outside, and no other."""
    framed = np.pad(STILL[0], ((0, 0), (2, 2), (3, 3)))
    windows = {
        framed[:, row : row + 16, column : column + 24].tobytes() for row in range(5) for column in range(7)
    }
    assert len(windows) == 35
    assert distinct(crop(MANY, np.random.default_rng(0))) == windows


def test_crop_of_a_small_image_by_hand() -> None:
    """One pixel of padding on 8x8: the window at the upper left shows zeros there and loses the other edges."""
    image = np.arange(1, 65, dtype=np.uint8).reshape(1, 1, 8, 8)
    windows = crop(image.repeat(100, axis=0), np.random.default_rng(0))
    upper_left = np.zeros((1, 8, 8), np.uint8)
    upper_left[0, 1:, 1:] = image[0, 0, :7, :7]
    assert upper_left.tobytes() in distinct(windows)
    assert len(distinct(windows)) == 9


def test_flip_mirrors_left_and_right_only() -> None:
    """Each image comes out as it is or mirrored in its columns, about half of them each."""
    flipped = flip(MANY, np.random.default_rng(0))
    assert distinct(flipped) == {STILL[0].tobytes(), STILL[0][..., ::-1].tobytes()}
    share = np.mean([np.array_equal(image, STILL[0]) for image in flipped])
    assert 0.4 < share < 0.6


def test_roll_wraps_around_by_up_to_five() -> None:
    """All 11 x 11 moves occur and nothing gets lost."""
    rolled = roll(STILL.repeat(2000, axis=0), np.random.default_rng(0))
    moves = {
        np.roll(STILL[0], (down, right), axis=(1, 2)).tobytes()
        for down in range(-5, 6)
        for right in range(-5, 6)
    }
    assert len(moves) == 121
    assert distinct(rolled) == moves


@pytest.mark.parametrize("change", ALL)
def test_frames_of_a_sequence_move_together(change: Augmentation) -> None:
    """What is done to a sequence is done to each of its frames and channels."""
    rng = np.random.default_rng(2)
    state = rng.bit_generator.state
    changed = change(FRAMES, rng)
    assert not np.array_equal(changed, FRAMES)
    for step in range(3):
        rng.bit_generator.state = state
        np.testing.assert_array_equal(changed[:, step], change(FRAMES[:, step], rng))


@pytest.mark.parametrize("change", [*ALL, randaugment])
def test_generator_decides_and_originals_stay(change: Augmentation) -> None:
    """The same generator gives the same images, another one other ones; what was given is not written to."""
    before = COLOUR.copy()
    first = change(COLOUR, np.random.default_rng(0))
    assert np.array_equal(first, change(COLOUR, np.random.default_rng(0)))
    assert not np.array_equal(first, change(COLOUR, np.random.default_rng(1)))
    assert np.array_equal(COLOUR, before)
    assert first.dtype == np.uint8
    assert first.shape == COLOUR.shape
    assert change(COLOUR[:0], np.random.default_rng(0)).shape == (0, 3, 32, 32)


def test_shift_is_crop_with_a_padding_of_choice() -> None:
    """A crop of 16 x 16 moves by up to 2 pixels, as does a shift of 2."""
    square = STILL[..., :16].repeat(500, axis=0)
    assert distinct(shift(square, np.random.default_rng(0), most=2)) == distinct(
        crop(square, np.random.default_rng(1))
    )


def test_randaugment_leaves_pytorchs_generator_alone() -> None:
    """Neither is PyTorch's random state read, nor is it changed."""
    torch.manual_seed(1)
    first = randaugment(COLOUR, np.random.default_rng(0))
    following = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), following)
    torch.manual_seed(2)
    assert np.array_equal(randaugment(COLOUR, np.random.default_rng(0)), first)


def test_randaugment_changes_most_images_each_in_its_own_way() -> None:
    """Two of 14 operations on each: of equal images many different ones come out, in grey as in colour."""
    for image in (COLOUR[:1], COLOUR[:1, :1, :28, :28]):
        changed = randaugment(image.repeat(60, axis=0), np.random.default_rng(0))
        assert changed.shape[1:] == image.shape[1:]
        assert len(distinct(changed)) > 20


def test_chosen_by_name_in_order() -> None:
    """The data set's own stand for "auto", among others too; none is none."""

    def names(*asked: str) -> list[str]:
        found = chosen(DataConfig(name="cifar10", augment=asked), ("crop", "flip"), (3, 32, 32))
        return [getattr(change, "__name__", None) or change.func.__name__ for change in found]  # type: ignore[attr-defined]

    assert names("auto") == ["crop", "flip"]
    assert names("roll", "auto", "randaugment") == ["roll", "crop", "flip", "randaugment"]
    assert names() == []
    assert names("shift") == ["shift"]


def test_shift_takes_its_size_from_the_configuration() -> None:
    """Three pixels each way make 49 places."""
    (change,) = chosen(DataConfig(augment=("shift",), shift=3), (), (1, 16, 24))
    assert len(distinct(change(STILL.repeat(2000, axis=0), np.random.default_rng(0)))) == 49


def test_randaugment_needs_256_levels() -> None:
    """Digits have 17 levels, which its colours would leave."""
    with pytest.raises(ConfigError, match=r"256 levels, not for digits; use shift"):
        chosen(DataConfig(name="digits", augment=("randaugment",)), (), (1, 8, 8))


@pytest.mark.parametrize("shape", [(10, 2, 48, 48), (2, 16, 16)])
def test_randaugment_needs_pictures(shape: tuple[int, ...]) -> None:
    """Colours of events cannot be changed: the mistake is named before training."""
    with pytest.raises(ConfigError, match=r"data\.augment: randaugment is for images of 1 or 3 channels"):
        chosen(DataConfig(augment=("randaugment",)), (), shape)
