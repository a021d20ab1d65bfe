"""Inputs and outputs of a session, checked against what the file says about itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snndeploy.errors import FileFormatError
from snndeploy.targets.onnx_runtime.description import Description, Element, Shape

_FLOAT, _WHOLE = "tensor(float)", "tensor(int64)"
KIND_OF_STATE: Mapping[Element, str] = {"float32": _FLOAT, "int32": "tensor(int32)"}
_MOST_VALUES = 2**31  # of one sample at one step


@dataclass(frozen=True)
class Interface:
    """Inputs and outputs of a session.

    batch: The number of samples it is fixed to, or None.
    shape: Of one sample at one step.
    outputs: Element type and shape of each output; sizes are None where they are not fixed.
    """

    batch: int | None
    shape: Shape
    outputs: Mapping[str, tuple[str, tuple[int | None, ...]]]


def interface(session: Any, description: Description, where: str) -> Interface:
    """The interface of a session.

    Raises:
        FileFormatError: It is not what the description says.
    """
    try:
        given = [*session.get_inputs(), *session.get_overridable_initializers()]
        inputs = {value.name: (value.type, _sizes(value)) for value in given}
        results = {value.name: (value.type, _sizes(value)) for value in session.get_outputs()}
    except UnicodeDecodeError:
        raise FileFormatError(where, "has text that is not UTF-8") from None
    frames = description.form != "step" and description.input.kind == "frames"
    amiss = _amiss(description, inputs, results, frames)
    if amiss:
        raise FileFormatError(where, "inputs and outputs must be those of its metadata", got=repr(amiss))
    _, x = inputs["x"]
    shape = tuple(size for size in x[1 + frames :] if size is not None)
    return Interface(x[frames], shape, results)


def _sizes(value: Any) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) and size >= 0 else None for size in value.shape)


def _amiss(
    description: Description,
    inputs: Mapping[str, tuple[str, tuple[int | None, ...]]],
    outputs: Mapping[str, tuple[str, tuple[int | None, ...]]],
    frames: bool,
) -> str:
    """Name of an input or output that is missing, too many, or of other shape or type; empty if none."""
    form = description.form
    counted = form == "scan" and description.input.kind == "image"
    needed = {"x", *(state.input for state in description.states), *(["steps"] if counted else [])}
    made = {"logits", *(state.output for state in description.states)}
    made |= set() if form == "step" else {"readout_sum"}
    made |= {"logits_by_step"} if form == "scan" else set()
    for name in sorted((needed ^ set(inputs)) | (made - set(outputs))):
        return name
    kind, x = inputs["x"]
    sample = x[1 + frames :]
    whole = all(size for size in sample) and math.prod(size or 1 for size in sample) <= _MOST_VALUES
    timed = not frames or x[0] == (description.steps if form == "sequence" else None)
    if kind != _FLOAT or not sample or len(sample) > 3 or not whole or not timed or x[frames] == 0:
        return "x"
    if counted and inputs["steps"] != (_WHOLE, ()):
        return "steps"
    for state in description.states:
        for name, (found, sizes) in (
            (state.input, inputs[state.input]),
            (state.output, outputs[state.output]),
        ):
            batch = {x[frames], None, 1} if form == "scan" else {x[frames]}
            if found != KIND_OF_STATE[state.dtype] or sizes[1:] != state.shape or sizes[0] not in batch:
                return name
    read = made - {state.output for state in description.states}
    return next((n for n in sorted(read) if outputs[n][0] != _FLOAT), "")
