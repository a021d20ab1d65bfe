"""Network files: what is saved is what is loaded."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from snndeploy.errors import FileFormatError
from snndeploy.ir import (
    Edge,
    Exact,
    Graph,
    InputSpec,
    Lif,
    Network,
    fingerprint,
    load,
    run,
    save,
    with_backward,
)
from snndeploy.ir.document import graph_from_json, graph_to_json, network_to_json, parse
from tests.ir.graphs import classifier, direct, random_network
from tests.ir.small_files import assert_same, exact, tiny, unpack
from tests.strategies import Case, Structure, build, cases, structures


@settings(max_examples=25)
@given(cases(most_layers=3))
def test_random_networks_come_back(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    """In both formats, with every setting, and they do the same."""
    path = tmp_path_factory.mktemp("files") / "network.snn.safetensors"
    for network in (case.original, case.network):
        save(network, path)
        again = load(path)
        assert_same(network, again)
        assert list(again.graph.ops) == list(network.graph.ops), "the order numbers the ports"
    assert (run(again, case.x).logits == run(case.network, case.x).logits).all()


@given(structures())
def test_graphs_come_back_from_json(structure: Structure) -> None:
    """As a value and as text, training ops and backward connections included."""
    graph = build(structure)
    text = json.dumps(graph_to_json(graph), allow_nan=False)
    again = graph_from_json(parse(text, "text"))
    assert again == graph
    assert json.dumps(graph_to_json(again)) == text


def test_single_precision_comes_back_to_the_bit(tmp_path: Path) -> None:
    """Negative zeros, the smallest and the largest numbers."""
    bits = [-0.0, 1e-45, -1e-45, 1.1754944e-38, 3.4028235e38, 0.1, 1.0]
    network = random_network(classifier())
    weight = np.resize(np.array(bits, np.float32), (3, 5))
    network = replace(network, weights={**network.weights, "readout.weight": weight})
    save(network, tmp_path / "n")
    assert_same(network, load(tmp_path / "n"))


def test_exact_networks_are_stored_as_integers(tmp_path: Path) -> None:
    """Weights as int8, biases as int32, each with its exponents: a quarter of the size, and readable."""
    network = exact()
    assert isinstance(network.format, Exact)
    save(network, tmp_path / "n")
    _, arrays = unpack(tmp_path / "n")
    assert {name: a.dtype for name, a in arrays.items()} == {
        "fc.weight": np.int8,
        "fc.weight/exponent": np.int8,
        "fc.bias": np.int32,
        "fc.bias/exponent": np.int8,
    }
    for name, exponents in network.format.exponents.items():
        scale = np.exp2(-np.array(exponents, float)).reshape(-1, *[1] * (arrays[name].ndim - 1))
        assert (arrays[name] * scale == network.weights[name]).all()
    assert_same(network, load(tmp_path / "n"))


def test_fingerprints_are_the_same_everywhere() -> None:
    """In another process, with other hashes, and for weights given in another order or layout."""
    network = exact()
    code = "from tests.ir.small_files import *\nprint(fingerprint(exact()), fingerprint(tiny()))"
    root = Path(__file__).parents[2]
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [fingerprint(network), fingerprint(tiny())]
    shuffled = {name: np.asfortranarray(w) for name, w in reversed(list(network.weights.items()))}
    assert fingerprint(replace(network, weights=shuffled)) == fingerprint(network)


def test_the_format_has_not_changed_unnoticed() -> None:
    """Files of version 1 that exist must stay readable: a new fingerprint needs a new version."""
    graph = direct("in a out", "a ~1 a")
    network = Network(graph=graph, weights={}, steps=2, classes=("x", "y"))
    assert json.loads(json.dumps(network_to_json(network))) == {
        "graph": {
            "ops": [
                {"name": "in", "type": "Input", "shape": [2]},
                {"name": "a", "type": "Lif", "tau": 0.5, "threshold": 1.0},
                {"name": "out", "type": "Output"},
            ],
            "edges": [["in", "a", 0], ["a", "out", 0], ["a", "a", 1]],
        },
        "steps": 2,
        "readout": 2,
        "input": {
            "kind": "image",
            "divisor": 1.0,
            "mean": [],
            "std": [],
            "repeat": 1,
            "grid_bits": None,
            "low": 0.0,
            "high": 1.0,
        },
        "format": "float32",
        "classes": ["x", "y"],
    }
    assert fingerprint(network) == "f003ec30b8c45b3f6c6c799026f924b768b761e9ef0301433d86f07548b28cfa"


def test_any_change_changes_the_fingerprint() -> None:
    """Each setting, each op and edge, their order, and the last bit of a weight."""
    network = exact()
    graph, weights = network.graph, network.weights
    assert isinstance(network.format, Exact)
    finer = {name: tuple(k + 1 for k in e) for name, e in network.format.exponents.items()}
    one_up = weights["fc.bias"].copy()
    one_up[0] += 2.0 ** -network.format.exponents["fc.bias"][0]
    zero = {name: np.zeros_like(w) for name, w in weights.items()}
    original = tiny()
    nudged = np.nextafter(original.weights["fc.bias"], np.float32(9))
    changed = [
        network,
        original,
        replace(original, weights={**original.weights, "fc.bias": nudged}),
        replace(network, weights={**weights, "fc.bias": one_up}),
        replace(network, weights=zero, format=Exact(finer)),
        replace(network, weights=zero),
        replace(network, steps=4),
        replace(network, readout=1),
        replace(network, classes=()),
        replace(network, classes=("yes", "no")),
        replace(network, graph=Graph(dict(reversed(list(graph.ops.items()))), graph.edges)),
        replace(network, graph=Graph(graph.ops, graph.edges[::-1])),
        replace(network, graph=Graph(graph.ops, (*graph.edges[:-1], Edge("a", "a", 2)))),
        replace(network, graph=Graph({**graph.ops, "a": Lif(tau=0.25)}, graph.edges)),
        replace(network, graph=Graph({**graph.ops, "a": Lif(threshold=2.0)}, graph.edges)),
        *(
            replace(network, input=replace(network.input, **change))
            for change in (
                {"kind": "frames"},
                {"divisor": 2.0},
                {"mean": (0.25,)},
                {"std": (3.0,)},
                {"grid_bits": 5},
                {"low": -2.0},
                {"repeat": 1, "high": 3.0},
                {"high": 2.0},
            )
        ),
    ]
    assert len({fingerprint(n) for n in changed}) == len(changed)


def test_equal_settings_have_equal_fingerprints() -> None:
    """Whole numbers given as int or float are the same numbers."""
    one = random_network(direct("in a out"), input=InputSpec(divisor=16, high=1, mean=(0,), std=(1,), low=-1))
    other = replace(one, input=InputSpec(divisor=16.0, high=1.0, mean=(0.0,), std=(1.0,), low=-1.0))
    assert fingerprint(one) == fingerprint(other)


def contents(folder: Path) -> Mapping[str, bytes]:
    """All files of a folder, hidden ones too."""
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_an_interrupted_save_leaves_the_old_file(
    failure: BaseException, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C or a full disk, while writing or just before the file is in place: nothing new, nothing half."""
    path = tmp_path / "n.snn.safetensors"
    save(tiny(), path)
    before = contents(tmp_path)

    def fail(self: Path, *arguments: Any) -> None:
        if moment == "writing":
            with self.open("wb") as file:
                file.write(arguments[0][:100])
        raise failure

    monkeypatch.setattr(Path, "write_bytes" if moment == "writing" else "replace", fail)
    expected = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else FileFormatError
    with pytest.raises(expected):
        save(exact(), path)
    monkeypatch.undo()
    assert contents(tmp_path) == before


