"""`snndeploy demo`: the whole way from digits to ONNX, Lava and joules in one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from snndeploy.cli.options import json_option, samples_option
from snndeploy.cli.train import out_option, overwrite_option

if TYPE_CHECKING:
    import numpy.typing as npt

    from snndeploy.ir import Comparison, Network, Schedule
    from snndeploy.targets.energy import Energy

_TARGET = "paper-45nm"


@click.command(epilog="Example: snndeploy demo --out runs/demo")
@out_option(default="runs/demo", show_default=True)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of everything random."
)
@click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Override a value of the configuration."
)
@overwrite_option
@samples_option
@json_option
def demo(
    out: Path, seed: int, overrides: tuple[str, ...], overwrite: bool, samples: int, as_json: bool
) -> None:
    """Train a small spiking ResNet on digits, deploy it everywhere, and prove that all agree.

    No download: the 1 797 images come with scikit-learn. Takes a few minutes on two cores.
    """
    from snndeploy.cli.output import emit_json, say
    from snndeploy.cli.runs import train_and_save
    from snndeploy.errors import QuantizeError
    from snndeploy.ir import schedule
    from snndeploy.targets.lava import find_interpreter
    from snndeploy.train import data
    from snndeploy.train.config import Config
    from snndeploy.train.settings import override

    # On the CPU unless told otherwise, so that the numbers are the same on every machine of its kind.
    config = Config.from_mapping(override({}, (f"seed={seed}", "device=cpu", *overrides)))
    find_interpreter()  # rather fail now than after the training
    trained = train_and_save(config, out, overwrite=overwrite)
    if trained.exact is None:
        raise QuantizeError("demo", "needs a network that can be certified exact", got=trained.problem)
    say("exporting ONNX and the Lava bundle")
    timing = schedule(trained.exact.graph)
    source = data.load(config.data)
    x = data.network_input(source.test.take(slice(0, samples)), source.input)
    deploy(trained.exact, x, out, timing)
    comparisons = {
        "exact": verify_exact(trained.exact, x, out),
        "float32": verify_float(trained.float32, x),
    }
    result = estimate_energy(trained.exact, x, out)
    facts = {
        "run": str(out),
        "seed": config.seed,
        "test_accuracy": trained.facts["test_accuracy"],
        "exact_test_accuracy": trained.facts["exact_test_accuracy"],
        "quantization": trained.facts["quantization"],
        "schedule": timing.name,
        "initiation_interval": timing.initiation_interval,
        "machine_steps": timing.machine_steps(trained.exact.steps),
        "verify": write_comparisons(comparisons, out),
        "energy": result.to_json(),
    }
    if as_json:
        emit_json(facts)
    else:
        click.echo(as_text(facts, comparisons, result))
    if not all(c.passed for group in comparisons.values() for c in group):
        raise SystemExit(1)


def onnx_files() -> dict[Literal["step", "sequence"], str]:
    """File of each ONNX form in a run folder."""
    from snndeploy.train.products import SEQUENCE, STEP

    return {"step": STEP, "sequence": SEQUENCE}


def deploy(network: Network, x: npt.NDArray[Any], out: Path, timing: Schedule) -> None:
    """Writes both ONNX forms and the Lava bundle with samples x into the run folder."""
    from snndeploy.export import lava, onnx
    from snndeploy.ir import fingerprint
    from snndeploy.train.products import BUNDLE

    digest = fingerprint(network)
    for form, name in onnx_files().items():
        onnx.export(network, out / name, form, fingerprint=digest)
    lava.export(network, out / BUNDLE, x, schedule=timing, fingerprint=digest)


def verify_exact(network: Network, x: npt.NDArray[Any], out: Path) -> list[Comparison]:
    """Compares every back end, running the files just written, with the interpreter."""
    from snndeploy.cli.backends import Machine, run_file, run_torch
    from snndeploy.cli.output import progress
    from snndeploy.ir import as_steps, compare, run
    from snndeploy.targets import lava
    from snndeploy.train.products import BUNDLE

    found = {"torch": run_torch(network, x, Machine()).trace}
    for form, name in onnx_files().items():
        found[f"onnx-{form}"] = run_file(x, Machine(), out / name).trace
    with progress("simulating Lava", as_steps(network, x).shape[1]) as report:
        (simulation,) = lava.simulate([out / BUNDLE], progress=lambda done, _: report(done))
    found["lava"] = simulation.trace
    expected = run(network, x)
    return [compare(network, x, expected, trace, name) for name, trace in found.items()]


def verify_float(network: Network, x: npt.NDArray[Any]) -> list[Comparison]:
    """Compares the float32 network's back ends with the interpreter, flips explained by their margins."""
    from snndeploy.cli.backends import BACKENDS, Machine, Outcome
    from snndeploy.ir import compare, run

    expected = run(network, x)
    names = ("torch", *(f"onnx-{form}" for form in onnx_files()))
    found = {name: BACKENDS[name](network, x, Machine()) for name in names}
    return [
        compare(network, x, expected, outcome.trace, name)
        for name, outcome in found.items()
        if isinstance(outcome, Outcome)
    ]


