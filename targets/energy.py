"""What an inference costs on a target: counted work at a profile's prices, and how far that is to be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from snndeploy.targets import models, profile, uncertainty
from snndeploy.targets.counts import Counts
from snndeploy.targets.models import Charge, Constants, dense
from snndeploy.targets.profile import EVIDENCE, Interval, TargetProfile
from snndeploy.targets.quantity import Quantity
from snndeploy.targets.resources import Mapping as CoreMapping
from snndeploy.targets.uncertainty import Contribution, Range
from snndeploy.targets.work import Amount, Average, Setting, Work, artificial_work, mean, terms_of, work_of

DRAWS = 2000
Bound = Literal["estimate", "lower bound"]

_SPARSITY = Quantity(
    Interval(1.0, 0.6, 1.0),
    "1",
    "Gregersen et al., arXiv:2409.18324: inputs change the power of a matrix product by up to 40 %",
    "measured",
    "dense hardware on spikes: share of the dynamic power that it draws on other numbers",
)
_NUDGES = (0.5, 2.0)  # factors by which a number is changed to see whether it matters


@dataclass(frozen=True, eq=False)
class Priced:
    """Energy of some work.

    charges: At the published values.
    drawn: The same charges, by draw.
    """

    work: Work
    charges: tuple[Charge, ...]
    drawn: tuple[Charge, ...]

    @cached_property
    def total(self) -> float:
        """Picojoules of all that is priced, at the published values."""
        return float(_sum(self.charges))

    @cached_property
    def draws(self) -> Amount:
        """The same by draw, (draws,), or one number where nothing is uncertain."""
        return _sum(self.drawn)

    @property
    def range(self) -> Range:
        """Percentiles of the total."""
        return uncertainty.range_of(self.draws)

    @property
    def interval(self) -> Interval:
        """The total with its 5th and 95th percentile, widened to hold it where it lies outside."""
        found = self.range
        return Interval(self.total, min(found.p5, self.total), max(found.p95, self.total))

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Terms with work and no price, or with unknown work, in the order of `profile.TERMS`."""
        found = {one.term for one in self.charges if one.unpriced}
        return tuple(term for term in profile.TERMS if term in found)

    def by_term(self) -> dict[str, Interval]:
        """Energy of each term that costs anything, over all ops."""
        return self._grouped("term")

    def by_op(self) -> dict[str, Interval]:
        """Energy of each op that costs anything; that of the whole device is under `models.DEVICE`."""
        return self._grouped("op")

    def _grouped(self, key: Literal["term", "op"]) -> dict[str, Interval]:
        found = {}
        for name in dict.fromkeys(getattr(one, key) for one in self.charges):
            value = float(_sum(tuple(one for one in self.charges if getattr(one, key) == name)))
            spread = uncertainty.range_of(_sum(tuple(one for one in self.drawn if getattr(one, key) == name)))
            if value:
                found[name] = Interval(value, min(spread.p5, value), max(spread.p95, value))
        return found


