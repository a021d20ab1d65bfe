"""Networks that Lava simulates one after the other in one child process, and what it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from snndeploy import ir
from snndeploy.export import lava as lowering
from snndeploy.ir.timing import ScheduleName, pipelined_delays
from snndeploy.targets import lava
from tests.export.networks import Case, assert_active, assert_same


@dataclass(frozen=True, eq=False)
class Run:
    """A network on its input, the schedule it ran with, and what Lava did."""

    tested: Case
    schedule: ir.Schedule
    simulation: lava.Simulation

    def differing(self) -> int:
        """Number of spikes that differ from the interpreter's."""
        expected = ir.run(self.tested.network, self.tested.x).spikes
        found = self.simulation.trace.spikes
        return sum(int((expected[name] != found[name]).sum()) for name in expected)

    def assert_equal(self) -> None:
        """Fails unless every layer fires, and spikes, sums and potentials are the interpreter's, bit for bit."""
        assert_active(self.tested)
        expected = ir.run(self.tested.network, self.tested.x, potentials=True)
        found = self.simulation.trace
        assert_same(found, expected)
        assert set(found.potentials) == set(expected.potentials)
        for port, potentials in expected.potentials.items():
            np.testing.assert_array_equal(found.potentials[port], potentials, err_msg=port)


def simulated(
    cases: Mapping[str, tuple[Case, ir.Schedule]], folder: Path, interpreter: lava.Interpreter
) -> dict[str, Run]:
    """Runs cases, each with its schedule."""
    bundles = [
        lowering.export(tested.network, folder / str(index), tested.x, schedule=schedule)
        for index, (tested, schedule) in enumerate(cases.values())
    ]
    simulations = lava.simulate(bundles, potentials=True, interpreter=interpreter)
    return {
        name: Run(tested, schedule, simulation)
        for (name, (tested, schedule)), simulation in zip(cases.items(), simulations, strict=True)
    }


def scheduled(tested: Case, kind: ScheduleName | None = None) -> tuple[Case, ir.Schedule]:
    """A case with a schedule of its graph."""
    return tested, ir.schedule(tested.network.graph, kind=kind)


def pipelined(graph: ir.Graph) -> ir.Graph:
    """The graph with delays long enough for an initiation interval of 1."""
    delays = pipelined_delays(graph)
    return ir.Graph(
        graph.ops, tuple(replace(edge, delay=delays.get(edge, edge.delay)) for edge in graph.edges)
    )
