"""Times one inference of resnet18 in ONNX Runtime (sequence form) and in PyTorch, side by side.

Input 3x32x32, T = 4, one sample, one thread. The contenders take turns in every round, so that whatever else
the machine does meets all of them alike. `python benchmarks/onnx_sequence.py` prints Markdown, with `--json`
JSON. Wall time is what a user waits; CPU time is the steadier number on a machine that others use too.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor

from snndeploy.backbones import resnet18
from snndeploy.export.onnx import lower
from snndeploy.ir import AvgPool2d, Conv2d, Flatten, Lif, Linear, Network, fold
from snndeploy.nn import SpikingNetwork, Triangle, recalibrate
from snndeploy.nn.engine import simulate
from snndeploy.targets.onnx_runtime import OnnxNetwork

SHAPE, CLASSES, STEPS = (3, 32, 32), 10, 4
BASELINE = "PyTorch eager, step loop"
CONTENDER = "ONNX Runtime, sequence form"
WARM_UP = 3

Inference: TypeAlias = Callable[[], npt.NDArray[Any]]


def network() -> Network:
    """A folded resnet18 with random weights, its BatchNorms calibrated so that every layer is active."""
    graph = resnet18(SHAPE, CLASSES)
    module = SpikingNetwork(graph, seed=0)
    torch.manual_seed(0)
    recalibrate(module, [torch.rand(1, 8, *SHAPE).repeat(STEPS, 1, 1, 1, 1)])
    return fold(Network(graph=graph, weights=module.weights(), steps=STEPS))


class StepLoop:
    """A folded network in plain PyTorch, as one writes it by hand: for each step, for each layer."""

    def __init__(self, folded: Network) -> None:
        self.graph, self.steps = folded.graph, folded.steps
        self.tensors = {name: torch.tensor(array) for name, array in folded.weights.items()}

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of frames (time, batch, *shape)."""
        graph = self.graph
        v: dict[str, Tensor] = {}
        total: Tensor | None = None
        for frame in x:
            y: dict[str, Tensor] = {graph.input: frame}
            for name in graph.order[1:]:
                arriving = [y[edge.source] for edge in graph.incoming[name]]
                entering = arriving[0] if len(arriving) == 1 else arriving[0] + arriving[1]
                y[name] = self.layer(name, entering, v)
            total = y[graph.output] if total is None else total + y[graph.output]
        if total is None:
            raise ValueError("no frames")
        return total / self.steps

    def layer(self, name: str, x: Tensor, v: dict[str, Tensor]) -> Tensor:
        """Output of one layer at one step."""
        weight, bias = self.tensors.get(f"{name}.weight"), self.tensors.get(f"{name}.bias")
        match self.graph.ops[name]:
            case Conv2d() as op if weight is not None:
                return F.conv2d(x, weight, bias, op.stride, op.padding)
            case Linear() if weight is not None:
                return F.linear(x, weight, bias)
            case Lif() as op:
                u = op.tau * v[name] + x if name in v else x
                spikes = (u > op.threshold).float()
                v[name] = u * (1 - spikes)
                return spikes
            case AvgPool2d() as op:
                return F.avg_pool2d(x, op.kernel, op.stride)
            case Flatten():
                return x.flatten(1)
            case _:
                return x


def contenders(folded: Network, x: npt.NDArray[np.float32]) -> dict[str, Inference]:
    """What is timed, by name; each gives the logits."""
    frames = torch.tensor(np.repeat(x[None], STEPS, axis=0))
    step_loop = StepLoop(folded)
    onnx = OnnxNetwork(lower(folded, "sequence").SerializeToString(), threads=1)

    def time_batched() -> npt.NDArray[Any]:
        done = simulate(folded.graph, step_loop.tensors, frames, surrogate=Triangle())
        return done.logits.mean(0).numpy()

    return {
        BASELINE: lambda: step_loop(frames).numpy(),
        "PyTorch eager, time in the batch": time_batched,
        CONTENDER: lambda: onnx.run(x).logits,
    }


def measure(runs: dict[str, Inference], rounds: int) -> dict[str, dict[str, float]]:
    """Median and minimum of wall and CPU time of each contender, in milliseconds, and ratios to the first."""
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(-WARM_UP, rounds):
        for name, infer in runs.items():
            started, used = time.perf_counter(), time.process_time()
            infer()
            if index >= 0:
                cpu[name].append((time.process_time() - used) * 1e3)
                wall[name].append((time.perf_counter() - started) * 1e3)
    table = {
        name: {
            "wall_median_ms": statistics.median(wall[name]),
            "wall_min_ms": min(wall[name]),
            "cpu_median_ms": statistics.median(cpu[name]),
            "cpu_min_ms": min(cpu[name]),
        }
        for name in runs
    }
    for row in table.values():
        for key in ("wall_median", "wall_min", "cpu_median", "cpu_min"):
            row[f"{key}_ratio"] = row[f"{key}_ms"] / table[BASELINE][f"{key}_ms"]
    return table


def cpu_name() -> str:
    """The processor's name, from Linux where it tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def markdown(report: dict[str, Any]) -> str:
    """The report as a short page."""
    lines = [
        "# resnet18, 3x32x32, T = 4, batch 1, one thread",
        "",
        f"{report['date']}; {report['cpu']}; Python {report['python']}, PyTorch {report['torch']}, "
        f"ONNX Runtime {report['onnxruntime']}; {report['rounds']} interleaved rounds; "
        f"logits differ by at most {report['largest_logit_difference']:.1e}.",
        "",
        "| contender | wall median ms | wall min ms | CPU median ms | CPU min ms | ratio of CPU medians |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in report["times"].items():
        cells = [row[key] for key in ("wall_median_ms", "wall_min_ms", "cpu_median_ms", "cpu_min_ms")]
        shown = " | ".join(f"{cell:.1f}" for cell in cells)
        lines.append(f"| {name} | {shown} | {row['cpu_median_ratio']:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures and prints the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    x = np.random.default_rng(0).random((1, *SHAPE), np.float32)
    with torch.inference_mode():
        runs = contenders(network(), x)
        logits = [infer() for infer in runs.values()]
        times = measure(runs, max(options.rounds, 1))
    report = {
        "date": dt.date.today().isoformat(),
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "rounds": max(options.rounds, 1),
        "largest_logit_difference": max(float(np.abs(found - logits[0]).max()) for found in logits),
        "times": times,
    }
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if options.json else markdown(report))


if __name__ == "__main__":
    main()
