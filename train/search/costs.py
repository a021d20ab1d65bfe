"""What an architecture costs, as far as it is known without running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.errors import NetworkError
from snndeploy.ir import BackwardConnection, Graph, Synapse, parameter_count, schedule, with_backward
from snndeploy.ir.fanout import psi, psi_total
from snndeploy.ir.populations import populations, synapses
from snndeploy.ir.timing import starts
from snndeploy.train.evaluation import E_AC_PJ


@dataclass(frozen=True)
class Costs:
    """Costs of a graph, whatever its weights.

    interval: Smallest initiation interval II, in machine steps.
    machine_steps: From the first input of a sample to its logits, at that interval.
    parameters: Trained values.
    psi_total: Synapses of all Lif neurons together, exactly.
    """

    interval: int
    machine_steps: int
    parameters: int
    psi_total: int


def costs(graph: Graph, steps: int) -> Costs:
    """Costs of any graph, for samples of `steps` logical time steps.

    Raises:
        GraphError: As `snndeploy.ir.fanout.psi_total`.
    """
    found = schedule(graph)
    return Costs(
        interval=found.initiation_interval,
        machine_steps=found.machine_steps(steps),
        parameters=parameter_count(graph),
        psi_total=int(psi_total(graph)),
    )


@dataclass(frozen=True, eq=False)
class CostModel:
    """`costs` of a backbone with any backward connections, without a graph for each.

    Every backward connection adds its own parameters and synapses, whatever the others are; only the timing
    depends on all of them.
    """

    backbone: Graph
    steps: int
    _added: dict[BackwardConnection, tuple[int, int]] = field(default_factory=dict, init=False, repr=False)

    def costs(self, connections: Sequence[BackwardConnection]) -> Costs:
        """Costs of the backbone with some backward connections.

        Raises:
            GraphError: As `snndeploy.ir.with_backward` and `snndeploy.ir.fanout.psi_total`.
        """
        interval, machine_steps = self.timing(connections)
        added = [self._adds(connection) for connection in connections]
        return Costs(
            interval=interval,
            machine_steps=machine_steps,
            parameters=self._own.parameters + sum(parameters for parameters, _ in added),
            psi_total=self._own.psi_total + sum(synapses for _, synapses in added),
        )

    def timing(self, connections: Sequence[BackwardConnection]) -> tuple[int, int]:
        """Smallest initiation interval and machine steps of a sample, as `costs` gives them."""
        ports, names = self.backbone.ports, populations(self.backbone)
        more = (Synapse(ports[c.source], ports[c.target], c.delay) for c in connections)
        edges = tuple(dict.fromkeys((*self._synapses, *more)))
        for interval in count(1):  # ends: every cycle has a delay
            start = starts(names, edges, interval)
            if start is not None:
                return interval, (self.steps - 1) * interval + start[self.backbone.output] + 1
        raise AssertionError

    def parameters(self, connections: Sequence[BackwardConnection]) -> int:
        """Trained values, as `costs` gives them."""
        return self._own.parameters + sum(self._adds(connection)[0] for connection in connections)

    @cached_property
    def _own(self) -> Costs:
        return costs(self.backbone, self.steps)

    @cached_property
    def _synapses(self) -> tuple[Synapse, ...]:
        return synapses(self.backbone)

    def _adds(self, connection: BackwardConnection) -> tuple[int, int]:
        """Parameters and synapses that a backward connection adds."""
        if connection not in self._added:
            graph = with_backward(self.backbone, connection.source, connection.target, connection.delay)
            more_parameters = parameter_count(graph) - self._own.parameters
            self._added[connection] = more_parameters, int(psi_total(graph)) - self._own.psi_total
        return self._added[connection]


def estimated_energy_pj(graph: Graph, spikes: Mapping[str, npt.NDArray[Any]]) -> float:
    """Energy of the synaptic operations that spikes cause: E_SNN = E_AC * sum of psi * spikes.

    Args:
        graph: Any graph.
        spikes: Of one sample, or the mean over several, summed over the time steps: per neuron of every Lif,
            in arrays of the Lif's shape.

    Raises:
        NetworkError: The spikes of a Lif are missing or have another shape.
        GraphError: As `snndeploy.ir.fanout.psi`.

    Source: Spiking Synaptic Penalty, eq. 10.
    """
    synops = 0.0
    for name, fanout in psi(graph).items():
        if name not in spikes or np.shape(spikes[name]) != fanout.shape:
            got = np.shape(spikes[name]) if name in spikes else "nothing"
            raise NetworkError(name, f"spikes must have shape {fanout.shape}", got=got)
        synops += float((spikes[name] * fanout).sum(dtype=np.float64))
    return E_AC_PJ * synops
