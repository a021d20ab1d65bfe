"""What a target charges for each kind of work: a TOML file of sourced numbers, see `snndeploy.targets.document`.

    schema = 2

    [target]
    name = "my-chip"
    kind = "event-driven"     # which model prices it, see `Kind`
    scope = "per-term"        # or "all-in": its prices already cover neurons, messages, memory and idle power
    notes = "..."
    chip = "loihi2"           # may be left out; event-driven only: its limits, mesh and time of a machine step

    [first_layer]
    mode = "recompute"        # where analog layers on a constant input run, see `FirstLayer`

and one table for each number, by the names of `TERMS`. Work whose price is unpublished, or left out, stays
unpriced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from snndeploy.errors import FileFormatError, SnnDeployError
from snndeploy.targets import chip as chips
from snndeploy.targets import document as documents
from snndeploy.targets import quantity
from snndeploy.targets.chip import Chip
from snndeploy.targets.document import Document, Form
from snndeploy.targets.quantity import EVIDENCE, Interval, Quantity, listed

__all__ = [
    "EVIDENCE",
    "FIRST_LAYER",
    "FORM",
    "KINDS",
    "SCOPES",
    "TERMS",
    "FirstLayer",
    "Interval",
    "Kind",
    "Price",
    "Scope",
    "TargetProfile",
    "Term",
    "load",
    "shipped",
]

Kind: TypeAlias = Literal["arithmetic", "memory", "event-driven", "dense"]
"""Which model prices a target.

arithmetic: Operations alone. memory: Operations and the traffic of weights and states. event-driven: A
neuromorphic chip's synapses, neurons, messages and power. dense: Power times time, as of a GPU or a CPU.
"""
Scope: TypeAlias = Literal["per-term", "all-in"]
FirstLayer: TypeAlias = Literal["cached", "recompute", "spike-encoded", "host"]
"""Analog layers on a constant input.

