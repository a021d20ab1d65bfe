"""What a bundle's manifest says, checked to the last entry: the child that runs a bundle checks nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from snndeploy import ir
from snndeploy.errors import FileFormatError
from snndeploy.ir.document import network_from_json
from snndeploy.ir.neurons import registers
from snndeploy.ir.timing import ScheduleName

MANIFEST = "manifest.json"
REMEDY = "export the network again"

Form: TypeAlias = Literal["fused", "stock"]
_MOST = 10**7  # of any count: the longest sample in the slowest sensible schedule has fewer machine steps
_NOT_OF_THE_OP = ("sources", "exponents")


def form_of(manifest: Mapping[str, Any]) -> Form:
    """Which Lava processes the bundle is for."""
    form: Form = one_of(manifest, "form", get_args(Form))
    if (form == "stock") != isinstance(manifest.get("stock"), dict):
        raise wrong("stock", "must stand in a stock bundle as an object, and in no other")
    return form


def network_of(manifest: Mapping[str, Any], weights: Mapping[str, npt.NDArray[Any]]) -> ir.Network:
    """The network that a bundle runs.

    Args:
        manifest: JSON values.
        weights: Array by parameter name.

    Raises:
        SnnDeployError: An entry has a wrong type or breaks a rule.
    """
    populations = objects(manifest, "populations")
    steps = _program(populations)
    value = {
        "graph": {"ops": list(_ops(populations)), "edges": list(_edges([*steps.values(), *populations]))},
        "format": field(manifest, "number_format", str),
        **{name: manifest[name] for name in ("steps", "readout", "input", "classes")},
    }
    if any(array.dtype != np.float32 for array in weights.values()):
        raise FileFormatError("weights.npz", "must hold float32 arrays", remedy=REMEDY)
    network = network_from_json(value, weights, _exponents(steps))
    if network.readout != manifest["readout"]:
        raise wrong("readout", "must be at least 1", manifest["readout"])
    _check_populations(network, populations)
    _check_registers(network, populations)
    return network


def schedule_of(manifest: Mapping[str, Any], network: ir.Network) -> ir.Schedule:
    """When each population updates.

    Raises:
        FileFormatError: An entry has a wrong type, or does not fit the others.
    """
    timing, populations = field(manifest, "schedule", dict), objects(manifest, "populations")
    schedule = ir.Schedule(
        name=one_of(timing, "name", get_args(ScheduleName)),
        initiation_interval=count(timing, "initiation_interval", 1),
        start={p["name"]: count(p, "start", 0) for p in populations},
        waits={
            ir.Synapse(arrival["source"], p["name"], arrival["delay"]): arrival["wait"]
            for p in populations
            for arrival in p["arrivals"]
            if count(arrival, "wait", 0)
        },
        gap=count(timing, "gap", 0),
    )
    if schedule.name != "scheduled" and schedule.initiation_interval != 1:
        raise wrong("initiation_interval", f"must be 1 in a {schedule.name} schedule")
    if schedule.name == "synchronous" and (any(schedule.start.values()) or schedule.waits):
        raise wrong("schedule", "has starts and waits of 0 if it is synchronous")
    for name, steps in (
        ("machine_steps", schedule.machine_steps(network.steps)),
        ("machine_steps_per_sample", schedule.machine_steps_per_sample(network.steps)),
    ):
        if count(timing, name, 1) != steps:
            raise wrong(name, f"must be {steps}, as starts and interval have it", timing[name])
    return schedule


def field(entry: Mapping[str, Any], name: str, *types: type) -> Any:
    """One entry of a JSON object; True is no number."""
    value = entry[name]
    if type(value) not in types:
        raise wrong(name, f"must be of type {' or '.join(t.__name__ for t in types)}", repr(value))
    return value


def count(entry: Mapping[str, Any], name: str, least: int) -> int:
    """One entry of a JSON object that is a whole number, from `least` to `_MOST`."""
    value: int = field(entry, name, int)
    if not least <= value <= _MOST:
        raise wrong(name, f"must be at least {least} and at most {_MOST}", value)
    return value


def objects(entry: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """One entry of a JSON object that is a list of objects."""
    values: list[dict[str, Any]] = field(entry, name, list)
    if not all(isinstance(value, dict) for value in values):
        raise wrong(name, "must be a list of objects")
    return values


def one_of(entry: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> Any:
    """One entry of a JSON object that is one of some words."""
    value = field(entry, name, str)
    if value not in allowed:
        raise wrong(name, f"must be one of {', '.join(allowed)}", repr(value))
    return value


def wrong(name: str, rule: str, got: object = None) -> FileFormatError:
    """The error for an entry of a manifest."""
    return FileFormatError(f"{MANIFEST}, {name}", rule, got=got, remedy=REMEDY)


def _program(populations: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every op between populations, by name; one that leads into several stands in the program of each."""
    found: dict[str, dict[str, Any]] = {}
    for population in populations:
        for step in objects(population, "program"):
            if found.setdefault(field(step, "name", str), step) != step:
                raise wrong("program", "must say the same of an op wherever it stands", step["name"])
    return found


