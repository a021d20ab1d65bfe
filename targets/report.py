"""An estimate as plain values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from snndeploy.targets.counts import Counts, LayerCount, MacCount, SynapseCount
from snndeploy.targets.energy import Energy, Priced
from snndeploy.targets.models import DEVICE
from snndeploy.targets.profile import Interval

FIRST_LAYER = {
    "recompute": "recomputed at every step",
    "cached": "computed once a sample",
    "spike-encoded": "its input comes as spikes",
    "host": "on the host, not counted here",
}


def report(energy: Energy) -> dict[str, Any]:
    """The whole report: energies in picojoules, work per inference.

    `e_snn_pj`, `mac_pj`, `mac_once_pj`, `neuron_pj` and the rows of `synapses` and `macs` are one kind of work over
    its price's whole range; `total_pj`, `terms` and `ops` range from the 5th to the 95th percentile of the draws.
    """
    counts, operations = energy.counts, energy.counts.synaptic_operations
    rates = [_rate(counts, layer) for layer in counts.layers]
    return {
        "label": "ESTIMATED",
        "target": energy.profile.name,
        "notes": energy.profile.notes,
        "evidence": energy.evidence,
        "unverified": list(energy.unverified),
        "prices": {term: asdict(number) for term, number in energy.numbers.items()},
        "setting": asdict(energy.setting),
        "time_us": energy.time_us,
        "cores": None if energy.mapping is None else energy.mapping.cores,
        "chips": None if energy.mapping is None else energy.mapping.chips,
        "samples": counts.samples,
        "steps": counts.steps,
        "machine_steps_per_sample": counts.machine_steps,
        "e_snn_pj": _plain(energy.e_snn_pj),
        "mac_pj": _plain(energy.mac_pj),
        "mac_once_pj": _plain(energy.mac_once_pj),
        "first_layer": FIRST_LAYER[energy.setting.first_layer],
        "hosted": list(energy.hosted),
        "neuron_pj": _plain(energy.neuron_pj),
        "total_pj": _plain(energy.total_pj),
        "range_pj": asdict(energy.snn.range),
        "terms": _named(energy.snn.by_term()),
        "ops": _named(energy.snn.by_op()),
        "operations_pj": energy.operations_pj,
        "contributions": {one.name: one.share for one in energy.contributions},
        "bound": energy.bound,
        "unpriced": list(energy.unpriced),
        "uncounted": list(counts.uncounted),
        "ann": _ann(energy.ann),
        "snn_over_ann": None if energy.ratio is None else asdict(energy.ratio),
        "work": energy.work(),
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
        "driven_neuron_updates": None if counts.driven is None else float(counts.driven.mean()),
        "firing_rate": {"sum": sum(rates), "mean": sum(rates) / len(rates)},
        "dead_rate": sum(layer.dead for layer in counts.layers) / counts.neurons,
        "synapses": [_synapse_row(energy, synapse) for synapse in counts.synapses],
        "macs": [_mac_row(energy, mac) for mac in counts.macs],
        "layers": [_layer_row(counts, layer) for layer in counts.layers],
    }


def rows(energy: Energy) -> list[dict[str, Any]]:
    """One flat row for each op, and one for the device as a whole: what goes into a CSV file."""
    found = energy.snn.by_op()
    total = energy.snn.total
    table = []
    for op in energy.snn.work.ops:
        energy_pj = found.get(op.name, Interval(0.0, 0.0, 0.0))
        table.append(
            {
                "target": energy.profile.name,
                "op": op.name,
                "kind": op.kind,
                "neurons": op.neurons,
                "synaptic_operations": _number(op.synops),
                "mac_operations": _number(op.macs),
                "neuron_updates": op.updates,
                "driven_updates": _number(op.driven),
                "spikes": _number(op.spikes),
                "messages": _number(op.messages),
                **_columns(energy_pj, total),
            }
        )
    if DEVICE in found:
        empty = dict.fromkeys(table[0])
        table.append(
            {
                **empty,
                "target": energy.profile.name,
                "op": "(device)",
                "kind": "power",
                **_columns(found[DEVICE], total),
            }
        )
    return table


def _columns(energy_pj: Interval, total: float) -> dict[str, float]:
    return {
        "energy_pj": energy_pj.value,
        "energy_p5_pj": energy_pj.low,
        "energy_p95_pj": energy_pj.high,
        "share": energy_pj.value / total if total else 0.0,
    }


def _number(amount: Any) -> float | None:
    return None if amount is None else float(amount)


def _named(parts: dict[str, Interval]) -> dict[str, Any]:
    return {name or "(device)": asdict(part) for name, part in parts.items()}


def _ann(ann: Priced) -> dict[str, Any]:
    return {
        "total_pj": asdict(ann.interval),
        "terms": _named(ann.by_term()),
        "unpriced": list(ann.unpriced),
        "mac_operations": _number(ann.work.total("macs")),
    }


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
        "target": mac.target,
        "macs": mac.macs,
        "constant": mac.constant,
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
