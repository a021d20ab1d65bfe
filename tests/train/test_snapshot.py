"""What a checkpoint of a run brings back that a short run would hardly show to be missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from snndeploy.errors import FileFormatError
from snndeploy.train.checkpoint import Checkpoint
from snndeploy.train.machine import prepared
from snndeploy.train.model import build_graph
from snndeploy.train.snapshot import capture, graph_of, restore
from snndeploy.train.trainer import Trainer
from tests.train.runs import noise, same_bits, tiny

NOWHERE = Path("checkpoint")


def test_generators_and_scaler() -> None:
    """PyTorch's own generator, NumPy's, and the scale of the loss with its count of good batches."""
    config = tiny("precision=float16")
    data = noise(config)
    graph = build_graph(config.network, data.shape, 10)
    with prepared(config) as machine:
        trainer = Trainer(config, data, machine, graph)
        for _ in trainer.train_epoch():
            trainer.scaler.update(2.0**9)
        saved = capture(trainer)
        drawn = torch.rand(3), trainer.rng.random(3)
        restored = Trainer(config, data, machine, graph)
        torch.manual_seed(99)
        restore(restored, saved, NOWHERE)
        assert torch.equal(torch.rand(3), drawn[0])
        assert np.array_equal(restored.rng.random(3), drawn[1])
        assert restored.scaler.state_dict() == trainer.scaler.state_dict()
        assert restored.scaler.get_scale() == 2.0**9
        assert (restored.batch, restored.sums) == (trainer.batch, trainer.sums)
        assert graph_of(saved, NOWHERE) == graph


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("adamw", {"step", "exp_avg", "exp_avg_sq"}),
        ("adam", {"step", "exp_avg", "exp_avg_sq"}),
        ("sgd", {"momentum_buffer"}),
    ],
)
def test_optimisers(name: str, keys: set[str]) -> None:
    """All they remember is there for each parameter, and comes back for the very same one."""
    config = tiny(f"optimizer.name={name}", "optimizer.decay_norm=false")
    data = noise(config)
    graph = build_graph(config.network, data.shape, 10)
    with prepared(config) as machine:
        trainer = Trainer(config, data, machine, graph)
        blank = capture(trainer)
        next(trainer.train_epoch())
        saved = capture(trainer)
        assert not any(label.startswith("optimizer/") for label in blank.arrays)
        remembered = {label for label in saved.arrays if label.startswith("optimizer/")}
        names = {name for name, _ in trainer.network.named_parameters()}
        assert remembered == {f"optimizer/{key}/{name}" for key in keys for name in names}
        restored = Trainer(config, data, machine, graph)
        restore(restored, saved, NOWHERE)
        assert same_bits(capture(restored).arrays, saved.arrays)


def test_what_belongs_to_nothing() -> None:
    """An optimiser's state for a parameter that is not there is refused."""
    config = tiny()
    data = noise(config)
    with prepared(config) as machine:
        trainer = Trainer(config, data, machine, build_graph(config.network, data.shape, 10))
        saved = capture(trainer)
        arrays = {**saved.arrays, "optimizer/step/nothing/weight": np.zeros((), np.float32)}
        changed = Checkpoint(config=saved.config, state=saved.state, arrays=arrays)
        with pytest.raises(FileFormatError, match=r"holds no state of this training run.*nothing/weight"):
            restore(trainer, changed, NOWHERE)
