"""A bundle is read back as it was written, and any damage to it is noticed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snndeploy import ir
from snndeploy.errors import FileFormatError, TargetError
from snndeploy.export import lava as lowering
from snndeploy.targets import lava
from tests.export.networks import Case, assert_same, case, long_delays

MANIFEST = "manifest.json"


@pytest.fixture(scope="module")
def tested() -> Case:
    """l1 -> l0 after 2 steps, l3 -> l2 after 3 and after 1."""
    return case(long_delays(), steps=5, readout=2, seed=1)


@pytest.fixture
def folder(tested: Case, tmp_path: Path) -> Path:
    """A fresh bundle of it."""
    return lowering.export(tested.network, tmp_path / "bundle", tested.x, fingerprint="abc")


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the manifest and makes its checksum fit again."""
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    manifest.pop("checksum", None)
    compact = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    manifest["checksum"] = hashlib.sha256(compact.encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_read_gives_back_what_was_written(tested: Case, folder: Path) -> None:
    """Schedule, shapes, samples and expected results survive the file."""
    bundle = lava.read(folder)
    graph = tested.network.graph
    assert bundle.schedule == ir.schedule(graph)
    network = bundle.network
    assert (network.input, network.classes) == (tested.network.input, tested.network.classes)
    assert (network.steps, network.readout, bundle.samples) == (5, 2, 3)
    assert (bundle.form, bundle.schedule.name) == ("fused", "scheduled")
    assert (bundle.fingerprint, bundle.number_format, bundle.exact) == ("abc", "float32", False)
    assert bundle.ports == graph.ports
    assert ir.populations(network.graph) == ir.populations(graph)
    assert dict(network.graph.shapes) == dict(graph.shapes)
    for name, array in tested.network.weights.items():
        np.testing.assert_array_equal(network.weights[name], array)
    assert bundle.input_shape == (1, 7, 7)
    np.testing.assert_array_equal(bundle.inputs, tested.x)
    assert_same(bundle.expected, ir.run(tested.network, tested.x))


def test_frames_come_back_time_first(tmp_path: Path) -> None:
    """Samples are returned with the axes that the interpreter takes."""
    tested = case(long_delays(), steps=4, seed=1, kind="frames")
    bundle = lava.read(lowering.export(tested.network, tmp_path / "bundle", tested.x))
    np.testing.assert_array_equal(bundle.inputs, tested.x)


@pytest.mark.parametrize("name", ["weights.npz", "samples.npy", "expected.npz"])
@pytest.mark.parametrize("damage", ["changed", "truncated", "missing"])
def test_damaged_arrays_are_noticed(name: str, damage: str, folder: Path) -> None:
    """One changed byte, a shorter file or none is an error that names the file."""
    data = bytearray((folder / name).read_bytes())
    data[-30] ^= 1
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(data if damage == "changed" else data[:-1])
    with pytest.raises(FileFormatError, match=name.replace(".", r"\.")):
        lava.read(folder)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "is not valid JSON"),
        ("{", "is not valid JSON"),
        ("[]", "is not the manifest of a Lava bundle"),
        ('{"format": "snndeploy-network"}', "is not the manifest of a Lava bundle"),
        ('{"format": "snndeploy-lava-bundle", "version": 1}', "must have format version 2"),
        ('{"format": "snndeploy-lava-bundle", "version": 2}', "its checksum does not match"),
        ('{"a": NaN}', "numbers must be finite"),
    ],
)
def test_other_manifests_are_refused(text: str, rule: str, folder: Path) -> None:
    """What is no manifest, or of another version, is named."""
    (folder / MANIFEST).write_text(text)
    with pytest.raises(FileFormatError, match=rule):
        lava.read(folder)


