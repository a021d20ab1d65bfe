"""Network files: what is saved is what is loaded, and nothing else loads."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
from hypothesis import given, settings
from safetensors import safe_open

from snndeploy.errors import FileFormatError, GraphError, NetworkError, SnnDeployError
from snndeploy.ir import (
    Edge,
    Exact,
    Graph,
    Input,
    InputSpec,
    Lif,
    Network,
    Op,
    Output,
    fingerprint,
    load,
    quantize,
    run,
    save,
    with_backward,
)
from snndeploy.ir import files as module
from snndeploy.ir.document import graph_from_json, graph_to_json, network_from_json, network_to_json, parse
from tests.ir.graphs import classifier, direct, linear, random_input, random_network, wired
from tests.strategies import Case, Structure, build, cases, structures

Arrays = dict[str, npt.NDArray[Any]]


def assert_same(a: Network, b: Network) -> None:
    """Equal in every field and every bit."""
    assert a.graph == b.graph
    assert (a.steps, a.readout, a.input, a.format, a.classes) == (
        b.steps,
        b.readout,
        b.input,
        b.format,
        b.classes,
    )
    assert list(a.weights) == list(b.weights)
    for name, array in a.weights.items():
        assert array.tobytes() == b.weights[name].tobytes(), name
        assert array.shape == b.weights[name].shape
    assert fingerprint(a) == fingerprint(b)


def tiny() -> Network:
    """Graph: in (2) -> fc -> a -> out, a -(1)-> a, with class names."""
    ops: dict[str, Op] = {"in": Input(shape=(2,)), "fc": linear(2, 2, bias=True), "a": Lif(), "out": Output()}
    spec = InputSpec(mean=(0.5,), std=(2.0,), grid_bits=4, low=-1.0)
    graph = wired(ops, "in fc a out", "a ~1 a")
    return random_network(graph, steps=3, readout=2, input=spec, classes=("no", "yes"))


def exact() -> Network:
    """The same in the exact format."""
    network = tiny()
    return quantize(network, random_input(network)).network


def unpack(path: Path) -> tuple[dict[str, Any], Arrays]:
    """The document and the arrays of a file."""
    with safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return json.loads(file.metadata()["document"]), arrays


def write(path: Path, document: Any, arrays: Arrays, metadata: Mapping[str, str] | None = None) -> None:
    """A file with a right checksum, whatever it says; a text is taken as the document itself."""
    text = document if isinstance(document, str) else json.dumps(document)
    own = {"kind": module.KIND, "version": module.VERSION, "document": text}
    own["sha256"] = module._digest(text, arrays)
    fresh(path, safetensors.numpy.save(arrays, {**own, **(metadata or {})}))


def fresh(path: Path, content: bytes | bytearray) -> None:
    """Writes a new file; to overwrite one can take a file system a hundred times longer."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


