"""Splits that keep the proportions of the classes, decided by a seed."""

from __future__ import annotations

import numpy as np

from snndeploy.errors import ConfigError
from snndeploy.train.data.samples import Labels, Samples


def stratified_order(labels: Labels, seed: int) -> Labels:
    """A random order of which every stretch holds the classes in nearly the proportions of the whole.

    Each class is shuffled and spread evenly over [0, 1), from a random start; all are then read from 0 to 1.
    """
    rng = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(place, kind="stable")


def stratified_split(samples: Samples, count: int, seed: int) -> tuple[Samples, Samples]:
    """Takes `count` samples away, of every class its exact share.

    Where the shares are no whole numbers, the classes with the largest remainders give one more.

    Returns:
        What stays and what was taken, both in stratified order.
    """
    order = stratified_order(samples.labels, seed)
    ordered = samples.labels[order]
    classes, sizes = np.unique(ordered, return_counts=True)
    shares = sizes * count / max(len(ordered), 1)
    quotas = np.floor(shares).astype(np.int64)
    quotas[np.argsort(quotas - shares, kind="stable")[: count - int(quotas.sum())]] += 1
    taken = np.zeros(len(order), dtype=bool)
    for label, size, quota in zip(classes, sizes, quotas, strict=True):
        taken[np.flatnonzero(ordered == label)[size - quota :]] = True
    return samples.take(order[~taken]), samples.take(order[taken])


def validation_count(asked: float, default: float, total: int) -> int:
    """How many of `total` training samples are set aside.

    Args:
        asked: A share if below 1, else a number of samples; 0 stands for `default`.
        default: Of the data set, read the same way.
        total: Training samples there are.

    Raises:
        ConfigError: None would be set aside, or none would remain.
    """
    wanted = asked or default
    count = round(wanted * total) if wanted < 1 else int(wanted)
    if not 1 <= count < total:
        raise ConfigError(
            "data.validation",
            f"must set aside at least 1 of the {total} training samples and leave 1",
            got=f"{wanted:g}, which is {count}",
        )
    return count