def test_an_edited_manifest_is_noticed(folder: Path) -> None:
    """A changed start time, harmless to look at, breaks the checksum."""
    text = (folder / MANIFEST).read_text()
    assert '"start": 3' in text
    (folder / MANIFEST).write_text(text.replace('"start": 3', '"start": 4'))
    with pytest.raises(FileFormatError, match="its checksum does not match"):
        lava.read(folder)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    """A missing folder, a file and a folder without a manifest are no bundles."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(FileFormatError, match="is no Lava bundle"):
            lava.read(path)


def test_manifests_that_lack_something(folder: Path, tmp_path: Path) -> None:
    """A manifest with a fitting checksum but without an entry, or with one of a wrong type, is an error."""
    whole = json.loads((folder / MANIFEST).read_text())
    needed = set(whole) - {"checksum", "writer", "classes", "format", "version"}
    for index, key in enumerate(sorted(needed)):
        copy = tmp_path / str(index)
        shutil.copytree(folder, copy)
        rewrite(copy, lambda manifest, key=key: manifest.pop(key))  # type: ignore[misc]
        with pytest.raises(FileFormatError):
            lava.read(copy)
    for key in ("files", "populations", "schedule", "input"):
        rewrite(folder, lambda manifest, key=key: manifest.update({key: 3}))  # type: ignore[misc]
        with pytest.raises(FileFormatError):
            lava.read(folder)


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        *[("manifest", {name: "x"}) for name in ("exact", "steps", "readout", "samples", "populations")],
        *[("manifest", {name: 3}) for name in ("fingerprint", "number_format")],
        *[("manifest", {"samples": value}) for value in (0, -1, 1.5, True, None, [3])],
        *[("schedule", {name: "x"}) for name in ("initiation_interval", "gap")],
        *[("schedule", {"name": []}), ("schedule", {"initiation_interval": 0})],
        *[
            ("population", {name: "x"})
            for name in ("shape", "start", "arrivals", "program", "sources", "tau")
        ],
        *[("population", {"name": []}), ("population", {"type": "Conv"}), ("population", {"name": "input"})],
        *[("population", {"shape": [4, "7", 7]}), ("population", {"arrivals": [3]})],
        *[("arrival", {name: 0.5}) for name in ("source", "delay", "wait", "shape")],
        *[("step", {name: 3}) for name in ("name", "type", "sources")],
    ],
)
def test_wrong_types_are_refused(part: str, wrong: dict[str, Any], folder: Path) -> None:
    """A wrong type in any entry that is used is an error of ours, though the checksum fits."""

    def change(manifest: dict[str, Any]) -> None:
        population = manifest["populations"][1]
        parts = {
            "manifest": manifest,
            "schedule": manifest["schedule"],
            "population": population,
            "arrival": population["arrivals"][0],
            "step": population["program"][0],
        }
        parts[part].update(wrong)

    rewrite(folder, change)
    with pytest.raises(FileFormatError):
        lava.read(folder)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value of a manifest that is no object and no list, and to every empty list."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    entries = list(inner)
    if not entries:
        yield path
    for key, entry in entries:
        yield from leaves(entry, (*path, key))


def test_every_entry_is_checked(tmp_path: Path) -> None:
    """Another type in any place of a manifest, of a network with registers and all kinds of ops, is refused."""
    made = case(long_delays(), steps=5, seed=1)
    network = ir.quantize(made.network, made.x, format="loihi").network
    folder = lowering.export(replace(network, classes=("a", "b", "c")), tmp_path / "bundle", made.x)
    whole = json.loads((folder / MANIFEST).read_text())
    paths = [path for path in leaves(whole) if path not in (("writer",), ("checksum",))]
    assert len(paths) > 200
    for path in paths:
        changed = json.loads(json.dumps(whole))
        *way, last = path
        entry = reduce(getitem, way, changed)
        entry[last] = 0.5 if isinstance(entry[last], str) else "x"
        rewrite(folder, lambda manifest, changed=changed: manifest.update(changed))  # type: ignore[misc]
        with pytest.raises(FileFormatError):
            lava.read(folder)


@pytest.mark.parametrize(
    ("rule", "edit"),
    [
        ("must be one of fused, stock", lambda m: m.update(form="other")),
        ("must stand in a stock bundle", lambda m: m.update(form="stock")),
        ("must stand in a stock bundle", lambda m: m.update(stock={})),
        ("must be one of scheduled, pipelined, synchronous", lambda m: m["schedule"].update(name="other")),
        ("must be 1 in a pipelined schedule", lambda m: m["schedule"].update(name="pipelined")),
        ("machine_steps", lambda m: m["schedule"].update(machine_steps=1)),
        ("machine_steps_per_sample", lambda m: m["schedule"].update(gap=9)),
        ("must be at least 0 and at most 10000000", lambda m: m["schedule"].update(gap=10**18)),
        ("must be at least 1 and at most", lambda m: m["schedule"].update(initiation_interval=10**40)),
        ("must say whether the network is certified", lambda m: m.update(exact=False)),
        ("registers", lambda m: m.update(number_format="float32")),
        ("registers", lambda m: m["populations"][1]["registers"]["threshold"].append(1)),
        ("registers", lambda m: m["populations"][1]["registers"].update(decay=2047)),
        ("registers", lambda m: m["populations"][1].pop("registers")),
        ("registers", lambda m: m["populations"][1].update(threshold=0.5)),
        ("arrivals", lambda m: m["populations"][1]["arrivals"].pop()),
        ("arrivals", lambda m: m["populations"][1]["arrivals"][0].update(shape=[1, 7, 8])),
        ("after its sources", lambda m: m["populations"][-1]["program"].reverse()),
        ("order of execution|names", lambda m: m["populations"].reverse()),
        ("samples of the network's shape", lambda m: m.update(samples=2)),
        ("shape", lambda m: m["populations"][1].update(shape=[4, 7, 8])),
        ("must lie in", lambda m: m.update(readout=6)),
    ],
)
def test_contradictions_are_refused(
    rule: str, edit: Callable[[dict[str, Any]], object], tested: Case, tmp_path: Path
) -> None:
    """What has the right type but does not fit the rest is named."""
    network = ir.quantize(tested.network, tested.x, format="loihi").network
    folder = lowering.export(network, tmp_path / "bundle", tested.x)
    rewrite(folder, edit)
    with pytest.raises(FileFormatError, match=rule):
        lava.read(folder)


def test_an_uncertified_bundle_is_refused(
    tested: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loihi network whose readout may round is not run, even if its bundle does not promise equality."""
    network = ir.quantize(tested.network, tested.x, format="loihi").network
    assert isinstance(network.format, ir.Loihi)
    exponents = {**network.format.exponents, "fc.bias": (0, 0, 0)}
    weights = {**network.weights, "fc.bias": np.full(3, 2.0**23)}
    large = replace(network, weights=weights, format=ir.Loihi(exponents))
    assert [row.op for row in ir.certify(large).failures] == ["fc", "output"]
    monkeypatch.setattr("snndeploy.export.lava.bundle._require_certified", lambda _: None)
    folder = lowering.export(large, tmp_path / "bundle", tested.x)
    with pytest.raises(FileFormatError, match="holds a loihi network without a certificate"):
        lava.read(folder)


