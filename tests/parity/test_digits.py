"""A trained network on 100 held-out digits: every back end gives the same bits, in each number format.

The network is resnet6 on 8x8 pixels. Its backward connection spans two layers, with a delay that allows a
pipeline, so that Lava's own processes can run it, too:

    input -> 0 -> (1 -> 2, skip 0 -> 2) -> (3 -> 4, 1x1 2 -> 4) -> pool -> readout,  and 4 -> 2 three steps later
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch

from snndeploy import nn
from snndeploy.cli.backends import BACKENDS, Inapplicable, Machine
from snndeploy.cli.trained import calibration
from snndeploy.export import lava as lowering
from snndeploy.ir import Comparator, Network, Quantized, Trace, certify, fold, quantize, run
from snndeploy.targets import lava
from snndeploy.train.config import Config
from snndeploy.train.data import load, network_input
from snndeploy.train.loop import fit
from snndeploy.train.settings import override
from tests.strategies import HIGHEST_RATE, LOWEST_RATE, changed_spikes, without

SAMPLES = 100
STEPS = 6
SETTINGS = (
    "seed=0",
    "threads=1",
    "device=cpu",
    "data.repeat=1",
    "network.backbone=resnet6",
    'network.backward=["4:2:3"]',
    f"network.steps={STEPS}",
    "optimizer.epochs=8",
)


@dataclass(frozen=True, eq=False)
class Trained:
    """A network in float32 with data for its grids, and digits that it has never seen."""

    network: Network
    calibration: npt.NDArray[np.float32]
    held_out: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Eight epochs of training, on one thread."""
    torch.set_num_threads(1)
    config = Config.from_mapping(override({}, SETTINGS))
    source = load(config.data)
    network = fit(config, tmp_path_factory.mktemp("run"), data=source)
    test = source.test.take(slice(0, SAMPLES))
    return Trained(
        network=fold(network),
        calibration=calibration(source, config.seed),
        held_out=network_input(test, source.input),
        labels=test.labels,
    )


FORMATS: Mapping[str, tuple[Literal["exact", "loihi"], Literal["channel", "layer"]]] = {
    "exact": ("exact", "channel"),
    "loihi, a threshold per layer": ("loihi", "layer"),
    "loihi, a threshold per channel": ("loihi", "channel"),
}


@pytest.fixture(scope="module")
def quantized(trained: Trained) -> Mapping[str, Quantized]:
    """The network in each format."""
    return {
        name: quantize(trained.network, trained.calibration, format=form, granularity=granularity)
        for name, (form, granularity) in FORMATS.items()
    }


def assert_same(network: Network, x: npt.NDArray[np.float32], found: Mapping[str, Trace]) -> None:
    """Spikes, readout sums and, where they are given, membrane potentials are the interpreter's."""
    comparator = Comparator(network, x, run(network, x, potentials=True))
    assert comparator.certified
    for backend, trace in found.items():
        comparison = comparator.compare(trace, backend)
        assert (comparison.differing, comparison.readout_error, comparison.defects) == (0, 0, ()), backend
        assert comparison.compared == sum(s.size for s in comparator.expected.spikes.values())
        assert (comparison.potential_error or 0) == 0, backend


@pytest.mark.parametrize("name", FORMATS)
def test_networks_are_worth_comparing(
    name: str, trained: Trained, quantized: Mapping[str, Quantized]
) -> None:
    """They answer nearly all digits, every layer is lively, and the backward connection changes spikes."""
    network, x = quantized[name].network, trained.held_out
    trace = run(network, x)
    assert len(trained.labels) == SAMPLES
    assert (trace.logits.argmax(axis=1) == trained.labels).mean() > 0.85
    rates = {port: float(spikes.mean()) for port, spikes in trace.spikes.items()}
    assert all(LOWEST_RATE <= rate <= HIGHEST_RATE for rate in rates.values()), rates
    assert changed_spikes(network, without(network, 4, 2, 3), x) > 0
    assert certify(network).holds


@pytest.mark.parametrize("name", FORMATS)
def test_back_ends_in_this_process(name: str, trained: Trained, quantized: Mapping[str, Quantized]) -> None:
    """PyTorch, ONNX Runtime in every form and in whole numbers, and the native engine."""
    network, x = quantized[name].network, trained.held_out
    found = {"torch": nn.run(network, x, potentials=True)}
    for backend in ("onnx-step", "onnx-sequence", "onnx-scan", "onnx-integer", "native"):
        outcome = BACKENDS[backend](network, x, Machine())
        assert not isinstance(outcome, Inapplicable), outcome.reason
        found[backend] = outcome.trace
    assert_same(network, x, found)


@pytest.mark.lava
@pytest.mark.usefixtures("lava_interpreter")
def test_lava(
    trained: Trained, quantized: Mapping[str, Quantized], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Lava in the fused form in each format, and its own processes in loihi, samples streamed back to back."""
    folder, x = tmp_path_factory.mktemp("bundles"), trained.held_out
    forms: dict[str, tuple[str, Literal["fused", "stock"]]] = {f"{n}, fused": (n, "fused") for n in FORMATS}
    forms |= {f"{n}, stock": (n, "stock") for n in FORMATS if n.startswith("loihi")}
    bundles = [
        lowering.export(quantized[name].network, folder / str(index), x, form=form)
        for index, (name, form) in enumerate(forms.values())
    ]
    for (label, (name, form)), done in zip(
        forms.items(), lava.simulate(bundles, potentials=True), strict=True
    ):
        network = quantized[name].network
        assert_same(network, x, {label: done.trace})
        expected = run(network, x, potentials=True)
        for port, rests in done.rests.items():
            assert np.array_equal(rests, expected.potentials[port] * ~expected.spikes[port]), (label, port)
        assert (set(done.rests) == set(network.graph.ports)) == (form == "stock")
