"""An ANN is trained, converted to spiking networks and written, and is never taken for one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from snndeploy.cli import main
from snndeploy.cli.runs import train_and_save, train_or_read
from snndeploy.cli.train import as_text
from snndeploy.errors import ConfigError, NetworkError
from snndeploy.ir import Exact, Lif, Network, certify, fold, load, run
from snndeploy.ir.fanout import psi
from snndeploy.nn import QuantizedRelu, Triangle
from snndeploy.nn.counts import Counts
from snndeploy.nn.engine import Simulation, simulate
from snndeploy.train import loop, products
from snndeploy.train.config import Config
from snndeploy.train.conversion import activation_of, best_conversion, convert, require_images
from snndeploy.train.data import Dataset, fake, network_input
from snndeploy.train.data import load as load_data
from snndeploy.train.evaluation import evaluate
from snndeploy.train.penalty import Penalty
from snndeploy.train.settings import override
from snndeploy.train.trainer import Trainer
from tests.train.runs import metrics, same_bits

ANN: Mapping[str, Any] = {  # residual, 8x8 pixels
    "threads": 1,
    "device": "cpu",
    "network": {
        "backbone": "resnet6",
        "backward": [],
        "steps": 1,
        "tau": 1.0,
        "neuron": "qrelu",
        "levels": 4,
        "conversion_steps": [1, 4, 12],
    },
    "data": {"repeat": 1, "augment": []},
    "optimizer": {"epochs": 2, "batch_size": 32},
    "penalty": {"intensity": 0.1, "normalised": True},
}
FILES = {
    "config.toml",
    "metrics.jsonl",
    "checkpoint.safetensors",
    "test.json",
    *(f"converted-T{steps}{kind}.snn.safetensors" for steps in (1, 4, 12) for kind in ("", "-exact")),
}


def ann(*settings: str) -> Config:
    """The configuration of a small ANN, with single values replaced."""
    return Config.from_mapping(override(ANN, settings))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run folder with all that a run leaves, and what it came to."""
    folder = tmp_path_factory.mktemp("runs") / "ann"
    return folder, train_or_read(ann(), folder, resume=False, overwrite=False)


def trained(folder: Path, *settings: str) -> tuple[Network, Dataset, QuantizedRelu]:
    """A trained ANN, its data and its activation."""
    config = ann(*settings)
    data, activation = load_data(config.data), activation_of(config.network)
    assert activation is not None
    return loop.fit(config, folder, data=data), data, activation


@pytest.fixture(scope="module")
def barely(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Dataset, QuantizedRelu]:
    """An ANN after one epoch, its data and its activation."""
    return trained(tmp_path_factory.mktemp("runs") / "barely", "optimizer.epochs=1")


def activations(network: Network, data: Dataset, activation: QuantizedRelu, count: int = 50) -> Simulation:
    """What the ANN answers the first test images with."""
    x = network_input(data.test.take(slice(0, count)), data.input)
    tensors = {name: torch.tensor(array) for name, array in network.weights.items()}
    frames = torch.from_numpy(x)[None]
    return simulate(
        network.graph, tensors, frames, surrogate=Triangle(), activation=activation, record_spikes=True
    )


def test_same_weights(barely: tuple[Network, Dataset, QuantizedRelu]) -> None:
    """A converted network is the folded ANN, bit for bit, with neurons that do not leak and more steps."""
    network, _, _ = barely
    converted = convert(network, 7)
    folded = fold(network)
    assert converted.graph == folded.graph
    assert same_bits(converted.weights, folded.weights)
    assert (converted.steps, converted.readout) == (7, 7)
    assert (converted.input, converted.classes) == (network.input, network.classes)
    neurons = [op for op in converted.graph.ops.values() if isinstance(op, Lif)]
    assert neurons == [Lif(tau=1.0, threshold=1.0)] * 5


def test_threshold_is_chosen(finished: tuple[Path, dict[str, Any]]) -> None:
    """By accuracy on the samples given, the first of equals; weights and everything else stay."""
    network = load(finished[0] / "converted-T4.snn.safetensors")
    samples = load_data(ann().data).validation
    factors = (4.0, 1.0, 0.5, 0.25)
    accuracies = [evaluate(convert(network, 4, factor), samples).accuracy for factor in factors]
    assert len(set(accuracies)) > 2
    best = best_conversion(network, 4, factors, samples)
    assert evaluate(best, samples).accuracy == max(accuracies)
    assert best.graph.ops["stem.lif"] == Lif(tau=1.0, threshold=factors[int(np.argmax(accuracies))])
    assert same_bits(best.weights, network.weights)
    assert best.graph.edges == network.graph.edges
    same = best_conversion(network, 4, (0.5, 0.5), samples.take(slice(0, 3)))
    assert same.graph == convert(network, 4, 0.5).graph