@pytest.mark.parametrize("name", [MANIFEST, "weights.npz", "samples.npy", "expected.npz"])
def test_a_pipe_is_never_waited_for(name: str, folder: Path) -> None:
    """It might never end."""
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(FileFormatError, match="no regular file"):
        lava.read(folder)


def rehash(folder: Path, name: str) -> None:
    """Makes the manifest fit a file that was changed."""
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    rewrite(folder, lambda manifest: manifest["files"].update({name: digest}))


@pytest.mark.parametrize("name", ["weights.npz", "expected.npz"])
@pytest.mark.parametrize(
    ("place", "byte"),
    [(0, None), (8, 1), (10, 99), (10, zipfile.ZIP_DEFLATED)],
    ids=["empty", "encrypted", "of an unknown compression", "not what it says"],
)
def test_strange_archives_are_refused(name: str, place: int, byte: int | None, folder: Path) -> None:
    """Whatever the archive's directory says of its first file; hashed all the same."""
    data = bytearray((folder / name).read_bytes())
    if byte is None:
        data.clear()
    else:
        data[data.index(b"PK\x01\x02") + place] = byte  # entry of the directory at the end
        data[place - 2] = byte  # the same of the file's own header
    (folder / name).write_bytes(data)
    rehash(folder, name)
    with pytest.raises(FileFormatError):
        _ = lava.read(folder).expected


