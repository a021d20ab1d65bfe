"""How many messages the spikes of a sample cause, and how far they travel.

A spike is sent once to every core that takes it. Cores are numbered in the order of the mapping and lie in
that order, tile by tile of the mesh, row by row; every chip starts anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as Table
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from snndeploy.errors import NetworkError, TargetError
from snndeploy.ir import Trace
from snndeploy.targets.resources.mapping import Mapping, Placed, copies
from snndeploy.targets.resources.paths import Counts, Matrix, united

_Emitted: TypeAlias = npt.NDArray[np.integer[Any]]
_Terms: TypeAlias = list[tuple[int, tuple[Matrix, Matrix, Matrix]]]  # see `united`


@dataclass(frozen=True, eq=False)
class Messages:
    """Messages of one population, whole numbers for each sample, (samples,).

    sent: Spikes times the cores that take them, the sender's own included.
    off_chip: Those of them to cores of other chips.
    hops_east_west, hops_north_south: Tiles crossed by the messages that stay on their chip, along the rows of
        the mesh and along its columns.
    """

    sent: Counts
    off_chip: Counts
    hops_east_west: Counts
    hops_north_south: Counts


def messages(mapping: Mapping, spikes: Trace | Table[str, npt.NDArray[np.bool_]]) -> dict[str, Messages]:
    """Counts the messages of every Lif, by name. What the host sends into the Input's axons is not counted.

    Args:
        mapping: The cores of the network.
        spikes: A trace, or bool arrays (time, batch, *shape) for every Lif, by name.

    Raises:
        NetworkError: The spikes do not fit the network.
        TargetError: The chip's mesh is not known.
    """
    arrays = spikes.spikes if isinstance(spikes, Trace) else spikes
    sending = [placed for placed in mapping.placed if placed.name != mapping.graph.output]
    return messages_of(mapping, {placed.name: _emitted(mapping, placed, arrays) for placed in sending})


def messages_of(mapping: Mapping, totals: Table[str, _Emitted]) -> dict[str, Messages]:
    """The same for spikes already summed over time: (samples, *shape) whole numbers for every Lif, by name.

    Raises:
        TargetError: The chip's mesh is not known.
    """
    mesh = _mesh(mapping)
    found = {}
    for placed in mapping.placed:
        if placed.name == mapping.graph.output:
            continue
        emitted = totals[placed.name].reshape(-1, *placed.population.sizes)
        sent = emitted.reshape(len(emitted), -1) @ copies(placed, list(mapping.placed)).ravel()
        travelled = sum(_travelled(placed, targets, emitted, mesh) for targets in _targets(mapping, placed))
        off_chip, east_west, north_south = np.zeros((3, len(sent)), np.int64) + travelled
        found[placed.name] = Messages(sent, off_chip, east_west, north_south)
    return found


@dataclass(frozen=True, slots=True)
class _Mesh:
    columns: int
    tile_cores: int
    chip_cores: int

    def place(self, cores: Counts) -> tuple[Counts, Counts, Counts]:
        """Chip, row and column of the tile of each core."""
        tile = cores % self.chip_cores // self.tile_cores
        return cores // self.chip_cores, tile // self.columns, tile % self.columns


def _mesh(mapping: Mapping) -> _Mesh:
    limits = mapping.limits
    missing = [name for name in ("mesh.columns", "mesh.rows", "mesh.tile") if name not in limits]
    if missing:
        raise TargetError(mapping.chip.name, f"does not say {', '.join(missing)}, which hops depend on")
    cores = limits["mesh.columns"] * limits["mesh.rows"] * limits["mesh.tile"]
    if cores < mapping.chip_cores:
        raise TargetError(
            mapping.chip.name, f"has {mapping.chip_cores} cores, more than its mesh holds", got=cores
        )
    return _Mesh(limits["mesh.columns"], limits["mesh.tile"], mapping.chip_cores)


def _emitted(mapping: Mapping, placed: Placed, spikes: Table[str, npt.NDArray[np.bool_]]) -> Counts:
    """Spikes of each neuron over all time steps, (samples, *shape)."""
    shape = mapping.graph.shapes[placed.name]
    array = spikes.get(placed.name)
    if array is None or array.dtype != np.bool_ or array.ndim < 2 or array.shape[2:] != shape:
        got = None if array is None else f"{array.dtype} {array.shape}"
        raise NetworkError(f"spikes of {placed.name}", f"must be bool (time, batch, *{shape})", got=got)
    total: Counts = array.sum(axis=0, dtype=np.int64)
    return total


def _targets(mapping: Mapping, source: Placed) -> Iterator[tuple[Placed, _Terms]]:
    """Populations that a population's synapses lead to, and which of their tiles each of its neurons reaches."""
    for target in mapping.placed:
        paths = target.population.sources().get(source.name)
        if paths is not None:
            yield target, list(united(paths, target.tile))


def _travelled(source: Placed, reach: tuple[Placed, _Terms], emitted: _Emitted, mesh: _Mesh) -> Counts:
    """Messages off the chip and hops along both directions to one population, (3, samples)."""
    target, terms = reach
    total = np.zeros((3, len(emitted)), np.int64)
    destinations = mesh.place(target.first_core + np.arange(target.cores))
    for number, place in enumerate(np.ndindex(*source.grid)):
        inside = tuple(slice(i * n, (i + 1) * n) for i, n in zip(place, source.tile, strict=True))
        arriving = _arriving(source, emitted, inside, terms)
        chip, row, column = mesh.place(np.array([source.first_core + number]))
        away = destinations[0] != chip
        total += np.stack(
            [
                arriving @ away,
                arriving @ np.where(away, 0, abs(destinations[2] - column)),
                arriving @ np.where(away, 0, abs(destinations[1] - row)),
            ]
        )
    return total


def _arriving(source: Placed, emitted: _Emitted, inside: tuple[slice, ...], terms: _Terms) -> Counts:
    """Messages from the neurons of one tile to each core of a population, (samples, cores)."""
    tile = (slice(None), *inside)
    spikes = emitted[tile].astype(np.float64)  # whole numbers far below 2**53
    total = np.zeros((len(emitted), 1))
    for sign, (channels, rows, columns) in terms:
        if channels.shape[1] != source.population.sizes[0]:  # a map here, a vector to that population
            full = np.zeros(emitted.shape)
            full[tile] = spikes
            part = full.reshape(len(emitted), -1) @ channels.T
        else:
            c, r, k = inside
            part = np.einsum(
                "nabc,xa,yb,zc->nxyz",
                spikes,
                *(m.astype(np.float64) for m in (channels[:, c], rows[:, r], columns[:, k])),
                optimize=True,
            )
        total = total + sign * part.reshape(len(emitted), -1)
    counted: Counts = np.rint(total).astype(np.int64)
    return counted