def test_rates_of_the_first_layer(tmp_path: Path) -> None:
    """With reciprocal levels, at least as many as steps, they differ by less than one spike in T steps."""
    network, data, activation = trained(tmp_path, "network.levels=12", "network.quantizer=reciprocal")
    ann_rates = activations(fold(network), data, activation).spikes["stem.lif"][0].numpy()
    x = network_input(data.test.take(slice(0, 50)), data.input)
    for steps in (5, 12):
        rates = run(convert(network, steps), x).spikes["stem.lif"].mean(0)
        assert np.abs(rates - ann_rates).max() < 1 / steps
        assert np.corrcoef(rates.ravel(), ann_rates.ravel())[0, 1] > 0.95
    assert 0.05 < ann_rates.mean() < 0.6


@pytest.mark.parametrize("quantizer", ["uniform", "reciprocal"])
def test_one_level_and_one_step_are_the_same_network(tmp_path: Path, quantizer: str) -> None:
    """Then every activation is a spike: nothing is lost in any layer, nor in the answers."""
    network, data, activation = trained(tmp_path, "network.levels=1", f"network.quantizer={quantizer}")
    done = activations(fold(network), data, activation)
    x = network_input(data.test.take(slice(0, 50)), data.input)
    trace = run(convert(network, 1), x)
    differing = {n: int((s != done.spikes[n].numpy()).sum()) for n, s in trace.spikes.items()}
    assert sum(differing.values()) <= 5, differing  # of 100 000: a sum may be rounded across the threshold
    assert all(0.02 < spikes.mean() < 0.8 for spikes in trace.spikes.values())
    spiking = evaluate(convert(network, 1), data.test)
    forecast = evaluate(fold(network), data.test, activation=activation)
    assert spiking.accuracy == pytest.approx(forecast.accuracy, abs=0.01)
    assert spiking.synops == pytest.approx(forecast.synops, rel=1e-3)
    assert spiking.firing_rates == pytest.approx(forecast.mean_activations, rel=1e-2)


def test_penalty_and_evaluation_weigh_activations(
    barely: tuple[Network, Dataset, QuantizedRelu],
) -> None:
    """Both are the activations times the synapses of their neurons, and the penalty has a gradient."""
    network, data, activation = barely
    done = activations(network, data, activation)
    assert not all(torch.equal(s, s.round()) for s in done.spikes.values()), "levels between 0 and 1"
    synapses = psi(network.graph)
    expected = sum(
        float((s[0].double().sum(0).numpy() * synapses[name]).sum()) for name, s in done.spikes.items()
    )
    penalty = Penalty.from_config(ann().penalty, network.graph, 1)
    assert penalty.summed(Counts.of(done.spikes, penalty.power)).item() == pytest.approx(expected, rel=1e-6)
    found = evaluate(network, data.test.take(slice(0, 50)), activation=activation)
    assert found.synops * 50 == pytest.approx(expected, rel=1e-6)
    assert found.firing_rates == {}
    means = {name: s.mean().item() for name, s in done.spikes.items()}
    assert found.mean_activations == pytest.approx(means, rel=1e-5)
    leaves = {name: s.detach().requires_grad_() for name, s in done.spikes.items()}
    torch.autograd.backward(penalty(Counts.of(leaves, penalty.power)))
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        np.testing.assert_allclose(leaf.grad[0, 7].numpy(), synapses[name] / 50, rtol=1e-6)


def test_penalty_lowers_activations(tmp_path: Path) -> None:
    """An intensity that matters leaves less of them, and fewer synaptic operations after conversion."""
    free, data, activation = trained(tmp_path / "free", "penalty.intensity=0")
    pressed, _, _ = trained(tmp_path / "pressed", "penalty.intensity=30")
    ann_synops = [evaluate(n, data.validation, activation=activation).synops for n in (free, pressed)]
    snn_synops = [evaluate(convert(n, 4), data.validation).synops for n in (free, pressed)]
    assert ann_synops[1] < 0.7 * ann_synops[0]
    assert snn_synops[1] < 0.7 * snn_synops[0]


