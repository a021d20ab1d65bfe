"""Runs as curves of accuracy against energy: one for each penalty, along its intensity."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from snndeploy.errors import ConfigError
from snndeploy.train.checkpoint import as_json
from snndeploy.train.config import PENALTIES
from snndeploy.train.runs import CONVERSION, Run, differing_keys
from snndeploy.train.tradeoff import Point

_ALONG = frozenset({"seed", "penalty.intensity"})  # differ along a curve
_FIRST = (CONVERSION, "penalty.name", "penalty.power")  # in a label
_LEAST_PJ = 1e-12  # of a baseline: below one operation in 10^9 inferences nothing can be relative to it


@dataclass(frozen=True)
class Spread:
    """Mean and deviation, that of a sample; None for one value."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float], unit: float = 1.0) -> Spread:
        """Of values, divided by a unit."""
        deviation = statistics.stdev(values) / unit if len(values) > 1 else None
        return cls(statistics.fmean(values) / unit, deviation)


@dataclass(frozen=True, kw_only=True)
class Mean:
    """Runs of one intensity: their number, and what they came to over their seeds."""

    intensity: float
    count: int
    accuracy: Spread
    energy_ratio: Spread
    dead_rate: Spread

    @property
    def point(self) -> Point:
        """Mean energy ratio and mean accuracy."""
        return self.energy_ratio.mean, self.accuracy.mean


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Runs that differ in seed and intensity only, and those of the same configuration without a penalty.

    penalty: Its name.
    setting: The other keys in which it differs from the curves beside it.
    label: Both.
    unpenalised: May be empty if another baseline is given.
    penalised: By intensity, then by seed.
    baseline: The runs whose mean energy, over the seeds, is that of energy ratio 1.
    """

    penalty: str
    setting: str
    label: str
    unpenalised: tuple[Run, ...]
    penalised: tuple[Run, ...]
    baseline: tuple[Run, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """All, those without a penalty first."""
        return self.unpenalised + self.penalised

    @property
    def has_own_baseline(self) -> bool:
        """Whether energy is relative to the curve's own runs without a penalty."""
        return self.baseline == self.unpenalised

    @property
    def is_converted(self) -> bool:
        """Whether its networks were converted from ANNs."""
        return self.penalised[0].conversion is not None

    @property
    def baseline_energy_pj(self) -> float:
        """Estimated, mean over the seeds."""
        return statistics.fmean(_over_seeds(self.baseline, lambda run: run.estimated_energy_pj))

    def points(self, runs: Iterable[Run]) -> list[Point]:
        """Energy ratio and accuracy of runs."""
        unit = self.baseline_energy_pj
        return [(run.estimated_energy_pj / unit, run.accuracy) for run in runs]

    def mean(self, runs: Sequence[Run]) -> Mean:
        """Over runs of one intensity."""
        return Mean(
            intensity=runs[0].intensity,
            count=len(runs),
            accuracy=Spread.of(_over_seeds(runs, lambda run: run.accuracy)),
            energy_ratio=Spread.of(
                _over_seeds(runs, lambda run: run.estimated_energy_pj), self.baseline_energy_pj
            ),
            dead_rate=Spread.of(_over_seeds(runs, lambda run: run.dead_rate)),
        )

    def within(self, intensities: Collection[float]) -> Curve:
        """The curve without the penalised runs of other intensities."""
        kept = tuple(run for run in self.penalised if run.intensity in intensities)
        return replace(self, penalised=kept)

    def means(self) -> list[Mean]:
        """By rising intensity."""
        groups: dict[float, list[Run]] = {}
        for run in self.runs:
            groups.setdefault(run.intensity, []).append(run)
        return [self.mean(runs) for runs in groups.values()]

    def points_by_seed(self) -> dict[int, list[Point]]:
        """Of every seed that was trained with each intensity of the curve, 0 among them.

        A seed that lacks an intensity is left out: it would be another curve. If the baseline is the curve's
        own, energy is relative to that of the same seed, so that a baseline above the mean is not cut off at 1.
        """
        seeds: dict[int, list[Run]] = {}
        for run in self.runs:
            seeds.setdefault(run.config.seed, []).append(run)
        found = {}
        for seed, runs in sorted(seeds.items()):
            whole = {run.intensity for run in runs} == {run.intensity for run in self.runs}
            own = [run.estimated_energy_pj for run in runs if run.intensity == 0]
            unit = statistics.fmean(own) if own and self.has_own_baseline else self.baseline_energy_pj
            if whole:
                found[seed] = [(run.estimated_energy_pj / unit, run.accuracy) for run in runs]
        return found


def curves(runs: Sequence[Run], baseline: Sequence[Run] = ()) -> tuple[Curve, ...]:
    """Runs as curves.

    Args:
        runs: Penalised and not.
        baseline: Of all curves; without one each has its own, its runs without a penalty.

    Raises:
        ConfigError: No run has a penalty, a curve has no baseline, a run of a baseline spends no energy, or the
            one given is penalised, converted from an ANN, or several.
    """
    groups: list[list[Run]] = []
    for run in runs:
        if run.intensity > 0:
            home = next((group for group in groups if differing_keys(group[0], run) <= _ALONG), None)
            if home is None:
                groups.append([run])
            else:
                home.append(run)
    if not groups:
        raise ConfigError(
            str(runs[0].folder),
            "and all other runs have no penalty, so there is nothing to trade",
            remedy="train with penalty.intensity above 0, too",
        )
    groups.sort(key=lambda group: _place(group[0]))
    unpenalised = [run for run in runs if run.intensity == 0]
    keys = {
        converted: _label_keys(
            [group[0] for group in groups if (group[0].conversion is not None) == converted]
        )
        for converted in (False, True)
    }
    common = _common(baseline) if baseline else ()
    return tuple(
        _curve(group, unpenalised, common, keys[group[0].conversion is not None]) for group in groups
    )


