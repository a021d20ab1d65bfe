"""`snndeploy schedule`: when each population of a network updates, and what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snndeploy.cli.options import Shape, backward_option, json_option

if TYPE_CHECKING:
    from snndeploy.ir.timing import ScheduleName

_RETRAIN = "delays change what a network computes: train it with them before it is used"


@click.command(
    epilog="Example: snndeploy schedule resnet18 --backward 6:3 --steps 4 --target loihi2 --draw schedule.svg"
)
@click.argument("what", metavar="NETWORK|BACKBONE")
@click.option("--input", "shape", type=Shape(), default=None, help="Input of a backbone  [default: 3x32x32]")
@click.option(
    "--classes", type=click.IntRange(min=1), default=None, help="Classes of a backbone  [default: 10]"
)
@click.option("--steps", type=click.IntRange(min=1), default=None, help="Logical time steps T  [default: 4]")
@backward_option
@click.option(
    "--kind",
    type=click.Choice(["scheduled", "pipelined", "synchronous"]),
    default=None,
    help="Schedule: exact at the smallest interval, one logical step in every machine step, or a CPU's.",
)
@click.option(
    "--interval",
    type=click.IntRange(max=10**9),
    default=None,
    help="Machine steps between two logical steps (II).",
)
@click.option("--pipelined", "redelay", is_flag=True, help="Lengthen the delays until the interval is 1.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=None,
    help="With --pipelined: write NETWORK with these delays and its old weights, to be trained again.",
)
@click.option("--target", default=None, help="A shipped chip (loihi1, loihi2), or a TOML file.")
@click.option("--draw", type=click.Path(path_type=Path), default=None, help="Draw it as a .svg or .png file.")
@json_option
def schedule(
    what: str,
    shape: tuple[int, ...] | None,
    classes: int | None,
    steps: int | None,
    backward: tuple[str, ...],
    kind: ScheduleName | None,
    interval: int | None,
    redelay: bool,
    output: Path | None,
    target: str | None,
    draw: Path | None,
    as_json: bool,
) -> None:
    """Say when each population of a NETWORK file or a BACKBONE updates, and what that costs on a chip."""
    from snndeploy.cli.networks import add_backward, graph_of
    from snndeploy.cli.output import emit_json
    from snndeploy.cli.scheduled import chip_for, describe, drawn, on_chip
    from snndeploy.ir import schedule as solve
    from snndeploy.ir.network import check_steps
    from snndeploy.ir.pipeline import pipelined

    graph, own_steps = graph_of(what, shape, classes)
    graph, steps = add_backward(graph, backward), steps or own_steps
    check_steps(graph, steps)
    if output is not None:
        _check_output(what, redelay=redelay, changed=bool(backward) or steps != own_steps)
    if redelay:
        graph, kind = pipelined(graph, steps), kind or "pipelined"
    found = solve(graph, interval, kind=kind)
    chip = chip_for(found, target)
    facts = describe(graph, found, steps) | {"target": chip and on_chip(found, steps, chip)}
    if output is not None:
        _write_pipelined(Path(what), output)
    if draw is not None:
        drawn(graph, found, steps, draw, Path(what).name)
    if as_json:
        emit_json(facts)
        return
    click.echo(_as_text(what, facts))
    if redelay:
        click.echo(f"\n{_RETRAIN}")


def _check_output(what: str, *, redelay: bool, changed: bool) -> None:
    from snndeploy.backbones import BACKBONES
    from snndeploy.errors import ConfigError

    if not redelay:
        raise ConfigError("--output", "is for networks with other delays", remedy="add --pipelined")
    if what in BACKBONES:
        raise ConfigError("--output", "needs weights, which a backbone has none of", remedy="train it first")
    if changed:
        raise ConfigError("--output", "writes a network file as it is", remedy="drop --backward and --steps")


def _write_pipelined(source: Path, path: Path) -> None:
    from snndeploy.cli.output import say
    from snndeploy.ir import load, save
    from snndeploy.ir.pipeline import pipelined_network

    save(pipelined_network(load(source)), path)
    say(f"wrote {path}, with weights for other delays: go on with `snndeploy train CONFIG --from {path}`")


def _as_text(what: str, facts: dict[str, Any]) -> str:
    from snndeploy.cli.output import table

    parts = [
        table([what, ""], _head(facts)),
        table(
            ["population", "port", "start", "phase"],
            [
                [p["name"], "" if p["port"] is None else str(p["port"]), p["start"], p["phase"]]
                for p in facts["populations"]
            ],
        ),
        table(
            ["from", "to", "delay", "wait"],
            [[s["source"], s["target"], s["delay"], s["wait"]] for s in facts["synapses"]],
        ),
    ]
    if facts["backward"]:
        parts.append(_costs_as_text(facts))
    if facts["target"]:
        parts.append(_target_as_text(facts["target"]))
    return "\n\n".join(parts)


def _head(facts: dict[str, Any]) -> list[list[object]]:
    cycle, smallest = facts["cycle"], facts["fastest"]["initiation_interval"]
    kind = facts["schedule"] if facts["hardware"] else f"{facts['schedule']}: for a CPU, no hardware timing"
    rows: list[list[object]] = [
        ["schedule", kind],
        ["initiation interval II", str(facts["initiation_interval"])],
        [f"machine steps of one sample, T = {facts['steps']}", str(facts["machine_steps"])],
        [f"machine steps between samples, gap {facts['gap']}", str(facts["machine_steps_per_sample"])],
    ]
    if cycle:
        loop = f"{' -> '.join(cycle)} ({len(cycle)} synapses, total delay {facts['cycle_delay']})"
        rows.insert(2, [f"smallest on a chip: {smallest}, set by", loop])
    return rows


def _costs_as_text(facts: dict[str, Any]) -> str:
    from snndeploy.cli.output import table

    step_us = facts["target"] and facts["target"]["step_time"]["value"]

    def row(name: str, speed: dict[str, int], delay: object = "") -> list[object]:
        steps = (speed[k] for k in ("initiation_interval", "machine_steps", "machine_steps_per_sample"))
        latency = [_rounded(speed["machine_steps"] * step_us)] if step_us else []
        return [name, delay, *steps, *latency]

    rows = [row("all", facts["fastest"]), row("none", facts["without_backward"])]
    for cost in facts["backward"]:
        name = f"{cost['source']}:{cost['target']}"
        rows += [
            row(f"all but {name}", cost["without"]),
            row(f"{name} alone", cost["alone"], str(cost["delay"])),
        ]
    headers = ["backward connections", "delay", "II", "machine steps", "between samples"]
    text = table([*headers, "us, ESTIMATED"] if step_us else headers, rows)
    pipeline = facts["pipelined"]
    changed = [
        f"{d['source']} -> {d['target']}: {d['delay']} to {d['needed']}"
        for d in pipeline["delays"]
        if d["needed"] > d["delay"]
    ]
    if pipeline["problem"]:
        text += f"\n\nno pipeline: {pipeline['problem']}"
    elif changed:
        text += (
            f"\n\npipelined, II = 1, if trained with longer delays ({', '.join(changed)}): "
            f"{pipeline['machine_steps']} machine steps, {pipeline['machine_steps_per_sample']} between samples"
        )
    return text


def _target_as_text(facts: dict[str, Any]) -> str:
    from snndeploy.cli.output import table

    def amount(value: dict[str, Any]) -> str:
        middle, low, high = (_rounded(value[k]) for k in ("value", "low", "high"))
        return f"{middle} {value['unit']} ({low} to {high})"

    step = facts["step_time"]
    rows = [
        ["time of a machine step", f"{amount(step)}, {step['evidence']}"],
        ["latency of one sample", amount(facts["latency"])],
        ["throughput", amount(facts["throughput"])],
    ]
    lines = [f"ESTIMATED on {facts['name']}", table(["", "value (range)"], rows), f"source: {step['source']}"]
    lines += [f"not possible on {facts['name']}: {problem}" for problem in facts["infeasible"]]
    return "\n".join(lines)


def _rounded(value: float) -> str:
    """Two significant digits: estimates have no more."""
    return f"{float(f'{value:.2g}'):g}"