def test_what_a_run_leaves(finished: tuple[Path, dict[str, Any]]) -> None:
    """A spiking network for each number of steps in two formats, and no file that takes the ANN for one."""
    folder, facts = finished
    assert {path.name for path in folder.iterdir()} == FILES == set(facts["files"])
    saved = json.loads((folder / "test.json").read_text())
    assert Config.from_mapping(saved.pop("config")) == ann()
    assert saved == facts
    data = load_data(ann().data)
    assert 0.3 < facts["ann"]["test_accuracy"] <= 1
    assert set(facts["ann"]["mean_activations"]) == set(facts["conversions"][0]["firing_rates"])
    for key in ("test_accuracy", "exact_test_accuracy", "dead_rate", "synops", "estimated_energy_pj"):
        assert facts[key] is None, "the run as a whole has no spiking network"
    assert [one["steps"] for one in facts["conversions"]] == [1, 4, 12]
    assert [one["threshold"] for one in facts["conversions"]] == [1.0, 1.0, 1.0]
    for one in facts["conversions"]:
        network, exact = (load(folder / name) for name in one["files"])
        assert (network.steps, exact.steps) == (one["steps"], one["steps"])
        assert isinstance(exact.format, Exact)
        assert certify(exact).holds
        found = evaluate(network, data.test)
        assert (one["test_accuracy"], one["dead_rate"]) == (found.accuracy, found.dead_rate)
        assert (one["synops"], one["firing_rates"]) == (found.synops, found.firing_rates)
        assert one["estimated_energy_pj"] == pytest.approx(0.9 * one["synops"])
        assert one["exact_test_accuracy"] == evaluate(exact, data.test).accuracy
        assert set(one["quantization"]) == {"clipped", "bits_left"}
    synops = [one["synops"] for one in facts["conversions"]]
    assert synops == sorted(synops), "more steps, more spikes"
    text = as_text({"run": "here", **facts})
    assert "the ANN, which does not spike" in text
    assert "T = 12" in text


def test_metrics_name_activations(finished: tuple[Path, dict[str, Any]]) -> None:
    """While training there are activations in (0, 1), and no firing rates."""
    lines = metrics(finished[0])
    assert len(lines) == 2
    for line in lines:
        assert line["firing_rates"] == {}
        assert len(line["mean_activations"]) == 5
        assert all(0 < value < 1 for value in line["mean_activations"].values())


def cli(*arguments: str | Path) -> Result:
    """Runs a command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "command",
    [
        ["inspect", "FILE"],
        ["energy", "FILE", "--samples", "2"],
        ["verify", "FILE", "--samples", "2", "--against", "torch"],
        ["export", "onnx", "FILE", "-o", "OUT"],
    ],
    ids=lambda command: str(command[0]),
)
def test_other_commands_take_it(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path, command: list[str]
) -> None:
    """A converted network is a network file like any other."""
    for kind in ("", "-exact"):
        path = str(finished[0] / f"converted-T4{kind}.snn.safetensors")
        places = {"FILE": path, "OUT": str(tmp_path / "step.onnx")}
        result = cli(*(places.get(word, word) for word in command))
        assert result.exit_code == 0, result.output


def test_a_finished_run_is_read(
    finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resuming one trains nothing; a converted network that is gone is made again from the checkpoint."""
    folder, facts = finished

    def train_epoch(_: Trainer) -> NoReturn:
        raise AssertionError("there is nothing left to train")

    monkeypatch.setattr(Trainer, "train_epoch", train_epoch)
    assert train_or_read(ann(), folder, resume=True, overwrite=False) == facts
    gone = folder / "converted-T4.snn.safetensors"
    before = gone.read_bytes()
    gone.unlink()
    assert train_or_read(ann(), folder, resume=True, overwrite=False) == facts
    assert gone.read_bytes() == before


