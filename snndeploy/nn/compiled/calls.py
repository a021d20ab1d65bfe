"""The functions of `neurons.c` on tensors, with the rows shared among PyTorch's number of threads."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

import torch
from torch import Tensor

from snndeploy.ir import Lif
from snndeploy.nn.compiled.library import build

_LEAST_VALUES = 2**16  # that are worth a thread


class Size(NamedTuple):
    """Of arrays whose channels lie innermost in memory; a row is one place of one sample."""

    steps: int
    rows: int
    channels: int

    @classmethod
    def of(cls, x: Tensor, steps: int, *, normed: bool) -> Size:
        """That of a tensor (time, batch, *shape); where no channel is normalised, they are rows, too."""
        channels = x.shape[2] if normed else 1
        return cls(steps, math.prod(x.shape[1:]) // channels, channels)


class Term(NamedTuple):
    """One addend of the current.

    x: (time, batch, *shape) with its channels innermost in memory; of length 1 if the same at every step.
    scale, shift: (time, channels); the addend is x * scale + shift. None for x itself.
    mean: (time, channels), for sums in the backward pass.
    """

    x: Tensor
    scale: Tensor | None = None
    shift: Tensor | None = None
    mean: Tensor | None = None


def available(x: Tensor) -> bool:
    """Whether there are compiled neurons for a tensor (time, batch, *shape).

    They want single precision, a CPU, and that a C compiler was found.
    """
    fits = x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0
    return fits and build().library is not None


def channels_innermost(x: Tensor) -> Tensor:
    """The tensor (time, batch, *shape), laid out in memory as (time, batch, height, width, channels)."""
    if x.ndim == 3:
        return x.contiguous()
    inner = x.movedim(2, -1)
    return x if inner.is_contiguous() else inner.contiguous().movedim(-1, 2)


def lif_forward(
    terms: Sequence[Term], size: Size, op: Lif, rest: Tensor | None, *, count: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Runs neurons.

    Args:
        terms: Their sum is the current.
        size: Of the spikes.
        op: Leak and threshold.
        rest: (batch, *shape), v before the first step; None for zeros.
        count: Whether spikes are counted.

    Returns:
        Spikes (time, batch, *shape), v after the last step (batch, *shape), potentials as the spikes, and how
        often each neuron fired (*shape), exact up to 2**24, or None.
    """
    shape = (size.steps, *terms[0].x.shape[1:])
    spikes, potentials, after = _empty(shape), _empty(shape), _empty((1, *shape[1:]))
    before = None if rest is None else channels_innermost(rest[None])
    structures = (_Term * len(terms))(*map(_structure, terms))
    pointers = [_at(before), _at(potentials), _at(spikes), _at(after)]
    parts, neurons = _parts(size), math.prod(shape[2:])
    counts = _empty((len(parts), 1, *shape[2:])).zero_() if count else None

    def run(part: int, first: int, last: int) -> None:
        own = None if counts is None else counts[part]
        _library().lif_forward(
            structures, len(terms), *size, first, last, op.tau, op.threshold, *pointers, neurons, _at(own)
        )

    _share(run, parts)
    return spikes, after[0], potentials, None if counts is None else counts.sum((0, 1))


