"""What `snndeploy train` leaves of an ANN: the spiking networks that it is converted to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from snndeploy.ir import Network
    from snndeploy.train.config import Config
    from snndeploy.train.data import Dataset


def convert_and_save(config: Config, folder: Path, ann: Network, source: Dataset) -> dict[str, Any]:
    """Converts an ANN for every number of time steps asked for, tests, and writes all into the run folder.

    The ANN itself stays in the checkpoint: as a network file it would be run with spiking neurons.

    Args:
        config: Of the run.
        folder: Of the run.
        ann: Trained, BatchNorm still in it.
        source: Its data.

    Returns:
        What the run came to, as in test.json but for the configuration. What a spiking network is measured by
        is null for the run and stands in each of `conversions`.

    Raises:
        FileFormatError: The folder cannot be written.
    """
    from snndeploy.ir import fold
    from snndeploy.ir.files import write_text
    from snndeploy.train import products
    from snndeploy.train.checkpoint import CHECKPOINT_FILE, as_json
    from snndeploy.train.conversion import activation_of
    from snndeploy.train.evaluation import evaluate
    from snndeploy.train.machine import device_of
    from snndeploy.train.metrics import METRICS_FILE

    device = device_of(config.device)
    tested = evaluate(fold(ann), source.test, activation=activation_of(config.network), device=device)
    conversions = [
        _converted(config, ann, steps, folder, source, device) for steps in config.network.conversion_steps
    ]
    written = [name for one in conversions for name in one["files"]]
    facts = {
        "test_accuracy": None,
        "exact_test_accuracy": None,
        "exact_problem": None,
        "quantization": None,
        "test_group_accuracies": {},
        "firing_rates": {},
        "dead_rate": None,
        "synops": None,
        "estimated_energy_pj": None,
        "ann": {
            "test_accuracy": tested.accuracy,
            "mean_activations": dict(tested.mean_activations),
            "dead_rate": tested.dead_rate,
            "synops_forecast": tested.synops,
        },
        "conversions": conversions,
        "files": ["config.toml", METRICS_FILE, CHECKPOINT_FILE, *written, products.TEST],
    }
    # Written last: where it is, everything else is, too.
    text = json.dumps({**facts, "config": as_json(config)}, indent=2, allow_nan=False)
    write_text(folder / products.TEST, text + "\n")
    return facts


def _converted(
    config: Config, ann: Network, steps: int, folder: Path, source: Dataset, device: torch.device
) -> dict[str, Any]:
    """Writes the spiking network for some time steps, in float32 and the exact format; what it came to."""
    from snndeploy.cli.trained import calibration, quantization_facts
    from snndeploy.errors import QuantizeError
    from snndeploy.ir import Lif, quantize, save
    from snndeploy.train import products
    from snndeploy.train.conversion import best_conversion
    from snndeploy.train.evaluation import evaluate
    from snndeploy.train.machine import neurons_of

    neurons = neurons_of(config)
    factors = config.network.conversion_thresholds
    network = best_conversion(ann, steps, factors, source.validation, device=device, neurons=neurons)
    files = [products.converted(steps)]
    save(network, folder / files[0])
    tested = evaluate(network, source.test, device=device, neurons=neurons)
    facts: dict[str, Any] = {
        "steps": steps,
        "threshold": max(op.threshold for op in network.graph.ops.values() if isinstance(op, Lif)),
        "test_accuracy": tested.accuracy,
        "exact_test_accuracy": None,
        "exact_problem": None,
        "quantization": None,
        "firing_rates": dict(tested.firing_rates),
        "dead_rate": tested.dead_rate,
        "synops": tested.synops,
        "estimated_energy_pj": tested.estimated_energy_pj,
    }
    try:
        quantized = quantize(network, calibration(source, config.seed))
    except QuantizeError as error:
        facts["exact_problem"] = str(error)
    else:
        files.append(products.converted(steps, exact=True))
        save(quantized.network, folder / files[1])
        exact = evaluate(quantized.network, source.test, device=device, neurons=neurons)
        facts["exact_test_accuracy"] = exact.accuracy
        facts["quantization"] = quantization_facts(quantized)
    return {**facts, "files": files}


def as_text(facts: Mapping[str, Any]) -> str:
    """A run in a table."""
    from snndeploy.cli.output import table

    rows = [
        [
            f"T = {one['steps']}",
            f"{one['threshold']:.4g}",
            f"{one['test_accuracy']:.2%}",
            "-" if one["exact_test_accuracy"] is None else f"{one['exact_test_accuracy']:.2%}",
            f"{one['dead_rate']:.2%}",
            f"{one['synops']:.4g}",
            f"{one['estimated_energy_pj'] / 1e3:.4g} nJ",
        ]
        for one in facts["conversions"]
    ]
    measured = ["test accuracy", "exact", "dead", "synaptic operations", "energy, ESTIMATED"]
    problems = [
        f"T = {one['steps']} not in the exact format: {one['exact_problem']}"
        for one in facts["conversions"]
        if one["exact_problem"]
    ]
    return "\n".join(
        [
            f"test accuracy {facts['ann']['test_accuracy']:.2%} (the ANN, which does not spike)",
            "",
            table(["converted", "threshold", *measured], rows),
            "",
            *problems,
            f"wrote {', '.join(facts['files'])} to {facts['run']}",
        ]
    )
