"""A network checks its weights, steps, input description and number format."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from snndeploy.errors import NetworkError
from snndeploy.ir import (
    BatchNorm,
    Exact,
    Flatten,
    Float32,
    Input,
    InputSpec,
    Lif,
    Network,
    Op,
    Output,
    parameter_count,
    parameter_shapes,
    quantize,
    require_folded,
    run,
)
from snndeploy.ir.formats import mantissa
from tests.ir.graphs import classifier, conv, linear, random_input, random_network, random_weights, wired


def test_parameters_are_named_and_shaped_in_order() -> None:
    """By op in the order of execution; running statistics are parameters that are not trained."""
    assert parameter_shapes(classifier(norm=True)) == {
        "conv.weight": (3, 2, 3, 3),
        "norm.weight": (3,),
        "norm.bias": (3,),
        "norm.running_mean": (3,),
        "norm.running_var": (3,),
        "fc.weight": (5, 48),
        "fc.bias": (5,),
        "readout.weight": (3, 5),
        "readout.bias": (3,),
    }
    assert parameter_count(classifier(norm=True)) == 54 + 6 + 245 + 18
    ops: dict[str, Op] = {
        "in": Input(shape=(4, 2, 2)),
        "c": conv(4, 6, groups=2, bias=True),
        "l": Lif(),
        "flat": Flatten(),
        "out": Output(),
    }
    assert parameter_shapes(wired(ops, " ".join(ops))) == {"c.weight": (6, 2, 3, 3), "c.bias": (6,)}


def test_weights_are_read_only_float32_copies() -> None:
    """What the caller does to its arrays later does not reach the network, and nobody writes to its own."""
    graph = classifier()
    given = random_weights(graph, np.random.default_rng(0))
    given["fc.weight"] = np.asfortranarray(given["fc.weight"])
    network = Network(graph=graph, weights=given, steps=2)
    before = network.weights["fc.weight"].copy()
    given["fc.weight"][:] = 0
    assert (network.weights["fc.weight"] == before).all()
    for array in network.weights.values():
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    assert list(network.weights) == list(parameter_shapes(graph))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("fc.bias"), "missing .'fc.bias'., unknown none"),
        (lambda w: w.update({"fc.scale": np.ones(1)}), "missing none, unknown .'fc.scale'."),
        (lambda w: w.update({"fc.bias": np.ones((5, 1))}), r"fc.bias: must have shape \(5,\), got \(5, 1\)"),
        (lambda w: w.update({"fc.bias": np.full(5, np.nan)}), "fc.bias: must hold finite numbers"),
        (lambda w: w.update({"fc.bias": np.full(5, np.inf)}), "fc.bias: must hold finite numbers"),
        (lambda w: w.update({"fc.bias": np.full(5, 1e39)}), "fc.bias: must hold finite numbers"),
        (lambda w: w.update({"norm.running_var": -np.ones(3)}), "norm.running_var: a variance must not be"),
    ],
)
def test_bad_weights(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    """Missing, unknown, misshapen and impossible parameters are named."""
    graph = classifier(norm=True)
    weights: dict[str, Any] = dict(random_weights(graph, np.random.default_rng(0)))
    change(weights)
    with pytest.raises(NetworkError, match=message):
        Network(graph=graph, weights=weights, steps=2)


@pytest.mark.parametrize("readout", [-1, 5, True, 2.0, False, 0.0, None, "4"])
def test_bad_readout(readout: Any) -> None:
    """The readout window is a whole number of the network's steps."""
    with pytest.raises(NetworkError, match="readout: must"):
        random_network(classifier(), steps=4, readout=readout)


def test_readout_is_all_steps_by_default() -> None:
    """0 stands for all steps, and survives a change of weights."""
    network = random_network(classifier(), steps=3)
    assert network.readout == 3
    assert replace(network, weights=network.weights).readout == 3
    assert random_network(classifier(), steps=3, readout=1).readout == 1


def test_classes_name_every_output() -> None:
    """Names of the classes, one for each, or none."""
    assert random_network(classifier(), classes=["a", "b", "c"]).classes == ("a", "b", "c")
    with pytest.raises(NetworkError, match="must name 3 classes or none, got 2"):
        random_network(classifier(), classes=("a", "b"))


