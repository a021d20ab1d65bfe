"""Prices of a target from measured energies: non-negative least squares on counted work and time.

A table of measurements is a CSV file with a row for each network that ran and these columns:

    joules              energy, of one inference or of a whole run; the other columns then count the same
    seconds             time, which fits `power.fixed`; may be left out
    chips, cores        in use, which with `seconds` fit `power.static` and `power.core`; may be left out
    energy.synop, ...   work of a term of `profile.TERMS`, as `work` of `snndeploy energy --json` names it
    name                of the row; may be left out
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from snndeploy.errors import FileFormatError, TargetError
from snndeploy.targets import chip as chips
from snndeploy.targets.profile import FORM, TERMS, TargetProfile

Floats = npt.NDArray[np.float64]

_PJ = 1e-12
_POWERS = {"seconds": "power.fixed", "chips": "power.static", "cores": "power.core"}
_SPARE_ROWS = 2  # beyond one for each price
_LARGEST_CONDITION = 1e6  # from which columns are too much alike to be told apart
_RESAMPLES = 1000
_INVOLVED = 0.1  # entry of the weakest direction from which a column belongs to it


@dataclass(frozen=True, eq=False)
class Measurements:
    """A table that was read.

    digest: SHA-256 of the file.
    terms: Prices to fit.
    joules: (rows,).
    work: In joules at a price of 1 (pJ or W), (rows, terms).
    """

    file: str
    digest: str
    terms: tuple[str, ...]
    joules: Floats
    work: Floats


@dataclass(frozen=True, slots=True)
class Fitted:
    """A price in its term's unit with the 5th and 95th percentile over resampled rows."""

    term: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Calibration:
    """Fitted prices and how well they hold.

    condition: Number of the scaled table: how far an error of the measurements may grow.
    residuals: Relative errors of the fit, (rows,).
    held_out: Relative errors at rows that were left out of the fit, one at a time; NaN where the rest of the rows
        does not fix the prices, (rows,).
    """

    measurements: Measurements
    prices: tuple[Fitted, ...]
    condition: float
    residuals: Floats
    held_out: Floats

    @property
    def held_out_error(self) -> float:
        """Root of the mean square of the errors at rows left out; infinite where one cannot be told."""
        found = float(np.sqrt(np.mean(self.held_out**2)))
        return found if math.isfinite(found) else math.inf


