"""The facts that `snndeploy schedule` reports."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snndeploy.errors import ConfigError, TimingError

if TYPE_CHECKING:
    from snndeploy.ir import Graph, Schedule
    from snndeploy.targets.chip import Chip


def describe(graph: Graph, found: Schedule, steps: int) -> dict[str, Any]:
    """When each population updates, and what that costs in machine steps, as JSON values.

    Args:
        graph: Any graph.
        found: Its schedule.
        steps: Logical time steps T.
    """
    from snndeploy.ir import backward_connections, synapses
    from snndeploy.ir.speed import backward_costs, speed
    from snndeploy.ir.timing import critical_cycle

    number = {name: port for port, name in enumerate(graph.ports)}
    cycle = critical_cycle(graph)
    return {
        "schedule": found.name,
        "hardware": found.name != "synchronous",
        "steps": steps,
        "initiation_interval": found.initiation_interval,
        "cycle": [s.source for s in cycle],
        "cycle_delay": sum(s.delay for s in cycle),
        "gap": found.gap,
        "machine_steps": found.machine_steps(steps),
        "machine_steps_per_sample": found.machine_steps_per_sample(steps),
        "populations": [
            {
                "name": name,
                "port": number.get(name),
                "start": start,
                "phase": start % found.initiation_interval,
            }
            for name, start in found.start.items()
        ],
        "synapses": [asdict(s) | {"wait": found.waits.get(s, 0)} for s in synapses(graph)],
        "fastest": asdict(speed(graph, steps)),
        "without_backward": asdict(speed(graph, steps, backward_connections(graph))),
        "backward": [
            asdict(cost.connection) | {"without": asdict(cost.without), "alone": asdict(cost.alone)}
            for cost in backward_costs(graph, steps)
        ],
        "pipelined": _pipeline(graph, steps),
    }


def _pipeline(graph: Graph, steps: int) -> dict[str, Any]:
    """The delays for an interval of 1 and the machine steps with them, or why there are none within T."""
    from snndeploy.ir.pipeline import pipelined
    from snndeploy.ir.speed import Speed, speed
    from snndeploy.ir.timing import pipelined_delays

    delays = [
        {"source": edge.source, "target": edge.target, "delay": edge.delay, "needed": delay}
        for edge, delay in pipelined_delays(graph).items()
    ]
    reached: dict[str, int | None]
    try:
        reached, problem = dict(asdict(speed(pipelined(graph, steps), steps))), ""
    except TimingError as error:
        reached, problem = dict.fromkeys(Speed.__dataclass_fields__), str(error)
    return {"delays": delays, "problem": problem, **reached}


def chip_for(found: Schedule, target: str | None) -> Chip | None:
    """The chip by name or path; None without one.

    Raises:
        ConfigError: The schedule is not one of hardware.
        TargetError: There is no such chip.
        FileFormatError: Its file breaks a rule.
    """
    from snndeploy.targets.chip import load

    if target is None:
        return None
    if found.name == "synchronous":
        raise ConfigError(
            "--target",
            "is for schedules of hardware, and a synchronous one is a CPU's",
            remedy="use --kind scheduled or pipelined",
        )
    return load(target)


def on_chip(found: Schedule, steps: int, chip: Chip) -> dict[str, Any]:
    """Time on a chip, all ESTIMATED, and what the chip cannot do, as JSON values.

    Latency is the machine steps of one sample, and throughput one over those between two samples, times the time
    of a machine step.
    """
    step, known = chip.step_time_us, chip.limits["time.step"]
    latency = step * found.machine_steps(steps)
    between = step * found.machine_steps_per_sample(steps)
    return {
        "name": chip.name,
        "step_time": asdict(step) | {"unit": "us", "evidence": known.evidence, "source": known.source},
        "latency": asdict(latency) | {"unit": "us"},
        "throughput": {
            "value": 1e6 / between.value,
            "low": 1e6 / between.high,
            "high": 1e6 / between.low,
            "unit": "samples/s",
        },
        "infeasible": infeasible(found, chip),
    }


def infeasible(found: Schedule, chip: Chip) -> list[str]:
    """What a chip cannot do of a schedule, each in one line."""
    problems = []
    if found.initiation_interval > 1 and not chip.allows("phased_neurons"):
        problems.append(
            f"neurons would have to update once in {found.initiation_interval} machine steps; "
            "a pipelined network needs no such neurons (--pipelined)"
        )
    longest = chip.limit("synapse.delay")
    for synapse, wait in found.waits.items():
        if longest is not None and wait > longest:
            problems.append(f"{synapse} waits {wait} machine steps, and a synapse can wait {longest}")
    return problems


def drawn(graph: Graph, found: Schedule, steps: int, path: Path, what: str) -> Path:
    """Draws a schedule into a .svg or .png file.

    Raises:
        ConfigError: The path has another ending.
        FileFormatError: It cannot be written.
    """
    from snndeploy.figures import Arrival, Timetable, timetable
    from snndeploy.ir import backward_connections, synapses

    row = {name: index for index, name in enumerate(found.start)}
    loops = ", ".join(f"{c.source}:{c.target} (delay {c.delay})" for c in backward_connections(graph))
    description = (
        f"{len(row)} populations from {graph.input} to {graph.output}. One logical step starts every "
        f"{found.initiation_interval} machine steps. A sample of {steps} logical steps takes "
        f"{found.machine_steps(steps)} machine steps; the next one starts after "
        f"{found.machine_steps_per_sample(steps)}, {found.gap} blank logical steps included. "
        f"Backward connections: {loops or 'none'}. Synapses that wait: {len(found.waits)}."
    )
    interval = f"II = {found.initiation_interval}"
    kind = "synchronous (CPU only, no hardware timing)" if found.name == "synchronous" else found.name
    table = Timetable(
        rows=tuple(found.start.items()),
        arrivals=tuple(
            Arrival(row[s.source], row[s.target], s.delay, found.waits.get(s, 0)) for s in synapses(graph)
        ),
        steps=steps,
        interval=found.initiation_interval,
        gap=found.gap,
        title=f"{what}: {kind}, {interval}, {found.machine_steps(steps)} machine steps",
        description=description,
    )
    return timetable(table, path)
