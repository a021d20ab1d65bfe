"""What an evaluation counts is what the reference interpreter does."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from snndeploy.errors import ConfigError, NetworkError
from snndeploy.ir import InputSpec, Network, Trace, run
from snndeploy.ir.fanout import psi
from snndeploy.train import evaluation
from snndeploy.train.data import Samples, network_input
from snndeploy.train.evaluation import evaluate
from tests.strategies import Layer, Structure, realise

STRUCTURE = Structure(
    shape=(1, 6, 6),
    layers=(Layer("chain", 4), Layer("residual", 4)),
    hidden=(),
    backward=((2, 0, 1),),
    steps=4,
    readout=2,
    frames=True,
    seed=3,
)
"""input -> 0 -> (1 -> 2, identity 0 -> 2) -> readout of the last two steps, with 2 -> 0 a step later."""


def lively(*, frames: bool) -> tuple[Network, Samples, Trace]:
    """A network in the exact format, raw samples of two groups, and what the interpreter makes of them.

    Half of the labels are right, and the first layer is silenced in part, so that neurons are dead.
    """
    case = realise(replace(STRUCTURE, frames=frames))
    spec = InputSpec(kind="frames" if frames else "image", divisor=16, grid_bits=4)
    weights = dict(case.network.weights)
    weights["l0.conv.bias"] = weights["l0.conv.bias"].copy()
    weights["l0.conv.bias"][0] = -(2.0**4)
    network = replace(case.network, input=spec, weights=weights)
    raw = np.rint(np.moveaxis(case.x, 1, 0) * 16 if frames else case.x * 16).astype(np.uint8)
    trace = run(network, case.x)
    answers = trace.logits.argmax(1).astype(np.int64)
    labels = np.where(np.arange(len(raw)) % 2 == 0, answers, (answers + 1) % 3)
    return network, Samples(raw, labels, {"delay": np.array([5, 5, 7, 5])}), trace


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 128])
def test_counts(monkeypatch: pytest.MonkeyPatch, frames: bool, batch: int) -> None:
    """Accuracies, firing rates, dead neurons and synaptic operations, whatever the size of a batch."""
    monkeypatch.setattr(evaluation, "_LARGEST_BATCH", batch)
    network, samples, trace = lively(frames=frames)
    found = evaluate(network, samples)
    assert found.accuracy == 0.5
    assert found.group_accuracies == {"delay": {5: pytest.approx(1 / 3), 7: 1.0}}
    fired = {name: spikes.sum((0, 1)) for name, spikes in trace.spikes.items()}
    assert found.firing_rates == pytest.approx({n: float(s.mean()) for n, s in trace.spikes.items()})
    assert found.dead_neurons == {name: int((count == 0).sum()) for name, count in fired.items()}
    assert found.dead_neurons["l0.lif"] >= 36
    assert found.dead_rate == sum(found.dead_neurons.values()) / (3 * 4 * 6 * 6)
    synapses = psi(network.graph)
    assert found.synops * len(samples) == sum(int((fired[name] * synapses[name]).sum()) for name in fired)
    assert found.estimated_energy_pj == pytest.approx(0.9 * found.synops)


def test_readout() -> None:
    """The answer is read from the last steps, as many as the network says."""
    network, samples, _ = lively(frames=True)
    raw = np.random.default_rng(0).integers(0, 17, (64, *samples.images.shape[1:]), np.uint8)
    answers = []
    for readout in range(1, network.steps + 1):
        asked = replace(network, readout=readout)
        x = network_input(Samples(raw, np.zeros(64, np.int64)), network.input)
        answers.append(run(asked, x).logits.argmax(1).astype(np.int64))
        assert evaluate(asked, Samples(raw, answers[-1])).accuracy == 1
    assert all((one != other).any() for one, other in pairwise(answers))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches shrink where many spikes would have to be kept at a time; the result stays."""
    network, samples, _ = lively(frames=False)
    expected = evaluate(network, samples)
    monkeypatch.setattr(evaluation, "_LARGEST_RECORD", 2 * 3 * 4 * 6 * 6 * 4)
    seen: list[int] = []

    def noted(batch: Samples, spec: InputSpec) -> npt.NDArray[np.float32]:
        seen.append(len(batch))
        return network_input(batch, spec)

    monkeypatch.setattr(evaluation, "network_input", noted)
    assert evaluate(network, samples) == expected
    assert seen == [2, 2]


def test_mistakes() -> None:
    """No samples, and samples of another shape."""
    network, samples, _ = lively(frames=False)
    with pytest.raises(ConfigError, match="there must be at least one"):
        evaluate(network, samples.take(slice(0, 0)))
    with pytest.raises(NetworkError, match="must have shape"):
        evaluate(network, Samples(samples.images[..., :3], samples.labels))
