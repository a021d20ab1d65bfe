"""Chip files: what the shipped ones say, and what each broken one is refused for."""

from __future__ import annotations

from pathlib import Path

import pytest

from snndeploy.errors import FileFormatError, SnnDeployError, TargetError
from snndeploy.targets import chip, profile
from snndeploy.targets.chip import LIMITS, RULES
from snndeploy.targets.quantity import EVIDENCE, Interval, Quantity, Statement

NEEDED = {"chip.cores": 4, "core.neurons": 100, "core.memory": 1000, "neuron.state": 8, "time.step": 1.5}


def number(name: str, value: float) -> str:
    """A limit's table."""
    return (
        f'[{name}]\nvalue = {value}\nlow = {value}\nhigh = {value}\nunit = "{LIMITS[name]}"\n'
        f'evidence = "measured"\nsource = "a measurement"\n'
    )


def rule(name: str, value: str = "true") -> str:
    """A rule's table."""
    return f'[{name}]\nvalue = {value}\nevidence = "assumed"\nsource = "a guess"\n'


HEAD = 'schema = 1\n[target]\nname = "tiny"\nnotes = "A chip."\n'
VALID = HEAD + "".join(number(n, v) for n, v in NEEDED.items()) + "".join(rule(n) for n in RULES)


def written(folder: Path, text: str) -> Path:
    """A chip file with that content."""
    path = folder / "tiny.toml"
    path.write_text(text)
    return path


def test_a_valid_file_gives_limits_and_rules(tmp_path: Path) -> None:
    """Numbers by name with their sources, and what is not there is not limited."""
    found = chip.load(written(tmp_path, VALID.replace("value = true", "value = false", 1)))
    assert (found.name, found.notes) == ("tiny", "A chip.")
    assert found.limit("core.neurons") == 100
    assert found.limit("core.input_axons") is None
    assert found.step_time_us == Interval(1.5, 1.5, 1.5)
    assert found.limits["time.step"].source == "a measurement"
    assert not found.allows("shared_kernels")
    assert found.allows("graded_input")
    assert found.rules["rules.graded_input"].source == "a guess"
    assert chip.load(str(tmp_path / "tiny.toml")) == found


def test_an_unpublished_limit_is_none(tmp_path: Path) -> None:
    """It needs a source all the same."""
    text = '[core.input_axons]\nvalue = "unpublished"\nunit = "axons"\nevidence = "unpublished"\nsource = "searched"\n'
    assert chip.load(written(tmp_path, VALID + text)).limit("core.input_axons") is None


def test_shipped_chips_have_a_source_for_everything() -> None:
    """They load under their names, no prices are among them, and what is unchecked says so."""
    assert chip.shipped() == ("loihi1", "loihi2")
    assert not set(chip.shipped()) & set(profile.shipped())
    for name in chip.shipped():
        found = chip.load(name)
        assert found.name == name
        assert set(found.rules) == set(RULES)
        entries: list[Quantity | Statement] = [*found.limits.values(), *found.rules.values()]
        for entry in entries:
            assert entry.source
            assert entry.evidence in EVIDENCE
            if "echnology brief" in entry.source:  # read at second hand only
                assert entry.evidence == "assumed"


def test_shipped_limits() -> None:
    """The numbers that mappings rest on."""
    one, two = chip.load("loihi1"), chip.load("loihi2")
    assert {name: one.limit(name) for name in list(LIMITS)[:7]} == {
        "chip.cores": 128,
        "core.neurons": 1024,
        "core.memory": 2**17,
        "core.input_axons": 4096,
        "core.output_axons": 4096,
        "synapse.weight_bits": 9,
        "synapse.delay": 62,
    }
    assert {name: two.limit(name) for name in list(LIMITS)[:9]} == {
        "chip.cores": 128,
        "core.neurons": 8192,
        "core.memory": 192 * 1024,
        "core.input_axons": None,
        "core.output_axons": None,
        "synapse.weight_bits": 8,
        "synapse.delay": 62,
        "neuron.state": 8,
        "neuron.phased_state": 16,
    }
    assert [one.allows(name.removeprefix("rules.")) for name in RULES] == [False] * 5
    assert [two.allows(name.removeprefix("rules.")) for name in RULES] == [True] * 5
    for found in (one, two):
        mesh = [found.limit(f"mesh.{part}") for part in ("columns", "rows", "tile")]
        assert mesh == [8, 4, 4]
        assert found.step_time_us.low < 1 < found.step_time_us.value < found.step_time_us.high == 870


