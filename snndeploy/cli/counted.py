"""The work of one inference, counted for several targets at once: the network runs only once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from snndeploy.cli.given import Given

if TYPE_CHECKING:
    from snndeploy.targets.counts import Counts
    from snndeploy.targets.profile import TargetProfile
    from snndeploy.targets.resources import Mapping

_AT_ONCE = 32  # samples, which bounds the memory that their spikes take


@dataclass(frozen=True, eq=False)
class Counted:
    """What was counted, and from what.

    work: Counts and cores for each target, in their order.
    origin: Files and data, for reports.
    sentence: The same for people.
    """

    work: tuple[tuple[Counts, Mapping | None], ...]
    origin: dict[str, str]
    sentence: str


def count_for(
    work: Path | Given, data: str, samples: int, targets: Sequence[TargetProfile], *, strict: bool
) -> Counted:
    """Counts of a network that is run, or of files.

    Args:
        work: A network file, or a graph and its spikes.
        data: As of the `--data` option.
        samples: At most.
        targets: Those with a chip count messages and hops on its cores.
        strict: Refuse work that is not counted.

    Raises:
        SnnDeployError: A file or the network does not do.
    """
    return (
        _given(work, targets, strict)
        if isinstance(work, Given)
        else _run(work, data, samples, targets, strict)
    )


def _run(path: Path, data: str, samples: int, targets: Sequence[TargetProfile], strict: bool) -> Counted:
    from snndeploy.cli.networks import load_folded, load_samples
    from snndeploy.ir import run
    from snndeploy.targets.counts import Counter
    from snndeploy.targets.work import mapping_for

    source = load_folded(path)
    mappings = {_chip(target): mapping_for(source.graph, target) for target in targets}
    counters = {chip: Counter(source, mapping=mapping, strict=strict) for chip, mapping in mappings.items()}
    picked = load_samples(source, data, samples)
    frames = source.input.kind == "frames"
    for start in range(0, picked.count, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        x = picked.x[:, part] if frames else picked.x[part]
        trace = run(source, x)
        for counter in counters.values():
            counter.add(trace, x)
    return Counted(
        tuple((counters[_chip(target)].counts, mappings[_chip(target)]) for target in targets),
        {"network": str(path), "data": picked.name},
        f"{picked.count} samples of {picked.name}, format {source.format.name}",
    )


def _given(work: Given, targets: Sequence[TargetProfile], strict: bool) -> Counted:
    from snndeploy.targets.given import count_given, read_graph
    from snndeploy.targets.work import mapping_for

    graph, _, _ = read_graph(work.graph)
    mappings = {_chip(target): mapping_for(graph, target) for target in targets}
    counts = {
        chip: count_given(work.graph, work.spikes, mapping=mapping, strict=strict)
        for chip, mapping in mappings.items()
    }
    found = tuple((counts[_chip(target)], mappings[_chip(target)]) for target in targets)
    origin = {"graph": str(work.graph), "spikes": str(work.spikes)}
    return Counted(found, origin, f"{found[0][0].samples} samples given in {work.spikes}")


def _chip(target: TargetProfile) -> str | None:
    return None if target.chip is None else target.chip.name
