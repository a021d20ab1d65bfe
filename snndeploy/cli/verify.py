"""`snndeploy verify`: every back end against the reference interpreter, spike by spike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snndeploy.cli.options import data_option, json_option, network_argument, samples_option, threads_option

if TYPE_CHECKING:
    from snndeploy.cli.backends import Provider
    from snndeploy.cli.verified import Finding


@click.command(epilog="Example: snndeploy verify runs/demo/exact.snn.safetensors --against torch,onnx,lava")
@network_argument
@click.option(
    "--against",
    default="torch,onnx,lava",
    show_default=True,
    help="Back ends: torch, native, lava, lava-stock, onnx-step, onnx-sequence, onnx-scan, onnx-integer, "
    "onnx-float16; onnx for all five of ONNX Runtime.",
)
@click.option(
    "--onnx-file",
    "files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Also verify an ONNX file exported before; may be given several times.",
)
@click.option(
    "--provider",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where ONNX Runtime computes.",
)
@data_option
@samples_option
@threads_option
@json_option
def verify(
    network: Path,
    against: str,
    files: tuple[Path, ...],
    provider: Provider,
    data: str,
    samples: int,
    threads: int,
    as_json: bool,
) -> None:
    """Compare back ends with the interpreter on NETWORK; exit code 1 if one breaks its promise.

    In the exact format every spike must be the same. In float32 a spike may flip, but only where the neuron
    lies within the rounding bound of its threshold, with the back end's own spikes as its input; so too with
    weights in float16, whose bound is wider.
    """
    from snndeploy.cli.backends import (
        BACKENDS,
        LAVA,
        LAVA_STOCK,
        ONNX,
        Inapplicable,
        Machine,
        chosen,
        run_file,
    )
    from snndeploy.cli.networks import load_folded, load_samples
    from snndeploy.cli.output import emit_json, progress
    from snndeploy.cli.verified import Judge
    from snndeploy.errors import ConfigError
    from snndeploy.export import onnx
    from snndeploy.ir import Exact, certify
    from snndeploy.targets.lava import find_interpreter
    from snndeploy.targets.onnx_runtime.files import read_model

    names, machine = chosen(against), Machine(threads, provider)
    if {LAVA, LAVA_STOCK} & set(names):
        find_interpreter()  # a missing one is told at once
    for file in files:
        read_model(file)  # so is a damaged file
    source = load_folded(network)
    picked = load_samples(source, data, samples)
    judge = Judge(source, picked.x)
    findings: list[Finding] = []
    inapplicable: dict[str, str] = {}
    with progress("verifying", len(names) + len(files)) as report:
        for name in names:
            outcome = BACKENDS[name](source, picked.x, machine)
            if isinstance(outcome, Inapplicable):
                inapplicable[name] = outcome.reason
            else:
                findings.append(judge.find(name, outcome))
            report(len(findings) + len(inapplicable), name)
        for file in files:
            outcome = run_file(picked.x, machine, file)
            edited = onnx.differences(source, file)
            nodes = tuple(name for name in edited.nodes if name not in edited.weights)
            findings.append(judge.find(str(file), outcome, edited.weights, nodes))
            report(len(findings) + len(inapplicable), str(file))
    if not findings:
        told = "; ".join(f"{name}: {reason}" for name, reason in inapplicable.items())
        raise ConfigError("--against", "names no back end that can take this network", got=told)
    failures = certify(source).failures if isinstance(source.format, Exact) else ()
    facts: dict[str, Any] = {
        "network": str(network),
        "number_format": source.format.name,
        "uncertified": [f"{row.op}: {row.reason}" for row in failures],
        "samples": picked.count,
        "data": picked.name,
        "provider": provider if files or ONNX.keys() & set(names) else None,
        "passed": all(found.passed for found in findings),
        "inapplicable": inapplicable,
        "float64_differing": judge.float64_differing,
        "backends": [found.to_json() for found in findings],
    }
    if as_json:
        emit_json(facts)
    else:
        click.echo(as_text(findings))
        click.echo(_about(facts))
    if not facts["passed"]:
        raise SystemExit(1)


def as_text(findings: list[Finding]) -> str:
    """Findings as a table, with what was found wrong or disputed below it."""
    from snndeploy.cli.output import table

    rows = [
        [
            c.backend,
            c.compared,
            c.differing,
            sum(layer.flips for layer in c.layers),
            sum(layer.unexplained for layer in c.layers),
            c.largest_rate_difference,
            c.readout_error,
            f"{c.top1_agreement:.1%}",
            "ok" if found.passed else "FAILED",
        ]
        for found in findings
        for c in (found.comparison,)
    ]
    headers = [
        "back end",
        "compared",
        "differing",
        "forced flips",
        "unexplained",
        "rates",
        "readout",
        "top-1",
        "",
    ]
    return "\n".join([table(headers, rows), *(line for found in findings for line in _lines(found))])


def _about(facts: Mapping[str, Any]) -> str:
    """What there is to say of all back ends."""
    lines = [f"{name} does not apply: {reason}" for name, reason in facts["inapplicable"].items()]
    lines += ["", f"{facts['samples']} samples of {facts['data']}, format {facts['number_format']}"]
    lines += [f"not certified, so equality is not promised: {failure}" for failure in facts["uncertified"]]
    return "\n".join(lines)


def _lines(found: Finding) -> list[str]:
    """What there is to say of a back end besides its row."""
    c = found.comparison
    lines = [f"{name} differs from the network file" for name in found.edited_weights]
    lines += [f"node {name} differs from what the network file gives" for name in found.edited_nodes]
    lines += found.defects
    if c.first_divergence:
        d = c.first_divergence
        lines.append(
            f"first divergence at step {d.step} in {d.op}, sample {d.sample}, neuron {d.neuron}: "
            f"u = {d.potential:.9g}, threshold {d.threshold:g}"
        )
    if disputed := sum(layer.disputed for layer in c.layers):
        upheld = sum(layer.upheld for layer in c.layers)
        margin = max(layer.worst_margin for layer in c.layers)
        lines.append(
            f"with its own inputs {disputed} spikes are not the interpreter's; float64 gives {upheld} of them "
            f"(flips lie up to {margin:.3g} rounding bounds from the threshold)"
        )
    return [f"{c.backend}: {line}" for line in lines]