def estimate_energy(network: Network, x: npt.NDArray[Any], out: Path) -> Energy:
    """Estimates the energy of one inference on held-out images and writes energy.json."""
    from snndeploy.ir import run
    from snndeploy.ir.files import write_text
    from snndeploy.targets.counts import count
    from snndeploy.targets.energy import estimate
    from snndeploy.targets.profile import load
    from snndeploy.train.products import ENERGY

    result = estimate(count(network, run(network, x)), load(_TARGET))
    write_text(out / ENERGY, json.dumps(result.to_json(), indent=2, allow_nan=False) + "\n")
    return result


def write_comparisons(comparisons: dict[str, list[Comparison]], out: Path) -> dict[str, Any]:
    """Writes verify.json and returns what it holds."""
    from snndeploy.cli.verified import as_facts
    from snndeploy.ir.files import write_text
    from snndeploy.train.products import VERIFY

    facts = {form: [as_facts(c) for c in group] for form, group in comparisons.items()}
    write_text(out / VERIFY, json.dumps(facts, indent=2, allow_nan=False) + "\n")
    return facts


def as_text(facts: dict[str, Any], comparisons: dict[str, list[Comparison]], result: Energy) -> str:
    """The run as two short tables."""
    from snndeploy.cli.estimated import amount
    from snndeploy.cli.output import table
    from snndeploy.cli.trained import quantization_text

    rows = [
        [c.backend, form, c.compared, c.differing, sum(layer.unexplained for layer in c.layers), verdict(c)]
        for form, group in comparisons.items()
        for c in group
    ]
    bound = "at least " if result.bound == "lower bound" else ""
    head = [
        ["test accuracy, float32", f"{facts['test_accuracy']:.2%} MEASURED"],
        ["test accuracy, exact", f"{facts['exact_test_accuracy']:.2%} MEASURED"],
        [f"initiation interval II ({facts['schedule']})", str(facts["initiation_interval"])],
        ["machine steps per sample", str(facts["machine_steps"])],
        ["E_SNN per inference", f"{amount(result.e_snn_pj)} ESTIMATED, {result.profile.name}"],
        ["with analog first layer", f"{bound}{amount(result.total_pj)} ESTIMATED, {result.profile.name}"],
    ]
    headers = ["back end", "format", "spikes compared", "differing", "unexplained", ""]
    quantised = quantization_text(facts["quantization"])
    return f"{table(['result', ''], head)}\n\n{table(headers, rows)}\n\n{quantised}\neverything is in {facts['run']}"


def verdict(comparison: Comparison) -> str:
    """What a comparison means, in a few words."""
    if not comparison.passed:
        return f"FAILED: {comparison.defects[0]}"
    if comparison.differing == 0:
        return "same bits" if comparison.exact else "same spikes"
    return "explained by rounding"