def lif_backward(
    terms: Sequence[Term],
    size: Size,
    op: Lif,
    potentials: Tensor,
    slope: Tensor | float,
    from_spikes: Tensor | None,
    from_after: Tensor | None,
    prices: Tensor | None = None,
    fired: float = 1.0,
    silent: float = 1.0,
) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """Gradients with respect to the current of each step and to v before the first.

    Args:
        terms: Those with a mean, whose sums are wanted.
        size: Of the potentials.
        op: Leak and threshold.
        potentials: (time, batch, *shape), with channels innermost.
        slope: ds/du at each potential, or the width of a triangle.
        from_spikes: Gradient with respect to the spikes; None for zeros.
        from_after: Gradient with respect to v after the last step; None for zeros.
        prices: (*shape), of each neuron; added to the gradient with respect to each of its spikes.
        fired: Times the price, where the spike is 1.
        silent: Times the price, where it is 0.

    Returns:
        The two gradients, and for each term the sums over rows of the gradient g and of g * (x - mean), each
        (time, channels), float64.
    """
    gradient, to_before = _empty(potentials.shape), _empty((1, *potentials.shape[1:]))
    slopes = channels_innermost(slope) if isinstance(slope, Tensor) else None
    width = 1.0 if isinstance(slope, Tensor) else slope
    spikes = None if from_spikes is None else channels_innermost(from_spikes)
    after = None if from_after is None else channels_innermost(from_after[None])
    spread = None if prices is None else channels_innermost(prices[None, None])
    pointers = [_at(potentials), _at(slopes), _at(spikes), _at(after), _at(gradient), _at(to_before)]
    parts, neurons = _parts(size), math.prod(potentials.shape[2:])
    sums = torch.zeros(len(parts), len(terms), 2, size.steps, size.channels, dtype=torch.float64)
    structures = [(_Term * len(terms))(*map(_structure, terms, own)) for own in sums]

    def run(part: int, first: int, last: int) -> None:
        _library().lif_backward(
            structures[part],
            len(terms),
            *size,
            first,
            last,
            op.tau,
            op.threshold,
            width,
            *pointers,
            neurons,
            _at(spread),
            fired,
            silent,
        )

    _share(run, parts)
    return gradient, to_before[0], [(pair[0], pair[1]) for pair in sums.sum(0)]


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every step and channel, each (time, channels), float64.

    Args:
        x: (time, batch, *shape), with its channels innermost in memory.
    """
    size = Size.of(x, len(x), normed=True)
    parts = _parts(size)
    found = torch.zeros(2, len(parts), size.steps, size.channels, dtype=torch.float64)

    def run(part: int, first: int, last: int) -> None:
        _library().moments(_at(x), *size, first, last, _at(found[0, part]), _at(found[1, part]))

    _share(run, parts)
    means, squares = found
    shares = torch.tensor([last - first for first, last in parts]).view(-1, 1, 1) / max(size.rows, 1)
    mean = (means * shares).sum(0)
    return mean, squares.sum(0) / max(size.rows, 1) + ((means - mean).square() * shares).sum(0)


def combine(gradient: Tensor, x: Tensor, mean: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The sum gradient * a + (x - mean) * b + c.

    Args:
        gradient: (time, batch, *shape).
        x: The same, with its channels innermost in memory.
        mean: (time, channels).
        a: (time, channels).
        b: (time, channels).
        c: (time, channels).
    """
    size = Size.of(x, len(x), normed=True)
    result = _empty(x.shape)
    gradient = channels_innermost(gradient)
    pointers = [_at(gradient), _at(x), _at(mean), _at(a), _at(b), _at(c)]

    def run(_: int, first: int, last: int) -> None:
        _library().combine(*pointers, *size, first, last, _at(result))

    _share(run, _parts(size))
    return result


class _Term(ctypes.Structure):
    """`term` of neurons.c."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("x_step", ctypes.c_int64),
        ("scale", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
        ("affine_step", ctypes.c_int64),
        ("mean", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
        ("products", ctypes.c_void_p),
    )


def _structure(term: Term, sums: Tensor | None = None) -> _Term:
    varies = len(term.x) > 1
    return _Term(
        x=_at(term.x),
        x_step=term.x[0].numel() if varies else 0,
        scale=_at(term.scale),
        shift=_at(term.shift),
        affine_step=term.x.shape[2] if varies else 0,
        mean=_at(term.mean),
        sums=None if sums is None else _at(sums[0]),
        products=None if sums is None else _at(sums[1]),
    )


def _at(tensor: Tensor | None) -> int | None:
    """The address of a tensor, which must outlive its use."""
    return None if tensor is None else tensor.data_ptr()


def _empty(shape: Sequence[int]) -> Tensor:
    """A tensor (time, batch, *shape) with its channels innermost in memory."""
    time, batch, channels, *places = shape
    return torch.empty(time, batch, *places, channels).movedim(-1, 2)


def _parts(size: Size) -> list[tuple[int, int]]:
    """First row and row after the last of every thread."""
    worth = size.steps * size.rows * size.channels // _LEAST_VALUES
    count = max(1, min(torch.get_num_threads(), worth, size.rows))
    edges = [size.rows * index // count for index in range(count + 1)]
    return list(itertools.pairwise(edges))


def _share(run: Callable[[int, int, int], None], parts: Sequence[tuple[int, int]]) -> None:
    """Calls a function with the number, first row and last row of each part; ctypes lets go of the lock."""
    if len(parts) == 1:
        run(0, *parts[0])
        return
    threads = _threads(len(parts))
    running: list[Future[None]] = []
    try:
        running.extend(threads.submit(run, number, *part) for number, part in enumerate(parts))
        for one in running:
            one.result()
    finally:  # interrupted, too: the tensors must not be freed while a thread writes to them
        wait(running)


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="neurons")


def _library() -> ctypes.CDLL:
    library = build().library
    assert library is not None, "ask `available` first"  # noqa: S101
    return library
