"""`snndeploy export`, `simulate`, `verify` and `energy` on a network file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from click.testing import Result

from snndeploy.ir import save
from tests.cli.conftest import BACK
from tests.strategies import Case, realise


def test_export_onnx(run_json: Callable[..., Any], network: Path, tmp_path: Path) -> None:
    """Both forms are written; the metadata name the network file they came from."""
    for form in ("step", "sequence"):
        facts = run_json("export", "onnx", network, "-o", tmp_path / "a.onnx", "--form", form)
        assert facts["form"] == form
        assert facts["bytes"] == (tmp_path / "a.onnx").stat().st_size
        assert facts["number_format"] == "exact"
        onnx.checker.check_model(tmp_path / "a.onnx", full_check=True)


@pytest.mark.lava
@pytest.mark.usefixtures("lava_interpreter")
def test_export_and_simulate_lava(run_json: Callable[..., Any], network: Path, tmp_path: Path) -> None:
    """A bundle runs on Lava without a differing spike."""
    bundle = tmp_path / "bundle"
    exported = run_json("export", "lava", network, "-o", bundle, "--samples", "3")
    assert (exported["samples"], exported["initiation_interval"]) == (3, 3)
    assert exported["machine_steps"] == 3 * 3 + 4 + 1
    simulated = run_json("simulate", bundle, "--samples", "2")
    assert (simulated["samples"], simulated["spikes_differing"], simulated["readout_error"]) == (2, 0, 0)
    assert simulated["spikes_compared"] == 2 * 4 * 3 * 4 * 6 * 6
    assert simulated["exact"] is True


@pytest.mark.lava
@pytest.mark.usefixtures("lava_interpreter")
def test_verify_everywhere(run_json: Callable[..., Any], network: Path) -> None:
    """All back ends give the same spikes in the exact format."""
    facts = run_json("verify", network, "--against", "torch,onnx,lava", "--samples", "5")
    assert [b["backend"] for b in facts["backends"]] == ["torch", "onnx-step", "onnx-sequence", "lava"]
    assert facts["passed"] is True
    assert all(
        b["differing"] == 0 and b["readout_error"] == 0 and b["compared"] > 0 for b in facts["backends"]
    )


def test_verify_says_what_is_not_certified(run_json: Callable[..., Any], case: Case, tmp_path: Path) -> None:
    """A network in the exact format whose sums are too wide carries no promise, and the op is named."""
    save(replace(case.network, steps=40), tmp_path / "long")
    facts = run_json("verify", tmp_path / "long", "--against", "torch", "--samples", "2")
    assert facts["uncertified"]
    assert facts["uncertified"][0].startswith("l0.lif: sums can reach")


def test_verify_float(run_json: Callable[..., Any], float_network: Path) -> None:
    """In float32 flips are counted and explained, with teacher forcing."""
    facts = run_json("verify", float_network, "--against", "torch,onnx", "--samples", "20")
    assert facts["passed"] is True
    assert facts["number_format"] == "float32"
    for backend in facts["backends"]:
        assert all(layer["unexplained"] == 0 for layer in backend["layers"])
        assert backend["forced_readout_error"] <= 1


def test_verify_finds_a_changed_weight(
    run: Callable[..., Result], network: Path, case: Case, tmp_path: Path
) -> None:
    """One weight changed in an exported file is found, and the layer it enters is named first."""
    run("export", "onnx", network, "-o", tmp_path / "a.onnx")
    assert run("verify", network, "--against", "torch", "--onnx-file", tmp_path / "a.onnx").exit_code == 0
    model = onnx.load(tmp_path / "a.onnx")
    (stored,) = (i for i in model.graph.initializer if i.name == "l1.conv.weight")
    changed = onnx.numpy_helper.to_array(stored).copy()
    changed[0, 0, 1, 1] += 1.0
    stored.CopyFrom(onnx.numpy_helper.from_array(changed, stored.name))
    onnx.save(model, tmp_path / "a.onnx")
    result = run("verify", network, "--against", "torch", "--onnx-file", tmp_path / "a.onnx", "--json")
    assert result.exit_code == 1
    facts = json.loads(result.stdout)
    found = facts["backends"][-1]
    assert facts["passed"] is False
    assert found["edited_weights"] == ["l1.conv.weight"]
    assert found["edited_nodes"] == []
    assert found["defects"][0].startswith("l1.inner:")
    assert [layer["op"] for layer in found["layers"] if layer["unexplained"]] == ["l1.inner"]
    assert found["first_divergence"]["op"] == "l1.inner"
    assert case.network.graph.ports == ("l0.lif", "l1.inner", "l1.lif")


@pytest.mark.parametrize("form", ["step", "sequence"])
def test_verify_finds_a_changed_comparison(
    run: Callable[..., Result], network: Path, tmp_path: Path, form: str
) -> None:
    """A LIF that also fires at its threshold is found though no spike of these samples tells it."""
    file = tmp_path / "a.onnx"
    run("export", "onnx", network, "-o", file, "--form", form)
    arguments = ("verify", network, "--against", "torch", "--samples", "1", "--onnx-file", file)
    assert run(*arguments).exit_code == 0
    model = onnx.load(file)
    next(n for n in model.functions[0].node if n.op_type == "Greater").op_type = "GreaterOrEqual"
    onnx.save(model, file)
    result = run(*arguments, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)["backends"][-1]
    assert (found["edited_nodes"], found["edited_weights"]) == (["snndeploy::LIF"], [])
    assert found["differing"] == 0
    result = run(*arguments)
    assert result.exit_code == 1
    assert f"{file}: node snndeploy::LIF differs from what the network file gives" in result.stdout
    assert "FAILED" in result.stdout


def test_energy(run_json: Callable[..., Any], network: Path, case: Case) -> None:
    """E_SNN is 0.9 pJ for each synaptic operation of the measured spikes, labelled as an estimate."""
    facts = run_json("energy", network, "--target", "paper-45nm", "--samples", "4", "--data", "random")
    assert facts["label"] == "ESTIMATED"
    operations = facts["synaptic_operations"]["mean"]
    assert operations > 0
    assert facts["e_snn_pj"]["value"] == pytest.approx(0.9 * operations)
    assert facts["e_snn_pj"]["low"] < facts["e_snn_pj"]["value"] < facts["e_snn_pj"]["high"]
    assert facts["steps"] == case.network.steps


def test_own_samples(
    run_json: Callable[..., Any], run: Callable[..., Result], network: Path, tmp_path: Path
) -> None:
    """Raw samples come from a .npy file; a file that could execute code is refused."""
    np.save(tmp_path / "raw.npy", np.full((3, 1, 6, 6), 0.5))
    assert run_json("energy", network, "--data", tmp_path / "raw.npy")["samples"] == 3
    np.save(tmp_path / "bad.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    result = run("energy", network, "--data", tmp_path / "bad.npy")
    assert result.exit_code == 2
    np.save(tmp_path / "wide.npy", np.full((3, 1, 7, 6), 0.5))
    assert run("energy", network, "--data", tmp_path / "wide.npy").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "onnx", "NETWORK", "-o", "OLD"],
        ["export", "lava", "NETWORK", "-o", "OLD"],
        ["verify", "NETWORK"],
        ["energy", "NETWORK"],
        ["inspect", "NETWORK"],
    ],
)
@pytest.mark.parametrize("damage", ["truncated", "tampered", "version", "missing", "folder"])
def test_damaged_network(
    run: Callable[..., Result], network: Path, tmp_path: Path, arguments: list[str], damage: str
) -> None:
    """A damaged file gives exit code 2 and a message with its name, and overwrites nothing."""
    old = tmp_path / "old"
    old.write_text("precious")
    content = network.read_bytes()
    if damage == "truncated":
        network.write_bytes(content[:-100])
    elif damage == "tampered":
        network.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "version":
        network.write_bytes(content.replace(b'"version":"1"', b'"version":"9"'))
        assert network.read_bytes() != content
    else:
        network.unlink()
        if damage == "folder":
            network.mkdir()
    places = {"NETWORK": str(network), "OLD": str(old)}
    result = run(*(places.get(a, a) for a in arguments))
    assert result.exit_code == 2, result.output
    assert network.name in result.output
    assert "Traceback" not in result.output
    assert old.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir() if p != network) == ["old"]


@pytest.mark.parametrize("command", [["onnx"], ["lava"]])
def test_unwritable_output(
    run: Callable[..., Result], network: Path, tmp_path: Path, command: list[str]
) -> None:
    """An output in a folder that does not exist, or below a file, gives exit code 2."""
    (tmp_path / "file").write_text("precious")
    for output in (tmp_path / "nowhere" / "x", tmp_path / "file" / "x"):
        result = run("export", *command, network, "-o", output)
        assert result.exit_code == 2, result.output
        assert "cannot be" in result.output
    assert (tmp_path / "file").read_text() == "precious"


def test_output_that_must_not_be_replaced(run: Callable[..., Result], network: Path, tmp_path: Path) -> None:
    """Neither the network file itself nor what is no regular file is replaced by an export."""
    content = network.read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for output in (network, pipe):
        assert run("export", "onnx", network, "-o", output).exit_code == 2
    assert network.read_bytes() == content
    assert pipe.is_fifo()


def test_sequences_of_ones_own(
    run_json: Callable[..., Any], run: Callable[..., Result], tmp_path: Path
) -> None:
    """Frames are stored as data sets store them, samples first; time first does not fit."""
    save(realise(replace(BACK, frames=True)).network, tmp_path / "frames")
    sequences = np.full((3, 4, 1, 6, 6), 0.5)
    np.save(tmp_path / "raw.npy", sequences)
    assert run_json("energy", tmp_path / "frames", "--data", tmp_path / "raw.npy")["samples"] == 3
    np.save(tmp_path / "raw.npy", np.moveaxis(sequences, 1, 0))
    assert run("energy", tmp_path / "frames", "--data", tmp_path / "raw.npy").exit_code == 2


@pytest.mark.parametrize(
    "raw",
    [
        np.zeros((0, 1, 6, 6)),
        np.float64(1),
        np.array("text"),
        np.zeros((2, 1, 6, 6), complex),
        np.zeros((6, 6)),
    ],
    ids=["empty", "scalar", "text", "complex", "flat"],
)
def test_samples_that_are_none(
    run: Callable[..., Result], network: Path, tmp_path: Path, raw: object
) -> None:
    """An array that holds no samples is refused, so that nothing passes by comparing nothing."""
    np.save(tmp_path / "raw.npy", np.asarray(raw))
    result = run("verify", network, "--against", "torch", "--data", tmp_path / "raw.npy")
    assert result.exit_code == 2, result.output
    assert "raw.npy" in result.output


def test_unknown_back_end_data_and_target(run: Callable[..., Result], network: Path) -> None:
    """Unknown names are refused with those that are known."""
    for arguments, known in (
        (("verify", network, "--against", "torch,tpu"), "onnx"),
        (("verify", network, "--against", "torch", "--data", "cats"), "digits"),
        (("verify", network, "--against", "torch", "--data", "digits"), "random"),
        (("energy", network, "--target", "abacus"), "paper-45nm"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert known in result.output


def test_no_lava_interpreter(
    run: Callable[..., Result], network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Lava the message names the command that makes an environment for it."""
    run("export", "lava", network, "-o", tmp_path / "bundle", "--samples", "1")
    monkeypatch.setenv("SNNDEPLOY_LAVA_PYTHON", str(tmp_path / "no-python"))
    result = run("simulate", tmp_path / "bundle")
    assert result.exit_code == 2
    assert "no-python" in result.output
    assert "SNNDEPLOY_LAVA_PYTHON" in result.output


def test_bundle_is_checked(run: Callable[..., Result], network: Path, tmp_path: Path) -> None:
    """A bundle with a changed weight file is refused; a folder that is no bundle is not replaced."""
    bundle = tmp_path / "bundle"
    run("export", "lava", network, "-o", bundle, "--samples", "1")
    weights = bundle / "weights.npz"
    content = weights.read_bytes()
    weights.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    result = run("simulate", bundle)
    assert result.exit_code == 2
    assert "weights.npz" in result.output
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("precious")
    assert run("export", "lava", network, "-o", other, "--samples", "1").exit_code == 2
    assert [p.name for p in other.iterdir()] == ["chapter.txt"]
