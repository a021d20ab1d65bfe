"""`snndeploy inspect`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

KEYS = {
    "neurons",
    "parameters",
    "spiking_layers",
    "psi_total",
    "ports",
    "backward_connections",
    "architectures",
    "initiation_interval",
    "machine_steps",
    "ops",
}


def test_resnet18(run_json: Callable[..., Any]) -> None:
    """ResNet-18 has 17 ports, 153 possible connections and 11 782 architectures of at most 2."""
    facts = run_json("inspect", "resnet18", "--input", "3x32x32", "--classes", "10")
    assert set(facts) >= KEYS
    assert facts["ports"] == facts["spiking_layers"] == 17
    assert facts["backward_connections"] == 153
    assert facts["architectures"] == 11_782
    assert facts["neurons"] == 557_056
    assert (facts["steps"], facts["initiation_interval"], facts["machine_steps"]) == (4, 1, 22)
    assert facts["psi_total"] == sum(op["psi"] or 0 for op in facts["ops"])
    assert facts["parameters"] == sum(op["parameters"] for op in facts["ops"]) == 11_173_962


def test_backward_connections_cost_machine_steps(run_json: Callable[..., Any]) -> None:
    """A connection over three ports makes II = 4; both orders of writing its delay are read."""
    facts = run_json("inspect", "resnet18", "--backward", "6:3", "--backward", "9:8:2", "--steps", "6")
    assert facts["backward"] == [[6, 3, 1], [9, 8, 2]]
    assert facts["initiation_interval"] == 4
    assert facts["machine_steps"] == 5 * 4 + 18 + 1


def test_nominal_fan_out_ignores_borders(run_json: Callable[..., Any]) -> None:
    """Equation 6 gives every neuron its full kernel, so it is never below the exact count without strides."""
    exact = run_json("inspect", "resnet8", "--input", "1x16x16")
    nominal = run_json("inspect", "resnet8", "--input", "1x16x16", "--psi", "nominal")
    assert (exact["psi"], nominal["psi"]) == ("exact", "nominal")
    first = {op["name"]: op["psi"] for op in nominal["ops"]}["stem.lif"]
    assert first == 16 * 16 * 16 * (16 * 9 + 1)  # the block's first conv and the identity skip
    assert nominal["psi_total"] > exact["psi_total"]


@pytest.mark.parametrize(
    ("backbone", "shape", "neurons", "layers", "nominal", "exact"),
    [
        ("resnet18_preact", "3x32x32", 671_744, 20, 553_730_048, 480_239_616),
        ("vgg11", "3x32x32", 249_856, 10, 827_367_424, 670_343_168),
        ("cnn7", "1x28x28", 35_496, 6, 30_992_400, 30_992_400),
    ],
)
def test_networks_of_the_penalty_paper(
    run_json: Callable[..., Any],
    backbone: str,
    shape: str,
    neurons: int,
    layers: int,
    nominal: int,
    exact: int,
) -> None:
    """Table 1 of Spiking Synaptic Penalty, as far as it follows from its table 5; docs/penalty.md tells the rest."""
    for mode, total in (("nominal", nominal), ("exact", exact)):
        facts = run_json("inspect", backbone, "--input", shape, "--psi", mode)
        assert facts["psi"] == mode
        assert facts["psi_total"] == pytest.approx(total, rel=1e-12)
        assert (facts["neurons"], facts["spiking_layers"]) == (neurons, layers)
        assert sum(op["psi"] or 0 for op in facts["ops"]) == pytest.approx(total, rel=1e-12)


def test_network_file(run_json: Callable[..., Any], network: Path) -> None:
    """A file brings its own steps and connections."""
    facts = run_json("inspect", network)
    assert facts["backward"] == [[2, 0, 1]]
    assert (facts["steps"], facts["initiation_interval"]) == (4, 3)


def test_table_and_drawing(run: Callable[..., Result], network: Path) -> None:
    """Without --json a table is printed; --draw gives a flowchart with the delayed edge dotted."""
    assert "initiation interval (scheduled)" in run("inspect", network).output
    drawing = run("inspect", network, "--draw").output
    assert drawing.startswith("flowchart TD")
    assert '-. "delay 1" .->' in drawing


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resnet99"], ["resnet99", "resnet18"]),
        (["resnet18", "--backward", "3:6"], ["3:6", "earlier", "6:3"]),
        (["resnet18", "--backward", "17:0"], ["17:0", "0 to 16"]),
        (["resnet18", "--backward", "5"], ["J:I"]),
        (["resnet18", "--backward", "5:2:4", "--steps", "4"], ["delay 4", "4 time steps"]),
        (["resnet18", "--backward", "5:2", "--backward", "5:2"], ["5:2", "already"]),
        (["resnet18", "--input", "3x0x32"], ["3x0x32"]),
        (["resnet8", "--input", "7"], ["map"]),
    ],
)
def test_bad_input(run: Callable[..., Result], arguments: list[str], words: list[str]) -> None:
    """Exit code 2 and a message that names what is wrong."""
    result = run("inspect", *arguments)
    assert result.exit_code == 2, result.output
    assert all(word in result.output for word in words), result.output
