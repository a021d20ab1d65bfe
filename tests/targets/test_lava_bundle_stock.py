"""What a stock bundle says of Lava's own processes is checked when it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snndeploy import ir
from snndeploy.errors import FileFormatError
from snndeploy.export import lava as lowering
from snndeploy.targets import lava
from tests.export.networks import TOPOLOGIES, case
from tests.targets.lava_cases import pipelined
from tests.targets.test_lava_bundle import rewrite


def made(name: str, folder: Path) -> Path:
    """A stock bundle of a topology, with delays long enough for a pipeline."""
    tested = case(pipelined(TOPOLOGIES[name]()), steps=10, seed=3)
    network = ir.quantize(tested.network, tested.x, format="loihi").network
    return lowering.export(network, folder / name, tested.x, form="stock")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle with convolutions, matrices and a silenced population: l1 -> l0."""
    return made("back_over_one", tmp_path)


@pytest.mark.parametrize("name", ["residual", "back_over_one", "from_vector", "delayed_skips", "vectors"])
def test_what_is_written_is_accepted(name: str, tmp_path: Path) -> None:
    """Bundles of many kinds of synapses are read."""
    bundle = lava.read(made(name, tmp_path))
    assert (bundle.form, bundle.number_format, bundle.exact) == ("stock", "loihi", True)


def of_kind(document: dict[str, Any], kind: str) -> dict[str, Any]:
    """The first synapse of a kind."""
    found: dict[str, Any] = next(
        s for p in document["populations"] for s in p["synapses"] if s["type"] == kind
    )
    return found


def silenced(document: dict[str, Any]) -> dict[str, Any]:
    """The first silence."""
    found: dict[str, Any] = next(p["silence"] for p in document["populations"] if p["silence"])
    return found


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.update(input_bits=5),
        lambda d: d["output"]["bias"].append(0.0),
        lambda d: d["populations"].reverse(),
        lambda d: d["populations"].pop(),
        lambda d: d["populations"][0].pop("silence"),
        lambda d: d["populations"][0].update(silence=3),
        lambda d: of_kind(d, "Conv").update(source="output"),
        lambda d: of_kind(d, "Conv").update(hold=-1),
        lambda d: of_kind(d, "Conv").update(type="Other"),
        lambda d: of_kind(d, "Conv").update(type="Dense", weight_exp=0),
        lambda d: of_kind(d, "Conv").update(weight="c0.weight"),
        lambda d: of_kind(d, "Conv").update(stride=[1, 0]),
        lambda d: of_kind(d, "Conv").update(padding=[1]),
        lambda d: of_kind(d, "Conv").update(groups=2),
        lambda d: of_kind(d, "Dense").update(weight_exp=32),
        lambda d: of_kind(d, "Dense").update(type="Sparse", shape=[3, 24]),
        lambda d: of_kind(d, "Dense").update(weight=silenced(d)["weight"]),
        lambda d: silenced(d).update(weight_exp="x"),
        lambda d: silenced(d).update(weight=of_kind(d, "Dense")["weight"]),
    ],
)
def test_wrong_entries_are_refused(edit: Callable[[dict[str, Any]], object], folder: Path) -> None:
    """A wrong type, or what fits neither the network nor the arrays, is an error, though the hashes fit."""
    rewrite(folder, lambda manifest: edit(manifest["stock"]))
    with pytest.raises(FileFormatError):
        lava.read(folder)


@pytest.mark.parametrize("kind", ["type", "shape", "missing"])
def test_wrong_arrays_are_refused(kind: str, folder: Path) -> None:
    """So is an array of another type or shape, or none."""
    file = folder / "weights.npz"
    with np.load(file) as loaded:
        arrays = dict(loaded)
    name = next(name for name in arrays if name.startswith("stock/"))
    whole = arrays.pop(name)
    changed = {"type": {name: whole.astype(np.int64)}, "shape": {name: whole[1:]}, "missing": {}}
    np.savez(file, **{**arrays, **changed[kind]})
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    rewrite(folder, lambda manifest: manifest["files"].update({file.name: digest}))
    with pytest.raises(FileFormatError):
        lava.read(folder)
