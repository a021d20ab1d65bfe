"""The supernet: what a step draws, computes and changes, and that a training of it can be killed.

The supernet is the smallest backbone, 7 Lifs in a row of residual blocks, with all 28 backward connections.
"""

from __future__ import annotations

import multiprocessing
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from snndeploy.errors import ConfigError, FileFormatError, NetworkError
from snndeploy.ir import Network, parameter_shapes, with_backward
from snndeploy.nn import SpikingNetwork
from snndeploy.train import checkpoint
from snndeploy.train.checkpoint import CHECKPOINT_FILE
from snndeploy.train.distributed import World
from snndeploy.train.machine import Machine, prepared
from snndeploy.train.penalty import Penalty
from snndeploy.train.search.supernet import Supernet, supernet_config
from tests.train.runs import BATCHES, EPOCHS, metrics, same_bits
from tests.train.search import supernets
from tests.train.search.supernets import random_data, space_of, tiny, train, trainer_of

STATISTICS = (".running_mean", ".running_var")


@pytest.fixture
def machine() -> Iterator[Machine]:
    """PyTorch as a tiny training has it."""
    with prepared(supernet_config(tiny())) as found:
        yield found


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Path]:
    """A tiny supernet whose training nothing stopped."""
    folder = tmp_path_factory.mktemp("unbroken")
    return train(tiny(), folder), folder


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Starts processes in which PyTorch is there already, but nothing of this one."""
    context = multiprocessing.get_context("forkserver")
    # The first optimiser of a process imports the latter.
    context.set_forkserver_preload(["tests.train.search.supernets", "torch._dynamo"])
    return context


def test_starts_as_the_backbone() -> None:
    """With every connection at scale 0, all 28 at once compute the bits that the backbone computes."""
    space = space_of(tiny(), random_data(tiny()))
    backbone, whole = SpikingNetwork(space.backbone, seed=3), SpikingNetwork(space.supergraph, seed=3)
    x = torch.rand(2, 6, *space.backbone.shapes[space.backbone.input], generator=torch.manual_seed(0))
    expected = backbone.simulate(x, batch_statistics=True, stepped=True, record_spikes=True)
    found = whole.simulate(x, batch_statistics=True, stepped=True, record_spikes=True)
    assert torch.equal(found.logits, expected.logits)
    assert all(torch.equal(found.spikes[name], spikes) for name, spikes in expected.spikes.items())
    whole.restrict(space.backbone)
    assert torch.equal(whole.simulate(x).logits, backbone.simulate(x).logits)
    with torch.no_grad():
        for name in parameter_shapes(space.supergraph):
            if name.startswith("back") and name.endswith("norm.weight"):
                whole.tensor(name).fill_(1.0)
    assert torch.equal(whole.simulate(x).logits, backbone.simulate(x).logits)
    whole.restrict(space.supergraph)
    assert not torch.equal(
        whole.simulate(x, batch_statistics=True).logits, backbone.simulate(x, batch_statistics=True).logits
    )


def test_part_must_be_of_the_network() -> None:
    """A graph with parameters that the network lacks is refused."""
    space = space_of(tiny(), random_data(tiny()))
    network = SpikingNetwork(space.backbone)
    with pytest.raises(NetworkError, match="must have parameters of the graph only"):
        network.restrict(with_backward(space.backbone, 4, 2))


def test_architectures_of_the_steps() -> None:
    """Uniform over the 407 sets, decided by seed and step alone; the set without connections is among them."""
    space = space_of(tiny(), random_data(tiny()))
    supernet, count = Supernet(space, 5), 3000
    drawn = [supernet.architecture(step) for step in range(count)]
    assert [Supernet(space, 5).architecture(step) for step in (17, 3, 2999)] == [
        drawn[step] for step in (17, 3, 2999)
    ]
    assert [Supernet(space, 6).architecture(step) for step in range(20)] != drawn[:20]
    sizes = Counter(len(architecture) for architecture in drawn)
    for size, sets in enumerate((1, 28, 378)):
        share = sets / 407
        assert abs(sizes[size] - share * count) < 4 * np.sqrt(count * share * (1 - share))
    assert all(space.allows(architecture) for architecture in drawn)
    assert supernet.part(3)[0] == space.graph(drawn[3])


def test_step_changes_what_it_drew(machine: Machine) -> None:
    """Weights, statistics and the optimiser's memory of the drawn architecture, and not a bit of any other."""
    trainer, supernet = trainer_of(tiny(), machine)
    network, batches = trainer.network, trainer.train_epoch()
    drawn = set()
    for step in range(BATCHES):
        before, remembered = network.weights(), _memory(trainer)
        next(batches)
        part = supernet.space.graph(supernet.architecture(step))
        after, remembers = network.weights(), _memory(trainer)
        changed = {name for name in after if not np.array_equal(after[name], before[name])}
        assert changed == set(parameter_shapes(part))
        kept = {name for name, values in remembered.items() if same_bits(values, remembers[name])}
        trained = {name for name in parameter_shapes(part) if not name.endswith(STATISTICS)}
        assert set(remembers) == set(remembered) | trained
        assert kept == set(remembered) - trained
        drawn |= {name for name in trained if name.startswith("back")}
    assert 0 < len({name.split(".")[0] for name in drawn}) < len(supernet.space.connections)


