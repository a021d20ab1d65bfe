"""Where the time of an exported network goes: what ONNX Runtime's profiler says, summed by type of node."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.onnx_networks import Case
from benchmarks.onnx_torch import open_session
from snndeploy.export.onnx import Arithmetic, lower

_KERNEL = "_kernel_time"  # what the names of events end with that time a node


@dataclass(frozen=True)
class Share:
    """All nodes of one type in the optimised graph.

    milliseconds: Of one inference, wall time; of each node the shortest of all runs.
    """

    nodes: int
    milliseconds: float


def profile(case: Case, arithmetic: Arithmetic, rounds: int) -> dict[str, Share]:
    """What the sequence form takes, by type of node, the largest first."""
    data = lower(case.network, "sequence", arithmetic=arithmetic).SerializeToString()
    with TemporaryDirectory() as folder:
        session = open_session(data, case.threads, profile=str(Path(folder) / "run"))
        for _ in range(2 + rounds):
            session.run(None, {"x": case.images})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return shares(events)


def shares(events: Iterable[Mapping[str, Any]]) -> dict[str, Share]:
    """The time of every type of node from the profiler's events."""
    shortest: dict[tuple[str, str], float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            node = (event["args"]["op_name"], event["name"])
            shortest[node] = min(shortest.get(node, float("inf")), event["dur"] / 1e3)
    found: dict[str, Share] = {}
    for (op_type, _), milliseconds in shortest.items():
        known = found.get(op_type, Share(0, 0.0))
        found[op_type] = Share(known.nodes + 1, known.milliseconds + milliseconds)
    return dict(sorted(found.items(), key=lambda item: -item[1].milliseconds))