def read(path: Path) -> Measurements:
    """A table of measurements.

    Raises:
        FileFormatError: It cannot be read, or a column or value is none of those above.
    """
    try:
        content = path.read_bytes()
        table = list(csv.reader(io.StringIO(content.decode("utf-8-sig")), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(str(path), "must be a CSV file", got=str(error)) from None
    if len(table) < 2:
        raise FileFormatError(str(path), "must have a line of names and at least one row")
    names, rows = table[0], [row for row in table[1:] if row]
    _check_columns(str(path), names)
    columns = {
        name: np.array([_number(path, line, names, row, i) for line, row in enumerate(rows, 2)])
        for i, name in enumerate(names)
        if name != "name"
    }
    joules = columns["joules"]
    if not (joules > 0).all():
        raise FileFormatError(f"{path}, joules", "must be above 0", got=f"{joules.min():g}")
    work = {term: columns[term] * _PJ for term in names if term in TERMS}
    for column, term in _POWERS.items():
        if column in columns:
            work[term] = columns["seconds"] * (1.0 if column == "seconds" else columns[column])
    if not work:
        raise FileFormatError(str(path), "must have a column of work or time", remedy=f"see {__name__}")
    digest = hashlib.sha256(content).hexdigest()
    return Measurements(path.name, digest, tuple(work), joules, np.stack(list(work.values()), axis=1))


def _check_columns(where: str, names: list[str]) -> None:
    prices = tuple(term for term in TERMS if term.startswith("energy."))
    known = ("name", "joules", *_POWERS, *prices)
    for name in names:
        if name not in known:
            raise FileFormatError(
                f"{where}, column {name!r}", "is not known", remedy=f"columns are {', '.join(known)}"
            )
    if len(set(names)) < len(names):
        raise FileFormatError(where, "has two columns of one name")
    needed = ["joules", *(["seconds"] if {"chips", "cores"} & set(names) else [])]
    for name in needed:
        if name not in names:
            raise FileFormatError(where, f"must have a column {name}")
    if "energy.neuron" in names and any(name.startswith("energy.neuron.") for name in names):
        raise FileFormatError(where, "has energy.neuron or its parts, not both")


def _number(path: Path, line: int, names: list[str], row: list[str], index: int) -> float:
    where = f"{path}, line {line}"
    if len(row) != len(names):
        raise FileFormatError(where, f"must have {len(names)} values", got=len(row))
    try:
        value = float(row[index])
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise FileFormatError(
            f"{where}, {names[index]}", "must be a finite number of at least 0", got=repr(row[index])
        )
    return value


def calibrate(measurements: Measurements, *, resamples: int = _RESAMPLES, seed: int = 0) -> Calibration:
    """The non-negative prices with the smallest sum of squared relative errors.

    Args:
        measurements: At least two rows more than prices.
        resamples: Of the rows, with replacement, for the intervals.
        seed: Of these.

    Raises:
        TargetError: There are too few rows, or some columns are so much alike that the rows cannot tell their prices
            apart; the message names them.
    """
    terms, rows = measurements.terms, len(measurements.joules)
    if rows < len(terms) + _SPARE_ROWS:
        raise TargetError(
            measurements.file,
            f"must have at least {len(terms) + _SPARE_ROWS} rows for {len(terms)} prices",
            got=rows,
            remedy="measure more networks, or leave columns out",
        )
    relative = measurements.work / measurements.joules[:, None]
    condition = _check_rank(measurements, relative)
    prices = _fit(relative)
    picks = np.random.default_rng(seed).integers(rows, size=(resamples, rows))
    found = [_fit(relative[pick]) for pick in picks if _condition(relative[pick]) <= _LARGEST_CONDITION]
    spread = np.percentile([*found, prices], (5, 95), axis=0)
    fitted = tuple(
        Fitted(term, float(value), float(min(low, value)), float(max(high, value)))
        for term, value, low, high in zip(terms, prices, *spread, strict=True)
    )
    return Calibration(measurements, fitted, condition, relative @ prices - 1, _held_out(relative))


def _check_rank(measurements: Measurements, relative: Floats) -> float:
    condition = _condition(relative)
    if condition <= _LARGEST_CONDITION:
        return condition
    norms = np.linalg.norm(relative, axis=0)
    if not norms.all():
        alike = [term for term, norm in zip(measurements.terms, norms, strict=True) if not norm]
        rule = "is 0 in every row, so nothing is known of its price"
    else:
        weakest = np.linalg.svd(relative / norms)[2][-1]
        alike = [t for t, part in zip(measurements.terms, weakest, strict=True) if abs(part) > _INVOLVED]
        rule = "grow alike in all rows, so their prices cannot be told apart"
    remedy = "measure networks that differ in them, or leave one out"
    raise TargetError(f"{measurements.file}, {', '.join(alike)}", rule, remedy=remedy)


def _condition(relative: Floats) -> float:
    """Of the table with columns of one length; infinite if one is 0."""
    norms = np.linalg.norm(relative, axis=0)
    if not norms.all():
        return math.inf
    sizes = np.linalg.svd(relative / norms, compute_uv=False)
    return float(sizes[0] / sizes[-1]) if sizes[-1] > 0 and len(relative) >= len(norms) else math.inf


def _fit(relative: Floats) -> Floats:
    norms = np.linalg.norm(relative, axis=0)
    solution, _ = nnls(relative / norms, np.ones(len(relative)))
    found: Floats = solution / norms
    return found


def _held_out(relative: Floats) -> Floats:
    errors = np.full(len(relative), np.nan)
    for row in range(len(relative)):
        rest = np.delete(relative, row, axis=0)
        if _condition(rest) <= _LARGEST_CONDITION:
            errors[row] = relative[row] @ _fit(rest) - 1
    return errors


def profile_document(calibration: Calibration, target: TargetProfile, name: str) -> dict[str, Any]:
    """A profile file with the fitted prices, as nested tables.

    All that a device draws is in its measured energy, so energies and powers that were not fitted become 0.

    Args:
        calibration: The prices.
        target: Gives kind, chip, first layer and times.
        name: Of the new profile.

    Raises:
        TargetError: The target is not event-driven with a price for each term, or has a chip that is not shipped.
    """
    if target.kind != "event-driven" or target.scope != "per-term":
        rule = "is for event-driven targets with a price for each term"
        raise TargetError("--calibrate", rule, got=f"{target.name}, {target.kind}, {target.scope}")
    if target.chip is not None and target.chip.name not in chips.shipped():
        raise TargetError(f"chip {target.chip.name}", "must be a shipped one to be named in a new profile")
    measured = calibration.measurements
    source = f"Non-negative least squares on {len(measured.joules)} measurements, {measured.file}"
    source += f", SHA-256 {measured.digest}"
    tables: dict[str, Any] = {}
    parts = {"energy.neuron.access", "energy.neuron.update"} & set(measured.terms)
    for term, unit in _tables(target, measured.terms):
        if (term == "energy.neuron" and parts) or (term.startswith("energy.neuron.") and not parts):
            continue
        fitted = next((price for price in calibration.prices if price.term == term), None)
        _put(tables, term, _entry(fitted, calibration) | {"unit": unit, "source": source})
    for term, number in target.prices.items():
        if not term.startswith(("energy.", "power.")) and number.amount is not None:
            amount = {"value": number.amount.value, "low": number.amount.low, "high": number.amount.high}
            texts = {"unit": number.unit, "source": number.source, "evidence": number.evidence}
            conditions = {"conditions": number.conditions} if number.conditions else {}
            _put(tables, term, amount | texts | conditions | {"verified": number.verified})
    header = {"name": name, "kind": target.kind, "scope": target.scope, "notes": _notes(calibration, target)}
    chip = {} if target.chip is None else {"chip": target.chip.name}
    layer = {"mode": target.first_layer}
    return {"schema": FORM.schema, "target": header | chip, "first_layer": layer, **tables}


def _tables(target: TargetProfile, fitted: tuple[str, ...]) -> list[tuple[str, str]]:
    """Energies and powers of the new profile with their units."""
    kept = (*fitted, *target.prices)
    return [
        (name, term.unit)
        for name, term in TERMS.items()
        if name.startswith(("energy.", "power.")) and name in kept
    ]


def _entry(fitted: Fitted | None, calibration: Calibration) -> dict[str, Any]:
    if fitted is None:
        conditions = "left out of the fit: what it takes is in the fitted prices"
        return {"value": 0.0, "low": 0.0, "high": 0.0, "evidence": "fitted", "conditions": conditions}
    quality = (
        f"error at rows left out {calibration.held_out_error:.1%}, condition {calibration.condition:.3g}"
    )
    if fitted.value == 0:
        conditions = f"the fit puts it at 0, and resampled rows at up to {fitted.high:.3g}; {quality}"
        return {"value": 0.0, "low": 0.0, "high": 0.0, "evidence": "fitted", "conditions": conditions}
    low = fitted.low or fitted.value / 1000  # a range that ends at 0 has no logarithm
    conditions = f"low, high: 5th and 95th percentile over resampled rows; {quality}"
    amount = {"value": fitted.value, "low": low, "high": fitted.high}
    return {**amount, "evidence": "fitted", "conditions": conditions}


def _put(tables: dict[str, Any], term: str, entry: dict[str, Any]) -> None:
    *groups, last = term.split(".")
    for group in groups:
        tables = tables.setdefault(group, {})
    tables[last] = entry


def _notes(calibration: Calibration, target: TargetProfile) -> str:
    rows = len(calibration.measurements.joules)
    return (
        f"Fitted to {rows} measurements, starting from {target.name}. It holds for networks like those measured; "
        f"the error at rows left out of the fit was {calibration.held_out_error:.1%}."
    )
