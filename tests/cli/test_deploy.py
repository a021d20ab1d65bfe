"""`snndeploy export`, `simulate`, `verify` and `energy` on a network file."""

from __future__ import annotations

import itertools
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

from snndeploy.ir import fingerprint, load, save
from tests.cli.conftest import BACK
from tests.strategies import Case, realise


def test_export_onnx(run_json: Callable[..., Any], network: Path, tmp_path: Path) -> None:
    """Every form and arithmetic is written; the metadata name the network file they came from."""
    for form, arithmetic in itertools.product(
        ("step", "sequence", "scan"), ("float32", "integer", "float16")
    ):
        options = ("--form", form, "--arithmetic", arithmetic)
        facts = run_json("export", "onnx", network, "-o", tmp_path / "a.onnx", *options)
        assert (facts["form"], facts["arithmetic"]) == (form, arithmetic)
        assert facts["bytes"] == (tmp_path / "a.onnx").stat().st_size
        assert facts["number_format"] == "exact"
        assert facts["external_data"] == {}
        onnx.checker.check_model(tmp_path / "a.onnx", full_check=True)
        metadata = {p.key: p.value for p in onnx.load(tmp_path / "a.onnx").metadata_props}
        assert metadata["snndeploy.network_sha256"] == fingerprint(load(network))
        assert metadata["snndeploy.arithmetic"] == arithmetic


def test_export_onnx_options(
    run: Callable[..., Result], run_json: Callable[..., Any], network: Path, tmp_path: Path
) -> None:
    """Debug outputs, inlined functions and a fixed batch are in the file that asks for them."""
    file = tmp_path / "a.onnx"
    arguments = ("export", "onnx", network, "-o", file)
    plain, asked = (), ("--debug", "--inline-functions", "--batch", "2")
    found = []
    for options in (plain, asked):
        facts = run_json(*arguments, *options)
        model = onnx.load(file)
        outputs = {output.name for output in model.graph.output}
        batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
        found.append(("l0.lif.u" in outputs, not model.functions, batch or None))
        assert found[-1] == (facts["debug"], facts["inline_functions"], facts["batch"])
    assert found == [(False, False, None), (True, True, 2)]
    result = run(*arguments, "--arithmetic", "integer")
    assert "exact in integer" in result.stdout


def test_export_onnx_in_numbers_it_does_not_have(
    run: Callable[..., Result], float_network: Path, tmp_path: Path
) -> None:
    """A float32 network in integers is refused with exit code 2, and nothing is written."""
    result = run("export", "onnx", float_network, "-o", tmp_path / "a.onnx", "--arithmetic", "integer")
    assert result.exit_code == 2
    assert "needs a network in the exact format" in result.output
    assert not (tmp_path / "a.onnx").exists()


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
    names = ["torch", "onnx-step", "onnx-sequence", "onnx-scan", "onnx-integer", "onnx-float16", "lava"]
    assert [b["backend"] for b in facts["backends"]] == names
    assert facts["passed"] is True
    exact = [b for b in facts["backends"] if b["exact"]]
    assert len(exact) == len(names) - 1
    assert all(b["differing"] == 0 and b["readout_error"] == 0 and b["compared"] > 0 for b in exact)


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
