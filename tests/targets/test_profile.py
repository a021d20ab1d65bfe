"""Target profiles: what a valid file gives, and what each broken one says."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from snndeploy.errors import FileFormatError, SnnDeployError, TargetError
from snndeploy.targets import chip as chips
from snndeploy.targets import profile
from snndeploy.targets.profile import EVIDENCE, KINDS, TERMS, Interval, Kind

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
HEAD = """schema = 2
[target]
name = "chip"
kind = "event-driven"
scope = "per-term"
notes = "A chip."
[first_layer]
mode = "host"
"""
VALID = HEAD + SYNOP
SHIPPED = (
    "cpu-raspberry-pi-5",
    "generic-45nm-fp16-sram",
    "generic-45nm-fp32-sram",
    "generic-45nm-int8-sram",
    "gpu-a100",
    "gpu-h100",
    "gpu-h200",
    "jetson-orin-nano",
    "loihi1-davies",
    "loihi1-nahuku",
    "loihi2-style",
    "paper-45nm",
    "spinnaker2",
    "truenorth",
)


def number(name: str, value: float = 1, unit: str = "", more: str = "") -> str:
    """A number's table."""
    return (
        f'[{name}]\nvalue = {value}\nlow = {value}\nhigh = {value}\nunit = "{unit or TERMS[name].unit}"\n'
        f'evidence = "measured"\nsource = "a measurement"\n{more}\n'
    )


def of_kind(kind: str, text: str = VALID) -> str:
    """A profile of another kind."""
    return text.replace('"event-driven"', f'"{kind}"')


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
    assert (price.verified, chip.unverified, chip.unpublished, chip.evidence) == (True, (), (), "measured")
    assert (chip.kind, chip.scope, chip.first_layer, chip.chip) == ("event-driven", "per-term", "host", None)
    assert profile.load(str(tmp_path / "chip.toml")) == chip


def test_an_unverified_number_says_so(tmp_path: Path) -> None:
    """`verified = false` marks a number, and the profile lists it."""
    found = profile.load(written(tmp_path, VALID + "verified = false\n" + number("energy.mac")))
    assert found.unverified == ("energy.synop",)
    assert found.prices["energy.mac"].verified


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_terms_and_no_other(kind: Kind, tmp_path: Path) -> None:
    """A profile may have each term of its kind in its unit; each other term is refused with those it may have."""
    head = of_kind(kind, HEAD)
    for name, term in TERMS.items():
        path = written(tmp_path, head + number(name))
        if kind in term.kinds:
            assert set(profile.load(path).prices) == {name}
            with pytest.raises(FileFormatError, match=f"{name}.unit: must be '{term.unit}', got 'kWh'"):
                profile.load(written(tmp_path, head + number(name, unit="kWh")))
        else:
            with pytest.raises(FileFormatError, match=f"{name}: is no term of kind {kind}; its terms are "):
                profile.load(path)
    assert any(kind in term.kinds for term in TERMS.values())


def test_an_all_in_price_covers_the_others(tmp_path: Path) -> None:
    """With scope "all-in" a price of neurons, messages, memory or power is refused; times and synapses stay."""
    covered = {name for name in TERMS if name.startswith(("energy.", "power."))} - {
        "energy.synop",
        "energy.mac",
    }
    for kind in KINDS:
        head = of_kind(kind, HEAD).replace("per-term", "all-in")
        for name in (name for name, term in TERMS.items() if kind in term.kinds):
            path = written(tmp_path, head + number(name))
            if name in covered:
                with pytest.raises(
                    FileFormatError, match=f"{name}: is part of what an all-in price covers; drop"
                ):
                    profile.load(path)
            else:
                assert profile.load(path).scope == "all-in"


