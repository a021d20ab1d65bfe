"""What does not fit a chip, one rule at a time, and that what fits is not complained about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from snndeploy.errors import NetworkError
from snndeploy.ir import (
    Exact,
    Flatten,
    Graph,
    Input,
    InputSpec,
    Lif,
    Loihi,
    Network,
    Op,
    Output,
    parameter_shapes,
)
from snndeploy.targets.chip import LIMITS, RULES, Chip
from snndeploy.targets.resources import Violation, is_analog, map_onto, violations, weight_bits
from tests.ir.graphs import conv, direct, linear, random_network, wired
from tests.targets import chips

ALL_RULES = " ".join(name.removeprefix("rules.") for name in RULES)
CHAIN = wired(
    {
        "in": Input(shape=(4, 4, 4)),
        "c": conv(4, 4),
        "a": Lif(),
        "d": conv(4, 4),
        "b": Lif(),
        "flat": Flatten(),
        "fc": linear(64, 2),
        "out": Output(),
    },
    "in c a d b flat fc out",
)


def found(graph: Graph, chip: Chip, network: Network | None = None, *, bits: int = 8) -> list[Violation]:
    """Violations of a graph."""
    return list(violations(map_onto(graph, chip, weight_bits=bits), network))


def integers(largest: int, exponents: dict[str, tuple[int, ...]] | None = None) -> Network:
    """CHAIN with whole weights in the loihi format, the largest of a size, one grid for each layer unless told."""
    shapes = parameter_shapes(CHAIN)
    grids = {name: (0,) * shape[0] for name, shape in shapes.items()} | (exponents or {})
    weights = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    for name, ks in grids.items():
        weights[name] *= np.exp2(-np.array(ks, np.float32)).reshape(-1, *(1,) * (weights[name].ndim - 1))
    weights["d.weight"].flat[5] *= -largest
    return Network(graph=CHAIN, weights=weights, steps=4, input=InputSpec(grid_bits=0), format=Loihi(grids))


def test_what_fits_is_not_complained_about() -> None:
    """A chip that allows everything takes a chain and a loop."""
    assert found(CHAIN, chips.chip(ALL_RULES), integers(5)) == []
    assert found(direct("in a b out", "b ~1 a"), chips.chip(ALL_RULES)) == []


def test_every_violation_names_a_limit_or_rule_of_the_chip() -> None:
    """What a message blames can be looked up in the chip's file; it says where and what would mend it."""
    tight = chips.chip(neurons=9, memory=20, input_axons=20, output_axons=3, weight_bits=4, delay=0)
    loop = wired(dict(CHAIN.ops), "in c a d b flat fc out", "b ~1 a", "in ~3 c")
    blamed = found(loop, tight)
    assert {v.limit for v in blamed} == {
        "rules.graded_input",
        "synapse.weight_bits",
        "rules.phased_neurons",
        "synapse.delay",
        "core.input_axons",
        "core.memory",
        "core.output_axons",
    }
    assert {v.limit for v in blamed} <= {*LIMITS, *RULES}
    assert all(str(v).startswith(f"{v.where}: ") and v.remedy and v.problem for v in blamed)


def test_fan_in() -> None:
    """A 3x3 convolution of 4 channels takes 36 neurons: 35 axons are too few, and 2 groups would do."""
    (one, *_) = found(CHAIN, chips.chip(ALL_RULES, input_axons=35))
    assert (one.where, one.limit) == ("a", "core.input_axons")
    assert "takes spikes of 36 others, and a core has 35" in one.problem
    assert "at least 2 groups" in one.remedy
    assert [v.where for v in found(CHAIN, chips.chip(ALL_RULES, input_axons=36))] == ["out"]  # 64


def test_memory() -> None:
    """A neuron with 36 weights of 4 bits takes 18 bytes."""
    chip = chips.chip(ALL_RULES.replace("shared_kernels", "").replace("shared_memory", ""), memory=17)
    blamed = found(CHAIN, chip, bits=4)
    assert [(v.where, v.limit) for v in blamed] == [(n, "core.memory") for n in ("a", "b", "out")]
    assert "takes 18 bytes, and a core has 17" in blamed[0].problem
    assert found(CHAIN, replace(chip, limits=chips.chip(memory=32).limits), bits=4) == []


