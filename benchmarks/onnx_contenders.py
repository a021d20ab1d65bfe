"""What benchmarks/onnx.py times: ways to run one network on one batch of images, for all steps.

Each gives the logits as an array in host memory, so that all have finished by the same rule, and begins with neurons
at rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime

from benchmarks.onnx_floor import products
from benchmarks.onnx_networks import Case
from benchmarks.onnx_torch import (
    Infer,
    compiled_loop,
    engine,
    exported_by_torch,
    session_loop,
    step_loop,
)
from snndeploy.export.onnx import Arithmetic, Form, lower
from snndeploy.targets.onnx_runtime import OnnxNetwork

Make: TypeAlias = "Callable[[Case], Callable[[], object]]"


@dataclass(frozen=True)
class Contender:
    """Something to time.

    make: Gives what is called in each round, whose result is the logits or None.
    needs: Modules, without which it is left out.
    """

    name: str
    make: Make
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Those of the modules it needs that are not installed."""
        return tuple(name for name in self.needs if find_spec(name) is None)


def loaded(case: Case, form: Form, arithmetic: Arithmetic = "float32") -> OnnxNetwork:
    """The case's network as an exported file in the runner."""
    data = lower(case.network, form, arithmetic=arithmetic).SerializeToString()
    return OnnxNetwork(data, threads=case.threads)


def whole(case: Case, *, form: Form, arithmetic: Arithmetic = "float32") -> Infer:
    """All steps in one call."""
    network = loaded(case, form, arithmetic)
    return lambda: network.run(case.images).logits


def numpy_steps(case: Case) -> Infer:
    """The step form in a bare session, fed with arrays, as docs/onnx.md shows it."""
    network = loaded(case, "step")
    states = network.description.states
    zeros = [np.zeros((case.batch, *state.shape), np.float32) for state in states]
    given = ["x", *(state.input for state in states)]
    made = ["logits", *(state.output for state in states)]
    return session_loop(network.session, given, made, case, zeros)


def stream(case: Case) -> Infer:
    """The step form as a stream of the runner, whose states stay in buffers."""
    held = loaded(case, "step").stream(case.batch)

    def infer() -> npt.NDArray[np.float32]:
        held.reset()
        total = held.step(case.images)
        for _ in range(case.network.steps - 1):
            total = total + held.step(case.images)
        return total / np.float32(case.network.steps)

    return infer


def bare_bindings(case: Case) -> Infer:
    """What the stream does in calls of ONNX Runtime alone."""
    network = loaded(case, "step")
    states = network.description.states
    x, logits = _value(case.images), _value(loaded(case, "step").stream(case.batch).step(case.images))
    zeros = {s.input: np.zeros((case.batch, *s.shape), np.float32) for s in states}
    held = {s.input: [_value(zeros[s.input].copy()) for _ in range(1 if s.in_place else 2)] for s in states}
    bindings = []
    for turn in range(max(map(len, held.values()))):
        binding: Any = network.session.io_binding()
        binding.bind_ortvalue_input("x", x)
        binding.bind_ortvalue_output("logits", logits)
        for state in states:
            buffers = held[state.input]
            binding.bind_ortvalue_input(state.input, buffers[turn % len(buffers)])
            binding.bind_ortvalue_output(state.output, buffers[(turn + 1) % len(buffers)])
        bindings.append(binding)

    def infer() -> npt.NDArray[np.float32]:
        for name, buffers in held.items():
            buffers[0].update_inplace(zeros[name])
        total = np.zeros((), np.float32)
        for t in range(case.network.steps):
            network.session.run_with_iobinding(bindings[t % len(bindings)])
            total = total + logits.numpy()
        return total / np.float32(case.network.steps)

    return infer


def single_step_peer(case: Case) -> Infer:
    """SpikingJelly, step by step."""
    from benchmarks.onnx_peers import single_step  # noqa: PLC0415  (it may not be installed)

    return single_step(case)


def _value(array: npt.NDArray[Any]) -> Any:
    return onnxruntime.OrtValue.ortvalue_from_numpy(array, "cpu", 0)


EAGER = "PyTorch eager, step loop"
STREAM, BARE = "ours, step: stream", "ours, step: bare bindings"
SEQUENCE, SCAN, INTEGER = "ours, sequence", "ours, scan", "ours, sequence, integer"
FLOOR = "floor: products in float32"
INTEGER_FLOORS = ("floor: products by ConvInteger", "floor: products by MatMulInteger")
CONTENDERS = (
    Contender(EAGER, step_loop),
    Contender("PyTorch eager, step loop, channels last", partial(step_loop, channels_last=True)),
    Contender("PyTorch eager, time in the batch", partial(engine, neurons="plain")),
    Contender("PyTorch compiled, step loop", compiled_loop),
    Contender("ours in PyTorch", partial(engine, neurons="compiled")),
    Contender("SpikingJelly single-step", single_step_peer, needs=("spikingjelly", "snntorch")),
    Contender("torch.onnx.export, step loop", exported_by_torch, needs=("onnxscript",)),
    Contender("ours, step: NumPy loop", numpy_steps),
    Contender(BARE, bare_bindings),
    Contender(STREAM, stream),
    Contender(SEQUENCE, partial(whole, form="sequence")),
    Contender(SCAN, partial(whole, form="scan")),
    Contender(INTEGER, partial(whole, form="sequence", arithmetic="integer")),
    Contender("ours, scan, integer", partial(whole, form="scan", arithmetic="integer")),
    Contender(FLOOR, partial(products, kind="float32")),
    Contender(INTEGER_FLOORS[0], partial(products, kind="convolutions")),
    Contender(INTEGER_FLOORS[1], partial(products, kind="matrices")),
)
