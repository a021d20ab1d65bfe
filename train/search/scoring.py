"""Scores of candidates without training: one initialisation and one batch for all of them.

A candidate is run once, with the statistics of the batch, and gives both scores: its spikes the N-score, the
gradient with respect to the input the E-score. Weights want no gradient. What no new connection can reach is
the same in every candidate; it is computed once for candidates that share it, with what a gradient through it
needs.

Many candidates are shared among processes, and among ranks on several machines. After each chunk the ranks tell
each other what they found, and the first one appends it to `scores.jsonl`, so that a run that was killed goes on
where it stood, and no folder need be seen by all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.ir import Graph
from snndeploy.nn import initial_weights
from snndeploy.nn.engine import Plan, Simulation, simulate
from snndeploy.nn.surrogate import Surrogate, Triangle
from snndeploy.train.data import load
from snndeploy.train.distributed import World
from snndeploy.train.machine import Machine, current
from snndeploy.train.memory import kept_memory
from snndeploy.train.model import build_graph, build_surrogate
from snndeploy.train.pool import Failure, map_tasks
from snndeploy.train.search.batch import balanced_batch
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.escore import judged
from snndeploy.train.search.folder import SCORES, append_lines, by_architecture, read_lines
from snndeploy.train.search.nscore import Kernel, Variant
from snndeploy.train.search.records import REMEDY
from snndeploy.train.search.space import Architecture, Space, label

Wanted: TypeAlias = Literal["both", "n", "e"]

CHUNK = 16  # candidates that a worker takes at a time


@dataclass(frozen=True)
class Scores:
    """Of one candidate.

    n, e: Higher is better; None where the score is undefined, so that it cannot speak for the candidate, or not
        wanted.
    reason: Why one is undefined; empty if none is.
    """

    n: float | None
    e: float | None
    reason: str = ""


def order(architectures: Collection[Architecture]) -> list[Architecture]:
    """Candidates such that those with the same unchanged prefix follow each other, each once.

    By the earliest port that something new enters, deepest last; the one without connections is the first.
    """
    return sorted(set(architectures), key=lambda a: (min((c.target for c in a), default=-1), len(a), a))


class Scorer:
    """Scores candidates of a space; a score depends on the candidate alone, not on those before it.

    Args:
        space: The candidates.
        x: (time, batch, *shape), the batch; an image that stays is best expanded over time.
        labels: (batch,).
        seed: Of the initial weights, in which backward connections have full effect.
        surrogate: Stand-in for the derivative of a spike, for the E-score.
        variant: Of the N-score.
        classes: Of the data set.
        wanted: Which scores.
        readout: How many of the last steps the answer is read from, for the E-score; 0 for all.
    """

    def __init__(
        self,
        space: Space,
        x: Tensor,
        labels: Tensor,
        *,
        seed: int,
        surrogate: Surrogate = Triangle(),  # noqa: B008  (frozen)
        variant: Variant = "code",
        classes: int,
        wanted: Wanted = "both",
        readout: int = 0,
    ) -> None:
        self.space, self.labels, self.classes, self.wanted = space, labels, classes, wanted
        self.surrogate, self.variant = surrogate, variant
        arrays = initial_weights(space.supergraph, seed, backward_scale=1.0)
        self._tensors = {name: torch.from_numpy(array).to(x) for name, array in arrays.items()}
        self._steps = len(x)
        self._readout = slice(len(x) - (readout or len(x)), None)
        self._static = len(x) > 1 and x.stride(0) == 0
        self._leaf = (x[0] if self._static else x).detach().clone().requires_grad_()
        self._plan = Plan.of(space.backbone)
        with torch.no_grad(), current(x.device):
            self._kernels = self._kernels_of(self._simulate(space.backbone, self._plan, record_spikes=True))
        self._shared: tuple[frozenset[str], Mapping[str, Tensor]] = frozenset(), {}

    def score(self, architectures: Sequence[Architecture]) -> list[Scores]:
        """Both scores of each candidate, in any order."""
        with kept_memory(), current(self._leaf.device):
            found = {architecture: self._score(architecture) for architecture in order(architectures)}
        return [found[architecture] for architecture in architectures]

    def _score(self, architecture: Architecture) -> Scores:
        graph = self.space.graph(architecture)
        plan = Plan.of(graph)
        n, e, reasons = None, None, []
        with torch.set_grad_enabled(self.wanted != "n"):
            given = self._prefix(_frontier(graph, self.space.backbone, plan))
            done = self._simulate(graph, plan, given=given, record_spikes=self.wanted != "e")
        if self.wanted != "n":
            # What is computed once is differentiated through for every candidate anew.
            answer = done.logits[self._readout].mean(0).sum()
            (gradient,) = torch.autograd.grad(answer, self._leaf, retain_graph=bool(given))
            jacobian = gradient if self._static else gradient.movedim(0, 1)
            e, why = judged(jacobian, self.labels, self.classes)
            reasons.append(why)
        if self.wanted != "e":
            kernels = {**self._kernels, **self._kernels_of(done)}
            n, why = Kernel.sum(kernels.values()).score()
            reasons.append(why)
        return Scores(n, e, "; ".join(filter(None, reasons)))

    def _simulate(self, graph: Graph, plan: Plan, **options: Any) -> Simulation:
        x = self._leaf.expand(self._steps, *self._leaf.shape) if self._static else self._leaf
        return simulate(
            graph,
            self._tensors,
            x,
            surrogate=self.surrogate,
            batch_statistics=True,
            plan=plan,
            **options,
        )

    def _kernels_of(self, done: Simulation) -> dict[str, Kernel]:
        return {name: Kernel.of(name, spikes, self.variant) for name, spikes in done.spikes.items()}

    def _prefix(self, names: frozenset[str]) -> Mapping[str, Tensor]:
        """Outputs of ops of the backbone, with the history that a gradient needs; the last ones are kept."""
        if names != self._shared[0]:
            self._shared = frozenset(), {}  # frees the memory before it is needed again
            self._shared = names, self._simulate(self.space.backbone, self._plan, keep=names).values
        return self._shared[1]


def _frontier(graph: Graph, backbone: Graph, plan: Plan) -> frozenset[str]:
    """The ops that new connections do not reach and whose outputs enter what they do reach.

    A BatchNorm that compiled neurons apply themselves is left to them: what enters it stands in its place.
    """
    reached = {name for name in graph.ops if name not in backbone.ops}
    waiting = list(reached)
    while waiting:
        fresh = {edge.target for edge in graph.outgoing[waiting.pop()]} - reached
        reached |= fresh
        waiting.extend(fresh)
    found: set[str] = set()
    waiting = list(reached)
    while waiting:
        for edge in graph.incoming[waiting.pop()]:
            if edge.source in plan.deferrable and edge.source not in reached:
                waiting.append(edge.source)
            elif edge.source not in reached:
                found.add(edge.source)
    return frozenset(found)


@dataclass(frozen=True, eq=False)
class Material:
    """What scorers of a configuration are made of.

    x: (time, batch, *shape), on the device to compute on.
    labels: (batch,).
    readout: How many of the last steps the answer is read from; 0 for all.
    """

    config: SearchConfig
    space: Space
    x: Tensor
    labels: Tensor
    classes: int
    readout: int

    @classmethod
    def load(cls, config: SearchConfig, world: World = World()) -> Material:  # noqa: B008  (frozen)
        """Reads the data, and builds the space.

        Args:
            config: Of the search.
            world: Which rank this is; each on a machine with GPUs has one to itself.

        Raises:
            SnnDeployError: The data, the backbone, the space or the device cannot be had.
        """
        training = config.training
        device = Machine.from_config(training, world).device
        data = load(training.data)
        classes, steps = len(data.classes), training.network.steps
        space = Space.of(build_graph(training.network, data.shape, classes), config.space, steps)
        x, labels = balanced_batch(data, config.score.batch, steps, config.seed)
        readout = training.network.readout or data.readout
        return cls(config, space, x.to(device), labels, classes, readout)

    def scorer(self, *, seed: int, places: Tensor | None = None) -> Scorer:
        """One of them.

        Args:
            seed: Of the initial weights.
            places: Which samples of the batch it sees; None for all.
        """
        x, labels = self.x, self.labels
        if places is not None:
            static = x.stride(0) == 0
            x = x[0, places].expand(len(x), -1, *x.shape[2:]) if static else x[:, places]
            labels = labels[places]
        return Scorer(
            self.space,
            x,
            labels,
            seed=seed,
            surrogate=build_surrogate(self.config.training.network),
            variant="code" if self.config.score.variant == "code" else "normalised",
            classes=self.classes,
            wanted=_wanted(self.config.score.scores),
            readout=self.readout,
        )


def load_scorer(
    config: SearchConfig,
    world: World = World(),  # noqa: B008  (frozen)
) -> Callable[[Sequence[Architecture]], list[Scores]]:
    """What scores a chunk of candidates, for `snndeploy.train.pool.map_tasks`, on the device of a rank."""
    return Material.load(config, world).scorer(seed=config.seed).score


def score_all(
    config: SearchConfig,
    architectures: Sequence[Architecture],
    folder: Path,
    *,
    workers: int = 1,
    world: World = World(),  # noqa: B008  (frozen)
    on_chunk: Callable[[int], None] = lambda _: None,
) -> dict[Architecture, Scores]:
    """Scores all candidates, but for those whose scores the folder holds already.

    Of several ranks each scores its share of what is left, chunk by chunk, and all of them learn all scores.
    Nobody waits for another for longer than one chunk takes.

    Args:
        config: Of the search; the scores in the folder must be of the same.
        architectures: The candidates, the same on all ranks.
        folder: Where the first rank keeps the scores; the others need not see it.
        workers: Processes on this machine.
        world: The ranks, which must have joined, and which of them this is.
        on_chunk: Called with the number of candidates that were just scored, on all ranks together.

    Returns:
        The scores of every candidate, in their order.

    Raises:
        FileFormatError: The file of scores is damaged, of another configuration, or cannot be written.
        SnnDeployError: The configuration cannot be scored.
    """
    path = folder / SCORES
    known, header = world.gathered(_stored(config, path) if world.is_first else ({}, _header(config)))[0]
    left = [one for one in order(architectures) if one not in known]
    chunks = [left[start : start + CHUNK] for start in range(0, len(left), CHUNK)]
    tasks = chunks[world.rank :: world.size]

    def exchange(own: dict[Architecture, Scores]) -> None:
        """Tells all ranks what this one found, and learns what they did."""
        found = {one: scores for part in world.gathered(own) for one, scores in part.items()}
        known.update(found)
        if world.is_first:
            begun = path.exists() and path.stat().st_size > 0
            rows = [{"architecture": label(one), **asdict(scores)} for one, scores in found.items()]
            append_lines(path, rows if begun else [header, *rows])
        on_chunk(len(found))

    def store(index: int, scores: list[Scores] | Failure) -> None:
        if isinstance(scores, Failure):
            raise ConfigError("scores", scores.message)
        exchange(dict(zip(tasks[index], scores, strict=True)))

    # A file with both scores goes on with both, whichever of them is wanted now.
    scored = replace(config, score=replace(config.score, scores=header["scores"]))
    threads = config.training.threads
    map_tasks(partial(load_scorer, scored, world), tasks, workers=workers, threads=threads, on_result=store)
    for _ in chunks[len(tasks) * world.size :: world.size]:  # the first rank has a chunk more than this one
        exchange({})
    return {architecture: known[architecture] for architecture in architectures}


def read_scores(folder: Path, config: SearchConfig | None = None) -> dict[Architecture, Scores]:
    """The scores that a folder holds.

    Args:
        folder: Of a search.
        config: Of the search that they must be of; not checked unless given.

    Raises:
        FileFormatError: The file is damaged, or of another configuration. A last line that is not finished is
            dropped from it.
    """
    path = folder / SCORES
    rows = read_lines(path)
    if rows:
        header = rows[0]
        if not isinstance(header.get("scores_of"), str) or header.get("scores") not in get_args(Wanted):
            raise FileFormatError(
                f"{path}, line 1", "must say what the scores are of", got=header, remedy=REMEDY
            )
        if config is not None:
            _require_same(config, header, path)
    return by_architecture(Scores, rows[1:], path, first=2)


def _stored(config: SearchConfig, path: Path) -> tuple[dict[Architecture, Scores], dict[str, str]]:
    """What a file holds, and its header; that of a new file, if it is empty."""
    known = read_scores(path.parent, config)
    return known, next(iter(read_lines(path)), _header(config))


def _header(config: SearchConfig) -> dict[str, str]:
    """What scores are of: everything that decides one, as a hash, and which of both they are."""
    training, score = config.training, config.score
    deciding = {
        "seed": config.seed,
        "batch": score.batch,
        "variant": score.variant,
        "network": asdict(training.network),
        "data": asdict(training.data),
    }
    text = json.dumps(deciding, sort_keys=True)
    return {"scores_of": hashlib.sha256(text.encode()).hexdigest(), "scores": score.scores}


def _require_same(config: SearchConfig, header: Mapping[str, str], path: Path) -> None:
    own = _header(config)
    if header["scores_of"] != own["scores_of"] or header["scores"] not in ("both", own["scores"]):
        raise FileFormatError(
            str(path),
            "holds scores of another configuration: other seed, score, network or data",
            remedy="delete it, or choose another folder",
        )


def _wanted(name: str) -> Wanted:
    return "n" if name == "n" else "e" if name == "e" else "both"