def _place(run: Run) -> tuple[bool, int, int]:
    """Where a curve stands among others: spiking networks first, penalties as they are listed."""
    penalty = run.config.penalty
    return run.conversion is not None, PENALTIES.index(penalty.name), penalty.power


def _common(baseline: Sequence[Run]) -> tuple[Run, ...]:
    """A baseline for all curves, checked."""
    first = baseline[0]
    for run in baseline:
        if run.intensity > 0:
            raise ConfigError(str(run.folder), "is penalised, so it is no baseline", got=run.intensity)
        if run.conversion is not None:
            raise ConfigError(
                str(run.folder),
                "holds a converted ANN, a network for each T, which cannot be the baseline of all curves",
                got=f"T = {run.conversion}",
                remedy="name a network trained spiking, or give no baseline: then each T has its own",
            )
        if not _same_without_penalty(first, run):
            raise ConfigError(
                f"{first.folder} and {run.folder}", "are two baselines", remedy="name one of them"
            )
    return _distinct(baseline)


def _curve(
    runs: list[Run], unpenalised: Iterable[Run], baseline: tuple[Run, ...], keys: Sequence[str]
) -> Curve:
    runs.sort(key=lambda run: (run.intensity, run.config.seed))
    first = runs[0]
    label = " ".join(_shown(key, first) for key in keys)
    own = _distinct([run for run in unpenalised if _same_without_penalty(first, run)])
    if not (own or baseline):
        raise ConfigError(
            f"curve {label}",
            "has no baseline, runs of the same configuration with penalty.intensity=0",
            remedy=f"run: {_baseline_command(runs)}, and name that folder, too",
        )
    curve = Curve(
        penalty=first.config.penalty.name,
        setting=" ".join(_shown(key, first) for key in keys if key != "penalty.name"),
        label=label,
        unpenalised=own,
        penalised=tuple(runs),
        baseline=baseline or own,
    )
    for run in curve.baseline:
        if run.estimated_energy_pj < _LEAST_PJ:
            raise ConfigError(
                str(run.folder),
                "is a baseline that never fires, so no energy can be relative to its",
                remedy=f"train it again, or leave out all runs with seed {run.config.seed}",
            )
    return curve


def _baseline_command(runs: Sequence[Run]) -> str:
    """What trains the baseline of a curve."""
    folder = runs[0].folder
    seeds = sorted({run.config.seed for run in runs})
    if seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        asked = ["--set", f"seed={seeds[0]}", "--seeds", str(len(seeds))]
    else:
        asked = ["--sweep", f"seed={','.join(map(str, seeds))}"]
    config, out = str(folder / "config.toml"), str(folder.parent / "baseline")
    return shlex.join(["snndeploy", "train", config, "--set", "penalty.intensity=0", *asked, "--out", out])


def _same_without_penalty(one: Run, other: Run) -> bool:
    return all(key == "seed" or key.startswith("penalty.") for key in differing_keys(one, other))


def _distinct(unpenalised: Sequence[Run]) -> tuple[Run, ...]:
    """Runs without a penalty, by seed: one trained again under another idle penalty key counts once."""
    found: dict[object, Run] = {}
    for run in unpenalised:
        result = (run.config.seed, run.accuracy, run.estimated_energy_pj, run.dead_rate)
        found.setdefault(result, run)
    return tuple(sorted(found.values(), key=lambda run: run.config.seed))


def _over_seeds(runs: Iterable[Run], value: Callable[[Run], float]) -> list[float]:
    """A value for each seed, the mean if it was trained more than once."""
    found: dict[int, list[float]] = {}
    for run in runs:
        found.setdefault(run.config.seed, []).append(value(run))
    return [statistics.fmean(values) for values in found.values()]


def _label_keys(firsts: Sequence[Run]) -> list[str]:
    """The keys in which curves differ, what is about the penalty first; conversions always show theirs."""
    found = set().union(*(differing_keys(firsts[0], other) for other in firsts[1:])) - _ALONG
    if any(run.conversion is not None for run in firsts):
        found.add(CONVERSION)
    if not found:
        return ["penalty.name", "penalty.power"]
    return [*(key for key in _FIRST if key in found), *sorted(found.difference(_FIRST))]


def _shown(key: str, run: Run) -> str:
    if key == CONVERSION:
        return f"converted T={run.conversion}"
    value: Any = as_json(run.config)
    for part in key.split("."):
        value = value[part] if isinstance(value, Mapping) else None
    if key == "penalty.name":
        return str(value)
    text = "+".join(map(_text, value)) or "none" if isinstance(value, list) else _text(value)
    return f"{'p' if key == 'penalty.power' else key}={text}"


def _text(value: Any) -> str:
    """As in the names of folders."""
    return str(value).lower() if isinstance(value, bool) else str(value)