cached: Computed once a sample. recompute: At every step. spike-encoded: The input is spikes already. host: Not
on this target, so not in its energy.
"""
Price: TypeAlias = Quantity
"""What one unit of work costs."""

FORM = Form(
    kind="profile",
    folder="profiles",
    schema=2,
    keys=("kind", "scope", "chip"),
    settings=("first_layer",),
)
KINDS: tuple[Kind, ...] = get_args(Kind)
SCOPES: tuple[Scope, ...] = get_args(Scope)
FIRST_LAYER: tuple[FirstLayer, ...] = get_args(FirstLayer)


@dataclass(frozen=True, slots=True)
class Term:
    """A number that a profile may have.

    kinds: Those whose model uses it.
    meaning: What it is, or what one unit of work is.
    all_in: Whether a profile with scope "all-in" may have it, as it charges nothing twice.
    """

    unit: str
    kinds: tuple[Kind, ...]
    meaning: str
    all_in: bool = False


_COUNTED: tuple[Kind, ...] = ("arithmetic", "memory", "event-driven")
_GENERIC: tuple[Kind, ...] = ("arithmetic", "memory")
_MEMORY: tuple[Kind, ...] = ("memory",)
_EVENTS: tuple[Kind, ...] = ("event-driven",)
_DENSE: tuple[Kind, ...] = ("dense",)
_MOVED: tuple[Kind, ...] = ("memory", "dense")

TERMS: Mapping[str, Term] = MappingProxyType(
    {
        "energy.synop": Term("pJ", _COUNTED, "a spike through one synapse: one accumulate", True),
        "energy.mac": Term("pJ", _COUNTED, "an analog value through one connection", True),
        "energy.neuron": Term("pJ", _COUNTED, "one update of one neuron, driven or idle"),
        "energy.neuron.access": Term("pJ", _EVENTS, "a neuron's visit at every machine step"),
        "energy.neuron.update": Term("pJ", _EVENTS, "what a driven neuron's update adds to its visit"),
        "energy.spike": Term("pJ", _EVENTS, "a neuron that fires"),
        "energy.message": Term("pJ", _EVENTS, "a spike sent to one core"),
        "energy.hop.ew": Term("pJ", _EVENTS, "a message from tile to tile along a row"),
        "energy.hop.ns": Term("pJ", _EVENTS, "a message from tile to tile along a column"),
        "energy.add": Term("pJ", _GENERIC, "an addition or comparison in a neuron's update"),
        "energy.multiply": Term("pJ", _GENERIC, "a multiplication in a neuron's update"),
        "energy.sram.8k": Term("pJ", _MEMORY, "64 bits from or to a memory of 8 KiB"),
        "energy.sram.32k": Term("pJ", _MEMORY, "64 bits from or to a memory of 32 KiB"),
        "energy.sram.1m": Term("pJ", _MEMORY, "64 bits from or to a memory of 1 MiB"),
        "energy.dram": Term("pJ", _MEMORY, "64 bits from or to memory off the chip"),
        "bits.weight": Term("bit", _MOVED, "a stored weight", True),
        "bits.state": Term("bit", _MOVED, "a stored state of a neuron", True),
        "bits.activation": Term("bit", _MOVED, "a stored analog value", True),
        "power.static": Term("W", _EVENTS, "of a chip, whatever it does"),
        "power.fixed": Term(
            "W", _EVENTS, "of a running system beside its chips' cores: control, input, output"
        ),
        "power.core": Term("W", _EVENTS, "of a core in use"),
        "power.idle": Term("W", _DENSE, "of a device ready to run"),
        "power.busy": Term("W", _DENSE, "of a device that runs, its idle power included"),
        "time.step": Term("us", _EVENTS, "a machine step", True),
        "time.synop": Term("us", _EVENTS, "a synaptic operation on a core", True),
        "time.neuron": Term("us", _EVENTS, "a neuron's update on a core", True),
        "time.sync": Term("us", _EVENTS, "the barrier at the end of a machine step", True),
        "time.launch": Term("us", _DENSE, "starting one operation", True),
        "peak.compute": Term("GFLOP/s", _DENSE, "multiplications and additions, zeros included", True),
        "memory.bandwidth": Term("GB/s", _DENSE, "to the main memory", True),
        "memory.on_chip": Term("KiB", _MOVED, "memory on the chip", True),
        "efficiency.compute": Term("1", _DENSE, "share of the peak that real layers reach", True),
        "efficiency.memory": Term("1", _DENSE, "share of the bandwidth that real layers reach", True),
    }
)
"""Every number that a profile may have, by name."""


@dataclass(frozen=True, kw_only=True)
class TargetProfile:
    """A target's numbers by the names of `TERMS`; work for a term it leaves out is unpriced.

    chip: Limits, mesh and time of a machine step of an event-driven target; None if it names none.
    """

    name: str
    notes: str
    prices: Mapping[str, Price]
    kind: Kind = "arithmetic"
    scope: Scope = "per-term"
    first_layer: FirstLayer = "recompute"
    chip: Chip | None = None

    @property
    def unpublished(self) -> tuple[str, ...]:
        """Terms that the profile names and nobody has published."""
        return tuple(name for name, price in self.prices.items() if price.amount is None)

    @property
    def unverified(self) -> tuple[str, ...]:
        """Terms whose value or range was not checked at its source."""
        return tuple(name for name, price in self.prices.items() if not price.verified)

    @property
    def evidence(self) -> str:
        """The weakest evidence of a published number; "unpublished" if there is none."""
        grades = [price.evidence for price in self.prices.values() if price.amount is not None]
        return max(grades, key=EVIDENCE.index, default="unpublished")


def shipped() -> tuple[str, ...]:
    """Names of the profiles that come with the package."""
    return documents.shipped(FORM)


def load(name_or_path: str | Path) -> TargetProfile:
    """A shipped profile by name, or any profile from a file.

    Args:
        name_or_path: A name of `shipped()`, or a path: whatever is a Path, ends in .toml or has a separator.

    Raises:
        TargetError: There is no such profile or file; the message lists the shipped ones.
        FileFormatError: The file breaks a rule; the message names the key and the rule.
    """
    document = documents.read(name_or_path, FORM)
    header = f"{document.where}, target"
    kind = quantity.choice(f"{header}.kind", document.header.get("kind"), KINDS)
    scope = quantity.choice(f"{header}.scope", document.header.get("scope"), SCOPES)
    chip = None
    if "chip" in document.header:
        if kind != "event-driven":
            raise FileFormatError(f"{header}.chip", "is for event-driven targets", got=f"kind {kind!r}")
        folder = Path(name_or_path).parent if documents.is_path(name_or_path) else Path()
        chip = _chip(f"{header}.chip", document.header["chip"], folder)
    prices = {}
    for name, table in documents.terms(document, tuple(TERMS)).items():
        where = f"{document.where}, {name}"
        _check_belongs(where, name, kind, scope)
        if name == "time.step" and chip is not None:
            raise FileFormatError(where, "is the chip's to say", remedy="drop it, or drop target.chip")
        prices[name] = quantity.quantity(where, table, TERMS[name].unit)
        _check_range(where, name, prices[name].amount)
    return TargetProfile(
        name=document.name,
        notes=document.notes,
        prices=MappingProxyType(prices),
        kind=kind,
        scope=scope,
        first_layer=_first_layer(document),
        chip=chip,
    )


def _chip(where: str, name: object, folder: Path) -> Chip:
    """A shipped chip, or one from a file beside the profile."""
    if not isinstance(name, str) or not name.strip():
        raise FileFormatError(where, "must name a chip", remedy=f"choose one of {listed(chips.shipped())}")
    try:
        return chips.load(folder / name if documents.is_path(name) else name)
    except SnnDeployError as error:
        raise FileFormatError(where, "must be a chip that loads", got=str(error)) from None


def _first_layer(document: Document) -> FirstLayer:
    where, table = f"{document.where}, first_layer", document.tables.get("first_layer")
    if not isinstance(table, dict):
        remedy = f"add [first_layer] with mode = one of {listed(FIRST_LAYER)}"
        raise FileFormatError(where, "must be a table", got=_kind_of(table), remedy=remedy)
    quantity.check_keys(where, table, ("mode",))
    return quantity.choice(f"{where}.mode", table.get("mode"), FIRST_LAYER)


def _kind_of(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _check_belongs(where: str, name: str, kind: Kind, scope: Scope) -> None:
    term = TERMS[name]
    if kind not in term.kinds:
        own = tuple(other for other, found in TERMS.items() if kind in found.kinds)
        raise FileFormatError(where, f"is no term of kind {kind}", remedy=f"its terms are {listed(own)}")
    if scope == "all-in" and not term.all_in:
        remedy = "drop it, or price each term and let the scope be per-term"
        raise FileFormatError(where, "is part of what an all-in price covers", remedy=remedy)


def _check_range(where: str, name: str, amount: Interval | None) -> None:
    """Refuses a range that no draw could come from, and shares above 1."""
    if amount is None:
        return
    group = name.split(".", maxsplit=1)[0]
    if amount.low == 0 and (amount.high > 0 or group not in ("energy", "power")):
        rule = "must be above 0 unless the whole range of an energy or a power is 0"
        raise FileFormatError(f"{where}.low", rule, remedy="give the smallest value that is plausible")
    if group == "efficiency" and amount.high > 1:
        raise FileFormatError(f"{where}.high", "must be at most 1", got=f"{amount.high:g}")
    if group == "bits" and any(b != int(b) for b in (amount.value, amount.low, amount.high)):
        raise FileFormatError(
            where, "must be whole bits", got=f"{amount.low:g}, {amount.value:g}, {amount.high:g}"
        )
