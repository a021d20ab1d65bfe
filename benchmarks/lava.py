"""Times bundles in Lava's own processes, in our fused ones and in the native engine, and bare convolutions, in one run.

    python -m benchmarks.lava

prints Markdown, with `--json` everything measured. Chains of 10, 20 and 40 layers, each a 3x3 convolution of 64 to 64
channels on 16x16 maps, in the loihi format with an initiation interval of 1, run in every form; all forms must give
the same spikes, which is checked. Each runs a few and then many samples, back to back in Lava and in batches in the
native engine: the difference is the time per step, the rest the start. Forms take turns in every round, and ratios
are those within a round. Memory is that of all processes together, in a run of its own. Last, resnet18.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.arguments import positive
from benchmarks.lava_chains import STEPS, bare_convolutions, export, frames, on_lava, on_native
from benchmarks.lava_memory import peak_bytes
from benchmarks.lava_report import Chain, Cost, ResNet, markdown
from benchmarks.measure import alone, timed
from snndeploy.export import lava as lowering
from snndeploy.targets import lava, native

Run: TypeAlias = Callable[[npt.NDArray[np.float32]], lava.Simulation]

BATCH = 16  # what the native engine takes for these chains
FEW = {"stock": 1, "fused": 1, "native": BATCH}
MANY = {"stock": 3, "fused": 81, "native": 17 * BATCH}
"""Samples; every additional one takes STEPS machine steps in which all populations work."""
LAVA_SAMPLES, NATIVE_SAMPLES, NATIVE_THREADS = 5, 100, 2  # of resnet18


def measure_chain(populations: int, rounds: int, *, stock: bool) -> Chain:
    """Runs all forms of a chain in turns, then each once more for its memory."""
    with TemporaryDirectory(prefix="snndeploy-") as name:
        bundles = export(populations, Path(name))
        runs: dict[str, Run] = {
            "fused": partial(on_lava, bundles["fused"]),
            "native": partial(on_native, bundles["fused"]),
        }
        if stock:
            runs["stock"] = partial(on_lava, bundles["stock"])
        require_equal({form: run(frames(FEW["stock"])) for form, run in runs.items()})
        additional = MANY["native"] - FEW["native"]
        bare = bare_convolutions(populations, additional, BATCH)
        bare()
        costs: dict[str, list[Cost]] = {form: [] for form in (*runs, "bare")}
        for number in range(rounds):
            for form, run in runs.items():
                print(f"{populations} populations, round {number + 1}, {form}", file=sys.stderr)
                costs[form].append(cost(run, FEW[form], MANY[form], here=form == "native"))
            wall, processor = timed(bare)
            steps = additional * STEPS
            costs["bare"].append(Cost(wall / steps, 0.0, processor / steps))
        peaks = {form: alone(memory, run, FEW[form]) for form, run in runs.items()}
        return Chain(populations, costs, peaks)


def cost(run: Run, few: int, many: int, *, here: bool) -> Cost:
    """Of runs of a few and of many samples.

    Args:
        run: A form.
        few: Samples.
        many: Samples.
        here: Whether it runs in this process.
    """
    seconds, processor = [], []
    for x in (frames(few), frames(many)):
        begin = time.process_time()
        seconds.append(run(x).seconds)
        processor.append(time.process_time() - begin)
    steps = (many - few) * STEPS
    step = (seconds[1] - seconds[0]) / steps
    start = seconds[0] - few * STEPS * step
    return Cost(step, start, (processor[1] - processor[0]) / steps if here else None)


def memory(run: Run, samples: int) -> int:
    """Largest memory while a form runs, of all processes; to be called in a process of its own."""
    x = frames(samples)
    return peak_bytes(os.getpid(), lambda: run(x))[0]


def require_equal(simulations: dict[str, lava.Simulation]) -> None:
    """Ends the program unless all forms gave the same spikes and sums."""
    (first, expected), *others = simulations.items()
    for form, found in others:
        if differing(found, expected):
            raise SystemExit(f"{form} and {first} differ: nothing to compare")


def differing(found: lava.Simulation, expected: lava.Simulation) -> int:
    """Number of spikes and readout sums of the same samples that are not the same."""
    spikes = expected.trace.spikes.items()
    return sum(int((found.trace.spikes[name] != train).sum()) for name, train in spikes) + int(
        (found.trace.readout_sum != expected.trace.readout_sum).sum()
    )


def measure_resnet() -> ResNet:
    """Lowers resnet18 in the exact format, proves some samples equal in Lava, and runs many in the native engine."""
    from benchmarks.onnx_networks import random_images, resnet  # noqa: PLC0415  (imports torch)

    network = resnet("no BC")
    images = random_images(network.graph, NATIVE_SAMPLES, seed=1)
    with TemporaryDirectory(prefix="snndeploy-") as name:
        begin = time.perf_counter()
        bundle = lowering.export(network, Path(name) / "bundle", images[:LAVA_SAMPLES])
        exported = time.perf_counter()
        (proof,) = lava.simulate([bundle])
        proven = time.perf_counter()
        daily = native.simulate(bundle, samples=images, threads=NATIVE_THREADS)
        ended = time.perf_counter()
        expected = lava.read(bundle).expected
    few = lava.Simulation(daily.trace.first(LAVA_SAMPLES), daily.machine_steps, daily.seconds)
    promised = lava.Simulation(expected, 0, 0.0)
    return ResNet(
        exported - begin,
        proven - exported,
        ended - proven,
        LAVA_SAMPLES,
        NATIVE_SAMPLES,
        NATIVE_THREADS,
        differing(proof, promised) + differing(few, promised),
    )


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--populations", type=positive, nargs="+", default=[10, 20, 40])
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument(
        "--stock-populations",
        type=int,
        default=40,
        help="the longest chain that runs in Lava's own processes",
    )
    parser.add_argument("--no-resnet", dest="resnet", action="store_false", help="leave resnet18 out")
    parser.add_argument("--json", action="store_true", help="everything measured, as one JSON object")
    return parser.parse_args(arguments)


def main() -> None:
    """Measures and prints."""
    options = parsed()
    chains = [
        measure_chain(count, options.rounds, stock=count <= options.stock_populations)
        for count in options.populations
    ]
    resnet = measure_resnet() if options.resnet else None
    if options.json:
        facts: dict[str, Any] = {"chains": [asdict(c) for c in chains], "resnet": resnet and asdict(resnet)}
        print(json.dumps(facts, indent=1))
    else:
        print(markdown(chains, resnet))


if __name__ == "__main__":
    main()
