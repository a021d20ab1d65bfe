"""Checkpoint files: whole or refused, never executed, and of the configuration they were made with."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.train.checkpoint import (
    CHECKPOINT_FILE,
    Checkpoint,
    as_json,
    differing,
    load,
    require_same,
    save,
    sweep,
)
from snndeploy.train.config import Config, DataConfig
from tests.train.runs import metrics, same_bits, tiny, train

CHECKPOINT = Checkpoint(
    config={"seed": 1},
    state={"generator": {"state": 2**127 + 1}, "loss": 0.1 + 0.2},
    arrays={"step": np.full((), 7, np.float32), "bytes": np.arange(5, dtype=np.uint8)},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint file."""
    path = tmp_path / CHECKPOINT_FILE
    save(CHECKPOINT, path)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a finished tiny run."""
    folder = tmp_path_factory.mktemp("trained")
    train(tiny(), folder)
    return folder


def test_round_trip(path: Path) -> None:
    """Arrays, integers of 128 bits and every bit of a float come back."""
    found = load(path)
    assert found.config == CHECKPOINT.config
    assert found.state == CHECKPOINT.state
    assert same_bits(found.arrays, CHECKPOINT.arrays)
    assert found.arrays["step"].shape == ()


def test_what_is_in_it(trained: Path) -> None:
    """Tensors are plain safetensors; the rest is JSON: configuration, position, generators, versions."""
    with safe_open(trained / CHECKPOINT_FILE, framework="np") as file:
        names = list(file.keys())
        document = json.loads(file.metadata()["document"])
    for expected in (
        "network/fc.weight",
        "network/stem.norm.running_var",
        "optimizer/exp_avg/fc/weight",
        "optimizer/exp_avg_sq/fc/weight",
        "optimizer/step/fc/weight",
        "generator/cpu",
    ):
        assert expected in names
    assert document["config"] == as_json(tiny())
    state = document["state"]
    assert [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in state["history"]] == metrics(
        trained
    )
    assert state["generator"]["bit_generator"] == "PCG64"
    assert state["forward_passes"] == 12
    assert set(state["versions"]) == {"snndeploy", "torch", "numpy", "python", "neurons", "processor"}
    assert state["device"] == "cpu"


@pytest.mark.parametrize("place", [0.0, 0.3, 0.99])
def test_damage(trained: Path, tmp_path: Path, place: float) -> None:
    """A changed byte anywhere is noticed, and the message says what to do; so is a file cut short."""
    data = bytearray((trained / CHECKPOINT_FILE).read_bytes())
    path = tmp_path / CHECKPOINT_FILE
    data[int(place * len(data))] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=r"checkpoint\.safetensors: is .*; train again without"):
        train(tiny(), tmp_path, resume=True)
    path.write_bytes(data[: int(place * len(data))])
    with pytest.raises(FileFormatError, match="is no whole checkpoint"):
        train(tiny(), tmp_path, resume=True)


def test_other_files(path: Path, tmp_path: Path) -> None:
    """A safetensors file of another kind or version, one without a run in it, and a folder are refused."""
    other = tmp_path / "other"
    safetensors.numpy.save_file({"x": np.zeros(1)}, other, {"kind": "weights"})
    with pytest.raises(FileFormatError, match="other: is not a checkpoint of snndeploy"):
        load(other)
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    safetensors.numpy.save_file({"x": np.zeros(1)}, other, {**metadata, "version": "99"})
    with pytest.raises(
        FileFormatError, match="must have format version 1, got '99'; resume with the snndeploy"
    ):
        load(other)
    with pytest.raises(FileFormatError, match="does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(FileFormatError, match=r"cannot be read|is no whole checkpoint"):
        load(tmp_path)


def test_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    """A whole file of the right configuration that lacks the state of a run is refused with its name."""
    save(Checkpoint(config=as_json(tiny()), state={}, arrays={}), tmp_path / CHECKPOINT_FILE)
    with pytest.raises(FileFormatError, match=r"checkpoint\.safetensors: holds no graph"):
        train(tiny(), tmp_path, resume=True)


@pytest.mark.parametrize("missing", ["network/fc.weight", "optimizer/step/fc/weight", "generator/cpu"])
def test_a_missing_array(trained: Path, tmp_path: Path, missing: str) -> None:
    """Each is asked for, whichever it is."""
    found = load(trained / CHECKPOINT_FILE)
    arrays = {name: array for name, array in found.arrays.items() if name != missing}
    renamed = {**arrays, missing + "x": found.arrays[missing]}
    save(dataclasses.replace(found, arrays=renamed), tmp_path / CHECKPOINT_FILE)
    with pytest.raises(FileFormatError, match="holds no state of this training run"):
        train(tiny(), tmp_path, resume=True)


def test_another_configuration(trained: Path, tmp_path: Path) -> None:
    """The keys that differ are named with both values; nothing is changed."""
    before = {p.name: p.read_bytes() for p in trained.iterdir()}
    with pytest.raises(
        ConfigError,
        match=r"^optimizer\.lr, optimizer\.epochs: cannot be changed in a run that is resumed: .*"
        r"checkpoint\.safetensors has optimizer\.lr = 0\.\d+, optimizer\.epochs = 3, got 0\.5, 5; resume with",
    ):
        train(tiny("optimizer.epochs=5", "optimizer.lr=0.5"), trained, resume=True)
    assert {p.name: p.read_bytes() for p in trained.iterdir()} == before
    assert not list(tmp_path.iterdir())


def test_keys_that_may_differ() -> None:
    """Where data are and when checkpoints are written decides no result; an unknown key is another run."""
    config = Config()
    earlier = as_json(
        dataclasses.replace(
            config,
            data=DataConfig(folder="/elsewhere", download=True, url="https://example.org"),
            checkpoint_batches=5,
            checkpoint_seconds=1.0,
            tensorboard=True,
        )
    )
    require_same(config, earlier, "a file")
    assert differing(config, {**earlier, "momentum": 1}) == ["momentum"]
    assert differing(config, {**earlier, "seed": 1}) == ["seed"]
    assert differing(config, {**earlier, "network": {**earlier["network"], "backward": []}}) == [
        "network.backward"
    ]


def test_a_key_that_was_added_since() -> None:
    """A run of before had its default; with another value it is another run."""
    earlier = as_json(Config())
    network = {key: value for key, value in earlier["network"].items() if key != "neuron"}
    older = {**earlier, "network": network}
    assert differing(Config(), older) == []
    require_same(Config(), older, "a file")
    ann = {**earlier["network"], "neuron": "qrelu", "steps": 1, "tau": 1.0, "backward": []}
    assert "network.neuron" in differing(Config.from_mapping({"network": ann}), older)
    with pytest.raises(ConfigError, match=r'network\.neuron: .* has network\.neuron = "lif", got "qrelu"'):
        require_same(
            Config.from_mapping({"network": ann}), {**older, "network": {**ann, "neuron": "lif"}}, "it"
        )


def test_sweep(path: Path) -> None:
    """What a killed process left half-written is removed, the checkpoint is not."""
    for name in (CHECKPOINT_FILE, "metrics.jsonl", "config.toml"):
        path.with_name(f".{name}.abc123").write_bytes(b"half")
    sweep(path.parent)
    assert [p.name for p in path.parent.iterdir()] == [CHECKPOINT_FILE]
