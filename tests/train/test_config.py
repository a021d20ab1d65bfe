"""Configurations: read, overridden, refused, written back."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from snndeploy.errors import ConfigError
from snndeploy.ir import BackwardConnection
from snndeploy.train.config import Config
from snndeploy.train.settings import override

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLE = """
seed = 3

[network]
backbone = "resnet18"
backward = ["5:2", "6:6:2"]
steps = 6

[optimizer]
lr = 1
epochs = 7
"""


def test_what_is_left_out_keeps_its_default(tmp_path: Path) -> None:
    """A file names only what differs; whole numbers do for real ones."""
    path = tmp_path / "run.toml"
    path.write_text(EXAMPLE)
    config = Config.from_file(path)
    assert (config.seed, config.network.backbone, config.network.steps) == (3, "resnet18", 6)
    assert config.network.connections == (BackwardConnection(5, 2, 1), BackwardConnection(6, 6, 2))
    assert isinstance(config.optimizer.lr, float)
    assert config.loss == Config().loss
    assert config.optimizer.batch_size == Config().optimizer.batch_size


def test_settings_win_over_the_file(tmp_path: Path) -> None:
    """Values are read as TOML, and what is no TOML is a string; sections need not be in the file."""
    path = tmp_path / "run.toml"
    path.write_text(EXAMPLE)
    settings = [
        "optimizer.lr=0.25",
        'network.backward=["1:0"]',
        "loss.mse_weight = 0.5",
        "network.backbone=resnet8",
    ]
    config = Config.from_file(path, settings)
    assert (config.optimizer.lr, config.optimizer.epochs, config.loss.mse_weight) == (0.25, 7, 0.5)
    assert (config.network.backward, config.network.backbone) == (("1:0",), "resnet8")


def test_overriding_leaves_the_original() -> None:
    """The mapping given is not changed, not even inside its sections."""
    mapping: dict[str, Any] = {"optimizer": {"lr": 1.0}}
    assert override(mapping, ["optimizer.lr=2", "seed=1"]) == {"optimizer": {"lr": 2}, "seed": 1}
    assert mapping == {"optimizer": {"lr": 1.0}}


def test_round_trip() -> None:
    """What is written is complete and reads back as the same configuration."""
    config = Config.from_mapping(tomllib.loads(EXAMPLE))
    written = tomllib.loads(config.to_toml())
    assert Config.from_mapping(written) == config
    assert set(written) == {field.name for field in dataclasses.fields(Config)}
    assert written["network"]["surrogate_width"] == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["sede=1"],
            r"configuration: has no key 'sede'; the keys are seed, threads, .*, network, .*, loss, penalty",
        ),
        (["optimizer.rate=1"], r"optimizer: has no key 'rate'; the keys are name, lr, .*warmup_epochs"),
        (["optimizer.lr='fast'"], r"optimizer\.lr: must be a finite number, got 'fast'"),
        (["optimizer.lr=0.0.1"], r"optimizer\.lr: must be a finite number, got '0\.0\.1'"),
        (["optimizer.lr=nan"], r"optimizer\.lr: must be a finite number"),
        (["optimizer.lr=true"], r"optimizer\.lr: must be a finite number, got True"),
        (["optimizer.lr=0"], r"optimizer\.lr: must be positive"),
        (["optimizer.epochs=1.5"], r"optimizer\.epochs: must be a whole number, got 1\.5"),
        (["optimizer.epochs=true"], r"optimizer\.epochs: must be a whole number"),
        (["optimizer.epochs=0"], r"optimizer\.epochs: must lie in \[1, 1000000\]"),
        (["optimizer.lr=1e300"], r"optimizer\.lr: must be positive and at most 1e30"),
        (
            ["optimizer.epochs=3", "optimizer.warmup_epochs=4"],
            r"optimizer\.warmup_epochs: must lie in \[0, 3\]",
        ),
        (["optimizer.name=lion"], r"optimizer\.name: must be one of adamw, adam, sgd, got 'lion'"),
        (["optimizer.momentum=1"], r"optimizer\.momentum: must lie in \[0, 1\)"),
        (["optimizer.decay_norm=1"], r"optimizer\.decay_norm: must be true or false, got 1"),
        (["optimizer=1"], r"optimizer: must be a table, got 1"),
        (["network.backward='5:2'"], r"network\.backward: must be a list of strings"),
        (["network.backward=[5]"], r"network\.backward: must be a list of strings"),
        (["network.backward=['5-2']"], r"network\.backward: must look like \"5:2\" .*, got '5-2'"),
        (["network.backward=['5:-2']"], r"network\.backward: must look like"),
        (["network.backbone=vgg99"], r"network\.backbone: must be one of resnet6, .*, got 'vgg99'"),
        (["network.tau=2"], r"network\.tau: must lie in \[0, 1\]"),
        (["data.name=nowhere"], r"data\.name: must be one of digits, .*, got 'nowhere'"),
        (["network.surrogate=square"], r"network\.surrogate: must be one of triangle, .*, got 'square'"),
        (["network.surrogate_tau=0"], r"network\.surrogate_tau: must be positive"),
        (["loss.mse_weight=1.5"], r"loss\.mse_weight: must lie in \[0, 1\]"),
        (["loss.name=mse"], r"loss\.name: must be one of tet, ce, got 'mse'"),
        (["loss.name=ce", "loss.mse_weight=0.5"], r"loss\.mse_weight: must be 0 with ce"),
        (["penalty.name=l1"], r"penalty\.name: must be one of syn, total, balance, got 'l1'"),
        (["penalty.intensity=-1"], r"penalty\.intensity: must be at least 0"),
        (["penalty.power=3"], r"penalty\.power: must be 1 or 2"),
        (["penalty.psi=deployed"], r"penalty\.psi: must be one of exact, nominal"),
        (["penalty.schedule=cosine"], r"penalty\.schedule: must be one of linear, constant"),
        (["penalty.normalised=yes"], r"penalty\.normalised: must be true or false, got 'yes'"),
        ([f"seed=0x{'f' * 50_000}"], r"seed: must have at most 64 bits"),
        ([f"optimizer.lr=0x{'f' * 50_000}"], r"optimizer\.lr: must be a finite number"),
        (["data.shift=65"], r"data\.shift: must lie in \[0, 64\]"),
        (["seed=-1"], r"seed: must be at least 0"),
        (["threads=0"], r"threads: must lie in \[1, 1024\]"),
        (["network.readout=5"], r"network\.readout: must lie in \[0, 4\], the number of time steps, got 5"),
        (["device=tpu"], r"device: must be one of auto, cpu, cuda, got 'tpu'"),
        (["compile=all"], r"compile: must be one of neurons, network, nothing, got 'all'"),
        (["precision=int8"], r"precision: must be one of float32, bfloat16, float16, got 'int8'"),
        (["deterministic=1"], r"deterministic: must be true or false"),
        (["calibration_batches=-1"], r"calibration_batches: must be at least 0"),
        (["checkpoint_batches=-1"], r"checkpoint_batches: must be at least 0"),
        (["checkpoint_seconds=-0.5"], r"checkpoint_seconds: must be at least 0"),
        (["start=1"], r"start: must be a string"),
    ],
)
def test_mistakes_are_named(settings: list[str], message: str) -> None:
    """The message says where, which rule, and what was found; unknown keys list the known ones."""
    with pytest.raises(ConfigError, match=message):
        Config.from_mapping(override({}, settings))


@pytest.mark.parametrize("setting", ["optimizer.lr", "=1", "optimizer..lr=1", "seed.x=1"])
def test_settings_have_a_form(setting: str) -> None:
    """section.key=value, and the section must not be a value itself."""
    with pytest.raises(ConfigError, match=r"section\.key=value|is a value, not a section"):
        override({"seed": 1}, [setting])


@pytest.mark.parametrize(
    "content",
    [b"seed = ", b"[network", b"\xff\xfe", b"seed = " + b"[" * 100_000, b"seed = " + b"9" * 100_000],
    ids=["no value", "no end", "no text", "deep", "long"],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes) -> None:
    """Broken TOML, and bytes that are no text, are refused with the file's name."""
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.toml: (is not valid TOML|cannot be read)"):
        Config.from_file(path)


@pytest.mark.parametrize("value", ["[" * 100_000, "9" * 100_000], ids=["deep", "long"])
def test_settings_that_cannot_be_read(value: str) -> None:
    """Arrays too deep and numbers too long are refused, with their key."""
    with pytest.raises(ConfigError, match=r"setting network\.backward: has a value that cannot be read"):
        override({}, [f"network.backward={value}"])


def test_sections_too_deep() -> None:
    """Whoever nests tables without end is told."""
    mapping: dict[str, Any] = {}
    for _ in range(5_000):
        mapping = {"a": mapping}
    with pytest.raises(ConfigError, match="nested too deeply"):
        override(mapping, [])


def test_a_missing_file(tmp_path: Path) -> None:
    """The message names it."""
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read"):
        Config.from_file(tmp_path / "nowhere.toml")
