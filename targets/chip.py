"""What a neuromorphic chip can hold: a TOML file of sourced limits, see `snndeploy.targets.document`.

Its `schema` is 1. Besides numbers it has rules, which are true or false:

    [rules.shared_kernels]
    value = true
    evidence = "datasheet"
    source = "..."
    conditions = "..."    # may be left out

A limit that is unpublished or left out is not checked. Every rule must be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from snndeploy.errors import FileFormatError
from snndeploy.targets import document as documents
from snndeploy.targets import quantity
from snndeploy.targets.document import Document, Form
from snndeploy.targets.quantity import Interval, Quantity, Statement, listed

FORM = Form(kind="chip", folder="chips", schema=1)

LIMITS: Mapping[str, str] = MappingProxyType(
    {
        "chip.cores": "cores",
        "core.neurons": "neurons",
        "core.memory": "B",  # of synapses, and with `rules.shared_memory` of neurons too
        "core.input_axons": "axons",  # source neurons whose spikes a core takes
        "core.output_axons": "axons",  # pairs of one of its neurons and a core that takes its spikes
        "synapse.weight_bits": "bit",  # sign included
        "synapse.delay": "machine steps",  # beyond the one that every synapse takes
        "neuron.state": "B",  # of a neuron that updates at every machine step
        "neuron.phased_state": "B",  # of one that updates once in several machine steps
        "mesh.columns": "tiles",
        "mesh.rows": "tiles",
        "mesh.tile": "cores",  # of one tile
        "time.step": "us",  # one machine step
    }
)
"""Unit of every number a chip can have, by name."""

RULES: Mapping[str, str] = MappingProxyType(
    {
        "rules.shared_kernels": "the neurons of a core share one copy of a convolution's kernel",
        "rules.shared_memory": "neuron states and synapses share a core's memory",
        "rules.own_thresholds": "the neurons of a core may have different thresholds",
        "rules.graded_input": "a message may carry a number",
        "rules.phased_neurons": "a neuron may update once in several machine steps",
    }
)
"""What every rule says when it is true, by name."""

_NEEDED = ("chip.cores", "core.neurons", "core.memory", "neuron.state", "time.step")
_POSITIVE = tuple(
    name for name in LIMITS if name not in ("synapse.delay", "neuron.state", "neuron.phased_state")
)


@dataclass(frozen=True, kw_only=True)
class Chip:
    """Limits by the names of `LIMITS`, rules by the names of `RULES`."""

    name: str
    notes: str
    limits: Mapping[str, Quantity]
    rules: Mapping[str, Statement]

    @property
    def step_time_us(self) -> Interval:
        """Duration of one machine step in microseconds; `limits["time.step"]` has its source and evidence."""
        amount = self.limits["time.step"].amount
        assert amount is not None  # noqa: S101 - a chip without one is not loaded
        return amount

    def limit(self, name: str) -> int | None:
        """A limit as a whole number; None if the chip has none or it is unpublished."""
        found = self.limits.get(name)
        return None if found is None or found.amount is None else int(found.amount.value)

    def allows(self, rule: str) -> bool:
        """Whether a rule of `RULES`, named without its prefix, holds."""
        return self.rules[f"rules.{rule}"].holds


def shipped() -> tuple[str, ...]:
    """Names of the chips that come with the package."""
    return documents.shipped(FORM)


def load(name_or_path: str | Path) -> Chip:
    """A shipped chip by name, or any chip from a file.

    Args:
        name_or_path: A name of `shipped()`, or a path: whatever is a Path, ends in .toml or has a separator.

    Raises:
        TargetError: There is no such chip or file; the message lists the shipped ones.
        FileFormatError: The file breaks a rule; the message names the key and the rule.
    """
    document = documents.read(name_or_path, FORM)
    tables = documents.terms(document, (*LIMITS, *RULES))
    limits = {name: _limit(document, name, table) for name, table in tables.items() if name in LIMITS}
    rules = {
        name: quantity.statement(f"{document.where}, {name}", table)
        for name, table in tables.items()
        if name in RULES
    }
    missing = tuple(name for name in RULES if name not in rules)
    missing += tuple(name for name in _NEEDED if name not in limits or limits[name].amount is None)
    if missing:
        raise FileFormatError(document.where, "must say more", remedy=f"add {listed(missing)}")
    return Chip(
        name=document.name,
        notes=document.notes,
        limits=MappingProxyType(limits),
        rules=MappingProxyType(rules),
    )


def _limit(document: Document, name: str, table: Mapping[str, Any]) -> Quantity:
    where = f"{document.where}, {name}"
    found = quantity.quantity(where, table, LIMITS[name])
    if found.amount is None or found.unit == "us":
        return found
    if found.amount.value != int(found.amount.value):
        raise FileFormatError(f"{where}.value", "must be a whole number", got=f"{found.amount.value:g}")
    if name in _POSITIVE and found.amount.value < 1:
        raise FileFormatError(f"{where}.value", "must be at least 1", got=f"{found.amount.value:g}")
    return found