@dataclass(frozen=True, eq=False)
class Energy:
    """An estimate per inference: the mean over the samples counted. What has no price is None.

    snn: The network.
    ann: The artificial network of the same topology on the same target.
    numbers: Of the profile, its chip's step time and the model, by name.
    constants: Their draws.
    mapping: The cores that messages and power were counted for.
    """

    counts: Counts
    profile: TargetProfile
    setting: Setting
    snn: Priced
    ann: Priced
    numbers: Mapping[str, Quantity]
    constants: Constants
    mapping: CoreMapping | None

    @property
    def e_snn_pj(self) -> Interval | None:
        """Of the synaptic operations (Spiking Synaptic Penalty, eqs. 10 and 11), over its price's whole range."""
        return self.priced("energy.synop", float(self.counts.synaptic_operations.mean()))

    @property
    def mac_pj(self) -> Interval | None:
        """Of the multiply-accumulates on analog values, constant ones at every step."""
        return self.priced("energy.mac", float(self.counts.mac_operations()))

    @property
    def mac_once_pj(self) -> Interval | None:
        """Of the multiply-accumulates on analog values, constant ones once a sample."""
        return self.priced("energy.mac", float(self.counts.mac_operations(once=True)))

    @property
    def neuron_pj(self) -> Interval | None:
        """Of the neuron updates, where they have one price."""
        return self.priced("energy.neuron", float(self.counts.neuron_updates))

    @property
    def total_pj(self) -> Interval:
        """Of all that is priced, with the 5th and 95th percentile; `bound` says what that is."""
        return self.snn.interval

    @property
    def operations_pj(self) -> float:
        """What counting operations alone would say: no memory, no messages, no power times time."""
        counted = (
            "energy.synop",
            "energy.mac",
            "energy.neuron",
            "energy.neuron.access",
            "energy.neuron.update",
        )
        return float(_sum(tuple(one for one in self.snn.charges if one.term in counted)))

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Terms with work and no price, or with unknown work."""
        return self.snn.unpriced

    @property
    def hosted(self) -> tuple[str, ...]:
        """Analog ops that run elsewhere, so that they are not in the energy."""
        return tuple(mac.target for mac in self.counts.macs) if self.setting.first_layer == "host" else ()

    @property
    def bound(self) -> Bound:
        """What the total is: a lower bound if any work has no price or was not counted."""
        return "lower bound" if self.unpriced or self.counts.uncounted else "estimate"

    @property
    def ratio(self) -> Range | None:
        """The network's energy over that of the artificial one, by shared draws, see `ratio`."""
        return ratio(self.snn, self.ann)

    @property
    def time_us(self) -> float | None:
        """Of an inference, or of a batch on dense hardware; None where the model knows no time."""
        point = uncertainty.values(self.numbers)
        found = models.time_us(self.profile, self.snn.work, point, self.setting)
        return None if found is None else float(found)

    @cached_property
    def used(self) -> tuple[str, ...]:
        """Numbers that the total depends on: near their values, or anywhere in their ranges."""
        point, spread = uncertainty.values(self.numbers), {one.name for one in self.contributions}
        return tuple(
            name
            for name, value in point.items()
            if name in spread
            or any(self._total(point | {name: value * factor}) != self.snn.total for factor in _NUDGES)
        )

    def _total(self, constants: Constants) -> float:
        return float(_sum(models.charges(self.profile, self.snn.work, constants, self.setting)))

    @property
    def unverified(self) -> tuple[str, ...]:
        """Numbers of the total that were not checked at their source."""
        return tuple(name for name in self.used if not self.numbers[name].verified)

    @property
    def evidence(self) -> str:
        """The weakest evidence of a number of the total; "unpublished" if there is none."""
        grades = [self.numbers[name].evidence for name in self.used]
        return max(grades, key=EVIDENCE.index, default="unpublished")

    @cached_property
    def contributions(self) -> tuple[Contribution, ...]:
        """What each number contributes to the spread of the total, the largest first."""
        return uncertainty.contributions(self.snn.draws, self.constants)

    def priced(self, term: str, amount: float) -> Interval | None:
        """Energy of an amount of work over the whole range of one price, in picojoules."""
        price = self.profile.prices.get(term)
        return None if price is None or price.amount is None else price.amount * amount

    def to_json(self) -> dict[str, Any]:
        """The whole report as plain values, see `snndeploy.targets.report`."""
        from snndeploy.targets.report import report  # noqa: PLC0415 - a report needs what is defined here

        return report(self)

    def work(self) -> dict[str, float | None]:
        """Mean work per inference by the term that prices it; None where it is not known."""
        found = terms_of(self.snn.work)
        return {term: None if amount is None else float(amount) for term, amount in found.items()}


def estimate(
    counts: Counts,
    target: TargetProfile,
    setting: Setting | None = None,
    *,
    mapping: CoreMapping | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Energy:
    """Prices counted work on a target, and the artificial network of the same topology beside it.

    Estimates with the same draws and seed share them, see `snndeploy.targets.uncertainty`.

    Args:
        counts: The work, counted with the mapping if there is one.
        target: The prices.
        setting: How the target runs the network; None for its usual first layer, one sample at a time.
        mapping: The network's cores, for power and time.
        draws: Of the constants and the samples.
        seed: Of these.

    Raises:
        ConfigError: The number of draws is no sensible one.
    """
    uncertainty.check_draws(draws)
    setting = setting or Setting(first_layer=target.first_layer)
    numbers = numbers_of(target)
    point, constants = uncertainty.values(numbers), uncertainty.drawn(numbers, draws, seed)
    average: Average = uncertainty.bootstrap(counts.samples, draws, seed) if counts.samples > 1 else mean
    work = work_of(counts, setting, mapping)
    varied = work_of(counts, setting, mapping, average)
    artificial = artificial_work(counts, mapping, hosted=setting.first_layer == "host")
    alone = replace(setting, first_layer="recompute")
    return Energy(
        counts,
        target,
        setting,
        Priced(
            work,
            models.charges(target, work, point, setting),
            models.charges(target, varied, constants, setting),
        ),
        Priced(
            artificial,
            models.charges(target, artificial, point, alone),
            models.charges(target, artificial, constants, alone),
        ),
        numbers,
        constants,
        mapping,
    )


def numbers_of(target: TargetProfile) -> dict[str, Quantity]:
    """A profile's numbers, those its chip has for it, and those of the model that prices it."""
    found = dict(target.prices)
    if target.chip is not None:
        found["time.step"] = target.chip.limits["time.step"]
    if target.kind == "dense":
        found[dense.SPARSITY] = _SPARSITY
    return found


def ratio(first: Priced, second: Priced) -> Range | None:
    """First over second by shared draws, of what is priced.

    None if one lacks a price that the other does not need, or the second is nothing.
    """
    if first.unpriced != second.unpriced or not np.all(second.draws):
        return None
    return uncertainty.range_of(first.draws / second.draws)


def constant_sets(target: TargetProfile) -> tuple[TargetProfile, ...]:
    """Other shipped profiles of the same chip: sets of numbers whose spread is the model's own uncertainty."""
    if target.chip is None:
        return ()
    others = (profile.load(name) for name in profile.shipped() if name != target.name)
    same = (one for one in others if one.chip is not None and one.chip.name == target.chip.name)
    return tuple(same)


def _sum(charges: tuple[Charge, ...]) -> Amount:
    return sum((one.pj for one in charges if one.pj is not None), 0.0)