def _ops(populations: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every op as a network file has it, in the order of execution."""
    seen: set[str] = set()
    for population in populations:
        for step in population["program"]:
            if step["name"] not in seen:
                seen.add(step["name"])
                yield {key: value for key, value in step.items() if key not in _NOT_OF_THE_OP}
        kept = {"Input": ("shape",), "Lif": ("tau", "threshold"), "Output": ()}
        kind = one_of(population, "type", tuple(kept))
        yield {key: population[key] for key in ("name", "type", *kept[kind])}


def _edges(entries: list[dict[str, Any]]) -> Iterator[list[Any]]:
    for entry in entries:
        for edge in objects(entry, "sources"):
            yield [field(edge, "source", str), field(entry, "name", str), count(edge, "delay", 0)]


def _exponents(steps: Mapping[str, dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    found = {}
    for name, step in steps.items():
        for parameter, values in field(step, "exponents", dict).items() if "exponents" in step else ():
            if type(values) is not list or any(type(k) is not int for k in values):
                raise wrong("exponents", "must be whole numbers", repr(values))
            found[f"{name}.{parameter}"] = tuple(values)
    return found


def _check_populations(network: ir.Network, populations: list[dict[str, Any]]) -> None:
    """Raises FileFormatError unless all that follows from the network's structure is as it follows."""
    graph = network.graph
    if tuple(p["name"] for p in populations) != ir.populations(graph):
        raise wrong("populations", "must stand in the order of execution")
    for population in populations:
        name = population["name"]
        if field(population, "shape", list) != list(graph.shapes[name]):
            raise wrong(f"{name}, shape", f"must be {list(graph.shapes[name])}", population["shape"])
        arrivals = [
            (field(a, "source", str), count(a, "delay", 0), tuple(field(a, "shape", list)))
            for a in objects(population, "arrivals")
        ]
        if arrivals != [(source, delay, graph.shapes[source]) for source, delay in ir.arrivals(graph, name)]:
            raise wrong(f"{name}, arrivals", "must be what its program and itself have as sources")
        known = {(source, delay) for source, delay, _ in arrivals}
        for step in population["program"]:
            if not {(edge["source"], edge["delay"]) for edge in step["sources"]} <= known:
                raise wrong(f"{name}, program", "must name an op after its sources", step["name"])
            known.add((step["name"], 0))
        if {step["name"] for step in population["program"]} != set(ir.upstream(graph, name)):
            raise wrong(f"{name}, program", "must hold exactly the ops that lead into it")


def _check_registers(network: ir.Network, populations: list[dict[str, Any]]) -> None:
    """Raises FileFormatError unless neurons in the loihi format are programmed as the network has it."""
    expected = registers(network) if isinstance(network.format, ir.Loihi) else {}
    for population in populations:
        programmed = expected.get(population["name"])
        values = programmed and {
            "grid_bits": programmed.grid_bits.tolist(),
            "threshold": programmed.threshold.tolist(),
            "decay": programmed.decay,
            "bias_mantissa": programmed.bias_mantissa.tolist(),
            "bias_exponent": programmed.bias_exponent.tolist(),
        }
        if population.get("registers") != values:
            raise wrong(f"{population['name']}, registers", "must be those of the network's weights")
