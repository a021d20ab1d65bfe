"""What curves of accuracy against energy came to beside each other, as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from snndeploy.train.curves import Curve, Spread
from snndeploy.train.runs import Run
from snndeploy.train.tradeoff import association, auc, ratio_at, score, verdict

CLAIM = ("syn", "total", "balance")
"""Published order of the penalties by AUC, from the highest: Spiking Synaptic Penalty, table 4."""


def compare(curves: Sequence[Curve], above: Sequence[float], drop: Sequence[float]) -> dict[str, Any]:
    """Everything about curves.

    Args:
        curves: Of runs.
        above: Values of P, in percent: accuracies over which AUC, rank correlation and mutual information are
            taken.
        drop: Percentage points of the baseline's mean accuracy to give up, for the energy that it then takes:
            the least energy ratio at which the rising curve through the means of the intensities gets there.

    Returns:
        `curves`, each with its runs, `means` by intensity, `scores` by P and `equal_accuracy` by drop; `claim`;
        `orders`, one for each P and each setting that was trained with every penalty of the claim, over the
        `intensities` and `seeds` that all of them have.
    """
    return {
        "curves": [_curve_facts(curve, above, drop) for curve in curves],
        "claim": list(CLAIM),
        "orders": [order for percent in above for order in _orders(curves, percent)],
    }


def _curve_facts(curve: Curve, above: Sequence[float], drop: Sequence[float]) -> dict[str, Any]:
    """Everything about a curve, as JSON values."""
    means = curve.means()
    baseline = curve.mean(curve.baseline)
    targets = [(points, baseline.accuracy.mean - points / 100) for points in drop]
    return {
        "label": curve.label,
        "penalty": curve.penalty,
        "baseline": {
            "runs": [str(run.folder) for run in curve.baseline],
            "estimated_energy_pj": curve.baseline_energy_pj,
            **asdict(baseline),
        },
        "runs": [_run_facts(curve, run) for run in curve.runs],
        "means": [asdict(mean) for mean in means],
        "scores": [_score_facts(curve, percent) for percent in above],
        "equal_accuracy": [
            {
                "drop": points,
                "accuracy": accuracy,
                "energy_ratio": ratio_at([mean.point for mean in means], accuracy),
            }
            for points, accuracy in targets
        ],
    }


def _run_facts(curve: Curve, run: Run) -> dict[str, Any]:
    ((ratio, accuracy),) = curve.points([run])
    return {
        "run": str(run.folder),
        "seed": run.config.seed,
        "intensity": run.intensity,
        "accuracy": accuracy,
        "estimated_energy_pj": run.estimated_energy_pj,
        "energy_ratio": ratio,
        "dead_rate": run.dead_rate,
    }


def _score_facts(curve: Curve, above: float) -> dict[str, Any]:
    """AUC over all runs, and the association of the penalised ones."""
    by_seed = _aucs(curve, above)
    return {
        "above": above,
        "auc": auc(curve.points(curve.runs), above),
        "auc_by_seed": {str(seed): value for seed, value in by_seed.items()},
        "auc_over_seeds": asdict(Spread.of(list(by_seed.values()))) if by_seed else None,
        **asdict(association(curve.points(curve.penalised), above)),
    }


def _aucs(curve: Curve, above: float) -> dict[int, float]:
    return {seed: auc(points, above) for seed, points in curve.points_by_seed().items()}


def _orders(curves: Sequence[Curve], above: float) -> list[dict[str, Any]]:
    """For every setting in which all penalties were tried, what their AUC says about the published order."""
    settings: dict[str, dict[str, Curve]] = {}
    for curve in curves:
        settings.setdefault(curve.setting, {})[curve.penalty] = curve
    found = []
    for setting, by_penalty in settings.items():
        if set(CLAIM) <= set(by_penalty):
            found.append({"setting": setting, **_order([by_penalty[name] for name in CLAIM], above)})
    return found


def _order(curves: Sequence[Curve], above: float) -> dict[str, Any]:
    """How the AUC of curves falls, over the intensities and the seeds that all of them have.

    An intensity more would make a curve longer, and so its AUC another, whatever its penalty.
    """
    tried = [{run.intensity for run in curve.penalised} for curve in curves]
    intensities = set.intersection(*tried)
    points = [curve.within(intensities).points_by_seed() if intensities else {} for curve in curves]
    seeds = sorted(set.intersection(*(set(found) for found in points)))
    scores = [
        score(curve.penalty, [auc(found[seed], above) for seed in seeds])
        for curve, found in zip(curves, points, strict=True)
        if seeds
    ]
    missing = "seed with every common intensity" if intensities else "intensity"
    return {
        "above": above,
        "intensities": sorted(intensities),
        "seeds": seeds,
        "order": [asdict(one) for one in sorted(scores, key=lambda one: -one.mean)],
        "verdict": verdict(scores) if scores else f"not comparable: no {missing} in common",
    }
