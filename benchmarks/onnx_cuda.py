"""What benchmarks/onnx.py times on a GPU: our forms in float32 and float16, with CUDA graphs and without, and PyTorch.

Written from the documentation of ONNX Runtime and PyTorch and NOT RUN so far, for want of a GPU. Input and logits lie
in host memory, as on CPUs, so that copies and the wait for the device count for all. TF32 is off in all, and our files
are exported for the batch that they run. Where the sums of float16 or the algorithm of a convolution change a logit,
the table says by how much: only CPUs are held to equality here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.measure import Times, in_turns
from benchmarks.onnx_contenders import EAGER, SCAN, SEQUENCE, STREAM, Contender
from benchmarks.onnx_measure import differences
from benchmarks.onnx_networks import Case
from benchmarks.onnx_torch import Infer, Step, compiled, looped
from snndeploy.export.onnx import Arithmetic, Form, lower
from snndeploy.targets.onnx_runtime import CUDA, OnnxNetwork

_WARM_UP = 3  # runs before a capture


def times(case: Case, names: Sequence[str], rounds: int) -> tuple[dict[str, Times], dict[str, float]]:
    """Times contenders in turns, and by how much their logits differ from the reference interpreter's."""
    torch.set_grad_enabled(False)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    calls = {contender.name: contender.make(case) for contender in CONTENDERS if contender.name in names}
    return in_turns(calls, rounds, warm_up=_WARM_UP), differences(case, calls)


def device_name() -> str:
    """The GPU's.

    Raises:
        SystemExit: PyTorch finds none.
    """
    if not torch.cuda.is_available():
        raise SystemExit("PyTorch finds no GPU")
    return torch.cuda.get_device_name(0)


def whole(case: Case, *, form: Form, arithmetic: Arithmetic = "float32", captured: bool = False) -> Infer:
    """All steps in one call."""
    network = _loaded(case, form, arithmetic, captured)
    return lambda: network.run(case.images).logits


def stream(case: Case, *, arithmetic: Arithmetic = "float32", captured: bool = False) -> Infer:
    """Step by step, the states on the device."""
    held = _loaded(case, "step", arithmetic, captured).stream(case.batch)

    def infer() -> npt.NDArray[np.float32]:
        held.reset()
        total = held.step(case.images)
        for _ in range(case.network.steps - 1):
            total = total + held.step(case.images)
        return total / np.float32(case.network.steps)

    return infer


def _loaded(case: Case, form: Form, arithmetic: Arithmetic, captured: bool) -> OnnxNetwork:
    model = lower(case.network, form, arithmetic=arithmetic, batch=case.batch)
    return OnnxNetwork(model.SerializeToString(), (CUDA,), cuda_graph=captured)


def torch_loop(case: Case, *, whole_step: bool = False, half: bool = False) -> Infer:
    """PyTorch step by step, eager or with the whole step compiled; half with products in float16."""
    step, x = Step(case.network).cuda().eval(), torch.tensor(case.images)
    advance = compiled(step, x.cuda()) if whole_step else step

    def infer() -> npt.NDArray[np.float32]:
        with torch.autocast("cuda", dtype=torch.float16, enabled=half):
            total = looped(advance, x.cuda(), step.zeros(case.batch), case.network)
        logits: npt.NDArray[np.float32] = total.float().cpu().numpy()
        return logits

    return torch.no_grad()(infer)


def torch_captured(case: Case) -> Infer:
    """PyTorch's own CUDA graph of all steps.

    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """
    step, x = Step(case.network).cuda().eval(), torch.tensor(case.images)
    held = x.cuda()
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side), torch.no_grad():
        for _ in range(_WARM_UP):
            looped(step, held, step.zeros(case.batch), case.network)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        total = looped(step, held, step.zeros(case.batch), case.network)

    def infer() -> npt.NDArray[np.float32]:
        held.copy_(x)
        graph.replay()
        logits: npt.NDArray[np.float32] = total.cpu().numpy()
        return logits

    return torch.no_grad()(infer)


def _ours() -> list[Contender]:
    """Every form in every arithmetic, captured where that can be."""
    found = []
    arithmetics: tuple[Arithmetic, ...] = ("float32", "float16")
    for arithmetic in arithmetics:
        suffix = "" if arithmetic == "float32" else f", {arithmetic}"
        found.append(Contender(f"{SCAN}{suffix}", partial(whole, form="scan", arithmetic=arithmetic)))
        for captured in (False, True):
            last = f"{suffix}{', CUDA graph' * captured}"
            sequence = partial(whole, form="sequence", arithmetic=arithmetic, captured=captured)
            found.append(Contender(f"{SEQUENCE}{last}", sequence))
            steps = partial(stream, arithmetic=arithmetic, captured=captured)
            found.append(Contender(f"{STREAM}{last}", steps))
    return found


CONTENDERS = (
    Contender(EAGER, torch_loop),
    Contender(f"{EAGER}, float16", partial(torch_loop, half=True)),
    Contender("PyTorch compiled, step loop", partial(torch_loop, whole_step=True)),
    Contender("PyTorch, CUDA graph of all steps", torch_captured),
    *_ours(),
)
