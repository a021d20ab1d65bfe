"""`snndeploy simulate`: runs a Lava bundle and compares it with the spikes it must give."""

from __future__ import annotations

from pathlib import Path

import click

from snndeploy.cli.options import json_option


@click.command(epilog="Example: snndeploy simulate runs/demo/lava --samples 20")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--samples", type=click.IntRange(min=1), default=None, help="Samples to run  [default: all]")
@click.option(
    "--time-limit",
    type=click.IntRange(1, 10**7),
    default=600,
    show_default=True,
    help="Seconds after which the simulation is stopped.",
)
@json_option
def simulate(bundle: Path, samples: int | None, time_limit: int, as_json: bool) -> None:
    """Simulate a Lava BUNDLE in a process of its own; exit code 1 if it differs from what it promises."""
    from snndeploy.cli.output import emit_json, progress, table
    from snndeploy.targets import lava

    content = lava.read(bundle)
    count = min(samples or content.samples, content.samples)
    with progress(f"simulating {bundle}", count) as report:
        (result,) = lava.simulate(
            [bundle], count=count, time_limit_seconds=time_limit, progress=lambda done, _: report(done)
        )
    rows: list[tuple[str, int, int, int]] = []
    for name, spikes in result.trace.spikes.items():
        expected = content.expected.spikes[name][:, :count]
        rows.append((name, spikes.size, int(expected.sum()), int((expected != spikes).sum())))
    off = float(abs(result.trace.readout_sum - content.expected.readout_sum[:count]).max())
    differing = sum(row[3] for row in rows)
    facts = {
        "bundle": str(bundle),
        "exact": content.exact,
        "samples": count,
        "schedule": content.schedule.name,
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
        click.echo(
            f"\n{count} samples, schedule {content.schedule.name}, II = {content.schedule.initiation_interval}, "
            f"{result.machine_steps} machine steps, {result.seconds:.1f} s: {differing} spikes differ"
        )
    if content.exact and (differing or off):
        raise SystemExit(1)
