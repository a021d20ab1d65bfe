"""A Lava bundle says all that Lava needs, and is written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snndeploy import ir
from snndeploy.errors import FileFormatError, NetworkError, SnnDeployError, TimingError
from snndeploy.export import lava
from snndeploy.ir.neurons import registers
from tests.export.networks import Case, back_over_one, case, delayed_skips


@pytest.fixture(scope="module")
def tested() -> Case:
    """l1 -> l0 with delay 1: a loop of two synapses."""
    return case(back_over_one(), steps=4, readout=2, seed=1)


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle."""
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, by its path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_manifest_describes_network_and_schedule(tested: Case, tmp_path: Path) -> None:
    """Steps, readout, number format and the schedule's figures stand in the manifest."""
    folder = lava.export(tested.network, tmp_path / "bundle", tested.x, fingerprint="abc")
    manifest = manifest_of(folder)
    schedule = ir.schedule(tested.network.graph)
    assert manifest["format"] == "snndeploy-lava-bundle"
    assert manifest["version"] == 2
    assert (manifest["steps"], manifest["readout"], manifest["samples"]) == (4, 2, 3)
    assert (manifest["number_format"], manifest["exact"]) == ("float32", False)
    assert manifest["fingerprint"] == "abc"
    assert manifest["schedule"] == {
        "name": "scheduled",
        "initiation_interval": 2,
        "gap": 1,
        "machine_steps": schedule.machine_steps(4),
        "machine_steps_per_sample": (4 + 1) * 2,
    }
    assert {p["name"]: p["start"] for p in manifest["populations"]} == dict(schedule.start)


def test_program_holds_every_op_in_order(tested: Case, tmp_path: Path) -> None:
    """Each population lists the ops that lead into it, their constants, and the edges that are summed."""
    populations = {
        p["name"]: p
        for p in manifest_of(lava.export(tested.network, tmp_path / "b", tested.x))["populations"]
    }
    assert list(populations) == ["input", "l0", "l1", "l2", "l3", "output"]
    assert populations["input"]["program"] == []
    first = populations["l0"]
    assert (first["type"], first["tau"], first["threshold"], first["shape"]) == ("Lif", 0.5, 1.0, [4, 7, 7])
    assert [step["name"] for step in first["program"]] == list(ir.upstream(tested.network.graph, "l0"))
    by_name = {step["name"]: step for step in first["program"]}
    assert by_name["c0"] == {
        "name": "c0",
        "type": "Conv2d",
        "in_channels": 1,
        "out_channels": 4,
        "kernel": [3, 3],
        "stride": [1, 1],
        "padding": [1, 1],
        "groups": 1,
        "bias": True,
        "sources": [{"source": "input", "delay": 0}],
    }
    assert by_name["back1_0d1.conv"]["sources"] == [{"source": "l1", "delay": 1}]
    assert by_name["back1_0d1.up"]["size"] == [7, 7]
    assert {(s["source"], s["delay"]) for s in first["sources"]} == {("c0", 0), ("back1_0d1.up", 0)}
    assert [(a["source"], a["delay"]) for a in first["arrivals"]] == [("input", 0), ("l1", 1)]


def test_waits_of_the_schedule_are_written(tmp_path: Path) -> None:
    """A synapse that would arrive early names the machine steps it is held back.

    input -> c0 -> l0 -> c1 -> l1 -> output, l0 ~2 -> l1 and l0 ~1 -> l1 at II = 1: the spikes for two steps
    later are held for two, those for one step later for one.
    """
    tested = case(delayed_skips(), steps=4, seed=1)
    populations = manifest_of(lava.export(tested.network, tmp_path / "b", tested.x))["populations"]
    waits = {(a["source"], a["delay"]): a["wait"] for p in populations for a in p["arrivals"]}
    assert waits[("l0", 0)] == 0
    assert (waits[("l0", 1)], waits[("l0", 2)]) == (1, 2)
    assert waits[("input", 1)] == 1


def test_every_file_is_hashed(tested: Case, tmp_path: Path) -> None:
    """The manifest names the SHA-256 of each other file, and its own without that field."""
    folder = lava.export(tested.network, tmp_path / "bundle", tested.x)
    manifest = manifest_of(folder)
    files = {name: data for name, data in snapshot(folder).items() if name != "manifest.json"}
    assert manifest["files"] == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert set(files) == {"weights.npz", "samples.npy", "expected.npz"}
    own = manifest.pop("checksum")
    compact = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    assert own == hashlib.sha256(compact.encode()).hexdigest()


