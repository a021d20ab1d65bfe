"""Networks and spikes from files: the same counts as of what made them, and a clear error where they do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from snndeploy.errors import FileFormatError, NetworkError, SnnDeployError, TargetError
from snndeploy.ir import Graph, Input, InputSpec, Network, Output, Trace, run, save
from snndeploy.ir.document import graph_to_json, network_to_json
from snndeploy.targets.counts import count
from snndeploy.targets.given import count_given, read_graph
from tests.ir.graphs import random_network, wired
from tests.targets.counted import RESIDUAL, STREAMS, plain

Arrays = Mapping[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def network() -> Network:
    """A network with a backward connection and frames."""
    return random_network(RESIDUAL, input=InputSpec(kind="frames"))


@pytest.fixture(scope="module")
def trace(network: Network) -> Trace:
    """What it did on 70 samples, more than are counted at once."""
    return run(network, np.random.default_rng(0).random((4, 70, 2, 6, 5)))


def by_step(trace: Trace) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file of spikes."""
    return {"steps": np.array(4), **{f"spikes/{name}": array for name, array in trace.spikes.items()}}


def over_time(trace: Trace) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file of counts."""
    return {
        "steps": np.array(4),
        **{f"counts/{name}": array.sum(axis=0) for name, array in trace.spikes.items()},
    }


def written(folder: Path, graph: Graph | Network, arrays: Arrays) -> tuple[Path, Path]:
    """A JSON file and a .npz file."""
    value = network_to_json(graph) if isinstance(graph, Network) else graph_to_json(graph)
    (folder / "g.json").write_text(json.dumps(value))
    np.savez_compressed(folder / "s.npz", **arrays)
    return folder / "g.json", folder / "s.npz"


def test_spikes_by_step_count_like_the_trace(tmp_path: Path, network: Network, trace: Trace) -> None:
    """From a network document and bool arrays: every number, driven updates included."""
    assert plain(count_given(*written(tmp_path, network, by_step(trace)))) == plain(count(network, trace))


def test_counts_over_time_count_all_but_driven_updates(
    tmp_path: Path, network: Network, trace: Trace
) -> None:
    """Exact synaptic operations of each sample; driven updates are unknown as soon as one Lif is counted."""
    whole = count(network, trace)
    mixed = {**by_step(trace), "counts/a": trace.spikes["a"].sum(axis=0, dtype=np.uint8)}
    del mixed["spikes/a"]
    for arrays in (over_time(trace), mixed):
        counts = count_given(*written(tmp_path, network, arrays))
        np.testing.assert_array_equal(counts.synaptic_operations, whole.synaptic_operations)
        np.testing.assert_array_equal(counts.spikes, whole.spikes)
        assert [layer.dead for layer in counts.layers] == [layer.dead for layer in whole.layers]
        assert counts.driven is None


def test_a_graph_alone_is_shown_one_image(tmp_path: Path, network: Network, trace: Trace) -> None:
    """Its steps are those of the spikes, and its first layer may be evaluated once a sample."""
    counts = count_given(*written(tmp_path, network.graph, by_step(trace)))
    assert counts.mac_operations(once=True) * 4 == counts.mac_operations()
    np.testing.assert_array_equal(counts.synaptic_operations, count(network, trace).synaptic_operations)
    assert read_graph(tmp_path / "g.json") == (network.graph, InputSpec(), None)


def test_a_network_file_will_do(tmp_path: Path, network: Network, trace: Trace) -> None:
    """The file that `save` writes says the same as its document."""
    _, spikes = written(tmp_path, network, by_step(trace))
    save(network, tmp_path / "n.snn.safetensors")
    assert plain(count_given(tmp_path / "n.snn.safetensors", spikes)) == plain(count(network, trace))
    assert read_graph(tmp_path / "n.snn.safetensors") == (network.graph, network.input, 4)


def test_strict(tmp_path: Path) -> None:
    """Work that is not counted is refused where that is asked for."""
    spikes = {f"counts/{name}": np.zeros((1, *STREAMS.shapes[name]), np.int8) for name in STREAMS.ports}
    files = written(tmp_path, STREAMS, {"steps": np.array(3), **spikes})
    assert count_given(*files).uncounted == ("pool",)
    with pytest.raises(TargetError, match="pool: is work that is not counted"):
        count_given(*files, strict=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: {"steps": None}, "must hold `steps`, one whole number"),
        (lambda _: {"steps": np.array([4])}, r"must hold `steps`, one whole number, got int64 \(1,\)"),
        (lambda _: {"steps": np.array(4.0)}, "must hold `steps`, one whole number"),
        (lambda _: {"steps": np.array(True)}, "must hold `steps`, one whole number"),
        (lambda _: {"steps": np.array(5)}, "steps: must be 4, as .*g.json says, got 5"),
        (lambda _: {"spikes/a": None}, "must hold either spikes/a or counts/a, got neither"),
        (lambda a: {"counts/a": a.sum(axis=0)}, "must hold either spikes/a or counts/a, got both"),
        (lambda a: {"spikes/z": a}, "holds 'spikes/z', which is neither spikes/<lif> nor counts/<lif>"),
        (lambda a: {"a": a}, "holds 'a', which is neither"),
        (lambda a: {"spikes/a": a.astype(np.uint8)}, "s.npz: spikes/a: must be bool, got uint8"),
        (lambda a: {"spikes/a": a[:, :1]}, r"s.npz: spikes/\w+: must have shape"),
        (lambda a: {"spikes/a": a[:3]}, "s.npz: spikes/a: must have shape"),
        (lambda _: {"spikes/a": np.array(True)}, "s.npz: spikes/a: must have shape"),
        (lambda a: {"spikes/a": None, "counts/a": a.sum(axis=0) * 0.5}, "counts/a: must be whole numbers"),
        (lambda a: {"spikes/a": None, "counts/a": a.sum(axis=0) > 0}, "counts/a: must be whole numbers"),
        (
            lambda a: {"spikes/a": None, "counts/a": a.sum(axis=0) + 4},
            r"s.npz: spikes of a: must lie in \[0, 4\]",
        ),
        (
            lambda a: {"spikes/a": None, "counts/a": a.sum(axis=0) - 5},
            r"s.npz: spikes of a: must lie in \[0, 4\]",
        ),
        (lambda a: {"spikes/a": None, "counts/a": a}, "s.npz: counts/a: must be whole numbers, got bool"),
    ],
)
def test_spikes_that_do_not_fit(
    tmp_path: Path,
    network: Network,
    trace: Trace,
    change: Callable[[Any], dict[str, Any]],
    message: str,
) -> None:
    """Missing, doubled, unknown, of another type or shape, or more than a neuron can fire: named with the file."""
    arrays: dict[str, Any] = {**by_step(trace), **change(trace.spikes["a"])}
    files = written(tmp_path, network, {name: a for name, a in arrays.items() if a is not None})
    with pytest.raises(SnnDeployError, match=message):
        count_given(*files)


def test_steps_that_the_delays_do_not_allow(tmp_path: Path) -> None:
    """A graph alone takes its steps from the spikes, which must give every delay time to act."""
    spikes = {f"counts/{name}": np.zeros((1, *RESIDUAL.shapes[name]), np.int8) for name in RESIDUAL.ports}
    files = written(tmp_path, RESIDUAL, {"steps": np.array(2), **spikes})
    with pytest.raises(NetworkError, match=r"s.npz: edge .*: never acts within 2 time steps"):
        count_given(*files)


def test_no_samples(tmp_path: Path) -> None:
    """An empty set is no measurement."""
    spikes = {f"counts/{name}": np.zeros((0, *RESIDUAL.shapes[name]), np.int8) for name in RESIDUAL.ports}
    with pytest.raises(FileFormatError, match="must have shape"):
        count_given(*written(tmp_path, RESIDUAL, {"steps": np.array(4), **spikes}))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged", b"no archive"])
def test_damaged_archives(tmp_path: Path, network: Network, content: bytes) -> None:
    """What is no .npz file is refused, whatever NumPy makes of it."""
    graph, spikes = written(tmp_path, network, {})
    spikes.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"s.npz: cannot be read as a .npz file of arrays"):
        count_given(graph, spikes)


def test_no_code_is_loaded(tmp_path: Path, network: Network, trace: Trace) -> None:
    """Objects, which NumPy would unpickle, are refused; so are single arrays and files that are not there."""
    objects = np.array([print], dtype=object)
    graph, spikes = written(tmp_path, network, {**by_step(trace), "spikes/a": objects})
    with pytest.raises(FileFormatError, match=r"cannot be read as a .npz file"):
        count_given(graph, spikes)
    np.save(tmp_path / "one.npy", trace.spikes["a"])
    for path in (tmp_path / "one.npy", tmp_path / "none.npz", tmp_path):
        with pytest.raises(FileFormatError, match=r"cannot be read as a .npz file"):
            count_given(graph, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "graph: must be an object"),
        ("{", "g.json: is not valid JSON"),
        ('{"ops": [], "edges": [], "more": 1}', "graph: must be an object"),
        ('{"graph": {}, "more": 1}', "g.json: holds 'more'; a network has the fields classes, format, graph"),
        ('{"graph": 3}', "graph: must be an object"),
        ("NaN", "numbers must be finite"),
        ("\udcff", "is neither a network file nor JSON text"),
    ],
)
def test_graphs_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    """Other JSON, damaged JSON, unknown fields, no text at all."""
    (tmp_path / "g.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SnnDeployError, match=message):
        read_graph(tmp_path / "g.json")


def test_a_document_is_checked(tmp_path: Path, network: Network) -> None:
    """Steps and input of a network document obey the rules of networks."""
    value = network_to_json(network)
    for change, message in (
        ({"steps": True}, "steps: must be a whole number"),
        ({"steps": 1}, "never acts within 1 time steps"),
        ({"input": {}}, "input: must be an object"),
    ):
        (tmp_path / "g.json").write_text(json.dumps({**value, **change}))
        with pytest.raises(SnnDeployError, match=message):
            read_graph(tmp_path / "g.json")
    with pytest.raises(FileFormatError, match=r"none.json: cannot be read"):
        read_graph(tmp_path / "none.json")


def test_a_graph_without_lifs(tmp_path: Path) -> None:
    """Energy is counted in spikes."""
    graph = wired({"in": Input(shape=(2,)), "out": Output()}, "in out")
    with pytest.raises(NetworkError, match="at least one Lif"):
        count_given(*written(tmp_path, graph, {"steps": np.array(2)}))
