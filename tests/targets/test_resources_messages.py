"""Messages and hops: a mapping counted by hand, and small graphs spike by spike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from snndeploy.errors import NetworkError, TargetError
from snndeploy.ir import Flatten, Graph, Input, Lif, Output, Upsample, run
from snndeploy.targets.resources import Mapping, map_onto, messages
from tests.ir.graphs import conv, direct, linear, random_input, random_network, wired
from tests.targets import chips

LOOPED = wired(
    {
        "in": Input(shape=(2, 4, 4)),
        "c": conv(2, 4),
        "a": Lif(),
        "d": conv(4, 4, 3, 2),
        "skip": conv(4, 4, 1, 2),
        "b": Lif(),
        "back": conv(4, 4, 1),
        "up": Upsample(size=(4, 4)),
        "flat": Flatten(),
        "fc": linear(16, 3),
        "out": Output(),
    },
    "in c a d b flat fc out",
    "a ~2 skip b",
    "b ~1 back up a",
)
FLAT = wired(
    {
        "in": Input(shape=(2, 3, 3)),
        "c": conv(2, 3),
        "a": Lif(),
        "f": Flatten(),
        "b": Lif(),
        "g": linear(27, 27),
        "h": linear(27, 4),
        "out": Output(),
    },
    "in c a f b h out",
    "f g b",
)


def spikes(graph: Graph, seed: int = 0, rate: float = 0.3) -> dict[str, npt.NDArray[np.bool_]]:
    """Random spikes of 3 samples over 4 steps."""
    rng = np.random.default_rng(seed)
    return {name: rng.random((4, 3, *graph.shapes[name])) < rate for name in chips.spiking(graph)}


def by_hand(mapping: Mapping, fired: dict[str, npt.NDArray[np.bool_]]) -> dict[str, list[Any]]:
    """Sent, off the chip, hops along rows and along columns of the mesh, message by message."""
    limits, placed = mapping.limits, {p.name: p for p in mapping.placed}
    core: dict[str, npt.NDArray[np.int64]] = {}
    for name, p in placed.items():
        index = np.indices(p.population.sizes).reshape(3, -1)
        place = [i // block for i, block in zip(index, p.tile, strict=True)]
        core[name] = p.first_core + np.ravel_multi_index(place, p.grid)

    def where(number: int) -> tuple[int, int, int]:
        chip, within = divmod(number, limits["chip.cores"])
        row, column = divmod(within // limits["mesh.tile"], limits["mesh.columns"])
        return chip, row, column

    found = {}
    for name, array in fired.items():
        total = np.zeros((4, 3), np.int64)
        counts = array.sum(axis=0).reshape(3, -1)
        for neuron in range(math.prod(mapping.graph.shapes[name])):
            takers = {
                int(c)
                for target in placed
                for m in chips.synapses(mapping.graph, name, target)
                for c in core[target][m[:, neuron]]
            }
            for taker in takers:
                (chip, row, column), (own, y, x) = where(taker), where(int(core[name][neuron]))
                one = (1, 1, 0, 0) if chip != own else (1, 0, abs(column - x), abs(row - y))
                total += np.outer(one, counts[:, neuron])
        found[name] = list(total)
    return found


@pytest.mark.parametrize("graph", [LOOPED, FLAT])
@pytest.mark.parametrize(("cores", "neurons"), [(1000, 5), (13, 5), (7, 9), (1000, 1000)])
def test_messages_are_those_of_every_spike(graph: Graph, cores: int, neurons: int) -> None:
    """Cores taken once each, hops and chips, on grids of tiles within one chip and over several."""
    mesh = {"columns": 3, "rows": 200, "tile": 2}
    mapping = map_onto(graph, chips.chip(limits=mesh, cores=cores, neurons=neurons), duplicate_streams=True)
    fired = spikes(graph)
    found = messages(mapping, fired)
    expected = by_hand(mapping, fired)
    assert set(found) == set(expected)
    for name, one in found.items():
        for part, other in zip(
            (one.sent, one.off_chip, one.hops_east_west, one.hops_north_south), expected[name], strict=True
        ):
            assert part.dtype == np.int64
            np.testing.assert_array_equal(part, other)
    assert mapping.chips == 1 or any(one.off_chip.any() for one in found.values())


def test_four_cores_of_two_neurons() -> None:
    """Cores 0 and 1 hold a, b lies below on 2 and 3, the Output on another chip: each hop by hand."""
    graph = direct("in a b out", features=4)
    chip = chips.chip(neurons=2, cores=4, columns=2, rows=2, tile=1)
    mapping = map_onto(graph, chip)
    assert [(p.name, p.first_core, p.cores) for p in mapping.placed] == [
        ("a", 0, 2),
        ("b", 2, 2),
        ("out", 4, 2),
    ]
    fired = np.zeros((3, 1, 4), np.bool_)
    fired[0, 0, 0] = fired[1, 0, 3] = fired[2, 0, 3] = True
    found = messages(mapping, {"a": fired, "b": fired})
    a, b = found["a"], found["b"]
    assert [int(x[0]) for x in (a.sent, a.off_chip, a.hops_east_west, a.hops_north_south)] == [3, 0, 0, 3]
    assert [int(x[0]) for x in (b.sent, b.off_chip, b.hops_east_west, b.hops_north_south)] == [3, 3, 0, 0]


def test_a_trace_gives_its_spikes() -> None:
    """What a run recorded counts as its arrays do, and silence sends nothing."""
    network = random_network(LOOPED)
    trace = run(network, random_input(network))
    chip = chips.chip(neurons=9, columns=4, rows=4, tile=100, cores=1000)
    mapping = map_onto(LOOPED, chip)
    found = messages(mapping, trace)
    again = messages(mapping, trace.spikes)
    assert found["a"].sent.sum() > 0
    assert all((found[n].sent == again[n].sent).all() for n in found)
    silent = messages(mapping, {n: np.zeros_like(s) for n, s in trace.spikes.items()})
    assert not any(one.sent.any() or one.hops_east_west.any() for one in silent.values())


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"a": np.zeros((4, 3, 9, 9), np.bool_)},
        {"a": np.zeros((4, 3, 4, 4, 4))},
        {"a": np.zeros(3, np.bool_)},
    ],
)
def test_spikes_of_another_network_are_refused(broken: dict[str, Any]) -> None:
    """Missing, of another shape, or no spikes at all."""
    mapping = map_onto(LOOPED, chips.chip(columns=1, rows=1, tile=2**30))
    with pytest.raises(NetworkError, match="spikes of a: must be bool"):
        messages(mapping, broken)


def test_a_chip_without_a_mesh_has_no_hops() -> None:
    """What is missing is named, and so is a mesh with fewer cores than the chip."""
    with pytest.raises(TargetError, match=r"does not say mesh.columns, mesh.rows, mesh.tile"):
        messages(map_onto(LOOPED, chips.chip()), spikes(LOOPED))
    with pytest.raises(TargetError, match=r"has 9 cores, more than its mesh holds, got 8"):
        messages(map_onto(LOOPED, chips.chip(cores=9, columns=2, rows=2, tile=2)), spikes(LOOPED))
