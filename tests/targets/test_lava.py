"""Lava computes the spikes, readout sums and membrane potentials of the reference interpreter, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from snndeploy import ir
from snndeploy.export import lava as lowering
from snndeploy.ir import timing
from snndeploy.targets import lava
from tests.export.networks import TOPOLOGIES, Case, assert_same, case, chain, overlapping
from tests.targets.lava_cases import Run, pipelined, scheduled, simulated

pytestmark = pytest.mark.lava

WITH_LOOPS = ("back_over_one", "back_over_many", "two_into_one", "overlapping")


def exact(tested: Case) -> Case:
    """The same case with its numbers, all on a grid of 1/16, declared to be in the exact format."""
    exponents = {name: (4,) * len(array) for name, array in tested.network.weights.items()}
    return Case(replace(tested.network, format=ir.Exact(exponents)), tested.x)


def at_interval(graph: ir.Graph, interval: int) -> ir.Schedule:
    """The graph's schedule forced to an initiation interval that may be too small for it."""
    fitting = ir.schedule(graph)
    held = timing.waits(ir.synapses(graph), fitting.start, interval)
    return replace(fitting, initiation_interval=interval, waits=held)


def without_backward(tested: Case) -> Case:
    """The case with the weights and biases of its backward branches set to zero."""
    cut = {
        name: np.zeros_like(array) if name.startswith("back") else array
        for name, array in tested.network.weights.items()
    }
    return Case(replace(tested.network, weights=cut), tested.x)


def cases() -> dict[str, tuple[Case, ir.Schedule]]:
    """Everything that runs, by name, with its schedule."""
    found: dict[str, tuple[Case, ir.Schedule]] = {}

    def add(name: str, tested: Case, interval: int | None = None) -> None:
        graph = tested.network.graph
        schedule = ir.schedule(graph) if interval is None else at_interval(graph, interval)
        found[name] = (tested, schedule)

    for name, topology in TOPOLOGIES.items():
        add(name, exact(case(topology(), steps=5, readout=3, seed=1)))
        found[f"{name} synchronous"] = scheduled(found[name][0], "synchronous")
    for name in WITH_LOOPS:
        longer = exact(case(pipelined(TOPOLOGIES[name]()), steps=7, seed=4))
        found[f"{name} pipelined"] = scheduled(longer, "pipelined")
    add("frames", exact(case(overlapping(), steps=4, seed=2, kind="frames")))
    add("one step", exact(case(chain(), steps=1, seed=1)))
    for name in WITH_LOOPS:
        tested, schedule = found[name]
        add(f"{name} too fast", tested, schedule.initiation_interval - 1)
        add(f"{name} cut", without_backward(tested))
    tested, schedule = found["overlapping"]
    add("slower", tested, schedule.initiation_interval + 2)
    for sample in range(len(tested.x)):
        add(f"alone {sample}", Case(tested.network, tested.x[sample : sample + 1]))
    return found


@pytest.fixture(scope="module")
def runs(lava_interpreter: lava.Interpreter, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Run]:
    """All cases, simulated one after the other in one child process."""
    return simulated(cases(), tmp_path_factory.mktemp("bundles"), lava_interpreter)


@pytest.mark.parametrize("name", [*TOPOLOGIES, "frames", "one step", "slower"])
def test_equal_to_the_interpreter(name: str, runs: Mapping[str, Run]) -> None:
    """Each topology, drawn where it is built, gives equal spikes, sums and potentials, samples back to back."""
    runs[name].assert_equal()


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_synchronous_equals_the_interpreter(name: str, runs: Mapping[str, Run]) -> None:
    """Where synapses take no machine step, T logical steps take T, and the results are the same."""
    run = runs[f"{name} synchronous"]
    run.assert_equal()
    assert run.schedule.machine_steps(5) == 5
    assert run.simulation.machine_steps == 3 * 5 + 2 * run.schedule.gap


@pytest.mark.parametrize("name", WITH_LOOPS)
def test_pipelined_equals_the_interpreter(name: str, runs: Mapping[str, Run]) -> None:
    """With delays long enough every population updates in every machine step."""
    run = runs[f"{name} pipelined"]
    run.assert_equal()
    assert run.schedule.initiation_interval == 1
    assert run.schedule.gap > 1


def test_topologies_exercise_the_schedule(runs: Mapping[str, Run]) -> None:
    """Among them are initiation intervals of 1 to 4, gaps of 0 to 3 and synapses that must wait."""
    schedules = [runs[name].schedule for name in TOPOLOGIES]
    assert {s.initiation_interval for s in schedules} >= {1, 2, 3, 4}
    assert {s.gap for s in schedules} >= {0, 1, 2, 3}
    assert max(wait for s in schedules for wait in s.waits.values()) >= 2


@pytest.mark.parametrize("name", WITH_LOOPS)
def test_one_machine_step_less_is_too_fast(name: str, runs: Mapping[str, Run]) -> None:
    """Below the smallest initiation interval backward spikes arrive late, and the result differs."""
    fitting, fast = runs[name], runs[f"{name} too fast"]
    assert fitting.schedule.initiation_interval - fast.schedule.initiation_interval == 1
    assert fitting.differing() == 0
    assert fast.differing() > 0


@pytest.mark.parametrize("name", WITH_LOOPS)
def test_backward_connections_matter(name: str, runs: Mapping[str, Run]) -> None:
    """Cutting the backward branches changes spikes on Lava, to those of the cut network."""
    cut, whole = runs[f"{name} cut"], runs[name]
    assert cut.differing() == 0
    found, other = cut.simulation.trace.spikes, whole.simulation.trace.spikes
    assert sum(int((found[port] != other[port]).sum()) for port in found) > 0


def test_samples_do_not_touch_each_other(runs: Mapping[str, Run]) -> None:
    """A sample gives the same spikes alone and in the middle of a stream, despite backward connections."""
    stream = runs["overlapping"].simulation.trace
    for sample in range(3):
        alone = runs[f"alone {sample}"].simulation.trace
        for port, spikes in alone.spikes.items():
            np.testing.assert_array_equal(stream.spikes[port][:, sample : sample + 1], spikes)
        np.testing.assert_array_equal(stream.readout_sum[sample : sample + 1], alone.readout_sum)


def test_machine_steps_are_the_schedules(runs: Mapping[str, Run]) -> None:
    """Lava runs for exactly the machine steps that the schedule foretells."""
    for run in runs.values():
        expected = run.schedule.machine_steps_streamed(
            run.tested.network.steps, len(run.simulation.trace.logits)
        )
        assert run.simulation.machine_steps == expected


def test_other_samples_progress_and_silence(
    lava_interpreter: lava.Interpreter, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Samples can be given and cut short; progress is told; nothing is printed; potentials are optional."""
    tested = exact(case(overlapping(), steps=4, seed=1))
    bundle = lowering.export(tested.network, tmp_path / "bundle", tested.samples(1))
    told: list[tuple[int, int]] = []
    (found,) = lava.simulate(
        [bundle],
        samples=tested.x,
        count=2,
        interpreter=lava_interpreter,
        progress=lambda *now: told.append(now),
    )
    assert_same(found.trace, ir.run(tested.network, tested.samples(2)))
    assert found.trace.potentials == {}
    assert told[-1] == (2, 2)
    assert told == sorted(told)
    assert tuple(capfd.readouterr()) == ("", "")
