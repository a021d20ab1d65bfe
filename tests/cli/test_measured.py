"""`snndeploy energy --measure`: MEASURED beside ESTIMATED, on simulated meters and real networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result

from snndeploy import nn
from snndeploy.cli import measured
from snndeploy.cli.workloads import on_cpus, torch_work
from snndeploy.errors import TargetError
from snndeploy.ir import run as interpret
from snndeploy.nn import engine
from snndeploy.targets import measure as measuring
from snndeploy.targets.measure import DeviceState, Figure, Meter, Procedure
from snndeploy.targets.onnx_runtime import OnnxNetwork
from tests.strategies import Case
from tests.targets.counters import Device

SHORT = Procedure(
    warm_up_seconds=0.1,
    warm_up_batches=2,
    settle_seconds=0.1,
    idle_seconds=0.2,
    watched_ticks=5,
    window_seconds=0.2,
    window_ticks=10,
    repeats=2,
    gap_most_seconds=0.1,
)


@dataclass(kw_only=True)
class Clocked(Device):
    """A device on which every piece of real work takes 20 simulated milliseconds."""

    def now(self) -> float:
        """Time goes on at work whenever one looks at the clock, and not while the counter is watched."""
        if not self.looking:
            self._advance(0.02, working=True)
        self.looking = False
        return self._seconds

    def read_joules(self) -> float:
        """The clock is looked at next, for the time of this reading."""
        self.looking = True
        return super().read_joules()

    looking: bool = False


Install = Callable[..., Clocked]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a simulated meter and a short procedure into the place of the real ones."""

    def put(**changes: Any) -> Clocked:
        device = Clocked(tick_seconds=0.01, device="Intel Xeon", name="rapl", **changes)
        monkeypatch.setattr(measured, "open_meter", lambda _choice: device)
        monkeypatch.setattr(measuring, "STANDARD", SHORT)
        return device

    return put


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU and without counters."""

    def none() -> Meter:
        raise TargetError("energy meter rapl", "needs a counter")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(measuring, "open_rapl", none)


def test_json(run_json: Callable[..., Any], network: Path, install: Install) -> None:
    """The measured energy of a batch, the estimate for the profile named, and both ratios with their range."""
    install()
    facts = run_json("energy", network, "--measure", "--batch", "4", "--target", "paper-45nm")
    found, guess = facts["measured"], facts["estimated"]
    assert (found["label"], guess["label"]) == ("MEASURED", "ESTIMATED")
    assert (found["batch"], guess["samples"], found["device"]) == (4, 4, "Intel Xeon")
    assert found["procedure"]["repeats"] == 2
    assert "ONNX Runtime" in facts["ran"]
    for part in ("gross", "net"):
        energy, ratio = found[f"{part}_energy_j"], facts["measured_over_estimated"][part]
        total = guess["total_pj"]
        assert ratio["value"] == pytest.approx(energy["value"] * 1e12 / total["value"])
        assert ratio["low"] == pytest.approx((energy["value"] - energy["uncertainty"]) * 1e12 / total["high"])
        assert ratio["high"] == pytest.approx((energy["value"] + energy["uncertainty"]) * 1e12 / total["low"])


def test_text(run: Callable[..., Result], network: Path, install: Install) -> None:
    """Both labels, the ratio, what ran, and every flag; progress goes to standard error."""
    install(told=lambda _: DeviceState(others=("process 7",)))
    result = run("energy", network, "--measure", "--target", "paper-45nm", "--threads", "2")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "MEASURED energy per inference on Intel Xeon (rapl: the whole board)"
    for word in ("part", "MEASURED", "ESTIMATED on paper-45nm", "measured / estimated"):
        assert word in lines[1]
    assert lines[2].startswith("gross")
    assert lines[3].startswith("net of idle power")
    assert "ONNX Runtime on the CPUs, sequence form, float32; batch 1" in result.stdout
    assert "FLAG other processes: process 7 computed on the device too" in result.stdout
    assert "measuring Intel Xeon: 5/5" in result.stderr


def test_no_profile(run: Callable[..., Result], network: Path, install: Install) -> None:
    """A device that no profile describes is measured alone, whatever the default of --target is."""
    install()
    result = run("energy", network, "--measure")
    assert "ESTIMATED" not in result.stdout
    assert "--target NAME|FILE compares with one" in result.stdout


def test_a_wrong_profile(run: Callable[..., Result], network: Path, install: Install) -> None:
    """A profile that is not there is refused before any work."""
    device = install()
    result = run("energy", network, "--measure", "--target", "nonsense")
    assert result.exit_code == 2
    assert device.now() < 0.1


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("meter", "text"),
    [
        ("auto", r"needs an energy counter, of a GPU or of the CPUs, got neither: energy meter nvml"),
        ("nvml", "energy meter nvml: needs a GPU that PyTorch can use"),
        ("rapl", "energy meter rapl: needs a counter"),
    ],
)
def test_no_meter(run: Callable[..., Result], network: Path, meter: str, text: str) -> None:
    """Exit code 2, and what was looked for."""
    result = run("energy", network, "--measure", "--meter", meter)
    assert result.exit_code == 2
    assert text in result.output
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("bare")
def test_auto(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The CPUs' meter is taken where the GPU's is missing, and that is said; never the other way round."""
    device = Device(name="rapl")
    monkeypatch.setattr(measuring, "open_rapl", lambda: device)
    assert measured.open_meter("auto") is device
    assert "so the CPUs are measured" in capsys.readouterr().err
    with pytest.raises(TargetError, match="needs a GPU"):
        measured.open_meter("nvml")


