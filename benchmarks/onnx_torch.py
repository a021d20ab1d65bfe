"""What benchmarks/onnx.py compares with in PyTorch: a network as one writes it by hand, and ways to run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from benchmarks.onnx_networks import Case
from snndeploy.ir import AvgPool2d, Conv2d, Flatten, Lif, Linear, Network, Upsample
from snndeploy.nn import Triangle
from snndeploy.nn.engine import Neurons, simulate

Infer: TypeAlias = "Callable[[], npt.NDArray[np.float32]]"
Advance: TypeAlias = Callable[..., "tuple[Tensor, ...]"]


class Step(nn.Module):
    """One time step of a folded network: (x, *states) to (what enters the Output, *states).

    States are the membrane potentials of every Lif, in the order of the graph's ports, then the delayed outputs.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.graph = network.graph
        self.delayed = sorted({(e.source, e.delay) for e in network.graph.edges if e.delay})
        if any(delay > 1 for _, delay in self.delayed):
            raise ValueError("only delays of one step")
        for name, array in network.weights.items():
            self.register_parameter(_held_as(name), nn.Parameter(torch.tensor(array), requires_grad=False))

    def zeros(self, batch: int) -> list[Tensor]:
        """The states before the first step."""
        names = [*self.graph.ports, *(name for name, _ in self.delayed)]
        device = next(self.parameters()).device
        return [torch.zeros(batch, *self.graph.shapes[name], device=device) for name in names]

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """The sum that enters the Output, and the states after the step."""
        graph = self.graph
        v = dict(zip(graph.ports, states, strict=False))
        y = dict(zip(self.delayed, states[len(v) :], strict=True))
        y[graph.input, 0] = x
        for name in graph.order[1:]:
            arriving = [y[edge.source, edge.delay] for edge in graph.incoming[name]]
            entering = arriving[0]
            for other in arriving[1:]:
                entering = entering + other
            y[name, 0] = self._spikes(name, entering, v) if name in v else self._layer(name, entering)
        return (y[graph.output, 0], *v.values(), *(y[name, 0] for name, _ in self.delayed))

    def _spikes(self, name: str, x: Tensor, v: dict[str, Tensor]) -> Tensor:
        op = self.graph.ops[name]
        if not isinstance(op, Lif):
            raise TypeError(name)
        u = op.tau * v[name] + x
        spikes = (u > op.threshold).to(u.dtype)
        v[name] = u * (1 - spikes)
        return spikes

    def _layer(self, name: str, x: Tensor) -> Tensor:
        weight: Any = getattr(self, _held_as(f"{name}.weight"), None)
        bias: Any = getattr(self, _held_as(f"{name}.bias"), None)
        match self.graph.ops[name]:
            case Conv2d() as op:
                return F.conv2d(x, weight, bias, op.stride, op.padding, groups=op.groups)
            case Linear():
                return F.linear(x, weight, bias)
            case AvgPool2d() as op:
                return F.avg_pool2d(x, op.kernel, op.stride)
            case Upsample() as op:
                return F.interpolate(x, size=op.size, mode="nearest")
            case Flatten():
                return x.flatten(1)
            case _:  # the Output
                return x


def step_loop(case: Case, *, channels_last: bool = False) -> Infer:
    """Eager PyTorch, step by step."""
    step, x = Step(case.network), torch.tensor(case.images)
    if channels_last:
        for parameter in step.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    return torch.inference_mode()(lambda: looped(step, x, step.zeros(case.batch), case.network).numpy())


def compiled_loop(case: Case) -> Infer:
    """The step compiled, step by step."""
    step, x = Step(case.network).eval(), torch.tensor(case.images)
    advance = compiled(step, x)
    return torch.no_grad()(lambda: looped(advance, x, step.zeros(case.batch), case.network).numpy())


def compiled(step: Step, x: Tensor) -> Advance:
    """The step as one compiled function, without what Python does between its layers.

    The weights are constants of what is compiled. Inductor's option `freezing` made no difference to the time.
    """
    with torch.no_grad():
        traced = make_fx(step)(x, *step.zeros(len(x)))
    made: Advance = torch.compile(traced, dynamic=False, fullgraph=True)
    return made


def looped(advance: Advance, x: Tensor, states: Sequence[Tensor], network: Network) -> Tensor:
    """Logits after all steps."""
    total = torch.zeros(())
    for t in range(network.steps):
        current, *states = advance(x, *states)
        total = current if t == 0 else total + current
    return total / network.steps


def engine(case: Case, *, neurons: Neurons) -> Infer:
    """This project's PyTorch engine: time in the batch outside loops."""
    network = case.network
    tensors = {name: torch.tensor(array) for name, array in network.weights.items()}
    frames = torch.tensor(case.images).expand(network.steps, *case.images.shape)

    def infer() -> npt.NDArray[np.float32]:
        done = simulate(network.graph, tensors, frames, surrogate=Triangle(), neurons=neurons)
        logits: npt.NDArray[np.float32] = (done.logits.sum(0) / network.steps).numpy()
        return logits

    return torch.no_grad()(infer)


def exported_by_torch(case: Case) -> Infer:
    """The step as PyTorch's own exporter writes it, in ONNX Runtime, step by step."""
    step = Step(case.network).eval()
    zeros = step.zeros(case.batch)
    given = ["x", *(f"in_{k}" for k in range(len(zeros)))]
    made = ["logits", *(f"out_{k}" for k in range(len(zeros)))]
    inputs = (torch.tensor(case.images), *zeros)
    program = torch.onnx.export(
        step, inputs, dynamo=True, input_names=given, output_names=made, verbose=False
    )
    if program is None:
        raise TypeError("no program")
    session = open_session(program.model_proto.SerializeToString(), case.threads)
    return session_loop(session, given, made, case, [zero.numpy() for zero in zeros])


def session_loop(
    session: Any, given: Sequence[str], made: Sequence[str], case: Case, zeros: list[npt.NDArray[Any]]
) -> Infer:
    """A session of one step, fed with arrays, step by step.

    Args:
        session: Of ONNX Runtime.
        given: Names of the inputs, x first and then the states.
        made: Names of the outputs, the logits first and then the states.
        case: What is run.
        zeros: The states before the first step.
    """

    def infer() -> npt.NDArray[np.float32]:
        states, total = zeros, np.zeros((), np.float32)
        for _ in range(case.network.steps):
            current, *states = session.run(made, dict(zip(given, [case.images, *states], strict=True)))
            total = total + current
        logits: npt.NDArray[np.float32] = total / np.float32(case.network.steps)
        return logits

    return infer


def open_session(model: bytes, threads: int, profile: str = "") -> Any:
    """A session on CPUs with the options that the runner sets.

    Args:
        model: The file's bytes.
        threads: Within an operator.
        profile: Beginning of the name of a file for what each node takes; empty for none.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _held_as(name: str) -> str:
    return name.replace(".", "_")
