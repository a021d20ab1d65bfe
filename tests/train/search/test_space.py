"""The space of architectures: counted, drawn uniformly over sets, kept within limits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
from scipy.stats import chisquare

from snndeploy.backbones import backbone
from snndeploy.errors import ConfigError
from snndeploy.ir import BackwardConnection, Graph, backward_connections, schedule
from snndeploy.train.search.config import LimitsConfig, SpaceConfig
from snndeploy.train.search.costs import costs
from snndeploy.train.search.space import Architecture, Space, label, parse

STEPS = 4


@pytest.fixture(scope="module")
def small() -> Graph:
    """Five ports in a chain with two residual skips: input -> 0 -> (1 -> 2) -> (3 -> 4) -> output."""
    return backbone("resnet6", (1, 8, 8), 10)


def bc(text: str) -> BackwardConnection:
    """The one connection of a label."""
    (connection,) = parse(text)
    return connection


def p_uniform(drawn: Sequence[Architecture], sets: Sequence[Architecture]) -> float:
    """Probability of counts as uneven as these if every set is equally likely; none but these are drawn."""
    counts = Counter(drawn)
    assert set(counts) <= set(sets)
    return float(chisquare([counts[one] for one in sets]).pvalue)


@pytest.mark.parametrize(("name", "expected"), [("resnet18", 11_782), ("resnet19", 14_707)])
def test_published_sizes(name: str, expected: int) -> None:
    """With at most two BCs, as the source counts them."""
    space = Space.of(backbone(name, (3, 32, 32), 10), SpaceConfig(), STEPS)
    assert space.count() == space.sets() == expected
    assert sum(1 for _ in space.enumerate()) == expected


@pytest.mark.parametrize("most", [1, 2, 3])
def test_any_number_of_connections(small: Graph, most: int) -> None:
    """Every set once, sorted, none larger than b, the empty one first."""
    found = list(Space.of(small, SpaceConfig(most=most), STEPS).enumerate())
    assert found[0] == ()
    assert len(found) == len(set(found)) == sum(math.comb(15, size) for size in range(most + 1))
    assert all(list(one) == sorted(set(one)) and len(one) <= most for one in found)


@pytest.mark.parametrize("at_least", [0, 1])
def test_uniform_over_sets(small: Graph, at_least: int) -> None:
    """Each of the sets is equally likely, though there are 15 times more pairs than empty sets."""
    space = Space.of(small, SpaceConfig(), STEPS)
    sets = [one for one in space.enumerate() if len(one) >= at_least]
    rng = np.random.default_rng(1)
    drawn = [space.sample(rng, 1, at_least=at_least)[0] for _ in range(12_000)]
    assert p_uniform(drawn, sets) > 0.01


def test_uniform_under_limits(small: Graph) -> None:
    """Limits take sets away and leave the others equally likely."""
    config = SpaceConfig(limits=LimitsConfig(interval=2, parameters=20_900))
    space = Space.of(small, config, STEPS)
    sets = list(space.enumerate())
    assert 10 < len(sets) == space.count() < space.sets()
    rng = np.random.default_rng(2)
    drawn = [space.sample(rng, 1)[0] for _ in range(100 * len(sets))]
    assert p_uniform(drawn, sets) > 0.01


def test_uniform_without_what_is_excluded(small: Graph) -> None:
    """Several drawn at once are different, and each set left is in as many of the draws."""
    space = Space.of(small, SpaceConfig(most=1), STEPS)
    excluded = [(), parse("4:4"), parse("2:0")]
    rng = np.random.default_rng(3)
    drawn = [space.sample(rng, 5, exclude=excluded) for _ in range(2_000)]
    assert all(len(set(some)) == 5 for some in drawn)
    sets = [one for one in space.enumerate() if one not in excluded]
    assert p_uniform([one for some in drawn for one in some], sets) > 0.01


def test_all_there_are(small: Graph) -> None:
    """Asked for more than there are, it gives each once, in random order."""
    space = Space.of(small, SpaceConfig(), STEPS)
    drawn = space.sample(np.random.default_rng(0), 500, at_least=1)
    assert sorted(drawn) == sorted(one for one in space.enumerate() if one)
    assert drawn != list(space.enumerate())[1:]
    assert space.sample(np.random.default_rng(0), 5, exclude=drawn, at_least=1) == []


def test_same_seed_same_sample(small: Graph) -> None:
    """A draw is decided by the generator alone."""
    space = Space.of(small, SpaceConfig(), STEPS)
    first, second = (space.sample(np.random.default_rng(7), 20) for _ in range(2))
    assert first == second != space.sample(np.random.default_rng(8), 20)


def test_large_spaces_are_not_enumerated() -> None:
    """Sets of up to 40 out of 153 connections: far more than could be listed."""
    space = Space.of(backbone("resnet18", (3, 32, 32), 10), SpaceConfig(most=40), STEPS)
    assert space.count() > 10**36
    drawn = space.sample(np.random.default_rng(0), 50)
    assert len(set(drawn)) == 50
    assert all(space.allows(one) and len(one) > 20 for one in drawn)  # smaller sets are vanishingly few


def test_almost_nothing_allowed() -> None:
    """Limits that leave a vanishing share of a large space are an error, and so is counting it."""
    graph = backbone("resnet18", (3, 32, 32), 10)
    plain = costs(graph, STEPS).parameters
    config = SpaceConfig(most=40, limits=LimitsConfig(parameters=plain + 70_000))
    space = Space.of(graph, config, STEPS)
    with pytest.raises(ConfigError, match=r"limits must leave more than about one in 10000 of its .* sets"):
        space.sample(np.random.default_rng(0), 1, at_least=20)
    with pytest.raises(ConfigError, match="can be counted in at most"):
        space.count()


def test_few_allowed_of_a_small_space(small: Graph) -> None:
    """Where draws are in vain, a small space is gone through: whatever is allowed is found."""
    plain = costs(small, STEPS).parameters
    cheapest = min(
        costs(Space.of(small, SpaceConfig(), STEPS).graph(parse(t)), STEPS).parameters
        for t in ("0:0", "1:0", "4:4")
    )
    space = Space.of(small, SpaceConfig(most=4, limits=LimitsConfig(parameters=cheapest)), STEPS)
    assert plain < cheapest
    allowed = [one for one in space.enumerate() if one]
    assert all(len(one) == 1 for one in allowed)
    assert sorted(space.sample(np.random.default_rng(0), 99, at_least=1)) == allowed


def test_limits_are_those_of_the_graph(small: Graph) -> None:
    """What is allowed is exactly what the built graph keeps, for each limit by itself and for all."""
    free = Space.of(small, SpaceConfig(), STEPS)
    plain = costs(small, STEPS)
    limits = LimitsConfig(interval=3, machine_steps=14, parameters=plain.parameters + 1_500)
    some = []
    for one in (
        LimitsConfig(interval=3),
        LimitsConfig(machine_steps=14),
        LimitsConfig(parameters=plain.parameters + 1_500),
        limits,
    ):
        space = Space.of(small, SpaceConfig(limits=one), STEPS)
        kept = set(space.enumerate())
        for architecture in free.enumerate():
            found = costs(free.graph(architecture), STEPS)
            keeps = all(
                not getattr(one, name) or getattr(found, name) <= getattr(one, name)
                for name in ("interval", "machine_steps", "parameters")
            )
            assert (architecture in kept) == keeps == space.allows(architecture)
        some.append(kept)
    assert some[3] == some[0] & some[1] & some[2]
    assert () in some[3]
    assert 1 < len(some[3]) < free.count()


def test_what_is_left_out_is_counted(small: Graph) -> None:
    """By the reason: forbidden ports, delays that never act, limits."""
    config = SpaceConfig(forbidden_inputs=(0, 1), forbidden_outputs=(4,))
    space = Space.of(small, config, STEPS)
    assert [label((c,)) for c in space.connections] == ["2:2", "3:2", "3:3"]
    assert space.left_out == {"ports": 12, "delay": 0, "limits": 0}
    limited = Space.of(small, SpaceConfig(limits=LimitsConfig(interval=1)), STEPS)
    assert {label((c,)) for c in limited.connections} == {f"{p}:{p}" for p in range(5)}
    assert limited.left_out == {"ports": 0, "delay": 0, "limits": 10}


def test_pipelined_delays(small: Graph) -> None:
    """Each delay is the distance and one more, so any set runs at an interval of 1 and as fast as none."""
    space = Space.of(small, SpaceConfig(delay="pipelined", most=3), 9)
    # Ports 0..4 lie one after the other.
    assert all(c.delay == c.source - c.target + 1 for c in space.connections)
    assert len(space.connections) == 15
    fastest = schedule(small).machine_steps(9)
    for architecture in space.sample(np.random.default_rng(0), 40):
        found = schedule(space.graph(architecture))
        assert (found.initiation_interval, found.machine_steps(9)) == (1, fastest)


def test_delays_that_never_act_are_left_out(small: Graph) -> None:
    """With T = 3 only delays of 1 and 2 can arrive."""
    space = Space.of(small, SpaceConfig(delay="pipelined"), 3)
    assert {c.delay for c in space.connections} == {1, 2}
    assert (len(space.connections), space.left_out["delay"]) == (9, 6)
    assert not space.allows((BackwardConnection(4, 0, 5),))


def test_what_does_not_belong(small: Graph) -> None:
    """Too many, unsorted, repeated, forward or of another delay."""
    space = Space.of(small, SpaceConfig(), STEPS)
    assert space.allows(()) and space.allows(parse("1:0+4:4"))  # noqa: PT018
    assert not space.allows(parse("1:0+2:2+4:4"))
    assert not space.allows((bc("4:4"), bc("1:0")))
    assert not space.allows((bc("4:4"), bc("4:4")))
    assert not space.allows((BackwardConnection(1, 2),))
    assert not space.allows(parse("4:4:2"))
    assert space.connection(1, 2) is space.connection(5, 5) is space.connection(0, -1) is None
    assert space.connection(3, 1) == bc("3:1")


def test_graphs(small: Graph) -> None:
    """Architectures are graphs, the supergraph has every connection, and both share names."""
    space = Space.of(small, SpaceConfig(), STEPS)
    assert space.graph(()) is small
    pair = parse("3:1+4:4")
    graph = space.graph(pair)
    assert tuple(sorted(backward_connections(graph))) == pair
    assert graph is space.graph(pair)
    assert tuple(sorted(backward_connections(space.supergraph))) == space.connections
    assert set(graph.ops) < set(space.supergraph.ops)


def test_travels_to_other_processes(small: Graph) -> None:
    """What was kept for speed stays behind; the space is the same."""
    space = Space.of(small, SpaceConfig(limits=LimitsConfig(interval=2)), STEPS)
    before = list(space.enumerate())
    sent = ForkingPickler.dumps(space)
    _ = space.supergraph
    assert bytes(ForkingPickler.dumps(space)) == bytes(sent)
    copy = ForkingPickler.loads(sent)
    assert list(copy.enumerate()) == before
    assert copy.left_out == space.left_out


@pytest.mark.parametrize("text", ["none", "4:2", "4:2+6:6", "1:0:2+4:4"])
def test_labels(text: str) -> None:
    """A label reads back as the same architecture."""
    assert label(parse(text)) == text


def test_labels_in_any_order() -> None:
    """A default delay may be written out, and the order is free."""
    assert parse("6:6+4:2:1") == (BackwardConnection(4, 2), BackwardConnection(6, 6))


@pytest.mark.parametrize("text", ["", "4", "4:2+", "4:a", "4:2:1:1", "-1:0", "4:2+4:2"])
def test_no_labels(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ConfigError, match="architecture: must"):
        parse(text)


@pytest.mark.parametrize(
    ("config", "steps", "message"),
    [
        (
            SpaceConfig(forbidden_inputs=(5,)),
            STEPS,
            r"space\.forbidden_inputs: ports are numbered 0 to 4, got 5",
        ),
        (SpaceConfig(forbidden_outputs=(9,)), STEPS, r"space\.forbidden_outputs: ports are numbered 0 to 4"),
        (SpaceConfig(), 1, r"space: must hold at least one .*got none, 15 for delay left out"),
        (SpaceConfig(forbidden_inputs=(0, 1, 2, 3, 4)), STEPS, r"got none, 15 for ports left out"),
        (
            SpaceConfig(limits=LimitsConfig(machine_steps=5)),
            STEPS,
            r"space\.limits\.machine_steps: must be at least 10, which the backbone takes .*got 5",
        ),
        (
            SpaceConfig(limits=LimitsConfig(parameters=9)),
            STEPS,
            r"space\.limits\.parameters: must be at least",
        ),
    ],
)
def test_mistakes_are_named(small: Graph, config: SpaceConfig, steps: int, message: str) -> None:
    """A space without a connection, ports that do not exist, limits that nothing keeps."""
    with pytest.raises(ConfigError, match=message):
        Space.of(small, config, steps)
