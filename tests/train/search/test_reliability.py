"""What is said about the scores before they are used."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from snndeploy.backbones import backbone
from snndeploy.errors import FileFormatError
from snndeploy.train.data import load
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.records import record
from snndeploy.train.search.reliability import (
    Correlation,
    Reliability,
    compare,
    measure,
    part,
    spearman,
    weight,
)
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
    batch, seed = found.n.between_batches, found.n.between_initialisations
    assert batch is not None
    assert seed is not None
    assert batch.value == pytest.approx(np.mean(pairs))
    assert seed.value == pytest.approx(1.0)
    assert (batch.candidates, seed.candidates, seed.low, seed.high) == (5, 4, None, None)
    assert found.n.with_input_port == pytest.approx(spearmanr([5, 3, 2, 1], [0, 1, 3, 4]).statistic)
    assert (found.n.rejected, found.n.weight, found.n.reliable) == (1, 0.0, False)
    assert found.n_with_e == pytest.approx(-1.0)
    reliable = compare(CANDIDATES, batches[:2], seeds, 0.5)
    assert reliable.n is not None
    assert (reliable.n.weight, reliable.n.reliable) == (1.0, True)
    text = "\n".join(found.lines())
    assert f"N-score: between batches -0.33 ({batch.low:+.2f} to {batch.high:+.2f})" in text
    assert "between initialisations +1.00 (no interval)" in text
    assert "undefined for 1: UNRELIABLE (though the bound lies inside an interval), weight 0.00" in text
    assert json.loads(found.to_json())["n"]["with_input_port"] == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("bound", "reliable", "inside"), [(0.2, True, False), (0.4, True, True), (0.9, False, True)]
)
def test_the_verdict_is_by_the_correlation(bound: float, reliable: bool, inside: bool) -> None:
    """Of 0.79 with its interval of 0.23 to 0.96; a bound inside that is told, and no more."""
    order = [0, 1, 2, 3, 4, 5, 6, 7, 9, 8]
    swapped = [4, 1, 2, 3, 0, 5, 6, 7, 8, 9]
    found = Correlation.between([order, swapped, [None] * 10])
    expected = spearmanr(order, swapped).statistic
    assert found is not None
    assert found.value == pytest.approx(expected)
    assert found.candidates == 10
    reach = 1.959964 * math.sqrt((1 + expected**2 / 2) / 7)
    assert (found.low, found.high) == pytest.approx(
        (math.tanh(math.atanh(expected) - reach), math.tanh(math.atanh(expected) + reach)), abs=1e-6
    )
    repeats = [[Scores(float(one), None) for one in values] for values in (order, swapped)]
    score = compare(CANDIDATES * 2, repeats, repeats, bound).n
    assert score is not None
    assert (score.reliable, score.bound_inside) == (reliable, inside)
    assert (score.weight == 1) == reliable


def test_written_and_read_back() -> None:
    """All of it; a report without intervals, as earlier versions wrote, is an error that says what to do."""
    found = compare(
        CANDIDATES, [scores(1, 2, 3, 4, 5), scores(1, 3, 2, 4, 5)], [scores(5, 3, 4, 2, 1)] * 2, 0.5
    )
    values = json.loads(found.to_json())
    assert record(Reliability, values, "here") == found
    without = [[Scores(one.n, None) for one in scores(1, 2, 3, 4, 5)]] * 2
    alone = compare(CANDIDATES, without, without, 0.5)
    assert record(Reliability, json.loads(alone.to_json()), "here") == alone
    earlier = {key: value for key, value in values["n"].items() if key != "bound_inside"}
    for n, message in (
        (earlier, "here, n: must hold between_batches, "),
        ({**values["n"], "between_batches": 0.5}, "here, n, between_batches: must hold value, low"),
        (
            {**values["n"], "between_batches": {**values["n"]["between_batches"], "low": "x"}},
            "low must be a finite",
        ),
    ):
        with pytest.raises(FileFormatError, match=f"{message}.*; delete it and resume again"):
            record(Reliability, {**values, "n": n}, "here")


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
    assert found.n.between_batches is not None
    assert found.n.between_batches.value == spearman(*([one.n for one in scored] for scored in halves))
    whole = material.scorer(seed=0).score(candidates)
    assert found.n_with_e == spearman([one.n for one in whole], [one.e for one in whole])
    other = found.e.between_initialisations
    assert other is not None
    assert math.isfinite(other.value)
    assert other.value < 1
