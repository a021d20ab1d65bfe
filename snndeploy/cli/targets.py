"""`snndeploy targets`: what networks can be priced on, and where each number comes from."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING, Any

import click

from snndeploy.cli.options import json_option

if TYPE_CHECKING:
    from snndeploy.targets.profile import Price, TargetProfile

_NARROWEST = 40  # columns: narrower text cannot be read either
_LIST = ("target", "kind", "evidence", "unverified", "prices")


@click.group(invoke_without_command=True, epilog="Example: snndeploy targets show loihi1-nahuku")
@json_option
@click.pass_context
def targets(context: click.Context, as_json: bool) -> None:
    """List the target profiles: what each prices, its weakest evidence and its unverified numbers."""
    from snndeploy.cli.output import emit_json
    from snndeploy.targets import chip, profile

    context.obj = as_json
    if context.invoked_subcommand:
        return
    found = [profile.load(name) for name in profile.shipped()]
    if as_json:
        emit_json({"profiles": [_summary(each) for each in found], "chips": list(chip.shipped())})
        return
    click.echo(_list_as_text(found))
    click.echo(f"\nchips, for `snndeploy resources` and `schedule`: {', '.join(chip.shipped())}")


@targets.command(epilog="Example: snndeploy targets show my-chip.toml --json")
@click.argument("target", metavar="NAME|FILE.toml")
@json_option
@click.pass_obj
def show(group_json: bool, target: str, as_json: bool) -> None:
    """Show every number of a target profile with its range, evidence and source."""
    from snndeploy.cli.output import emit_json
    from snndeploy.targets.profile import load

    profile = load(target)
    if as_json or group_json:
        emit_json(describe(profile))
    else:
        click.echo(as_text(profile))


def describe(profile: TargetProfile) -> dict[str, Any]:
    """A profile as JSON values."""
    from dataclasses import asdict

    from snndeploy.targets.profile import TERMS

    return _summary(profile) | {
        "chip": profile.chip and profile.chip.name,
        "first_layer": profile.first_layer,
        "notes": profile.notes,
        "unverified": list(profile.unverified),
        "numbers": {
            name: asdict(price) | {"meaning": TERMS[name].meaning} for name, price in profile.prices.items()
        },
    }


def _summary(profile: TargetProfile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "kind": profile.kind,
        "scope": profile.scope,
        "prices": _priced(profile),
        "evidence": profile.evidence,
        "unverified": len(profile.unverified),
        "unpublished": list(profile.unpublished),
    }


def _priced(profile: TargetProfile) -> list[str]:
    return [
        name
        for name, price in profile.prices.items()
        if price.amount is not None and name.startswith(("energy.", "power."))
    ]


def _in_short(priced: list[str]) -> str:
    """Energies, parts of one thing once, and the kinds of power: `energy.hop.ew` is `hop`."""
    parts = [name.split(".")[:2] for name in priced]
    things = dict.fromkeys(thing for group, thing in parts if group == "energy")
    powers = " and ".join(thing for group, thing in parts if group == "power")
    return ", ".join([*things, *([f"{powers} power"] if powers else [])]) or "nothing"


def _list_as_text(profiles: list[TargetProfile]) -> str:
    from snndeploy.cli.output import table

    cells = [
        [
            p.name,
            p.kind,
            p.evidence,
            f"{len(p.unverified)} of {len(p.prices)}",
            _in_short(_priced(p)),
        ]
        for p in profiles
    ]
    taken = sum(max(map(len, column)) + 2 for column in list(zip(_LIST, *cells, strict=True))[:-1])
    rows = []
    for *first, prices in cells:
        lines = textwrap.wrap(prices, max(_width() - taken, _NARROWEST // 2))
        rows += [[*first, lines[0]], *([*[""] * len(first), line] for line in lines[1:])]
    return table(_LIST, rows)


def as_text(profile: TargetProfile) -> str:
    """A profile with all its numbers, as wide as the terminal."""
    from snndeploy.targets.profile import TERMS

    facts = [profile.kind, f"scope {profile.scope}", f"first layer {profile.first_layer}"]
    if profile.chip:
        facts.append(f"chip {profile.chip.name}")
    lines = [profile.name, _wrapped(", ".join(facts)), "", _wrapped(profile.notes)]
    for name, price in profile.prices.items():
        lines += ["", f"{name}: {_number(price)}", _wrapped(TERMS[name].meaning, "  ")]
        lines.append(_wrapped(f"source: {price.source}", "  "))
        if price.conditions:
            lines.append(_wrapped(f"conditions: {price.conditions}", "  "))
    unverified = f"{len(profile.unverified)} of {len(profile.prices)} numbers are not verified"
    lines += ["", _wrapped(f"weakest evidence: {profile.evidence}; {unverified}")]
    return "\n".join(lines)


def _number(price: Price) -> str:
    """A number with its range, unit and evidence."""
    if price.amount is None:
        return f"unpublished, in {price.unit}"
    unit = "" if price.unit == "1" else f" {price.unit}"
    value, low, high = (f"{part:.10g}" for part in (price.amount.value, price.amount.low, price.amount.high))
    text = f"{value}{unit} ({low} to {high}), {price.evidence}"
    return text if price.verified else f"{text}, NOT VERIFIED"


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, _width(), initial_indent=indent, subsequent_indent=indent * 2, break_on_hyphens=False
    )


def _width() -> int:
    return max(shutil.get_terminal_size().columns, _NARROWEST)