def test_output_axons() -> None:
    """Where no tile is small enough, the count of the fullest core is named."""
    graph = wired(
        {
            "in": Input(shape=(8,)),
            "x": linear(8, 8),
            "a": Lif(),
            "y": linear(8, 8),
            "b": Lif(),
            "z": linear(8, 2),
            "out": Output(),
        },
        "in x a y b z out",
    )
    (one, *rest) = found(
        graph, chips.chip(ALL_RULES.replace("shared_kernels", ""), neurons=2, output_axons=1)
    )
    assert (one.where, one.limit) == ("a", "core.output_axons")
    assert "make 8 pairs, and it has 1 output axons" in one.problem
    assert [v.where for v in rest] == ["b"]  # its two neurons send to the Output's one core


def test_weight_bits() -> None:
    """Those of the widest mantissa, sign included."""
    assert [weight_bits(integers(n)) for n in (1, 3, 4, 7, 64, 127)] == [2, 3, 4, 4, 8, 8]
    assert weight_bits(random_network(CHAIN)) == 8
    (one,) = found(CHAIN, chips.chip(ALL_RULES, weight_bits=7))
    assert one.problem == "need 8 bits, and a synapse of tiny has 7"
    assert found(CHAIN, chips.chip(ALL_RULES, weight_bits=8)) == []


def test_delays_in_machine_steps() -> None:
    """A delay of 9 on a pipelined loop is held back for what the loop does not take."""
    graph = direct("in a b out", "b ~9 a")
    assert found(graph, chips.chip(ALL_RULES, delay=7)) == []
    (one,) = found(graph, chips.chip(ALL_RULES, delay=6))
    assert one.where == "b -> a (delay 9)"
    assert "held back 7 machine steps" in one.problem


def test_phases() -> None:
    """A loop that needs two machine steps a logical step, on neurons that fire at each."""
    (one,) = found(direct("in a b out", "b ~1 a"), chips.chip(ALL_RULES.replace("phased_neurons", "")))
    assert "updates every 2 machine steps" in one.problem
    assert "--pipelined" in one.remedy
    assert found(direct("in a b out", "b ~2 a"), chips.chip(ALL_RULES.replace("phased_neurons", ""))) == []


def test_analog_input() -> None:
    """Numbers on a chip of spikes; frames of 0 and 1 are spikes."""
    mapping = map_onto(CHAIN, chips.chip(ALL_RULES.replace("graded_input", "")))
    (one,) = violations(mapping)
    assert (one.where, one.limit) == ("a", "rules.graded_input")
    assert violations(mapping, analog=False) == ()
    network = random_network(CHAIN)
    assert is_analog(network)
    assert not is_analog(replace(network, input=InputSpec(grid_bits=0)))
    assert is_analog(replace(network, input=InputSpec(grid_bits=0, high=3.0)))


def test_thresholds() -> None:
    """Channels on grids of their own have thresholds of their own, in exact as in loihi."""
    shared = chips.chip(ALL_RULES.replace("own_thresholds", ""))
    own = integers(5, {"d.weight": (0, 1, 0, 1)})
    assert isinstance(own.format, Loihi)
    for network in (own, replace(own, format=Exact(own.format.exponents))):
        (one,) = found(CHAIN, shared, network)
        assert (one.where, one.limit) == ("b", "rules.own_thresholds")
        assert "2 different thresholds" in one.problem
        assert found(CHAIN, chips.chip(ALL_RULES), network) == []
    assert found(CHAIN, shared, integers(5)) == []
    assert found(CHAIN, shared, random_network(CHAIN)) == []  # float32 has no units yet


def test_certificate() -> None:
    """A network in the loihi format that its registers cannot hold is refused with the certificate's reason."""
    fine = integers(5, {"d.weight": (20, 20, 20, 20)})
    (one,) = found(CHAIN, chips.chip(ALL_RULES), fine)
    assert (one.where, one.limit) == ("b", "certificate")
    assert "needs a threshold that is a whole number of at most 131071" in one.problem


def test_a_network_of_another_graph_is_refused() -> None:
    """Violations of one graph say nothing of another."""
    with pytest.raises(NetworkError, match="must be of the graph that was mapped"):
        violations(map_onto(direct("in a out"), chips.chip()), integers(3))


def test_an_op_can_be_small_enough_alone() -> None:
    """Nothing is said of a population with no weights at all."""
    ops: dict[str, Op] = {"in": Input(shape=(3,)), "a": Lif(), "out": Output()}
    assert (
        found(
            wired(ops, "in a out"),
            chips.chip(ALL_RULES, memory=5, input_axons=1, output_axons=1, weight_bits=8),
        )
        == []
    )
