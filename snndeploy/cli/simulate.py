"""`snndeploy simulate`: runs a Lava bundle and compares it with the spikes it must give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import click
from typing_extensions import assert_never

from snndeploy.cli.options import json_option

if TYPE_CHECKING:
    from snndeploy.targets.lava import Simulation

Engine: TypeAlias = Literal["lava", "native"]


@click.command(epilog="Example: snndeploy simulate runs/demo/lava --samples 20")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--samples", type=click.IntRange(min=1), default=None, help="Samples to run  [default: all]")
@click.option(
    "--engine",
    type=click.Choice(["lava", "native"]),
    default="lava",
    show_default=True,
    help="lava: the proof, in Lava's own processes; native: the same machine steps and the same bits, much faster, "
    "many samples at once.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="CPU threads of the native engine; Lava has a process per population.",
)
@click.option(
    "--time-limit",
    type=click.IntRange(1, 10**7),
    default=600,
    show_default=True,
    help="Seconds after which Lava is stopped.",
)
@json_option
def simulate(
    bundle: Path, samples: int | None, engine: Engine, threads: int, time_limit: int, as_json: bool
) -> None:
    """Simulate a Lava BUNDLE; exit code 1 if it differs from what it promises."""
    from snndeploy.cli.output import emit_json, progress, table
    from snndeploy.targets import lava

    content = lava.read(bundle)
    count = min(samples or content.samples, content.samples)
    with progress(f"simulating {bundle}", count) as report:
        result = _simulation(bundle, count, engine, threads, time_limit, report)
    rows: list[tuple[str, int, int, int]] = []
    for name, spikes in result.trace.spikes.items():
        expected = content.expected.spikes[name][:, :count]
        rows.append((name, spikes.size, int(expected.sum()), int((expected != spikes).sum())))
    off = float(abs(result.trace.readout_sum - content.expected.readout_sum[:count]).max())
    differing = sum(row[3] for row in rows)
    facts = {
        "bundle": str(bundle),
        "engine": engine,
        "form": content.form,
        "number_format": content.number_format,
        "exact": content.exact,
        "samples": count,
        "schedule": content.schedule.name,
        "hardware_timing": content.schedule.name != "synchronous",
        "initiation_interval": content.schedule.initiation_interval,
        "machine_steps": result.machine_steps,
        "seconds": round(result.seconds, 3),
        "spikes_compared": sum(row[1] for row in rows),
        "spikes_differing": differing,
        "readout_error": off,
        "layers": [dict(zip(("op", "compared", "spikes", "differing"), row, strict=True)) for row in rows],
    }
    if as_json:
        emit_json(facts)
    else:
        click.echo(table(["op", "compared", "spikes", "differing"], rows))
        timing = content.schedule
        name = (
            f"{timing.name} (CPU only, no hardware timing)" if timing.name == "synchronous" else timing.name
        )
        click.echo(
            f"\n{count} samples, {engine} engine, {content.form} form, {content.number_format}, schedule {name}, "
            f"II = {timing.initiation_interval}, {result.machine_steps} machine steps, {result.seconds:.1f} s: "
            f"{differing} spikes differ"
        )
    if content.exact and (differing or off):
        raise SystemExit(1)


def _simulation(
    bundle: Path, count: int, engine: Engine, threads: int, time_limit: int, report: Callable[[int], None]
) -> Simulation:
    """What one engine does with the first samples of a bundle."""
    from snndeploy.targets import lava, native

    def progress(done: int, _: int) -> None:
        report(done)

    match engine:
        case "lava":
            (result,) = lava.simulate([bundle], count=count, time_limit_seconds=time_limit, progress=progress)
            return result
        case "native":
            return native.simulate(bundle, count=count, threads=threads, progress=progress)
        case _:
            assert_never(engine)