@settings(max_examples=25)
@given(cases(most_layers=3))
def test_random_networks_come_back(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    """In both formats, with every setting, and they do the same."""
    path = tmp_path_factory.mktemp("files") / "network.snn.safetensors"
    for network in (case.original, case.network):
        save(network, path)
        again = load(path)
        assert_same(network, again)
        assert list(again.graph.ops) == list(network.graph.ops), "the order numbers the ports"
    assert (run(again, case.x).logits == run(case.network, case.x).logits).all()


@given(structures())
def test_graphs_come_back_from_json(structure: Structure) -> None:
    """As a value and as text, training ops and backward connections included."""
    graph = build(structure)
    text = json.dumps(graph_to_json(graph), allow_nan=False)
    again = graph_from_json(parse(text, "text"))
    assert again == graph
    assert json.dumps(graph_to_json(again)) == text


def test_single_precision_comes_back_to_the_bit(tmp_path: Path) -> None:
    """Negative zeros, the smallest and the largest numbers."""
    bits = [-0.0, 1e-45, -1e-45, 1.1754944e-38, 3.4028235e38, 0.1, 1.0]
    network = random_network(classifier())
    weight = np.resize(np.array(bits, np.float32), (3, 5))
    network = replace(network, weights={**network.weights, "readout.weight": weight})
    save(network, tmp_path / "n")
    assert_same(network, load(tmp_path / "n"))


def test_exact_networks_are_stored_as_integers(tmp_path: Path) -> None:
    """Weights as int8, biases as int32, each with its exponents: a quarter of the size, and readable."""
    network = exact()
    assert isinstance(network.format, Exact)
    save(network, tmp_path / "n")
    _, arrays = unpack(tmp_path / "n")
    assert {name: a.dtype for name, a in arrays.items()} == {
        "fc.weight": np.int8,
        "fc.weight/exponent": np.int8,
        "fc.bias": np.int32,
        "fc.bias/exponent": np.int8,
    }
    for name, exponents in network.format.exponents.items():
        scale = np.exp2(-np.array(exponents, float)).reshape(-1, *[1] * (arrays[name].ndim - 1))
        assert (arrays[name] * scale == network.weights[name]).all()
    assert_same(network, load(tmp_path / "n"))


def test_fingerprints_are_the_same_everywhere() -> None:
    """In another process, with other hashes, and for weights given in another order or layout."""
    network = exact()
    code = "from tests.ir.test_files import *\nprint(fingerprint(exact()), fingerprint(tiny()))"
    root = Path(__file__).parents[2]
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [fingerprint(network), fingerprint(tiny())]
    shuffled = {name: np.asfortranarray(w) for name, w in reversed(list(network.weights.items()))}
    assert fingerprint(replace(network, weights=shuffled)) == fingerprint(network)


def test_the_format_has_not_changed_unnoticed() -> None:
    """Files of version 1 that exist must stay readable: a new fingerprint needs a new version."""
    graph = direct("in a out", "a ~1 a")
    network = Network(graph=graph, weights={}, steps=2, classes=("x", "y"))
    assert json.loads(json.dumps(network_to_json(network))) == {
        "graph": {
            "ops": [
                {"name": "in", "type": "Input", "shape": [2]},
                {"name": "a", "type": "Lif", "tau": 0.5, "threshold": 1.0},
                {"name": "out", "type": "Output"},
            ],
            "edges": [["in", "a", 0], ["a", "out", 0], ["a", "a", 1]],
        },
        "steps": 2,
        "readout": 2,
        "input": {
            "kind": "image",
            "divisor": 1.0,
            "mean": [],
            "std": [],
            "repeat": 1,
            "grid_bits": None,
            "low": 0.0,
            "high": 1.0,
        },
        "format": "float32",
        "classes": ["x", "y"],
    }
    assert fingerprint(network) == "f003ec30b8c45b3f6c6c799026f924b768b761e9ef0301433d86f07548b28cfa"


def test_any_change_changes_the_fingerprint() -> None:
    """Each setting, each op and edge, their order, and the last bit of a weight."""
    network = exact()
    graph, weights = network.graph, network.weights
    assert isinstance(network.format, Exact)
    finer = {name: tuple(k + 1 for k in e) for name, e in network.format.exponents.items()}
    one_up = weights["fc.bias"].copy()
    one_up[0] += 2.0 ** -network.format.exponents["fc.bias"][0]
    zero = {name: np.zeros_like(w) for name, w in weights.items()}
    original = tiny()
    nudged = np.nextafter(original.weights["fc.bias"], np.float32(9))
    changed = [
        network,
        original,
        replace(original, weights={**original.weights, "fc.bias": nudged}),
        replace(network, weights={**weights, "fc.bias": one_up}),
        replace(network, weights=zero, format=Exact(finer)),
        replace(network, weights=zero),
        replace(network, steps=4),
        replace(network, readout=1),
        replace(network, classes=()),
        replace(network, classes=("yes", "no")),
        replace(network, graph=Graph(dict(reversed(list(graph.ops.items()))), graph.edges)),
        replace(network, graph=Graph(graph.ops, graph.edges[::-1])),
        replace(network, graph=Graph(graph.ops, (*graph.edges[:-1], Edge("a", "a", 2)))),
        replace(network, graph=Graph({**graph.ops, "a": Lif(tau=0.25)}, graph.edges)),
        replace(network, graph=Graph({**graph.ops, "a": Lif(threshold=2.0)}, graph.edges)),
        *(
            replace(network, input=replace(network.input, **change))
            for change in (
                {"kind": "frames"},
                {"divisor": 2.0},
                {"mean": (0.25,)},
                {"std": (3.0,)},
                {"grid_bits": 5},
                {"low": -2.0},
                {"repeat": 1, "high": 3.0},
                {"high": 2.0},
            )
        ),
    ]
    assert len({fingerprint(n) for n in changed}) == len(changed)


def test_equal_settings_have_equal_fingerprints() -> None:
    """Whole numbers given as int or float are the same numbers."""
    one = random_network(direct("in a out"), input=InputSpec(divisor=16, high=1, mean=(0,), std=(1,), low=-1))
    other = replace(one, input=InputSpec(divisor=16.0, high=1.0, mean=(0.0,), std=(1.0,), low=-1.0))
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize("make", [tiny, exact])
def test_truncated_files(make: Callable[[], Network], tmp_path: Path) -> None:
    """Cut at every 97th byte and at each of the last."""
    path = tmp_path / "n"
    save(make(), path)
    whole = path.read_bytes()
    assert len(whole) > 97 * 5
    for length in [*range(0, len(whole), 97), *range(len(whole) - 9, len(whole))]:
        fresh(path, whole[:length])
        with pytest.raises(FileFormatError):
            load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(FileFormatError):
        load(path)
    path.write_bytes(whole)
    assert_same(load(path), make())


def test_a_flipped_bit_anywhere(tmp_path: Path) -> None:
    """One bit of every byte, header and arrays."""
    path = tmp_path / "n"
    save(exact(), path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place * 5 % 8)
        fresh(path, damaged)
        with pytest.raises(FileFormatError):
            load(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"kind": "snndeploy-something"}, "is not a network file of snndeploy"),
        ({"version": "2"}, "must have format version 1, got '2'; use the snndeploy that wrote it"),
        ({"version": ""}, "must have format version 1"),
        ({"sha256": "0" * 64}, "its checksum does not match"),
        ({"document": "{}"}, "its checksum does not match"),
    ],
)
def test_other_kinds_and_versions(metadata: dict[str, str], message: str, tmp_path: Path) -> None:
    """Another kind is told from another version and from damage."""
    save(tiny(), tmp_path / "n")
    write(tmp_path / "n", *unpack(tmp_path / "n"), metadata)
    with pytest.raises(FileFormatError, match=message) as caught:
        load(tmp_path / "n")
    assert caught.value.where == str(tmp_path / "n")
    assert caught.value.remedy


