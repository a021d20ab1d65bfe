"""A neuromorphic chip: synapses, neurons and messages at a price each, and power for as long as it runs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from snndeploy.targets.models.charge import DEVICE, Charge, Constants, charge
from snndeploy.targets.work import Amount, OpWork, Setting, Work

_PJ = 1e6  # of a watt for a microsecond


def energy_pj(work: Work, constants: Constants, setting: Setting) -> tuple[Charge, ...]:
    """Events at their prices and power times time, in picojoules.

        E = sum_l (SynOps_l e_syn + U_l e_access + D_l e_update + S_l e_spike + M_l e_message + H_l e_hop)
            + (P_static chips + P_fixed + P_core cores) t

    U are all updates (neurons times machine steps), D the driven ones, S spikes, M messages, H hops. Its shape is
    that of table 2 of M. Davies et al., Loihi, IEEE Micro 38(1), 2018, and of SANA-FE, J. Boyle et al., IEEE TCAD,
    2025, doi:10.1109/TCAD.2025.3537971; the power that runs all the time is what measured boards add (P. Blouw et
    al., arXiv:1812.01739). A profile prices an update whole (`energy.neuron`) or in two parts.
    """
    found = [one for op in work.ops for one in _events(op, constants)]
    return (*found, *_powers(work, constants, setting))


def all_in_pj(work: Work, constants: Constants) -> tuple[Charge, ...]:
    """Synaptic operations, and analog ones if they have a price, with everything else in it, in picojoules.

    So P. A. Merolla et al., Science 345(6197), 2014, state TrueNorth's energy for each synaptic event.
    """
    return tuple(
        charge(constants, op.name, term, amount)
        for op in work.ops
        for term, amount in (("energy.synop", op.synops), ("energy.mac", op.macs))
    )


def time_us(work: Work, constants: Constants, setting: Setting) -> Amount | None:
    """Of one inference, in microseconds: the sample period, or machine steps at `step_us`; None if unknown."""
    if setting.sample_period_ms is not None:
        return setting.sample_period_ms * 1e3
    step = step_us(work, constants, setting)
    return None if step is None else work.machine_steps * step


def step_us(work: Work, constants: Constants, setting: Setting) -> Amount | None:
    """Duration of a machine step in microseconds.

    Given, or the longer of the target's usual one and of what its cores compute: SynOps / (T cores) t_syn +
    neurons of the fullest core t_neuron + t_sync. That is a lower bound, as if all cores had the same synaptic
    operations; boards have been seen to take 100 times as long for input and output.
    """
    if setting.step_time_us is not None:
        return setting.step_time_us
    usual = constants.get("time.step")
    needed = tuple(constants.get(term) for term in ("time.synop", "time.neuron", "time.sync"))
    synop, neuron, sync = needed
    if synop is None or neuron is None or sync is None or work.cores is None:
        return usual
    synops: Amount = sum((op.synops for op in work.ops), 0.0)
    each = synops / (work.steps * work.cores)
    computed = each * synop + (work.fullest_neurons or 0) * neuron + sync
    found: Amount = computed if usual is None else np.maximum(usual, computed)
    return found


def _events(op: OpWork, constants: Constants) -> Iterator[Charge]:
    yield charge(constants, op.name, "energy.synop", op.synops)
    yield charge(constants, op.name, "energy.mac", op.macs)
    if "energy.neuron.access" in constants or "energy.neuron.update" in constants:
        yield charge(constants, op.name, "energy.neuron.access", op.updates)
        yield charge(constants, op.name, "energy.neuron.update", op.driven)
    else:
        yield charge(constants, op.name, "energy.neuron", op.updates)
    yield charge(constants, op.name, "energy.spike", op.spikes)
    yield charge(constants, op.name, "energy.message", op.messages)
    yield charge(constants, op.name, "energy.hop.ew", op.hops_east_west)
    yield charge(constants, op.name, "energy.hop.ns", op.hops_north_south)


def _powers(work: Work, constants: Constants, setting: Setting) -> Iterator[Charge]:
    """Of chips, of the system and of cores; what is said of a whole chip covers its cores."""
    time = time_us(work, constants, setting)
    amounts: dict[str, Amount | None] = {
        "power.static": None if time is None else time * (work.chips or 1),
        "power.fixed": time,
        "power.core": None if time is None or work.cores is None else time * work.cores,
    }
    for term, microseconds in amounts.items():
        if term == "power.core" and "power.static" in constants and term not in constants:
            continue
        found = charge(constants, DEVICE, term, microseconds)
        yield found if found.pj is None else Charge(DEVICE, term, microseconds, found.pj * _PJ)
