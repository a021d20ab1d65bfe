"""What benchmarks/onnx.py measures of its contenders, to be called in a process of its own each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from benchmarks.measure import Call, Times, in_turns, peak_bytes_of, resident_bytes
from benchmarks.onnx_contenders import CONTENDERS, Contender
from benchmarks.onnx_networks import Case
from benchmarks.onnx_profile import Share, profile
from snndeploy.export.onnx import Arithmetic
from snndeploy.ir import run

SLEEP = 0.02  # seconds, in which idle threads stop spinning
_COMPARED = 2  # samples


def times(case: Case, names: Sequence[str], rounds: int) -> tuple[dict[str, Times], dict[str, float]]:
    """Times contenders in turns, all of which must give the same logits; and the differences, all of them 0.

    Raises:
        SystemExit: One gives others than the reference interpreter: nothing to compare.
    """
    _prepare(case)
    calls = {name: _contender(name).make(case) for name in names}
    taken = in_turns(calls, rounds, pause=SLEEP if case.threads > 1 else 0.0)
    found = differences(case, calls)
    for name, difference in found.items():
        if difference != 0:  # as NaN is
            raise SystemExit(f"{name}: logits differ from the reference by up to {difference:.1e}")
    return taken, found


def differences(case: Case, calls: Mapping[str, Call]) -> dict[str, float]:
    """By how much logits differ at most from those of the reference interpreter, of all calls that give any."""
    expected = run(case.network, case.images[:_COMPARED]).logits
    found: dict[str, float] = {}
    for name, call in calls.items():
        logits = call()
        if isinstance(logits, np.ndarray):
            found[name] = float(np.abs(logits[:_COMPARED] - expected).max())
    return found


def peak_bytes(case: Case, name: str) -> int | None:
    """The largest memory during an inference beyond what there was without the contender, its weights included.

    The first two do not count, since they may compile. None where the system does not tell.
    """
    _prepare(case)
    make = _contender(name).make
    before = resident_bytes()
    call = make(case)
    call()
    call()
    peak = peak_bytes_of(call)
    return None if before is None or peak is None else peak - before


def profile_alone(case: Case, arithmetic: Arithmetic, rounds: int) -> dict[str, Share]:
    """`profile`, under the same conditions as the times."""
    _prepare(case)
    return profile(case, arithmetic, rounds)


def _prepare(case: Case) -> None:
    torch.set_num_threads(case.threads)
    torch.set_grad_enabled(False)
    case.load()


def _contender(name: str) -> Contender:
    (found,) = (contender for contender in CONTENDERS if contender.name == name)
    return found
