"""Scores of candidates without training: one initialisation and one batch for all of them.

A candidate is run once, with the statistics of the batch, and gives both scores: its spikes the N-score, the
gradient with respect to the input the E-score. Weights want no gradient. What no new connection can reach is
the same in every candidate; it is computed once for candidates that share it, with what a gradient through it
needs.

Many candidates are shared among processes, and among ranks on several machines. Each rank appends what it finds
to a file of its own, `scores.rank<r>.jsonl`, so that a run that was killed goes on where it stood.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.ir import Graph
from snndeploy.nn import initial_weights
from snndeploy.nn.engine import Plan, Simulation, simulate
from snndeploy.nn.surrogate import Surrogate, Triangle, surrogate_of
from snndeploy.train.data import Dataset, load, network_input
from snndeploy.train.distributed import World
from snndeploy.train.machine import device_of
from snndeploy.train.memory import kept_memory
from snndeploy.train.model import build_graph
from snndeploy.train.pool import Failure, map_tasks
from snndeploy.train.search.config import SearchConfig
from snndeploy.train.search.escore import judged
from snndeploy.train.search.nscore import Kernel, Variant
from snndeploy.train.search.space import Architecture, Space, label, parse

Wanted: TypeAlias = Literal["both", "n", "e"]

CHUNK = 16  # candidates that a worker takes at a time
_BATCH = 11  # stream of random numbers
_FEWEST = 10  # samples of a class, for correlations within it


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
    ) -> None:
        self.space, self.labels, self.classes, self.wanted = space, labels, classes, wanted
        self.surrogate, self.variant = surrogate, variant
        arrays = initial_weights(space.supergraph, seed, backward_scale=1.0)
        self._tensors = {name: torch.from_numpy(array).to(x) for name, array in arrays.items()}
        self._steps = len(x)
        self._static = len(x) > 1 and x.stride(0) == 0
        self._leaf = (x[0] if self._static else x).detach().clone().requires_grad_()
        self._plan = Plan.of(space.backbone)
        with torch.no_grad():
            self._kernels = self._kernels_of(self._simulate(space.backbone, self._plan, record_spikes=True))
        self._shared: tuple[frozenset[str], Mapping[str, Tensor]] = frozenset(), {}

    def score(self, architectures: Sequence[Architecture]) -> list[Scores]:
        """Both scores of each candidate, in any order."""
        with kept_memory():
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
            (gradient,) = torch.autograd.grad(done.logits.mean(0).sum(), self._leaf, retain_graph=bool(given))
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


def balanced_batch(data: Dataset, size: int, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """Training samples, not augmented, as many of each class, with classes taking turns.

    Every class has at least 10 where the data set has them. If not all classes fit then, a random selection of
    them stands for all.

    Args:
        data: Where the samples are from.
        size: At most so many samples, but at least 10.
        steps: Time steps of an image; a sequence has its own.
        seed: Of the choice.

    Returns:
        x (time, batch, *shape) and labels (batch,).
    """
    rng = np.random.default_rng([seed, _BATCH])
    classes = np.unique(data.train.labels)
    if len(classes) * _FEWEST > size:
        classes = np.sort(rng.permutation(classes)[: max(1, size // _FEWEST)])
    each = max(_FEWEST, size // len(classes))
    members = [rng.permutation(np.flatnonzero(data.train.labels == label))[:each] for label in classes]
    fewest = min(len(own) for own in members)
    places = np.stack([own[:fewest] for own in members], axis=1).flatten()
    samples = data.present(data.train.take(places), rng, augmented=False)
    x = torch.from_numpy(network_input(samples, data.input))
    labels = torch.from_numpy(samples.labels)
    return (x if data.input.kind == "frames" else x.expand(steps, *x.shape)), labels


@dataclass(frozen=True, eq=False)
class Material:
    """What scorers of a configuration are made of.

    x: (time, batch, *shape), on the device to compute on.
    labels: (batch,).
    """

    config: SearchConfig
    space: Space
    x: Tensor
    labels: Tensor
    classes: int

    @classmethod
    def load(cls, config: SearchConfig) -> Material:
        """Reads the data, and builds the space.

        Raises:
            SnnDeployError: The data, the backbone or the space cannot be had.
        """
        training = config.training
        device = device_of(training.device)
        data = load(training.data)
        classes, steps = len(data.classes), training.network.steps
        space = Space.of(build_graph(training.network, data.shape, classes), config.space, steps)
        x, labels = balanced_batch(data, config.score.batch, steps, config.seed)
        return cls(config, space, x.to(device), labels, classes)

    def scorer(self, *, seed: int, places: Tensor | None = None) -> Scorer:
        """One of them.

        Args:
            seed: Of the initial weights.
            places: Which samples of the batch it sees; None for all.
        """
        network = self.config.training.network
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
            surrogate=surrogate_of(
                network.surrogate,
                width=network.surrogate_width,
                alpha=network.surrogate_alpha,
                tau=network.surrogate_tau,
            ),
            variant="code" if self.config.score.variant == "code" else "normalised",
            classes=self.classes,
            wanted=_wanted(self.config.score.scores),
        )


def load_scorer(config: SearchConfig) -> Callable[[Sequence[Architecture]], list[Scores]]:
    """What scores a chunk of candidates, for `snndeploy.train.pool.map_tasks`."""
    return Material.load(config).scorer(seed=config.seed).score


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

    Of several ranks each scores its share of the chunks, and leaves to the others what is theirs.

    Args:
        config: Of the search; the scores in the folder must be of the same.
        architectures: The candidates.
        folder: Where the scores are kept.
        workers: Processes on this machine.
        world: Which rank this is.
        on_chunk: Called with the number of candidates that were just scored and stored.

    Returns:
        All scores there are, in the order of the candidates: with one rank, of every one of them.

    Raises:
        FileFormatError: A file of scores is damaged or cannot be written.
        SnnDeployError: The configuration cannot be scored.
    """
    known = read_scores(folder)
    ordered = order(architectures)
    chunks = [ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK)]
    own = [[a for a in chunk if a not in known] for chunk in chunks[world.rank :: world.size]]
    tasks = [chunk for chunk in own if chunk]
    path = folder / f"scores.rank{world.rank}.jsonl"
    _drop_unfinished_line(path)

    def store(index: int, scores: list[Scores] | Failure) -> None:
        if isinstance(scores, Failure):
            raise ConfigError("scores", scores.message)
        lines = [_line(a, found) for a, found in zip(tasks[index], scores, strict=True)]
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(lines))
        on_chunk(len(lines))

    threads = config.training.threads
    map_tasks(partial(load_scorer, config), tasks, workers=workers, threads=threads, on_result=store)
    found = read_scores(folder)
    return {architecture: found[architecture] for architecture in architectures if architecture in found}


def read_scores(folder: Path) -> dict[Architecture, Scores]:
    """The scores that all ranks have stored in a folder.

    Raises:
        FileFormatError: A file is damaged. A last line that is not finished is passed over.
    """
    found: dict[Architecture, Scores] = {}
    for path in sorted(folder.glob("scores.rank*.jsonl")):
        text = path.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(keepends=True), 1):
            if not line.endswith("\n"):
                break
            try:
                fields = json.loads(line)
                architecture = parse(fields.pop("architecture"))
                found[architecture] = Scores(**fields)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise FileFormatError(
                    f"{path}, line {number}", "must be the scores of an architecture", got=error
                ) from None
    return found


def _line(architecture: Architecture, scores: Scores) -> str:
    return json.dumps({"architecture": label(architecture), **asdict(scores)}) + "\n"


def _drop_unfinished_line(path: Path) -> None:
    """What a process that was killed may have left at the end of a file."""
    if path.exists():
        content = path.read_bytes()
        if whole := len(content) - content.rfind(b"\n") - 1:
            with path.open("r+b") as file:
                file.truncate(len(content) - whole)


def _wanted(name: str) -> Wanted:
    return "n" if name == "n" else "e" if name == "e" else "both"
