"""`snndeploy energy --graph G --spikes S`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from snndeploy import ir
from snndeploy.ir.document import graph_to_json
from tests.strategies import Case


@pytest.fixture
def graph(case: Case, tmp_path: Path) -> Path:
    """The graph of the network as JSON."""
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(graph_to_json(case.network.graph)))
    return path


@pytest.fixture
def spikes(case: Case, tmp_path: Path) -> Path:
    """Its spikes on random noise, as `energy` runs it."""
    from snndeploy.cli.networks import load_samples

    found = ir.run(case.network, load_samples(case.network, "random", 5).x).spikes
    path = tmp_path / "spikes.npz"
    arrays: dict[str, Any] = {f"spikes/{name}": array for name, array in found.items()}
    np.savez(path, steps=np.array(4), **arrays)
    return path


@pytest.fixture
def counts(spikes: Path, tmp_path: Path) -> Path:
    """The same, counted over time."""
    with np.load(spikes) as archive:
        arrays: dict[str, Any] = {
            name.replace("spikes/", "counts/"): archive[name].sum(axis=0)
            for name in archive.files
            if name != "steps"
        }
    path = tmp_path / "counts.npz"
    np.savez(path, steps=np.array(4), **arrays)
    return path


def test_files_cost_what_the_network_costs(
    run_json: Callable[..., Any], network: Path, graph: Path, spikes: Path
) -> None:
    """Graph and spikes of a network that is run elsewhere give the report of running it here."""
    here = run_json("energy", network, "--data", "random", "--samples", 5)
    given = run_json("energy", "--graph", graph, "--spikes", spikes)
    assert (given.pop("graph"), given.pop("spikes")) == (str(graph), str(spikes))
    assert (here.pop("network"), here.pop("data")) == (str(network), "random noise (seed 0)")
    assert given["samples"] == 5
    assert given == here
    assert run_json("energy", "--graph", network, "--spikes", spikes)["total_pj"] == here["total_pj"]


def test_counts_over_time_say_what_they_leave_open(
    run: Callable[..., Result], run_json: Callable[..., Any], graph: Path, spikes: Path, counts: Path
) -> None:
    """The same energy of synaptic operations; driven updates are unknown, and the text says so."""
    by_step = run_json("energy", "--graph", graph, "--spikes", spikes)
    over_time = run_json("energy", "--graph", graph, "--spikes", counts)
    assert over_time["synaptic_operations"] == by_step["synaptic_operations"]
    assert by_step["driven_neuron_updates"] > 0
    assert over_time["driven_neuron_updates"] is None
    text = run("energy", "--graph", graph, "--spikes", counts).output
    assert "which neuron updates are driven is not known" in text
    assert f"5 samples given in {counts}" in text
    assert "not known" not in run("energy", "--graph", graph, "--spikes", spikes).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "energy: needs either a NETWORK, or --graph and --spikes"),
        (["N", "--graph", "G", "--spikes", "S"], "energy: needs either a NETWORK"),
        (["--graph", "G"], "--graph and --spikes: belong together, got --graph alone"),
        (["N", "--spikes", "S"], "--graph and --spikes: belong together, got --spikes alone"),
        (["--graph", "G", "--spikes", "S", "--measure"], "--measure: runs a NETWORK"),
        (["--graph", "G", "--spikes", "nowhere.npz"], "nowhere.npz: cannot be read"),
        (["--graph", "nowhere.json", "--spikes", "S"], "nowhere.json: cannot be read"),
    ],
)
def test_what_cannot_be_asked(
    run: Callable[..., Result],
    network: Path,
    graph: Path,
    spikes: Path,
    arguments: list[str],
    message: str,
) -> None:
    """Neither or both, one file alone, measuring what cannot be run, files that are not there: exit code 2."""
    files = {"N": network, "G": graph, "S": spikes}
    result = run("energy", *(files.get(a, a) for a in arguments))
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_strict(run: Callable[..., Result], network: Path, tmp_path: Path) -> None:
    """Uncounted work ends with exit code 2 and its name; without it nothing changes."""
    assert run("energy", network, "--strict", "--samples", 2).exit_code == 0
    ops: dict[str, ir.Op] = {
        "in": ir.Input(shape=(1, 4, 4)),
        "pool": ir.AvgPool2d(kernel=(2, 2), stride=(2, 2)),
        "a": ir.Lif(),
        "flat": ir.Flatten(),
        "out": ir.Output(),
    }
    names = list(ops)
    pooled = ir.Graph(ops, tuple(map(ir.Edge, names, names[1:])))
    ir.save(ir.Network(graph=pooled, weights={}, steps=2), tmp_path / "pooled.snn.safetensors")
    assert run("energy", tmp_path / "pooled.snn.safetensors", "--samples", 2).exit_code == 0
    result = run("energy", tmp_path / "pooled.snn.safetensors", "--samples", 2, "--strict")
    assert result.exit_code == 2
    assert "pool: is work that is not counted" in result.output
