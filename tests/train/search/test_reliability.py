"""What is said about the scores before they are used."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from snndeploy.backbones import backbone
from snndeploy.train.data import load
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.reliability import compare, measure, part, spearman, weight
from snndeploy.train.search.scoring import Material, Scores
from snndeploy.train.search.space import Architecture, Space, parse

CANDIDATES: list[Architecture] = [parse(text) for text in ("4:0", "4:1+6:3", "5:2", "6:3", "6:4")]


def scores(*values: float | None) -> list[Scores]:
    """N-scores, with E-scores that run against them and a few more."""
    return [
        Scores(value, None if value is None else -value + (place == 0)) for place, value in enumerate(values)
    ]


def test_part_of_a_batch() -> None:
    """Disjoint, each class in the same proportion, what is left over in none."""
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1])
    parts = [part(labels, index, 2) for index in range(2)]
    assert [torch.bincount(labels[places]).tolist() for places in parts] == [[2, 2, 1]] * 2
    assert not set(parts[0].tolist()) & set(parts[1].tolist())
    assert set(torch.cat([part(labels, index, 3) for index in range(3)]).tolist()) <= set(range(11))


def test_rank_correlation() -> None:
    """Over the places where both are known; unknown for fewer than three or without differences."""
    assert spearman([1, 2, 3, None], [10, 20, 15, 0]) == pytest.approx(0.5)
    assert spearman([1, None, 3, 4], [1, 2, None, 4]) is None
    assert spearman([1, 1, 1], [1, 2, 3]) is None


@pytest.mark.parametrize(
    ("correlations", "bound", "expected"),
    [
        ((0.9, 0.5), 0.5, 1.0),
        ((0.9, 0.25), 0.5, 0.5),
        ((0.9, -0.3), 0.5, 0.0),
        ((0.9, None), 0.5, 0.0),
        ((0.9, None), 0.0, 1.0),
        ((-0.2, 0.3), -0.1, 0.0),
        ((-0.2, 0.3), -0.5, 1.0),
    ],
)
def test_weight(correlations: tuple[float | None, ...], bound: float, expected: float) -> None:
    """Full from the bound on, linearly down to none, none for what is unknown."""
    assert weight(*correlations, bound=bound) == pytest.approx(expected)


def test_comparison() -> None:
    """Means over pairs of repeats, the input port, both scores; the first initialisation stands for the search."""
    batches = [scores(1, 2, 3, 4, 5), scores(1, 3, 2, 4, 5), scores(5, 4, 3, 2, 1)]
    seeds = [scores(5, 3, None, 2, 1), scores(5, 3, 4, 2, 1)]
    found = compare(CANDIDATES, batches, seeds, 0.5)
    assert found.n is not None
    pairs = [
        spearmanr([1, 2, 3, 4, 5], [1, 3, 2, 4, 5]).statistic,
        -1.0,
        spearmanr([1, 3, 2, 4, 5], [5, 4, 3, 2, 1]).statistic,
    ]
    assert found.n.between_batches == pytest.approx(np.mean(pairs))
    assert found.n.between_initialisations == pytest.approx(1.0)
    assert found.n.with_input_port == pytest.approx(spearmanr([5, 3, 2, 1], [0, 1, 3, 4]).statistic)
    assert (found.n.rejected, found.n.weight, found.n.reliable) == (1, 0.0, False)
    assert found.n_with_e == pytest.approx(-1.0)
    reliable = compare(CANDIDATES, batches[:2], seeds, 0.5)
    assert reliable.n is not None
    assert (reliable.n.weight, reliable.n.reliable) == (1.0, True)
    text = "\n".join(found.lines())
    assert "N-score: between batches -0.33" in text
    assert "undefined for 1: UNRELIABLE, weight 0.00" in text
    assert json.loads(found.to_json())["n"]["with_input_port"] == pytest.approx(-1.0)


def test_score_that_is_not_wanted_is_left_out() -> None:
    """Nothing is said of it."""
    alone = [[Scores(one.n, None) for one in scores(1, 2, 3, 4, 5)]] * 2
    found = compare(CANDIDATES, alone, alone, 0.5)
    assert found.e is None
    assert found.n_with_e is None
    assert not any("E-score" in line for line in found.lines())


def test_measuring_is_repeatable() -> None:
    """On a small network: 1 and 2 workers say the same, from the scores of the very parts and seeds."""
    torch.set_num_threads(1)
    config = SearchConfig.from_mapping(
        {
            "score": {"batch": 20, "reliability_candidates": 6},
            "training": {
                "network": {"backbone": "resnet6", "steps": 2},
                "data": {"name": "digits", "validation": 0},
            },
        }
    )
    data = load(config.training.data)
    where = Space.of(backbone("resnet6", data.shape, 10), config.space, 2)
    candidates = where.sample(np.random.default_rng(0), 6, at_least=1)
    found = measure(config, candidates)
    assert measure(config, candidates, workers=2) == found
    assert found.n is not None
    assert found.e is not None
    material = Material.load(config)
    halves = [
        material.scorer(seed=0, places=part(material.labels, index, 2)).score(candidates)
        for index in range(2)
    ]
    assert found.n.between_batches == spearman(*([one.n for one in scored] for scored in halves))
    whole = material.scorer(seed=0).score(candidates)
    assert found.n_with_e == spearman([one.n for one in whole], [one.e for one in whole])
    other = found.e.between_initialisations
    assert other is not None
    assert math.isfinite(other)
    assert other < 1
