"""`snndeploy simulate --engine native` and the native back end of `verify`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from snndeploy.export import lava as lowering
from tests.strategies import Case
from tests.targets.test_native_machine import too_fast


@pytest.mark.parametrize("kind", ["scheduled", "synchronous"])
def test_simulate(run_json: Callable[..., Any], network: Path, tmp_path: Path, kind: str) -> None:
    """A bundle runs without Lava and without a differing spike, on any number of threads."""
    bundle = tmp_path / "bundle"
    exported = run_json("export", "lava", network, "-o", bundle, "--samples", "5", "--schedule", kind)
    for threads in ("1", "2"):
        facts = run_json("simulate", bundle, "--engine", "native", "--threads", threads, "--samples", "4")
        assert (facts["engine"], facts["schedule"], facts["samples"]) == ("native", kind, 4)
        assert facts["hardware_timing"] is (kind == "scheduled")
        assert facts["spikes_compared"] == 4 * 4 * 3 * 4 * 6 * 6
        assert (facts["spikes_differing"], facts["readout_error"]) == (0, 0)
        assert facts["machine_steps"] == exported["machine_steps"] + 3 * exported["machine_steps_per_sample"]


def test_a_schedule_that_is_too_fast(run: Callable[..., Result], case: Case, tmp_path: Path) -> None:
    """Values that come late change spikes: exit code 1."""
    bundle = lowering.export(case.network, tmp_path / "bundle", case.x, schedule=too_fast(case.network.graph))
    result = run("simulate", bundle, "--engine", "native")
    assert result.exit_code == 1
    assert "native engine" in result.output
    assert " 0 spikes differ" not in result.output


def test_verify(run_json: Callable[..., Any], network: Path) -> None:
    """The engine is a back end like the others."""
    facts = run_json("verify", network, "--against", "native", "--samples", "3", "--threads", "2")
    (found,) = facts["backends"]
    assert (found["backend"], found["differing"], facts["passed"]) == ("native", 0, True)


def test_a_float_network(run_json: Callable[..., Any], float_network: Path, tmp_path: Path) -> None:
    """In float32 spikes may flip where rounding explains it, as with any back end."""
    facts = run_json("verify", float_network, "--against", "native", "--samples", "3")
    assert facts["passed"]
    bundle = tmp_path / "bundle"
    run_json("export", "lava", float_network, "-o", bundle, "--samples", "2")
    assert run_json("simulate", bundle, "--engine", "native")["exact"] is False