def test_networks_survive_copying() -> None:
    """A copy, as another process would get it, runs on the same numbers."""
    network = random_network(classifier(), classes=("a", "b", "c"), readout=2)
    again = copy.deepcopy(network)
    assert (again.graph, again.steps, again.readout) == (network.graph, network.steps, network.readout)
    assert (again.input, again.format, again.classes) == (network.input, network.format, network.classes)
    assert all((again.weights[n] == w).all() for n, w in network.weights.items())


def test_unfolded_networks_are_refused_with_the_op() -> None:
    """Lowering and quantising need a folded network; the message names the first op at fault."""
    with pytest.raises(NetworkError, match=r"norm: a BatchNorm .* cannot be used for ONNX export; fold"):
        require_folded(classifier(norm=True), "ONNX export")
    require_folded(classifier(), "ONNX export")


def exact_network() -> Network:
    """A quantised classifier."""
    network = random_network(classifier())
    return quantize(network, random_input(network)).network


def test_exact_weights_are_mantissas_times_powers_of_two() -> None:
    """Whole multiples of 2**-k, k per output channel, within eight bits."""
    network = exact_network()
    assert isinstance(network.format, Exact)
    for name, array in network.weights.items():
        units = mantissa(array, network.format.exponents[name])
        expected = array.astype(np.float64) * np.reshape(
            [2.0**k for k in network.format.exponents[name]], (-1, *(1,) * (array.ndim - 1))
        )
        assert (units == expected).all()
        assert (units == np.round(units)).all()
        if name.endswith(".weight"):
            assert np.abs(units).max() <= 127


@pytest.mark.parametrize("case", range(8))
def test_what_the_exact_format_refuses(case: int) -> None:
    """Values off the grid or too wide, missing or impossible exponents, input on no grid, BatchNorm."""
    network = exact_network()
    assert isinstance(network.format, Exact)
    exponents, weights = dict(network.format.exponents), dict(network.weights)
    step = 2.0 ** -exponents["fc.weight"][0]
    changed: dict[str, Callable[[], Network]] = {
        "exponents must name exactly": lambda: replace(network, format=Exact({})),
        "fc.weight: needs 5 exponents in": lambda: replace(
            network, format=Exact({**exponents, "fc.weight": (1,) * 4})
        ),
        r"fc.weight: needs 5 exponents in \[-64, 64\]": lambda: replace(
            network, format=Exact({**exponents, "fc.weight": (65,) * 5})
        ),
        "fc.weight: values must be whole multiples of 2..-k below 128": lambda: replace(
            network, weights={**weights, "fc.weight": weights["fc.weight"] + step / 2}
        ),
        "fc.weight: values must be whole multiples": lambda: replace(
            network, weights={**weights, "fc.weight": np.full((5, 48), 128 * step)}
        ),
        "fc.bias: values must be whole multiples": lambda: replace(
            network,
            weights={**weights, "fc.bias": np.full(5, 2.0**25)},
            format=Exact({**exponents, "fc.bias": (0,) * 5}),
        ),
        "input: the exact format needs inputs on a power-of-two grid; set grid_bits": lambda: replace(
            network, input=InputSpec()
        ),
        "norm: a BatchNorm exists only while training": lambda: random_network(
            classifier(norm=True), format=Exact({})
        ),
    }
    message, build = list(changed.items())[case]
    with pytest.raises(NetworkError, match=message):
        build()


def test_float32_is_the_default_format() -> None:
    """Nothing is asked of weights in single precision."""
    assert random_network(classifier()).format == Float32()