def test_saving_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    """One file, readable as others are."""
    path = tmp_path / "n.snn.safetensors"
    save(tiny(), path)
    save(exact(), str(path))
    assert list(contents(tmp_path)) == [path.name]
    assert_same(load(str(path)), exact())
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_equal_networks_make_equal_files(tmp_path: Path) -> None:
    """Saved again and again, a network gives the same bytes."""
    contents = set()
    for index in range(8):
        save(tiny(), tmp_path / str(index))
        contents.add((tmp_path / str(index)).read_bytes())
    assert len(contents) == 1


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    """A missing folder, a file instead of a folder, a folder instead of a file, and one without permission."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "locked").mkdir(mode=0o500)
    places = [
        tmp_path / "missing" / "n",
        tmp_path / "file" / "n",
        tmp_path / "folder",
        tmp_path / ("n" * 300),
    ]
    if os.geteuid() == 0:  # who may write anywhere but where there are no files
        places.append(Path("/proc/n.snn.safetensors"))
    else:
        places.append(tmp_path / "locked" / "n")
    for place in places:
        with pytest.raises(FileFormatError, match="cannot be written") as caught:
            save(tiny(), place)
        assert caught.value.where == str(place)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder", "locked"]


def test_networks_with_backward_connections_come_back(tmp_path: Path) -> None:
    """An unfolded network with BatchNorm and a branch, by name."""
    network = random_network(with_backward(classifier(norm=True), 1, 0, delay=2), steps=5)
    save(network, tmp_path / "n")
    assert_same(network, load(tmp_path / "n"))
