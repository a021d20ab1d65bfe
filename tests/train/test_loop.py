"""Training as a whole: it learns, it can be repeated, it leaves its records, and refuses what cannot be."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._inductor.config as inductor

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.ir import Network, load, parameter_shapes, save
from snndeploy.nn.compiled import build
from snndeploy.nn.whole import WholeNetwork
from snndeploy.train import checkpoint
from snndeploy.train.checkpoint import CHECKPOINT_FILE
from snndeploy.train.config import Config
from snndeploy.train.data import load as load_data
from snndeploy.train.evaluation import evaluate
from snndeploy.train.loop import fit
from snndeploy.train.metrics import BatchReport, EpochReport
from snndeploy.train.settings import override
from tests.train.runs import BATCHES, EPOCHS, metrics, noise, same_bits, stopped, tiny, train

SMALL: Mapping[str, Any] = {  # 8x8 pixels and two steps
    "threads": 1,
    "device": "cpu",
    "network": {"backward": ["4:2"], "steps": 2},
    "data": {"repeat": 1, "augment": []},
    "optimizer": {"epochs": 3, "batch_size": 32},
}
CONFIG = Config.from_mapping(SMALL)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Path, list[EpochReport]]:
    """A short training run on the digits."""
    folder = tmp_path_factory.mktemp("runs") / "new" / "run"
    reports: list[EpochReport] = []
    return fit(CONFIG, folder, reports.append), folder, reports


def test_it_learns(trained: tuple[Network, Path, list[EpochReport]]) -> None:
    """After three epochs most digits never seen are recognised; chance is 10 %."""
    network, _, reports = trained
    assert evaluate(network, load_data(CONFIG.data).test).accuracy > 0.8
    assert reports[-1].loss < 0.6 * reports[0].loss
    assert all(0.02 < rate < 0.6 for rate in reports[-1].firing_rates.values())


def test_what_comes_out(trained: tuple[Network, Path, list[EpochReport]]) -> None:
    """A complete network: BatchNorm still in it, input and classes described, the backward branch in use."""
    network, _, _ = trained
    data = load_data(CONFIG.data)
    assert "back4_2.norm" in network.graph.training_only
    assert network.input == data.input
    assert network.classes == data.classes == tuple("0123456789")
    assert (network.steps, network.readout) == (2, 2)
    assert np.abs(network.weights["back4_2.norm.weight"]).min() > 0


def test_records(trained: tuple[Network, Path, list[EpochReport]]) -> None:
    """One line of JSON an epoch, equal to what was reported, and the last is that of the network."""
    network, folder, reports = trained
    assert {p.name for p in folder.iterdir()} == {"config.toml", "metrics.jsonl", "checkpoint.safetensors"}
    assert Config.from_file(folder / "config.toml") == CONFIG
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [EpochReport(**line) for line in lines] == reports
    assert [(r.epoch, r.epochs) for r in reports] == [(1, 3), (2, 3), (3, 3)]
    last = reports[-1]
    found = evaluate(network, load_data(CONFIG.data).validation)
    assert (last.validation_accuracy, last.synops) == (found.accuracy, found.synops)
    assert (last.firing_rates, last.dead_neurons) == (found.firing_rates, found.dead_neurons)
    assert (last.dead_rate, last.estimated_energy_pj) == (found.dead_rate, found.estimated_energy_pj)
    assert set(last.firing_rates) == set(network.graph.ports)
    assert (last.penalty, last.penalty_intensity, last.skipped_batches) == (None, 0.0, 0)
    assert 0 < last.lr < CONFIG.optimizer.lr / 100
    assert all(0 < r.gradient_norm < 100 and r.seconds > 0 for r in reports)


def test_the_file_of_a_trained_network(
    trained: tuple[Network, Path, list[EpochReport]], tmp_path: Path
) -> None:
    """It can be saved and read again."""
    network, _, _ = trained
    save(network, tmp_path / "network")
    assert same_bits(dict(load(tmp_path / "network").weights), dict(network.weights))


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    """Another seed gives other weights; the same one the same bits."""
    one, other, again = (train(tiny(f"seed={seed}"), tmp_path / str(seed)) for seed in (0, 1, 1))
    assert not np.array_equal(one.weights["fc.weight"], other.weights["fc.weight"])
    assert same_bits(other.weights, again.weights)


def test_test_samples_are_not_looked_at(tmp_path: Path) -> None:
    """With images and labels of the test part destroyed the result is the same."""
    config = tiny()
    data = noise(config)
    expected = train(config, tmp_path)
    data.test.images[:] = 255
    data.test.labels[:] = -1
    assert same_bits(fit(config, tmp_path, data=data).weights, expected.weights)


def test_callbacks(tmp_path: Path) -> None:
    """Every batch and every epoch is reported, in order, with the threads of the run."""
    before = torch.get_num_threads()
    seen: list[tuple[str, int, int]] = []
    threads: set[int] = set()

    def on_batch(done: BatchReport) -> None:
        assert math.isfinite(done.loss)
        assert (done.epochs, done.batches) == (EPOCHS, BATCHES)
        threads.add(torch.get_num_threads())
        seen.append(("batch", done.epoch, done.batch))

    train(tiny(), tmp_path, on_batch=on_batch, report=lambda done: seen.append(("epoch", done.epoch, 0)))
    expected = []
    for epoch in range(1, EPOCHS + 1):
        expected += [("batch", epoch, batch) for batch in range(1, BATCHES + 1)] + [("epoch", epoch, 0)]
    assert seen == expected
    assert threads == {1}
    assert torch.get_num_threads() == before


def test_penalty(tmp_path: Path) -> None:
    """It is reported, grows with the epochs, and lowers the number of spikes."""
    without = train(tiny("penalty.intensity=0"), tmp_path / "without")
    penalised = train(tiny("penalty.normalised=true", "penalty.intensity=30"), tmp_path / "with")
    lines = metrics(tmp_path / "with")
    intensities = [line["penalty_intensity"] for line in lines]
    assert intensities == pytest.approx([intensities[0] * k / 3.5 for k in (3.5, 7.5, 11.5)])
    assert all(line["penalty"] > 0 for line in lines)
    assert lines[-1]["penalty"] < lines[0]["penalty"]
    assert [line["penalty"] for line in metrics(tmp_path / "without")] == [None] * EPOCHS
    samples = noise(tiny()).train
    assert evaluate(penalised, samples).synops < 0.8 * evaluate(without, samples).synops


@pytest.mark.parametrize(
    "settings",
    [
        ("loss.name=ce",),
        ("loss.mse_weight=0.1",),
        ("network.readout=1",),
        ("network.surrogate=scaled_sigmoid",),
        ("network.surrogate=sigmoid_reciprocal",),
        ("network.surrogate_width=0.5",),
        ("optimizer.name=sgd",),
        ("optimizer.decay_norm=false", "optimizer.weight_decay=1"),
        ("optimizer.clip_norm=0.01",),
        ("optimizer.warmup_epochs=0",),
        ("data.augment=['flip']",),
        ("calibration_batches=1",),
        ("penalty.psi=nominal",),
        ("penalty.power=2",),
        ("penalty.schedule=constant",),
    ],
    ids=lambda settings: settings[0],
)
def test_every_setting_acts(tmp_path: Path, settings: tuple[str, ...]) -> None:
    """Each changes what comes out of a run."""
    common = ("optimizer.epochs=1", "penalty.intensity=1e-4")
    expected = train(tiny(*common), tmp_path / "expected")
    assert not same_bits(train(tiny(*common, *settings), tmp_path / "found").weights, expected.weights)


def test_augmentation_of_sequences(tmp_path: Path) -> None:
    """A task drawn afresh for every batch: only the last step is read, and delays are told apart."""
    config = tiny("data.name=recall", "network.steps=10", "network.backward=['6:6']", "optimizer.epochs=1")
    network = train(config, tmp_path)
    assert (network.readout, network.input.kind) == (1, "frames")
    found = evaluate(network, noise(config).test)
    assert set(found.group_accuracies["delay"]) == set(range(9))
    assert np.mean(list(found.group_accuracies["delay"].values())) == pytest.approx(found.accuracy)
    everything = train(replace(config, network=replace(config.network, readout=10)), tmp_path)
    assert everything.readout == 10
    assert not same_bits(everything.weights, network.weights)


def test_learning_while_it_is_asked(tmp_path: Path) -> None:
    """All parameters change, those of the backward connection among them."""
    network = train(tiny(), tmp_path / "long")
    first = train(tiny("optimizer.lr=1e-30", "optimizer.weight_decay=0"), tmp_path / "none")
    same = [
        n for n in parameter_shapes(network.graph) if np.array_equal(network.weights[n], first.weights[n])
    ]
    assert same == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["optimizer.batch_size=2000"], r"optimizer\.batch_size: must be at most 1097"),
        (
            ["data.name=recall"],
            r"network\.steps: must be 10, .* got 2; set network\.steps = 10, or data\.steps",
        ),
        (
            ["optimizer.lr=1e30", "optimizer.warmup_epochs=0", "optimizer.batch_size=512"],
            r"optimizer\.lr: training diverged in epoch \d; lower it",
        ),
        (["network.backward=['9:1']"], "ports are numbered"),
        (["network.backward=['4:2:2']"], "never acts within 2 time steps"),
    ],
)
def test_mistakes(tmp_path: Path, settings: list[str], message: str) -> None:
    """What does not fit the data or the graph, and a diverging run, which leaves no network behind."""
    with pytest.raises((ConfigError, ValueError), match=message):
        fit(Config.from_mapping(override(SMALL, settings)), tmp_path / "run")


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    """The run folder cannot be made."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FileFormatError, match="file: cannot be written"):
        train(tiny(), tmp_path / "file")


