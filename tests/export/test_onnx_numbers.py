"""The arithmetics of exported models: integers equal the reference bit by bit, float16 keeps within bounds."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper
import pytest
from hypothesis import given, settings

from snndeploy.errors import ConfigError, TargetError
from snndeploy.export.onnx import Form, lower
from snndeploy.export.onnx.numbers import Arithmetic, Count, numbers
from snndeploy.ir import (
    AvgPool2d,
    Conv2d,
    Flatten,
    Graph,
    Input,
    Lif,
    Linear,
    Network,
    Output,
    Trace,
    Upsample,
    quantize,
    run,
)
from snndeploy.ir.replay import entering
from tests import strategies
from tests.export import sessions
from tests.export.networks import (
    TOPOLOGIES,
    assert_active,
    assert_same,
    case,
    conv,
    graph,
    linear,
    residual,
)
from tests.export.networks import Case as TunedCase
from tests.strategies import cases

FORMS: tuple[Form, ...] = ("step", "sequence", "scan")
WEIGHTED = ("Conv", "Gemm", "ConvInteger", "MatMulInteger")


def exact(built: Graph, *, steps: int = 4, kind: str = "image", seed: int = 0) -> TunedCase:
    """A lively case of a graph in the exact format, its certificate holding."""
    tuned = case(built, steps=steps, kind=kind, seed=seed)
    quantized = TunedCase(quantize(tuned.network, tuned.x).network, tuned.x)
    assert_active(quantized)
    return quantized


def node_types(model: onnx.ModelProto) -> Counter[str]:
    """How often each type of node occurs in the main graph."""
    return Counter(node.op_type for node in model.graph.node)


def stored(model: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    """Initialisers of the main graph by name."""
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def check(model: onnx.ModelProto) -> None:
    """Strict checks of the ONNX library."""
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def assert_equal(tested: TunedCase, forms: tuple[Form, ...] = FORMS) -> None:
    """Fails unless the integer arithmetic has the reference's spikes, potentials and sums in each form."""
    expected = run(tested.network, tested.x, potentials=True)
    for form in forms:
        model = lower(tested.network, form, arithmetic="integer", debug=True)
        check(model)
        found = sessions.run(form, model, tested.network, tested.x)
        assert_same(found, expected)
        for name, u in expected.potentials.items():
            np.testing.assert_array_equal(found.potentials[name], u, err_msg=name)


def wide() -> Graph:
    """Convolutions with long patches of every geometry, and of short ones between them.

    input (1, 9, 8) -> c0 -> l0 (32, 9, 8) -> square -> l1 (32, 9, 8) -> oblong (5x3, strides 2 and 1,
    padding 2 and 0) -> l2 (40, 5, 6) -> unpadded (2x4) -> l3 (256, 4, 3) -> point (1x1) -> l4 -> fc -> output
    l0 -> again -> l1;  l0 -> skip (1x3) -> l2;  l3 ~1 -> l3;  l3 -> sparse (1x1, stride 3) -> l5 -> fc5 -> output
    """
    oblong = Conv2d(
        in_channels=32, out_channels=40, kernel=(5, 3), stride=(2, 1), padding=(2, 0), groups=1, bias=True
    )
    skip = replace(oblong, kernel=(1, 3), padding=(0, 0))
    unpadded = replace(oblong, in_channels=40, out_channels=256, kernel=(2, 4), stride=(1, 1), padding=(0, 0))
    return graph(
        {
            "input": Input(shape=(1, 9, 8)),
            "c0": conv(1, 32),
            "l0": Lif(),
            "square": conv(32, 32),
            "again": conv(32, 32),
            "l1": Lif(),
            "oblong": oblong,
            "skip": skip,
            "l2": Lif(),
            "unpadded": unpadded,
            "l3": Lif(),
            "point": conv(256, 4, kernel=1),
            "sparse": conv(256, 4, kernel=1, stride=3),
            "l4": Lif(),
            "l5": Lif(),
            "flat": Flatten(),
            "flat5": Flatten(),
            "fc": linear(48, 3),
            "fc5": linear(8, 3),
            "output": Output(),
        },
        "input c0 l0 square l1 oblong l2 unpadded l3 point l4 flat fc output",
        "l0 again l1",
        "l0 skip l2",
        "l3 sparse l5 flat5 fc5 output",
        "l3 ~1 l3",
    )