def test_files_of_other_programs(tmp_path: Path) -> None:
    """Plain safetensors without metadata, text, nothing at all, a folder, and no file."""
    path = tmp_path / "n"
    path.write_bytes(safetensors.numpy.save({"a": np.ones(3)}))
    with pytest.raises(FileFormatError, match="is not a network file"):
        load(path)
    for content in (b"", b"{}", b"\xff" * 64, b"PK\x03\x04" + bytes(100), (2**62).to_bytes(8, "little")):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=r"is not a whole network file|cannot be read"):
            load(path)
    with pytest.raises(FileFormatError, match=r"cannot be read|is not a whole network file") as caught:
        load(tmp_path)
    assert caught.value.where == str(tmp_path)
    with pytest.raises(FileFormatError, match="does not exist"):
        load(tmp_path / "missing")
    with pytest.raises(FileFormatError, match=r"does not exist|cannot be read"):
        load(path / "below-a-file")


def set_at(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one value."""

    def change(document: dict[str, Any]) -> None:
        node: Any = document
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = to

    return change


OPS = ("graph", "ops")
EDITS: list[tuple[Callable[[dict[str, Any]], Any], type[SnnDeployError], str]] = [
    (
        set_at(*OPS, 2, "type", to="Spike"),
        FileFormatError,
        "op 'a': is of an unknown type, got 'Spike'; known are",
    ),
    (set_at(*OPS, 2, "type", to=["Lif"]), FileFormatError, "unknown type"),
    (set_at(*OPS, 2, "type", to=None), FileFormatError, "unknown type"),
    (set_at(*OPS, 2, "decay", to=0.5), FileFormatError, "a Lif has the fields"),
    (lambda d: d["graph"]["ops"][2].pop("tau"), FileFormatError, "a Lif has the fields"),
    (lambda d: d["graph"]["ops"][2].pop("name"), FileFormatError, "each op must be an object with a name"),
    (set_at(*OPS, 2, to="Lif"), FileFormatError, "each op must be an object with a name"),
    (set_at(*OPS, 2, "tau", to="0.5"), GraphError, "op 'a', a Lif: tau must lie in"),
    (set_at(*OPS, 2, "tau", to=True), GraphError, "tau must lie in"),
    (set_at(*OPS, 2, "tau", to=10**300), GraphError, "tau must lie in"),
    (set_at(*OPS, 2, "tau", to={"a": []}), GraphError, "tau must lie in"),
    (set_at(*OPS, 1, "in_features", to=10**30), GraphError, "op 'fc', a Linear: in_features must be"),
    (set_at(*OPS, 1, "in_features", to=2.0), GraphError, "in_features must be a whole number"),
    (set_at(*OPS, 1, "bias", to=1), GraphError, "bias must be true or false"),
    (set_at(*OPS, 0, "shape", to=2), GraphError, "op 'in', a Input: shape must be"),
    (set_at(*OPS, 0, "shape", to=[[2]]), GraphError, "shape must be a whole number"),
    (set_at(*OPS, 0, "shape", to=[3]), GraphError, "Linear takes"),
    (set_at(*OPS, 0, "name", to="a"), FileFormatError, "op 'a': a name may stand only once"),
    (set_at(*OPS, 0, "name", to="\ud800"), GraphError, "letters, digits"),
    (set_at("graph", "ops", to={}), FileFormatError, "ops: must be a list"),
    (set_at("graph", "edges", 0, to=["in", "fc"]), FileFormatError, "source, target, delay"),
    (set_at("graph", "edges", 0, to=[["in"], "fc", 0]), FileFormatError, "source, target, delay"),
    (set_at("graph", "edges", 0, to=["in", "cf", 0]), GraphError, "names 'cf', which is no op"),
    (set_at("graph", "edges", 0, to=["in", "\ud800", 0]), GraphError, "which is no op"),
    (set_at("graph", "edges", 3, to=["a", "a", 0]), GraphError, "cycle a -> a"),
    (set_at("graph", "edges", 3, to=["a", "fc", 0]), GraphError, "cycle"),
    (set_at("graph", "edges", 3, to=["a", "a", 0.5]), GraphError, "delay must be"),
    (set_at("graph", "edges", 3, to=["a", "a", 3]), NetworkError, "never acts within 3 time steps"),
    (set_at("graph", "edges", to=[]), GraphError, "in: must lead to the Output"),
    (set_at("graph", "extra", to=[]), FileFormatError, "graph: must be an object with the fields"),
    (set_at("graph", to=None), FileFormatError, "graph: must be an object"),
    (set_at("steps", to=1e9), NetworkError, "steps: must be"),
    (set_at("steps", to=10**4000), NetworkError, "steps: must be"),
    (set_at("steps", to="3"), NetworkError, "steps: must be"),
    (set_at("steps", to=True), NetworkError, "steps: must be"),
    (set_at("readout", to=4), NetworkError, "readout: must lie in"),
    (set_at("readout", to=[]), NetworkError, "readout: must be"),
    (set_at("format", to="int4"), FileFormatError, "format: must be 'float32' or 'exact'"),
    (set_at("format", to="exact"), NetworkError, "exponents must name"),
    (set_at("format", to=[]), FileFormatError, "format: must be"),
    (set_at("classes", to="ab"), FileFormatError, "classes: must be a list"),
    (set_at("classes", to=[1, 2]), FileFormatError, "classes: must be a list of names"),
    (set_at("classes", to=["a"]), NetworkError, "must name 2 classes"),
    (set_at("input", "divisor", to=10**400), NetworkError, "divisor must be finite"),
    (set_at("input", "mean", to=5), NetworkError, "mean must be a tuple"),
    (set_at("input", "mean", to={}), NetworkError, "mean must be a tuple"),
    (set_at("input", "std", to=None), NetworkError, "std must be a tuple"),
    (set_at("input", "kind", to=[]), NetworkError, "kind must be"),
    (set_at("input", "scale", to=1), FileFormatError, "input: must be an object with the fields"),
    (set_at("input", to=[]), FileFormatError, "input: must be an object with the fields"),
    (set_at("extra", to=1), FileFormatError, "network: must be an object with the fields"),
    (lambda d: d.pop("steps"), FileFormatError, "network: must be an object with the fields"),
]


@pytest.mark.parametrize("case", range(len(EDITS)))
def test_edited_documents_with_a_right_checksum(case: int, tmp_path: Path) -> None:
    """Each says what is wrong, under one of our own errors, and can be printed."""
    change, kind, message = EDITS[case]
    save(tiny(), tmp_path / "n")
    document, arrays = unpack(tmp_path / "n")
    change(document)
    write(tmp_path / "n", document, arrays)
    with pytest.raises(kind, match=message) as caught:
        load(tmp_path / "n")
    assert str(caught.value).encode()
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        "{} {}",
        '{"steps": NaN}',
        '{"steps": -Infinity}',
        '{"steps": ' + "9" * 5000 + "}",
        "[" * 100_000,
        *('{"graph": ' * depth + "1" + "}" * depth for depth in range(850, 1000, 3)),
        *(
            '{"graph": {"ops": ' + "[" * depth + "]" * depth + ', "edges": []}}'
            for depth in range(850, 1000, 3)
        ),
        '{"graph": "\ud800"}',
        '{"graph": "\\ud800"}',
    ],
    ids=lambda text: text[:20],
)
def test_documents_that_are_no_json_of_ours(text: str, tmp_path: Path) -> None:
    """Broken JSON, NaN, endless digits, nesting up to and beyond what Python can read."""
    path = tmp_path / "n"
    try:
        write(path, text, {"fc.bias": np.ones(2, np.float32)})
    except UnicodeEncodeError:
        with pytest.raises(FileFormatError):
            network_from_json(parse(text, "text"), {}, {})
        return
    with pytest.raises(FileFormatError):
        load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("fc.bias"), "belongs to no array"),
        (lambda a: a.pop("fc.bias/exponent"), "exponents must name exactly"),
        (lambda a: [a.pop("fc.bias/exponent"), a.pop("fc.bias")], "missing .'fc.bias'."),
        (lambda a: a.update({"fc.bias": a["fc.bias"].astype(np.int64)}), "must be float32, int8 or int32"),
        (lambda a: a.update({"fc.bias": a["fc.bias"].astype(np.float64)}), "must be float32, int8 or int32"),
        (lambda a: a.update({"fc.bias": a["fc.bias"][:, None]}), "must have shape"),
        (lambda a: a.update({"fc.bias": np.array(1, np.int32)}), "needs one int8 exponent"),
        (lambda a: a.update({"fc.bias": np.zeros((0,), np.int32)}), "needs one int8 exponent"),
        (lambda a: a.update({"fc.bias/exponent": np.zeros(3, np.int8)}), "needs one int8 exponent"),
        (lambda a: a.update({"fc.bias/exponent": np.zeros(2, np.int32)}), "needs one int8 exponent"),
        (lambda a: a.update({"fc.bias/exponent": np.full(2, -65, np.int8)}), "exponents in"),
        (lambda a: a.update({"fc.bias/exponent": np.full(2, -128, np.int8)}), "must hold finite numbers"),
        (lambda a: a.update({"fc.weight/exponent": np.full(2, 127, np.int8)}), "exponents in"),
        (lambda a: a.update({"fc.weight": np.full((2, 2), -128, np.int8)}), "below 128 in size"),
        (lambda a: a.update({"fc.bias": np.full(2, 2**31 - 1, np.int32)}), "below 16777217 in size"),
        (lambda a: a.update({"fc.bias": np.full(2, np.nan, np.float32)}), "finite"),
        (lambda a: a.update({"extra": np.ones(1, np.float32)}), "unknown .'extra'."),
    ],
)
def test_edited_arrays_with_a_right_checksum(
    change: Callable[[Arrays], Any], message: str, tmp_path: Path
) -> None:
    """Types, shapes, exponents and mantissas are checked, and overflow is no warning but an error of ours."""
    save(exact(), tmp_path / "n")
    document, arrays = unpack(tmp_path / "n")
    change(arrays)
    write(tmp_path / "n", document, arrays)
    with pytest.raises(SnnDeployError, match=message):
        load(tmp_path / "n")


def test_huge_shapes_are_refused_without_memory(tmp_path: Path) -> None:
    """A document of a few bytes cannot make the reader allocate what it claims."""
    save(tiny(), tmp_path / "n")
    document, arrays = unpack(tmp_path / "n")
    huge = 2**31 - 1
    fc = {"name": "fc", "type": "Linear", "in_features": huge, "out_features": huge, "bias": True}
    document["graph"]["ops"][:2] = [{"name": "in", "type": "Input", "shape": [huge]}, fc]
    document["classes"] = []
    write(tmp_path / "n", document, arrays)
    tracemalloc.start()
    try:
        with pytest.raises(NetworkError, match="must have shape"):
            load(tmp_path / "n")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


# fmt: off
NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 3, 10**9, 2**31, 10**25, 10**400, 0.5, -0.5, 1e308, 1e-320,
    "", "a", "in", "fc", "\ud800", "Lif", "Output", "exact", "frames", [], [[]], {}, {"a": 1}, [1, 1],
    ["a", "a", 0], ["a", "in", 1], [2**31 - 1] * 3, {"name": "z", "type": "Output"},
    {"name": "z", "type": "Lif", "tau": 0.5, "threshold": 1.0},
]
# fmt: on


def mutated(value: Any, rng: random.Random) -> Any:
    """A JSON value with one part replaced, removed, doubled or moved."""
    if isinstance(value, (list, dict)) and value and rng.random() < 0.85:
        keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        copy: Any = value.copy()
        match rng.randrange(20):
            case 0:
                del copy[key]
            case 1 if isinstance(copy, list):
                copy.insert(key, rng.choice([value[rng.choice(keys)], rng.choice(NASTY)]))
            case 1:
                copy[rng.choice([*keys, "name", "zz"])] = rng.choice(NASTY)
            case 2:
                other = rng.choice(keys)
                copy[key], copy[other] = copy[other], copy[key]
            case _:
                copy[key] = mutated(copy[key], rng)
        return copy
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300:
        return rng.choice([value + 1, value - 1, value * 2, -value, float(value), str(value)])
    return rng.choice(NASTY)


def try_to_load(path: Path) -> bool:
    """Whether a file loads; any error but ours fails the test. What loads can be saved and named again."""
    try:
        network = load(path)
    except SnnDeployError as error:
        return not str(error).encode()  # printable
    before = fingerprint(network)
    save(network, path)
    assert fingerprint(load(path)) == before
    return True


def test_four_thousand_files_with_mutated_bytes(tmp_path: Path) -> None:
    """Bytes changed, removed, doubled or moved: never loads, never raises anything but our errors."""
    rng = random.Random(0)  # noqa: S311 - mutations, no secrets
    path = tmp_path / "n"
    wholes = []
    for network in (tiny(), exact()):
        save(network, path)
        wholes.append(path.read_bytes())
    for index in range(4000):
        data = bytearray(wholes[index % 2])
        for _ in range(rng.choice([1, 1, 2, 8])):
            a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
            match rng.randrange(5):
                case 0:
                    data[a : a + 1] = rng.randbytes(1)
                case 1:
                    del data[a : min(b, a + 20)]
                case 2:
                    data[a:a] = data[a : min(b, a + 20)]
                case 3:
                    data[a : a + 8] = rng.choice([bytes(8), b"\xff" * 8, rng.randbytes(8)])
                case _:
                    data[:8] = rng.choice([len(data), 2**31, 2**63, rng.randrange(400)]).to_bytes(8, "little")
        fresh(path, data)
        assert not try_to_load(path) or bytes(data) == wholes[index % 2]


def test_six_thousand_files_with_mutated_content(tmp_path: Path) -> None:
    """Documents and arrays changed and signed anew: what breaks a rule raises our errors, the rest loads."""
    rng = random.Random(1)  # noqa: S311 - mutations, no secrets
    path = tmp_path / "n"
    originals = []
    for network in (tiny(), exact()):
        save(network, path)
        originals.append(unpack(path))
    loaded = 0
    for index in range(6000):
        document, arrays = originals[index % 2]
        arrays = dict(arrays)
        for _ in range(rng.choice([1, 1, 2, 3])):
            if rng.random() < 0.8:
                document = mutated(document, rng)
            else:
                mutate_array(arrays, rng)
        text = json.dumps(document)
        if rng.random() < 0.2:
            place = rng.randrange(len(text))
            text = text[:place] + rng.choice(['"', "[", "{", "9", ",", "e9", "\\", "-"]) + text[place + 1 :]
        write(path, text, arrays)
        loaded += try_to_load(path)
    assert 100 < loaded < 5000, "some mutations are harmless, most are not"


def mutate_array(arrays: Arrays, rng: random.Random) -> None:
    """Changes, removes, renames, retypes or reshapes one array."""
    if not arrays:
        return
    numbers = [0, 1, -1, 64, 65, -65, 127, -128]
    name = rng.choice(list(arrays))
    array = arrays[name].copy()
    match rng.randrange(7):
        case 0:
            del arrays[name]
            return
        case 1:
            del arrays[name]
            name = rng.choice(["fc.weight", "fc.scale", "fc.weight/exponent", "/exponent", "", "\u00e9"])
        case 2:
            kinds = [np.int8, np.int32, np.float32, np.float64, np.uint8, np.bool_, np.float16]
            with np.errstate(all="ignore"):
                array = array.astype(rng.choice(kinds))
        case 3:
            array = rng.choice(
                [array[None], array.ravel()[:1], array.ravel()[0:0], array.reshape(-1), array[..., :1]]
            )
        case 4 if array.dtype == np.float32:
            array.flat[0:1] = rng.choice([np.nan, np.inf, -np.inf, 3e38, 1e-45, -0.0])
        case _:
            array.flat[0:1] = np.array(rng.choice(numbers)).astype(array.dtype)
    arrays[name] = np.ascontiguousarray(array)


def contents(folder: Path) -> Mapping[str, bytes]:
    """All files of a folder, hidden ones too."""
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_an_interrupted_save_leaves_the_old_file(
    failure: BaseException, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C or a full disk, while writing or just before the file is in place: nothing new, nothing half."""
    path = tmp_path / "n.snn.safetensors"
    save(tiny(), path)
    before = contents(tmp_path)

    def fail(self: Path, *arguments: Any) -> None:
        if moment == "writing":
            with self.open("wb") as file:
                file.write(arguments[0][:100])
        raise failure

    monkeypatch.setattr(Path, "write_bytes" if moment == "writing" else "replace", fail)
    expected = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else FileFormatError
    with pytest.raises(expected):
        save(exact(), path)
    monkeypatch.undo()
    assert contents(tmp_path) == before


def test_saving_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    """One file, readable as others are."""
    path = tmp_path / "n.snn.safetensors"
    save(tiny(), path)
    save(exact(), str(path))
    assert list(contents(tmp_path)) == [path.name]
    assert_same(load(str(path)), exact())
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    """A missing folder, a file instead of a folder, a folder instead of a file, and one without permission."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "locked").mkdir(mode=0o500)
    places = [
        tmp_path / "missing" / "n",
        tmp_path / "file" / "n",
        tmp_path / "folder",
        tmp_path / ("n" * 300),
    ]
    if os.geteuid() == 0:  # who may write anywhere but where there are no files
        places.append(Path("/proc/n.snn.safetensors"))
    else:
        places.append(tmp_path / "locked" / "n")
    for place in places:
        with pytest.raises(FileFormatError, match="cannot be written") as caught:
            save(tiny(), place)
        assert caught.value.where == str(place)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder", "locked"]


def test_networks_with_backward_connections_come_back(tmp_path: Path) -> None:
    """An unfolded network with BatchNorm and a branch, by name."""
    network = random_network(with_backward(classifier(norm=True), 1, 0, delay=2), steps=5)
    save(network, tmp_path / "n")
    assert_same(network, load(tmp_path / "n"))
