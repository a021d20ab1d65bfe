"""Runs an ONNX file on samples: as it likes best, and in other ways that must give the same."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from snndeploy.errors import TargetError
from snndeploy.ir import Trace

if TYPE_CHECKING:
    from snndeploy.targets.onnx_runtime import OnnxNetwork, Result

REPEATED = 3
"""Samples that are run again: enough for two sizes of batches."""
_MOST_BYTES = 2**31


def in_batches(opened: OnnxNetwork, x: npt.NDArray[Any]) -> Trace:
    """What a file does on all samples; where it fixes their number, the last batch is filled up with others.

    Args:
        opened: The file, with the spikes of every Lif as outputs.
        x: Prepared input, (batch, *shape) for images, (time, batch, *shape) for frames.
    """
    axis, batch = _axis(opened), opened.batch
    count = x.shape[axis]
    if batch is None or batch == count:
        return _trace(opened.run(x))
    if batch * (x.nbytes // count) > _MOST_BYTES:
        raise TargetError(
            "fixed batch",
            f"must need at most {_MOST_BYTES} bytes of input",
            got=f"{batch} samples",
            remedy="verify a file exported for fewer samples, or for any number",
        )
    places = np.arange(-(-count // batch) * batch) % count
    parts = places.reshape(-1, batch)
    return Trace.joined([_trace(opened.run(np.take(x, part, axis))) for part in parts]).first(count)


def repeats(opened: OnnxNetwork, x: npt.NDArray[Any]) -> dict[str, Trace]:
    """The first samples in batches of other sizes and, in the scan form, in chunks of time, by what is done."""
    axis, batch = _axis(opened), opened.batch
    few = np.take(x, range(min(REPEATED, x.shape[axis])), axis)
    count = few.shape[axis]
    found: dict[str, Trace] = {}
    if batch is None and count > 1:
        parts = (np.take(few, part, axis) for part in (range(1), range(1, count)))
        found[f"batches of 1 and {count - 1}"] = Trace.joined([_trace(opened.run(part)) for part in parts])
    if opened.description.form == "scan" and opened.description.steps > 1:
        filled = few if batch is None else np.take(few, np.arange(batch) % count, axis)
        rest = opened.description.steps - 1
        found[f"chunks of 1 and {rest} steps"] = _in_chunks(opened, filled).first(count)
    return found


def same_bits(trace: Trace, again: Trace) -> bool:
    """Whether a trace gives its first samples the spikes and the readout that another trace gives them."""
    first = trace.first(len(again.logits))
    return (
        all(np.array_equal(spikes, again.spikes[name]) for name, spikes in first.spikes.items())
        and np.array_equal(first.readout_sum, again.readout_sum)
        and np.array_equal(first.logits, again.logits)
    )


def _axis(opened: OnnxNetwork) -> int:
    """The axis of the samples in prepared input."""
    return 1 if opened.description.input.kind == "frames" else 0


def _in_chunks(opened: OnnxNetwork, x: npt.NDArray[Any]) -> Trace:
    """One step, then the others from the states it left."""
    steps, readout = opened.description.steps, opened.description.readout
    frames = opened.description.input.kind == "frames"
    first = opened.run(x[:1] if frames else x, steps=1)
    then = opened.run(x[1:] if frames else x, steps=steps - 1, states=first.states)
    if first.logits_by_step is None or then.logits_by_step is None:
        raise AssertionError(opened.description.form)
    by_step = [*first.logits_by_step, *then.logits_by_step]
    readout_sum = reduce(np.add, by_step[-readout:])
    return Trace(
        spikes={name: np.concatenate([s, then.spikes[name]]) for name, s in first.spikes.items()},
        readout_sum=readout_sum,
        logits=readout_sum / np.float32(readout),
        potentials={name: np.concatenate([u, then.potentials[name]]) for name, u in first.potentials.items()},
    )


def _trace(result: Result) -> Trace:
    return Trace(
        spikes=result.spikes,
        readout_sum=result.readout_sum,
        logits=result.logits,
        potentials=result.potentials,
    )
