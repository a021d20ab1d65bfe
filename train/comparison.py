"""What curves of accuracy against energy came to beside each other, as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from snndeploy.train.curves import Curve, Spread
from snndeploy.train.runs import Run
from snndeploy.train.tradeoff import Score, association, auc, ratio_at, score, verdict

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
        `orders`, one for each P and each setting that was trained with every penalty of the claim.
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
            scores = _scores([by_penalty[name] for name in CLAIM], above)
            falling = sorted(scores, key=lambda score: -score.mean)
            found.append(
                {
                    "setting": setting,
                    "above": above,
                    "order": [asdict(score) for score in falling],
                    "verdict": verdict(scores),
                }
            )
    return found


def _scores(curves: Sequence[Curve], above: float) -> list[Score]:
    """AUC of each, over the seeds where all have at least two, else over all runs together."""
    seeds = [list(_aucs(curve, above).values()) for curve in curves]
    if all(len(values) > 1 for values in seeds):
        return [score(curve.penalty, values) for curve, values in zip(curves, seeds, strict=True)]
    return [score(c.penalty, [auc(c.points(c.runs), above)]) for c in curves]
