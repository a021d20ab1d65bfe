"""Training that starts from a network file: the same graph, folded or not, with or without all connections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.ir import Exact, Graph, Network, backward_connections, fold, quantize, save
from snndeploy.train.config import Config, NetworkConfig
from snndeploy.train.data import network_input
from snndeploy.train.model import build_graph
from snndeploy.train.start import starting_point
from tests.train.runs import metrics, noise, same_bits, stopped, tiny, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """A tiny network, trained, with its BatchNorm and the connection 4:2."""
    return train(tiny(), tmp_path_factory.mktemp("trained"))


@pytest.fixture
def path(trained: Network, tmp_path: Path) -> Path:
    """Its file."""
    path = tmp_path / "network.snn.safetensors"
    save(trained, path)
    return path


def graph_of(config: NetworkConfig) -> Graph:
    """The graph that a configuration asks for, on 8x8 pixels."""
    return build_graph(config, (1, 8, 8), 10)


def starting(path: Path, config: NetworkConfig) -> tuple[Graph, set[str]]:
    """The graph to train and the parameters that the file has."""
    graph, weights = starting_point(str(path), graph_of(config), config.connections)
    return graph, set(weights)


def test_no_file() -> None:
    """Without one the graph is that of the configuration, and all weights are drawn."""
    graph = graph_of(NetworkConfig(steps=2))
    assert starting_point("", graph, ()) == (graph, {})


def test_training_goes_on(trained: Network, path: Path, tmp_path: Path) -> None:
    """With no steps to speak of the weights are those of the file; with steps they change."""
    still = tiny(f"start={path}", "optimizer.lr=1e-30", "optimizer.epochs=1", "optimizer.weight_decay=0")
    same = train(still, tmp_path / "still")
    assert same.graph == trained.graph
    learnt = {name for name in trained.weights if "running_" not in name}
    assert all(np.allclose(same.weights[n], trained.weights[n], atol=1e-20, rtol=0) for n in learnt)
    further = train(tiny(f"start={path}"), tmp_path / "further")
    assert not np.allclose(further.weights["fc.weight"], trained.weights["fc.weight"], atol=1e-3)
    train(tiny(), tmp_path / "scratch")
    assert metrics(tmp_path / "further")[0]["loss"] < metrics(tmp_path / "scratch")[0]["loss"] - 0.05


def test_folded_and_exact(trained: Network, path: Path, tmp_path: Path) -> None:
    """They are trained as they are: convolutions with biases, no BatchNorm, from the very values of the file."""
    folded = fold(trained)
    samples = noise(tiny()).train
    exact = quantize(folded, network_input(samples, folded.input)).network
    assert isinstance(exact.format, Exact)
    for network in (folded, exact):
        save(network, path)
        config = tiny(f"start={path}", "optimizer.epochs=1")
        result = train(config, tmp_path / "run")
        assert result.graph == network.graph
        assert result.graph.training_only == ()
        assert result.format.name == "float32"
        change = np.abs(result.weights["fc.weight"] - network.weights["fc.weight"]).max()
        assert 0 < change < 0.2


def test_missing_connections_are_added(path: Path) -> None:
    """The rest comes from the file; a new connection has its BatchNorm, even on a folded network."""
    config = NetworkConfig(steps=2, backward=("4:2", "6:6"))
    graph, known = starting(path, config)
    assert graph == graph_of(config)
    assert {n for n in graph.ops if n.startswith("back6_6.")} == {"back6_6.conv", "back6_6.norm"}
    assert not any(n.startswith("back6_6.") for n in known)
    reversed_graph, _ = starting(path, replace(config, backward=("6:6", "4:2")))
    assert set(backward_connections(reversed_graph)) == set(backward_connections(graph))


def test_a_new_connection_starts_without_effect(trained: Network, path: Path, tmp_path: Path) -> None:
    """A folded network with a connection added first does what it did before."""
    folded = fold(trained)
    save(folded, path)
    config = tiny(f"start={path}", "network.backward=['4:2', '6:6']", "optimizer.lr=1e-30")
    result = train(replace(config, optimizer=replace(config.optimizer, epochs=1)), tmp_path / "run")
    assert result.graph.training_only == ("back6_6.norm",)
    assert np.abs(result.weights["back6_6.norm.weight"]).max() < 1e-20
    assert same_bits(
        {n: np.round(result.weights[n], 6) for n in folded.weights},
        {n: np.round(folded.weights[n], 6) for n in folded.weights},
    )


def test_resuming_needs_no_file(path: Path, tmp_path: Path) -> None:
    """A checkpoint has the graph and the weights; the file may be gone."""
    save(fold(train(tiny(), tmp_path / "first")), path)
    config = tiny(f"start={path}")
    expected = train(config, tmp_path / "unbroken")
    stopped(config, tmp_path / "broken", 3)
    path.unlink()
    assert same_bits(train(config, tmp_path / "broken", resume=True).weights, expected.weights)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"backward": ("3:1",)}, r"has a backward connection .*, got 4:2:1; add it to network\.backward"),
        ({"backbone": "resnet18", "backward": ("4:2",)}, "must hold the network"),
        ({"tau": 0.25}, r"got .*\.lif Lif\(tau=0\.5.* instead of Lif\(tau=0\.25"),
        ({"threshold": 2.0}, "instead of Lif"),
    ],
)
def test_another_graph(path: Path, settings: dict[str, object], words: str) -> None:
    """The first difference is named, and what can be done."""
    config = Config.from_mapping({"network": {"steps": 2, **settings}}).network
    with pytest.raises(ConfigError, match=words) as caught:
        starting(path, config)
    assert str(path) in str(caught.value)


def test_edges_count(path: Path, trained: Network) -> None:
    """The same ops joined in another way are another graph."""
    edges = [
        edge for edge in trained.graph.edges if (edge.source, edge.target) != ("stem.lif", "stage1.1.lif2")
    ]
    assert len(edges) == len(trained.graph.edges) - 1
    save(replace(trained, graph=Graph(trained.graph.ops, tuple(edges))), path)
    with pytest.raises(ConfigError, match=r"got edge stem\.lif -> stage1\.1\.lif2 missing"):
        starting(path, NetworkConfig(steps=2))


def test_no_network_file(tmp_path: Path) -> None:
    """A file that is missing or something else is refused before the run folder is touched."""
    (tmp_path / "text").write_text("text")
    for name in ("nowhere", "text"):
        with pytest.raises(FileFormatError, match=name):
            train(tiny(f"start={tmp_path / name}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
