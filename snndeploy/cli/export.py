"""`snndeploy export`: networks as ONNX files and Lava bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from snndeploy.cli.options import data_option, json_option, network_argument, samples_option

if TYPE_CHECKING:
    from snndeploy.export.lava import Form as LavaForm
    from snndeploy.export.onnx import Arithmetic, Form
    from snndeploy.ir.timing import ScheduleName


@click.group(epilog="Example: snndeploy export onnx runs/demo/exact.snn.safetensors -o digits.onnx")
def export() -> None:
    """Lower a network to ONNX or Lava."""


@export.command(epilog="Example: snndeploy export onnx exact.snn.safetensors --form step -o step.onnx")
@network_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option(
    "--form",
    type=click.Choice(["step", "sequence", "scan"]),
    default="sequence",
    show_default=True,
    help="One time step with states in and out, all T steps at once, or any number of steps.",
)
@click.option(
    "--arithmetic",
    type=click.Choice(["float32", "integer", "float16"]),
    default="float32",
    show_default=True,
    help="integer: int8 weights and counted spikes, the same bits, for certified networks on CPUs; float16: half "
    "weights, for GPUs, without a promise of equality.",
)
@click.option(
    "--batch", type=click.IntRange(1, 2**31 - 1), default=None, help="Fix the batch size  [default: any]"
)
@click.option("--debug", is_flag=True, help="Further outputs with the spikes and potentials of every layer.")
@click.option(
    "--inline-functions", is_flag=True, help="Plain nodes for neurons, for runtimes without functions."
)
@click.option("--external-data", is_flag=True, help="Store the weights in a second file beside the first.")
@click.option(
    "--with-runner",
    "runner",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also write a folder with the file and a runner that needs only NumPy and ONNX Runtime.",
)
@json_option
def onnx(
    network: Path,
    output: Path,
    form: Form,
    arithmetic: Arithmetic,
    batch: int | None,
    debug: bool,
    inline_functions: bool,
    external_data: bool,
    runner: Path | None,
    as_json: bool,
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
    if runner:
        from snndeploy.cli.runner import require_place, write_runner

        require_place(output, runner)
    lowering.export(
        source,
        output,
        form,
        arithmetic=arithmetic,
        batch=batch,
        debug=debug,
        inline_functions=inline_functions,
        external_data=external_data,
        fingerprint=fingerprint(source),
    )
    beside = _beside(output)
    facts = {
        "file": str(output),
        "form": form,
        "arithmetic": arithmetic,
        "steps": source.steps,
        "batch": batch,
        "number_format": source.format.name,
        "debug": debug,
        "inline_functions": inline_functions,
        "bytes": output.stat().st_size,
        "external_data": {str(path): path.stat().st_size for path in beside},
        **({"runner": str(runner)} if runner else {}),
    }
    if runner:
        write_runner(output, runner)
    if as_json:
        emit_json(facts)
    else:
        click.echo(
            f"{output}: {form} form, T = {source.steps}, {source.format.name} in {arithmetic}, "
            f"{facts['bytes']} bytes"
        )
        for path in beside:
            click.echo(f"{path}: its weights, {path.stat().st_size} bytes; keep the two together")
        if runner:
            click.echo(f"{runner}: the file and its runner; start with README.md")


def _beside(file: Path) -> list[Path]:
    """The files that hold values of an ONNX file just written."""
    from snndeploy.export.onnx.external import locations
    from snndeploy.export.onnx.reading import parse

    return [file.with_name(name) for name in sorted(locations(parse(file.read_bytes(), str(file))))]


@export.command(epilog="Example: snndeploy export lava exact.snn.safetensors -o digits.lava")
@network_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@click.option(
    "--form",
    type=click.Choice(["fused", "stock"]),
    default="fused",
    show_default=True,
    help="One process of ours per population, or Lava's own processes, for small pipelined loihi networks.",
)
@click.option(
    "--schedule",
    "kind",
    type=click.Choice(["scheduled", "pipelined", "synchronous"]),
    default=None,
    help="scheduled: the smallest initiation interval; pipelined: an interval of 1, if the delays allow it; "
    "synchronous: synapses that take no time, on CPUs only  [default: scheduled, pipelined where that is the same]",
)
@data_option
@samples_option
@json_option
def lava(
    network: Path,
    output: Path,
    form: LavaForm,
    kind: ScheduleName | None,
    data: str,
    samples: int,
    as_json: bool,
) -> None:
    """Write NETWORK as a bundle for Lava, with samples and the spikes they must give."""
    from snndeploy.cli.networks import load_folded, load_samples
    from snndeploy.cli.output import emit_json
    from snndeploy.export import lava as lowering
    from snndeploy.ir import fingerprint, schedule
    from snndeploy.ir.verify import is_certified

    source = load_folded(network)
    chosen = load_samples(source, data, samples)
    timing = schedule(source.graph, kind=kind)
    lowering.export(source, output, chosen.x, schedule=timing, form=form, fingerprint=fingerprint(source))
    facts = {
        "bundle": str(output),
        "form": form,
        "number_format": source.format.name,
        "exact": is_certified(source),
        "schedule": timing.name,
        "hardware_timing": timing.name != "synchronous",
        "initiation_interval": timing.initiation_interval,
        "machine_steps": timing.machine_steps(source.steps),
        "machine_steps_per_sample": timing.machine_steps_per_sample(source.steps),
        "samples": chosen.count,
        "data": chosen.name,
    }
    if as_json:
        emit_json(facts)
    else:
        name = f"{timing.name} (CPU only, no hardware timing)" if kind == "synchronous" else timing.name
        click.echo(
            f"{output}: {form} form, {source.format.name}, schedule {name}, II = {timing.initiation_interval}, "
            f"{facts['machine_steps']} machine steps per sample, {chosen.count} samples of {chosen.name}"
        )
