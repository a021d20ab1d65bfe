"""Stratified splits."""

from __future__ import annotations

import numpy as np
import pytest

from snndeploy.errors import ConfigError
from snndeploy.train.data import Samples
from snndeploy.train.data.samples import Labels
from snndeploy.train.data.split import stratified_split, validation_count


def numbered(labels: Labels) -> Samples:
    """Samples whose one pixel is their own number."""
    return Samples(np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1), labels)


def numbers(samples: Samples) -> list[int]:
    """The numbers of samples, in their order."""
    return [int(n) for n in samples.images[:, 0, 0, 0]]


EVEN = numbered(np.arange(200, dtype=np.int64) % 10)


def test_split_is_disjoint_complete_and_exact() -> None:
    """Every sample is in one part, and every class gives exactly its share."""
    kept, taken = stratified_split(EVEN, 30, seed=0)
    assert sorted(numbers(kept) + numbers(taken)) == list(range(200))
    assert np.bincount(taken.labels).tolist() == [3] * 10
    for part in (kept, taken):
        assert [n % 10 for n in numbers(part)] == part.labels.tolist()


@pytest.mark.parametrize("count", [0, 1, 7, 11, 20, 22])
def test_shares_that_are_no_whole_numbers(count: int) -> None:
    """The number asked for is met; each class gives its share rounded up or down."""
    labels = np.repeat(np.arange(3, dtype=np.int64), [12, 7, 3])
    _, taken = stratified_split(numbered(labels), count, seed=4)
    assert len(taken) == count
    given = np.bincount(taken.labels, minlength=3)
    assert (np.abs(given - count * np.array([12, 7, 3]) / 22) < 1).all()


def test_seed_decides() -> None:
    """The same seed takes the same samples, another one takes others."""
    first, again, other = (stratified_split(EVEN, 30, seed)[1] for seed in (0, 0, 1))
    assert numbers(first) == numbers(again)
    assert set(numbers(first)) != set(numbers(other))


def test_beginning_of_a_part_holds_all_classes() -> None:
    """Even where files are sorted by class: a few samples, as for calibration, stand for the whole."""
    kept, taken = stratified_split(numbered(np.repeat(np.arange(10, dtype=np.int64), 20)), 50, seed=0)
    for part in (kept, taken):
        assert set(part.labels[:20].tolist()) == set(range(10))


@pytest.mark.parametrize(
    ("asked", "default", "count"), [(0, 5000, 5000), (0, 0.2, 10_000), (0.1, 5000, 5000), (300, 0.2, 300)]
)
def test_validation_is_a_number_or_a_share(asked: float, default: float, count: int) -> None:
    """Below 1 it is a share; 0 stands for the data set's own."""
    assert validation_count(asked, default, 50_000) == count


@pytest.mark.parametrize("asked", [50_000, 60_000, 0.000_001])
def test_both_parts_hold_something(asked: float) -> None:
    """Setting aside nothing or everything is refused, with the number in question."""
    with pytest.raises(ConfigError, match=r"data\.validation: .*at least 1 of the 50000"):
        validation_count(asked, 5000, 50_000)
