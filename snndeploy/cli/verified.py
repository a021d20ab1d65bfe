"""What `verify` finds about each back end."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from snndeploy.cli.onnx_runs import REPEATED, same_bits
from snndeploy.ir import Comparator, run
from snndeploy.ir.verify import is_certified, spikes_differing

if TYPE_CHECKING:
    import numpy.typing as npt

    from snndeploy.cli.backends import Outcome
    from snndeploy.ir import Comparison, Network


@dataclass(frozen=True)
class Repeat:
    """The first samples run in another way, or looked at more closely: with their membrane potentials.

    same_bits: Whether spikes and readout are those of the run of all samples.
    comparison: With the interpreter.
    """

    how: str
    same_bits: bool
    comparison: Comparison

    @property
    def defects(self) -> tuple[str, ...]:
        """What is wrong with it; in an exact arithmetic also any difference from the other run."""
        differs = self.comparison.exact and not self.same_bits
        others = ("differs from the run of all samples",) if differs else ()
        return tuple(f"{self.how}: {defect}" for defect in self.comparison.defects or others)


@dataclass(frozen=True)
class Finding:
    """All that was found about one back end.

    edited_weights: Parameters that a file holds otherwise than the network.
    edited_nodes: Other parts of a file that are not what an export of the network gives.
    """

    comparison: Comparison
    repeats: tuple[Repeat, ...] = ()
    edited_weights: tuple[str, ...] = ()
    edited_nodes: tuple[str, ...] = ()

    @property
    def defects(self) -> tuple[str, ...]:
        """What rounding cannot explain, one line each."""
        return (*self.comparison.defects, *(d for repeat in self.repeats for d in repeat.defects))

    @property
    def passed(self) -> bool:
        """Whether the back end keeps its promise."""
        return not (self.defects or self.edited_weights or self.edited_nodes)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return as_facts(self.comparison) | {
            "passed": self.passed,
            "defects": list(self.defects),
            "repeats": [
                {
                    "how": repeat.how,
                    "samples": repeat.comparison.samples,
                    "same_bits": repeat.same_bits,
                    "differing": repeat.comparison.differing,
                    "potential_error": _finite(repeat.comparison.potential_error),
                    "defects": list(repeat.defects),
                }
                for repeat in self.repeats
            ],
            "edited_weights": list(self.edited_weights),
            "edited_nodes": list(self.edited_nodes),
        }


class Judge:
    """Runs the interpreter once and compares back ends with it, their repeats too."""

    def __init__(self, network: Network, x: npt.NDArray[Any]) -> None:
        expected = run(network, x)
        double = None if is_certified(network) else run(network, x, dtype=np.float64)
        few = x[:, :REPEATED] if network.input.kind == "frames" else x[:REPEATED]
        self.float64_differing = double and spikes_differing(expected, double)
        self._all = Comparator(network, x, expected, double)
        self._few = Comparator(network, few, run(network, few, potentials=True))

    def find(
        self,
        name: str,
        outcome: Outcome,
        edited_weights: tuple[str, ...] = (),
        edited_nodes: tuple[str, ...] = (),
    ) -> Finding:
        """What is found about a back end, or about a file with what was edited in it."""
        comparison = self._all.compare(outcome.trace, name, half=outcome.half)
        again = dict(outcome.repeats)
        if outcome.trace.potentials:
            again["potentials"] = outcome.trace.first(REPEATED)
        repeats = tuple(
            Repeat(how, same_bits(outcome.trace, trace), self._few.compare(trace, name, half=outcome.half))
            for how, trace in again.items()
        )
        return Finding(comparison, repeats, edited_weights, edited_nodes)


def as_facts(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON values; an infinite ratio, which JSON lacks, becomes null."""
    facts = {
        "compared": comparison.compared,
        "differing": comparison.differing,
        "largest_rate_difference": comparison.largest_rate_difference,
        "passed": comparison.passed,
        "defects": list(comparison.defects),
        **dataclasses.asdict(comparison),
    }
    for layer, row in zip(facts["layers"], comparison.layers, strict=True):
        layer["firing_rate"] = row.firing_rate
        layer["firing_rate_difference"] = row.firing_rate_difference
    finite: dict[str, Any] = _finite(facts)
    return finite


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and value in (float("inf"), float("-inf")) else value
