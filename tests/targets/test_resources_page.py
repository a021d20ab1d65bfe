"""Numbers in docs/resources.md are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from snndeploy.backbones import backbone
from snndeploy.targets.chip import load
from snndeploy.targets.resources import map_onto, violations

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "resources.md").read_text(encoding="utf-8")
ROWS = re.findall(
    r"^\| `(\w+)`.*? \| `(\w+)` \| ([\d ]+) \| (\d+) \| ([\d ]+) \| (\d+) \|$", PAGE, re.MULTILINE
)


def test_the_table_was_found() -> None:
    """So that the test below tests something."""
    assert len(ROWS) == 6


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row[:2]))
def test_cores_of_backbones(row: tuple[str, ...]) -> None:
    """Cores, chips, the floor and the number of violations."""
    name, target, *numbers = row
    mapping = map_onto(backbone(name, (3, 32, 32), 10), load(target), duplicate_streams=True)
    found = [mapping.cores, mapping.chips, mapping.floor, len(violations(mapping))]
    assert found == [int(number.replace(" ", "")) for number in numbers]


def test_limits_of_the_shipped_chips() -> None:
    """The table of chips, where it gives numbers."""
    for label, limit in (
        ("cores of a chip", "chip.cores"),
        ("neurons of a core", "core.neurons"),
        ("memory of a core", "core.memory"),
        ("weight, sign included", "synapse.weight_bits"),
        ("extra delay of a synapse", "synapse.delay"),
        ("state of a neuron", "neuron.state"),
    ):
        (cells,) = re.findall(rf"^\| {label} \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
        for cell, name in zip(cells, ("loihi1", "loihi2"), strict=True):
            number = re.match(r"\d[\d ]*", cell)
            assert number is not None
            assert int(number[0].replace(" ", "")) == load(name).limit(limit)
