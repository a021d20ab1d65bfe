"""What a target charges for each kind of work: a TOML file of sourced numbers, see `snndeploy.targets.quantity`.

Work whose price is unpublished, or left out, stays unpriced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from snndeploy.targets import quantity
from snndeploy.targets.quantity import EVIDENCE, SCHEMA, Interval, Quantity

__all__ = ["EVIDENCE", "SCHEMA", "TERMS", "Interval", "Price", "TargetProfile", "load", "shipped"]

Price: TypeAlias = Quantity
"""What one unit of work costs."""

TERMS: Mapping[str, str] = MappingProxyType(
    {
        "energy.synop": "pJ",  # a spike through one synapse: one accumulate
        "energy.mac": "pJ",  # an analog value through one connection: one multiply-accumulate
        "energy.neuron": "pJ",  # one update of one neuron
    }
)
"""Unit of every term that a profile can price, by name."""


@dataclass(frozen=True, kw_only=True)
class TargetProfile:
    """A target's prices, by the names of `TERMS`; a term it leaves out is unpriced."""

    name: str
    notes: str
    prices: Mapping[str, Price]


def shipped() -> tuple[str, ...]:
    """Names of the profiles that come with the package."""
    return quantity.shipped("")


def load(name_or_path: str | Path) -> TargetProfile:
    """A shipped profile by name, or any profile from a file.

    Args:
        name_or_path: A name of `shipped()`, or a path: whatever is a Path, ends in .toml or has a separator.

    Raises:
        TargetError: There is no such profile or file; the message lists the shipped ones.
        FileFormatError: The file breaks a rule; the message names the key and the rule.
    """
    document = quantity.read(name_or_path, "profile", "")
    tables = quantity.terms(document, tuple(TERMS))
    prices = {
        name: quantity.quantity(f"{document.where}, {name}", table, TERMS[name])
        for name, table in tables.items()
    }
    return TargetProfile(name=document.name, notes=document.notes, prices=MappingProxyType(prices))
