"""What of a network does not fit a chip, and what would mend it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from snndeploy.errors import NetworkError
from snndeploy.ir import Conv2d, Exact, Linear, Loihi, Network, certify, schedule
from snndeploy.ir.formats import mantissa
from snndeploy.ir.neurons import weight_grids
from snndeploy.targets.resources.mapping import WEIGHT_BITS, Mapping, Placed
from snndeploy.targets.resources.tiling import MEMORY, OUTPUT_AXONS


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that keeps a network from running on a chip.

    where: The population, synapse or op.
    limit: The limit or rule of the chip, by its name in `snndeploy.targets.chip`.
    problem: What it needs and what there is.
    remedy: What would mend it.
    """

    where: str
    limit: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}; {self.remedy}"


def violations(
    mapping: Mapping, network: Network | None = None, *, analog: bool = True
) -> tuple[Violation, ...]:
    """Everything of a mapped graph that does not fit its chip.

    Args:
        mapping: The graph on its cores.
        network: Of the same graph; without one, and in float32, thresholds in units of weights are not known and
            not checked.
        analog: Whether the input holds anything but 0 and 1.

    Raises:
        NetworkError: The network is of another graph.
    """
    if network is not None and network.graph != mapping.graph:
        raise NetworkError("network", "must be of the graph that was mapped")
    found = [
        *_input(mapping, analog=analog),
        *_weights(mapping),
        *_timing(mapping),
        *(violation for placed in mapping.placed for violation in _cores(mapping, placed)),
    ]
    if network is not None:
        found += [*_thresholds(mapping, network), *_certificate(network)]
    return tuple(found)


def weight_bits(network: Network) -> int:
    """Bits of the widest weight, sign included; 8 for weights that are not quantised."""
    form = network.format
    if not isinstance(form, (Exact, Loihi)):
        return WEIGHT_BITS
    names = [f"{name}.weight" for name, op in network.graph.ops.items() if isinstance(op, (Conv2d, Linear))]
    largest = max(
        (float(np.abs(mantissa(network.weights[name], form.exponents[name])).max()) for name in names),
        default=1.0,
    )
    return int(largest).bit_length() + 1


def is_analog(network: Network) -> bool:
    """Whether a network's input may be anything but 0 and 1."""
    spec = network.input
    return spec.grid_bits != 0 or spec.low < 0 or spec.high > 1


def _input(mapping: Mapping, *, analog: bool) -> Iterator[Violation]:
    takes = [p.name for p in mapping.placed if mapping.graph.input in p.population.sources()]
    if analog and not mapping.chip.allows("graded_input"):
        yield Violation(
            ", ".join(takes),
            "rules.graded_input",
            f"takes the analog input, and {mapping.chip.name} sends spikes without numbers",
            "compute the first layer on the host and send its spikes, or give event frames of 0 and 1",
        )


def _weights(mapping: Mapping) -> Iterator[Violation]:
    needed, limit = mapping.neuron.weight_bits, mapping.limits.get("synapse.weight_bits")
    if limit is not None and needed > limit:
        yield Violation(
            "weights",
            "synapse.weight_bits",
            f"need {needed} bits, and a synapse of {mapping.chip.name} has {limit}",
            f"quantize the network to {limit} bits",
        )


def _timing(mapping: Mapping) -> Iterator[Violation]:
    timing, limit = schedule(mapping.graph), mapping.limits.get("synapse.delay")
    if timing.initiation_interval > 1 and not mapping.chip.allows("phased_neurons"):
        yield Violation(
            "schedule",
            "rules.phased_neurons",
            f"updates every {timing.initiation_interval} machine steps, and neurons of {mapping.chip.name} leak "
            "and fire at each",
            "train with the longer delays that `snndeploy schedule --pipelined` gives",
        )
    for synapse, wait in timing.waits.items():
        if limit is not None and wait > limit:
            yield Violation(
                str(synapse),
                "synapse.delay",
                f"must be held back {wait} machine steps, and a synapse of {mapping.chip.name} holds at most {limit}",
                "shorten its delay",
            )


def _cores(mapping: Mapping, placed: Placed) -> Iterator[Violation]:
    """What one neuron needs more of than a core has, and output axons that no tiles bring down."""
    readout = placed.name == mapping.graph.output
    for resource, needed in placed.lifted.items():
        limit = mapping.limits[resource]
        groups = -(-needed // limit)
        if resource == MEMORY:
            problem = f"a neuron takes {needed} bytes, and a core has {limit}"
            remedy = f"use at least {groups} groups, fewer channels, a smaller kernel or fewer bits"
        else:
            problem = f"a neuron takes spikes of {needed} others, and a core has {limit} input axons"
            remedy = f"use at least {groups} groups or fewer channels, or split the layer with a Lif for each part "
            remedy += "of its input: a sum cannot be spread over cores"
        if readout:
            remedy = "put a Lif behind the pool before it, or compute it on the host"
        yield Violation(placed.name, resource, problem, remedy)
    axons, most = placed.fullest(OUTPUT_AXONS), mapping.limits.get(OUTPUT_AXONS)
    if most is not None and axons > most:
        yield Violation(
            placed.name,
            OUTPUT_AXONS,
            f"the neurons of one core and the cores that take their spikes make {axons} pairs, and it has {most} "
            "output axons",
            "use groups or fewer channels in the populations it leads to",
        )


def _thresholds(mapping: Mapping, network: Network) -> Iterator[Violation]:
    """A threshold is a number of units of the finest weight that enters a channel."""
    form = network.format
    if mapping.chip.allows("own_thresholds") or not isinstance(form, (Exact, Loihi)):
        return
    grids = weight_grids(replace(network, format=Loihi(form.exponents)))
    for name in network.graph.ports:
        different = len(set(grids[name].tolist()))
        if different > 1:
            yield Violation(
                name,
                "rules.own_thresholds",
                f"has {different} different thresholds, and the neurons of a core of {mapping.chip.name} share one",
                "quantize with one grid per layer: `snndeploy quantize --granularity layer`",
            )


def _certificate(network: Network) -> Iterator[Violation]:
    if not isinstance(network.format, Loihi):
        return
    for row in certify(network).failures:
        yield Violation(row.op, "certificate", row.reason, "quantize the network again, with fewer bits")
