"""A network as Lava's own processes: `Conv`, `Dense`, `Sparse` and `LIFReset` with their fixed-point models.

Lava's LIF updates in every machine step, so that this form needs an initiation interval of 1. What a sample
leaves behind must not reach the next one, nor may a bias act while the pipeline fills:

- Each population is a `LIFReset` that starts from zero at its own first update of every sample. Without
  delayed edges that suffices: whatever enters at a sample's step left its source at that same step.
- A population whose spikes are delayed is silenced in every machine step between its samples, by one neuron
  with an inhibitory `Dense` synapse that outweighs the largest current, so that nothing but silence enters the
  next sample late. No synapse can act in machine step 0; there a very negative first potential does.

Biases are in the LIF's own registers, mantissa * 2**exponent units of the membrane. As a synapse from a neuron
that starts with its population, a bias would pass the current's shift of 6 digits and be a multiple of 64 units:
the registers are 64 times finer, and the format is defined by them. The resets and the silence make it
unnecessary that a bias starts with its population.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from snndeploy import ir
from snndeploy.errors import TargetError
from snndeploy.export.lava.composed import (
    Convolution,
    StockSynapse,
    channels_last,
    digits,
    stock_synapses,
)
from snndeploy.ir import timing
from snndeploy.ir.neurons import (
    ACTIVATION_SHIFT,
    DECAY_UNITY,
    LARGEST_CURRENT,
    LARGEST_MEMBRANE,
    registers,
    total_biases,
    weight_grids,
)

_LARGEST_WEIGHT = 254
_DENSE_FROM = 0.5
"""Share of weights other than zero from which on a matrix is `Dense` rather than `Sparse`."""

Wide: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stock:
    """What a stock bundle has beside a fused one.

    document: The `stock` object of the manifest. `populations` holds for every Lif and the Output its `synapses`
        (`type`, `source`, machine steps of `hold`, the `weight`'s array and the constants of the Lava process)
        and what `silence`s it between samples, or null; `input_bits` and `output` say how to convert.
    arrays: Arrays for `weights.npz`, by names that begin with `stock/`; of a `Sparse` the rows, columns and
        weights, (3, number of weights).
    """

    document: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]


def lower(network: ir.Network, schedule: timing.Schedule) -> Stock:
    """Lowers a network.

    Args:
        network: A network in the loihi format whose certificate holds.
        schedule: With an initiation interval of 1.

    Raises:
        TargetError: The network or the schedule has no stock form; says which part of it, and why.
    """
    _require_format(network)
    _require_pipeline(network.graph, schedule)
    graph = network.graph
    arrays: dict[str, npt.NDArray[Any]] = {}
    populations = [
        _population(network, schedule, name, arrays) for name in ir.populations(graph) if name != graph.input
    ]
    output = {
        "grid_bits": weight_grids(network)[graph.output].tolist(),
        "bias": total_biases(network)[graph.output].tolist(),
    }
    document = {"input_bits": network.input.grid_bits, "output": output, "populations": populations}
    return Stock(document, arrays)


def _population(
    network: ir.Network, schedule: timing.Schedule, name: str, arrays: dict[str, npt.NDArray[Any]]
) -> dict[str, Any]:
    """What leads into a population; its weights go into `arrays`."""
    graph = network.graph
    synapses = stock_synapses(network, name)
    silence = None
    if any(edge.source == name and edge.delay for edge in graph.edges):
        exponent, weight = _silencer(network, name, synapses, schedule.start[name])
        key = f"stock/{name}.silence"
        silence = {"weight": key, "weight_exp": exponent}
        arrays[key] = weight
    entries: list[dict[str, Any]] = []
    for synapse in synapses:
        hold = schedule.start[name] + synapse.delay - schedule.start[synapse.source] - 1
        for constants, weight in _processes(synapse):
            key = f"stock/{name}.{len(entries)}"
            entries.append({"source": synapse.source, "hold": hold, "weight": key, **constants})
            arrays[key] = weight
    return {"name": name, "synapses": entries, "silence": silence}


def _require_format(network: ir.Network) -> None:
    ir.require_folded(network.graph, "the stock form")
    if not isinstance(network.format, ir.Loihi):
        raise TargetError(
            "stock form",
            "needs a network in the loihi format, as Lava's own processes compute in whole numbers",
            got=network.format.name,
            remedy="quantize it to the loihi format",
        )
    for row in ir.certify(network).failures:
        raise TargetError(
            row.op,
            f"has no stock form, as {row.reason}",
            remedy="quantize the network again, with fewer bits or smaller weights",
        )


def _require_pipeline(graph: ir.Graph, schedule: timing.Schedule) -> None:
    if schedule.name == "synchronous":
        raise TargetError(
            "stock form",
            "has no synchronous schedule: each of Lava's own synapses takes one machine step",
            remedy="use a pipelined one",
        )
    if schedule.initiation_interval != 1:
        raise TargetError(
            "stock form",
            "needs an initiation interval of 1, as Lava's own neurons update in every machine step",
            got=schedule.initiation_interval,
            remedy="train the network with longer delays (`snndeploy schedule --pipelined` names them), or use "
            "the fused form",
        )
    if schedule.gap < graph.largest_delay:
        raise TargetError(
            "stock form",
            f"needs {graph.largest_delay} blank steps between samples, its largest delay",
            got=schedule.gap,
        )
    for s in ir.synapses(graph):
        if schedule.start[s.target] + s.delay <= schedule.start[s.source]:
            raise TargetError(
                f"synapse {s}", "would have to arrive before it is sent, so the schedule is wrong"
            )


def _processes(synapse: StockSynapse) -> Sequence[tuple[dict[str, Any], npt.NDArray[np.int32]]]:
    """Constants and weight of the Lava processes that make up a synapse."""
    if isinstance(synapse, Convolution):
        constants = {
            "type": "Conv",
            "stride": list(synapse.stride),
            "padding": list(synapse.padding),
            "groups": synapse.groups,
        }
        return [(constants, synapse.weight.astype(np.int32))]
    if len(synapse.values) >= _DENSE_FROM * synapse.outputs * synapse.inputs:
        return [
            ({"type": "Dense", "weight_exp": e}, synapse.dense(part)) for e, part in digits(synapse.values)
        ]
    shape = [synapse.outputs, synapse.inputs]
    return [
        (
            {"type": "Sparse", "weight_exp": e, "shape": shape},
            np.stack([synapse.rows, synapse.columns, part]).astype(np.int32),
        )
        for e, part in digits(synapse.values)
    ]


def _extremes(network: ir.Network, name: str, synapse: StockSynapse) -> tuple[Wide, Wide]:
    """Largest current a synapse can add to each neuron and, without its sign, the smallest, in weights of 1."""
    highest, lowest = 1.0, 0.0
    if synapse.source == network.graph.input:
        unit = 2.0 ** (network.input.grid_bits or 0)
        highest, lowest = network.input.high * unit, -network.input.low * unit
    positive, negative = _row_sums(synapse, network.graph.shapes[name])
    return positive * highest + negative * lowest, negative * highest + positive * lowest


def _row_sums(synapse: StockSynapse, shape: ir.Shape) -> tuple[Wide, Wide]:
    """Sums of the positive and, without sign, of the negative weights into each neuron."""
    if isinstance(synapse, Convolution):  # an interior neuron has the largest sums of its channel
        weights = synapse.weight.reshape(len(synapse.weight), -1).astype(np.float64)
        positive, negative = np.maximum(weights, 0).sum(axis=1), np.maximum(-weights, 0).sum(axis=1)
        return channels_last(positive, shape), channels_last(negative, shape)
    positive, negative = np.zeros(synapse.outputs), np.zeros(synapse.outputs)
    np.add.at(positive, synapse.rows, np.maximum(synapse.values, 0))
    np.add.at(negative, synapse.rows, np.maximum(-synapse.values, 0))
    return positive, negative


def _silencer(
    network: ir.Network, name: str, synapses: Sequence[StockSynapse], start: int
) -> tuple[int, npt.NDArray[np.int32]]:
    """Exponent and weights (neurons, 1) of the inhibition under which no neuron of a population fires.

    A potential after the reset is at most the threshold, so that with a current of at most P it suffices to
    subtract P + bias - (1 - tau) * V_th. Together with the most negative current that must stay above -2**17,
    where the membrane's current would wrap around.
    """
    shape, programmed = network.graph.shapes[name], registers(network)[name]
    threshold = channels_last(programmed.threshold << ACTIVATION_SHIFT, shape)
    bias = channels_last(programmed.bias_mantissa << programmed.bias_exponent, shape)
    currents = [_extremes(network, name, synapse) for synapse in synapses]
    largest, smallest = (
        np.ceil(np.sum(part, axis=0)).astype(np.int64) for part in zip(*currents, strict=True)
    )
    kept = DECAY_UNITY - programmed.decay  # 4096 * tau
    excess = (largest << ACTIVATION_SHIFT) + bias - threshold + threshold * kept // DECAY_UNITY
    needed = np.maximum(-(-excess >> ACTIVATION_SHIFT), 0)
    exponent = max(-(-int(needed.max()) // _LARGEST_WEIGHT) - 1, 0).bit_length()
    weight = 2 * -(-needed // (2 << exponent))
    strongest = int((smallest + (weight << exponent)).max())
    if strongest > LARGEST_CURRENT:
        raise TargetError(
            name,
            "cannot be silenced between samples, as its delayed spikes need: the inhibition and its own negative "
            f"weights may add up to {LARGEST_CURRENT} weights of 1",
            got=strongest,
            remedy="quantize the network with fewer bits, or use the fused form",
        )
    if start and (bias - (LARGEST_MEMBRANE * kept // DECAY_UNITY) > threshold).any():
        raise TargetError(
            name,
            "cannot be silenced in the first machine step, as its leak forgets at once and its bias exceeds the "
            "threshold",
            remedy="use the fused form",
        )
    return exponent, -weight.reshape(-1, 1).astype(np.int32)
