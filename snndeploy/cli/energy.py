"""`snndeploy energy`: what one inference costs on a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from snndeploy.cli.given import Given, asked, given_options
from snndeploy.cli.options import (
    data_option,
    json_option,
    samples_option,
    threads_option,
)
from snndeploy.errors import ConfigError

if TYPE_CHECKING:
    from snndeploy.cli.measured import MeterChoice
    from snndeploy.targets.counts import Counts
    from snndeploy.targets.energy import Energy
    from snndeploy.targets.profile import FirstLayer, TargetProfile
    from snndeploy.targets.resources import Mapping
    from snndeploy.targets.work import Setting

_TARGET = "paper-45nm"
_POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command(epilog="Example: snndeploy energy runs/demo/exact.snn.safetensors --target paper-45nm")
@given_options
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME|FILE",
    help="A shipped target profile, or a TOML file; several are compared.  [default: paper-45nm]",
)
@data_option
@samples_option
@click.option(
    "--first-layer",
    type=click.Choice(["cached", "recompute", "spike-encoded", "host"]),
    help="Where analog layers on a constant input run.  [default: the target's]",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 2**20),
    default=1,
    show_default=True,
    help="Samples that a GPU or CPU runs at once.",
)
@click.option("--step-time", type=_POSITIVE, metavar="US", help="Of a machine step, in microseconds.")
@click.option(
    "--sample-period", type=_POSITIVE, metavar="MS", help="Real time: a sample every so many milliseconds."
)
@click.option(
    "--draws",
    type=click.IntRange(20, 1_000_000),
    default=2000,
    show_default=True,
    help="Of prices and samples, for ranges.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the draws.")
@click.option("--strict", is_flag=True, help="Refuse a network with work that is not counted.")
@click.option(
    "--measure",
    is_flag=True,
    help="Run it on a device of this machine and read the device's energy counter; takes about a minute and a half.",
)
@click.option(
    "--meter",
    type=click.Choice(["auto", "nvml", "rapl"]),
    default="auto",
    show_default=True,
    help="With --measure: nvml: an NVIDIA GPU, running PyTorch; rapl: the CPUs, running ONNX Runtime; auto: the "
    "first of them that is there.",
)
@threads_option
@click.option(
    "--calibrate",
    type=click.Path(path_type=Path),
    metavar="MEASUREMENTS.csv",
    help="In place of NETWORK: fit the prices of --target to measured energies (docs/energy.md) and write them to -o.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="With --calibrate: the profile to write."
)
@click.option("--csv", "table", type=click.Path(path_type=Path), help="Write a row for each target and op.")
@json_option
def energy(
    network: Path | None,
    graph: Path | None,
    spikes: Path | None,
    targets: tuple[str, ...],
    data: str,
    samples: int,
    first_layer: FirstLayer | None,
    batch: int,
    step_time: float | None,
    sample_period: float | None,
    draws: int,
    seed: int,
    strict: bool,
    measure: bool,
    meter: MeterChoice,
    threads: int,
    calibrate: Path | None,
    output: Path | None,
    table: Path | None,
    as_json: bool,
) -> None:
    """Estimate the energy of one inference of NETWORK from its fan-out and the spikes it gives on data."""
    if calibrate is not None or output is not None:
        _calibrate(calibrate, output, targets, (network, graph, spikes), seed, as_json)
        return
    work = asked(network, graph, spikes)
    if measure:
        if isinstance(work, Given):
            raise ConfigError("--measure", "runs a NETWORK", got="--graph and --spikes")
        from snndeploy.cli.measured import Request, show_measured

        chosen = _single(targets, "--measure")
        show_measured(work, chosen, data, Request(meter, batch, threads, samples), as_json=as_json)
        return
    from snndeploy.cli.counted import count_for
    from snndeploy.cli.estimated import facts, write_csv
    from snndeploy.cli.output import emit_json
    from snndeploy.targets.profile import load
    from snndeploy.targets.work import Setting

    profiles = [load(name) for name in dict.fromkeys(targets or (_TARGET,))]
    setting = Setting(batch=batch, step_time_us=step_time, sample_period_ms=sample_period)
    counted = count_for(work, data, samples, profiles, strict=strict)
    results, spreads = [], []
    for profile, (counts, mapping) in zip(profiles, counted.work, strict=True):
        one = _estimates(profile, counts, mapping, setting, first_layer, draws, seed)
        results.append(one[0])
        spreads.append(one[1:])
    if table is not None:
        write_csv(table, results)
    if as_json:
        emit_json(facts(results, spreads) | counted.origin)
    else:
        _show(results, spreads)
        click.echo(f"\n{counted.sentence}")


def _estimates(
    profile: TargetProfile,
    counts: Counts,
    mapping: Mapping | None,
    setting: Setting,
    first_layer: FirstLayer | None,
    draws: int,
    seed: int,
) -> list[Energy]:
    """On a target, and with the other sets of numbers for its chip."""
    from snndeploy.targets.energy import constant_sets, estimate

    chosen = replace(setting, first_layer=first_layer or profile.first_layer)
    return [
        estimate(counts, one, chosen, mapping=mapping, draws=draws, seed=seed)
        for one in (profile, *constant_sets(profile))
    ]


def _show(results: Sequence[Energy], spreads: Sequence[Sequence[Energy]]) -> None:
    from snndeploy.cli.estimated import as_text, compared_text, spread_text

    texts: list[str] = []
    shown: set[str] = set()
    for one, others in zip(results, spreads, strict=True):
        texts.append(as_text(one))
        if others and one.profile.name not in shown:
            texts.append(spread_text(one, others))
            shown.update(other.profile.name for other in others)
    if len(results) > 1:
        texts.append(compared_text(results))
    click.echo("\n\n".join(texts))


def _calibrate(
    table: Path | None,
    output: Path | None,
    targets: tuple[str, ...],
    networks: tuple[Path | None, ...],
    seed: int,
    as_json: bool,
) -> None:
    from snndeploy.cli.calibrated import show_calibrated

    if table is None:
        raise ConfigError("-o", "belongs to --calibrate")
    if any(network is not None for network in networks):
        raise ConfigError("--calibrate", "fits prices to measurements and takes no network")
    show_calibrated(table, _single(targets, "--calibrate"), output, seed=seed, as_json=as_json)


def _single(targets: tuple[str, ...], option: str) -> str | None:
    if len(targets) > 1:
        raise ConfigError(option, "takes one --target", got=len(targets))
    return targets[0] if targets else None
