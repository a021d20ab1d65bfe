"""`snndeploy energy --calibrate`: a profile of one's own from measured energies."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from snndeploy.errors import ConfigError

if TYPE_CHECKING:
    from snndeploy.targets.calibration import Calibration


def show_calibrated(
    measurements: Path, target: str | None, out: Path | None, *, seed: int, as_json: bool
) -> None:
    """Fits prices to a table of measurements, writes the profile and says how well they hold.

    Raises:
        SnnDeployError: The table, the target or the place to write does not do.
    """
    import tomli_w

    from snndeploy.cli.output import emit_json
    from snndeploy.ir.files import write_text
    from snndeploy.targets import calibration, profile

    if target is None or out is None:
        raise ConfigError(
            "--calibrate", "needs --target, whose terms are fitted, and -o, the profile to write"
        )
    if out.suffix != ".toml":
        raise ConfigError("-o", "must end in .toml, so that --target takes it", got=out)
    base = profile.load(target)
    found = calibration.calibrate(calibration.read(measurements), seed=seed)
    document = calibration.profile_document(found, base, out.stem)
    write_text(out, tomli_w.dumps(document))
    profile.load(out)
    if as_json:
        emit_json(
            {
                "profile": str(out),
                "prices": {one.term: asdict(one) for one in found.prices},
                "rows": len(found.residuals),
                "condition": found.condition,
                "residuals": list(found.residuals),
                "held_out": [error if math.isfinite(error) else None for error in found.held_out],
            }
        )
    else:
        click.echo(as_text(found))
        click.echo(f"\nwrote {out}: snndeploy energy NETWORK --target {out}")


def as_text(found: Calibration) -> str:
    """Prices with their intervals, and how well they hold."""
    from snndeploy.cli.output import table
    from snndeploy.targets.profile import TERMS

    rows = [
        [one.term, f"{one.value:.3g} {TERMS[one.term].unit}", f"{one.low:.2g} to {one.high:.2g}"]
        for one in found.prices
    ]
    worst = float(abs(found.residuals).max())
    held = f"{found.held_out_error:.1%}" if math.isfinite(found.held_out_error) else "unknown"
    lines = [
        f"FITTED to {len(found.residuals)} measurements of {found.measurements.file}",
        table(["price", "value", "5 % to 95 %"], rows),
        "",
        f"largest error of the fit {worst:.1%}, error at rows left out {held}, condition {found.condition:.3g}",
    ]
    return "\n".join(lines)
