"""`snndeploy quantize`: files in both formats, what is told of them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from snndeploy.ir import (
    Exact,
    Flatten,
    Input,
    InputSpec,
    Lif,
    Loihi,
    Network,
    Op,
    Output,
    certify,
    load,
    quantize,
    save,
)
from snndeploy.ir import run as interpret
from snndeploy.train.data import digits
from tests.ir.graphs import conv, linear, random_network, wired
from tests.strategies import Case


@pytest.fixture(scope="session")
def reader() -> Network:
    """Random spiking features of the digits with a readout fitted to the training images.

    in (1 x 8 x 8) -> conv -> l -> flat -> fc -> out
    """
    ops: dict[str, Op] = {
        "in": Input(shape=(1, 8, 8)),
        "conv": conv(1, 12, bias=True),
        "l": Lif(),
        "flat": Flatten(),
        "fc": linear(768, 10, bias=True),
        "out": Output(),
    }
    train = digits(repeat=1).train
    spec = InputSpec(divisor=16.0, grid_bits=4)
    network = random_network(wired(ops, " ".join(ops)), 1, steps=2, input=spec)
    features = interpret(network, spec.prepare(train.images)).spikes["l"].mean(axis=0).reshape(len(train), -1)
    features = np.column_stack([features, np.ones(len(train))])
    ridge = features.T @ features + 10 * np.eye(769)
    readout = np.linalg.solve(ridge, features.T @ np.eye(10)[train.labels])
    return replace(network, weights={**network.weights, "fc.weight": readout[:-1].T, "fc.bias": readout[-1]})


@pytest.fixture
def reader_file(reader: Network, tmp_path: Path) -> Path:
    """Its file."""
    path = tmp_path / "reader.snn.safetensors"
    save(reader, path)
    return path


@pytest.mark.parametrize(("name", "kind"), [("exact", Exact), ("loihi", Loihi)])
def test_a_network_file_in_each_format(
    run_json: Callable[..., Any], reader: Network, reader_file: Path, tmp_path: Path, name: str, kind: type
) -> None:
    """Calibrated on training images, tested on the others: the file is what `ir.quantize` gives."""
    output = tmp_path / "quantized.snn.safetensors"
    facts = run_json("quantize", reader_file, "--format", name, "-o", output, "--samples", "50")
    assert facts["number_format"] == name
    assert facts["granularity"] == {"exact": "channel", "loihi": "layer"}[name]
    assert facts["calibration"] == {"data": "digits (training images of split 0)", "samples": 50}
    source = digits(repeat=1)
    x = reader.input.prepare(source.train.images[:50])
    network = load(output)
    assert isinstance(network.format, kind)
    assert certify(network).holds
    expected = quantize(reader, x, format=name).network  # type: ignore[arg-type]  # one of two
    assert all((network.weights[n] == w).all() for n, w in expected.weights.items())
    tested = facts["accuracy"]
    assert (tested["data"], tested["samples"]) == ("digits (test images of split 0)", len(source.test))
    answers = [
        interpret(n, reader.input.prepare(source.test.images)).logits.argmax(axis=1)
        for n in (reader, network)
    ]
    right = [float((a == source.test.labels).mean()) for a in answers]
    assert [tested["before"], tested["after"]] == right
    assert min(right) > 0.8
    assert tested["same_answers"] == (answers[0] == answers[1]).mean() > 0.95
    assert [layer["op"] for layer in facts["layers"]] == ["l", "out"]
    assert (facts["layers"][0]["registers"] is None) is (name == "exact")
    assert facts["format_difference"] is None or name == "exact"


def test_bits_and_granularity(run_json: Callable[..., Any], reader_file: Path, tmp_path: Path) -> None:
    """Fewer bits clip and lose more; with a channel's grid of its own neurons have thresholds of their own."""
    output = tmp_path / "q.snn.safetensors"
    found = {
        (bits, granularity): run_json(
            "quantize",
            reader_file,
            "--format",
            "loihi",
            "-o",
            output,
            "--bits",
            bits,
            "--granularity",
            granularity,
        )["layers"][0]
        for bits in ("3", "8")
        for granularity in ("channel", "layer")
    }
    assert found["3", "layer"]["weight_error"] > 5 * found["8", "layer"]["weight_error"]
    for bits in ("3", "8"):
        lowest, highest = found[bits, "layer"]["registers"]["threshold"]
        assert lowest == highest
        assert found[bits, "channel"]["weight_error"] <= found[bits, "layer"]["weight_error"]
    lowest, highest = found["8", "channel"]["registers"]["threshold"]
    assert lowest < highest


def test_tables(run: Callable[..., Result], reader_file: Path, float_network: Path, tmp_path: Path) -> None:
    """One row for each layer, the registers of loihi, accuracies where labels are known, and what was written."""
    output = tmp_path / "q.snn.safetensors"
    result = run("quantize", reader_file, "--format", "loihi", "-o", output)
    assert result.exit_code == 0, result.output
    for part in (
        "into",
        "bits left",
        "vth",
        "bias exponent",
        "accuracy",
        "on 400 samples of digits",
        "bit for bit",
    ):
        assert part in result.stdout
    assert (
        f"wrote {output} (loihi, 8 bits, a grid for each layer), calibrated with 128 samples of digits"
        in result.stdout
    )
    result = run("quantize", float_network, "--format", "exact", "-o", output)
    assert result.exit_code == 0, result.output
    assert "accuracy" not in result.stdout
    assert "vth" not in result.stdout
    assert "128 samples of random noise (seed 0)" in result.stdout


def test_samples_from_a_file(
    run_json: Callable[..., Any], case: Case, float_network: Path, tmp_path: Path
) -> None:
    """Raw samples as the other commands read them; no labels, no accuracy."""
    np.save(tmp_path / "x.npy", case.x)
    output = tmp_path / "q.snn.safetensors"
    facts = run_json(
        "quantize", float_network, "--format", "exact", "-o", output, "--data", tmp_path / "x.npy"
    )
    assert facts["calibration"] == {"data": str(tmp_path / "x.npy"), "samples": len(case.x)}
    assert facts["accuracy"] is None
    assert all((load(output).weights[n] == w).all() for n, w in case.network.weights.items())


def test_what_is_refused(
    run: Callable[..., Result], network: Path, float_network: Path, tmp_path: Path
) -> None:
    """Its own input as output, a network on grids already, unknown data, bits out of range, no certificate."""
    output = tmp_path / "q.snn.safetensors"
    before = float_network.read_bytes()
    refused = {
        "--output: names the network file itself": (float_network, "--format", "exact", "-o", float_network),
        "network: must be in float32, got exact": (network, "--format", "loihi", "-o", output),
        "data 'cifar'": (float_network, "--format", "exact", "-o", output, "--data", "cifar"),
        "9 is not in the range 2<=x<=8": (float_network, "--format", "exact", "-o", output, "--bits", "9"),
        "Missing option '--format'": (float_network, "-o", output),
    }
    long = load(float_network)
    save(replace(long, steps=60), tmp_path / "long.snn.safetensors")
    refused["sums can reach"] = (tmp_path / "long.snn.safetensors", "--format", "exact", "-o", output)
    for message, arguments in refused.items():
        result = run("quantize", *arguments)
        assert result.exit_code == 2, result.output
        assert message in result.output
        assert "Traceback" not in result.output
        assert not output.exists()
    assert float_network.read_bytes() == before
    assert (
        run("quantize", tmp_path / "long.snn.safetensors", "--format", "loihi", "-o", output).exit_code == 0
    )
    assert load(output).steps == 60
