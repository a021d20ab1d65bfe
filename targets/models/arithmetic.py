"""Operations alone: what papers on spiking networks report."""

from __future__ import annotations

from collections.abc import Iterator

from snndeploy.targets.models.charge import Charge, Constants, charge
from snndeploy.targets.work import OpWork, Work


def energy_pj(work: Work, constants: Constants) -> tuple[Charge, ...]:
    """Accumulates, multiply-accumulates and neuron updates at a price each, in picojoules.

    E = E_AC sum_l sum_t sum_i psi_li s_li + E_MAC MACs + E_neuron updates. The first term is E_SNN of Spiking
    Synaptic Penalty, eqs. 10 and 11; the second is that of the papers that compare with artificial networks,
    after M. Horowitz, ISSCC 2014. Without a price for an update, one of a Lif in a logical step is a
    multiplication and two additions (leak, input, threshold), and one of a ReLU a single addition.
    """
    return tuple(one for op in work.ops for one in operations(op, work, constants))


def operations(op: OpWork, work: Work, constants: Constants) -> Iterator[Charge]:
    """Those of one op."""
    yield charge(constants, op.name, "energy.synop", op.synops)
    yield charge(constants, op.name, "energy.mac", op.macs)
    if "energy.neuron" not in constants and {"energy.add", "energy.multiply"} <= constants.keys():
        served = float(op.neurons * work.steps)
        yield charge(constants, op.name, "energy.add", served * (2 if work.spiking else 1))
        yield charge(constants, op.name, "energy.multiply", served if work.spiking else 0.0)
    else:
        yield charge(constants, op.name, "energy.neuron", op.updates)
