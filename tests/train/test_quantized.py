"""Fine-tuning on the grids that are exported: rounding, gradients, certificates, and runs that are resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from snndeploy import nn
from snndeploy.errors import ConfigError, QuantizeError
from snndeploy.ir import Graph, Lif, Network, as_steps, certify, fold, run
from snndeploy.ir.formats import mantissa
from snndeploy.nn import SpikingNetwork
from snndeploy.nn.whole import WholeNetwork
from snndeploy.train import checkpoint
from snndeploy.train.checkpoint import CHECKPOINT_FILE, FINE_TUNING_FILE
from snndeploy.train.config import Config, QuantizeConfig
from snndeploy.train.data import Samples, network_input
from snndeploy.train.distributed import World
from snndeploy.train.evaluation import evaluate
from snndeploy.train.finetuning import FineTuned, fine_tune, require_resumable
from snndeploy.train.grids import Grids, quantized, shadow_weights
from snndeploy.train.loop import fit
from snndeploy.train.machine import prepared
from snndeploy.train.metrics import BatchReport, EpochReport
from snndeploy.train.products import FINE_TUNED
from snndeploy.train.trainer import Trainer
from tests.train.runs import BATCHES, EPOCHS, Stop, metrics, noise, same_bits, tiny, train

TUNED = 2  # epochs of fine-tuning
EXACT = ("quantize.format=exact", f"quantize.epochs={TUNED}")
LOIHI = ("quantize.format=loihi", f"quantize.epochs={TUNED}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Path]:
    """A tiny network that knows its samples by heart, and its run folder.

    input -> stem -> 3 residual blocks -> readout, with port 4 -> port 2 a step later; T = 2.
    """
    folder = tmp_path_factory.mktemp("trained")
    return train(_config(), folder), folder


def _config(*settings: str) -> Config:
    return tiny("optimizer.epochs=25", "penalty.intensity=0", "data.augment=[]", *settings)


def _folder(folder: Path, source: Path) -> Path:
    """A run folder in which training is done."""
    for name in (CHECKPOINT_FILE, "metrics.jsonl", "config.toml"):
        (folder / name).write_bytes((source / name).read_bytes())
    return folder


def _tune(
    config: Config, folder: Path, network: Network, report: Callable[[EpochReport], None], **options: Any
) -> FineTuned:
    return fine_tune(config, folder, network, noise(config), report, **options)


def _frames(network: Network, samples: Samples) -> Tensor:
    return torch.tensor(as_steps(network, network_input(samples, network.input)))


def _start(network: Network, config: QuantizeConfig) -> tuple[SpikingNetwork, Grids, Network]:
    """A network of shadow weights, its grids, and the network folded in float32."""
    float32 = fold(network)
    source = noise(_config())
    x = network_input(source.train, source.input)
    found = quantized(float32, config, x).network
    module = SpikingNetwork(found.graph)
    module.load_weights(shadow_weights(float32, found))
    return module, Grids(config, found, x), float32


@pytest.mark.parametrize("granularity", ["channel", "layer"])
@pytest.mark.parametrize("bits", [8, 3])
def test_the_forward_pass_is_that_of_the_exported_network(
    trained: tuple[Network, Path], tmp_path: Path, granularity: str, bits: int
) -> None:
    """Same bits in every logit and spike as the exact network has by itself, whose grids are those at the start."""
    network, folder = trained
    config = _config(*EXACT, f"quantize.granularity={granularity}", f"quantize.bits={bits}")
    done = _tune(config, _folder(tmp_path, folder), network, lambda _: None)
    module, grids, float32 = _start(network, config.quantize)
    assert done.network.format == grids.format
    assert certify(done.network).holds
    assert not same_bits(done.network.weights, done.before.network.weights)
    state = checkpoint.load(tmp_path / FINE_TUNING_FILE)
    shadow = {name.removeprefix("network/"): a for name, a in state.arrays.items() if "network/" in name}
    module.load_weights(shadow)
    samples = noise(config).train
    with grids.rounding(module):
        passed = module.train().advance(_frames(float32, samples), record_spikes=True)
    expected = nn.run(done.network, network_input(samples, float32.input))
    summed = passed.logits.detach().sum(0).numpy()
    assert summed.tobytes() == expected.readout_sum.tobytes()
    for name, spikes in expected.spikes.items():
        assert np.array_equal(passed.spikes[name].detach().numpy() > 0, spikes)
        assert spikes.any()
    assert same_bits(module.weights(), shadow)
    for name, array in done.network.weights.items():
        if name.endswith(".weight"):
            assert np.abs(mantissa(array, grids.exponents[name])).max() <= 2 ** (bits - 1) - 1


def test_gradients_pass_straight_through(trained: tuple[Network, Path]) -> None:
    """Shadow weights get the gradients of the rounded ones, also where these were clipped, and keep their values."""
    module, grids, float32 = _start(trained[0], QuantizeConfig(format="exact", bits=3))
    shadow = module.weights()
    with grids.rounding(module):
        rounded = module.weights()
    alone = SpikingNetwork(module.graph)
    alone.load_weights(rounded)
    samples = noise(_config()).train
    x, labels = _frames(float32, samples), torch.from_numpy(samples.labels)
    F.cross_entropy(alone.train()(x).mean(0), labels).backward()  # type: ignore[no-untyped-call]
    with grids.rounding(module):
        F.cross_entropy(module.train()(x).mean(0), labels).backward()  # type: ignore[no-untyped-call]
    clipped = 0
    for name, array in shadow.items():
        gradient, expected = module.tensor(name).grad, alone.tensor(name).grad
        assert gradient is not None
        assert expected is not None
        assert torch.equal(gradient, expected)
        beyond = np.abs(mantissa(array, grids.exponents[name])) > 3
        clipped += int((beyond & (gradient.numpy() != 0)).sum()) if name.endswith(".weight") else 0
    assert clipped > 0
    assert same_bits(module.weights(), shadow)


def test_weights_stay_within_the_largest_of_their_grid(trained: tuple[Network, Path]) -> None:
    """Those beyond are brought back to it and no others are moved, so that each step can move a weight again."""
    module, grids, _ = _start(trained[0], QuantizeConfig(format="exact", bits=3))
    before = module.weights()
    grids.confine(module)
    moved = 0
    for name, array in module.weights().items():
        if name.endswith(".weight"):
            old, new = mantissa(before[name], grids.exponents[name]), mantissa(array, grids.exponents[name])
            assert np.array_equal(new, np.clip(old, -3, 3))
            moved += int((new != old).sum())
    assert moved > 0


def test_biases_that_cancel_are_not_clipped(trained: tuple[Network, Path]) -> None:
    """In loihi only their sum has a register, and the Output's have none: fine-tuning starts with what is quantised."""
    network = fold(trained[0])
    into = [n for n in network.graph.ops if f"{n}.bias" in network.weights and n.startswith("stage2.1.")]
    assert {"stage2.1.2.conv", "stage2.1.skip.conv"} <= set(into)
    far = {
        name: network.weights[f"{name}.bias"].copy()
        for name in ("stage2.1.2.conv", "stage2.1.skip.conv", "fc")
    }
    far["stage2.1.2.conv"] += 2
    far["stage2.1.skip.conv"] -= 2
    far["fc"] += 40
    apart = replace(network, weights={**network.weights, **{f"{n}.bias": b for n, b in far.items()}})
    config = QuantizeConfig(format="loihi")
    source = noise(_config())
    x = network_input(source.train, source.input)
    found = quantized(apart, config, x).network
    assert certify(found).holds
    module, grids = SpikingNetwork(found.graph), Grids(config, found, x)
    module.load_weights(shadow_weights(apart, found))
    grids.confine(module)
    with grids.rounding(module):
        assert same_bits(module.weights(), found.weights)


