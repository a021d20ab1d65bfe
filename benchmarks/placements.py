"""How well what a search goes by ranks single backward connections that were all trained from scratch.

`python -m benchmarks.placements SEARCH SWEEP` reads a finished search, and the runs of `snndeploy train --sweep`
over single connections and none, of the same backbone and task. It evaluates each of them with the search's
supernet, and prints N-score, E-score, accuracy in the supernet and accuracy after training as a Markdown table,
with Spearman's rank correlations below it.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from snndeploy.train.config import Config
from snndeploy.train.data import load
from snndeploy.train.model import build_graph
from snndeploy.train.search import folder
from snndeploy.train.search.comparison import spearman_interval
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.costs import Costs
from snndeploy.train.search.fitness import load_evaluator
from snndeploy.train.search.reliability import spearman
from snndeploy.train.search.scoring import read_scores
from snndeploy.train.search.space import Architecture, Space, label


@dataclass(frozen=True)
class Placement:
    """One architecture.

    n, e: Its scores; None where it was rejected.
    supernet: Validation accuracy with the weights of the supernet.
    trained: Test accuracy after each training from scratch.
    synops: Synaptic operations per inference after training, the mean over the trainings.
    costs: Known without training.
    """

    architecture: Architecture
    n: float | None
    e: float | None
    supernet: float
    trained: tuple[float, ...]
    synops: float
    costs: Costs


WHAT_RANKS: Mapping[str, Callable[[Placement], float | None]] = {
    "N-score": lambda one: one.n,
    "E-score": lambda one: one.e,
    "accuracy in the supernet": lambda one: one.supernet,
    "earliest input port (later first)": lambda one: min((c.target for c in one.architecture), default=None),
    "parameters (fewer first)": lambda one: -one.costs.parameters,
}


def trainings(sweep: Path) -> dict[Architecture, list[dict[str, float]]]:
    """What was measured on test samples of every run that is finished, by what was trained."""
    found: dict[Architecture, list[dict[str, float]]] = {}
    for path in sorted(sweep.glob("*/seed*/test.json")):
        config = Config.from_file(path.parent / "config.toml")
        found.setdefault(tuple(config.network.connections), []).append(json.loads(path.read_text()))
    return found


def placements(search: Path, sweep: Path) -> list[Placement]:
    """Everything that was trained, the most accurate first."""
    config = SearchConfig.from_file(search / folder.CONFIG)
    network, data = config.training.network, load(config.training.data)
    backbone = build_graph(network, data.shape, len(data.classes))
    space = Space.of(backbone, config.space, network.steps)
    evaluate = load_evaluator(config, space, search / folder.SUPERNET, data)
    scores = read_scores(search, config)
    found = [
        Placement(
            architecture,
            scores[architecture].n,
            scores[architecture].e,
            evaluate(architecture).accuracy,
            tuple(run["test_accuracy"] for run in runs),
            statistics.fmean(run["synops"] for run in runs),
            space.costs(architecture),
        )
        for architecture, runs in trainings(sweep).items()
    ]
    return sorted(found, key=lambda one: -statistics.fmean(one.trained))


def as_markdown(found: Sequence[Placement]) -> str:
    """The table, and the rank correlations of its columns with the trained accuracy."""
    headings = ("connection", "trained (%)", "in the supernet (%)", "N-score", "E-score")
    lines = [
        _row([*headings, "synaptic operations", "II", "parameters"]),
        _row(["---"] * (len(headings) + 3)),
    ]
    for one in found:
        mean = statistics.fmean(one.trained)
        spread = statistics.stdev(one.trained) if len(one.trained) > 1 else 0.0
        lines.append(
            _row(
                [
                    label(one.architecture),
                    f"{100 * mean:.1f} +- {100 * spread:.1f}",
                    f"{100 * one.supernet:.1f}",
                    *("-" if score is None else f"{score:.4g}" for score in (one.n, one.e)),
                    f"{one.synops:,.0f}",
                    one.costs.interval,
                    one.costs.parameters,
                ]
            )
        )
    lines += ["", _row(["Spearman with the trained accuracy", "all", "with a connection"]), _row(["---"] * 3)]
    for name, column in WHAT_RANKS.items():
        cells = [_correlation(column, part) for part in (found, [one for one in found if one.architecture])]
        lines.append(_row([name, *cells]))
    return "\n".join(lines)


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _correlation(column: Callable[[Placement], float | None], found: Sequence[Placement]) -> str:
    values = [column(one) for one in found]
    value = spearman(values, [statistics.fmean(one.trained) for one in found])
    if value is None:
        return "-"
    count = sum(one is not None for one in values)
    limits = spearman_interval(value, count)
    reach = f" ({limits[0]:+.2f} to {limits[1]:+.2f})" if limits else ""
    return f"{value:+.2f}{reach}, {count} of them"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("search", type=Path)
    parser.add_argument("sweep", type=Path)
    options = parser.parse_args()
    print(as_markdown(placements(options.search, options.sweep)))


if __name__ == "__main__":
    main()
