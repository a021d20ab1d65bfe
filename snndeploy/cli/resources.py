"""`snndeploy resources`: what a network takes of a neuromorphic chip, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snndeploy.cli.options import Shape, backward_option, json_option

if TYPE_CHECKING:
    from snndeploy.targets.resources import Mapping, Placed, Violation

_BOUND = "lower bound"


@click.command(epilog="Example: snndeploy resources resnet18 --input 3x32x32 --target loihi2 --backward 6:3")
@click.argument("what", metavar="NETWORK|BACKBONE")
@click.option("--target", required=True, help="A shipped chip (loihi1, loihi2), or a TOML file.")
@click.option("--input", "shape", type=Shape(), default=None, help="Input of a backbone  [default: 3x32x32]")
@click.option(
    "--classes", type=click.IntRange(min=1), default=None, help="Classes of a backbone  [default: 10]"
)
@backward_option
@click.option(
    "--duplicate-streams",
    is_flag=True,
    help="Compute analog values that several populations use anew in each of them.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 if anything does not fit.")
@json_option
@click.pass_context
def resources(
    context: click.Context,
    what: str,
    target: str,
    shape: tuple[int, ...] | None,
    classes: int | None,
    backward: tuple[str, ...],
    duplicate_streams: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Count the cores, memory and axons that a NETWORK file or a BACKBONE takes of a chip, as a lower bound.

    A backbone counts with 8-bit weights and an analog input.
    """
    from snndeploy.backbones import BACKBONES
    from snndeploy.cli.networks import add_backward, graph_of, load_folded
    from snndeploy.cli.output import emit_json
    from snndeploy.targets.chip import load
    from snndeploy.targets.resources import is_analog, map_onto, violations, weight_bits
    from snndeploy.targets.resources.mapping import WEIGHT_BITS

    chip = load(target)
    graph, _ = graph_of(what, shape, classes)
    network = None if what in BACKBONES else load_folded(Path(what))
    graph = add_backward(graph if network is None else network.graph, backward)
    mapping = map_onto(
        graph,
        chip,
        weight_bits=WEIGHT_BITS if network is None else weight_bits(network),
        duplicate_streams=duplicate_streams,
    )
    found = violations(
        mapping,
        None if backward else network,  # which has no weights for what was added
        analog=network is None or is_analog(network),
    )
    if as_json:
        emit_json(describe(mapping, found) | {"network": what})
    else:
        click.echo(as_text(what, mapping, found))
    if strict and found:
        context.exit(1)


def describe(mapping: Mapping, found: tuple[Violation, ...]) -> dict[str, Any]:
    """The facts `resources` reports, as JSON values."""
    from dataclasses import asdict

    from snndeploy.targets.resources.mapping import RESOURCES

    return {
        "bound": _BOUND,
        "target": mapping.chip.name,
        "notes": mapping.chip.notes,
        "limits": {name: asdict(limit) for name, limit in mapping.chip.limits.items()},
        "rules": {name: asdict(rule) for name, rule in mapping.chip.rules.items()},
        "weight_bits": mapping.neuron.weight_bits,
        "state_bytes": mapping.neuron.state_bytes,
        "cores": mapping.cores,
        "chips": mapping.chips,
        "cores_at_least": mapping.floor,
        "neurons": sum(placed.population.neurons for placed in mapping.placed),
        "synapses": sum(placed.synapses for placed in mapping.placed),
        "utilisation": {resource: mapping.utilisation(resource) for resource in RESOURCES},
        "unchecked": list(mapping.unchecked),
        "fits": not found,
        "violations": [asdict(violation) for violation in found],
        "layers": [_layer(mapping, placed) for placed in mapping.placed],
    }


def _layer(mapping: Mapping, placed: Placed) -> dict[str, Any]:
    from snndeploy.targets.resources.mapping import RESOURCES

    return {
        "name": placed.name,
        "neurons": placed.population.neurons,
        "synapses": placed.synapses,
        "tile": list(placed.tile),
        "cores": placed.cores,
        "first_core": placed.first_core,
        "fullest_core": {resource: placed.fullest(resource) for resource in RESOURCES},
        "binding": mapping.binding(placed),
        "exceeded": dict(placed.lifted),
    }


def as_text(what: str, mapping: Mapping, found: tuple[Violation, ...]) -> str:
    """A mapping as tables, with what does not fit below."""
    from snndeploy.cli.output import table

    facts = describe(mapping, found)
    shares = [
        f"{share:.0%} of {resource.removeprefix('core.').replace('_', ' ')}"
        for resource, share in facts["utilisation"].items()
        if share is not None
    ]
    head = [
        ["cores", facts["cores"]],
        [f"chips of {mapping.chip_cores} cores", facts["chips"]],
        ["no mapping has fewer cores than", facts["cores_at_least"]],
        ["neurons", facts["neurons"]],
        ["synapses", facts["synapses"]],
        ["weight bits", facts["weight_bits"]],
    ]
    rows = [
        [
            layer["name"],
            layer["neurons"],
            layer["synapses"],
            "x".join(map(str, layer["tile"])),
            layer["cores"],
            *layer["fullest_core"].values(),
            (layer["binding"] or "none").removeprefix("core.").replace("_", " "),
        ]
        for layer in facts["layers"]
    ]
    columns = ["neurons", "bytes", "axons in", "axons out"]
    lines = [
        f"{what} on {mapping.chip.name}: a LOWER BOUND, without what a compiler stores and leaves free",
        table(["", ""], head),
        f"in use, of all these cores: {', '.join(shares)}",
        "",
        table(["population", "neurons", "synapses", "tile", "cores", *columns, "fullest in"], rows),
        "columns from `neurons` on the right: of the fullest core",
    ]
    if mapping.unchecked:
        lines.append(f"limits not published, so not checked: {', '.join(mapping.unchecked)}")
    lines.append("")
    lines += [f"does not fit: {violation}" for violation in found] or ["everything that is checked fits"]
    return "\n".join(lines)
