"""Times our fused Lava populations and Lava's stock Conv and LIF processes, side by side, on one small network.

Three 3x3 convolutions on 16x16 maps with 8 binary input channels, II = 1, once with 16 channels and once with 64.
Both forms run for a few and
for many machine steps; the difference is the time per machine step, the rest is the start. They take turns in every
round, so that whatever else the machine does meets both alike, and must end in the same membrane potentials.
`python benchmarks/lava_fused.py` prints Markdown.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import json
import os
import platform
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy import ir
from snndeploy.export import lava as lowering
from snndeploy.targets import lava
from snndeploy.targets.lava.process import run_group

IN_CHANNELS, SIZE, LAYERS = 8, 16, 3
STEPS = 12  # of one sample; with 4 fractional bits and a leak of 0.5 all potentials stay exact in float32
SAMPLES = {16: 60, 64: 8}  # of the longer run, by the number of channels
TIME_LIMIT_SECONDS = 300.0
STOCK = Path(__file__).resolve().parent / "lava_stock.py"


@dataclass(frozen=True)
class Cost:
    """Seconds of a form: per machine step, and to start."""

    step: float
    start: float


def network(width: int) -> ir.Network:
    """Conv -> LIF three times, then pool and fc; weights are multiples of 1/16, so that sums are exact."""
    ops: dict[str, ir.Op] = {"input": ir.Input(shape=(IN_CHANNELS, SIZE, SIZE))}
    for layer in range(LAYERS):
        ops[f"conv{layer}"] = ir.Conv2d(
            in_channels=width if layer else IN_CHANNELS, out_channels=width, kernel=(3, 3), padding=(1, 1)
        )
        ops[f"lif{layer}"] = ir.Lif()
    ops["pool"] = ir.AvgPool2d(kernel=(SIZE, SIZE), stride=(SIZE, SIZE))
    ops["flatten"] = ir.Flatten()
    ops["fc"] = ir.Linear(in_features=width, out_features=10)
    ops["output"] = ir.Output()
    names = list(ops)
    graph = ir.Graph(ops, tuple(ir.Edge(a, b) for a, b in itertools.pairwise(names)))
    rng = np.random.default_rng(0)
    weights = {name: rng.integers(-8, 9, shape) / 16 for name, shape in ir.parameter_shapes(graph).items()}
    return ir.Network(
        graph=graph, weights=weights, steps=STEPS, input=ir.InputSpec(kind="frames", grid_bits=4)
    )


def fused(bundle: Path, frames: npt.NDArray[np.float32]) -> Cost:
    """Cost of our populations."""
    (few,) = lava.simulate([bundle], samples=frames, count=1)
    (many,) = lava.simulate([bundle], samples=frames)
    return _cost(few.seconds, few.machine_steps, many.seconds, many.machine_steps)


def stock(
    arrays: Path, folder: Path, steps: tuple[int, int]
) -> tuple[Cost, Mapping[str, Any], Mapping[str, str]]:
    """Cost of Lava's own processes, potentials after the shorter run, and versions."""
    seconds, potentials, versions = [], [], {}
    for count in steps:
        result = folder / f"stock{count}.json"
        ended = run_group(
            [str(lava.find_interpreter().path), "-I", str(STOCK), str(arrays), str(result), str(count)],
            environment=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            folder=folder,
            time_limit_seconds=TIME_LIMIT_SECONDS,
            poll=lambda: None,
        )
        if ended.exit_code != 0:
            raise SystemExit("the stock processes failed:\n" + "\n".join(ended.last_lines))
        content = json.loads(result.read_text())
        seconds.append(content["seconds"])
        versions = content["versions"]
        with np.load(f"{result}.npz", allow_pickle=False) as loaded:
            potentials.append(dict(loaded))
    return _cost(seconds[0], steps[0], seconds[1], steps[1]), potentials[0], versions


def _cost(few_seconds: float, few: int, many_seconds: float, many: int) -> Cost:
    step = (many_seconds - few_seconds) / (many - few)
    return Cost(step, few_seconds - few * step)


