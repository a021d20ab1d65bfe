"""`snndeploy verify` on every ONNX form and arithmetic: what keeps its promise passes, every defect is found."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from click.testing import Result

from snndeploy.cli.backends import Outcome
from snndeploy.cli.verified import Judge
from snndeploy.export.onnx import export
from snndeploy.export.onnx.external import initializers
from snndeploy.ir import Graph, Network, Trace, save
from snndeploy.ir import run as interpret
from snndeploy.targets.onnx_runtime import session
from tests.cli.conftest import BACK
from tests.strategies import Case, Layer, realise

FORMS = ("step", "sequence", "scan")
ARITHMETICS = ("float32", "integer", "float16")
KINDS = list(itertools.product(FORMS, ARITHMETICS))
ONNX = ["onnx-step", "onnx-sequence", "onnx-scan", "onnx-integer", "onnx-float16"]
BATCHES, CHUNKS = "batches of 1 and 2", "chunks of 1 and 3 steps"


def backend(facts: Any, name: str) -> Any:
    """What is said of one back end."""
    (found,) = (entry for entry in facts["backends"] if entry["backend"] == name)
    return found


@pytest.fixture
def verify_file(run: Callable[..., Result], network: Path) -> Callable[..., Any]:
    """Verifies a file against the network; the facts about it, with the exit code they call for."""

    def invoke(file: Path, *arguments: str) -> Any:
        result = run("verify", network, "--against", "torch", "--onnx-file", file, "--json", *arguments)
        assert result.exit_code in (0, 1), result.output
        facts = json.loads(result.stdout)
        assert facts["passed"] is (result.exit_code == 0)
        assert backend(facts, "torch")["passed"]
        return backend(facts, str(file))

    return invoke


def test_every_form_and_arithmetic(run_json: Callable[..., Any], network: Path) -> None:
    """A certified network: nothing differs, in any batches and chunks; only float16 may."""
    facts = run_json("verify", network, "--against", "torch,onnx", "--samples", "5")
    assert [entry["backend"] for entry in facts["backends"]] == ["torch", *ONNX]
    assert facts["inapplicable"] == {}
    assert facts["float64_differing"] is None
    for entry in facts["backends"]:
        half = entry["backend"] == "onnx-float16"
        assert entry["exact"] is not half
        if not half:
            assert (entry["differing"], entry["readout_error"]) == (0, 0)
            assert all(row["firing_rate_difference"] == 0 for row in entry["layers"])
            assert all(repeat["same_bits"] and repeat["samples"] == 3 for repeat in entry["repeats"])
        hows = [repeat["how"] for repeat in entry["repeats"]]
        match entry["backend"]:
            case "torch":
                assert hows == []
            case "onnx-scan":
                assert hows == [BATCHES, CHUNKS]
            case _:
                assert hows == [BATCHES]


def test_float_network(run_json: Callable[..., Any], float_network: Path) -> None:
    """In float32 integers do not apply and flips are explained, those of float16 too, which there are."""
    facts = run_json("verify", float_network, "--against", "torch,onnx", "--samples", "600")
    assert list(facts["inapplicable"]) == ["onnx-integer"]
    assert "needs a network in the exact format" in facts["inapplicable"]["onnx-integer"]
    assert [entry["backend"] for entry in facts["backends"]] == ["torch", *ONNX[:3], "onnx-float16"]
    assert facts["float64_differing"] >= 0
    for entry in facts["backends"]:
        assert entry["passed"]
        assert not entry["exact"]
        assert all(0 <= row["upheld"] <= row["disputed"] for row in entry["layers"])
        assert all(row["unexplained"] == 0 and row["worst_margin"] <= 1 for row in entry["layers"])
        assert entry["float64_differing"] >= 0
    half = backend(facts, "onnx-float16")
    assert sum(row["flips"] for row in half["layers"]) > 0
    assert sum(row["disputed"] for row in half["layers"]) > 0
    assert half["differing"] > 0
    assert half["float64_differing"] > 0
    rates = [row["spikes_found"] / row["compared"] - row["firing_rate"] for row in half["layers"]]
    assert [row["firing_rate_difference"] for row in half["layers"]] == pytest.approx(rates)


def test_text(run: Callable[..., Result], float_network: Path) -> None:
    """The table has a row for each back end; below it stand what does not apply and the referee's word."""
    result = run("verify", float_network, "--against", "onnx-integer,onnx-float16", "--samples", "600")
    assert result.exit_code == 0
    assert "onnx-integer does not apply: " in result.stdout
    assert "onnx-float16: with its own inputs " in result.stdout
    (row,) = (line for line in result.stdout.splitlines() if line.startswith("onnx-float16  "))
    assert row.endswith("ok")


