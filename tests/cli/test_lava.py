"""`snndeploy export lava` and `simulate`: forms, schedules and number formats, and what they cannot do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from snndeploy import ir
from snndeploy.ir.timing import pipelined_delays
from tests.strategies import Case


@pytest.fixture
def loihi(case: Case, tmp_path: Path) -> Path:
    """The file of the network in the loihi format."""
    path = tmp_path / "loihi.snn.safetensors"
    ir.save(ir.quantize(case.original, case.x, format="loihi").network, path)
    return path


@pytest.mark.lava
@pytest.mark.usefixtures("lava_interpreter")
@pytest.mark.parametrize(("kind", "steps"), [("scheduled", 3 * 3 + 4 + 1), ("synchronous", 4)])
def test_schedules(
    kind: str,
    steps: int,
    run: Callable[..., Result],
    run_json: Callable[..., Any],
    loihi: Path,
    tmp_path: Path,
) -> None:
    """A loihi network is exported and simulated without a differing spike; every report says how."""
    bundle = tmp_path / "bundle"
    arguments = ("export", "lava", loihi, "-o", bundle, "--samples", "2", "--schedule", kind)
    exported, text = run_json(*arguments), run(*arguments).stdout
    simulated = run_json("simulate", bundle)
    for facts in (exported, simulated):
        assert (facts["form"], facts["number_format"], facts["schedule"]) == ("fused", "loihi", kind)
        assert (facts["hardware_timing"], facts["exact"]) == (kind != "synchronous", True)
    assert exported["machine_steps"] == steps
    assert (simulated["spikes_differing"], simulated["readout_error"]) == (0, 0)
    assert simulated["machine_steps"] == steps + exported["machine_steps_per_sample"]
    for said in (text, run("simulate", bundle).stdout):
        assert f"fused form, loihi, schedule {kind}" in said
        assert ("CPU only, no hardware timing" in said) == (kind == "synchronous")


def test_a_pipeline_that_the_delays_do_not_allow(
    run: Callable[..., Result], network: Path, tmp_path: Path
) -> None:
    """The error names the cycle and the delay that would do; nothing is written."""
    result = run("export", "lava", network, "-o", tmp_path / "bundle", "--schedule", "pipelined")
    assert result.exit_code == 2
    (delay,) = pipelined_delays(ir.load(network).graph).values()
    assert "3 synapses and a total delay of 1" in result.output
    assert f"needs {delay}" in result.output
    assert not (tmp_path / "bundle").exists()


def test_uncertified_loihi_networks_are_refused(
    run: Callable[..., Result], loihi: Path, tmp_path: Path
) -> None:
    """The error names the layer and its bound, and nothing is written."""
    network = ir.load(loihi)
    bias = next(name for name in network.weights if name.endswith(".bias"))
    assert isinstance(network.format, ir.Loihi)
    large = 2.0 ** (23 - np.asarray(network.format.exponents[bias]))
    weights = {**network.weights, bias: large}
    ir.save(replace(network, weights=weights), loihi)
    result = run("export", "lava", loihi, "-o", tmp_path / "bundle")
    assert result.exit_code == 2
    assert "cannot be lowered to Lava in the loihi format" in result.output
    assert not (tmp_path / "bundle").exists()


def test_a_form_that_does_not_apply(run: Callable[..., Result], network: Path, tmp_path: Path) -> None:
    """Lava's own processes compute in the loihi format only."""
    result = run("export", "lava", network, "-o", tmp_path / "bundle", "--form", "stock")
    assert result.exit_code == 2
    assert "loihi" in result.output
    assert not (tmp_path / "bundle").exists()
