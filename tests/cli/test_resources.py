"""`snndeploy resources`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

KEYS = {
    "bound",
    "target",
    "network",
    "limits",
    "rules",
    "cores",
    "chips",
    "cores_at_least",
    "utilisation",
    "unchecked",
    "fits",
    "violations",
    "layers",
}


def test_resnet18_fits_a_loihi2(run_json: Callable[..., Any]) -> None:
    """119 of 128 cores, as a lower bound, and what was not checked is named."""
    facts = run_json("resources", "resnet18", "--target", "loihi2")
    assert set(facts) >= KEYS
    assert (facts["bound"], facts["target"], facts["network"]) == ("lower bound", "loihi2", "resnet18")
    assert (facts["cores"], facts["chips"], facts["cores_at_least"]) == (119, 1, 80)
    assert facts["cores"] == sum(layer["cores"] for layer in facts["layers"])
    assert facts["neurons"] == sum(layer["neurons"] for layer in facts["layers"]) == 557_056 + 10
    assert facts["synapses"] == sum(layer["synapses"] for layer in facts["layers"])
    assert facts["unchecked"] == ["core.input_axons", "core.output_axons"]
    assert facts["fits"]
    assert facts["violations"] == []
    assert facts["limits"]["core.memory"]["source"]


def test_resnet18_does_not_fit_a_loihi1(run: Callable[..., Result]) -> None:
    """The fan-in of 4608 is named with its remedy, and --strict turns that into exit code 1."""
    result = run("resources", "resnet18", "--target", "loihi1")
    assert result.exit_code == 0
    assert "a LOWER BOUND" in result.output
    assert (
        "stage4.2.lif1: a neuron takes spikes of 4608 others, and a core has 4096 input axons"
        in result.output
    )
    assert "at least 2 groups" in result.output
    strict = run("resources", "resnet18", "--target", "loihi1", "--strict", "--json")
    assert strict.exit_code == 1
    assert len(json.loads(strict.stdout)["violations"]) == result.output.count("does not fit:") == 5
    assert run("resources", "resnet18", "--target", "loihi2", "--strict").exit_code == 0


def test_a_network_file(run_json: Callable[..., Any], network: Path, float_network: Path) -> None:
    """Its own weights count: fewer bits than 8 if none is used, and its loop's phases."""
    facts = run_json("resources", network, "--target", "loihi1")
    assert {v["limit"] for v in facts["violations"]} >= {"rules.graded_input", "rules.phased_neurons"}
    assert facts["weight_bits"] <= 8
    assert facts["cores"] == len(facts["layers"])
    other = run_json("resources", float_network, "--target", "loihi2")
    assert (other["weight_bits"], other["state_bytes"], other["fits"]) == (8, 16, True)


def test_options_of_a_backbone(run_json: Callable[..., Any]) -> None:
    """Input, classes and backward connections are those of `inspect`."""
    small = run_json("resources", "resnet6", "--target", "loihi2", "--input", "1x8x8", "--classes", "3")
    assert small["layers"][-1]["neurons"] == 3
    assert small["state_bytes"] == 8
    loop = run_json(
        "resources",
        "resnet6",
        "--target",
        "loihi2",
        "--input",
        "1x8x8",
        "--classes",
        "3",
        "--backward",
        "4:1",
    )
    assert loop["synapses"] > small["synapses"]
    assert loop["state_bytes"] == 16


def test_analog_streams_are_duplicated_on_request(run: Callable[..., Result]) -> None:
    """Pre-activation blocks pass analog values on: refused by name, or computed anew in each user."""
    command = ("resources", "resnet18_preact", "--input", "3x8x8", "--target", "loihi2")
    refused = run(*command)
    assert refused.exit_code == 2
    assert "stem.conv" in refused.output
    assert "--duplicate-streams" in refused.output
    assert run(*command, "--duplicate-streams").exit_code == 0


def test_a_chip_of_ones_own(run_json: Callable[..., Any], tmp_path: Path) -> None:
    """A file like the shipped ones, with other numbers."""
    from importlib import resources

    text = (resources.files("snndeploy.targets") / "chips" / "loihi1.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("value = 1024\nlow = 1024", "value = 64\nlow = 64"))
    mine = run_json("resources", "resnet6", "--input", "1x8x8", "--target", path)
    assert all(layer["fullest_core"]["core.neurons"] <= 64 for layer in mine["layers"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet18",), "Missing option '--target'"),
        (("resnet18", "--target", "loihi9"), "choose one of loihi1, loihi2 or a file"),
        (("nothing", "--target", "loihi1"), "is neither a network file nor a backbone"),
        (("resnet6", "--target", "loihi1", "--backward", "x"), "must have the form J:I"),
    ],
)
def test_mistakes(run: Callable[..., Result], arguments: tuple[str, ...], message: str) -> None:
    """Exit code 2 and one line that says what to do."""
    result = run("resources", *arguments)
    assert result.exit_code == 2
    assert message in result.output