BAD_INPUTS: list[tuple[dict[str, Any], str]] = [
    ({"kind": "video"}, "kind must be"),
    ({"kind": ["image"]}, "kind must be"),
    ({"divisor": 0}, "divisor and std must be positive"),
    ({"divisor": -1.0}, "divisor and std must be positive"),
    ({"divisor": float("nan")}, "divisor must be finite"),
    ({"divisor": 10**400}, "divisor must be finite"),
    ({"divisor": True}, "divisor must be finite"),
    ({"divisor": "16"}, "divisor must be finite"),
    ({"high": float("inf")}, "high must be finite"),
    ({"high": None}, "high must be finite"),
    ({"low": 0.5}, "low <= 0 <= high"),
    ({"high": -0.5, "low": -1.0}, "low <= 0 <= high"),
    ({"mean": 5}, "mean must be a tuple"),
    ({"mean": {}}, "mean must be a tuple"),
    ({"std": "ab"}, "std must be a tuple"),
    ({"mean": ("a",), "std": (1.0,)}, "mean must be finite"),
    ({"mean": (0.5,), "std": ()}, "must name the same channels"),
    ({"mean": (0.5,), "std": (0.0,)}, "must be positive"),
    ({"repeat": 0}, "repeat must be"),
    ({"repeat": True}, "repeat must be"),
    ({"repeat": 2.0}, "repeat must be"),
    ({"repeat": 10**9}, "repeat must be"),
    ({"grid_bits": -1}, "grid_bits must be"),
    ({"grid_bits": 17}, "grid_bits must be"),
    ({"grid_bits": 4.0}, "grid_bits must be"),
    ({"grid_bits": True}, "grid_bits must be"),
]


@pytest.mark.parametrize(("values", "message"), BAD_INPUTS)
def test_bad_input_descriptions(values: dict[str, Any], message: str) -> None:
    """Each field is checked, types included."""
    with pytest.raises(NetworkError, match=f"^input: .*{message}"):
        InputSpec(**values)


def test_input_descriptions_must_fit_the_graph() -> None:
    """One mean for all channels or one for each; only maps of a divisible size are enlarged."""
    graph = classifier()
    for entries in (1, 2):
        random_network(graph, input=InputSpec(mean=(0.5,) * entries, std=(1.0,) * entries))
    with pytest.raises(NetworkError, match="mean and std must have 1 or 2 entries, got 3"):
        random_network(graph, input=InputSpec(mean=(0.5,) * 3, std=(1.0,) * 3))
    random_network(graph, input=InputSpec(repeat=4))
    with pytest.raises(NetworkError, match=r"repeat enlarges maps.*repeat 3, shape \(2, 4, 4\)"):
        random_network(graph, input=InputSpec(repeat=3))
    ops: dict[str, Op] = {"in": Input(shape=(4,)), "fc": linear(4, 2), "l": Lif(), "out": Output()}
    with pytest.raises(NetworkError, match="repeat enlarges maps"):
        random_network(wired(ops, "in fc l out"), input=InputSpec(repeat=2))


def by_hand(spec: InputSpec, raw: npt.NDArray[Any], channel_axis: int) -> npt.NDArray[np.float64]:
    """Preparation spelled out value by value, before enlarging."""
    found = np.empty(raw.shape)
    for index in np.ndindex(raw.shape):
        value = float(raw[index]) / spec.divisor
        if spec.mean:
            channel = index[channel_axis] if len(spec.mean) > 1 else 0
            value = (value - spec.mean[channel]) / spec.std[channel]
        if spec.grid_bits is not None:
            value = round(value * 2**spec.grid_bits) / 2**spec.grid_bits
        found[index] = value
    return found


MAPS = InputSpec(
    divisor=255, mean=(0.5, 0.25, 0.4), std=(0.5, 0.25, 0.2), repeat=2, grid_bits=4, low=-2.0, high=3.0
)


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5), (4, 2, 3, 4, 5), (3, 3, 4, 5), (0, 3, 4, 5)])
def test_preparing_maps(shape: tuple[int, ...]) -> None:
    """One map, a batch and a sequence of batches: the channel is the third axis from the end."""
    raw = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = MAPS.prepare(raw)
    assert found.dtype == np.float32
    assert found.shape == (*shape[:-2], 8, 10)
    expected = by_hand(MAPS, raw, len(shape) - 3)
    for row, column in np.ndindex(2, 2):
        assert (found[..., row::2, column::2] == expected).all()


@pytest.mark.parametrize("shape", [(4,), (3, 4), (4, 4), (5, 3, 4), (4, 4, 4)])
def test_preparing_vectors(shape: tuple[int, ...]) -> None:
    """With one axis per frame the feature is the last axis, whatever stands before it."""
    spec = InputSpec(mean=(0.1, 0.2, 0.3, 0.4), std=(1.0, 2.0, 3.0, 4.0), low=-1.0)
    raw = np.random.default_rng(0).random(shape)
    expected = by_hand(spec, raw, len(shape) - 1)
    np.testing.assert_allclose(spec.prepare(raw, axes=1), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (5, 3, 4), (2, 1, 3, 4)])
