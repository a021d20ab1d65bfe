"""`snndeploy energy`: what one inference costs on a target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from snndeploy.cli.options import data_option, json_option, network_argument, samples_option

if TYPE_CHECKING:
    from snndeploy.targets.energy import Energy
    from snndeploy.targets.profile import Interval

_UNITS = ((1e12, "J"), (1e9, "mJ"), (1e6, "uJ"), (1e3, "nJ"), (1, "pJ"))  # in picojoules, largest first


@click.command(epilog="Example: snndeploy energy runs/demo/exact.snn.safetensors --target paper-45nm")
@network_argument
@click.option(
    "--target", default="paper-45nm", show_default=True, help="A shipped target profile, or a TOML file."
)
@data_option
@samples_option
@json_option
def energy(network: Path, target: str, data: str, samples: int, as_json: bool) -> None:
    """Estimate the energy of one inference of NETWORK from its fan-out and the spikes it gives on data."""
    from snndeploy.cli.networks import load_folded, load_samples
    from snndeploy.cli.output import emit_json
    from snndeploy.ir import run
    from snndeploy.targets.counts import count
    from snndeploy.targets.energy import estimate
    from snndeploy.targets.profile import load

    profile = load(target)
    source = load_folded(network)
    picked = load_samples(source, data, samples)
    result = estimate(count(source, run(source, picked.x)), profile)
    if as_json:
        emit_json(result.to_json() | {"network": str(network), "data": picked.name})
    else:
        click.echo(as_text(result))
        click.echo(f"\n{picked.count} samples of {picked.name}, format {source.format.name}")


def as_text(result: Energy) -> str:
    """An estimate as tables; estimates are shown with two significant digits and their range."""
    from snndeploy.cli.output import table

    facts = result.to_json()
    total = "at least" if result.bound == "lower bound" else "total"
    head = [
        ["E_SNN (synaptic operations)", amount(result.e_snn_pj)],
        ["analog layers, every step", amount(result.mac_pj)],
        ["analog layers, once a sample", amount(result.mac_once_pj)],
        ["neuron updates", amount(result.neuron_pj)],
        [total, amount(result.total_pj)],
    ]
    spread = facts["synaptic_operations"]
    lines = [
        f"ESTIMATED energy per inference on {result.profile.name} (evidence: {result.evidence})",
        table(["part", "energy"], head),
        "",
        table(
            ["from", "to", "delay", "synapses", "synaptic operations", "energy"],
            [
                [
                    row["source"],
                    row["target"],
                    row["delay"],
                    row["synapses"],
                    round(row["synaptic_operations"]),
                    amount_of(row["energy_pj"]),
                ]
                for row in facts["synapses"]
            ],
        ),
        "",
        f"synaptic operations per inference: mean {spread['mean']:.0f}, p95 {spread['p95']:.0f} (counted)",
        f"firing rate {facts['firing_rate']['mean']:.1%} a step, {facts['dead_rate']:.1%} of neurons never fired",
    ]
    if result.unpriced:
        lines.append(f"unpriced, so the total is a lower bound: {', '.join(result.unpriced)}")
    if result.counts.uncounted:
        lines.append(f"uncounted: {', '.join(result.counts.uncounted)}")
    return "\n".join(lines)


def amount(interval: Interval | None) -> str:
    """An energy in a readable unit with its range."""
    if interval is None:
        return "unpriced"
    scale, unit = next((s, u) for s, u in _UNITS if interval.value >= s or s == 1)
    value, low, high = (
        f"{float(f'{part / scale:.2g}'):g}" for part in (interval.value, interval.low, interval.high)
    )
    return f"{value} {unit} ({low} to {high})"


def amount_of(plain: dict[str, float] | None) -> str:
    """The same for an energy of a JSON report."""
    from snndeploy.targets.profile import Interval

    return amount(None if plain is None else Interval(**plain))
