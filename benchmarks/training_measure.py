"""Times and memory of the variants of benchmarks/training.py, to be measured in a process of its own each."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarks.measure import Times, in_turns, peak_bytes_of, resident_bytes
from benchmarks.training_agreement import Agreement, agreement
from benchmarks.training_variants import VARIANTS, Case, Step


def times(case: Case, names: Sequence[str], threads: int, rounds: int) -> dict[str, Times]:
    """Times variants in turns."""
    torch.set_num_threads(threads)
    return in_turns({name: _build(case, name) for name in names}, rounds)


def peak_bytes(case: Case, name: str, threads: int) -> int | None:
    """Memory that a training step takes at most beyond what there was before: activations and gradients.

    The first step does not count, since it may compile. None where the system does not tell.
    """
    torch.set_num_threads(threads)
    step = _build(case, name)
    step()
    before = resident_bytes()
    peak = peak_bytes_of(step)
    return None if before is None or peak is None else peak - before


def agreement_alone(case: Case, library: str) -> Agreement:
    """`agreement`, on one thread."""
    torch.set_num_threads(1)
    return agreement(case, library)


def _build(case: Case, name: str) -> Step:
    (variant,) = (variant for variant in VARIANTS if variant.name == name)
    return variant.make(case)
