"""Cores, memory and axons of a mapping, compared with every synapse found the long way."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snndeploy.backbones import backbone
from snndeploy.errors import TargetError
from snndeploy.ir import (
    AvgPool2d,
    Conv2d,
    Flatten,
    Graph,
    Input,
    Lif,
    Op,
    Output,
    Upsample,
    fold,
    parameter_shapes,
    with_backward,
)
from snndeploy.targets.chip import load
from snndeploy.targets.resources import Mapping, Placed, analog_streams, map_onto
from snndeploy.targets.resources.mapping import RESOURCES, copies
from tests.ir.graphs import conv, direct, linear, random_network, wired
from tests.strategies import Structure, build, structures
from tests.targets import chips

MAP: dict[str, Op] = {"in": Input(shape=(2, 6, 5)), "a": Lif(), "b": Lif(), "out": Output()}


def readout(features: int) -> dict[str, Op]:
    """Flatten and a fully connected readout."""
    return {"flat": Flatten(), "fc": linear(features, 3)}


GRAPHS = {
    "grouped, strided and padded": wired(
        MAP | {"c": conv(2, 4), "d": conv(4, 6, 3, 2, groups=2)} | readout(6 * 3 * 3),
        "in c a d b flat fc out",
    ),
    "rectangular kernel without padding": wired(
        MAP
        | {
            "c": Conv2d(in_channels=2, out_channels=3, kernel=(2, 3), stride=(2, 1)),
            "d": Conv2d(in_channels=3, out_channels=4, kernel=(3, 1), padding=(0, 1)),
        }
        | readout(4 * 1 * 5),
        "in c a d b flat fc out",
    ),
    "pooled before a convolution": wired(
        MAP
        | {"c": conv(2, 4), "p": AvgPool2d(kernel=(2, 2), stride=(2, 2)), "d": conv(4, 4)}
        | readout(4 * 3 * 2),
        "in c a p d b flat fc out",
    ),
    "overlapping pool before the readout": wired(
        MAP
        | {"c": conv(2, 4), "d": conv(4, 2), "p": AvgPool2d(kernel=(3, 3), stride=(1, 2))}
        | readout(2 * 4 * 2),
        "in c a d b p flat fc out",
    ),
    "residual and a backward connection through an upsampling": wired(
        MAP
        | {
            "c": conv(2, 4),
            "d": conv(4, 4, 3, 2),
            "skip": conv(4, 4, 1, 2),
            "back": conv(4, 4, 1),
            "up": Upsample(size=(6, 5)),
        }
        | readout(4 * 3 * 3),
        "in c a d b flat fc out",
        "a skip b",
        "b ~1 back up a",
    ),
    "one source over three paths, itself among the targets": wired(
        MAP | {"c": conv(2, 4), "d": conv(4, 4), "e": conv(4, 4, 1), "r": conv(4, 4)} | readout(4 * 6 * 5),
        "in c a d b flat fc out",
        "a b",
        "a ~2 e b",
        "b ~1 r b",
    ),
    "a map and vectors": wired(
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
    ),
    "a flattened map only": wired(
        {
            "in": Input(shape=(2, 3, 3)),
            "c": conv(2, 3),
            "f": Flatten(),
            "b": Lif(),
            "h": linear(27, 4),
            "out": Output(),
        },
        "in c f b h out",
    ),
    "an analog stream into two populations": wired(
        MAP | {"c": conv(2, 4), "d": conv(4, 4), "e": conv(4, 4)} | readout(4 * 6 * 5),
        "in c a d b flat fc out",
        "c e b",
    ),
}


def tile_of(placed: Placed) -> npt.NDArray[np.int64]:
    """The core of each neuron within its population, by position in the flattened population."""
    index = np.zeros((), np.int64)
    for axis, (size, block, count) in enumerate(
        zip(placed.population.sizes, placed.tile, placed.grid, strict=True)
    ):
        along = (np.arange(size) // block).reshape(-1, *(1,) * (2 - axis))
        index = index + along * math.prod(placed.grid[axis + 1 :])
        assert along.max() == count - 1
    return np.broadcast_to(index, placed.population.sizes).ravel()


def check(graph: Graph, mapping: Mapping) -> None:
    """Every count of a mapping against the synapses, core by core."""
    placed = {p.name: p for p in mapping.placed}
    assert [p.first_core for p in mapping.placed] == list(
        np.cumsum([0, *(p.cores for p in mapping.placed)])[:-1]
    )
    sent = {name: np.zeros(math.prod(graph.shapes[name]), np.int64) for name in chips.spiking(graph)}
    for name, target in placed.items():
        core = tile_of(target)
        hosts = np.arange(target.cores)[:, None] == core  # (cores, neurons)
        synapse_count, axons = np.zeros(target.cores, np.int64), np.zeros(target.cores, np.int64)
        for source in (graph.input, *sent):
            found = chips.synapses(graph, source, name)
            if not found:
                continue
            synapse_count += sum(hosts.astype(np.int64) @ m.sum(axis=1) for m in found)
            takes = hosts.astype(np.int64) @ np.any(found, axis=0) > 0  # (cores, source neurons)
            axons += takes.sum(axis=1)
            if source in sent:
                sent[source] += takes.sum(axis=0)
        assert synapse_count.sum() == target.synapses
        np.testing.assert_array_equal(target.used["core.neurons"].ravel(), hosts.sum(axis=1))
        np.testing.assert_array_equal(target.used["core.input_axons"].ravel(), axons)
        if not mapping.chip.allows("shared_kernels"):
            bits = synapse_count * mapping.neuron.weight_bits
            np.testing.assert_array_equal(target.used["core.memory"].ravel(), -(-bits // 8))
    for name, expected in sent.items():
        sender = placed[name]
        np.testing.assert_array_equal(copies(sender, list(mapping.placed)).ravel(), expected)
        hosts = np.arange(sender.cores)[:, None] == tile_of(sender)
        np.testing.assert_array_equal(sender.used["core.output_axons"].ravel(), hosts @ expected)


@pytest.mark.parametrize(
    "limits", [{}, {"neurons": 7}, {"memory": 60}, {"input_axons": 30}, {"output_axons": 20}]
)
@pytest.mark.parametrize("name", GRAPHS)
def test_counts_are_those_of_every_synapse(name: str, limits: dict[str, int]) -> None:
    """Neurons, synapses, axons in and out of each core, for tiles of several kinds."""
    graph = GRAPHS[name]
    mapping = map_onto(graph, chips.chip(limits=limits), weight_bits=5, duplicate_streams=True)
    check(graph, mapping)
    if not limits:
        assert mapping.cores == len(mapping.placed)
    if "neurons" in limits:
        assert mapping.cores > 2 * len(mapping.placed)


@settings(max_examples=25, deadline=None)
@given(structures(most_layers=2), st.integers(3, 40), st.integers(50, 400))
def test_counts_of_random_networks(structure: Structure, neurons: int, memory: int) -> None:
    """The same for chains, blocks, pools and backward connections at random."""
    graph = build(structure)
    check(graph, map_onto(graph, chips.chip(neurons=neurons, memory=memory), duplicate_streams=True))


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("resource", ["neurons", "memory", "input_axons"])
def test_no_core_exceeds_a_limit_that_one_neuron_keeps(name: str, resource: str) -> None:
    """What each core takes stays within every limit that was not lifted, and what was lifted could not be kept."""
    for limit in (8, 33, 150):
        mapping = map_onto(GRAPHS[name], chips.chip(limits={resource: limit}), duplicate_streams=True)
        for placed in mapping.placed:
            key = f"core.{resource}"
            assert (placed.fullest(key) > limit) == (key in placed.lifted)
            assert placed.lifted.get(key, limit + 1) > limit
        assert mapping.cores >= mapping.floor


def test_shared_kernels_count_once_a_core() -> None:
    """Two channels of a 3x3 kernel on 4 inputs and a skip's weight each; states share the memory."""
    graph = wired(
        MAP | {"c": conv(2, 4), "d": conv(4, 4)} | readout(4 * 6 * 5), "in c a d b flat fc out", "a b"
    )
    mapping = map_onto(graph, chips.chip("shared_kernels shared_memory", neurons=60, state=3), weight_bits=4)
    b = next(p for p in mapping.placed if p.name == "b")
    assert b.cores == 2
    weights = b.tile[0] * (4 * 9 + 1)
    assert set(b.used["core.memory"].ravel()) == {weights // 2 + 60 * 3}


@pytest.mark.parametrize("name", [name for name in GRAPHS if name != "a map and vectors"])
def test_kernels_are_those_of_the_network(name: str) -> None:
    """A tile stores the weights of its channels, a path without weights one each, composed ones their stencil."""
    graph = GRAPHS[name]
    parameters = parameter_shapes(graph)
    mapping = map_onto(graph, chips.chip("shared_kernels", neurons=7), weight_bits=8, duplicate_streams=True)
    for placed in mapping.placed:
        weights = 0
        for source in (graph.input, *chips.spiking(graph)):
            for path in (p for p in chips.paths(graph, source) if p[-1] == placed.name):
                ops = [op for op in path if f"{op}.weight" in parameters]
                match ops:
                    case []:
                        weights += 1
                    case [op]:
                        weights += math.prod(parameters[f"{op}.weight"][1:])
                    case _:
                        weights += int(chips.matrix(graph, path).sum(axis=1).max())
        channels, *_ = placed.population.sizes
        blocks = [min(placed.tile[0], channels - c) for c in range(0, channels, placed.tile[0])]
        expected = np.broadcast_to(np.array(blocks)[:, None, None] * weights, placed.grid)
        np.testing.assert_array_equal(placed.used["core.memory"], expected)


def test_tiles_are_the_fewest_of_channels_or_rows() -> None:
    """Of 4 channels of 8x8 at 64 neurons a core: four tiles, and of those the ones with the fewest axons."""
    graph = wired(
        {
            "in": Input(shape=(4, 8, 8)),
            "c": conv(4, 4),
            "a": Lif(),
            "f": Flatten(),
            "g": linear(256, 2),
            "out": Output(),
        },
        "in c a f g out",
    )
    a = map_onto(graph, chips.chip(neurons=64)).placed[0]
    assert (a.cores, a.tile) == (
        4,
        (4, 2, 8),
    )  # 2 rows and their borders, rather than every row for one channel
    assert int(a.used["core.input_axons"].sum()) == 4 * 8 * (3 + 4 + 4 + 3)
    narrow = map_onto(graph, chips.chip(neurons=3)).placed[0]
    assert narrow.fullest("core.neurons") <= 3
    assert narrow.cores == 4 * 8 * 3  # three columns of one row of one channel; 256 / 3 rounded up is 86


def test_tiles_shrink_until_output_axons_suffice() -> None:
    """A neuron whose spikes go to two cores costs two axons, so half as many neurons share a core."""
    graph = wired(
        {
            "in": Input(shape=(8,)),
            "x": linear(8, 8),
            "a": Lif(),
            "y": linear(8, 8),
            "b": Lif(),
            "z": linear(8, 2),
            "out": Output(),
        },
        "in x a y b z out",
    )
    loose = map_onto(graph, chips.chip(memory=32))  # 4 neurons of 8 synapses
    assert [p.cores for p in loose.placed] == [2, 2, 1]
    assert loose.placed[0].fullest("core.output_axons") == 8
    tight = map_onto(graph, chips.chip(memory=32, output_axons=4))
    assert [p.cores for p in tight.placed] == [4, 2, 1]
    assert all(p.fullest("core.output_axons") <= 4 for p in tight.placed)
    impossible = map_onto(graph, chips.chip(memory=32, output_axons=1))
    assert [p.cores for p in impossible.placed] == [2, 2, 1]  # as without the limit; one neuron needs two


def test_totals() -> None:
    """Cores, chips, the floor and utilisation of a network counted by hand."""
    graph = wired(
        {"in": Input(shape=(4,)), "x": linear(4, 6), "a": Lif(), "z": linear(6, 2), "out": Output()},
        "in x a z out",
    )
    mapping = map_onto(graph, chips.chip(neurons=4, cores=2, memory=100))
    assert [(p.name, p.tile, p.cores) for p in mapping.placed] == [("a", (3, 1, 1), 2), ("out", (2, 1, 1), 1)]
    assert (mapping.cores, mapping.chips, mapping.floor) == (3, 2, 2)
    assert mapping.utilisation("core.neurons") == 8 / 12
    assert mapping.utilisation("core.memory") == 36 / 300
    assert mapping.utilisation("core.input_axons") is None
    assert mapping.unchecked == ("core.input_axons", "core.output_axons")
    assert [mapping.binding(p) for p in mapping.placed] == ["core.neurons", "core.neurons"]


def test_many_parallel_paths_are_counted_at_once() -> None:
    """Of paths from one population to another only those that reach furthest matter to its axons."""
    middle = {f"c{i}": conv(2, 2, 1 + 2 * (i % 2)) for i in range(30)}
    ops = MAP | {"x": conv(2, 2)} | middle | {"fc": linear(60, 3), "flat": Flatten()}
    graph = wired(ops, "in x a", *(f"a {name} b" for name in middle), "b flat fc out")
    (placed,) = (p for p in map_onto(graph, chips.chip()).placed if p.name == "b")
    assert placed.fullest("core.input_axons") == 60
    assert len(placed.population.paths) == 30


def test_neurons_that_wait_for_their_phase_need_more_state() -> None:
    """A backward connection over two populations updates every second machine step."""
    loop = direct("in a b out", "b ~1 a")
    roomy = chips.chip("phased_neurons", phased_state=9, state=4)
    assert map_onto(loop, roomy).neuron.state_bytes == 9
    assert map_onto(direct("in a b out"), roomy).neuron.state_bytes == 4
    assert map_onto(loop, chips.chip(phased_state=9, state=4)).neuron.state_bytes == 4


def test_analog_streams_are_refused_by_name() -> None:
    """A convolution whose output two ops use is named, and duplicated only on request."""
    graph = GRAPHS["an analog stream into two populations"]
    assert analog_streams(graph) == ("c",)
    with pytest.raises(TargetError, match=r"^c: leads to more than one place.*--duplicate-streams"):
        map_onto(graph, chips.chip())
    assert all(not analog_streams(g) for n, g in GRAPHS.items() if "stream" not in n)
    preact = backbone("resnet18_preact", (3, 8, 8), 10)
    assert "stem.conv" in analog_streams(preact)
    assert map_onto(preact, load("loihi2"), duplicate_streams=True).cores > 20


def test_folding_changes_nothing() -> None:
    """A BatchNorm behind a convolution takes no resources of its own."""
    graph = backbone("resnet6", (1, 8, 8), 3)
    network = random_network(graph)
    one, other = (map_onto(g, load("loihi1")) for g in (graph, fold(network).graph))
    assert [(p.tile, p.synapses, p.fullest("core.memory")) for p in one.placed] == [
        (p.tile, p.synapses, p.fullest("core.memory")) for p in other.placed
    ]


def test_resnet18_on_both_chips() -> None:
    """At 32x32: 119 cores with shared kernels; without, 3 679 for memory alone and 6 009 with axons."""
    graph = backbone("resnet18", (3, 32, 32), 10)
    shared, unshared = map_onto(graph, load("loihi2")), map_onto(graph, load("loihi1"))
    assert (shared.cores, shared.chips, shared.floor) == (119, 1, 80)
    assert (unshared.cores, unshared.chips, unshared.floor) == (6009, 47, 3679)
    assert {p.name: p.lifted["core.input_axons"] for p in unshared.placed if p.lifted} == {
        "stage4.1.lif2": 4608 + 256,
        "stage4.2.lif1": 4608,
        "stage4.2.lif2": 4608 + 1,
        "output": 8192,
    }
    assert all(set(p.used) == set(RESOURCES) for p in shared.placed)


def test_a_backward_connection_takes_axons_and_memory() -> None:
    """The populations at its ends take more; the others stay as they were, but for larger states."""
    graph = backbone("resnet8", (1, 16, 16), 10)
    plain, back = (map_onto(g, load("loihi1")) for g in (graph, with_backward(graph, 5, 2)))
    source, target = graph.ports[5], graph.ports[2]
    before, after = ({p.name: p for p in m.placed} for m in (plain, back))
    assert after[target].synapses > before[target].synapses
    assert {n for n in before if before[n].synapses != after[n].synapses} == {target}
    assert copies(after[source], list(back.placed)).sum() > copies(before[source], list(plain.placed)).sum()


def test_a_vector_too_long_for_its_matrix_is_refused() -> None:
    """Where single neurons of a vector are used, their matrix must be written down."""
    with pytest.raises(TargetError, match=r"a: takes single neurons of a long vector.*got 144000000"):
        map_onto(direct("in a out", features=12_000), chips.chip())
