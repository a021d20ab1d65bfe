"""How long the parts of the energy estimate take, and the memory of counting.

    OMP_NUM_THREADS=1 python -m benchmarks.energy

prints Markdown. psi of resnet18 on 32x32 and 224x224 images; counting the work of samples that PyTorch runs beside
it, batch by batch; the largest memory of a process that runs and counts few and many samples, each in a process of
its own; pricing with all draws. Ratios are those within one batch.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial

import numpy as np
import torch

from benchmarks import machine
from benchmarks.arguments import positive
from benchmarks.measure import alone, peak_bytes_of, timed
from benchmarks.onnx_networks import CLASSES, random_images, resnet
from snndeploy import nn
from snndeploy.backbones import backbone
from snndeploy.ir import Graph, Network, Trace
from snndeploy.ir.fanout import psi, psi_total
from snndeploy.targets import energy, profile
from snndeploy.targets.chip import load
from snndeploy.targets.counts import Counter
from snndeploy.targets.resources import map_onto
from snndeploy.targets.work import mapping_for

BATCH, THREADS = 32, 1
SIZES = (32, 224)
PRICED = ("paper-45nm", "generic-45nm-fp32-sram", "loihi1-nahuku", "gpu-h200")
FEW = 100  # samples of the smaller of the two measurements of memory
NAMES = ("counts", "counts, effective MACs, messages and hops on loihi2")


@dataclass(frozen=True)
class Counting:
    """Processor seconds of every batch.

    inference: Of `nn.run`.
    counting: By what is counted.
    """

    inference: list[float]
    counting: dict[str, list[float]]


def psi_table(rounds: int) -> list[str]:
    """Rows of psi by the size of the image."""
    lines = ["| psi of resnet18 | neurons | synapses of them | ms |", "|---|---|---|---|"]
    for size in SIZES:
        graph = backbone("resnet18", (3, size, size), CLASSES)
        neurons = sum(array.size for array in psi(graph).values())
        seconds = [timed(lambda graph=graph: psi(rebuilt(graph)))[1] for _ in range(rounds)]  # type: ignore[misc]
        row = [f"{size}x{size}", _spaced(neurons), _spaced(int(psi_total(graph))), _range(seconds, 1e3)]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def rebuilt(graph: Graph) -> Graph:
    """The same graph with nothing worked out yet."""
    return Graph(graph.ops, graph.edges)


def count_beside_inference(samples: int) -> Counting:
    """Runs samples in batches and counts each in two ways."""
    torch.set_num_threads(THREADS)
    network = resnet("no BC")
    mapping = map_onto(network.graph, load("loihi2"))
    counters = dict(zip(NAMES, (Counter(network), Counter(network, mapping=mapping)), strict=True))
    found = Counting([], {name: [] for name in NAMES})
    _run_batch(network, 0, BATCH)  # compiles the neurons
    for start in range(0, samples, BATCH):
        x = random_images(network.graph, min(BATCH, samples - start), seed=start)
        traces: list[Trace] = []
        found.inference.append(timed(lambda: traces.append(nn.run(network, x)))[1])  # noqa: B023
        plain, full = (counters[name] for name in NAMES)
        found.counting[NAMES[0]].append(timed(lambda: plain.add(traces[0]))[1])  # noqa: B023
        found.counting[NAMES[1]].append(timed(lambda: full.add(traces[0], x))[1])  # noqa: B023
    assert all(counter.counts.samples == samples for counter in counters.values())  # noqa: S101
    return found


def counting_table(found: Counting, samples: int) -> list[str]:
    """Rows of both ways of counting beside inference."""
    lines = [
        f"| {_spaced(samples)} samples of resnet18, 32x32, T = 4, batch {BATCH} | s | share of inference |",
        "|---|---|---|",
        f"| inference (`nn.run`) | {sum(found.inference):.1f} | |",
    ]
    for name, seconds in found.counting.items():
        shares = [part / whole for part, whole in zip(seconds, found.inference, strict=True)]
        lines.append(f"| {name} | {sum(seconds):.2f} | {_range(shares, 100, digits=1)} % |")
    return lines


def memory_table(samples: int) -> list[str]:
    """Rows of memory by the number of samples."""
    lines = ["| running and counting | largest memory, MiB |", "|---|---|"]
    for number in (FEW, samples):
        peak = alone(peak_of_counting, number)
        lines.append(f"| {_spaced(number)} samples | {'-' if peak is None else f'{peak / 2**20:.0f}'} |")
    return lines


def peak_of_counting(samples: int) -> int | None:
    """The largest memory of this process while it runs and counts samples, all that it held before included."""
    torch.set_num_threads(THREADS)
    network = resnet("no BC")
    counter = Counter(network)

    def count() -> None:
        for start in range(0, samples, BATCH):
            counter.add(_run_batch(network, start, min(BATCH, samples - start)))

    return peak_bytes_of(count)


def draws_table(rounds: int) -> list[str]:
    """Rows of pricing resnet18, its artificial network beside it, by target; random spikes of `FEW` samples."""
    network = resnet("no BC")
    rng = np.random.default_rng(0)
    lines = [f"| {energy.DRAWS} draws, {FEW} samples | ms |", "|---|---|"]
    for name in PRICED:
        target = profile.load(name)
        mapping = mapping_for(network.graph, target)
        counter = Counter(network, mapping=mapping)
        shapes = ((lif, (FEW, *network.graph.shapes[lif])) for lif in network.graph.ports)
        counter.add_totals({lif: rng.integers(0, network.steps + 1, shape) for lif, shape in shapes})
        priced = partial(energy.estimate, counter.counts, target, mapping=mapping)
        seconds = [timed(lambda priced=priced: priced().snn.range)[1] for _ in range(rounds)]  # type: ignore[misc]
        lines.append(f"| {name} | {_range(seconds, 1e3)} |")
    return lines


def _run_batch(network: Network, seed: int, size: int) -> Trace:
    return nn.run(network, random_images(network.graph, size, seed=seed))


def _range(values: list[float], scale: float, *, digits: int = 0) -> str:
    """Median, smallest and largest."""
    middle, low, high = (
        f"{part * scale:.{digits}f}" for part in (statistics.median(values), min(values), max(values))
    )
    return f"{middle} ({low} to {high})"


def _spaced(number: int) -> str:
    return f"{number:,}".replace(",", " ")


SECTIONS: tuple[Callable[[argparse.Namespace], list[str]], ...] = (
    lambda options: psi_table(options.rounds),
    lambda options: counting_table(count_beside_inference(options.samples), options.samples),
    lambda options: memory_table(options.samples),
    lambda options: draws_table(options.rounds),
)
"""Tables in the order that they are measured and printed."""


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=positive, default=1000)
    parser.add_argument("--rounds", type=positive, default=7, help="of psi")
    return parser.parse_args(arguments)


def main() -> None:
    """Measures and prints."""
    options = parsed()
    print("# The energy estimate\n")
    load_now = machine.load()
    busy = "" if load_now is None else f", load {load_now:.1f} at the start"
    print(
        f"MEASURED on {date.today()}; {machine.cpu_name()}, {machine.cores()} cores{busy}, {THREADS} thread."
    )
    print("Processor time; median and range over rounds or batches.\n")
    for section in SECTIONS:
        print("\n".join(section(options)) + "\n", flush=True)


if __name__ == "__main__":
    main()
