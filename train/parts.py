"""Training a graph part by part: every step computes one part of it and changes nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from snndeploy.ir import Graph
from snndeploy.nn.engine import Plan


class Parts(Protocol):
    """A graph of which every training step computes one part.

    What is measured, after an epoch and at the end, is the graph that the trainer was given, itself a part.
    """

    @property
    def whole(self) -> Graph:
        """The graph that has all the parameters."""

    def part(self, step: int) -> tuple[Graph, Plan]:
        """What a step computes, the same on all ranks; steps are counted from 0 over all epochs."""

    def document(self) -> Mapping[str, Any]:
        """What decides the parts, as JSON values: a run that is resumed must have the same."""
