"""`snndeploy inspect`: what a network or backbone is made of."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import click

from snndeploy.cli.options import Shape, backward_option, json_option

if TYPE_CHECKING:
    from snndeploy.ir import Graph


@click.command(
    epilog="Example: snndeploy inspect resnet18 --input 3x32x32 --classes 10 --steps 4 --backward 6:3"
)
@click.argument("what", metavar="NETWORK|BACKBONE")
@click.option("--input", "shape", type=Shape(), default=None, help="Input of a backbone  [default: 3x32x32]")
@click.option(
    "--classes", type=click.IntRange(min=1), default=None, help="Classes of a backbone  [default: 10]"
)
@click.option("--steps", type=click.IntRange(min=1), default=None, help="Logical time steps T  [default: 4]")
@backward_option
@click.option(
    "--psi",
    "mode",
    type=click.Choice(["exact", "nominal"]),
    default="exact",
    show_default=True,
    help="Fan-out: counted synapse by synapse, or as equation 6 of the synaptic-penalty paper, borders ignored.",
)
@click.option("--draw", is_flag=True, help="Print the graph as a mermaid drawing instead.")
@json_option
def inspect(
    what: str,
    shape: tuple[int, ...] | None,
    classes: int | None,
    steps: int | None,
    backward: tuple[str, ...],
    mode: Literal["exact", "nominal"],
    draw: bool,
    as_json: bool,
) -> None:
    """Count the neurons, parameters, synapses and machine steps of a NETWORK file or a BACKBONE."""
    from snndeploy.cli.networks import add_backward, graph_of
    from snndeploy.cli.output import emit_json
    from snndeploy.ir.drawing import mermaid
    from snndeploy.ir.network import check_steps

    graph, own_steps = graph_of(what, shape, classes)
    graph = add_backward(graph, backward)
    steps = steps or own_steps
    check_steps(graph, steps)
    if draw:
        click.echo(mermaid(graph))
        return
    facts = describe(graph, steps, mode)
    if as_json:
        emit_json(facts)
    else:
        click.echo(_as_text(what, facts))


def describe(graph: Graph, steps: int, mode: Literal["exact", "nominal"]) -> dict[str, Any]:
    """The facts `inspect` reports, as JSON values.

    Args:
        graph: Any graph.
        steps: Logical time steps T.
        mode: "exact" or "nominal" fan-out.
    """
    import math

    from snndeploy.ir import (
        architectures,
        backward_connections,
        parameter_count,
        possible_connections,
        schedule,
    )
    from snndeploy.ir.fanout import fanouts
    from snndeploy.ir.network import op_parameter_count

    timing = schedule(graph)
    totals = dict.fromkeys(graph.ports, Fraction())
    for path in fanouts(graph):
        if path.kind == "spike":
            totals[path.source] += path.total if mode == "exact" else path.nominal_total
    sizes = {name: math.prod(graph.shapes[name]) for name in graph.order}
    ops = [
        {
            "name": name,
            "type": type(graph.ops[name]).__name__,
            "shape": list(graph.shapes[name]),
            "parameters": op_parameter_count(graph.ops[name]),
            "neurons": sizes[name] if name in graph.ports else 0,
            "port": graph.ports.index(name) if name in graph.ports else None,
            "psi": _whole(totals[name]) if name in totals else None,
            "start": timing.start.get(name),
        }
        for name in graph.order
    ]
    return {
        "neurons": sum(sizes[name] for name in graph.ports),
        "parameters": parameter_count(graph),
        "spiking_layers": len(graph.ports),
        "psi": mode,
        "psi_total": _whole(sum(totals.values(), Fraction())),
        "ports": len(graph.ports),
        "backward_connections": possible_connections(graph),
        "architectures": architectures(graph),
        "backward": [[b.source, b.target, b.delay] for b in backward_connections(graph)],
        "steps": steps,
        "schedule": timing.name,
        "initiation_interval": timing.initiation_interval,
        "machine_steps": timing.machine_steps(steps),
        "ops": ops,
    }


def _whole(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)


def _as_text(what: str, facts: dict[str, Any]) -> str:
    from snndeploy.cli.output import table

    chosen = ", ".join(f"{j}:{i}" + (f":{d}" if d > 1 else "") for j, i, d in facts["backward"]) or "none"
    head = [
        ["neurons", facts["neurons"]],
        ["parameters", facts["parameters"]],
        ["spiking layers (ports)", facts["ports"]],
        [f"psi, all neurons firing ({facts['psi']})", facts["psi_total"]],
        ["backward connections", chosen],
        ["possible backward connections", facts["backward_connections"]],
        ["architectures with at most 2", facts["architectures"]],
        [f"initiation interval ({facts['schedule']})", facts["initiation_interval"]],
        [f"machine steps, T = {facts['steps']}", facts["machine_steps"]],
    ]
    rows = [
        [
            o["name"],
            o["type"],
            "x".join(map(str, o["shape"])),
            o["parameters"],
            o["port"],
            o["psi"],
            o["start"],
        ]
        for o in facts["ops"]
    ]
    headers = ["op", "type", "shape", "parameters", "port", "psi", "start"]
    return (
        f"{table([what, ''], head)}\n\n{table(headers, [['' if c is None else c for c in r] for r in rows])}"
    )
