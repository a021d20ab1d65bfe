"""The one batch that all candidates of a search are scored on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from snndeploy.errors import ConfigError
from snndeploy.train.data import Dataset, network_input

_BATCH = 11  # stream of random numbers
_FEWEST = 10  # samples of a class, for correlations within it


def balanced_batch(data: Dataset, size: int, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """Training samples, not augmented, as many of each class, with classes taking turns.

    Every class has at least 10. If not all classes fit then, a random selection of them stands for all.

    Args:
        data: Where the samples are from.
        size: At most so many samples, but at least 10.
        steps: Time steps of an image; a sequence has its own.
        seed: Of the choice.

    Returns:
        x (time, batch, *shape) and labels (batch,).

    Raises:
        ConfigError: A class has too few training samples for its part of the batch.
    """
    rng = np.random.default_rng([seed, _BATCH])
    classes = np.unique(data.train.labels)
    if len(classes) * _FEWEST > size:
        classes = np.sort(rng.permutation(classes)[: max(1, size // _FEWEST)])
    each = max(_FEWEST, size // len(classes))
    members = [rng.permutation(np.flatnonzero(data.train.labels == label))[:each] for label in classes]
    fewest = min(range(len(classes)), key=lambda place: len(members[place]))
    if (there := len(members[fewest])) < each:
        raise ConfigError(
            "score.batch",
            f"takes {each} training samples of each class",
            got=f"{there} of class {classes[fewest]}",
            remedy=f"set it to {there * len(classes)}, or leave the scores out with score.candidates = 0"
            if there >= _FEWEST
            else "leave the scores out with score.candidates = 0",
        )
    places = np.stack(members, axis=1).flatten()
    samples = data.present(data.train.take(places), rng, augmented=False)
    x = torch.from_numpy(network_input(samples, data.input))
    labels = torch.from_numpy(samples.labels)
    return (x if data.input.kind == "frames" else x.expand(steps, *x.shape)), labels
