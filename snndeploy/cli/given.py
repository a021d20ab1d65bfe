"""Options of `energy` for networks and spikes that were not made here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from snndeploy.errors import ConfigError

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Given:
    """Files in place of a network that is run; see docs/energy-inputs.md."""

    graph: Path
    spikes: Path


def given_options(command: _Command) -> _Command:
    """NETWORK, or --graph and --spikes in its place."""
    path = click.Path(path_type=Path)
    spikes = click.option(
        "--spikes",
        type=path,
        metavar="S.npz",
        help="With --graph: the network's spikes, by step or counted over time.",
    )
    graph = click.option(
        "--graph",
        type=path,
        metavar="G.json|NETWORK",
        help="In place of NETWORK: a graph, to price spikes that were not made here (docs/energy-inputs.md).",
    )
    network = click.argument("network", type=path, required=False)
    return network(graph(spikes(command)))


def asked(network: Path | None, graph: Path | None, spikes: Path | None) -> Path | Given:
    """The network to run, or the files to count.

    Raises:
        ConfigError: It is neither, or both.
    """
    if (graph is None) != (spikes is None):
        raise ConfigError(
            "--graph and --spikes", "belong together", got=f"--{'spikes' if graph is None else 'graph'} alone"
        )
    if network is not None and graph is None:
        return network
    if network is None and graph is not None and spikes is not None:
        return Given(graph, spikes)
    raise ConfigError("energy", "needs either a NETWORK, or --graph and --spikes")