def test_not_certified(run_json: Callable[..., Any], case: Case, tmp_path: Path) -> None:
    """Without a certificate integers do not apply, which op is to blame is told, and the others are judged."""
    save(replace(case.network, steps=40), tmp_path / "long")
    facts = run_json("verify", tmp_path / "long", "--against", "onnx", "--samples", "2")
    assert "l0.lif" in facts["inapplicable"]["onnx-integer"]
    assert facts["uncertified"][0].startswith("l0.lif")
    assert [entry["backend"] for entry in facts["backends"]] == [*ONNX[:3], "onnx-float16"]
    assert not any(entry["exact"] for entry in facts["backends"])


def test_nothing_to_compare_is_an_error(run: Callable[..., Result], float_network: Path) -> None:
    """A network passes no comparison that did not take place."""
    result = run("verify", float_network, "--against", "onnx-integer")
    assert result.exit_code == 2
    assert "no back end that can take this network" in result.output
    assert "onnx-integer: " in result.output


def test_provider_that_is_not_there(
    run: Callable[..., Result], network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA asked for and absent is an error, no run on the CPU."""
    monkeypatch.setattr(session, "available_providers", lambda: ("CPUExecutionProvider",))
    result = run("verify", network, "--against", "onnx-step", "--provider", "cuda", "--samples", "1")
    assert result.exit_code == 2
    assert "CUDAExecutionProvider" in result.output
    result = run("verify", network, "--against", "onnx-integer", "--provider", "cuda", "--samples", "1")
    assert result.exit_code == 2
    assert "on CPUs only" in result.output


@pytest.mark.parametrize(("form", "arithmetic"), KINDS)
@pytest.mark.parametrize("options", [(), ("--debug", "--inline-functions", "--batch", "4")])
def test_files_that_are_right(
    run: Callable[..., Result],
    verify_file: Callable[..., Any],
    network: Path,
    tmp_path: Path,
    form: str,
    arithmetic: str,
    options: tuple[str, ...],
) -> None:
    """Every file of `export onnx` passes; one of fixed batch takes samples that do not fill their last batch."""
    file = tmp_path / "a.onnx"
    arguments = ("--form", form, "--arithmetic", arithmetic, *options)
    assert run("export", "onnx", network, "-o", file, *arguments).exit_code == 0
    found = verify_file(file, "--samples", "6")
    assert found["passed"]
    assert (found["samples"], found["exact"]) == (6, arithmetic != "float16")
    assert found["edited_weights"] == found["edited_nodes"] == []
    assert found["differing"] == 0 or arithmetic == "float16"
    hows = ([] if options else [BATCHES]) + ([CHUNKS] if form == "scan" else [])
    assert [repeat["how"] for repeat in found["repeats"]] == hows + (["potentials"] if options else [])
    for repeat in found["repeats"]:
        assert (repeat["potential_error"] is None) is not bool(options)
        assert not repeat["potential_error"] or arithmetic == "float16"


@pytest.mark.parametrize(("form", "arithmetic"), KINDS)
def test_a_changed_weight_is_found(
    run: Callable[..., Result],
    verify_file: Callable[..., Any],
    network: Path,
    tmp_path: Path,
    form: str,
    arithmetic: str,
) -> None:
    """It is named, and so is the layer whose spikes it changes, and no other layer."""
    file = tmp_path / "a.onnx"
    run("export", "onnx", network, "-o", file, "--form", form, "--arithmetic", arithmetic)
    model = onnx.load(file)
    (stored,) = (t for t in initializers(model.graph) if t.name == "l1.conv.weight")
    changed = onnx.numpy_helper.to_array(stored).copy()
    changed[0, 0, 1, 1] = 255 if changed.dtype == np.uint8 else changed[0, 0, 1, 1] + 1
    stored.CopyFrom(onnx.numpy_helper.from_array(changed, stored.name))
    onnx.save(model, file)
    found = verify_file(file)
    assert found["edited_weights"] == ["l1.conv.weight"]
    assert found["edited_nodes"] == []
    assert found["defects"][0].startswith("l1.inner: ")
    assert [layer["op"] for layer in found["layers"] if layer["unexplained"]] == ["l1.inner"]
    assert found["first_divergence"]["op"] == "l1.inner"


@pytest.mark.parametrize(("form", "arithmetic"), KINDS)
def test_a_changed_comparison_is_found(
    run: Callable[..., Result],
    verify_file: Callable[..., Any],
    network: Path,
    tmp_path: Path,
    form: str,
    arithmetic: str,
) -> None:
    """A LIF that also fires at its threshold is found though no spike of these samples tells it."""
    file = tmp_path / "a.onnx"
    run("export", "onnx", network, "-o", file, "--form", form, "--arithmetic", arithmetic)
    model = onnx.load(file)
    next(n for n in model.functions[0].node if n.op_type == "Greater").op_type = "GreaterOrEqual"
    onnx.save(model, file)
    found = verify_file(file, "--samples", "1")
    assert not found["passed"]
    (name,) = found["edited_nodes"]
    assert name.startswith("snndeploy::LIF")
    assert found["edited_weights"] == []


def test_what_was_edited_stands_below_the_table(
    run: Callable[..., Result], network: Path, tmp_path: Path
) -> None:
    """The table says FAILED, and which node it is."""
    file = tmp_path / "a.onnx"
    run("export", "onnx", network, "-o", file)
    model = onnx.load(file)
    next(n for n in model.functions[0].node if n.op_type == "Greater").op_type = "GreaterOrEqual"
    onnx.save(model, file)
    result = run("verify", network, "--against", "torch", "--samples", "1", "--onnx-file", file)
    assert result.exit_code == 1
    assert f"{file}: node snndeploy::LIF differs from what the network file gives" in result.stdout
    assert "FAILED" in result.stdout


@pytest.mark.parametrize(("form", "arithmetic"), KINDS)
def test_a_wrong_delay_is_found(
    verify_file: Callable[..., Any], case: Case, tmp_path: Path, form: Any, arithmetic: Any
) -> None:
    """A backward connection that comes a step late: the layer it enters has defects, and no other."""
    graph = case.network.graph
    edges = tuple(replace(e, delay=2) if e.delay else e for e in graph.edges)
    assert sum(e.delay for e in edges) == 2
    late = replace(case.network, graph=Graph(graph.ops, edges))
    file = tmp_path / "late.onnx"
    export(late, file, form, arithmetic=arithmetic)
    found = verify_file(file)
    assert found["edited_nodes"]
    assert [layer["op"] for layer in found["layers"] if layer["unexplained"]] == ["l0.lif"]
    assert (found["first_divergence"]["op"], found["first_divergence"]["step"]) == ("l0.lif", 1)


def test_lost_states_are_found(
    run: Callable[..., Result], verify_file: Callable[..., Any], network: Path, tmp_path: Path
) -> None:
    """A scan that forgets the state it is given is right in one run and wrong in chunks."""
    file = tmp_path / "a.onnx"
    run("export", "onnx", network, "-o", file, "--form", "scan")
    model = onnx.load(file)
    given = "state_in.l1.lif.v"
    (zeros,) = (t for t in model.graph.initializer if t.name == given)
    forgotten = onnx.TensorProto()
    forgotten.CopyFrom(zeros)
    forgotten.name = "nothing"
    model.graph.initializer.append(forgotten)
    (reader,) = (node for node in model.graph.node if given in node.input)
    reader.input[list(reader.input).index(given)] = "nothing"
    onnx.save(model, file)
    found = verify_file(file)
    assert (found["differing"], found["readout_error"]) == (0, 0)
    assert found["defects"]
    assert all(defect.startswith(f"{CHUNKS}: l1.lif: ") for defect in found["defects"])
    assert [repeat["same_bits"] for repeat in found["repeats"]] == [True, False]


def test_external_data(run: Callable[..., Result], tmp_path: Path) -> None:
    """Weights beside the file are read, a changed one is named, and a missing file is an error."""
    layers = (Layer("chain", 6), Layer("residual", 6))
    source, file = tmp_path / "wide", tmp_path / "a.onnx"
    save(realise(replace(BACK, layers=layers)).network, source)
    for form, arithmetic in KINDS:
        options = ("--form", form, "--arithmetic", arithmetic, "--external-data")
        result = run("export", "onnx", source, "-o", file, *options, "--json")
        facts = json.loads(result.stdout)
        assert (facts["form"], facts["arithmetic"]) == (form, arithmetic)
        if not facts["external_data"]:
            assert arithmetic != "float32"  # the others' weights are too small to leave the file
            continue
        ((data, size),) = facts["external_data"].items()
        assert Path(data).stat().st_size == size
        verify = ("verify", source, "--against", "torch", "--samples", "4", "--onnx-file", file)
        assert run(*verify).exit_code == 0
        content = bytearray(Path(data).read_bytes())
        content[3] ^= 0x40  # the sign or exponent of the first value
        Path(data).write_bytes(content)
        found = json.loads(run(*verify, "--json").stdout)["backends"][-1]
        assert len(found["edited_weights"]) == 1
        Path(data).unlink()
        result = run(*verify)
        assert result.exit_code == 2
        assert Path(data).name in result.output
    assert list(tmp_path.glob("*.data")) == []


def judged(network: Network, x: Any, found: Trace, **repeats: Trace) -> Any:
    """What is found about a back end with those repeats."""
    return Judge(network, x).find("it", Outcome(found, repeats=repeats))


def test_repeats_must_not_differ(case: Case) -> None:
    """In the exact format a repeat has the run's very bits; in float32 rounding may excuse it, else not."""
    network, x = case.network, case.x
    trace, first = interpret(network, x), interpret(network, x[:3])
    assert judged(network, x, trace, again=first).passed
    rounded = replace(first, readout_sum=np.nextafter(first.readout_sum, np.float32(99)))
    found = judged(network, x, trace, again=rounded)
    assert found.comparison.passed
    (defect,) = found.defects
    assert defect.startswith("again: exact format: 0 spikes differ")
    assert found.to_json()["repeats"][0]["same_bits"] is False
    original, single = case.original, interpret(case.original, x)
    first = interpret(original, x[:3])
    rounded = replace(first, readout_sum=np.nextafter(first.readout_sum, np.float32(99)))
    assert judged(original, x, single, again=rounded).passed
    off = replace(first, readout_sum=first.readout_sum + np.float32(0.1))
    assert judged(original, x, single, again=off).defects[0].startswith("again: readout: ")


def test_membrane_potentials_must_not_differ(case: Case) -> None:
    """One that is off by the smallest amount is a defect of the exact format, even if no spike tells it."""
    network, x = case.network, case.x
    trace = interpret(network, x, potentials=True)
    found = judged(network, x, trace)
    assert found.passed
    assert found.to_json()["repeats"][0]["potential_error"] == 0
    u = trace.potentials["l1.lif"].copy()
    u[2, 1, 3, 0, 0] = np.nextafter(u[2, 1, 3, 0, 0], np.float32(-99))
    found = judged(network, x, replace(trace, potentials={**trace.potentials, "l1.lif": u}))
    (defect,) = found.defects
    assert defect.startswith("potentials: exact format: membrane potentials differ by up to ")
    u[2, 1, 3, 0, 0] = np.nan
    found = judged(network, x, replace(trace, potentials={**trace.potentials, "l1.lif": u}))
    assert not found.passed
    assert found.to_json()["repeats"][0]["potential_error"] is None


def test_repeats_are_compared_with_the_run(case: Case) -> None:
    """If the run is wrong and its repeat is right, both are told."""
    network, x = case.network, case.x
    trace = interpret(network, x)
    wrong = replace(trace, readout_sum=trace.readout_sum + np.float32(1))
    found = judged(network, x, wrong, again=interpret(network, x[:3]))
    assert found.defects[0].startswith("readout: ")
    assert found.defects[1] == "again: differs from the run of all samples"
