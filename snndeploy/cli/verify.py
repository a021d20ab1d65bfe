"""`snndeploy verify`: every back end against the reference interpreter, spike by spike."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snndeploy.cli.options import data_option, json_option, network_argument, samples_option, threads_option

if TYPE_CHECKING:
    from snndeploy.ir import Comparison


@click.command(epilog="Example: snndeploy verify runs/demo/exact.snn.safetensors --against torch,onnx,lava")
@network_argument
@click.option(
    "--against",
    default="torch,onnx,lava",
    show_default=True,
    help="Back ends: torch, onnx (both forms), onnx-step, onnx-sequence, lava.",
)
@click.option(
    "--onnx-file",
    "files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Also verify an ONNX file exported before; may be given several times.",
)
@data_option
@samples_option
@threads_option
@json_option
def verify(
    network: Path,
    against: str,
    files: tuple[Path, ...],
    data: str,
    samples: int,
    threads: int,
    as_json: bool,
) -> None:
    """Compare back ends with the interpreter on NETWORK; exit code 1 if one breaks its promise.

    In the exact format every spike must be the same. In float32 a spike may flip, but only where the neuron
    lies within the rounding bound of its threshold, with the back end's own spikes as its input.
    """
    from snndeploy.cli.backends import BACKENDS, LAVA, chosen, run_onnx
    from snndeploy.cli.networks import load_folded, load_samples
    from snndeploy.cli.output import emit_json, progress
    from snndeploy.export import onnx
    from snndeploy.ir import Exact, certify, compare, run
    from snndeploy.targets.lava import find_interpreter

    names = chosen(against)
    if LAVA in names:
        find_interpreter()  # a missing one is told at once
    source = load_folded(network)
    picked = load_samples(source, data, samples)
    expected = run(source, picked.x)
    comparisons: list[Comparison] = []
    edited: dict[str, list[str]] = {}
    edited_nodes: dict[str, list[str]] = {}
    with progress("verifying", len(names) + len(files)) as report:
        for name in names:
            found = BACKENDS[name](source, picked.x, threads)
            comparisons.append(compare(source, picked.x, expected, found, name))
            report(len(comparisons), name)
        for file in files:
            found = run_onnx(source, picked.x, threads, form="sequence", file=file)
            comparisons.append(compare(source, picked.x, expected, found, str(file)))
            weights = edited[str(file)] = list(onnx.differing_weights(source, file))
            nodes = onnx.differing_nodes(source, file)
            edited_nodes[str(file)] = [name for name in nodes if name not in weights]
            report(len(comparisons), str(file))
    failures = certify(source).failures if isinstance(source.format, Exact) else ()
    facts: dict[str, Any] = {
        "network": str(network),
        "number_format": source.format.name,
        "uncertified": [f"{row.op}: {row.reason}" for row in failures],
        "samples": picked.count,
        "data": picked.name,
        "passed": all(c.passed for c in comparisons) and not any((*edited.values(), *edited_nodes.values())),
        "backends": [
            as_facts(c)
            | {
                "edited_weights": edited.get(c.backend, []),
                "edited_nodes": edited_nodes.get(c.backend, []),
            }
            for c in comparisons
        ],
    }
    if as_json:
        emit_json(facts)
    else:
        click.echo(as_text(comparisons, edited, edited_nodes))
        click.echo(f"\n{picked.count} samples of {picked.name}, format {source.format.name}")
        for failure in facts["uncertified"]:
            click.echo(f"not certified, so equality is not promised: {failure}")
    if not facts["passed"]:
        raise SystemExit(1)


def as_facts(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON values; an infinite ratio, which JSON lacks, becomes null."""
    facts = {
        "compared": comparison.compared,
        "differing": comparison.differing,
        "passed": comparison.passed,
        "defects": list(comparison.defects),
        **dataclasses.asdict(comparison),
    }
    for layer, row in zip(facts["layers"], comparison.layers, strict=True):
        layer["firing_rate"] = row.firing_rate
    finite: dict[str, Any] = _finite(facts)
    return finite


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and value in (float("inf"), float("-inf")) else value


def as_text(
    comparisons: list[Comparison], edited: dict[str, list[str]], edited_nodes: dict[str, list[str]]
) -> str:
    """Comparisons as a table, with what was found wrong below it."""
    from snndeploy.cli.output import table

    rows = [
        [
            c.backend,
            c.compared,
            c.differing,
            sum(layer.flips for layer in c.layers),
            sum(layer.unexplained for layer in c.layers),
            c.readout_error,
            f"{c.top1_agreement:.1%}",
            "ok" if c.passed and not edited.get(c.backend) and not edited_nodes.get(c.backend) else "FAILED",
        ]
        for c in comparisons
    ]
    headers = ["back end", "compared", "differing", "forced flips", "unexplained", "readout", "top-1", ""]
    lines = [table(headers, rows)]
    for c in comparisons:
        lines += [f"{c.backend}: {name} differs from the network file" for name in edited.get(c.backend, [])]
        lines += [
            f"{c.backend}: node {name} differs from what the network file gives"
            for name in edited_nodes.get(c.backend, [])
        ]
        lines += [f"{c.backend}: {defect}" for defect in c.defects]
        if c.first_divergence:
            d = c.first_divergence
            lines.append(
                f"{c.backend}: first divergence at step {d.step} in {d.op}, sample {d.sample}, neuron {d.neuron}: "
                f"u = {d.potential:.9g}, threshold {d.threshold:g}"
            )
    return "\n".join(lines)