def _refuse(*_: Any, **__: Any) -> None:
    raise AssertionError


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of the compiler's own parts
def test_a_network_without_a_compiler(tmp_path: Path) -> None:
    """That PyTorch's compiler finds no compiler is said before anything is written."""
    with (
        inductor.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(ConfigError, match=r'compile: .*no C\+\+ compiler.*; .*set compile = "neurons"'),
    ):
        train(tiny("compile=network"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_resumed_under_other_conditions(tmp_path: Path) -> None:
    """What is another than before and may change the last bits is told, once and only then."""
    path, told = tmp_path / CHECKPOINT_FILE, list[str]()
    stopped(tiny(), tmp_path, 2)
    saved = checkpoint.load(path)
    assert saved.state["versions"]["neurons"] == ("plain" if build().library is None else "compiled")
    versions = {**saved.state["versions"], "torch": "1.0", "processor": "abacus"}
    del versions["neurons"]  # as in an older checkpoint
    checkpoint.save(replace(saved, state={**saved.state, "versions": versions}), path)
    config = tiny()
    for _ in range(2):
        fit(config, tmp_path, on_change=told.append, resume=True, data=noise(config))
    (line,) = told
    assert re.fullmatch(
        rf"torch {re.escape(torch.__version__)} instead of 1.0, processor .+ instead of abacus", line
    )
    stopped(tiny(), tmp_path / "same", 2)
    fit(config, tmp_path / "same", on_change=told.append, resume=True, data=noise(config))
    assert told == [line]


@pytest.mark.parametrize("choice", ["nothing", "network"])
def test_what_is_compiled_makes_no_difference(
    tmp_path: Path, choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first losses are those of a run with compiled neurons; a network's compile time is on record.

    With nothing compiled there are no compiled neurons in recalibration and validation, either.
    """
    traced = partial(WholeNetwork, compiler=lambda graph: graph)  # the compiler itself would take a minute
    monkeypatch.setattr("snndeploy.train.trainer.WholeNetwork", traced)
    losses: dict[str, list[float]] = {choice: [], "neurons": []}
    for name in losses:
        batches: list[BatchReport] = []
        with pytest.MonkeyPatch.context() as patch:
            if name == "nothing":
                patch.setattr("snndeploy.nn.engine.fused", _refuse)
            train(tiny(f"compile={name}", "optimizer.epochs=1"), tmp_path / name, on_batch=batches.append)
        losses[name] = [batch.loss for batch in batches]
    assert losses[choice] == pytest.approx(losses["neurons"], rel=1e-3)
    seconds = {name: metrics(tmp_path / name)[0]["compile_seconds"] for name in losses}
    assert seconds["neurons"] == 0
    assert (seconds[choice] > 0) == (choice == "network")
