"""What a training run leaves: networks in float32 and the exact format, and what they came to on the test set."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snndeploy.errors import QuantizeError
    from snndeploy.ir import Network, Quantized
    from snndeploy.train.config import Config, QuantizeConfig
    from snndeploy.train.data import Dataset
    from snndeploy.train.evaluation import Evaluation
    from snndeploy.train.finetuning import FineTuned


@dataclass(frozen=True, eq=False)
class Trained:
    """What training leaves behind.

    exact: None if the network cannot be certified; `problem` then says why.
    quantization: What quantising did, in two numbers; None if it did not succeed.
    test, exact_test: On the test set, which is used for nothing else.
    finetuning: What fine-tuning came to, as in `facts`; empty if it was not asked for.
    """

    float32: Network
    exact: Network | None
    problem: str
    quantization: Mapping[str, float] | None
    test: Evaluation
    exact_test: Evaluation | None
    files: tuple[str, ...]
    finetuning: Mapping[str, Any] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Any]:
        """What a run came to, as JSON values."""
        return {
            "test_accuracy": self.test.accuracy,
            "exact_test_accuracy": None if self.exact_test is None else self.exact_test.accuracy,
            "exact_problem": self.problem or None,
            "quantization": None if self.quantization is None else dict(self.quantization),
            "test_group_accuracies": {
                name: {str(value): accuracy for value, accuracy in group.items()}
                for name, group in self.test.group_accuracies.items()
            },
            "firing_rates": dict(self.test.firing_rates),
            "dead_rate": self.test.dead_rate,
            "synops": self.test.synops,
            "estimated_energy_pj": self.test.estimated_energy_pj,
            "files": list(self.files),
            **self.finetuning,
        }


def save_trained(
    config: Config,
    folder: Path,
    trained: Network,
    source: Dataset,
    fine_tuned: FineTuned | QuantizeError | None = None,
) -> Trained:
    """Folds and quantises a trained network, tests it, and writes everything into its run folder.

    Args:
        config: Of the run.
        folder: Of the run.
        trained: BatchNorm still in it.
        source: Its data.
        fine_tuned: What fine-tuning led to, or why it was not possible; None if it was not asked for.

    Raises:
        FileFormatError: The folder cannot be written.
    """
    from snndeploy.errors import QuantizeError
    from snndeploy.ir import fold, quantize, save
    from snndeploy.ir.files import write_text
    from snndeploy.train import products
    from snndeploy.train.checkpoint import CHECKPOINT_FILE, FINE_TUNING_FILE, as_json
    from snndeploy.train.evaluation import evaluate
    from snndeploy.train.machine import device_of, neurons_of
    from snndeploy.train.metrics import METRICS_FILE

    device, neurons = device_of(config.device), neurons_of(config)
    save(trained, folder / products.TRAINED)
    float32 = fold(trained)
    save(float32, folder / products.FLOAT32)
    files = ["config.toml", METRICS_FILE, CHECKPOINT_FILE, products.TRAINED, products.FLOAT32]
    problem, exact, quantization = "", None, None
    try:
        quantized = quantize(float32, calibration(source, config.seed))
    except QuantizeError as error:
        problem = str(error)
    else:
        exact, quantization = quantized.network, quantization_facts(quantized)
        save(exact, folder / products.EXACT)
        write_text(folder / products.QUANTIZE, _quantization_report(quantized))
        files += [products.EXACT, products.QUANTIZE]
    finetuning: dict[str, Any] = {}
    if fine_tuned is not None:
        measure = partial(evaluate, samples=source.test, device=device, neurons=neurons)
        finetuning = finetuning_facts(config.quantize, fine_tuned, measure)
        if not isinstance(fine_tuned, QuantizeError):
            save(fine_tuned.network, folder / products.FINE_TUNED)
            files += [FINE_TUNING_FILE, products.FINE_TUNED]
    result = Trained(
        float32=float32,
        exact=exact,
        problem=problem,
        quantization=quantization,
        test=evaluate(float32, source.test, device=device, neurons=neurons),
        exact_test=None if exact is None else evaluate(exact, source.test, device=device, neurons=neurons),
        files=(*files, products.TEST),
        finetuning=finetuning,
    )
    # Written last: where it is, everything else is, too.
    facts = {**result.facts, "config": as_json(config)}
    write_text(folder / products.TEST, json.dumps(facts, indent=2, allow_nan=False) + "\n")
    return result


def calibration(source: Dataset, seed: int) -> Any:
    """A few training samples as prepared input."""
    from snndeploy.train import grids

    return grids.calibration(source, seed)


def quantization_facts(quantized: Quantized) -> dict[str, float]:
    """How many values were clipped, and by how many bits the tightest sum stays within float32."""
    return {
        "clipped": sum(rounding.clipped for rounding in quantized.roundings),
        "bits_left": min((row.bits_left for row in quantized.certificate.rows), default=24.0),
    }


def quantization_text(found: Mapping[str, float]) -> str:
    """What quantising did, in a line."""
    return f"quantised: {found['clipped']} values clipped, {found['bits_left']:.1f} bits left in the tightest sum"


def finetuning_facts(
    config: QuantizeConfig, fine_tuned: FineTuned | QuantizeError, measure: Callable[[Network], Evaluation]
) -> dict[str, Any]:
    """What fine-tuning came to, and what the same format without it, as JSON values.

    Args:
        config: What was asked for.
        fine_tuned: What it led to, or why it was not possible.
        measure: Of a network, on the test set.
    """
    from snndeploy.errors import QuantizeError
    from snndeploy.ir import certify

    asked = {
        "format": config.format,
        "bits": config.bits,
        "granularity": config.shares_a_grid,
        "epochs": config.epochs,
    }
    if isinstance(fine_tuned, QuantizeError):
        nothing = {"posttraining_test_accuracy": None, "finetuned_test_accuracy": None}
        return {**nothing, "finetuning": {**asked, "problem": str(fine_tuned)}}
    tested = measure(fine_tuned.network)
    rows = certify(fine_tuned.network).rows
    return {
        "posttraining_test_accuracy": measure(fine_tuned.before.network).accuracy,
        "finetuned_test_accuracy": tested.accuracy,
        "finetuning": {
            **asked,
            "problem": None,
            "grids_replaced": fine_tuned.replaced,
            "bits_left": min(row.bits_left for row in rows),
            "firing_rates": dict(tested.firing_rates),
            "dead_rate": tested.dead_rate,
            "synops": tested.synops,
            "estimated_energy_pj": tested.estimated_energy_pj,
        },
    }


def finetuning_lines(facts: Mapping[str, Any]) -> list[str]:
    """What fine-tuning came to, in words."""
    found = facts["finetuning"]
    grids = f"{found['format']}, {found['bits']} bits, a grid for each {found['granularity']}"
    if found["problem"]:
        return [f"not fine-tuned ({grids}): {found['problem']}"]
    lines = [
        f"test accuracy {facts['posttraining_test_accuracy']:.2%} ({grids}, not fine-tuned)",
        f"test accuracy {facts['finetuned_test_accuracy']:.2%} ({grids}, fine-tuned)",
    ]
    if found["grids_replaced"]:
        lines.append(f"grids replaced {found['grids_replaced']} times, as the weights had outgrown them")
    return lines


def _quantization_report(quantized: Quantized) -> str:
    """All that quantising did, as JSON."""
    report = {
        "parameters": [asdict(rounding) for rounding in quantized.roundings],
        "certificate": [
            {key: getattr(row, key) for key in ("op", "grid_bits", "bound", "limit", "bits_left", "reason")}
            for row in quantized.certificate.rows
        ],
    }
    return json.dumps(report, indent=2, allow_nan=False) + "\n"