def test_folders_are_cleared(tmp_path: Path) -> None:
    """Of converted networks, whatever their steps, and of nothing that only looks like one."""
    kept = {"converted-T5.snn.safetensors.bak", "converted-T05.snn.safetensors", "converted-Tx.txt"}
    for name in (products.converted(5), products.converted(10, exact=True), *kept):
        (tmp_path / name).write_text("of the earlier run")
    products.clear(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["network.neuron=relu"], r"network\.neuron: must be one of lif, qrelu, got 'relu'"),
        (["network.steps=4"], r"network\.steps: must be 1 with network\.neuron = qrelu.*, got 4"),
        (["network.tau=0.5"], r"network\.tau: must be 1 with network\.neuron = qrelu.*, got 0\.5"),
        (["network.backward=['4:2']"], r"network\.backward: must be empty with network\.neuron = qrelu"),
        (["network.levels=0"], r"network\.levels: must lie in \[1, 1000000\], got 0"),
        (["network.levels=-2"], r"network\.levels: must lie in"),
        (["network.levels=2.5"], r"network\.levels: must be a whole number"),
        (["network.quantizer=log"], r"network\.quantizer: must be one of uniform, reciprocal"),
        (["network.conversion_steps=[]"], r"network\.conversion_steps: must name at least one"),
        (["network.conversion_steps=[1, 0]"], r"network\.conversion_steps: .* in \[1, 1000\], got \(1, 0\)"),
        (["network.conversion_steps=[5, 5]"], r"network\.conversion_steps: must name each number once"),
        (["network.conversion_steps=[1001]"], r"network\.conversion_steps: .* in \[1, 1000\]"),
        (["network.conversion_steps=5"], r"network\.conversion_steps: must be a list of whole numbers"),
        (["network.conversion_steps=[1.5]"], r"network\.conversion_steps: must be a whole number, got"),
        (["network.conversion_steps=[true]"], r"network\.conversion_steps: must be a whole number, got"),
        (["network.conversion_steps=['5']"], r"network\.conversion_steps: must be a whole number, got"),
        (["network.conversion_thresholds=[]"], r"network\.conversion_thresholds: must name at least one"),
        (["network.conversion_thresholds=[1, 0]"], r"network\.conversion_thresholds: .* each positive"),
        (["network.conversion_thresholds=[1e4]"], r"network\.conversion_thresholds: .* at most 1000"),
        (
            ["network.threshold=1e-3", "network.conversion_thresholds=[1, 1e-4]"],
            r"network\.conversion_thresholds: times network\.threshold = 0\.001 must be .*, got \(1\.0, 0\.0001\)",
        ),
        (
            ["network.threshold=1e5", "network.conversion_thresholds=[100]"],
            r"network\.conversion_thresholds: times network\.threshold = 100000 must be",
        ),
        (
            ["data.merge_validation=true", "network.conversion_thresholds=[1, 0.5]"],
            r"network\.conversion_thresholds: must be one factor with data\.merge_validation",
        ),
        (["network.conversion_thresholds=1"], r"network\.conversion_thresholds: must be a list of numbers"),
        (["network.conversion_thresholds=['1']"], r"network\.conversion_thresholds: must be a finite number"),
    ],
)
def test_mistakes_are_named(settings: list[str], message: str) -> None:
    """The message says where, which rule, and what was found."""
    with pytest.raises(ConfigError, match=message):
        ann(*settings)


def test_round_trip() -> None:
    """The steps come back as whole numbers."""
    config = ann()
    assert config.network.conversion_steps == (1, 4, 12)
    assert activation_of(config.network) == QuantizedRelu(4)
    assert activation_of(ann("network.quantizer=reciprocal").network) == QuantizedRelu(4, "reciprocal")
    assert activation_of(Config().network) is None
    assert ann("data.merge_validation=true").data.merge_validation, "nothing is chosen among one factor"


def test_a_spiking_network_is_asked_for(tmp_path: Path) -> None:
    """Where one is needed, an ANN is refused before anything is written."""
    with pytest.raises(ConfigError, match=r"network\.neuron: must be lif"):
        train_and_save(ann(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_sequences_are_refused(tmp_path: Path) -> None:
    """A sequence has one frame a step, so there is none for the steps that a conversion adds."""
    frames = ["data.name=moving_digits", "data.repeat=0", "data.steps=1"]
    data = fake(ann(*frames).data, 64)
    with pytest.raises(ConfigError, match=r"network\.neuron: must be lif for sequences"):
        require_images(ann().network, data)
    with pytest.raises(ConfigError, match=r"network\.neuron: must be lif for sequences"):
        loop.fit(ann(*frames), tmp_path / "run", data=data)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_converted(barely: tuple[Network, Dataset, QuantizedRelu]) -> None:
    """Neurons that leak, sequences, and no steps."""
    network, _, _ = barely
    leaking = {n: replace(op, tau=0.5) if isinstance(op, Lif) else op for n, op in network.graph.ops.items()}
    graph = replace(network.graph, ops=leaking)
    with pytest.raises(NetworkError, match=r"stem\.lif: must have tau 1"):
        convert(replace(network, graph=graph), 4)
    with pytest.raises(NetworkError, match="must be an image"):
        convert(replace(network, input=replace(network.input, kind="frames")), 4)
    with pytest.raises(NetworkError, match="steps"):
        convert(network, 0)


def test_from_the_command_line(tmp_path: Path) -> None:
    """`snndeploy train` does the whole of it; a spiking run in its place leaves nothing of the ANN."""
    config = tmp_path / "ann.toml"
    config.write_text(
        ann(
            "optimizer.epochs=1", "network.conversion_steps=[2]", "network.conversion_thresholds=[1e-3, 0.75]"
        ).to_toml()
    )
    out = tmp_path / "run"
    result = cli("train", config, "--out", out)
    assert result.exit_code == 0, result.output
    assert "T = 2" in result.output
    (conversion,) = json.loads((out / "test.json").read_text())["conversions"]
    assert conversion["threshold"] == 0.75, "at a thousandth nearly everything fires"
    assert (out / "converted-T2.snn.safetensors").is_file()
    result = cli("train", config, "--out", out, "--overwrite", "--set", "network.neuron=lif")
    assert result.exit_code == 0, result.output
    assert not list(out.glob("converted-*"))
    assert (out / "exact.snn.safetensors").is_file()
