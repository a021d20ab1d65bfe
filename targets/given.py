"""Networks and spikes that were not made here, read from files, to count and price them.

docs/energy-inputs.md describes both formats. Nothing in a file can execute code, and what does not fit is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snndeploy.errors import FileFormatError, SnnDeployError
from snndeploy.ir import Graph, InputSpec, load
from snndeploy.ir.document import graph_from_json, input_from_json, parse
from snndeploy.ir.timing import Schedule
from snndeploy.targets.counts import Counter, Counts, Skeleton
from snndeploy.targets.resources import Mapping as CoreMapping

_NETWORK = ".safetensors"
_AT_ONCE = 64  # samples, which bounds what counting takes besides the spikes themselves
_FIELDS = {"graph", "steps", "readout", "input", "format", "classes"}
_SPIKES, _COUNTS = "spikes/", "counts/"


def read_graph(path: Path) -> tuple[Graph, InputSpec, int | None]:
    """A graph, how data enters it, and its time steps if the file names them.

    Args:
        path: A network file (`.snn.safetensors`), or a JSON file of a graph or of a whole network without weights,
            as `snndeploy.ir.document` writes them. A graph alone is taken to show one image at every step.

    Raises:
        SnnDeployError: It cannot be read, or what it describes breaks a rule.
    """
    if path.suffix == _NETWORK:
        network = load(path)
        return network.graph, network.input, network.steps
    try:
        value = parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise FileFormatError(str(path), "cannot be read", got=error.strerror) from None
    except UnicodeDecodeError:
        raise FileFormatError(str(path), "is neither a network file nor JSON text in UTF-8") from None
    if not isinstance(value, dict) or "graph" not in value:
        return graph_from_json(value), InputSpec(), None
    unknown = sorted(set(value) - _FIELDS)
    if unknown:
        raise FileFormatError(
            str(path),
            f"holds {unknown[0]!r}",
            remedy=f"a network has the fields {', '.join(sorted(_FIELDS))}",
        )
    graph = graph_from_json(value["graph"])
    spec = input_from_json(value["input"]) if "input" in value else InputSpec()
    if "steps" not in value:
        return graph, spec, None
    return graph, spec, Skeleton(graph=graph, steps=value["steps"], input=spec).steps


def count_given(
    graph: Path,
    spikes: Path,
    *,
    timing: Schedule | None = None,
    mapping: CoreMapping | None = None,
    strict: bool = False,
) -> Counts:
    """Counts the work of spikes in a file.

    Args:
        graph: See `read_graph`.
        spikes: A .npz file with `steps` and for each Lif either `spikes/<lif>`, (time, samples, *shape) bool, or
            `counts/<lif>`, (samples, *shape) whole numbers over time. Where any Lif comes as counts, driven updates
            are not known.
        timing: See `Counter`, as for the others.
        mapping: The graph's cores.
        strict: Refuse a graph with work that is not counted.

    Raises:
        SnnDeployError: A file cannot be read, or they do not fit each other.
    """
    structure, spec, named = read_graph(graph)
    steps, arrays = _read_spikes(spikes)
    if named is not None and named != steps:
        raise FileFormatError(f"{spikes}: steps", f"must be {named}, as {graph} says", got=steps)
    with _placed(str(spikes)):
        network = Skeleton(graph=structure, steps=steps, input=spec)
    counter = Counter(network, timing=timing, mapping=mapping, strict=strict)
    found = _by_lif(str(spikes), structure, arrays)
    with _placed(str(spikes)):
        _count(counter, network, found)
    return counter.counts


def _count(counter: Counter, network: Skeleton, found: Mapping[str, tuple[bool, npt.NDArray[Any]]]) -> None:
    _check(network, found)
    whole = all(by_step for by_step, _ in found.values())
    by_step, first = found[network.graph.ports[0]]
    samples = first.shape[1 if by_step else 0]
    for start in range(0, samples, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        if whole:
            counter.add({name: array[:, part] for name, (_, array) in found.items()})
        else:
            counter.add_totals(
                {
                    name: array[:, part].sum(axis=0, dtype=np.int64) if by_step else array[part]
                    for name, (by_step, array) in found.items()
                }
            )


def _check(network: Skeleton, found: Mapping[str, tuple[bool, npt.NDArray[Any]]]) -> None:
    """Refuses wrong types and shapes before any of it is summed; values of counts are the counter's to check."""
    samples: int | None = None
    for name, (by_step, array) in found.items():
        where, shape = f"{_SPIKES if by_step else _COUNTS}{name}", network.graph.shapes[name]
        kinds, rule = ("b", "must be bool") if by_step else ("iu", "must be whole numbers")
        if array.dtype.kind not in kinds:
            raise FileFormatError(where, rule, got=array.dtype)
        front = (network.steps,) if by_step else ()
        given = array.shape[len(front)] if array.ndim > len(front) else 0
        samples = given if samples is None else samples
        if given < 1 or array.shape != (*front, samples, *shape):
            expected = (*front, samples or "samples", *shape)
            raise FileFormatError(where, f"must have shape {expected}", got=array.shape)


def _by_lif(
    where: str, graph: Graph, arrays: Mapping[str, npt.NDArray[Any]]
) -> dict[str, tuple[bool, npt.NDArray[Any]]]:
    """Whether each Lif's array is by step, and the array."""
    known = {f"{kind}{name}" for kind in (_SPIKES, _COUNTS) for name in graph.ports}
    unknown = sorted(set(arrays) - known)
    if unknown:
        raise FileFormatError(
            where,
            f"holds {unknown[0]!r}, which is neither spikes/<lif> nor counts/<lif>",
            remedy=f"the Lifs are {', '.join(graph.ports[:10])}",
        )
    found = {}
    for name in graph.ports:
        given = [kind for kind in (_SPIKES, _COUNTS) if f"{kind}{name}" in arrays]
        if len(given) != 1:
            raise FileFormatError(
                where, f"must hold either spikes/{name} or counts/{name}", got="both" if given else "neither"
            )
        found[name] = given[0] == _SPIKES, arrays[f"{given[0]}{name}"]
    return found


def _read_spikes(path: Path) -> tuple[int, dict[str, npt.NDArray[Any]]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # of many kinds: NumPy reads headers as Python, and archives
        raise FileFormatError(str(path), "cannot be read as a .npz file of arrays", got=str(error)) from None
    steps = arrays.pop("steps", None)
    if steps is None or steps.shape != () or steps.dtype.kind not in "iu":
        got = None if steps is None else f"{steps.dtype} {steps.shape}"
        raise FileFormatError(str(path), "must hold `steps`, one whole number", got=got)
    return int(steps), arrays


@contextmanager
def _placed(where: str) -> Iterator[None]:
    """Errors that say which file they are about."""
    try:
        yield
    except SnnDeployError as error:
        raise type(error)(f"{where}: {error.where}", error.rule, got=error.got, remedy=error.remedy) from None
