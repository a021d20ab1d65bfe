"""What it would cost to run the recipes of the papers: training steps on one core, extrapolated.

`OMP_NUM_THREADS=1 python benchmarks/recipe_cost.py` prints Markdown. The batches are noise of the shape of the
data. Recipes that differ in optimiser, surrogate, penalty or number of classes alone are measured
once, without a penalty.

Time is that of the processor (the machine may be shared), the shortest of three training steps after one to
warm up. An epoch counts every training sample once, and at a third of that the forward passes behind it: samples for
validation and for the running statistics. The time on a GPU is not measured: it is 6 floating-point operations for
each multiplication of a forward pass (2, and twice that backward), divided by an assumed rate.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import torch

from snndeploy.ir import Conv2d, Graph, Linear, Shape
from snndeploy.train.config import Config
from snndeploy.train.data import Dataset, fake, network_input
from snndeploy.train.machine import prepared
from snndeploy.train.model import build_graph
from snndeploy.train.trainer import Trainer

FOLDER = Path(__file__).resolve().parent.parent / "configs"
ASSUMED_FLOPS = 10e12  # sustained by one GPU
STEP_SAMPLES = 32  # time steps times samples in a measured batch
ROUNDS = 3
PREPARED = 200  # samples
SIZES = {  # training samples including those for validation, and the latter as they are evaluated
    "fashion_mnist": (60_000, 6_000),
    "cifar10": (50_000, 5_000),
    "cifar100": (50_000, 5_000),
    "tiny_imagenet": (100_000, 20_000),
    "cifar10_dvs": (9_000, 1_800),
}


def multiplications(graph: Graph) -> int:
    """Of one forward pass at one time step, as dense hardware does it: padding and silent neurons included."""
    total = 0
    for name, op in graph.ops.items():
        match op:
            case Conv2d():
                taps = op.in_channels // op.groups * math.prod(op.kernel)
                total += taps * math.prod(graph.shapes[name])
            case Linear():
                total += op.in_features * op.out_features
            case _:
                pass
    return total


def samples(config: Config) -> tuple[int, float]:
    """Training samples of an epoch, and what all passes of an epoch come to in training samples."""
    together, validation = SIZES[config.data.name]
    if config.data.validation:
        validation = round(config.data.validation * together)
    train = together if config.data.merge_validation else together - validation
    calibration = min(config.calibration_batches * config.optimizer.batch_size or train, train)
    return train, train + (validation + calibration) / 3


def seconds_of_training(config: Config) -> float:
    """Processor time of one training step, for each sample of the batch."""
    batch = max(2, STEP_SAMPLES // config.network.steps)
    config = replace(config, optimizer=replace(config.optimizer, batch_size=batch), threads=1, device="cpu")
    data = fake(config.data, 2 * (1 + ROUNDS) * batch)
    data = replace(data, augment=())
    graph = build_graph(config.network, data.shape, len(data.classes))
    with prepared(config) as machine:
        steps = Trainer(config, data, machine, graph).train_epoch()
        next(steps)
        return min(seconds_of(steps) for _ in range(ROUNDS)) / batch


def seconds_of(steps: Iterator[object]) -> float:
    """Processor time of the next step."""
    start = time.process_time()
    next(steps)
    return time.process_time() - start


def seconds_of_preparation(data: Dataset) -> float:
    """Processor time to augment a training sample and make it input."""
    rng = np.random.default_rng(0)
    data.present(data.train.take(slice(0, 2)), rng)  # loads what is loaded late
    start = time.process_time()
    network_input(data.present(data.train, rng), data.input)
    return (time.process_time() - start) / len(data.train)


def cpu_days(config: Config, training: float, preparing: float) -> float:
    """Of a whole run, from the seconds that a sample takes."""
    train, passes = samples(config)
    return config.optimizer.epochs * (passes * training + train * preparing) / 86_400


def gpu_hours(config: Config, forward: int) -> float:
    """Of a whole run at the assumed rate, from the multiplications of a forward pass of all time steps."""
    return config.optimizer.epochs * samples(config)[1] * 6 * forward / ASSUMED_FLOPS / 3_600


def rounded(number: float) -> str:
    """Two digits, and no exponent."""
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


def main() -> None:
    """Prints the result as Markdown."""
    torch.set_num_threads(1)
    alike: dict[tuple[str, Shape, int], dict[str, Config]] = {}
    for path in sorted(FOLDER.glob("*/*.toml")):
        config = Config.from_file(path)
        key = (config.network.backbone, fake(config.data, 5).shape, config.network.steps)
        alike.setdefault(key, {}).setdefault(config.data.name, config)
    print(
        f"{date.today()}, one core ({platform.machine()}), torch {torch.__version__}, float32. ESTIMATED.\n"
    )
    print(
        "| network | data | T | 10^6 multiplications | CPU: training, ms | CPU: preparing, ms | epochs "
        "| CPU: days | GPU: hours |\n|---|---|---|---|---|---|---|---|---|"
    )
    for (backbone, shape, steps), configs in alike.items():
        config = next(iter(configs.values()))
        forward = steps * multiplications(build_graph(config.network, shape, 10))
        training, preparing = seconds_of_training(config), seconds_of_preparation(fake(config.data, PREPARED))
        print(
            f"| `{backbone}` | {', '.join(configs)} | {steps} | {forward / 1e6:.0f} | {training * 1e3:.3g} "
            f"| {rounded(preparing * 1e3)} | {config.optimizer.epochs} "
            f"| {rounded(cpu_days(config, training, preparing))} | {rounded(gpu_hours(config, forward))} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
