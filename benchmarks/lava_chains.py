"""The networks of benchmarks/lava.py: chains of equal convolutions, in the loihi format, that every form can run."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from snndeploy import ir
from snndeploy.export import lava as lowering
from snndeploy.targets import lava, native

CHANNELS, SIZE = 64, 16
STEPS, CLASSES = 4, 10
INPUT_RATE = 0.2
_GRID_BITS = 8
_SPREAD = 0.115  # of weights: a layer that fires at about 20 % makes the next one fire as often


def chain(populations: int) -> ir.Network:
    """A chain of 3x3 convolutions and Lifs, then a pool and a fully connected readout.

    Args:
        populations: Number of Lifs.
    """
    ops: dict[str, ir.Op] = {"input": ir.Input(shape=(CHANNELS, SIZE, SIZE))}
    for index in range(populations):
        ops[f"conv{index}"] = ir.Conv2d(
            in_channels=CHANNELS, out_channels=CHANNELS, kernel=(3, 3), padding=(1, 1)
        )
        ops[f"lif{index}"] = ir.Lif()
    ops["pool"] = ir.AvgPool2d(kernel=(SIZE, SIZE), stride=(SIZE, SIZE))
    ops["flatten"] = ir.Flatten()
    ops["fc"] = ir.Linear(in_features=CHANNELS, out_features=CLASSES)
    ops["output"] = ir.Output()
    graph = ir.Graph(ops, tuple(ir.Edge(a, b) for a, b in itertools.pairwise(ops)))
    rng = np.random.default_rng(0)
    scale = 2.0**_GRID_BITS
    weights = {
        name: np.clip(np.round(rng.normal(0, _SPREAD, shape) * scale), -127, 127) / scale
        for name, shape in ir.parameter_shapes(graph).items()
    }
    exponents = {name: (_GRID_BITS,) * len(array) for name, array in weights.items()}
    spec = ir.InputSpec(kind="frames", grid_bits=0)
    return ir.Network(graph=graph, weights=weights, steps=STEPS, input=spec, format=ir.Loihi(exponents))


def frames(samples: int) -> npt.NDArray[np.float32]:
    """Random spikes, (time, samples, channels, height, width)."""
    drawn = np.random.default_rng(1).random((STEPS, samples, CHANNELS, SIZE, SIZE), np.float32)
    return (drawn < INPUT_RATE).astype(np.float32)


def export(populations: int, folder: Path) -> dict[lowering.Form, Path]:
    """The bundles of a chain in both forms, with one sample.

    Raises:
        SystemExit: Its layers are silent or saturated, so that equal spikes would prove little.
    """
    network, x = chain(populations), frames(1)
    rates = [float(spikes.mean()) for spikes in ir.run(network, x).spikes.values()]
    if not 0.02 <= min(rates) <= max(rates) <= 0.6:
        raise SystemExit(f"layers fire at {min(rates):.0%} to {max(rates):.0%}: nothing to measure")
    forms: tuple[lowering.Form, ...] = ("fused", "stock")
    schedule = ir.schedule(network.graph)
    return {form: lowering.export(network, folder / form, x, schedule=schedule, form=form) for form in forms}


def on_lava(bundle: Path, x: npt.NDArray[np.float32]) -> lava.Simulation:
    """What Lava does with samples, back to back."""
    (simulation,) = lava.simulate([bundle], samples=x, time_limit_seconds=3600.0)
    return simulation


def on_native(bundle: Path, x: npt.NDArray[np.float32]) -> lava.Simulation:
    """What the native engine does with them, on one thread."""
    return native.simulate(bundle, samples=x)


def bare_convolutions(populations: int, samples: int, batch: int) -> Callable[[], None]:
    """A function that convolves as often as the native engine, and does nothing else, on one thread.

    Args:
        populations: Number of convolutions of a step.
        samples: A multiple of the batch.
        batch: Samples at a time.
    """
    import torch  # noqa: PLC0415  (Lava's memory is measured without it)
    import torch.nn.functional as F  # noqa: PLC0415

    torch.set_num_threads(1)
    weights = chain(populations).weights
    inner = torch.channels_last
    kernels = [
        torch.tensor(weights[f"conv{n}.weight"]).contiguous(memory_format=inner) for n in range(populations)
    ]
    x = [torch.tensor(step).contiguous(memory_format=inner) for step in frames(batch)]

    def convolve() -> None:
        with torch.inference_mode():
            for _, step, kernel in itertools.product(range(samples // batch), x, kernels):
                F.conv2d(step, kernel, padding=1)

    return convolve
