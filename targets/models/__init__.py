"""What work costs on each kind of target: pure functions of work, constants and setting, for one or many draws."""

from __future__ import annotations

from typing_extensions import assert_never

from snndeploy.targets.models import arithmetic, dense, event_driven, memory
from snndeploy.targets.models.charge import DEVICE, Charge, Constants, charge
from snndeploy.targets.profile import TargetProfile
from snndeploy.targets.work import Amount, Setting, Work

__all__ = ["DEVICE", "Charge", "Constants", "charge", "charges", "time_us"]


def charges(profile: TargetProfile, work: Work, constants: Constants, setting: Setting) -> tuple[Charge, ...]:
    """All energies of some work on a target.

    Args:
        profile: Decides the model by its kind and scope.
        work: Of one inference.
        constants: The profile's numbers, or draws of them.
        setting: How the target runs the network.
    """
    match profile.kind:
        case "arithmetic":
            return arithmetic.energy_pj(work, constants)
        case "memory":
            return memory.energy_pj(work, constants)
        case "event-driven":
            if profile.scope == "all-in":
                return event_driven.all_in_pj(work, constants)
            return event_driven.energy_pj(work, constants, setting)
        case "dense":
            return dense.energy_pj(work, constants, setting)
        case _:
            assert_never(profile.kind)


def time_us(profile: TargetProfile, work: Work, constants: Constants, setting: Setting) -> Amount | None:
    """Of one inference (event-driven) or of one batch (dense), in microseconds; None if the model knows no time."""
    match profile.kind:
        case "arithmetic" | "memory":
            return None
        case "event-driven":
            return event_driven.time_us(work, constants, setting)
        case "dense":
            return dense.time_us(work, constants, setting)
        case _:
            assert_never(profile.kind)
