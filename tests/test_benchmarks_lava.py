"""What the benchmark of Lava bundles is judged by: its chains, ratios, memory, and that it measures equal work."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.lava import FEW, MANY, cost, differing, parsed, require_equal
from benchmarks.lava_chains import STEPS, bare_convolutions, chain, export, frames, on_native
from benchmarks.lava_memory import descendants, peak_bytes
from benchmarks.lava_report import Chain, Cost, ResNet, markdown
from snndeploy import ir
from snndeploy.targets import lava

LAYERS = 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short chain's, in the fused form."""
    return export(LAYERS, tmp_path_factory.mktemp("bundles"))["fused"]


def test_chains_are_certified_and_lively() -> None:
    """A chain of any length has a certificate; one that were silent is refused before it is measured."""
    assert ir.certify(chain(40)).holds
    assert len(chain(40).graph.ports) == 40


def test_the_native_engine_gives_what_the_chain_means(bundle: Path) -> None:
    """Lively, and with the spikes that the bundle promises, so that the forms are compared on real work."""
    expected = lava.read(bundle).expected
    found = on_native(bundle, frames(1))
    assert all(0.02 <= spikes.mean() <= 0.6 for spikes in found.trace.spikes.values())
    promised = lava.Simulation(expected, found.machine_steps, 0.0)
    assert differing(found, promised) == 0
    sums = np.zeros_like(expected.readout_sum)
    other = lava.Simulation(replace(expected, readout_sum=sums), found.machine_steps, 0.0)
    assert differing(found, other) == int((expected.readout_sum != 0).sum()) > 0
    require_equal({"native": found, "promised": promised})
    with pytest.raises(SystemExit, match="other and native differ"):
        require_equal({"native": found, "other": other})


def test_bare_convolutions_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each layer, step and batch, of as many samples."""
    calls: list[tuple[int, ...]] = []
    original = torch.nn.functional.conv2d

    def counting(x: torch.Tensor, weight: torch.Tensor, padding: int) -> torch.Tensor:
        calls.append(tuple(x.shape))
        return original(x, weight, padding=padding)

    monkeypatch.setattr(torch.nn.functional, "conv2d", counting)
    bare_convolutions(LAYERS, samples=6, batch=2)()
    assert calls == [(2, 64, 16, 16)] * (3 * STEPS * LAYERS)


def test_costs_are_of_the_additional_samples() -> None:
    """The difference of two runs is the time per step, the rest the start."""

    def run(x: npt.NDArray[np.float32]) -> lava.Simulation:
        nothing = ir.Trace({}, np.zeros(0), np.zeros(0))
        return lava.Simulation(nothing, 0, 3.0 + 0.5 * STEPS * x.shape[1])

    found = cost(run, 1, 5, here=False)
    assert (found.step_seconds, found.start_seconds, found.step_processor_seconds) == (0.5, 3.0, None)
    assert all(FEW[form] < MANY[form] for form in FEW)


def test_ratios() -> None:
    """Within a round, and by processor time where both forms have one."""
    measured = Chain(
        1,
        {
            "stock": [Cost(30, 1), Cost(90, 1), Cost(40, 1)],
            "fused": [Cost(1, 1), Cost(2, 1), Cost(2, 1)],
            "native": [Cost(1, 1, 3), Cost(1, 1, 6), Cost(1, 1, 9)],
            "bare": [Cost(1, 0, 2), Cost(1, 0, 2), Cost(1, 0, 2)],
        },
        {"stock": 10**8},
    )
    assert measured.ratio("stock", "fused") == (30, 20, 45)
    assert measured.ratio("native", "bare") == (3, 1.5, 4.5)
    assert measured.ratio("fused", "native") == (2, 1, 2)
    page = markdown([measured], ResNet(2, 30, 5, 5, 100, 2, 0))
    assert "| 1 | 40000.00 | 2000.00 | 1000.00 | 1000.00 | **30.00** (20.00 to 45.00)" in page
    assert "32 s" in page
    without = Chain(1, {name: costs for name, costs in measured.costs.items() if name != "stock"}, {})
    assert "| 1 | - | 2000.00" in markdown([without], None)


def test_memory_of_all_processes() -> None:
    """What a process started counts, as long as it runs."""
    size = 10**8
    program = f"x = b'x' * {size}; print(flush=True); input()"

    def call() -> list[int]:
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()
            found = descendants(os.getpid())
            assert process.pid in found
            peaks.append(peak_bytes(os.getpid(), lambda: None)[0])
            process.communicate(b"\n")
            return found

    peaks: list[int] = []
    before, _ = peak_bytes(os.getpid(), lambda: None)
    assert call()
    assert peaks[0] > before + 0.9 * size


def test_command_line() -> None:
    """Everything by default; the longest chain of Lava's own processes can be limited."""
    assert parsed([]).populations == [10, 20, 40]
    options = parsed(["--populations", "3", "--stock-populations", "0", "--no-resnet"])
    assert (options.populations, options.stock_populations, options.resnet) == ([3], 0, False)