@pytest.mark.parametrize(("value", "rule"), [(np.nan, "must lie in"), (0.3, "must be whole multiples")])
def test_samples_off_the_grid_are_refused(value: float, rule: str, tested: Case, tmp_path: Path) -> None:
    """The exact format relies on the range and the grid of what enters."""
    exact = ir.quantize(tested.network, tested.x).network
    folder = lowering.export(exact, tmp_path / "bundle", tested.x)
    samples = np.load(folder / "samples.npy")
    samples[0] = value
    np.save(folder / "samples.npy", samples)
    rehash(folder, "samples.npy")
    with pytest.raises(FileFormatError, match=rule):
        lava.read(folder)


def test_arrays_of_another_type_are_refused(folder: Path) -> None:
    """Weights and samples in double precision, hashed all the same, are no bundle's."""
    for name in ("weights.npz", "samples.npy"):
        loaded = np.load(folder / name)
        kept = (folder / name).read_bytes()
        if name == "weights.npz":
            np.savez(folder / name, **{key: array.astype(np.float64) for key, array in loaded.items()})
            loaded.close()
        else:
            np.save(folder / name, loaded.astype(np.float64))
        data = (folder / name).read_bytes()
        digests = {name: hashlib.sha256(data).hexdigest()}
        rewrite(folder, lambda manifest, digests=digests: manifest["files"].update(digests))  # type: ignore[misc]
        with pytest.raises(FileFormatError, match="must hold float32"):
            lava.read(folder)
        (folder / name).write_bytes(kept)
        digests = {name: hashlib.sha256(kept).hexdigest()}
        rewrite(folder, lambda manifest, digests=digests: manifest["files"].update(digests))  # type: ignore[misc]
    assert lava.read(folder).samples == 3


def test_manifest_bytes_never_raise_anything_else(folder: Path) -> None:
    """Random damage to the manifest raises FileFormatError, always: a checksum covers all of it."""
    good = (folder / MANIFEST).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(good)
        for position in rng.integers(0, len(data), 3):
            data[position] ^= 1 << int(rng.integers(0, 8))
        (folder / MANIFEST).write_bytes(data)
        if json_equal(data, good):
            continue
        with pytest.raises(FileFormatError):
            lava.read(folder)


def json_equal(a: bytes | bytearray, b: bytes) -> bool:
    """Whether damage left the values as they were, as a flipped bit in white space may."""
    try:
        return bool(json.loads(a) == json.loads(b))
    except ValueError:
        return False


@pytest.mark.parametrize("shape", [(3, 1, 7, 8), (4, 3, 1, 7, 7), (7,)])
def test_samples_of_another_shape_are_refused(shape: tuple[int, ...], folder: Path) -> None:
    """Before any process starts, so that no Lava is needed to be told."""
    nowhere = lava.Interpreter(Path("/nowhere/python"), "0", "variable")
    with pytest.raises(
        TargetError, match=r"samples must have shape \(batch, 1, 7, 7\) or \(5, 'batch', 1, 7, 7\)"
    ):
        lava.simulate([folder], samples=np.zeros(shape), interpreter=nowhere)


@pytest.mark.parametrize("count", [0, 4, -1])
def test_count_must_be_available(count: int, folder: Path) -> None:
    """A bundle of three samples cannot run none or four."""
    nowhere = lava.Interpreter(Path("/nowhere/python"), "0", "variable")
    with pytest.raises(TargetError, match="samples to run must be 1 to 3"):
        lava.simulate([folder], count=count, interpreter=nowhere)
