"""What every model gives: work of one kind at its price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from snndeploy.targets.work import Amount

Constants: TypeAlias = Mapping[str, Amount]
"""A target's numbers by the names of `profile.TERMS`, each one number or one for each draw. What is not
published is not in it."""

DEVICE = ""
"""Name of no op: what belongs to the whole device."""


@dataclass(frozen=True, eq=False, slots=True)
class Charge:
    """Energy of one kind of work.

    op: Whose work it is, or `DEVICE`.
    term: The number that prices it.
    amount: Of work, in what the term counts; None if it is not known.
    pj: None without a price or amount.
    """

    op: str
    term: str
    amount: Amount | None
    pj: Amount | None

    @property
    def unpriced(self) -> bool:
        """Whether there is, or may be, work that is not in the energy."""
        return self.pj is None and (self.amount is None or bool(np.any(self.amount)))


def charge(constants: Constants, op: str, term: str, amount: Amount | None) -> Charge:
    """An amount of work at the price of a term."""
    price = constants.get(term)
    return Charge(op, term, amount, None if price is None or amount is None else amount * price)
