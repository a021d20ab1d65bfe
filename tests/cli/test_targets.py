"""`snndeploy targets` and `snndeploy targets show`."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from snndeploy.targets import chip, profile


def shipped_text(name: str) -> str:
    """The file of a shipped profile."""
    return (resources.files("snndeploy.targets") / "profiles" / f"{name}.toml").read_text()


def test_the_list_has_every_profile(run: Callable[..., Result], run_json: Callable[..., Any]) -> None:
    """Name, kind, weakest evidence, unverified numbers and what is priced, as a table and as JSON."""
    facts = run_json("targets")
    assert [each["name"] for each in facts["profiles"]] == list(profile.shipped())
    assert facts["chips"] == list(chip.shipped())
    by_name = {each["name"]: each for each in facts["profiles"]}
    paper = by_name["paper-45nm"]
    assert paper["prices"] == ["energy.synop", "energy.mac"]
    assert (paper["kind"], paper["scope"], paper["evidence"]) == ("arithmetic", "per-term", "derived")
    assert (paper["unverified"], paper["unpublished"]) == (0, ["energy.neuron"])
    assert by_name["loihi2-style"]["prices"] == []
    output = run("targets").output
    rows = {line.split()[0]: line.split() for line in output.splitlines() if line.split()}
    for name, each in by_name.items():
        numbers = len(profile.load(name).prices)
        expected = [name, each["kind"], each["evidence"], str(each["unverified"]), "of", str(numbers)]
        assert rows[name][:6] == expected
    assert "chips, for `snndeploy resources` and `schedule`: loihi1, loihi2" in output


def test_show_has_every_number_with_its_source(run_json: Callable[..., Any]) -> None:
    """Value, range, unit, evidence, source, conditions, meaning, and whether it was verified."""
    facts = run_json("targets", "show", "loihi1-davies")
    found = profile.load("loihi1-davies")
    assert (facts["name"], facts["chip"], facts["first_layer"]) == ("loihi1-davies", "loihi1", "host")
    assert list(facts["numbers"]) == list(found.prices)
    synop = facts["numbers"]["energy.synop"]
    assert synop["amount"] == {"value": 23.6, "low": 23.6, "high": 35.4}
    assert (synop["unit"], synop["evidence"], synop["verified"]) == ("pJ", "simulated", True)
    assert synop["meaning"] == "a spike through one synapse: one accumulate"
    assert facts["numbers"]["energy.mac"]["amount"] is None
    assert facts["unverified"] == list(found.unverified)
    assert "energy.message" in facts["unverified"]
    assert facts["notes"] == found.notes


def test_json_may_stand_before_show(run: Callable[..., Result]) -> None:
    """`targets --json show NAME` is what `targets show NAME --json` is."""
    first, last = run("targets", "--json", "show", "truenorth"), run("targets", "show", "truenorth", "--json")
    assert json.loads(first.stdout) == json.loads(last.stdout)


@pytest.mark.parametrize("name", profile.shipped())
def test_show_marks_what_is_unverified_and_unpublished(run: Callable[..., Result], name: str) -> None:
    """Each number stands on a line of its own, and says so if it was not checked or is nobody's."""
    found = profile.load(name)
    lines = {line.split(": ")[0]: line for line in run("targets", "show", name).output.splitlines()}
    for term, price in found.prices.items():
        assert ("NOT VERIFIED" in lines[term]) == (not price.verified)
        assert ("unpublished" in lines[term]) == (price.amount is None)
        if price.amount is not None:
            assert f"({price.amount.low:.10g} to {price.amount.high:.10g}), {price.evidence}" in lines[term]


@pytest.mark.parametrize("columns", [1, 50, 100])
def test_text_is_as_wide_as_the_terminal(
    run: Callable[..., Result], columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sources and notes wrap; words are never cut, and nothing is lost."""
    monkeypatch.setenv("COLUMNS", str(columns))
    output = run("targets", "show", "paper-45nm").output
    words = " ".join(output.split())
    found = profile.load("paper-45nm")
    for text in (found.notes, *(price.source for price in found.prices.values())):
        assert " ".join(text.split()) in words
    assert max(map(len, output.splitlines())) <= max(columns, 50)  # a number stays on one line
    assert len(output.splitlines()) > 20


def test_a_file_is_a_target_too(
    run: Callable[..., Result], run_json: Callable[..., Any], network: Path, tmp_path: Path
) -> None:
    """`show` and `energy` take a path; twice the price of a synapse is twice the energy."""
    path = tmp_path / "mine.toml"
    text = shipped_text("paper-45nm").replace("paper-45nm", "mine")
    path.write_text(text.replace("value = 0.9", "value = 1.8"))
    assert run("targets", "show", path).output.startswith("mine\n")
    options = ("--samples", "2", "--data", "random")
    mine = run_json("energy", network, "--target", path, *options)
    paper = run_json("energy", network, "--target", "paper-45nm", *options)
    assert mine["target"] == "mine"
    assert mine["e_snn_pj"]["value"] == pytest.approx(2 * paper["e_snn_pj"]["value"])


def test_mistakes_exit_with_2(run: Callable[..., Result], network: Path, tmp_path: Path) -> None:
    """Unknown names list the shipped ones, broken files name key and rule; no traceback."""
    broken = tmp_path / "broken.toml"
    broken.write_text(shipped_text("paper-45nm").replace('unit = "pJ"', 'unit = "J"', 1))
    cases = {
        ("targets", "show", "abacus"): "choose one of cpu-raspberry-pi-5",
        ("targets", "show", tmp_path / "none.toml"): "cannot be read",
        ("targets", "show", broken): "energy.synop.unit: must be 'pJ', got 'J'",
        ("energy", network, "--target", broken): "energy.synop.unit: must be 'pJ', got 'J'",
        ("targets", "show", "loihi1"): "choose one of",
        ("targets", "shwo"): "No such command 'shwo'",
    }
    for arguments, message in cases.items():
        result = run(*arguments)
        assert result.exit_code == 2
        assert message in result.output
        assert "Traceback" not in result.output
