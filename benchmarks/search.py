"""How fast a search is on the small backbone: candidates scored per second, against the plain way.

    OMP_NUM_THREADS=1 python -m benchmarks.search

prints Markdown (a few minutes). Each section is a function that measures one part of the search and gives its lines.

Candidates are drawn at random from all with at most two backward connections; both scores are wanted of each. The
plain way builds a network for each candidate, whose weights want gradients, and runs it once for each score: step by
step in PyTorch's own operations, and, to tell apart what the compiled neurons bring, as the engine runs any network.
Both ways take turns in every round, one thread each; ratios are medians of those within a round, with their range, of
processor time. That of several workers is the time on the clock, and needs a machine that nobody else uses.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.search_plain import PlainScorer
from benchmarks.search_supernet import evaluation_seconds, step_times
from snndeploy.train.pool import map_tasks
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.scoring import CHUNK, Material, load_scorer, order
from snndeploy.train.search.space import Architecture
from snndeploy.train.search.supernet import train_supernet

TARGET = 2000  # candidates of a default search
STEPS = 4  # training steps of each kind in a round


@dataclass(frozen=True)
class Case:
    """What is measured.

    rounds: Each with `count` candidates of its own.
    workers: Numbers of processes.
    """

    config: SearchConfig
    rounds: int
    count: int
    workers: tuple[int, ...]

    def candidates(self, material: Material, count: int, seed: int) -> list[Architecture]:
        """Some of the space, again from the start if it has fewer."""
        found = material.space.sample(np.random.default_rng(seed), count)
        return order(found[:count])


def main() -> None:
    """Prints the result as Markdown."""
    options = _options()
    torch.set_num_threads(1)
    case = Case(_config(options), options.rounds, options.count, tuple(options.workers))
    network = case.config.training.network
    print(
        f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"torch {torch.__version__}. {network.backbone}, T = {network.steps}, batch {case.config.score.batch}, "
        f"digits 16x16.\n"
    )
    for section in (scoring, scoring_workers, supernet_steps, evaluations):
        for line in section(case):
            print(line, flush=True)
        print()


def scoring(case: Case) -> list[str]:
    """Both scores in one process, against the plain way."""
    material = Material.load(case.config)
    scorer = material.scorer(seed=0)
    arguments = (material.space, material.x, material.labels)
    ways: dict[str, Callable[[Sequence[Architecture]], object]] = {
        "shared pass": scorer.score,
        "plain": PlainScorer(*arguments, seed=0, classes=10).score,
        "plain, compiled neurons": PlainScorer(*arguments, seed=0, classes=10, compiled=True).score,
    }
    warm = case.candidates(material, 2, seed=0)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(warm)
    for number in range(case.rounds):
        candidates = case.candidates(material, case.count, seed=1 + number)
        for name, way in ways.items():
            start = time.process_time()
            way(candidates)
            taken[name].append((time.process_time() - start) / len(candidates))
    lines = [
        "| scoring, 1 process | ms per candidate | candidates per second | times slower |",
        "|---|---|---|---|",
    ]
    for name, seconds in taken.items():
        ratios = [a / b for a, b in zip(seconds, taken["shared pass"], strict=True)]
        middle = statistics.median(seconds)
        lines.append(
            f"| {name} | {middle * 1e3:.0f} | {1 / middle:.1f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    return lines


def scoring_workers(case: Case) -> list[str]:
    """Both scores in several processes, without the time they take to start."""
    material = Material.load(case.config)
    rates: dict[int, float] = {}
    lines = [
        f"| workers | candidates per second | times 1 worker | minutes for {TARGET} |",
        "|---|---|---|---|",
    ]
    for workers in case.workers:
        candidates = case.candidates(material, case.rounds * case.count, seed=0)
        chunks = [candidates[start : start + CHUNK] for start in range(0, len(candidates), CHUNK)]
        ends: list[tuple[float, int]] = []

        def note(index: int, _: object, ends: list[tuple[float, int]] = ends) -> None:
            ends.append((time.perf_counter(), index))

        map_tasks(partial(load_scorer, case.config), chunks, workers=workers, on_result=note)
        # From the first results on, one for each worker, all of them are at work until the last ones.
        skipped, (start, _), (end, _) = ends[:workers], ends[workers - 1], ends[-1]
        done = len(candidates) - sum(len(chunks[index]) for _, index in skipped)
        rates[workers] = done / (end - start)
        lines.append(
            f"| {workers} | {rates[workers]:.1f} | {rates[workers] / rates[case.workers[0]]:.2f} "
            f"| {TARGET / rates[workers] / 60:.1f} |"
        )
    return lines


def supernet_steps(case: Case) -> list[str]:
    """Training steps of the supernet against plain ones."""
    found = step_times(case.config, case.rounds * STEPS)
    rows = (
        ("backbone", found.backbone),
        ("supernet, an architecture drawn for each step", found.supernet),
        ("the same architectures, each a network of its own", found.alone),
    )
    return [
        "| training step | ms | times the backbone's |",
        "|---|---|---|",
        *(f"| {name} | {1000 * value:.0f} | {value / found.backbone:.2f} |" for name, value in rows),
    ]


def evaluations(case: Case) -> list[str]:
    """Evaluations with the weights of a supernet, trained for one epoch, the start of the processes left out."""
    config = replace(case.config, supernet=replace(case.config.supernet, epochs=1))
    material = Material.load(config)
    lines = ["| workers | evaluations per second | times 1 worker |", "|---|---|---|"]
    with TemporaryDirectory() as folder:
        train_supernet(config, material.space, Path(folder))
        rates: dict[int, float] = {}
        for workers in case.workers:
            chosen = case.candidates(material, case.rounds * case.count, seed=1)
            seconds = evaluation_seconds(config, material.space, Path(folder), chosen, workers=workers)
            rates[workers] = 1 / seconds
            lines.append(
                f"| {workers} | {rates[workers]:.1f} | {rates[workers] / rates[case.workers[0]]:.2f} |"
            )
    return lines


def _config(options: argparse.Namespace) -> SearchConfig:
    return SearchConfig.from_mapping(
        {
            "space": {"most": options.most},
            "score": {"batch": options.batch},
            "training": {
                "network": {"backbone": options.backbone, "steps": 4},
                "data": {"name": "digits", "validation": 0},
                "device": "cpu",
            },
        }
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="resnet8")
    parser.add_argument("--most", type=int, default=2, help="backward connections")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=16, help="candidates in a round")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    return parser.parse_args()


if __name__ == "__main__":
    main()
