"""`snndeploy export`: networks as ONNX files and Lava bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from snndeploy.cli.options import data_option, json_option, network_argument, samples_option


@click.group(epilog="Example: snndeploy export onnx runs/demo/exact.snn.safetensors -o digits.onnx")
def export() -> None:
    """Lower a network to ONNX or Lava."""


@export.command(epilog="Example: snndeploy export onnx exact.snn.safetensors --form step -o step.onnx")
@network_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option(
    "--form",
    type=click.Choice(["step", "sequence"]),
    default="sequence",
    show_default=True,
    help="One time step with states in and out, or all T steps at once.",
)
@click.option(
    "--batch", type=click.IntRange(1, 2**31 - 1), default=None, help="Fix the batch size  [default: any]"
)
@json_option
def onnx(
    network: Path, output: Path, form: Literal["step", "sequence"], batch: int | None, as_json: bool
) -> None:
    """Write NETWORK as a stateful ONNX file."""
    from snndeploy.cli.networks import load_folded
    from snndeploy.cli.output import emit_json
    from snndeploy.errors import ConfigError
    from snndeploy.export import onnx as lowering
    from snndeploy.ir import fingerprint

    source = load_folded(network)
    if output.exists() and output.samefile(network):
        raise ConfigError("--output", "names the network file itself", remedy="choose another path")
    lowering.export(source, output, form, batch=batch, fingerprint=fingerprint(source))
    facts = {
        "file": str(output),
        "form": form,
        "steps": source.steps,
        "batch": batch,
        "number_format": source.format.name,
        "bytes": output.stat().st_size,
    }
    if as_json:
        emit_json(facts)
    else:
        click.echo(f"{output}: {form} form, T = {source.steps}, {source.format.name}, {facts['bytes']} bytes")


@export.command(epilog="Example: snndeploy export lava exact.snn.safetensors -o digits.lava")
@network_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@data_option
@samples_option
@json_option
def lava(network: Path, output: Path, data: str, samples: int, as_json: bool) -> None:
    """Write NETWORK as a bundle for Lava, with samples and the spikes they must give."""
    from snndeploy.cli.networks import load_folded, load_samples
    from snndeploy.cli.output import emit_json
    from snndeploy.export import lava as lowering
    from snndeploy.ir import fingerprint, schedule

    source = load_folded(network)
    chosen = load_samples(source, data, samples)
    timing = schedule(source.graph)
    lowering.export(source, output, chosen.x, schedule=timing, fingerprint=fingerprint(source))
    facts = {
        "bundle": str(output),
        "number_format": source.format.name,
        "schedule": timing.name,
        "initiation_interval": timing.initiation_interval,
        "machine_steps": timing.machine_steps(source.steps),
        "machine_steps_per_sample": timing.machine_steps_per_sample(source.steps),
        "samples": chosen.count,
        "data": chosen.name,
    }
    if as_json:
        emit_json(facts)
    else:
        click.echo(
            f"{output}: schedule {timing.name}, II = {timing.initiation_interval}, "
            f"{facts['machine_steps']} machine steps per sample, {chosen.count} samples of {chosen.name}"
        )
