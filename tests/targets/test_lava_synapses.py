"""The simulated program of linear ops, which needs no Lava, computes what the interpreter's ops compute."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from snndeploy import ir
from snndeploy.export import lava as lowering
from snndeploy.ir.kernels import apply
from snndeploy.targets.lava.child.layers import Neurons
from snndeploy.targets.lava.child.membranes import RealMembranes
from snndeploy.targets.lava.child.synapses import Synapses, function
from tests.export.networks import case, residual


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        (ir.Conv2d(in_channels=3, out_channels=4, kernel=(3, 3), padding=(1, 1), bias=True), (3, 6, 5)),
        (ir.Conv2d(in_channels=4, out_channels=6, kernel=(2, 3), stride=(2, 1), padding=(0, 2)), (4, 7, 5)),
        (ir.Conv2d(in_channels=4, out_channels=8, kernel=(3, 1), groups=2, bias=True), (4, 5, 5)),
        (ir.Conv2d(in_channels=4, out_channels=4, kernel=(3, 3), padding=(1, 1), groups=4), (4, 5, 5)),
        (ir.Conv2d(in_channels=4, out_channels=2, kernel=(1, 1), stride=(2, 2), bias=True), (4, 5, 6)),
        (ir.Linear(in_features=12, out_features=5, bias=True), (12,)),
        (ir.Linear(in_features=12, out_features=5), (12,)),
        (ir.AvgPool2d(kernel=(2, 2), stride=(2, 2)), (3, 7, 6)),
        (ir.AvgPool2d(kernel=(4, 2), stride=(1, 3)), (3, 6, 8)),
        (ir.Upsample(size=(7, 5)), (2, 3, 4)),
        (ir.Upsample(size=(2, 3)), (2, 4, 6)),
        (ir.Upsample(size=(3, 2)), (5,)),
        (ir.Flatten(), (2, 3, 4)),
    ],
)
def test_each_op(op: ir.Op, shape: tuple[int, ...]) -> None:
    """On numbers of a grid of 1/16 every op gives the same bits as the interpreter's."""
    rng = np.random.default_rng(0)
    x = (rng.integers(0, 17, (1, *shape)) / 16).astype(np.float32)
    names: dict[str, tuple[int, ...]] = {}
    match op:
        case ir.Conv2d():
            names = {"op.weight": (op.out_channels, op.in_channels // op.groups, *op.kernel)}
            names |= {"op.bias": (op.out_channels,)} if op.bias else {}
        case ir.Linear():
            names = {"op.weight": (op.out_features, op.in_features)}
            names |= {"op.bias": (op.out_features,)} if op.bias else {}
        case _:
            pass
    weights = {name: (rng.integers(-8, 9, s) / 16).astype(np.float32) for name, s in names.items()}
    step = {"name": "op", "type": type(op).__name__, **{f: getattr(op, f) for f in op.__slots__}}
    found = function(step, weights)(x[0])
    expected = apply("op", op, x, weights)[0]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert found.any()


def test_unknown_ops_are_an_error() -> None:
    """A bundle of a later version with an op of a new type is not run wrongly."""
    with pytest.raises(ValueError, match="unknown type 'Conv3d'"):
        function({"name": "c", "type": "Conv3d"}, {})


def test_several_edges_are_summed() -> None:
    """Two edges from one arrival and one from another: a + a + fc(b + a), with delays kept apart."""
    population = {
        "arrivals": [{"source": "a", "delay": 0}, {"source": "a", "delay": 2}],
        "program": [
            {
                "name": "fc",
                "type": "Linear",
                "bias": False,
                "sources": [{"source": "a", "delay": 2}, {"source": "a", "delay": 0}],
            }
        ],
        "sources": [
            {"source": "a", "delay": 0},
            {"source": "a", "delay": 0},
            {"source": "fc", "delay": 0},
        ],
    }
    synapses = Synapses(population, {"fc.weight": np.asarray([[0, 1], [1, 0]], np.float32)})
    now, before = np.asarray([1, 2], np.float32), np.asarray([10, 20], np.float32)
    np.testing.assert_array_equal(synapses.current([now, before]), [2 + 22, 4 + 11])


def test_neurons_fire_strictly_above_the_threshold(tmp_path: Path) -> None:
    """With u = 1 a neuron is silent, the leak halves u, a spike resets it, a new sample forgets it.

    a (1,) -> lif (1,), a direct edge.
    """
    direct = {
        "arrivals": [{"source": "a", "delay": 0}],
        "program": [],
        "sources": [{"source": "a", "delay": 0}],
    }
    spikes, potentials = tmp_path / "spikes.npy", tmp_path / "potentials.npy"
    neurons = Neurons(
        Synapses(direct, {}),
        RealMembranes(0.5, 1.0, [1]),
        1,
        rows=6,
        steps=3,
        spikes_path=str(spikes),
        potentials_path=str(potentials),
    )
    currents = [1.0, 0.625, 0.75, 0.5, 0.5, 1.0]  # two samples of three steps
    for row, current in enumerate(currents):
        neurons.update(*divmod(row, 3), [np.asarray([current], np.float32)])
    np.testing.assert_array_equal(np.load(potentials).ravel(), [1.0, 1.125, 0.75, 0.5, 0.75, 1.375])
    np.testing.assert_array_equal(np.unpackbits(np.load(spikes), axis=1)[:, 0], [0, 1, 0, 0, 0, 1])


def test_files_have_their_blocks_from_the_start(tmp_path: Path) -> None:
    """Results are no sparse files, in which a full disk would be noticed only by a fatal signal.

    lif (800,), with nothing that leads into it; one row of potentials for each of 1000 steps.
    """
    alone: dict[str, list[object]] = {"arrivals": [], "program": [], "sources": []}
    spikes, potentials = tmp_path / "spikes.npy", tmp_path / "potentials.npy"
    Neurons(
        Synapses(alone, {}),
        RealMembranes(0.5, 1.0, [800]),
        800,
        rows=1000,
        steps=1000,
        spikes_path=str(spikes),
        potentials_path=str(potentials),
    )
    for path, size in ((spikes, 1000 * 100), (potentials, 1000 * 3200)):
        assert path.stat().st_blocks * 512 >= size


def test_weights_are_those_of_the_bundle(tmp_path: Path) -> None:
    """A whole population with two branches, l4 of `residual`, computes what enters it in the interpreter."""
    tested = case(residual(), steps=1, seed=1)
    folder = lowering.export(tested.network, tmp_path / "bundle", tested.x)
    manifest = json.loads((folder / "manifest.json").read_text())
    population = next(p for p in manifest["populations"] if p["name"] == "l4")
    with np.load(folder / "weights.npz", allow_pickle=False) as weights:
        synapses = Synapses(population, weights)
    trace = ir.run(tested.network, tested.x[:1], potentials=True)
    arrived = [trace.spikes[a["source"]][0, 0].astype(np.float32) for a in population["arrivals"]]
    np.testing.assert_array_equal(synapses.current(arrived), trace.potentials["l4"][0, 0])
