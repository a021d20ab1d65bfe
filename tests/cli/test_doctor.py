"""`snndeploy doctor`: what was found, in words."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module  # of the name there is a command, too
from typing import Any

import pytest
from click.testing import Result


@pytest.mark.parametrize(
    ("value", "shown"), [(True, "yes"), (False, "no"), (None, "none"), ([], "none"), (2, "2")]
)
def test_values(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, value: object, shown: str
) -> None:
    """As the other commands write them."""
    monkeypatch.setattr(import_module("snndeploy.cli.doctor"), "examine", lambda: {"compiled_neurons": value})
    assert run("doctor").stdout.splitlines()[1].split() == ["compiled", "neurons", shown]


def test_compiled_neurons(run_json: Callable[..., Any], run: Callable[..., Result]) -> None:
    """Whether there are any is found, and the help says so."""
    assert run_json("doctor")["compiled_neurons"] in (True, False)
    assert run_json("doctor")["compiled_network"] in (True, False)
    assert "compiled neurons" in " ".join(run("doctor", "--help").stdout.split())
