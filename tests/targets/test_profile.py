"""Target profiles: what a valid file gives, and what each broken one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from snndeploy.errors import FileFormatError, SnnDeployError, TargetError
from snndeploy.targets import profile
from snndeploy.targets.profile import EVIDENCE, TERMS, Interval

SYNOP = """
[energy.synop]
value = 2
low = 1.5
high = 4
unit = "pJ"
source = "a measurement"
evidence = "measured"
conditions = "8-bit weights"
"""
VALID = 'schema = 1\n[target]\nname = "chip"\nnotes = "A chip."\n' + SYNOP


def written(folder: Path, text: str | bytes) -> Path:
    """A profile file with that content."""
    path = folder / "chip.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_valid_file_gives_its_prices(tmp_path: Path) -> None:
    """Numbers, whole or not, come with range, unit, source, evidence and conditions."""
    chip = profile.load(written(tmp_path, VALID))
    assert (chip.name, chip.notes) == ("chip", "A chip.")
    price = chip.prices["energy.synop"]
    assert price.amount == Interval(2.0, 1.5, 4.0)
    assert (price.unit, price.source, price.evidence) == ("pJ", "a measurement", "measured")
    assert price.conditions == "8-bit weights"
    assert set(chip.prices) == {"energy.synop"}
    assert profile.load(str(tmp_path / "chip.toml")) == chip


def test_an_unpublished_value_is_a_price_without_amount(tmp_path: Path) -> None:
    """`value = "unpublished"` needs a source, but no range."""
    text = '\n[energy.neuron]\nvalue = "unpublished"\nunit = "pJ"\nevidence = "unpublished"\nsource = "searched"\n'
    assert profile.load(written(tmp_path, VALID + text)).prices["energy.neuron"].amount is None


def test_every_shipped_profile_loads_under_its_own_name() -> None:
    """Shipped profiles are found inside the package, and a file is named as its target."""
    assert "paper-45nm" in profile.shipped()
    for name in profile.shipped():
        assert profile.load(name).name == name


def test_paper_profile_has_the_published_prices() -> None:
    """0.9 pJ for each accumulate and 3.7 + 0.9 pJ for each multiply-accumulate, neurons unpriced."""
    paper = profile.load("paper-45nm")
    assert paper.prices["energy.synop"].amount == Interval(0.9, 0.03, 5.9)
    assert paper.prices["energy.mac"].amount == Interval(4.6, 0.23, 9.6)
    assert paper.prices["energy.neuron"].amount is None
    assert all(price.source and price.evidence in EVIDENCE for price in paper.prices.values())


@pytest.mark.parametrize("name", ["loihi9", "", "paper-45NM", "profile"])
def test_an_unknown_name_lists_the_shipped_profiles(name: str) -> None:
    """A name that is none of them is refused with the choice there is."""
    with pytest.raises(TargetError, match=r"is not known; choose one of .*paper-45nm"):
        profile.load(name)


@pytest.mark.parametrize("path", ["nowhere.toml", "no/where", "."])
def test_an_unreadable_file_is_named(path: str, tmp_path: Path) -> None:
    """A missing file or a folder is an error that says which and why."""
    with pytest.raises(TargetError, match=r"cannot be read, got .*choose a readable file, or one of"):
        profile.load(tmp_path / path)


BROKEN: dict[str, tuple[str | bytes, str]] = {
    "no TOML": ("schema = ", "must be TOML"),
    "not UTF-8": (b"\xff\xfe", "must be TOML"),
    "nested too deeply": ("schema = " + "[" * 100_000, "must be TOML"),
    "no schema": (VALID.replace("schema = 1", ""), "schema: must be 1, got None"),
    "newer schema": (VALID.replace("schema = 1", "schema = 2"), "schema: must be 1, got 2"),
    "true schema": (VALID.replace("schema = 1", "schema = true"), "schema: must be 1, got True"),
    "no target": ("schema = 1\n" + SYNOP, "target: must be a table"),
    "target no table": ("schema = 1\ntarget = 3\n", "target: must be a table, got 3"),
    "no name": (VALID.replace('name = "chip"', ""), "target.name: must say something"),
    "unknown target key": (
        VALID.replace("notes", "note"),
        "target.note: is no known key; the keys are name, notes",
    ),
    "unknown section": (VALID + "[enrgy]\n", f"enrgy: is no known term; the terms are .*{'.*'.join(TERMS)}"),
    "unknown term": (VALID + "[energy.synpo]\n", "energy.synpo: is no known term; the terms are"),
    "quoted path": (VALID + '["energy.mac"]\n', "energy.mac: is no known term"),
    "bare number": (VALID + "[energy]\nmac = 4.6\n", "must be a table|must be TOML"),
    "section no table": ("energy = 3\n" + VALID.replace(SYNOP, ""), "energy: must be a table, got 3"),
    "unknown key": (
        VALID + "error = 2\n",
        "energy.synop.error: is no known key; the keys are value, low, high",
    ),
    "no source": (VALID.replace('source = "a measurement"', ""), "synop.source: must say something"),
    "empty source": (VALID.replace("a measurement", " "), "synop.source: must say something, got ' '"),
    "source no text": (VALID.replace('"a measurement"', "3"), "synop.source: must say something, got 3"),
    "no evidence": (VALID.replace('evidence = "measured"', ""), "synop.evidence: must say something"),
    "unknown evidence": (
        VALID.replace('"measured"', '"heard"'),
        "must be one of measured, fitted, .*'heard'",
    ),
    "other unit": (VALID.replace('"pJ"', '"nJ"'), "synop.unit: must be 'pJ', got 'nJ'"),
    "empty conditions": (VALID.replace("8-bit weights", ""), "synop.conditions: must say something"),
    "no value": (
        VALID.replace("value = 2", ""),
        "synop.value: must be a finite number of at least 0, got None",
    ),
    "no low": (VALID.replace("low = 1.5", ""), "synop.low: must be a finite number"),
    "low above value": (
        VALID.replace("low = 1.5", "low = 2.5"),
        "low <= value <= high must hold, got 2.5, 2, 4",
    ),
    "high below value": (VALID.replace("high = 4", "high = 1.9"), "low <= value <= high must hold"),
    "infinite": (VALID.replace("high = 4", "high = inf"), "synop.high: must be a finite number"),
    "not a number": (VALID.replace("value = 2", "value = nan"), "synop.value: must be a finite number"),
    "negative": (
        VALID.replace("low = 1.5", "low = -1"),
        "synop.low: must be a finite number of at least 0, got -1",
    ),
    "boolean": (VALID.replace("value = 2", "value = true"), "synop.value: must be a finite number"),
    "text": (VALID.replace("value = 2", 'value = "2"'), "synop.value: must be a finite number"),
    "too large": (VALID.replace("high = 4", "high = 0x" + "f" * 9000), "synop.high: must be a finite number"),
    "absurd": (VALID.replace("high = 4", "high = 1e308"), "synop.high: must be at most 1e\\+12"),
    "too many digits": (VALID.replace("high = 4", "high = " + "9" * 9000), "must be"),
    "published as unpublished": (VALID.replace('"measured"', '"unpublished"'), "must both be 'unpublished'"),
    "unpublished as published": (
        VALID.replace("value = 2", 'value = "unpublished"'),
        "must both be 'unpublished'",
    ),
    "unpublished with a range": (
        VALID.replace("value = 2", 'value = "unpublished"').replace('"measured"', '"unpublished"'),
        "an unpublished value has no low and high",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_says_which_key_and_which_rule(case: str, tmp_path: Path) -> None:
    """Each rule of the format, broken once: the message names the file, the key and the rule."""
    text, message = BROKEN[case]
    path = written(tmp_path, text)
    with pytest.raises(FileFormatError, match=message) as error:
        profile.load(path)
    assert error.value.where.startswith(str(path))


def test_truncated_files_raise_only_our_errors(tmp_path: Path) -> None:
    """Cut anywhere, a profile either loads or raises an error of ours."""
    refused = 0
    for end in range(len(VALID)):
        path = written(tmp_path, VALID[:end])
        try:
            profile.load(path)
        except SnnDeployError:
            refused += 1
    assert refused > len(VALID) / 2