def check(simulation: lava.Simulation, potentials: Mapping[str, Any], machine_steps: int) -> None:
    """Ends the program unless both forms computed the same.

    In the stock chain an input spike needs one machine step per layer, so that LIF n has done n + 1 steps less than
    the machine; the spikes up to there decide its potential, and a spike resets it.
    """
    for layer in range(LAYERS):
        t = machine_steps - (layer + 1) - 1
        u = simulation.trace.potentials[f"lif{layer}"][t, 0]
        rest = u * ~simulation.trace.spikes[f"lif{layer}"][t, 0]
        if not np.array_equal(rest, potentials[f"lif{layer}"]):
            raise SystemExit(f"lif{layer} differs between the two forms: nothing to compare")


@dataclass(frozen=True)
class Result:
    """Costs of both forms in every round, for one width of the network.

    rates: Spikes per neuron and step of each layer.
    """

    width: int
    fused: list[Cost]
    stock: list[Cost]
    rates: list[float]
    versions: Mapping[str, str]


def measure(width: int, rounds: int) -> Result:
    """Runs both forms in turns."""
    built = network(width)
    rng = np.random.default_rng(1)
    frames = (rng.random((STEPS, SAMPLES[width], *built.graph.shapes["input"])) < 0.2).astype(np.float32)
    ours, theirs = [], []
    with TemporaryDirectory() as name:
        folder = Path(name)
        bundle = lowering.export(built, folder / "bundle", frames[:, :1])
        weights = {f"weight{layer}": built.weights[f"conv{layer}.weight"] for layer in range(LAYERS)}
        np.savez(folder / "arrays.npz", frames=frames[:, 0], **weights)
        for _ in range(rounds):
            ours.append(fused(bundle, frames))
            cost, potentials, versions = stock(folder / "arrays.npz", folder, (STEPS, STEPS * SAMPLES[width]))
            theirs.append(cost)
        (simulation,) = lava.simulate([bundle], potentials=True)
        check(simulation, potentials, STEPS)
    rates = [float(spikes.mean()) for spikes in simulation.trace.spikes.values()]
    return Result(width, ours, theirs, rates, versions)


def markdown(results: list[Result]) -> str:
    """The results as a table; times and ratios are medians over the rounds."""
    versions = ", ".join(f"{name} {number}" for name, number in results[0].versions.items())
    lines = [
        "# Lava: fused populations against stock Conv and LIF processes",
        "",
        f"{dt.datetime.now(dt.timezone.utc):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), {versions}, "
        f"{len(results[0].fused)} rounds (medians; the ratio's range in brackets).",
        f"{LAYERS} layers 3x3 on {SIZE}x{SIZE} maps, {IN_CHANNELS} input channels. {LAYERS + 2} fused processes, "
        f"{2 * LAYERS + 1} stock ones, in float. Both forms end in equal membrane potentials. The fused form also "
        "writes every spike to files and computes the readout.",
        "",
        "| channels | firing rates | fused: ms per machine step | stock: ms per machine step | stock / fused "
        "| start, fused / stock (s) |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        ours, theirs = _median(result.fused), _median(result.stock)
        ratios = [b.step / a.step for a, b in zip(result.fused, result.stock, strict=True)]
        rates = ", ".join(f"{rate:.0%}" for rate in result.rates)
        lines.append(
            f"| {result.width} | {rates} | {ours.step * 1e3:.2f} | {theirs.step * 1e3:.2f} "
            f"| **{statistics.median(ratios):.1f}** ({min(ratios):.1f} to {max(ratios):.1f}) "
            f"| {ours.start:.2f} / {theirs.start:.2f} |"
        )
    return "\n".join(lines)


def _median(costs: list[Cost]) -> Cost:
    return Cost(statistics.median(c.step for c in costs), statistics.median(c.start for c in costs))


def main() -> None:
    """Runs all rounds and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(markdown([measure(width, rounds) for width in SAMPLES]))


if __name__ == "__main__":
    main()
