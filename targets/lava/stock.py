"""What a stock bundle says beside its network, checked to the last entry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy import ir
from snndeploy.ir.neurons import total_biases, weight_grids
from snndeploy.targets.lava.manifest import count, field, objects, one_of, wrong

_LARGEST_EXPONENT = 31


def check_stock(
    document: Mapping[str, Any], network: ir.Network, arrays: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Checks the `stock` object of a manifest.

    Args:
        document: JSON values.
        network: What the bundle runs.
        arrays: The arrays of `weights.npz` that are no parameters, by name.

    Raises:
        FileFormatError: An entry has a wrong type or does not fit the network or the arrays.
    """
    if not isinstance(network.format, ir.Loihi):
        raise wrong("stock", "needs a network in the loihi format", network.format.name)
    output, graph = network.graph.output, network.graph
    expected = {
        "grid_bits": weight_grids(network)[output].tolist(),
        "bias": total_biases(network)[output].tolist(),
    }
    if field(document, "output", dict) != expected:
        raise wrong("stock, output", "must have the grid and the bias of the network's Output")
    if count(document, "input_bits", 0) != network.input.grid_bits:
        raise wrong("stock, input_bits", f"must be {network.input.grid_bits}", document["input_bits"])
    populations = objects(document, "populations")
    if [field(p, "name", str) for p in populations] != [*graph.ports, output]:
        raise wrong("stock, populations", "must be every Lif and the Output, in the order of execution")
    for population in populations:
        _check_population(population, network, arrays)


def _check_population(
    population: Mapping[str, Any], network: ir.Network, arrays: Mapping[str, npt.NDArray[Any]]
) -> None:
    shapes, name = network.graph.shapes, population["name"]
    for synapse in objects(population, "synapses"):
        source = one_of(synapse, "source", tuple(ir.populations(network.graph)[:-1]))
        count(synapse, "hold", 0)
        kind = one_of(synapse, "type", ("Conv", "Dense", "Sparse"))
        weight = _array(synapse, arrays)
        if kind == "Conv":
            _check_convolution(synapse, weight, shapes[source][0], shapes[name][0])
            continue
        size = (math.prod(shapes[name]), math.prod(shapes[source]))
        _exponent(synapse)
        fits = weight.shape == size if kind == "Dense" else _is_sparse(weight, size)
        if not fits or (kind == "Sparse" and field(synapse, "shape", list) != list(size)):
            raise wrong(f"{name}, stock", f"must have a matrix of {size}", synapse["weight"])
    if (silence := population["silence"]) is not None:
        _exponent(field(population, "silence", dict))
        if _array(silence, arrays).shape != (math.prod(shapes[name]), 1):
            raise wrong(f"{name}, stock", "must be silenced by one neuron", silence["weight"])


def _check_convolution(
    synapse: Mapping[str, Any], weight: npt.NDArray[Any], inputs: int, outputs: int
) -> None:
    groups = count(synapse, "groups", 1)
    for which, least in (("stride", 1), ("padding", 0)):
        sizes = field(synapse, which, list)
        if len(sizes) != 2 or any(type(size) is not int or size < least for size in sizes):
            raise wrong(f"stock, {which}", f"must be two whole numbers of at least {least}", sizes)
    if weight.ndim != 4 or (weight.shape[0], weight.shape[3] * groups) != (outputs, inputs):
        raise wrong("stock, weight", f"must be a kernel from {inputs} to {outputs} channels", weight.shape)


def _is_sparse(weight: npt.NDArray[Any], size: tuple[int, int]) -> bool:
    """Whether an array holds rows and columns within a matrix, and weights."""
    if weight.ndim != 2 or len(weight) != 3:
        return False
    places = weight[:2]
    return bool((places >= 0).all() and (places < np.reshape(size, (2, 1))).all())


def _array(entry: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    weight = arrays[field(entry, "weight", str)]
    if weight.dtype != np.int32:
        raise wrong("stock, weight", "must be an array of int32", weight.dtype)
    return weight


def _exponent(entry: Mapping[str, Any]) -> None:
    if abs(field(entry, "weight_exp", int)) > _LARGEST_EXPONENT:
        raise wrong("stock, weight_exp", f"must be at most {_LARGEST_EXPONENT} in size", entry["weight_exp"])
