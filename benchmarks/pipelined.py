"""What a network with short delays and one retrained for the pipeline cost, and how accurate they are.

`python -m benchmarks.pipelined SWEEP --target loihi2` reads the runs of `snndeploy train --sweep` over
backward connections and their delays, and prints, for each set of them, the accuracy over the seeds, machine
steps, latency and throughput at the chip's step time, and the work that an energy estimate is made of. A first
table is of the time, a second of the rest. Everything but accuracies and counts is ESTIMATED.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snndeploy.ir import BackwardConnection, Network, Schedule, backward_connections, load, schedule
from snndeploy.targets.chip import Chip
from snndeploy.targets.chip import load as load_chip
from snndeploy.targets.profile import Interval, TargetProfile
from snndeploy.targets.profile import load as load_profile

EXACT = "exact.snn.safetensors"
Placement = tuple[BackwardConnection, ...]


@dataclass(frozen=True)
class Deployed:
    """All trainings with the same backward connections.

    network: Of one of them; the weights play no part.
    tests: What was measured on the test samples, by seed.
    """

    network: Network
    tests: dict[int, dict[str, Any]]

    @property
    def name(self) -> str:
        """The connections as `--set network.backward` takes them."""
        found = backward_connections(self.network.graph)
        texts = [f"{c.source}:{c.target}" + (f":{c.delay}" if c.delay > 1 else "") for c in found]
        return "+".join(texts) or "none"

    @property
    def timing(self) -> Schedule:
        """At the smallest initiation interval."""
        return schedule(self.network.graph)

    @property
    def neuron_updates(self) -> int:
        """Of one sample among many, idle ones included: every neuron in every machine step."""
        shapes = self.network.graph.shapes
        neurons = sum(math.prod(shapes[port]) for port in self.network.graph.ports)
        return neurons * self.timing.machine_steps_per_sample(self.network.steps)

    def measured(self, key: str) -> list[float]:
        """One of the test's numbers for every seed."""
        return [float(test[key]) for _, test in sorted(self.tests.items())]


def deployed(sweep: Path) -> list[Deployed]:
    """All finished runs of a sweep, by their connections, in the order of the number of connections and delay."""
    found: dict[Placement, Deployed] = {}
    for path in sorted(sweep.glob("*/seed*/test.json")):
        network = load(path.parent / EXACT)
        test = json.loads(path.read_text(encoding="utf-8"))
        connections = backward_connections(network.graph)
        one = found.setdefault(connections, Deployed(network, {}))
        one.tests[int(test["config"]["seed"])] = test
    return [found[key] for key in sorted(found, key=lambda key: (len(key), key))]


def time_table(found: Sequence[Deployed], chip: Chip) -> str:
    """Schedule, machine steps, latency and throughput of each."""
    lines = [
        "| connections | schedule | II | machine steps | latency (us) | machine steps between samples "
        "| samples per second |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        timing, steps = one.timing, one.network.steps
        between = chip.step_time_us * timing.machine_steps_per_sample(steps)
        rate = Interval(1e6 / between.value, 1e6 / between.high, 1e6 / between.low)
        cells = [
            one.name,
            timing.name,
            timing.initiation_interval,
            timing.machine_steps(steps),
            amount(chip.step_time_us * timing.machine_steps(steps)),
            timing.machine_steps_per_sample(steps),
            amount(rate),
        ]
        lines.append(_row(cells))
    return "\n".join(lines)


def work_table(found: Sequence[Deployed], profile: TargetProfile) -> str:
    """Accuracy and work of each."""
    price = profile.prices["energy.synop"].amount
    lines = [
        "| connections | seeds | test accuracy (%) | exact format (%) | synaptic operations | E_SNN (nJ) "
        "| neuron updates |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        operations = one.measured("synops")
        cells = [
            one.name,
            len(one.tests),
            spread([100 * value for value in one.measured("test_accuracy")]),
            spread([100 * value for value in one.measured("exact_test_accuracy")]),
            f"{statistics.fmean(operations):,.0f}".replace(",", " "),
            "unpriced" if price is None else amount(price * (statistics.fmean(operations) / 1000)),
            f"{one.neuron_updates:,}".replace(",", " "),
        ]
        lines.append(_row(cells))
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.1f} +- {deviation:.1f}"


def amount(value: Interval) -> str:
    """Two significant digits, with the range."""
    middle, low, high = (f"{float(f'{part:.2g}'):g}" for part in (value.value, value.low, value.high))
    return f"{middle} ({low} to {high})"


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--target", default="loihi2", help="a chip, for the time of a machine step")
    parser.add_argument("--profile", default="paper-45nm", help="a target profile, for energies")
    options = parser.parse_args()
    found = deployed(options.sweep)
    print(time_table(found, load_chip(options.target)))
    print()
    print(work_table(found, load_profile(options.profile)))


if __name__ == "__main__":
    main()