@pytest.mark.parametrize("form", ["exact", "loihi"])
def test_outgrown_grids_are_replaced(trained: tuple[Network, Path], form: str) -> None:
    """If the certificate does not hold any longer, coarser grids take over; while it holds nothing is changed."""
    module, grids, float32 = _start(trained[0], QuantizeConfig(format=form))
    weights, exponents = module.weights(), grids.exponents
    shadow = replace(float32, graph=grids.settle(module, replace(float32, weights=module.weights())))
    assert (grids.exponents, grids.replaced) == (exponents, 0)
    assert same_bits(module.weights(), weights)
    grids.exponents = {name: tuple(k + 12 for k in ks) for name, ks in exponents.items()}
    module.load_weights({name: array * 4 for name, array in weights.items()})
    graph = grids.settle(module, replace(shadow, weights=module.weights()))
    with grids.rounding(module):
        found = replace(float32, graph=graph, weights=module.weights(), format=grids.format)
    assert grids.replaced == 1
    assert certify(found).holds
    assert grids.exponents != exponents


def test_a_compiled_network_follows_its_thresholds(
    trained: tuple[Network, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grids that are replaced may bring others in the loihi format; what was compiled has the old ones in it."""
    traced = partial(WholeNetwork, compiler=lambda graph: graph)
    monkeypatch.setattr("snndeploy.train.trainer.WholeNetwork", traced)
    monkeypatch.setattr("snndeploy.train.trainer.require_compiler", lambda _: None)
    config = _config("compile=network", *LOIHI)
    module, grids, float32 = _start(trained[0], config.quantize)
    lifs = {name: op for name, op in module.graph.ops.items() if isinstance(op, Lif)}
    doubled = {name: replace(op, threshold=2 * op.threshold) for name, op in lifs.items()}
    other = Graph({**module.graph.ops, **doubled}, module.graph.edges)
    x = _frames(float32, noise(config).train)
    with prepared(config.fine_tuning) as machine:
        trainer = Trainer(
            config.fine_tuning, noise(config), machine, module.graph, module.weights(), grids=grids
        )
        before = trainer.network.advance(x).logits
        trainer.measure(other)
        after = trainer.network.advance(x).logits
    plain = SpikingNetwork(other)
    plain.load_weights(trainer.network.weights())
    expected = plain.train().advance(x).logits
    assert torch.allclose(after, expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(before, expected, rtol=1e-3, atol=1e-4)


def test_fine_tuning_mends_three_bits(trained: tuple[Network, Path], tmp_path: Path) -> None:
    """A network that three bits have spoilt has a lower loss afterwards, on the samples it is trained on."""
    network, folder = trained
    config = _config("quantize.format=exact", "quantize.bits=3", "quantize.epochs=6", "quantize.lr=0.01")
    reports: list[EpochReport] = []
    done = _tune(config, _folder(tmp_path, folder), network, reports.append)
    samples = noise(config).train
    x, labels = network_input(samples, network.input), torch.from_numpy(samples.labels)

    def loss(found: Network) -> float:
        return float(F.cross_entropy(torch.tensor(nn.run(found, x).logits), labels))

    assert loss(done.before.network) > 1.2 * loss(fold(network))
    assert loss(done.network) < 0.8 * loss(done.before.network)
    assert [report.epoch for report in reports] == list(range(1, 7))


def test_loihi_networks_are_measured_with_their_own_neurons(
    trained: tuple[Network, Path], tmp_path: Path
) -> None:
    """The fine-tuned network is certified, and its accuracy and rates are those of the interpreter."""
    network, folder = trained
    config = _config(*LOIHI)
    done = _tune(config, _folder(tmp_path, folder), network, lambda _: None)
    assert done.network.format.name == "loihi"
    assert certify(done.network).holds
    leaking = replace(done.network, steps=8, readout=0)  # long enough for the leak to be rounded
    assert certify(leaking).holds
    samples = noise(config).validation
    expected = run(leaking, network_input(samples, network.input))
    found = evaluate(leaking, samples)
    rates = {name: float(spikes.mean()) for name, spikes in expected.spikes.items()}
    assert found.accuracy == float((expected.readout_sum.argmax(1) == samples.labels).mean())
    assert dict(found.firing_rates) == pytest.approx(rates, rel=1e-12)


def test_an_uncertified_loihi_network_is_not_measured(trained: tuple[Network, Path], tmp_path: Path) -> None:
    """Its sums might be rounded, and the accuracy would be of another network."""
    network, folder = trained
    config = _config(*LOIHI)
    tuned = _tune(config, _folder(tmp_path, folder), network, lambda _: None).network
    largest = max(tuned.weights, key=lambda name: np.abs(tuned.weights[name]).max())
    assert tuned.format.name == "loihi"
    exponents = {**tuned.format.exponents, largest: tuple(k - 10 for k in tuned.format.exponents[largest])}
    weights = {**tuned.weights, largest: tuned.weights[largest] * 2**10}
    huge = replace(tuned, weights=weights, format=replace(tuned.format, exponents=exponents))
    with pytest.raises(QuantizeError):
        evaluate(huge, noise(config).validation)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[FineTuned, Path]:
    """A tiny run with fine-tuning that nothing stopped."""
    folder = tmp_path_factory.mktemp("unbroken")
    config = tiny(*EXACT)
    network = train(config, folder)
    return fine_tune(config, folder, network, noise(config)), folder


@pytest.mark.parametrize("place", [1, BATCHES - 1, BATCHES, BATCHES + 2, 2 * BATCHES])
def test_resumed(tmp_path: Path, unbroken: tuple[FineTuned, Path], place: int) -> None:
    """Stopped after any batch of the fine-tuning, it ends with the bits, metrics and checkpoint of the unbroken."""
    config = tiny(*EXACT)
    network = train(config, tmp_path)

    def stop(done: BatchReport) -> None:
        if (done.epoch - 1) * done.batches + done.batch == place:
            raise Stop

    with pytest.raises(Stop):
        fine_tune(config, tmp_path, network, noise(config), on_batch=stop)
    again = train(config, tmp_path, resume=True)
    assert len(metrics(tmp_path)) == EPOCHS  # what the training's own checkpoint knows
    done = fine_tune(config, tmp_path, again, noise(config), resume=True)
    _check(done, tmp_path, unbroken)


def test_resumed_between_epochs(tmp_path: Path, unbroken: tuple[FineTuned, Path]) -> None:
    """Stopped between two epochs, after the new grids of an epoch that outgrew its own, it goes on with these."""
    config = tiny(*EXACT)
    network = train(config, tmp_path)

    def stop(_: EpochReport) -> None:
        raise Stop

    with pytest.raises(Stop):
        fine_tune(config, tmp_path, network, noise(config), stop)
    path = tmp_path / FINE_TUNING_FILE
    halfway = checkpoint.load(path)
    assert len(halfway.state["history"]) == 1
    done = fine_tune(config, tmp_path, network, noise(config), resume=True)
    _check(done, tmp_path, unbroken)
    coarser = {name: [k - 1 for k in ks] for name, ks in halfway.state["grids"]["exponents"].items()}
    state = {**halfway.state, "grids": {"replaced": 1, "exponents": coarser}}
    checkpoint.save(replace(halfway, state=state), path)
    done = fine_tune(config, tmp_path, network, noise(config), resume=True)
    assert done.replaced == 1
    assert {
        n: list(k) for n, k in Grids(config.quantize, done.network, np.zeros(0)).exponents.items()
    } == coarser


def test_a_finished_fine_tuning_is_only_read(unbroken: tuple[FineTuned, Path]) -> None:
    """Nothing is trained, and the network is that of the run."""
    first, folder = unbroken
    config = tiny(*EXACT)
    before = (folder / FINE_TUNING_FILE).stat().st_mtime_ns
    reports: list[EpochReport] = []
    network = train(config, folder, resume=True)
    done = fine_tune(config, folder, network, noise(config), reports.append, resume=True)
    assert same_bits(done.network.weights, first.network.weights)
    assert reports == []
    assert (folder / FINE_TUNING_FILE).stat().st_mtime_ns == before
    assert len(metrics(folder)) == EPOCHS + TUNED


def _check(done: FineTuned, folder: Path, unbroken: tuple[FineTuned, Path]) -> None:
    expected, whole = unbroken
    assert same_bits(done.network.weights, expected.network.weights)
    assert done.network.format == expected.network.format
    assert metrics(folder) == metrics(whole)
    assert {p.name for p in folder.iterdir()} == {p.name for p in whole.iterdir()}
    last, other = (checkpoint.load(f / FINE_TUNING_FILE) for f in (folder, whole))
    assert same_bits(last.arrays, other.arrays)
    assert last.state["generator"] == other.state["generator"]
    assert last.state["grids"] == other.state["grids"]


def test_metrics_are_marked_with_their_phase(unbroken: tuple[FineTuned, Path]) -> None:
    """Epochs of the fine-tuning count on from those before, at their own learning rate."""
    lines = metrics(unbroken[1])
    assert [line["epoch"] for line in lines] == list(range(1, EPOCHS + TUNED + 1))
    assert [line["phase"] for line in lines] == ["training"] * EPOCHS + ["fine-tuning"] * TUNED
    assert {line["epochs"] for line in lines[EPOCHS:]} == {EPOCHS + TUNED}
    assert max(line["lr"] for line in lines[EPOCHS:]) <= QuantizeConfig().lr
    assert all(line["penalty_intensity"] == 1e-6 for line in lines[EPOCHS:])


def test_training_is_as_without_fine_tuning(tmp_path: Path) -> None:
    """The section changes neither the weights nor the checkpoint of the training before."""
    plain, asked = train(tiny(), tmp_path / "plain"), train(tiny(*LOIHI), tmp_path / "asked")
    assert same_bits(plain.weights, asked.weights)
    first, second = (checkpoint.load(tmp_path / name / CHECKPOINT_FILE) for name in ("plain", "asked"))
    assert first.config == second.config
    assert same_bits(first.arrays, second.arrays)
    assert metrics(tmp_path / "plain") == metrics(tmp_path / "asked")
    assert 'format = "loihi"' in (tmp_path / "asked" / "config.toml").read_text()


def test_training_anew_forgets_the_fine_tuning(tmp_path: Path) -> None:
    """Its checkpoint is not mistaken for one of the new run; one that goes on must be of the same configuration."""
    config = tiny(*EXACT)
    fine_tune(config, tmp_path, train(config, tmp_path), noise(config))
    require_resumable(config, tmp_path)
    with pytest.raises(ConfigError, match=r"quantize\.bits"):
        require_resumable(tiny(*EXACT, "quantize.bits=4"), tmp_path)
    with pytest.raises(ConfigError, match=r"quantize\.format"):
        require_resumable(tiny(), tmp_path)
    train(config, tmp_path)
    assert not (tmp_path / FINE_TUNING_FILE).exists()
    assert not (tmp_path / FINE_TUNED).exists()


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("quantize.format=int8", "none, exact, loihi"),
        ("quantize.bits=1", r"\[2, 8\]"),
        ("quantize.bits=9", r"\[2, 8\]"),
        ("quantize.granularity=weight", "auto, channel, layer"),
        ("quantize.epochs=0", "1000000"),
        ("quantize.lr=0", "positive"),
        ("quantize.width=3", "format, bits, granularity, epochs, lr"),
    ],
)
def test_wrong_settings(setting: str, word: str) -> None:
    """Named with their key and what is allowed."""
    with pytest.raises(ConfigError, match=word) as found:
        tiny(setting)
    assert "quantize" in str(found.value)


def test_no_fine_tuning_of_an_ann() -> None:
    """It has no spiking neurons until it is converted."""
    ann = ("network.neuron=qrelu", "network.steps=1", "network.tau=1", "network.backward=[]")
    assert tiny(*ann).quantize.format == "none"
    with pytest.raises(ConfigError, match=r"quantize\.format"):
        tiny(*ann, *EXACT)


def test_no_fine_tuning_by_several_processes(tmp_path: Path) -> None:
    """Refused before anything is written or another process waited for."""
    config = tiny(*EXACT)
    with pytest.raises(ConfigError, match=r"quantize\.format"):
        fit(config, tmp_path / "run", data=noise(config), world=World(rank=0, size=2))
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_without_grids_is_refused(tmp_path: Path, unbroken: tuple[FineTuned, Path]) -> None:
    """One in which they are missing or another network's is told from a good one."""
    config = tiny(*EXACT)
    network = train(config, tmp_path)
    good = checkpoint.load(unbroken[1] / FINE_TUNING_FILE)
    for grids in (None, {"replaced": 0, "exponents": {}}, {"replaced": 0, "exponents": {"fc.weight": [1]}}):
        bad = replace(good, state={**json.loads(json.dumps(good.state)), "grids": grids})
        checkpoint.save(bad, tmp_path / FINE_TUNING_FILE)
        with pytest.raises(Exception, match="holds no state of this training run"):
            fine_tune(config, tmp_path, network, noise(config), resume=True)