def test_one_mean_serves_every_channel(shape: tuple[int, ...]) -> None:
    """Vectors and maps alike."""
    spec = InputSpec(mean=(0.5,), std=(0.25,), low=-2.0, high=2.0)
    raw = np.random.default_rng(0).random(shape)
    np.testing.assert_allclose(spec.prepare(raw), (raw - 0.5) / 0.25, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64, np.bool_, np.float16, np.float64])
def test_preparing_any_real_type(kind: type[Any]) -> None:
    """Whole numbers do not wrap around and halves are kept."""
    raw = np.array([[[0, 1], [1, 0]]]).astype(kind)
    assert (InputSpec(divisor=2).prepare(raw) == raw.astype(np.float64) / 2).all()
    assert InputSpec().prepare([[[0, 1]]]).tolist() == [[[0.0, 1.0]]]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "raw", "message"),
    [
        (InputSpec(), np.array([1.5]), r"must lie in \[0, 1\] after preparation, got \[1.5, 1.5\]"),
        (InputSpec(), np.array([-0.1]), "must lie in"),
        (InputSpec(), np.array([np.nan, 0.5]), "must lie in"),
        (InputSpec(), np.array([np.inf]), "must lie in"),
        (InputSpec(divisor=255), np.array([300]), "check the raw data's range"),
        (MAPS, np.zeros((2, 4, 4)), "must have 3 channels"),
        (MAPS, np.zeros((3, 1, 4, 4)), "must have 3 channels"),
        (MAPS, np.zeros((3, 4)), "must have at least 3 axes"),
        (InputSpec(repeat=2), np.zeros(4), "must have at least 3 axes"),
        (InputSpec(divisor=1e-300), np.ones(4) * 1e300, "must lie in"),
        (InputSpec(mean=(0.0,), std=(1e-300,)), np.ones((1, 2, 2)) * 1e300, "must lie in"),
        (InputSpec(), np.array(["0"]), "must be an array of real numbers, got <U1"),
        (InputSpec(), np.array([None]), "must be an array of real numbers, got object"),
        (InputSpec(), np.array([0.5 + 1j]), "must be an array of real numbers, got complex128"),
        (InputSpec(), [[1], [1, 0]], "must be an array of real numbers"),
    ],
)
def test_raw_data_that_do_not_fit(spec: InputSpec, raw: npt.NDArray[Any], message: str) -> None:
    """Wrong ranges and wrong channels are named instead of being broadcast."""
    with pytest.raises(NetworkError, match=message):
        spec.prepare(raw)


def test_prepared_values_are_on_the_signed_grid() -> None:
    """Rounded to nearest after normalisation, negative values too, to exactly what `check` accepts."""
    spec = InputSpec(grid_bits=2, low=-1.0)
    raw = np.linspace(-1, 1, 41)
    found = spec.prepare(raw)
    assert set(np.unique(found)) == {n / 4 for n in range(-4, 5)}
    assert np.abs(found - raw).max() <= 1 / 8 + 1e-7
    spec.check(found)
    with pytest.raises(NetworkError, match=r"whole multiples of 2..-2; prepare the raw data"):
        spec.check(found + np.float32(1 / 8) * (found < 0.5))
    with pytest.raises(NetworkError, match="must lie in"):
        spec.check(found * 2)


def test_exact_networks_take_no_input_off_the_grid() -> None:
    """Where bits are promised, the numbers must be those that were certified."""
    network = exact_network()
    x = random_input(network)
    run(network, x)
    with pytest.raises(NetworkError, match=r"whole multiples of 2..-4"):
        run(network, x * np.float32(0.9))
    with pytest.raises(NetworkError, match="must lie in"):
        run(network, x + 1)


def test_variances_and_means_are_only_asked_of_batch_normalisation() -> None:
    """An op called `running_var` is not one."""
    ops: dict[str, Op] = {"in": Input(shape=(2,)), "running_var": linear(2, 2), "l": Lif(), "out": Output()}
    graph = wired(ops, "in running_var l out")
    Network(graph=graph, weights={"running_var.weight": -np.ones((2, 2))}, steps=1)
    assert BatchNorm(channels=2) not in graph.ops.values()
