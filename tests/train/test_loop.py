"""Training on the digits: it learns, it can be repeated, and it leaves its records."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.ir import Network
from snndeploy.train import data as data_module
from snndeploy.train.config import Config, OptimizerConfig
from snndeploy.train.data import Samples, load
from snndeploy.train.loop import EpochReport, evaluate, fit, learning_rate

SMALL: Mapping[str, Any] = {  # 8x8 pixels and two steps
    "threads": 1,
    "network": {"backward": ["4:2"], "steps": 2},
    "data": {"repeat": 1, "shift": 0},
    "optimizer": {"epochs": 3, "batch_size": 32},
}
CONFIG = Config.from_mapping(SMALL)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Path, list[EpochReport]]:
    """A short training run."""
    folder = tmp_path_factory.mktemp("runs") / "new" / "run"
    reports: list[EpochReport] = []
    return fit(CONFIG, folder, reports.append), folder, reports


def test_it_learns(trained: tuple[Network, Path, list[EpochReport]]) -> None:
    """After three epochs most digits never seen are recognised; chance is 10 %."""
    network, _, reports = trained
    assert evaluate(network, load(CONFIG.data).test).accuracy > 0.8
    assert reports[-1].loss < 0.6 * reports[0].loss
    assert all(0.02 < rate < 0.6 for rate in reports[-1].firing_rates.values())


def test_what_comes_out(trained: tuple[Network, Path, list[EpochReport]]) -> None:
    """A complete network: BatchNorm still in it, input and classes described, the backward branch in use."""
    network, _, _ = trained
    data = load(CONFIG.data)
    assert "back4_2.norm" in network.graph.training_only
    assert network.input == data.input
    assert network.classes == data.classes == tuple("0123456789")
    assert (network.steps, network.readout) == (2, 2)
    assert np.abs(network.weights["back4_2.norm.weight"]).min() > 0


def test_records(trained: tuple[Network, Path, list[EpochReport]]) -> None:
    """One line of JSON an epoch, equal to what was reported; the configuration is there, nothing else."""
    network, folder, reports = trained
    assert {path.name for path in folder.iterdir()} == {"config.toml", "metrics.jsonl"}
    assert Config.from_file(folder / "config.toml") == CONFIG
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [r.epoch for r in reports] == [1, 2, 3]
    for line, report in zip(lines, reports, strict=True):
        assert line == {
            "epoch": report.epoch,
            "epochs": 3,
            "loss": report.loss,
            "train_accuracy": report.train_accuracy,
            "validation_accuracy": report.validation_accuracy,
            "lr": report.lr,
            "gradient_norm": report.gradient_norm,
            "firing_rates": report.firing_rates,
            "seconds": report.seconds,
        }
        assert set(report.firing_rates) == set(network.graph.ports)
    accuracy = evaluate(network, load(CONFIG.data).validation).accuracy
    assert lines[-1]["validation_accuracy"] == accuracy


def test_the_seed_decides_everything(
    trained: tuple[Network, Path, list[EpochReport]], tmp_path: Path
) -> None:
    """The same configuration gives the same bits, whatever the global generators hold; another seed others."""
    network, _, _ = trained
    torch.manual_seed(123)
    again = fit(CONFIG, tmp_path)
    assert all(np.array_equal(again.weights[name], array) for name, array in network.weights.items())
    short = {**SMALL, "optimizer": {"epochs": 1, "batch_size": 512}, "data": {"repeat": 1, "shift": 1}}
    one, other = (fit(Config.from_mapping({**short, "seed": seed}), tmp_path) for seed in (0, 1))
    assert not np.array_equal(one.weights["fc.weight"], other.weights["fc.weight"])
    repeated = fit(Config.from_mapping({**short, "seed": 1}), tmp_path)
    assert all(np.array_equal(repeated.weights[name], array) for name, array in other.weights.items())


def test_test_samples_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With images and labels of the test part destroyed the result is the same."""
    config = Config.from_mapping({**SMALL, "optimizer": {"epochs": 1, "batch_size": 512}})
    expected = fit(config, tmp_path)
    real = data_module.digits

    def destroyed(*, seed: int, repeat: int) -> data_module.Dataset:
        data = real(seed=seed, repeat=repeat)
        data.test.images[:] = 255
        data.test.labels[:] = -1
        return data

    monkeypatch.setattr(data_module, "digits", destroyed)
    found = fit(config, tmp_path)
    assert all(np.array_equal(found.weights[name], array) for name, array in expected.weights.items())


def test_threads_are_given_back(tmp_path: Path) -> None:
    """The number of threads is set for the run only."""
    before = torch.get_num_threads()
    seen: list[int] = []
    config = Config.from_mapping(
        {**SMALL, "threads": before + 1, "optimizer": {"epochs": 1, "batch_size": 1024}}
    )
    fit(config, tmp_path, lambda _: seen.append(torch.get_num_threads()))
    assert (seen, torch.get_num_threads()) == ([before + 1], before)


def test_learning_rate() -> None:
    """A linear rise over the warm-up, the largest value at its end, then half a cosine down to 0."""
    config = OptimizerConfig(lr=0.2, epochs=10, warmup_epochs=2)
    assert [learning_rate(config, t) for t in (0, 1, 2)] == [0, 0.1, 0.2]
    assert learning_rate(config, 6) == pytest.approx(0.1)
    assert learning_rate(config, 4) == pytest.approx(0.1 * (1 + math.sqrt(0.5)))
    assert learning_rate(config, 10) == pytest.approx(0)
    assert learning_rate(OptimizerConfig(lr=0.2, epochs=10, warmup_epochs=0), 0) == 0.2
    assert learning_rate(OptimizerConfig(lr=0.2, epochs=1, warmup_epochs=1), 0.5) == 0.1


def test_mistakes(trained: tuple[Network, Path, list[EpochReport]], tmp_path: Path) -> None:
    """A batch larger than the data, a folder that is a file, a diverging run, no samples."""
    with pytest.raises(ConfigError, match=r"optimizer\.batch_size: must be at most 1097"):
        fit(Config.from_mapping({**SMALL, "optimizer": {"batch_size": 2000}}), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileFormatError, match="file: cannot be written"):
        fit(CONFIG, tmp_path / "file")
    diverging = {"epochs": 3, "lr": 1e30, "warmup_epochs": 0, "batch_size": 512}
    with pytest.raises(ConfigError, match=r"optimizer\.lr: training diverged in epoch \d; lower it"):
        fit(Config.from_mapping({**SMALL, "optimizer": diverging}), tmp_path / "run")
    none = Samples(np.zeros((0, 1, 8, 8), np.uint8), np.zeros(0, np.int64))
    with pytest.raises(ConfigError, match="there must be at least one"):
        evaluate(trained[0], none)
