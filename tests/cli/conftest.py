"""A small exact network in a file, and a way to run commands on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from snndeploy.cli import main
from snndeploy.ir import save
from tests.strategies import Case, Layer, Structure, realise

BACK = Structure(
    shape=(1, 6, 6),
    layers=(Layer("chain", 4), Layer("residual", 4)),
    hidden=(),
    backward=((2, 0, 1),),
    steps=4,
    readout=4,
    frames=False,
    seed=3,
)
"""input -> 0 -> (1 -> 2, identity 0 -> 2) -> readout, with 2 -> 0 a step later: II = 3."""


@pytest.fixture(scope="session")
def case() -> Case:
    """A lively network with a backward connection over two ports."""
    return realise(BACK)


@pytest.fixture
def network(case: Case, tmp_path: Path) -> Path:
    """Its file."""
    path = tmp_path / "network.snn.safetensors"
    save(case.network, path)
    return path


@pytest.fixture
def float_network(case: Case, tmp_path: Path) -> Path:
    """The file of its float32 original."""
    path = tmp_path / "float.snn.safetensors"
    save(case.original, path)
    return path


@pytest.fixture
def run() -> Callable[..., Result]:
    """Runs a command in this process."""

    def invoke(*arguments: str | Path) -> Result:
        return CliRunner().invoke(main, [str(a) for a in arguments])

    return invoke


@pytest.fixture
def run_json(run: Callable[..., Result]) -> Callable[..., Any]:
    """Runs a command with --json, demands success, and gives what it printed."""

    def invoke(*arguments: str | Path) -> Any:
        result = run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return invoke
