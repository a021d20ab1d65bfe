"""Every population of a graph on cores of a chip, by a simple greedy rule.

A core holds neurons of one population, as Loihi's own compilers do. Each population is cut into the fewest
rectangular tiles that fit (`snndeploy.targets.resources.tiling`). A core takes one input axon for every neuron
with a synapse that ends in it, and one output axon for every pair of a neuron of its own and a core that takes
its spikes; tiles that would need too many of the latter are made smaller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as Table
from dataclasses import dataclass, replace

import numpy as np

from snndeploy.errors import TargetError
from snndeploy.ir import Conv2d, Graph, Linear, Shape, is_population, schedule
from snndeploy.targets.chip import Chip
from snndeploy.targets.resources.paths import Counts, Population, chip_populations, outer, united
from snndeploy.targets.resources.tiling import (
    INPUT_AXONS,
    MEMORY,
    NEURONS,
    OUTPUT_AXONS,
    Demand,
    Neuron,
    fit,
    grid,
)

WEIGHT_BITS = 8  # of a network whose weights are not quantised yet
RESOURCES = (NEURONS, MEMORY, INPUT_AXONS, OUTPUT_AXONS)
_SLACKS = (0.0, 0.25)  # more cores that shapes of tiles with fewer axons may take
_ROUNDS = 8  # of making tiles smaller for output axons
_GROWTH = 2  # beyond so many times the cores, smaller tiles only beget each other


@dataclass(frozen=True, eq=False)
class Placed:
    """One population on its cores, numbered row by row through its grid of tiles.

    tile: Channels, rows and columns on one core.
    first_core: Number of its first core.
    synapses: That end in it.
    used: What each core takes of each of `RESOURCES`, of the grid's shape.
    lifted: Resources of which a single neuron needs more than a core has, with what it needs; their limits
        were left out here.
    """

    population: Population
    tile: Shape
    first_core: int
    synapses: int
    used: Table[str, Counts]
    lifted: Table[str, int]

    @property
    def name(self) -> str:
        """Of the population."""
        return self.population.name

    @property
    def grid(self) -> Shape:
        """Number of tiles along channels, rows and columns."""
        return grid(self.population.sizes, self.tile)

    @property
    def cores(self) -> int:
        """Number of cores."""
        return math.prod(self.grid)

    def fullest(self, resource: str) -> int:
        """What its fullest core takes of a resource."""
        return int(self.used[resource].max())


@dataclass(frozen=True, eq=False)
class Mapping:
    """All populations but the Input, which the host plays, on cores numbered in their order."""

    graph: Graph
    chip: Chip
    neuron: Neuron
    placed: tuple[Placed, ...]

    @property
    def cores(self) -> int:
        """Cores of all populations."""
        return sum(placed.cores for placed in self.placed)

    @property
    def chips(self) -> int:
        """Chips that hold so many cores."""
        return -(-self.cores // self.chip_cores)

    @property
    def chip_cores(self) -> int:
        """Cores of one chip."""
        return self.limits["chip.cores"]

    @property
    def limits(self) -> dict[str, int]:
        """The chip's limits that are known."""
        known = {name: self.chip.limit(name) for name in self.chip.limits}
        return {name: limit for name, limit in known.items() if limit is not None}

    @property
    def unchecked(self) -> tuple[str, ...]:
        """Resources whose limits are not known."""
        return tuple(resource for resource in RESOURCES if resource not in self.limits)

    @property
    def floor(self) -> int:
        """Cores below which no mapping can go, whatever shares a core: by neurons or by memory alone.

        Populations that exceed the memory with a single neuron need it in no mapping.
        """
        fitting = [placed for placed in self.placed if MEMORY not in placed.lifted]
        neurons = sum(placed.population.neurons for placed in self.placed)
        if self.chip.allows("shared_kernels"):
            weights = sum(int(path.kernel.sum()) for placed in fitting for path in placed.population.paths)
        else:
            weights = sum(placed.synapses for placed in fitting)
        needed = -(-weights * self.neuron.weight_bits // 8)
        if self.chip.allows("shared_memory"):
            needed += sum(placed.population.neurons for placed in fitting) * self.neuron.state_bytes
        return max(-(-neurons // self.limits[NEURONS]), -(-needed // self.limits[MEMORY]))

    def utilisation(self, resource: str) -> float | None:
        """Share of a resource of all cores in use; None if its limit is not known."""
        used = sum(int(placed.used[resource].sum()) for placed in self.placed)
        return used / (self.cores * self.limits[resource]) if resource in self.limits else None

    def binding(self, placed: Placed) -> str | None:
        """The resource of which a population's fullest core leaves the smallest share; None if none is limited."""
        shares = {
            resource: placed.fullest(resource) / self.limits[resource]
            for resource in RESOURCES
            if resource in self.limits and resource not in placed.lifted
        }
        return max(shares, key=shares.__getitem__, default=None)


def map_onto(
    graph: Graph, chip: Chip, *, weight_bits: int = WEIGHT_BITS, duplicate_streams: bool = False
) -> Mapping:
    """Places a graph on as many cores as it takes.

    Where a single neuron exceeds a limit the network cannot run; that limit is left out for its population, so
    that the rest can still be counted, and `violations` names it.

    Args:
        graph: Any graph, folded or not.
        chip: The chip's limits.
        weight_bits: Of a weight, sign included.
        duplicate_streams: Give every population that uses an analog stream its own copy of what computes it.

    Raises:
        TargetError: The graph has analog streams, and they are not to be duplicated; names them.
    """
    streams = analog_streams(graph)
    if streams and not duplicate_streams:
        raise TargetError(
            ", ".join(streams),
            "leads to more than one place or into other weights as an analog value, which no spike carries",
            remedy="--duplicate-streams computes it anew in each population that uses it, or put a Lif behind it",
        )
    phased = schedule(graph).initiation_interval > 1 and chip.allows("phased_neurons")
    state = chip.limit("neuron.phased_state") if phased else None
    neuron = Neuron(state or chip.limit("neuron.state") or 0, weight_bits)
    mapping = Mapping(graph, chip, neuron, ())
    demands = [Demand(population, chip, neuron) for population in chip_populations(graph)]
    within = [_within_output_axons(mapping, demands, slack) for slack in _SLACKS]
    tight = [replace(mapping, placed=tuple(placed)) for placed in within if placed is not None]
    if tight:
        return min(tight, key=lambda found: found.cores)
    loose = _with_axons(graph, [_place(demand, mapping.limits) for demand in demands])
    return replace(mapping, placed=tuple(loose))


def analog_streams(graph: Graph) -> tuple[str, ...]:
    """Weighted ops whose output several ops use, or another weighted one, before any Lif makes spikes of it."""
    return tuple(name for name in graph.order if _is_weighted(graph, name) and _is_stream(graph, name))


def _is_weighted(graph: Graph, name: str) -> bool:
    return isinstance(graph.ops[name], (Conv2d, Linear))


def _is_stream(graph: Graph, name: str) -> bool:
    while not is_population(graph, name):
        if len(graph.outgoing[name]) != 1:
            return True
        name = graph.outgoing[name][0].target
        if _is_weighted(graph, name):
            return True
    return False


def _place(
    demand: Demand, limits: Table[str, int], *, neurons: int | None = None, slack: float = 0.0
) -> Placed:
    """A population on the fewest cores, of at most so many neurons each; cores and axons are still to come."""
    checked = {name: limits[name] for name in (NEURONS, MEMORY, INPUT_AXONS) if name in limits}
    lifted = {}
    for name in list(checked):
        needed = int(demand.of(name, (1, 1, 1)).max())
        if needed > checked[name]:
            lifted[name] = needed
            del checked[name]
    if neurons is not None:
        checked[NEURONS] = min(neurons, checked[NEURONS])
    tile = fit(demand, checked, slack)
    assert tile is not None  # noqa: S101 - a single neuron fits
    return Placed(
        demand.population,
        tile,
        0,
        int(demand.synapses(tile).sum()),
        {name: demand.of(name, tile) for name in (NEURONS, MEMORY, INPUT_AXONS)},
        lifted,
    )


def copies(source: Placed, targets: list[Placed]) -> Counts:
    """Cores that take the spikes of each neuron, (channels, rows, columns): messages of one spike."""
    total = np.zeros(source.population.sizes, np.int64)
    for target in targets:
        paths = target.population.sources().get(source.name, ())
        for sign, matrices in united(paths, target.tile):
            cores = outer(*(matrix.sum(axis=0) for matrix in matrices))
            total += sign * cores.reshape(total.shape)
    return total


def _with_axons(graph: Graph, placed: list[Placed]) -> list[Placed]:
    """The same with core numbers and output axons."""
    counted, first = [], 0
    for one in placed:
        if one.name == graph.output:
            axons = np.zeros(one.grid, np.int64)
        else:
            axons = copies(one, placed)
            for axis, block in enumerate(one.tile):
                axons = np.add.reduceat(axons, np.arange(0, axons.shape[axis], block), axis=axis)
        counted.append(replace(one, first_core=first, used={**one.used, OUTPUT_AXONS: axons}))
        first += one.cores
    return counted


def _within_output_axons(mapping: Mapping, demands: list[Demand], slack: float) -> list[Placed] | None:
    """All populations with tiles small enough for their output axons, or None where that does not come about.

    Smaller tiles of one population are more cores for the spikes of others, hence the rounds.
    """
    graph, limits = mapping.graph, mapping.limits
    limit = limits.get(OUTPUT_AXONS)
    placed = _with_axons(graph, [_place(demand, limits, slack=slack) for demand in demands])
    largest = _GROWTH * sum(p.cores for p in placed)
    for _ in range(_ROUNDS):
        if limit is None or all(p.fullest(OUTPUT_AXONS) <= limit for p in placed):
            return placed
        for index, (demand, p) in enumerate(zip(demands, placed, strict=True)):
            if p.fullest(OUTPUT_AXONS) > limit:
                fewer = max(p.fullest(NEURONS) * limit // p.fullest(OUTPUT_AXONS), 1)
                placed[index] = _place(demand, limits, neurons=fewer, slack=slack)
        placed = _with_axons(graph, placed)
        if sum(p.cores for p in placed) > largest:
            return None
    return None