def test_a_chip_is_shipped_or_lies_beside_the_profile(tmp_path: Path) -> None:
    """`chip` names one of the package, or a file next to the profile's own."""
    named = VALID.replace("scope", 'chip = "loihi2"\nscope')
    assert profile.load(written(tmp_path, named)).chip == chips.load("loihi2")
    text = (resources.files("snndeploy.targets") / "chips" / "loihi1.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace('name = "loihi1"', 'name = "mine"'))
    found = profile.load(written(tmp_path, named.replace("loihi2", "mine.toml"))).chip
    assert found is not None
    assert found.name == "mine"


def test_a_neuron_has_one_price_or_two(tmp_path: Path) -> None:
    """One for every update, or one for the visit and one for a driven update; both at once would charge twice."""
    parts = number("energy.neuron.access", 2) + number("energy.neuron.update", 3)
    assert set(profile.load(written(tmp_path, HEAD + parts)).prices) == {
        "energy.neuron.access",
        "energy.neuron.update",
    }
    assert set(profile.load(written(tmp_path, HEAD + number("energy.neuron"))).prices) == {"energy.neuron"}
    with pytest.raises(FileFormatError, match=r"energy.neuron: must be one number or its parts, not both"):
        profile.load(written(tmp_path, HEAD + number("energy.neuron") + parts))


def test_a_price_of_zero_has_no_range(tmp_path: Path) -> None:
    """Nothing may cost nothing, but a range of possible prices starts above 0."""
    zero = profile.load(written(tmp_path, HEAD + number("energy.spike", 0))).prices["energy.spike"]
    assert zero.amount == Interval(0.0, 0.0, 0.0)


def test_an_unpublished_value_is_a_price_without_amount(tmp_path: Path) -> None:
    """`value = "unpublished"` needs a source, but no range."""
    text = '\n[energy.neuron]\nvalue = "unpublished"\nunit = "pJ"\nevidence = "unpublished"\nsource = "searched"\n'
    assert profile.load(written(tmp_path, VALID + text)).prices["energy.neuron"].amount is None


def test_every_shipped_profile_loads_under_its_own_name() -> None:
    """Shipped profiles are found inside the package, a file is named as its target, no chip is among them."""
    assert profile.shipped() == SHIPPED
    for name in SHIPPED:
        found = profile.load(name)
        assert found.name == name
        assert found.prices
        assert all(price.source and price.evidence in EVIDENCE for price in found.prices.values())
    assert {profile.load(name).kind for name in SHIPPED} == set(KINDS)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_was_not_checked_is_marked(name: str) -> None:
    """Shipped numbers that say that they were read at second hand or not checked are not verified."""
    for term, price in profile.load(name).prices.items():
        doubt = re.search(
            "second hand|not checked|by way of|a vendor's figure", price.source + price.conditions
        )
        assert price.verified == (doubt is None) or (price.verified is False and doubt is None), term
        if doubt:
            assert not price.verified, term


@pytest.mark.parametrize("name", SHIPPED)
def test_ranges_of_shipped_numbers_say_what_they_are(name: str) -> None:
    """Wherever low and high differ from the value, the conditions say why."""
    for term, price in profile.load(name).prices.items():
        amount = price.amount
        if amount is not None and amount.low < amount.value:
            assert re.search(r"\blow\b", price.conditions), term
        if amount is not None and amount.high > amount.value:
            assert re.search(r"\bhigh\b", price.conditions), term


def test_the_same_constant_is_the_same_in_every_profile() -> None:
    """Numbers with one source agree where profiles share them, so that draws of them can be shared."""
    davies, nahuku = profile.load("loihi1-davies"), profile.load("loihi1-nahuku")
    assert davies.chip == nahuku.chip == chips.load("loihi1")
    for name in ("power.static", "power.fixed"):
        assert davies.prices[name] == nahuku.prices[name]
    formats = [profile.load(f"generic-45nm-{name}-sram") for name in ("fp32", "fp16", "int8")]
    for term in ("energy.sram.8k", "energy.sram.32k", "energy.sram.1m", "energy.dram"):
        assert len({found.prices[term] for found in formats}) == 1


def test_shipped_numbers() -> None:
    """The figures that their sources have, and what has none."""
    values = {
        ("generic-45nm-fp32-sram", "energy.mac"): 4.6,
        ("generic-45nm-fp16-sram", "energy.mac"): 1.5,
        ("generic-45nm-int8-sram", "energy.mac"): 0.23,
        ("generic-45nm-int8-sram", "energy.sram.1m"): 100,
        ("loihi1-davies", "energy.synop"): 23.6,
        ("loihi1-davies", "power.fixed"): 0.07645,
        ("loihi1-nahuku", "energy.message"): 111,
        ("truenorth", "energy.synop"): 26,
        ("gpu-a100", "peak.compute"): 19_500,
        ("gpu-h100", "memory.bandwidth"): 3350,
        ("gpu-h200", "memory.bandwidth"): 4800,
        ("jetson-orin-nano", "peak.compute"): 1280,
    }
    for (name, term), value in values.items():
        amount = profile.load(name).prices[term].amount
        assert amount is not None
        assert amount.value == value
    davies = [
        profile.load("loihi1-davies").prices[f"energy.neuron.{part}"].amount for part in ("access", "update")
    ]
    assert sum(a.value for a in davies if a) == 81  # an active neuron
    assert profile.load("truenorth").scope == "all-in"
    loihi2 = profile.load("loihi2-style")
    assert loihi2.unpublished == tuple(loihi2.prices)
    assert loihi2.evidence == "unpublished"


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
    "no schema": (VALID.replace("schema = 2", ""), "schema: must be 2, got None"),
    "older schema": (VALID.replace("schema = 2", "schema = 1"), "schema: must be 2, got 1"),
    "newer schema": (VALID.replace("schema = 2", "schema = 3"), "schema: must be 2, got 3"),
    "true schema": (VALID.replace("schema = 2", "schema = true"), "schema: must be 2, got True"),
    "no target": ("schema = 2\n" + SYNOP, "target: must be a table"),
    "target no table": ("schema = 2\ntarget = 3\n", "target: must be a table, got 3"),
    "no kind": (
        VALID.replace('kind = "event-driven"', ""),
        "target.kind: must be one of arithmetic, memory, event-driven, dense, got None",
    ),
    "unknown kind": (of_kind("analog"), "target.kind: must be one of arithmetic, .*got 'analog'"),
    "kind no text": (VALID.replace('"event-driven"', "[]"), r"target.kind: must be one of .*got \[\]"),
    "no scope": (VALID.replace('scope = "per-term"', ""), "target.scope: must be one of per-term, all-in"),
    "unknown scope": (VALID.replace("per-term", "total"), "target.scope: must be one of .*got 'total'"),
    "unknown chip": (
        VALID.replace("scope", 'chip = "loihi3"\nscope'),
        "target.chip: must be a chip that loads, got .*loihi3.* choose one of loihi1, loihi2",
    ),
    "chip file missing": (
        VALID.replace("scope", 'chip = "nowhere.toml"\nscope'),
        "target.chip: must be a chip that loads, got .*nowhere.toml",
    ),
    "chip no text": (VALID.replace("scope", "chip = 3\nscope"), "target.chip: must name a chip"),
    "chip of another kind": (
        of_kind("memory", VALID).replace("scope", 'chip = "loihi2"\nscope'),
        "target.chip: is for event-driven targets, got kind 'memory'",
    ),
    "step of chip and profile": (
        VALID.replace("scope", 'chip = "loihi2"\nscope') + number("time.step"),
        "time.step: is the chip's to say; drop it, or drop target.chip",
    ),
    "no first layer": (
        VALID.replace('[first_layer]\nmode = "host"\n', ""),
        "first_layer: must be a table, got nothing; add .first_layer. with mode = one of cached, recompute",
    ),
    "first layer no table": (
        VALID.replace('[first_layer]\nmode = "host"\n', "").replace("[target]", "first_layer = 3\n[target]"),
        "first_layer: must be a table, got a int",
    ),
    "unknown first layer": (
        VALID.replace('"host"', '"free"'),
        "first_layer.mode: must be one of cached, recompute, spike-encoded, host, got 'free'",
    ),
    "first layer without mode": (VALID.replace("mode =", "mood ="), "first_layer.mood: is no known key"),
    "verified no boolean": (VALID + 'verified = "no"\n', "synop.verified: must be true or false, got 'no'"),
    "low of zero": (
        VALID.replace("low = 1.5", "low = 0"),
        "synop.low: must be above 0 unless the whole range",
    ),
    "no time": (HEAD + number("time.step", 0), "time.step.low: must be above 0"),
    "more than all": (
        of_kind("dense", HEAD) + number("efficiency.memory", 1.1),
        "efficiency.memory.high: must be at most 1, got 1.1",
    ),
    "half a bit": (of_kind("dense", HEAD) + number("bits.state", 1.5), "bits.state: must be whole bits"),
    "no name": (VALID.replace('name = "chip"', ""), "target.name: must say something"),
    "unknown target key": (
        VALID.replace("notes", "note"),
        "target.note: is no known key; the keys are name, notes, kind, scope, chip",
    ),
    "unknown section": (
        VALID + "[enrgy]\n",
        f"enrgy: is no known term; the terms are schema, target, first_layer, .*{'.*'.join(TERMS)}",
    ),
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
        "an unpublished value has no low, high and verified",
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


@pytest.mark.parametrize("name", ["loihi1-nahuku", "generic-45nm-int8-sram", "gpu-h200", "truenorth"])
def test_a_shipped_file_without_one_line_raises_only_our_errors(name: str, tmp_path: Path) -> None:
    """Any single line dropped, a file either loads or is refused by name; most lines are needed."""
    text = (resources.files("snndeploy.targets") / "profiles" / f"{name}.toml").read_text()
    lines = [line for line in text.splitlines() if line]
    refused = 0
    for index in range(len(lines)):
        path = written(tmp_path, "\n".join(lines[:index] + lines[index + 1 :]))
        try:
            profile.load(path)
        except FileFormatError:
            refused += 1
    assert refused > len(lines) / 2


def test_the_example_of_the_documentation_loads(tmp_path: Path) -> None:
    """The complete file in docs/targets.md is a profile, and the page names every shipped one and every term."""
    page = (Path(__file__).parents[2] / "docs" / "targets.md").read_text()
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    found = profile.load(written(tmp_path, text))
    assert found.name == "my-chip"
    assert found.chip == chips.load("loihi2")
    assert found.unpublished == ("energy.mac",)
    assert found.unverified == ("energy.neuron",)
    for name in (*SHIPPED, *TERMS):
        assert f"`{name}`" in page