def test_an_unknown_chip_lists_the_shipped_ones() -> None:
    """Prices are no chips."""
    for name in ("loihi3", "paper-45nm", ""):
        with pytest.raises(TargetError, match="is not known; choose one of loihi1, loihi2 or a file"):
            chip.load(name)
    with pytest.raises(TargetError, match="cannot be read"):
        chip.load(Path("nowhere"))


BROKEN = {
    "no schema": (VALID.replace("schema = 1", ""), "schema: must be 1"),
    "a rule missing": (
        VALID.replace(rule("rules.graded_input"), ""),
        "must say more; add rules.graded_input",
    ),
    "a limit missing": (VALID.replace(number("core.neurons", 100), ""), "must say more; add core.neurons"),
    "a needed limit unpublished": (
        VALID.replace(
            number("core.memory", 1000),
            '[core.memory]\nvalue = "unpublished"\nunit = "B"\nevidence = "unpublished"\nsource = "searched"\n',
        ),
        "must say more; add core.memory",
    ),
    "unknown limit": (
        VALID + "[core.luck]\n",
        "core.luck: is no known term; the terms are schema, target, chip.cores",
    ),
    "other unit": (
        VALID.replace('"neurons"', '"cores"'),
        "core.neurons.unit: must be 'neurons', got 'cores'",
    ),
    "limit without source": (
        VALID.replace('source = "a measurement"\n', "", 1),
        "chip.cores.source: must say something",
    ),
    "half a core": (
        VALID.replace(number("chip.cores", 4), number("chip.cores", 4.5)),
        "must be a whole number, got 4.5",
    ),
    "no cores": (
        VALID.replace(number("chip.cores", 4), number("chip.cores", 0)),
        "chip.cores.value: must be at least 1",
    ),
    "rule without source": (
        VALID.replace('source = "a guess"\n', "", 1),
        "rules.shared_kernels.source: must say",
    ),
    "rule without evidence": (VALID.replace('"assumed"', '"heard"', 1), "must be one of measured, fitted"),
    "rule without value": (
        VALID.replace("value = true\n", "", 1),
        "rules.shared_kernels.value: must be true or false, got None",
    ),
    "rule of numbers": (VALID.replace("value = true", "value = 1", 1), "must be true or false, got 1"),
    "rule with a unit": (
        VALID.replace("value = true", 'value = true\nunit = "B"', 1),
        "rules.shared_kernels.unit: is no known key",
    ),
    "rule no table": (HEAD + "[rules]\nshared_kernels = true\n", "rules.shared_kernels: must be a table"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_says_which_key_and_which_rule(case: str, tmp_path: Path) -> None:
    """Each rule of the format, broken once."""
    text, message = BROKEN[case]
    path = written(tmp_path, text)
    with pytest.raises(FileFormatError, match=message) as error:
        chip.load(path)
    assert error.value.where.startswith(str(path))


def test_truncated_files_raise_only_our_errors(tmp_path: Path) -> None:
    """Cut anywhere, a chip's file either loads or raises an error of ours."""
    refused = 0
    for end in range(0, len(VALID), 7):
        path = written(tmp_path, VALID[:end])
        try:
            chip.load(path)
        except SnnDeployError:
            refused += 1
    assert refused > len(VALID) / 7 - 5
