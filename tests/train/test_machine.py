"""Devices, precisions and determinism."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snndeploy.errors import ConfigError
from snndeploy.nn import SpikingNetwork
from snndeploy.train.distributed import World
from snndeploy.train.machine import Machine, device_of, prepared
from snndeploy.train.model import build_graph
from snndeploy.train.trainer import Trainer
from tests.train.runs import metrics, noise, tiny, train


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself it takes a GPU if there is one; one that is not there is refused, never replaced."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == device_of("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="device: PyTorch sees no CUDA device"):
        device_of("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto") == device_of("cuda") == torch.device("cuda")
    assert device_of("cpu") == torch.device("cpu")


def test_a_gpu_for_each_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the number of the rank on its machine; one process alone takes the current one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    config = tiny("device=auto")
    for world, expected in (
        (World(), "cuda"),
        (World(rank=2, size=4, local_rank=0), "cuda:0"),
        (World(rank=3, size=4, local_rank=1), "cuda:1"),
        (World(local_rank=1), "cuda:1"),
    ):
        assert Machine.from_config(config, world).device == torch.device(expected)
    with pytest.raises(ConfigError, match="device: needs a GPU for each rank, and there are 2, got cuda:2"):
        Machine.from_config(config, World(rank=2, size=4, local_rank=2))
    assert Machine.from_config(tiny(), World(rank=2, size=4, local_rank=2)).device == torch.device("cpu")


def settings() -> dict[str, Any]:
    """What of PyTorch a run sets for itself."""
    return {
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
        "generator": torch.get_rng_state().numpy().tobytes(),
    }


def test_settings_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold for the run only, even if it fails."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    before = settings()
    config = tiny(f"threads={before['threads'] + 1}", "deterministic=true", "seed=5")
    with pytest.raises(KeyError), prepared(config):  # noqa: PT012
        within = settings()
        assert within["threads"] == before["threads"] + 1
        assert within["deterministic"]
        assert within["cudnn"] == (True, False)
        assert torch.initial_seed() == 5
        raise KeyError
    assert settings() == before
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_global_generators_decide_nothing(tmp_path: Path) -> None:
    """Runs are the same whatever state the caller left PyTorch's generator in."""
    first = train(tiny("optimizer.epochs=1"), tmp_path)
    torch.manual_seed(123)
    second = train(tiny("optimizer.epochs=1"), tmp_path)
    assert all(np.array_equal(first.weights[n], second.weights[n]) for n in first.weights)


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_what_is_low(precision: str, dtype: torch.dtype) -> None:
    """Products are rounded to the low precision; membranes, statistics, logits and gradients are float32."""
    config = tiny(f"precision={precision}")
    machine = Machine.from_config(config)
    graph = build_graph(config.network, (1, 8, 8), 10)
    network = SpikingNetwork(graph, seed=0).eval()
    x = torch.rand(2, 4, 1, 8, 8)
    with machine.autocast():
        assert torch.nn.functional.linear(x[0, :, 0], torch.ones(3, 8)).dtype == dtype
        low = network.simulate(x, batch_statistics=True, record_spikes=True, record_potentials=True)
    full = network.simulate(x, batch_statistics=True, record_spikes=True, record_potentials=True)
    kept = [low.logits, *low.potentials.values(), *(s for pair in low.statistics.values() for s in pair)]
    assert {tensor.dtype for tensor in kept} == {torch.float32}
    mean, expected = low.statistics["stem.norm"][0], full.statistics["stem.norm"][0]
    assert not torch.equal(mean, expected)
    torch.testing.assert_close(mean, expected, rtol=0.01, atol=0.01)
    torch.autograd.backward(low.logits.sum())
    assert {p.grad.dtype for p in network.parameters() if p.grad is not None} == {torch.float32}
    # Sums over time in bfloat16 would be far from these.
    u, exact = low.potentials["stem.lif"], full.potentials["stem.lif"]
    assert float((u - exact).abs().mean()) < 0.01


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_training_in_low_precision(tmp_path: Path, precision: str) -> None:
    """It trains nearly as float32 does, and not to the same bits."""
    full = train(tiny(), tmp_path / "full")
    low = train(tiny(f"precision={precision}"), tmp_path / "low")
    assert all(np.isfinite(array).all() for array in low.weights.values())
    for one, other in zip(metrics(tmp_path / "low"), metrics(tmp_path / "full"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.05)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=0.2)
    assert not np.array_equal(low.weights["fc.weight"], full.weights["fc.weight"])


def test_overflow_in_float16(tmp_path: Path) -> None:
    """With a scale that is too large batches are skipped, the scale is halved, and training goes on."""
    config = tiny("precision=float16", "optimizer.epochs=1")
    data = noise(config)
    with prepared(config) as machine:
        trainer = Trainer(config, data, machine, build_graph(config.network, data.shape, 10))
        trainer.scaler.load_state_dict({**trainer.scaler.state_dict(), "scale": 2.0**40})
        before = trainer.network.weights()["fc.weight"]
        steps = trainer.train_epoch()
        next(steps)
        assert np.array_equal(trainer.network.weights()["fc.weight"], before)
        assert trainer.scaler.get_scale() == 2.0**39
        for _ in steps:
            pass
        assert trainer.finish_epoch().skipped_batches == 4
    assert not list(tmp_path.iterdir())
