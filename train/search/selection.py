"""The first population: the best candidates of two lists of scores.

Source: BCNAS-SNN, section 4.2. Quotas and weights are not part of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise, zip_longest

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

    Each list has an equal share of the places times its weight: of 20 the best 10 of either, or the best 5 of one
    with weight 0.5. Places that are left open because both lists name the same candidates are filled alternately
    down both lists; those that no score has earned, in the order drawn, which is random.

    Args:
        candidates: In the order drawn; of equal scores the earlier one is taken.
        size: How many to choose; all there are, if fewer.
        n: N-score of every candidate, the larger the better; None if it was not computed.
        e: E-score, the same.
        weights: How much either score counts, in [0, 1]. One of weight 0 is not looked at, and rejects nothing.
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
    lists = [_descending(score, accepted) for score, _ in scores]
    places = _shares(size, [weight for _, weight in scores])
    ports = [_earliest_input(candidate) for candidate in candidates]
    most = -(-size // max(len({ports[i] for i in accepted}), 1)) if quota else size
    ranked = [(one, share) for one, share in zip(lists, places, strict=True) if share]
    chosen = _chosen(ranked, accepted, size, ports, most)
    return [candidates[i] for i in chosen]


def _descending(score: Scored, accepted: Sequence[int]) -> list[int]:
    """Indices by falling score; of equals the first stays first."""
    known = {i: value for i in accepted if (value := score[i]) is not None}
    return sorted(known, key=lambda i: -known[i])


def _shares(size: int, weights: Sequence[float]) -> list[int]:
    """Places of each list, of `size` for all of them with weight 1; a half goes to the first."""
    ends = [0, *(int(size * total / len(weights) + 0.5) for total in accumulate(weights))]
    return [end - start for start, end in pairwise(ends)]


def _chosen(
    ranked: Sequence[tuple[Sequence[int], int]],
    drawn: Sequence[int],
    size: int,
    ports: Sequence[int],
    most: int,
) -> list[int]:
    """The places of each list, alternately down the lists, then as drawn, with at most so many of a port.

    What two lists name takes a place of both. Where the quota leaves places empty, it is lifted at last.
    """
    number: Counter[int] = Counter()
    chosen: dict[int, None] = {}

    def take(index: int, most: int, size: int) -> bool:
        """Whether the index is chosen, now or before."""
        if index not in chosen and len(chosen) < size and number[ports[index]] < most:
            chosen[index] = None
            number[ports[index]] += 1
        return index in chosen

    for ordered, share in ranked:
        held = 0
        for index in ordered:
            if held == share:
                break
            held += take(index, most, size)
    earned = sum(share for _, share in ranked)
    alternately = [
        i for row in zip_longest(*(ordered for ordered, _ in ranked)) for i in row if i is not None
    ]
    for quota in (most, size):
        for index in alternately:
            take(index, quota, earned)
        for index in drawn:
            take(index, quota, size)
    return list(chosen)


def _earliest_input(architecture: Architecture) -> int:
    """The earliest port that is fed back to; -1 without backward connections."""
    return min((connection.target for connection in architecture), default=-1)