def pooled(size: int = 4, kernel: int = 2) -> Graph:
    """Pools of spikes and of sums of spikes in front of a Linear and a Conv2d.

    input -> c0 -> l0 -> c1 -> l1;  l0 + l1 -> pool -> c2 -> l2 -> flat -> fc -> output
    l0 -> pool3 (half the rows) -> flat3 -> fc3 -> output
    """
    small = size // kernel
    return graph(
        {
            "input": Input(shape=(1, size, size)),
            "c0": conv(1, 4),
            "l0": Lif(),
            "c1": conv(4, 4),
            "l1": Lif(),
            "pool": AvgPool2d(kernel=(kernel, kernel), stride=(kernel, kernel)),
            "c2": conv(4, 4),
            "l2": Lif(),
            "flat": Flatten(),
            "fc": linear(4 * small * small, 3),
            "pool3": AvgPool2d(kernel=(kernel // 2, kernel), stride=(kernel, kernel)),
            "flat3": Flatten(),
            "fc3": linear(4 * small * small, 3),
            "output": Output(),
        },
        "input c0 l0 c1 l1 pool c2 l2 flat fc output",
        "l0 pool",
        "l0 pool3 flat3 fc3 output",
    )


def doubled(times: int) -> Graph:
    """Spikes doubled so often by adding a value to itself, once directly and once through an Upsample.

    input -> c0 -> l0 -> copy0 -> sum0 -> copy1 -> sum1 ... -> c1 -> l1 -> flat -> fc -> output
    l0 -> sum0 -> sum1 ...
    """
    ops: dict[str, Any] = {"input": Input(shape=(1, 2, 2)), "c0": conv(1, 2), "l0": Lif()}
    edges = ["input c0 l0"]
    newest = "l0"
    for index in range(times):
        copied, summed = f"copy{index}", f"sum{index}"
        ops |= {copied: Upsample(size=(2, 2)), summed: Upsample(size=(2, 2))}
        edges += [f"{newest} {copied} {summed}", f"{newest} {summed}"]
        newest = summed
    ops |= {
        "c1": conv(2, 2),
        "l1": Lif(tau=0.0, threshold=0.5),
        "flat": Flatten(),
        "fc": linear(8, 3),
        "output": Output(),
    }
    return graph(ops, *edges, f"{newest} c1 l1 flat fc output")


@pytest.mark.parametrize(("name", "form"), list(zip(TOPOLOGIES, itertools.cycle(FORMS))))
def test_integers_equal_the_reference(name: str, form: Form) -> None:
    """Spikes, potentials and sums of every topology are those of the reference, to the last bit."""
    assert_equal(exact(TOPOLOGIES[name](), kind="frames" if len(name) % 2 else "image"), (form,))


@settings(max_examples=5, deadline=None)
@given(cases())
def test_integers_on_random_networks(drawn: strategies.Case) -> None:
    """Networks of any structure give the reference's bits in integers, in all forms."""
    assert_equal(TunedCase(drawn.network, drawn.x))


def test_only_what_is_entered_by_the_input_stays_in_float32() -> None:
    """Every op entered by spikes is an integer op, with its weights in uint8 around 128 or in int8."""
    tested = exact(residual())
    model = lower(tested.network, "sequence", arithmetic="integer")
    types = node_types(model)
    assert [types[t] for t in WEIGHTED] == [1, 0, 5, 1]
    arrays = stored(model)
    for name in ("c1", "c2", "c3", "c4", "skip"):
        assert arrays[f"{name}.weight"].dtype == np.uint8
        scale = arrays[f"{name}.scale"].reshape(-1, 1, 1, 1)
        meant = (arrays[f"{name}.weight"].astype(np.float32) - 128) * scale
        np.testing.assert_array_equal(meant, tested.network.weights[f"{name}.weight"])
    assert arrays["fc.weight"].dtype == np.int8
    np.testing.assert_array_equal(arrays["c0.weight"], tested.network.weights["c0.weight"])


def test_long_patches_become_products() -> None:
    """Convolutions with long patches are products of matrices, of equal bits, and share rearranged spikes."""
    tested = exact(wide(), steps=3)
    model = lower(tested.network, "sequence", arithmetic="integer")
    types = node_types(model)
    # skip has a patch of 96: a ConvInteger. l3 feeds itself and so is stepped, and only what precedes it
    # runs at once; square and again share one rearrangement.
    assert types["Conv"] == 1
    assert types["ConvInteger"] == 1
    gathered = [node.input[0] for node in model.graph.node if node.op_type == "Gather"]
    assert len(gathered) == len(set(gathered))
    assert stored(model)["oblong.weight"].shape == (32 * 15, 40)
    assert_equal(tested)


def test_pools_are_counted() -> None:
    """What pools of spikes enter is computed in integers, the pool's area in the scale."""
    tested = exact(pooled())
    chosen = numbers(tested.network, "integer")
    assert chosen.counts == {
        "c1": Count(1),
        "c2": Count(8, 2),
        "fc": Count(1),
        "fc3": Count(2, 1),
    }
    types = node_types(lower(tested.network, "sequence", arithmetic="integer"))
    assert [types[t] for t in WEIGHTED] == [1, 0, 2, 2]
    assert_equal(tested)


@pytest.mark.parametrize(("kind", "seed"), [("image", 2), ("frames", 1)])
def test_a_single_channel(kind: str, seed: int) -> None:
    """One output channel, whose scale is one number, gives the reference's bits like any other.

    input -> f0 -> l0 -> f1 (1 feature, no bias) -> l1 -> fc -> output
    """
    built = graph(
        {
            "input": Input(shape=(4,)),
            "f0": linear(4, 6),
            "l0": Lif(),
            "f1": Linear(in_features=6, out_features=1),
            "l1": Lif(),
            "fc": linear(1, 3),
            "output": Output(),
        },
        "input f0 l0 f1 l1 fc output",
    )
    assert_equal(exact(built, kind=kind, seed=seed))


def test_wide_counts_stay_in_float32() -> None:
    """An op that counts beyond 128 enter computes in float32, and the bits are the same."""
    tested = exact(pooled(size=8, kernel=8))
    assert numbers(tested.network, "integer").counts["c2"] == Count(128, 6)
    assert_equal(tested, ("sequence",))
    tested = exact(pooled(size=16, kernel=16), steps=2)
    assert set(numbers(tested.network, "integer").counts) == {"c1", "fc", "fc3"}
    types = node_types(lower(tested.network, "sequence", arithmetic="integer"))
    assert types["Conv"] == 2
    assert_equal(tested)


def test_sums_beyond_uint8() -> None:
    """Sums of spikes are added in uint8 up to 255; what could exceed that is refused by name."""
    tested = exact(doubled(7), steps=2, seed=1)
    assert numbers(tested.network, "integer").counts["c1"] == Count(128)
    assert_equal(tested)
    larger = exact(doubled(8), steps=2, seed=1)
    with pytest.raises(TargetError, match=r"integer, sum7: adds spikes up to 255.*256") as caught:
        lower(larger.network, "sequence", arithmetic="integer")
    assert "float32" in str(caught.value)


def test_integers_need_the_exact_format() -> None:
    """A float32 network, and an exact one whose certificate fails, are refused with the reason."""
    tuned = case(residual(), steps=4)
    with pytest.raises(
        TargetError, match="needs a network in the exact format or the loihi format, got float32"
    ):
        lower(tuned.network, "sequence", arithmetic="integer")
    longer = replace(exact(residual()).network, steps=40)
    with pytest.raises(TargetError, match=r"integer, l0: needs a certificate .* 2\*\*24"):
        lower(longer, "step", arithmetic="integer")


def test_unknown_arithmetic() -> None:
    """An arithmetic that does not exist is refused with those that do."""
    with pytest.raises(ConfigError, match=r"float8.*choose one of float32, integer, float16"):
        lower(case(residual(), steps=4).network, "step", arithmetic=cast(Arithmetic, "float8"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("arithmetic", ["integer", "float16"])
def test_interface_is_float32(form: Form, arithmetic: Arithmetic) -> None:
    """Input, states and results are float32 in every arithmetic."""
    tested = exact(TOPOLOGIES["long_delays"]())
    model = lower(tested.network, form, arithmetic=arithmetic)
    given = [v for v in (*model.graph.input, *model.graph.output) if v.name != "steps"]
    assert {v.type.tensor_type.elem_type for v in given} == {onnx.TensorProto.FLOAT}


def forced_errors(network: Network, x: npt.NDArray[Any], found: Trace) -> dict[str, npt.NDArray[Any]]:
    """For each Lif the error of the currents that its u and spikes imply, over that which float16 allows.

    With the run's own spikes given, a current is off by at most 2**-11 of the sizes of its terms for each of
    three roundings (weight, input, sum), and by float32's roundings in u, for which another half is ample.
    """
    frames = x if network.input.kind == "frames" else np.broadcast_to(x, (network.steps, *x.shape))
    meant = dict(entering(network, frames, found.spikes))
    sizes = dict(entering(network, frames, found.spikes, magnitudes=True))
    ratios = {}
    for name in network.graph.ports:
        op = network.graph.ops[name]
        assert isinstance(op, Lif)
        u = found.potentials[name].astype(np.float64)
        rest = np.concatenate([np.zeros_like(u[:1]), np.where(found.spikes[name], 0, u)[:-1]])
        allowed = 3.5 * 2.0**-11 * sizes[name] + 2.0**-22 * np.abs(rest) + 2.0**-24
        ratios[name] = np.abs(u - op.tau * rest - meant[name]) / allowed
    return ratios


@settings(max_examples=5, deadline=None)
@given(cases(most_layers=3))
def test_float16_keeps_within_its_rounding(drawn: strategies.Case) -> None:
    """Given the spikes, every current is within the rounding of weights, inputs and sums to float16."""
    worst = 0.0
    for form in FORMS:
        model = lower(drawn.original, form, arithmetic="float16", debug=True)
        check(model)
        found = sessions.run(form, model, drawn.original, drawn.x)
        for name, ratio in forced_errors(drawn.original, drawn.x, found).items():
            assert ratio.max() <= 1, f"{form} {name}: {ratio.max()}"
            worst = max(worst, float(ratio.max()))
    assert worst > 2.0**-8  # far beyond what float32 does, so float16 is really used


def test_float16_types() -> None:
    """Weights and the spikes that meet them are float16; biases, sums and membranes are float32."""
    tuned = case(residual(), steps=4)
    model = lower(tuned.network, "sequence", arithmetic="float16")
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    kinds = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    weighted = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(weighted) == 7
    for node in weighted:
        assert kinds[node.input[0]] == kinds[node.output[0]] == onnx.TensorProto.FLOAT16
        assert stored(model)[node.input[1]].dtype == np.float16
    for node in model.graph.node:
        if node.op_type.startswith("LIF"):
            assert [kinds[node.output[i]] for i in (0, 1)] == [
                onnx.TensorProto.FLOAT16,
                onnx.TensorProto.FLOAT,
            ]
    assert stored(model)["c1.bias"].dtype == np.float32


def test_float16_range() -> None:
    """A weight beyond the range of float16 is refused by name."""
    network = case(residual(), steps=4).network
    weights = dict(network.weights)
    weights["c2.weight"] = weights["c2.weight"] + np.float32(70_000)
    with pytest.raises(TargetError, match=r"float16, c2\.weight: needs weights of at most 65504"):
        lower(replace(network, weights=weights), "step", arithmetic="float16")