def test_arrays_are_the_networks(tested: Case, tmp_path: Path) -> None:
    """Weights, samples and expected results load without pickle and equal what they were made from."""
    folder = lava.export(tested.network, tmp_path / "bundle", tested.x)
    with np.load(folder / "weights.npz", allow_pickle=False) as weights:
        assert set(weights) == set(tested.network.weights)
        for name, array in tested.network.weights.items():
            np.testing.assert_array_equal(weights[name], array)
    np.testing.assert_array_equal(np.load(folder / "samples.npy", allow_pickle=False), tested.x)
    expected = ir.run(tested.network, tested.x)
    with np.load(folder / "expected.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["readout_sum"], expected.readout_sum)
        for name, spikes in expected.spikes.items():
            rows = np.unpackbits(found[f"spikes/{name}"], axis=1)[:, : spikes[0, 0].size]
            for sample in range(3):
                for t in range(4):
                    np.testing.assert_array_equal(rows[sample * 4 + t], spikes[t, sample].ravel())


def test_frames_are_stored_batch_first(tmp_path: Path) -> None:
    """Input with one frame per step is stored as (batch, time, *shape)."""
    tested = case(back_over_one(), steps=4, seed=2, kind="frames")
    folder = lava.export(tested.network, tmp_path / "bundle", tested.x)
    stored = np.load(folder / "samples.npy", allow_pickle=False)
    np.testing.assert_array_equal(stored, np.moveaxis(tested.x, 0, 1))


def test_same_network_gives_same_bytes(tested: Case, tmp_path: Path) -> None:
    """Nothing in a bundle depends on the time or place of writing."""
    first = snapshot(lava.export(tested.network, tmp_path / "a", tested.x))
    assert snapshot(lava.export(tested.network, tmp_path / "b", tested.x)) == first


def test_exact_networks_are_marked(tested: Case, tmp_path: Path) -> None:
    """Only the exact format promises equal spikes."""
    exponents = {name: (4,) * len(array) for name, array in tested.network.weights.items()}
    exact = replace(tested.network, format=ir.Exact(exponents))
    manifest = manifest_of(lava.export(exact, tmp_path / "bundle", tested.x))
    assert (manifest["number_format"], manifest["exact"]) == ("exact", True)


def test_registers_and_exponents_are_written(tested: Case, tmp_path: Path) -> None:
    """In the loihi format every Lif has its registers and every op with weights the grids of its channels."""
    network = ir.quantize(tested.network, tested.x, format="loihi").network
    manifest = manifest_of(lava.export(network, tmp_path / "bundle", tested.x))
    assert (manifest["number_format"], manifest["exact"], manifest["form"]) == ("loihi", True, "fused")
    assert isinstance(network.format, ir.Loihi)
    programmed = registers(network)
    for population in manifest["populations"]:
        assert ("registers" in population) == (population["type"] == "Lif")
        for step in population["program"]:
            for parameter, exponents in step.get("exponents", {}).items():
                assert tuple(exponents) == network.format.exponents[f"{step['name']}.{parameter}"]
            assert ("exponents" in step) == (step["type"] in ("Conv2d", "Linear"))
        if population["type"] == "Lif":
            expected = programmed[population["name"]]
            assert population["registers"] == {
                "grid_bits": expected.grid_bits.tolist(),
                "threshold": expected.threshold.tolist(),
                "decay": 2048,
                "bias_mantissa": expected.bias_mantissa.tolist(),
                "bias_exponent": expected.bias_exponent.tolist(),
            }


def test_a_failed_certificate_is_not_exact(tested: Case, tmp_path: Path) -> None:
    """With a bias of 2**24 units, beyond which a float32 sum may round, the exact format promises nothing."""
    exponents = {name: (4,) * len(array) for name, array in tested.network.weights.items()}
    weights = {**tested.network.weights}
    weights["c0.bias"] = np.full_like(weights["c0.bias"], 2.0**20)
    rounding = replace(tested.network, weights=weights, format=ir.Exact(exponents))
    assert not ir.certify(rounding).holds
    manifest = manifest_of(lava.export(rounding, tmp_path / "bundle", tested.x))
    assert (manifest["number_format"], manifest["exact"]) == ("exact", False)


def test_a_bundle_is_replaced(tested: Case, tmp_path: Path) -> None:
    """Writing over an older bundle leaves the new one, and nothing else in the folder."""
    folder = lava.export(tested.network, tmp_path / "bundle", tested.x, fingerprint="old")
    (folder / "stray.txt").write_text("from an older version")
    lava.export(tested.network, tmp_path / "bundle", tested.x, fingerprint="new")
    assert manifest_of(folder)["fingerprint"] == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    assert not (folder / "stray.txt").exists()


@pytest.mark.parametrize("kind", ["folder", "empty", "file", "other manifest", "link"])
def test_anything_else_stays_untouched(kind: str, tested: Case, tmp_path: Path) -> None:
    """A folder or file that is no bundle is never replaced."""
    path = tmp_path / "target"
    if kind == "file":
        path.write_text("precious")
    elif kind == "link":
        lava.export(tested.network, tmp_path / "elsewhere", tested.x)
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.mkdir()
        if kind == "folder":
            (path / "precious.txt").write_text("precious")
        if kind == "other manifest":
            (path / "manifest.json").write_text('{"format": "of somebody else"}')
    before = snapshot(tmp_path)
    with pytest.raises(FileFormatError, match=r"exists and is not a Lava bundle.*choose another path"):
        lava.export(tested.network, path, tested.x)
    assert snapshot(tmp_path) == before


def test_a_failed_export_leaves_the_old_bundle(
    tested: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk or Ctrl-C while writing leaves no trace."""
    folder = lava.export(tested.network, tmp_path / "bundle", tested.x)
    before = snapshot(tmp_path)
    for error in (KeyboardInterrupt(), OSError(28, "No space left on device")):

        def fail(*_: object, error: BaseException = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(np, "savez", fail)
        with pytest.raises((KeyboardInterrupt, FileFormatError)):
            lava.export(tested.network, folder, tested.x)
        assert snapshot(tmp_path) == before
        assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_a_missing_folder_is_an_error(tested: Case, tmp_path: Path) -> None:
    """The folder around the bundle must exist."""
    with pytest.raises(FileFormatError, match="cannot be written"):
        lava.export(tested.network, tmp_path / "missing" / "bundle", tested.x)


def test_unfolded_networks_are_refused(tmp_path: Path) -> None:
    """BatchNorm exists only while training: input -> fc -> norm -> lif -> output."""
    graph = ir.Graph(
        {
            "input": ir.Input(shape=(2,)),
            "fc": ir.Linear(in_features=2, out_features=2),
            "norm": ir.BatchNorm(channels=2),
            "lif": ir.Lif(),
            "output": ir.Output(),
        },
        (ir.Edge("input", "fc"), ir.Edge("fc", "norm"), ir.Edge("norm", "lif"), ir.Edge("lif", "output")),
    )
    weights = {name: np.ones(shape) for name, shape in ir.parameter_shapes(graph).items()}
    network = ir.Network(graph=graph, weights=weights, steps=2)
    with pytest.raises(NetworkError, match="fold the network first"):
        lava.export(network, tmp_path / "bundle", np.zeros((1, 2)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(0, 1, 7, 7), (3, 1, 7, 8), (1, 7, 7)])
def test_samples_must_fit(shape: tuple[int, ...], tested: Case, tmp_path: Path) -> None:
    """No samples, or samples of another shape, are refused."""
    with pytest.raises(NetworkError):
        lava.export(tested.network, tmp_path / "bundle", np.zeros(shape))
    assert not list(tmp_path.iterdir())


def test_the_schedule_must_be_of_this_graph(tested: Case, tmp_path: Path) -> None:
    """Starts for other populations, waits for other synapses and intervals below 1 are refused."""
    good = ir.schedule(tested.network.graph)
    wrong = [
        replace(good, start={"input": 0}),
        replace(good, waits={ir.Synapse("l3", "l0", 1): 1}),
        replace(good, initiation_interval=0),
        replace(good, name="pipelined"),
        replace(good, name="synchronous"),
        replace(ir.schedule(tested.network.graph, kind="synchronous"), start=good.start),
    ]
    for schedule in wrong:
        with pytest.raises(TimingError):
            lava.export(tested.network, tmp_path / "bundle", tested.x, schedule=schedule)
    assert issubclass(TimingError, SnnDeployError)
    assert not list(tmp_path.iterdir())
