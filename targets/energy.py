"""What an inference costs on a target: counted work at a profile's prices."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from snndeploy.targets.counts import Counts, LayerCount, MacCount, SynapseCount
from snndeploy.targets.profile import EVIDENCE, Interval, TargetProfile


@dataclass(frozen=True, eq=False)
class Energy:
    """An estimate per inference: the mean over the samples counted. What has no price is None.

    Analog layers whose input is constant are charged at every step; `mac_once_pj` is what `mac_pj` becomes
    on a target that keeps their result.
    """

    counts: Counts
    profile: TargetProfile

    @property
    def work(self) -> dict[str, float]:
        """Mean work per inference, by the term that prices it."""
        return {
            "energy.synop": float(self.counts.synaptic_operations.mean()),
            "energy.mac": float(self.counts.mac_operations()),
            "energy.neuron": float(self.counts.neuron_updates),
        }

    @property
    def e_snn_pj(self) -> Interval | None:
        """Of the synaptic operations (Spiking Synaptic Penalty, eqs. 10 and 11)."""
        return self.priced("energy.synop", self.work["energy.synop"])

    @property
    def mac_pj(self) -> Interval | None:
        """Of the multiply-accumulates on analog values, constant ones at every step."""
        return self.priced("energy.mac", self.work["energy.mac"])

    @property
    def mac_once_pj(self) -> Interval | None:
        """Of the multiply-accumulates on analog values, constant ones once a sample."""
        return self.priced("energy.mac", self.counts.mac_operations(once=True))

    @property
    def neuron_pj(self) -> Interval | None:
        """Of the neuron updates."""
        return self.priced("energy.neuron", self.work["energy.neuron"])

    @property
    def total_pj(self) -> Interval:
        """Of all that is priced; `bound` says what that is."""
        priced = (self.priced(term, amount) for term, amount in self.work.items())
        return sum((energy for energy in priced if energy is not None), Interval(0.0, 0.0, 0.0))

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Terms with work and no price."""
        return tuple(t for t, amount in self.work.items() if amount and self.priced(t, amount) is None)

    @property
    def bound(self) -> Literal["estimate", "lower bound"]:
        """What the total is: a lower bound if any work has no price or was not counted."""
        return "lower bound" if self.unpriced or self.counts.uncounted else "estimate"

    @property
    def evidence(self) -> str:
        """The weakest evidence of a price that was used; "unpublished" if none was."""
        used = [t for t, amount in self.work.items() if amount and t not in self.unpriced]
        grades = [self.profile.prices[term].evidence for term in used]
        return max(grades, key=EVIDENCE.index, default="unpublished")

    def priced(self, term: str, amount: float) -> Interval | None:
        """Energy of an amount of work, in picojoules."""
        price = self.profile.prices.get(term)
        return None if price is None or price.amount is None else price.amount * amount

    def to_json(self) -> dict[str, Any]:
        """The whole report as plain values: energies in picojoules, work per inference."""
        counts, operations = self.counts, self.counts.synaptic_operations
        rates = [_rate(counts, layer) for layer in counts.layers]
        return {
            "label": "ESTIMATED",
            "target": self.profile.name,
            "notes": self.profile.notes,
            "evidence": self.evidence,
            "prices": {term: asdict(price) for term, price in self.profile.prices.items()},
            "samples": counts.samples,
            "steps": counts.steps,
            "machine_steps_per_sample": counts.machine_steps,
            "e_snn_pj": _plain(self.e_snn_pj),
            "mac_pj": _plain(self.mac_pj),
            "mac_once_pj": _plain(self.mac_once_pj),
            "first_layer": "recomputed at every step",
            "neuron_pj": _plain(self.neuron_pj),
            "total_pj": _plain(self.total_pj),
            "bound": self.bound,
            "unpriced": list(self.unpriced),
            "uncounted": list(counts.uncounted),
            "synaptic_operations": {
                "mean": float(operations.mean()),
                "standard_deviation": float(operations.std(ddof=1)) if counts.samples > 1 else None,
                "p95": float(np.percentile(operations, 95)),
            },
            "mac_operations": {
                "every_step": counts.mac_operations(),
                "once": counts.mac_operations(once=True),
            },
            "neuron_updates": counts.neuron_updates,
            "firing_rate": {"sum": sum(rates), "mean": sum(rates) / len(rates)},
            "dead_rate": sum(layer.dead for layer in counts.layers) / counts.neurons,
            "synapses": [_synapse_row(self, synapse) for synapse in counts.synapses],
            "macs": [_mac_row(self, mac) for mac in counts.macs],
            "layers": [_layer_row(counts, layer) for layer in counts.layers],
        }


def estimate(counts: Counts, profile: TargetProfile) -> Energy:
    """Prices counted work on a target."""
    return Energy(counts, profile)


def _rate(counts: Counts, layer: LayerCount) -> float:
    """Spikes per neuron and step (Spiking Synaptic Penalty, eq. 8, as the mean over the steps)."""
    return float(layer.spikes.mean()) / (layer.fired.size * counts.steps)


def _synapse_row(energy: Energy, synapse: SynapseCount) -> dict[str, Any]:
    path, operations = synapse.fanout, float(synapse.operations.mean())
    return {
        "source": path.source,
        "ops": list(path.ops),
        "target": path.target,
        "delay": path.delay,
        "synapses": path.total,
        "synaptic_operations": operations,
        "energy_pj": _plain(energy.priced("energy.synop", operations)),
    }


def _mac_row(energy: Energy, mac: MacCount) -> dict[str, Any]:
    operations = mac.operations(energy.counts.steps, once=False)
    return {
        **asdict(mac),
        "mac_operations": operations,
        "energy_pj": _plain(energy.priced("energy.mac", operations)),
    }


def _layer_row(counts: Counts, layer: LayerCount) -> dict[str, Any]:
    return {
        "name": layer.name,
        "neurons": layer.fired.size,
        "spikes": float(layer.spikes.mean()),
        "firing_rate": _rate(counts, layer),
        "dead_neurons": layer.dead,
    }


def _plain(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else asdict(interval)
