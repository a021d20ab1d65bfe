"""What is reported of quantising, layer by layer, is what can be measured on the two networks."""

from __future__ import annotations

import json
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snndeploy.ir import LayerReport, Lif, layer_reports, quantize, run, upstream
from snndeploy.ir.neurons import registers
from snndeploy.ir.replay import entering
from snndeploy.ir.run import as_steps
from tests.ir.graphs import classifier, direct, random_input, random_network
from tests.strategies import Structure, realise, structures


@settings(max_examples=25)
@given(structures(most_layers=3), st.integers(2, 8), st.sampled_from(["exact", "loihi"]))
def test_reported_numbers_are_those_measured(
    structure: Structure, bits: int, name: Literal["exact", "loihi"]
) -> None:
    """Rates from free runs, errors with the original's spikes, the certificate's bits, the registers' ranges."""
    case = realise(structure)
    found = quantize(case.original, case.x, format=name, bits=bits)
    reports = {report.op: report for report in layer_reports(case.original, found, case.x)}
    assert list(reports) == [*case.original.graph.ports, case.original.graph.output]
    before, after = run(case.original, case.x), run(found.network, case.x)
    steps = as_steps(case.original, case.x)
    currents = [dict(entering(n, steps, before.spikes)) for n in (case.original, found.network)]
    held = registers(found.network) if name == "loihi" else {}
    for op, report in reports.items():
        change = np.sqrt(((currents[0][op] - currents[1][op]) ** 2).mean())
        assert report.current_error == pytest.approx(change / np.sqrt((currents[0][op] ** 2).mean()))
        assert report.bits_left == next(r.bits_left for r in found.certificate.rows if r.op == op)
        assert report.bits_left >= 0
        weights = [f"{n}.weight" for n in upstream(case.original.graph, op)]
        weights = [n for n in weights if n in case.original.weights]
        flat = [
            np.concatenate([n.weights[w].ravel().astype(np.float64) for w in weights])
            for n in (case.original, found.network)
        ]
        assert report.weight_error == pytest.approx(
            np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[0])
        )
        assert report.size == len(flat[0])
        assert report.clipped == sum(r.clipped for r in found.roundings if r.parameter in weights)
        if op == case.original.graph.output:
            assert (report.rate, report.quantized_rate, report.registers) == (None, None, None)
            continue
        assert report.rate == pytest.approx(before.spikes[op].mean())
        assert report.quantized_rate == pytest.approx(after.spikes[op].mean())
        assert (report.registers is None) is (name == "exact")
        if report.registers is not None:
            own, lif = held[op], found.network.graph.ops[op]
            assert isinstance(lif, Lif)
            assert report.registers.grid_bits == (own.grid_bits.min(), own.grid_bits.max())
            assert report.registers.threshold == (own.threshold.min(), own.threshold.max())
            assert report.registers.bias_exponent == (own.bias_exponent.min(), own.bias_exponent.max())
            assert report.registers.decay == 4096 * (1 - lif.tau)
            assert report.registers.threshold_change == lif.threshold - 1
            assert report.registers.tau_change == lif.tau - 0.5


def by_name(reports: tuple[LayerReport, ...]) -> dict[str, LayerReport]:
    """Reports by op."""
    return {report.op: report for report in reports}


def test_errors_do_not_depend_on_how_samples_are_grouped() -> None:
    """More samples than are looked at together count alike."""
    network = random_network(classifier(), steps=3)
    x = random_input(network, samples=70)
    found = quantize(network, x, format="loihi", bits=4)
    once, twice = (by_name(layer_reports(network, found, data)) for data in (x, np.concatenate([x, x[::-1]])))
    for name, report in once.items():
        assert report.current_error == pytest.approx(twice[name].current_error)
        assert report.current_error > 0.01
        assert report.rate == pytest.approx(twice[name].rate)


def test_layers_without_weights() -> None:
    """Direct edges alone: nothing is lost, and there are no exponents to tell."""
    network = random_network(direct("in a b out"), steps=2)
    x = random_input(network)
    for report in layer_reports(network, quantize(network, x, format="loihi"), x):
        assert (report.exponents, report.clipped, report.size) == (None, 0, 0)
        assert (report.weight_error, report.current_error) == (0, 0)
        assert report.rate == report.quantized_rate


def test_as_json() -> None:
    """Everything is a JSON value."""
    network = random_network(classifier(), steps=2)
    x = random_input(network)
    for name in ("exact", "loihi"):
        reports = layer_reports(network, quantize(network, x, format=name), x)
        told = json.loads(json.dumps([report.to_json() for report in reports], allow_nan=False))
        assert [layer["op"] for layer in told] == ["lif1", "lif2", "output"]
        assert (told[0]["registers"] is None) is (name == "exact")
        assert told[0]["exponents"] == list(reports[0].exponents or ())
