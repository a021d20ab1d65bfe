"""The first population: the best candidates of two lists of scores.

Source: BCNAS-SNN, section 4.2. Quotas and weights are not part of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest

from snndeploy.errors import ConfigError
from snndeploy.train.search.space import Architecture

Scored = Sequence[float | None]  # None: rejected


def select(
    candidates: Sequence[Architecture],
    size: int,
    *,
    n: Scored | None = None,
    e: Scored | None = None,
    weights: tuple[float, float] = (1.0, 1.0),
    quota: bool = False,
) -> list[Architecture]:
    """The best candidates of both lists, without duplicates: P_temp.

    Both lists share the places by their weights: with equal ones, of 20 the best 10 of either. What that leaves
    open because both lists name the same candidates is filled alternately down both lists.

    Args:
        candidates: In the order drawn; of equal scores the earlier one is taken.
        size: How many to choose; all there are, if fewer.
        n: N-score of every candidate, the larger the better; None if it was not computed.
        e: E-score, the same.
        weights: How much either score counts, in [0, 1]. One of weight 0 is not looked at. Without any score
            that counts the candidates are chosen in the order drawn, which is random.
        quota: Whether to take no more candidates of the same earliest input port than an equal share for each
            port; unless too few are left that way.

    Raises:
        ConfigError: A weight is out of range, a list has another length, or the scores rejected everything.
    """
    scores = [
        (list(score), weight) for score, weight in zip((n, e), weights, strict=True) if score is not None
    ]
    for score, weight in scores:
        if not 0 <= weight <= 1:
            raise ConfigError("weight of a score", "must lie in [0, 1]", got=weight)
        if len(score) != len(candidates):
            raise ConfigError(
                "scores", f"must be one for each of {len(candidates)} candidates", got=len(score)
            )
    counting = [(score, weight) for score, weight in scores if weight]
    accepted = [i for i in range(len(candidates)) if all(score[i] is not None for score, _ in counting)]
    if candidates and not accepted:
        raise ConfigError(
            "scores",
            "rejected every candidate",
            remedy="a silent layer does that: check the backbone and its input",
        )
    lists = [_descending(score, accepted) for score, _ in counting] or [accepted]
    places = _shares(size, [weight for _, weight in counting] or [1.0])
    ports = [_earliest_input(candidate) for candidate in candidates]
    most = -(-size // max(len({ports[i] for i in accepted}), 1)) if quota else size
    chosen = _chosen(lists, places, ports, most)
    return [candidates[i] for i in chosen]


def _descending(score: Scored, accepted: Sequence[int]) -> list[int]:
    """Indices by falling score; of equals the first stays first."""
    known = {i: value for i in accepted if (value := score[i]) is not None}
    return sorted(known, key=lambda i: -known[i])


def _shares(size: int, weights: Sequence[float]) -> list[int]:
    """Places of each list, together `size`; a half goes to the first."""
    if len(weights) == 1:
        return [size]
    first = int(size * weights[0] / sum(weights) + 0.5)
    return [first, size - first]


def _chosen(
    lists: Sequence[Sequence[int]], places: Sequence[int], ports: Sequence[int], most: int
) -> list[int]:
    """The places of each list, then alternately down the lists, with at most so many of a port.

    What two lists name takes a place of both. Where the quota leaves places empty, it is lifted at last.
    """
    size = sum(places)
    number: Counter[int] = Counter()
    chosen: dict[int, None] = {}

    def take(index: int, most: int) -> bool:
        """Whether the index is chosen, now or before."""
        if index not in chosen and len(chosen) < size and number[ports[index]] < most:
            chosen[index] = None
            number[ports[index]] += 1
        return index in chosen

    for ranked, share in zip(lists, places, strict=True):
        held = 0
        for index in ranked:
            if held == share:
                break
            held += take(index, most)
    alternately = [i for row in zip_longest(*lists) for i in row if i is not None]
    for quota in (most, size):
        for index in alternately:
            take(index, quota)
    return list(chosen)


def _earliest_input(architecture: Architecture) -> int:
    """The earliest port that is fed back to; -1 without backward connections."""
    return min((connection.target for connection in architecture), default=-1)