def test_matching(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device's own name finds the shipped profile that describes it."""
    from snndeploy.targets import profile

    monkeypatch.setattr(profile, "shipped", lambda: ("gpu-h200", "gpu-a100"))
    assert measured.matching("NVIDIA H200") == "gpu-h200"
    assert measured.matching("NVIDIA A100-SXM4-80GB") == "gpu-a100"
    assert measured.matching("NVIDIA H100 PCIe") is None
    assert measured.matching("GeForce") is None


def test_pytorch_workload(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch runs as many batches as asked for, and every one is the network's own inference."""
    seen = []
    real = engine.simulate

    def watched(*arguments: Any, **named: Any) -> nn.Simulation:
        seen.append(real(*arguments, **named))
        return seen[-1]

    monkeypatch.setattr(engine, "simulate", watched)
    work = torch_work(case.network, case.x, "cpu")
    work(3)
    assert len(seen) == 3
    expected = interpret(case.network, case.x).readout_sum
    np.testing.assert_array_equal(seen[2].logits.sum(0).numpy(), expected)


def test_onnx_workload(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime runs as many batches as asked for, each whole at once, on the threads asked for."""
    seen = []
    real = OnnxNetwork.run

    def watched(self: OnnxNetwork, x: Any) -> Any:
        threads = self.session.get_session_options().intra_op_num_threads
        seen.append((self.batch, threads, real(self, x).readout_sum))
        return seen[-1]

    monkeypatch.setattr(OnnxNetwork, "run", watched)
    many = np.concatenate([case.x] * 20)
    on_cpus(case.network, many, 2)(2)
    assert [(batch, threads) for batch, threads, _ in seen] == [(len(many), 2)] * 2
    np.testing.assert_array_equal(seen[1][2], interpret(case.network, many).readout_sum)


def test_batches_repeat_samples(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch larger than the samples goes on from the first; a smaller one takes the first, for both figures."""
    from snndeploy.cli import workloads

    device, given = Clocked(tick_seconds=0.01, name="rapl"), list[Any]()

    def watched(_source: object, batch: Any, _threads: int) -> Callable[[int], None]:
        given.append(batch)
        return device.work

    monkeypatch.setattr(measuring, "STANDARD", SHORT)
    monkeypatch.setattr(workloads, "on_cpus", watched)
    for batch, samples in ((5, 3), (2, 2)):
        request = measured.Request("rapl", batch, 1, 100)
        found = measured.compare(case.network, case.x[:3], device, "paper-45nm", request)
        assert found.estimated is not None
        assert found.estimated.facts["samples"] == samples
        np.testing.assert_array_equal(given[-1], case.x[np.arange(batch) % samples])


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure(1.234e-3, 0.0567e-3, {}), "1.23 ± 0.057 mJ"),
        (Figure(-2e-7, 4e-6, {}), "-0.2 ± 4 uJ"),
        (Figure(3e-13, 1e-14, {}), "0.0003 ± 1e-05 nJ"),
        (Figure(20.0, 1.0, {}), "20 ± 1 J"),
    ],
)
def test_units(figure: Figure, text: str) -> None:
    """Energies are shown in the unit of the larger of value and uncertainty, also below 0."""
    assert measured.joules(figure) == text


def test_no_ratio_without_an_estimate() -> None:
    """Where nothing is priced there is nothing to divide by."""
    device = Device(name="rapl")
    found = measured.Compared(measuring.measure(device, device.work, procedure=SHORT), None, "")
    assert found.ratio(found.measured.net_j) is None
    assert found.to_json()["measured_over_estimated"] == {"gross": None, "net": None}