def _memory(trainer: Any) -> dict[str, dict[str, Any]]:
    """Copies of what the optimiser remembers, by the names of the graph."""
    states = trainer.optimizer.state
    return {
        name.replace("/", "."): {key: value.detach().clone().numpy() for key, value in states[p].items()}
        for name, p in trainer.network.named_parameters()
        if p in states
    }


def test_penalty_is_that_of_the_part(machine: Machine) -> None:
    """Each step's spikes are weighed by the synapses of the architecture that it computes."""
    trainer, supernet = trainer_of(tiny("training.penalty.intensity=1e-4"), machine)
    next(trainer.train_epoch())
    graph = supernet.part(0)[0]
    assert supernet.architecture(0)
    expected = Penalty.from_config(trainer.config.penalty, graph, 2)
    backbone = Penalty.from_config(trainer.config.penalty, supernet.space.backbone, 2)
    assert trainer.penalty is not None
    assert trainer.penalty.largest == expected.largest > backbone.largest


def test_cannot_be_compiled_as_a_whole(tmp_path: Path) -> None:
    """Every step is another network, so there is no one to compile."""
    with pytest.raises(ConfigError, match="compile: must not be network"):
        train(tiny("training.compile=network"), tmp_path)


def test_same_seed_same_result(tmp_path: Path, unbroken: tuple[Network, Path]) -> None:
    """The bits follow from the seed, which is that of the search; another one gives others."""
    network, whole = unbroken
    again = train(tiny(), tmp_path / "again")
    assert same_bits(again.weights, network.weights)
    assert metrics(tmp_path / "again") == metrics(whole)
    other = train(tiny("seed=1", "supernet.epochs=1"), tmp_path / "other")
    assert not same_bits(other.weights, network.weights)


@pytest.mark.parametrize(
    ("last", "known"),
    [
        (1, None),  # before the first checkpoint
        (BATCHES + 3, (1, 2)),  # amid an epoch, after a checkpoint
        (2 * BATCHES, (1, 4)),  # after the last step of an epoch, before its validation
    ],
)
def test_killed(
    tmp_path: Path,
    unbroken: tuple[Network, Path],
    processes: ForkServerContext,
    last: int,
    known: tuple[int, int] | None,
) -> None:
    """Killed after any step and resumed, the supernet ends with the bits of an unbroken training."""
    process = processes.Process(target=supernets.train_and_die, args=(tmp_path, last, False))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    path = tmp_path / CHECKPOINT_FILE
    if known is not None:
        state = checkpoint.load(path).state
        assert (len(state["history"]), state["batch"]) == known
    network, whole = unbroken
    resumed = train(tiny(), tmp_path, resume=True)
    assert same_bits(resumed.weights, network.weights)
    assert metrics(tmp_path) == metrics(whole)
    assert len(metrics(whole)) == EPOCHS
    found, expected = (checkpoint.load(folder / CHECKPOINT_FILE) for folder in (tmp_path, whole))
    assert same_bits(found.arrays, expected.arrays)


def test_another_space_is_refused(unbroken: tuple[Network, Path]) -> None:
    """A training cannot go on over other architectures than it began with."""
    _, folder = unbroken
    for setting in ("space.most=1", "space.forbidden_inputs=[0]"):
        with pytest.raises(FileFormatError, match="trained in other parts"):
            train(tiny(setting), folder, resume=True)


def test_two_ranks(tmp_path: Path, processes: ForkServerContext) -> None:
    """Two ranks take the steps of one process, on the same architectures; the others get no gradient."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    started = [
        processes.Process(target=supernets.rank, args=(tmp_path, World(rank, 2, rank, meeting), BATCHES))
        for rank in range(2)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        process.kill()  # does nothing to one that has ended
        process.join(60)
    assert [process.exitcode for process in started] == [0, 0]
    first, second = (load_file(tmp_path / f"rank{rank}") for rank in range(2))
    assert same_bits(first, second)
    alone = supernets.steps(World(), BATCHES)
    assert first.keys() == alone.keys()
    for name, array in alone.items():
        np.testing.assert_allclose(first[name], array, rtol=1e-9, atol=1e-9, err_msg=name)
    assert 0 < alone["given"].sum() < len(alone["given"])
